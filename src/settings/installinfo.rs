//! installinfo.txt: which version is installed, and since when (bundle.md 4.13).

use crate::base::files;
use anyhow::Result;
use std::path::Path;

/// Largest installinfo.txt that is read.
pub const LIMIT: usize = 64 << 10;

/// The version sent on the data path when the file says none (protocol.md 0.2).
pub const UNKNOWN_VERSION: &str = "0.0.0-0";

/// The two ways the original reads a version out of this file (protocol.md 0.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallInfo {
    /// First word of line 1: for onboarding and topology requests. Empty when there is none.
    pub version: String,
    /// First word anywhere shaped `1.2.3-4`, else [`UNKNOWN_VERSION`]: for the data path.
    pub data_version: String,
}

/// Reads the file; one that is missing says nothing.
pub fn load(path: &Path) -> Result<InstallInfo> {
    Ok(parse(&files::read_text(path, LIMIT)?.unwrap_or_default()))
}

/// Reads the content.
pub fn parse(text: &str) -> InstallInfo {
    let first = text.lines().next().unwrap_or_default();
    let version = first.split_whitespace().next().unwrap_or_default();
    let shaped = text.split_whitespace().find(|word| is_version(word));
    let printable = |word: &str| {
        word.chars()
            .filter(char::is_ascii_graphic)
            .take(64)
            .collect()
    };
    InstallInfo {
        version: printable(version),
        data_version: printable(shaped.unwrap_or(UNKNOWN_VERSION)),
    }
}

fn is_version(word: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let Some((numbers, release)) = word.split_once('-') else {
        return false;
    };
    word.len() <= 64
        && digits(release)
        && numbers.split('.').count() == 3
        && numbers.split('.').all(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(text: &str) -> (String, String) {
        let info = parse(text);
        (info.version, info.data_version)
    }

    #[test]
    fn versions() {
        let usual = "1.19.0-0 20240311 Release_Build\n2016-05-24T00:27:55.0Z\n";
        assert_eq!(both(usual), ("1.19.0-0".into(), "1.19.0-0".into()));
        assert_eq!(both(""), ("".into(), UNKNOWN_VERSION.into()));
        assert_eq!(both("odd\n2.0.0-1 x"), ("odd".into(), "2.0.0-1".into()));
        assert_eq!(both("1.2-3"), ("1.2-3".into(), UNKNOWN_VERSION.into()));
        assert_eq!(both("2.0.0-1\u{1b}[0m").0, "2.0.0-1[0m");
    }

    #[test]
    fn file_has_a_limit_and_may_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("installinfo.txt");
        assert_eq!(load(&path).unwrap().data_version, UNKNOWN_VERSION);
        let mut text = b"2.0.0-1 ".to_vec();
        text.resize(LIMIT, b' ');
        std::fs::write(&path, &text).unwrap();
        assert_eq!(load(&path).unwrap().version, "2.0.0-1");
        text.push(b' ');
        std::fs::write(&path, &text).unwrap();
        assert!(load(&path).is_err());
    }
}
