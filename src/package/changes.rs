//! What changed from version to version: told once in the manifest, written as each format
//! wants it.

use anyhow::{Context, Result};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;
use std::fmt::Write;

/// One version, newest first in the manifest.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Version with revision.
    pub version: String,
    /// `YYYY-MM-DD`.
    pub date: String,
    /// A sentence each.
    pub text: Vec<String>,
}

/// Columns of a changelog line's text.
const WIDTH: usize = 74;

impl Change {
    /// Noon of its day in UTC, which is what rpm stamps its entries with.
    fn at(&self) -> Result<jiff::Zoned> {
        let date: Date = self
            .date
            .parse()
            .with_context(|| format!("date of version `{}`", self.version))?;
        Ok(date.at(12, 0, 0, 0).to_zoned(TimeZone::UTC)?)
    }

    /// Seconds since 1970.
    pub fn time(&self) -> Result<u32> {
        let seconds = self.at()?.timestamp().as_second();
        u32::try_from(seconds).with_context(|| format!("date of version `{}`", self.version))
    }

    /// rpm's text: a dash in front of each sentence.
    pub fn rpm_text(&self) -> String {
        let lines: Vec<String> = self.text.iter().map(|t| format!("- {t}")).collect();
        lines.join("\n")
    }
}

/// deb-changelog(5).
pub fn debian(changes: &[Change], package: &str, maintainer: &str) -> Result<String> {
    let mut log = String::new();
    for change in changes {
        writeln!(
            log,
            "{package} ({}) unstable; urgency=medium\n",
            change.version
        )?;
        for text in &change.text {
            let mut line = "  *".to_owned();
            for word in text.split_whitespace() {
                if line.len() + 1 + word.len() > WIDTH {
                    writeln!(log, "{line}")?;
                    line = "   ".to_owned();
                }
                line.push(' ');
                line.push_str(word);
            }
            writeln!(log, "{line}")?;
        }
        let date = change.at()?.strftime("%a, %d %b %Y %H:%M:%S +0000");
        writeln!(log, "\n -- {maintainer}  {date}")?;
    }
    Ok(log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_debian_writes_it() {
        let change = |date: &str| Change {
            version: "2.0.0-1".into(),
            date: date.into(),
            text: vec!["One. ".repeat(16), "Two.".into()],
        };
        let log = debian(&[change("2026-11-20")], "omsagent", "m <m@x.invalid>").unwrap();
        assert!(log.starts_with("omsagent (2.0.0-1) unstable; urgency=medium\n\n  * One. One."));
        assert!(
            log.contains("\n    One.")
                && log.contains(
                    "\n  * Two.\n\n -- m <m@x.invalid>  Fri, 20 Nov 2026 12:00:00 +0000\n"
                )
        );
        assert!(log.lines().all(|l| l.len() <= WIDTH));
        assert_eq!(change("1970-01-02").time().unwrap(), 86_400 + 43_200);
        assert!(change("1969-01-02").time().is_err());
        assert!(debian(&[change("20.11.2026")], "p", "m").is_err());
    }
}
