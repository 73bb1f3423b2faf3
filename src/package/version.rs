//! Version numbers and which of two is newer (bundle.md 2.3).
//!
//! The original compares four numbers. Packages write them as `1.19.0.0` or `2.0.0-1`; both are
//! the same four fields here. Within a field dpkg's order is used, so that `~rc1` is older.

use std::cmp::Ordering;
use std::fmt;

/// Longest version text that is accepted.
const LIMIT: usize = 128;

/// Why a text is not a version.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a version number (like `2.0.0-1` or `1.19.0.0`)")]
pub struct NotAVersion(String);

/// A version: epoch and four fields; the first dash counts as a dot, missing fields as 0,
/// further fields are shown but not compared (bundle.md 2.3, "omi quirk").
#[derive(Debug, Clone)]
pub struct Version {
    text: String,
    compared: [String; 5],
}

impl Version {
    /// From what a package manager or a label says.
    pub fn parse(text: &str) -> Result<Self, NotAVersion> {
        let bad = || NotAVersion(text.chars().take(LIMIT).collect());
        let plain = |c: char| c.is_ascii_alphanumeric() || ".+~-:_^".contains(c);
        if text.len() > LIMIT || !text.chars().all(plain) {
            return Err(bad());
        }
        let (epoch, rest) = text.split_once(':').unwrap_or(("0", text));
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if !digits(epoch) || rest.contains(':') || !rest.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(bad());
        }
        let dotted = rest.replacen('-', ".", 1);
        let mut fields = dotted.split('.');
        let mut next = || match fields.next() {
            Some(field) if !field.is_empty() => field.to_owned(),
            _ => "0".to_owned(),
        };
        let compared = [epoch.to_owned(), next(), next(), next(), next()];
        Ok(Version {
            text: dotted,
            compared,
        })
    }

    /// From a package's or bundle's file name: `omsagent-1.19.0-0.universal.x64.sh`,
    /// `omi-1.8.1-0.ulinux.s.x64.deb`, `omsagent_2.0.0-1_amd64.deb`, `omsagent-2.0.0-1.x86_64.rpm`.
    pub fn from_file_name(package: &str, file: &str) -> Result<Self, NotAVersion> {
        let bad = || NotAVersion(file.chars().take(LIMIT).collect());
        let rest = file.strip_prefix(package).ok_or_else(bad)?;
        let rest = rest.strip_prefix(['-', '_']).ok_or_else(bad)?;
        let ends = [
            ".universal.",
            ".x64",
            ".x86",
            ".aarch64",
            "_amd64",
            "_arm64",
        ];
        let end = ends.iter().filter_map(|e| rest.find(e)).min();
        Version::parse(end.and_then(|n| rest.get(..n)).unwrap_or(rest))
    }

    /// Worth installing over `installed`: strictly greater.
    pub fn is_newer_than(&self, installed: &Version) -> bool {
        self > installed
    }
}

/// The dotted form that the original prints: `2.0.0.1`.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.compared
            .iter()
            .zip(&other.compared)
            .map(|(a, b)| compare_fields(a.as_bytes(), b.as_bytes()))
            .find(|o| o.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

/// Debian policy 5.6.12: text and number parts in turn; numbers by value, letters before other
/// signs, the end before letters, `~` before the end.
fn compare_fields(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (a_text, a_rest) = split(a, |c| !c.is_ascii_digit());
        let (b_text, b_rest) = split(b, |c| !c.is_ascii_digit());
        for i in 0..a_text.len().max(b_text.len()) {
            let order = weight(a_text.get(i)).cmp(&weight(b_text.get(i)));
            if order.is_ne() {
                return order;
            }
        }
        let (a_number, a_rest) = split(a_rest, u8::is_ascii_digit);
        let (b_number, b_rest) = split(b_rest, u8::is_ascii_digit);
        let (a_number, b_number) = (without_zeros(a_number), without_zeros(b_number));
        let order = a_number.len().cmp(&b_number.len());
        let order = order.then_with(|| a_number.cmp(b_number));
        if order.is_ne() {
            return order;
        }
        (a, b) = (a_rest, b_rest);
    }
    Ordering::Equal
}

fn split(bytes: &[u8], inside: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|c| !inside(c));
    bytes.split_at(end.unwrap_or(bytes.len()))
}

fn without_zeros(digits: &[u8]) -> &[u8] {
    split(digits, |c| *c == b'0').1
}

fn weight(c: Option<&u8>) -> i32 {
    match c {
        Some(b'~') => -1,
        None => 0,
        Some(c) if c.is_ascii_alphabetic() => i32::from(*c),
        Some(c) => i32::from(*c) + 256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn in_ascending_order() {
        let ascending = [
            "0.9",
            "1.3.5-127",
            "1.12.15-0",
            "1.19.0.0",
            "1.19.0-1",
            "1.19.1-0",
            "2.0.0~rc1-1",
            "2.0.0~rc2-1",
            "2.0.0-1",
            "2.0.0-2",
            "2.0.0-10",
            "2.0.0.18446744073709551617",
            "2.0.0a-1",
            "2.0.1-1",
            "10.0",
            "1:0.1",
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(v(a).cmp(&v(b)), i.cmp(&j), "{a} {b}");
            }
        }
    }

    #[test]
    fn the_same_version_in_other_words() {
        for (a, b) in [
            ("2.0.0-1", "2.0.0.1"),
            ("2.0.0", "2.0.0.0"),
            ("2.00.0-01", "2.0.0-1"),
            ("1.8.1.0.ulinux.s", "1.8.1-0"),
            ("0:1.0", "1"),
            ("2.0.0-1.el9", "2.0.0-1"),
        ] {
            assert_eq!(v(a), v(b), "{a} {b}");
            assert!(!v(a).is_newer_than(&v(b)));
        }
        assert_eq!(v("2.0.0-1").to_string(), "2.0.0.1");
    }

    #[test]
    fn from_file_names() {
        for (package, file, dotted) in [
            ("omsagent", "omsagent-1.19.0-0.universal.x64.sh", "1.19.0.0"),
            ("omsagent", "omsagent-1.12.15-0.universal.x86", "1.12.15.0"),
            ("omsagent", "omsagent_2.0.0-1_amd64.deb", "2.0.0.1"),
            ("omsagent", "omsagent-2.0.0-1.x86_64.rpm", "2.0.0.1"),
            ("omsagent", "omsagent-2.0.0-1.aarch64.rpm", "2.0.0.1"),
            ("omi", "omi-1.8.1-0.ulinux.s.x64.rpm", "1.8.1.0.ulinux.s"),
        ] {
            let found = Version::from_file_name(package, file).unwrap();
            assert_eq!(found.to_string(), dotted);
        }
        assert!(Version::from_file_name("omsagent", "omi-1.8.1-0.x64").is_err());
        assert!(Version::from_file_name("omi", "omit-1.8.1-0.x64").is_err());
    }

    #[test]
    fn what_is_no_version() {
        for bad in ["", "None", "a.b", "-1", "1;2", "1 2", "x:1", "1:2:3", ":1"] {
            assert!(Version::parse(bad).is_err(), "{bad}");
        }
        assert!(Version::parse(&"1".repeat(LIMIT)).is_ok());
        assert!(Version::parse(&"1".repeat(LIMIT + 1)).is_err());
    }
}
