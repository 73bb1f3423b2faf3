//! What an agent wrote last into its log: it explains a failed start better than systemd does.
//!
//! The log is the service account's: no link is followed, nothing but text is shown.

use crate::base::files;
use std::path::Path;

/// Much of a log's end is enough for its last lines.
const END: usize = 64 << 10;
/// Of a shown line, in characters.
const LINE: usize = 300;

/// The last line that is not blank.
pub fn last_line(log: &Path) -> Option<String> {
    last_line_where(log, |line| !line.trim().is_empty())
}

/// The last line that `wanted` likes.
pub fn last_line_where(log: &Path, wanted: impl Fn(&str) -> bool) -> Option<String> {
    let text = files::read_end_no_follow(log, END).ok()??;
    let line = text.lines().rev().find(|line| wanted(line))?;
    Some(
        line.chars()
            .filter(|c| !c.is_control())
            .take(LINE)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_log_of_any_size() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("omsagent.log");
        assert!(last_line(&log).is_none());
        let mut text = "x".repeat(9 << 20);
        text.push_str("\n[error]: no \u{1b}[31mport\nlast words\n\n");
        std::fs::write(&log, text).unwrap();
        assert_eq!(last_line(&log).unwrap(), "last words");
        let bad = last_line_where(&log, |line| line.contains("[error]"));
        assert_eq!(bad.unwrap(), "[error]: no [31mport");
    }
}
