//! `--log`: every line that was shown, tool output included, with the time, in a file of mode
//! 0600. Without the option the log is kept in memory and written beside the journal at the end
//! of a run that changed the host: a run that had nothing to do leaves nothing.

use crate::base::files::{self, Look, Owner};
use crate::base::order;
use crate::base::out::Stream;
use anyhow::{Context, Result, bail};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Most that is kept in memory; further lines are counted only.
const MEMORY: usize = 1 << 20;
/// Logs that are kept beside the journal, the newest.
const KEEP: usize = 10;

/// Where the lines go. The default one is a log in memory.
#[derive(Default)]
pub struct Log {
    file: Option<(PathBuf, File)>,
    kept: Vec<u8>,
    lost: usize,
    /// The beginning of a line of either stream whose end has not come yet.
    open: [Vec<u8>; 2],
}

impl Log {
    /// A log that is written to `path` as lines come; what is in the file stays.
    pub fn to(path: &Path) -> Result<Log> {
        let what = || format!("cannot write the log `{}`", path.display());
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC)
            .open(path)
            .with_context(what)?;
        if !file.metadata().is_ok_and(|m| m.is_file()) {
            bail!("{}: it is not a file", what());
        }
        file.set_permissions(std::fs::Permissions::from_mode(0o600))
            .with_context(what)?;
        Ok(Log {
            file: Some((path.to_owned(), file)),
            ..Log::default()
        })
    }

    /// Something was shown; pieces of lines are put together.
    pub fn shown(&mut self, stream: Stream, bytes: &[u8]) {
        let (slot, mark) = match stream {
            Stream::Out => (0, "out"),
            Stream::Err => (1, "err"),
        };
        let mut whole = std::mem::take(&mut self.open[slot]);
        whole.extend_from_slice(bytes);
        let end = whole
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1);
        // A tool that never ends its line does not fill our memory.
        let end = if whole.len() > 64 << 10 {
            whole.len()
        } else {
            end
        };
        self.open[slot] = whole.split_off(end);
        for line in whole.split_inclusive(|b| *b == b'\n') {
            self.write(mark, &String::from_utf8_lossy(line));
        }
    }

    /// A line that was not shown.
    pub fn note(&mut self, text: &str) {
        self.write("log", text);
    }

    fn write(&mut self, mark: &str, text: &str) {
        let clean: String = text
            .trim_end()
            .chars()
            .map(|c| if c.is_control() && c != '\t' { '?' } else { c })
            .collect();
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ");
        let line = format!("{now} {mark} {clean}\n");
        match &mut self.file {
            // A full disk must not stop a run half-way for its log's sake.
            Some((_, file)) => drop(file.write_all(line.as_bytes())),
            None if self.kept.len() + line.len() <= MEMORY => {
                self.kept.extend_from_slice(line.as_bytes());
            }
            None => self.lost += 1,
        }
    }

    /// The run is over. A log in memory is written to `folder`, which must be there, when the run
    /// changed the host. Returns where the log is.
    pub fn end(mut self, changed: bool, records: &Path) -> Result<Option<PathBuf>> {
        for slot in [0, 1] {
            let rest = std::mem::take(&mut self.open[slot]);
            if !rest.is_empty() {
                self.write(["out", "err"][slot], &String::from_utf8_lossy(&rest));
            }
        }
        if let Some((path, file)) = self.file {
            let _ = file.sync_data();
            return Ok(Some(path));
        }
        if !changed || !records.is_dir() {
            return Ok(None);
        }
        if self.lost > 0 {
            let text = format!("... {} more lines\n", self.lost);
            self.kept.extend_from_slice(text.as_bytes());
        }
        let folder = records.join("log");
        files::make_dir(&folder, Look::owned(0o700, Owner::ROOT))?;
        let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ");
        let path = folder.join(format!("bundle-{now}.log"));
        files::write_atomic(&path, &self.kept, Look::owned(0o600, Owner::ROOT))?;
        drop_old(&folder);
        Ok(Some(path))
    }
}

/// Names sort by time.
fn drop_old(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    let mut logs: Vec<PathBuf> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| {
            let name = p.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("bundle-") && name.ends_with(".log")
        })
        .collect();
    order::ascending(&mut logs);
    let old = logs.len().saturating_sub(KEEP);
    for path in &logs[..old] {
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_lines_and_nothing_can_steer_a_terminal() {
        let mut log = Log::default();
        log.shown(Stream::Out, b"Setting up ");
        log.shown(Stream::Err, b"warning\tslow\n");
        log.shown(Stream::Out, b"omsagent\nrest\x1b[2J");
        let before = String::from_utf8(log.kept.clone()).unwrap();
        let lines: Vec<&str> = before.lines().map(|l| &l[25..]).collect();
        assert_eq!(lines, ["err warning\tslow", "out Setting up omsagent"]);
        log.shown(Stream::Out, b"\n");
        let text = String::from_utf8(log.kept.clone()).unwrap();
        assert!(text.ends_with("out rest?[2J\n"), "{text}");
    }

    #[test]
    fn the_memory_has_an_end() {
        let mut log = Log::default();
        let line = [b'x'; 1000].as_slice();
        for _ in 0..3000 {
            log.shown(Stream::Out, &[line, b"\n"].concat());
        }
        assert!(log.kept.len() <= MEMORY && log.lost > 1000);
        let mut log = Log::default();
        for _ in 0..3000 {
            log.shown(Stream::Out, line);
            assert!(log.open[0].len() <= 64 << 10);
        }
    }

    #[test]
    fn a_file_of_our_own_and_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::to(&path).unwrap();
        log.shown(Stream::Out, b"one\n");
        assert_eq!(log.end(false, dir.path()).unwrap(), Some(path.clone()));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(Log::to(&link).is_err());
        assert!(Log::to(dir.path()).is_err());
        assert!(Log::to(Path::new("/dev/null")).is_err());
    }

    #[test]
    fn a_run_without_change_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::default();
        log.note("x");
        assert_eq!(log.end(false, dir.path()).unwrap(), None);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let gone = dir.path().join("gone");
        assert_eq!(Log::default().end(true, &gone).unwrap(), None);
    }

    #[test]
    fn the_newest_ten_stay() {
        let dir = tempfile::tempdir().unwrap();
        for n in 10..25 {
            std::fs::write(dir.path().join(format!("bundle-{n}.log")), "").unwrap();
        }
        std::fs::write(dir.path().join("another"), "").unwrap();
        drop_old(dir.path());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), KEEP + 1);
        assert!(dir.path().join("bundle-24.log").exists());
        assert!(!dir.path().join("bundle-14.log").exists());
    }
}
