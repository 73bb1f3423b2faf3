//! A value that must not be seen: no `Debug`, no `Display`, no `Serialize`, wiped on drop.

use zeroize::Zeroizing;

/// A secret text (workspace shared key, proxy password). It can only be looked at through
/// [`Secret::expose`], so every place that does can be found by searching for that word.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over; the caller's own copy is the caller's to wipe.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(Zeroizing::new(text.into()))
    }

    /// The text itself. Never pass it to a child's argv, a log, a plan or a receipt.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The form that may be shown: the first four characters, then an asterisk for each
    /// further one (protocol.md 1.1).
    pub fn masked(&self) -> String {
        self.0
            .chars()
            .enumerate()
            .map(|(i, c)| if i < 4 { c } else { '*' })
            .collect()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_it() {
        assert_eq!(format!("{:?}", Secret::new("hunter2hunter2")), "Secret(..)");
    }

    #[test]
    fn masked_keeps_four_characters() {
        assert_eq!(Secret::new("abcdefg").masked(), "abcd***");
        assert_eq!(Secret::new("ab").masked(), "ab");
    }
}
