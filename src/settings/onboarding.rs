//! `/etc/omsagent-onboard.conf`: unattended onboarding (bundle.md 3). The original sourced it as
//! shell; here it is only read: assignments with or without quotes, comments, CRLF.

use crate::base::files::{self, Look, Owner};
use crate::base::secret::Secret;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Largest onboarding file that is read.
pub const LIMIT: usize = 64 << 10;

/// The top-level domain when none is given: the public cloud (protocol.md 0).
pub const DEFAULT_TLD: &str = "opinsights.azure.com";

/// What stands in the file; an absent or empty value is `None`.
#[derive(Debug, Clone, Default)]
pub struct OnboardingFile {
    /// `WORKSPACE_ID`, not checked.
    pub workspace_id: Option<String>,
    /// `SHARED_KEY`, not checked.
    pub shared_key: Option<Secret>,
    /// `PROXY`: may hold a password.
    pub proxy: Option<Secret>,
    /// `URL_TLD`.
    pub url_tld: Option<String>,
    /// `AZURE_RESOURCE_ID`.
    pub azure_resource_id: Option<String>,
    /// `MULTI_HOMING_MARKER`.
    pub multi_homing_marker: Option<String>,
    /// `CA_FILE`, ours: additional trusted CA certificates.
    pub ca_file: Option<PathBuf>,
    /// What a person should know of this file, one line each.
    pub warnings: Vec<String>,
}

/// Why the file cannot be read or written. Never holds a value.
#[derive(Debug, thiserror::Error)]
pub enum OnboardingFileError {
    /// A line that is no assignment, or whose quotes do not end.
    #[error("line {line} of the onboarding file: {why}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not a file, too large, no permission, not UTF-8.
    #[error("{0}")]
    Unreadable(String),
    /// A value that no line can hold.
    #[error("`{0}` cannot be written to the onboarding file: it holds a control character")]
    Unwritable(&'static str),
}

impl OnboardingFile {
    /// Reads the file; `None` when there is none.
    pub fn load(path: &Path) -> Result<Option<Self>, OnboardingFileError> {
        let unreadable = |e| OnboardingFileError::Unreadable(format!("{e:#}"));
        let Some(bytes) = files::read(path, LIMIT).map_err(unreadable)? else {
            return Ok(None);
        };
        let bytes = Zeroizing::new(bytes);
        let text = std::str::from_utf8(&bytes).map_err(|_| {
            OnboardingFileError::Unreadable(format!("`{}` is not UTF-8 text", path.display()))
        })?;
        Self::parse(text).map(Some)
    }

    /// Reads the content.
    pub fn parse(text: &str) -> Result<Self, OnboardingFileError> {
        let mut file = OnboardingFile::default();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why| OnboardingFileError::Line { line: i + 1, why };
            let line = line.strip_prefix("export ").map_or(line, str::trim_start);
            let (key, raw) = line
                .split_once('=')
                .ok_or_else(|| wrong("expected `KEY=value`"))?;
            let value = unquote(raw.trim()).map_err(wrong)?;
            let text = || Some((*value).clone()).filter(|v| !v.is_empty());
            let secret = || Some(Secret::new((*value).clone())).filter(|s| !s.expose().is_empty());
            match key.trim_end() {
                "WORKSPACE_ID" => file.workspace_id = text(),
                "SHARED_KEY" => file.shared_key = secret(),
                "PROXY" => file.proxy = secret(),
                "URL_TLD" => file.url_tld = text(),
                "AZURE_RESOURCE_ID" => file.azure_resource_id = text(),
                "MULTI_HOMING_MARKER" => file.multi_homing_marker = text(),
                "CA_FILE" => file.ca_file = text().map(PathBuf::from),
                key if is_key(key) => file.warnings.push(format!(
                    "the onboarding file's `{key}` (line {}) means nothing here",
                    i + 1
                )),
                _ => return Err(wrong("expected `KEY=value`")),
            }
        }
        Ok(file)
    }

    /// The content to write: in the original's order, each value so that both we and a shell
    /// read it back as it is.
    pub fn to_text(&self) -> Result<Zeroizing<String>, OnboardingFileError> {
        let ca_file = self.ca_file.as_ref().map(|p| p.to_string_lossy());
        let mut text = Zeroizing::new(String::with_capacity(1024));
        for (key, value) in [
            ("WORKSPACE_ID", self.workspace_id.as_deref()),
            ("SHARED_KEY", self.shared_key.as_ref().map(Secret::expose)),
            ("PROXY", self.proxy.as_ref().map(Secret::expose)),
            ("URL_TLD", self.url_tld.as_deref()),
            ("AZURE_RESOURCE_ID", self.azure_resource_id.as_deref()),
            ("MULTI_HOMING_MARKER", self.multi_homing_marker.as_deref()),
            ("CA_FILE", ca_file.as_deref()),
        ] {
            let Some(value) = value else { continue };
            if value.chars().any(char::is_control) {
                return Err(OnboardingFileError::Unwritable(key));
            }
            text.push_str(key);
            text.push('=');
            push_quoted(&mut text, value);
            text.push('\n');
        }
        Ok(text)
    }

    /// Writes the file, atomically, 0600 root:root from its first byte.
    pub fn write(&self, path: &Path) -> Result<(), OnboardingFileError> {
        let text = self.to_text()?;
        files::write_atomic(path, text.as_bytes(), Look::owned(0o600, Owner::ROOT))
            .map_err(|e| OnboardingFileError::Unreadable(format!("{e:#}")))
    }
}

/// A top-level domain that can stand in a service's URL: a host name, perhaps with a port
/// (`example.test:8443`, for a service that listens elsewhere than on 443).
pub fn is_tld(text: &str) -> bool {
    let (name, port) = match text.split_once(':') {
        None => (text, None),
        Some((name, port)) => (name, Some(port)),
    };
    let label = |label: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(plain) && !label.starts_with('-')
    };
    let is_port = |port: &str| {
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|n| n != 0)
    };
    name.len() <= 200 && name.split('.').all(label) && port.is_none_or(is_port)
}

fn is_key(key: &str) -> bool {
    let mut bytes = key.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && key.len() <= 64
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The value of an assignment as a shell would see it, without its expansions: `$` and the like
/// are ordinary characters. Blanks inside an unquoted value are kept, where a shell would run a
/// command.
fn unquote(raw: &str) -> Result<Zeroizing<String>, &'static str> {
    const OPEN: &str = "a quote is opened and not closed";
    let mut value = Zeroizing::new(String::with_capacity(raw.len()));
    let mut bare_end = 0; // blanks after this are at the end, and dropped
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => loop {
                match chars.next().ok_or(OPEN)? {
                    '\'' => break,
                    c => value.push(c),
                }
            },
            '"' => loop {
                match chars.next().ok_or(OPEN)? {
                    '"' => break,
                    '\\' => match chars.next().ok_or(OPEN)? {
                        c @ ('"' | '\\' | '$' | '`') => value.push(c),
                        c => value.extend(['\\', c]),
                    },
                    c => value.push(c),
                }
            },
            '\\' => value.extend(chars.next()),
            '#' if bare_end < value.len() || value.is_empty() => break,
            c if c.is_whitespace() => {
                value.push(c);
                continue;
            }
            c => value.push(c),
        }
        bare_end = value.len();
    }
    value.truncate(bare_end);
    Ok(value)
}

/// In single quotes unless every character is harmless.
fn push_quoted(text: &mut String, value: &str) {
    let harmless = |b: u8| b.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&b);
    if value.bytes().all(harmless) {
        text.push_str(value);
        return;
    }
    text.push('\'');
    for (i, piece) in value.split('\'').enumerate() {
        if i > 0 {
            text.push_str("'\\''");
        }
        text.push_str(piece);
    }
    text.push('\'');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn marker(raw: &str) -> String {
        let file = OnboardingFile::parse(&format!("MULTI_HOMING_MARKER={raw}\n")).unwrap();
        file.multi_homing_marker.unwrap_or_default()
    }

    #[test]
    fn values_as_people_write_them() {
        for (raw, value) in [
            ("plain", "plain"),
            ("  spaced  ", "spaced"),
            ("two words", "two words"),
            ("'single $x `y`'", "single $x `y`"),
            ("\"double \\\" \\n $x\"", "double \" \\n $x"),
            ("it\\'s", "it's"),
            ("'it'\\''s'", "it's"),
            ("value # comment", "value"),
            ("value#not", "value#not"),
            ("'a' # comment", "a"),
            ("# comment", ""),
            ("''", ""),
            ("' '", " "),
            ("a=b=", "a=b="),
        ] {
            assert_eq!(marker(raw), value, "{raw}");
        }
    }

    #[test]
    fn a_file_from_another_world() {
        let text = "\u{feff}# by hand\r\nexport WORKSPACE_ID=\"w\"\r\nSHARED_KEY='k=='\r\n\r\n\
            PROXY=http://u:p$w@h:1\r\nURL_TLD=\r\nCA_FILE=/etc/ca.pem\r\nOTHER=1\r\n";
        let file = OnboardingFile::parse(text).unwrap();
        assert_eq!(file.workspace_id.as_deref(), Some("w"));
        assert_eq!(file.shared_key.as_ref().unwrap().expose(), "k==");
        assert_eq!(file.proxy.as_ref().unwrap().expose(), "http://u:p$w@h:1");
        assert_eq!(file.url_tld, None);
        assert_eq!(file.ca_file.as_deref(), Some(Path::new("/etc/ca.pem")));
        assert_eq!(file.warnings.len(), 1);
        assert!(file.warnings[0].contains("OTHER"));
    }

    #[test]
    fn errors_show_the_line_not_the_value() {
        for (text, line) in [
            ("A=1\nSHARED_KEY='hunter2\n", 2),
            ("hunter2\n", 1),
            ("SHARED_KEY hunter2=\n", 1),
            ("\n\nSHARED_KEY=\"hunter2\\\"\n", 3),
        ] {
            let error = OnboardingFile::parse(text).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains(&format!("line {line}")), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn written_in_order_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("omsagent-onboard.conf");
        let file = OnboardingFile {
            workspace_id: Some("11111111-2222-3333-4444-555555555555".into()),
            shared_key: Some(Secret::new("AbC+/9==")),
            proxy: Some(Secret::new("u:it's $5@h:1")),
            multi_homing_marker: Some("two words".into()),
            ..OnboardingFile::default()
        };
        file.write(&path).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "WORKSPACE_ID=11111111-2222-3333-4444-555555555555\nSHARED_KEY=AbC+/9==\n\
             PROXY='u:it'\\''s $5@h:1'\nMULTI_HOMING_MARKER='two words'\n"
        );
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let read = OnboardingFile::load(&path).unwrap().unwrap();
        assert_eq!(read.proxy.unwrap().expose(), "u:it's $5@h:1");
        assert!(!format!("{file:?}").contains("AbC"));
    }

    #[test]
    fn domains() {
        for good in [DEFAULT_TLD, "example.test:8443", "localhost", "a-b.c"] {
            assert!(is_tld(good), "{good}");
        }
        let label = "x".repeat(63);
        assert!(is_tld(&format!("{label}.{label}.{label}")));
        let long = format!("{label}.{label}.{label}.{label}");
        for bad in [
            "",
            ".",
            "a..b",
            "a.",
            "-a",
            "a b",
            "a/b",
            "a@b",
            "a:",
            "a:0",
            "a:65536",
            "a:x",
            "a:1:2",
            "https://a",
            "ä.de",
            "x\ny",
            &label.repeat(2),
            &long,
        ] {
            assert!(!is_tld(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_value_cannot_forge_a_line() {
        let file = OnboardingFile {
            url_tld: Some("x\nSHARED_KEY=y".into()),
            ..OnboardingFile::default()
        };
        assert!(file.to_text().is_err());
    }

    #[test]
    fn file_has_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        assert!(OnboardingFile::load(&path).unwrap().is_none());
        std::fs::write(&path, vec![b'\n'; LIMIT]).unwrap();
        assert!(OnboardingFile::load(&path).is_ok());
        std::fs::write(&path, vec![b'\n'; LIMIT + 1]).unwrap();
        assert!(OnboardingFile::load(&path).is_err());
    }

    /// What a real shell makes of our file.
    #[test]
    fn a_shell_reads_the_same() {
        use crate::base::command::Command;
        let value = "it's a \"$HOME\" `id` \\ #! * ~ ä";
        let file = OnboardingFile {
            multi_homing_marker: Some(value.into()),
            ..OnboardingFile::default()
        };
        let script = format!(
            "{}printf %s \"$MULTI_HOMING_MARKER\"",
            *file.to_text().unwrap()
        );
        let done = Command::new("sh").arg("-c").arg(script).run().unwrap();
        assert_eq!(done.output, value);
    }

    proptest! {
        #[test]
        fn any_value_survives(value in "\\PC{0,40}") {
            let file = OnboardingFile {
                multi_homing_marker: Some(value.clone()),
                ..OnboardingFile::default()
            };
            let text = file.to_text().unwrap();
            let read = OnboardingFile::parse(&text).unwrap();
            prop_assert_eq!(read.multi_homing_marker.unwrap_or_default(), value);
        }

        #[test]
        fn any_text_is_survived(text in "\\PC{0,80}") {
            let _ = OnboardingFile::parse(&text);
        }
    }
}
