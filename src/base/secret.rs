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

/// A word of a command line that was not understood, as it may be shown: it may hold a key or a
/// password that was typed in the wrong place (`-sKEY`, `--shared=KEY`, a key without `-s`).
pub fn shown_word(word: &str) -> String {
    let (kept, rest) = match word.split_once('=') {
        Some((option, value)) if option.starts_with("--") => (option.len() + 1, value.len()),
        _ if word.starts_with("--") => (word.len(), 0),
        _ if word.starts_with('-') => (2.min(word.len()), word.len().saturating_sub(2)),
        _ if is_name(word) => (word.len(), 0),
        _ => (4.min(word.len()), word.len().saturating_sub(4)),
    };
    // What is short is no key, and shown whole.
    let whole = rest <= 12;
    let plain = word.chars().map(|c| if c.is_control() { '?' } else { c });
    let mut shown: String = plain.take(if whole { 64 } else { kept.min(64) }).collect();
    if !whole || word.chars().count() > 64 {
        shown.push_str("...");
    }
    shown
}

/// An id, a host, a file's name: short runs of letters and digits between points and dashes. No key
/// looks like that.
fn is_name(word: &str) -> bool {
    let run = |part: &str| part.len() <= 12 && part.bytes().all(|b| b.is_ascii_alphanumeric());
    word.len() <= 64 && word.contains(['-', '.', '_']) && word.split(['-', '.', '_']).all(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_shown_without_the_secret_in_it() {
        let key = "Mzz0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTA=";
        for (word, shown) in [
            ("--bogus", "--bogus"),
            ("--install=yes", "--install=yes"),
            ("stray", "stray"),
            (
                "11111111-2222-3333-4444-555555555555",
                "11111111-2222-3333-4444-555555555555",
            ),
            ("not-a-workspace-id", "not-a-workspace-id"),
            ("/etc/opt/microsoft/x", "/etc..."),
            ("-Z", "-Z"),
            ("b\u{1b}[2J", "b?[2J"),
        ] {
            assert_eq!(shown_word(word), shown);
        }
        for glued in ["-s", "--shared=", "--proxy=http://user:", ""] {
            let shown = shown_word(&format!("{glued}{key}"));
            assert!(!shown.contains(&key[4..]), "{shown}");
        }
        assert!(shown_word(&format!("--{}", "x".repeat(9999))).len() < 80);
        assert!(!shown_word("ä".repeat(40).as_str()).is_empty());
    }

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
