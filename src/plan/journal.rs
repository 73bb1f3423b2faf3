//! The journal: one JSON line before and one after each step, each on the disk before the next
//! thing happens. It holds descriptions only, never file bodies or secrets.

use super::State;
use crate::base::files::{self, Look, Owner};
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Older runs are dropped when the file is larger than this.
const KEEP: u64 = 256 << 10;

/// Appends to `journal.jsonl` in a folder that is made when the first line is written.
pub struct Journal {
    dir: Option<PathBuf>,
    run: String,
    file: Option<File>,
    made_dir: bool,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Every step is applied.
    Complete,
    /// Every applied step was taken back.
    TakenBack,
    /// Some step could not be taken back.
    LeftBehind,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    run: &'a str,
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    what: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<State>,
}

impl Journal {
    /// A journal in `dir`.
    pub fn at(dir: &Path) -> Self {
        Journal {
            dir: Some(dir.to_owned()),
            run: uuid::Uuid::new_v4().simple().to_string(),
            file: None,
            made_dir: false,
        }
    }

    /// No journal: for plans that take the journal's own folder away.
    pub fn none() -> Self {
        Journal {
            dir: None,
            run: String::new(),
            file: None,
            made_dir: false,
        }
    }

    /// A step is about to be applied.
    pub fn begin(&mut self, n: usize, what: &str) -> Result<()> {
        self.write("begin", Some(n), Some(what), None)
    }

    /// A step was applied, or failed.
    pub fn end(&mut self, n: usize, state: State) -> Result<()> {
        self.write("end", Some(n), None, Some(state))
    }

    /// A step is about to be taken back.
    pub fn undoing(&mut self, n: usize, what: &str) {
        let _ = self.write("undo", Some(n), Some(what), None);
    }

    /// The run is over. A journal that never had a line stays unwritten; one that was begun by a
    /// run of which nothing is left goes with it, so that the host is as before.
    pub fn finish(&mut self, end: End) {
        if self.file.is_none() {
            return;
        }
        let event = match end {
            End::Complete => "complete",
            End::TakenBack => "taken-back",
            End::LeftBehind => "left-behind",
        };
        let _ = self.write(event, None, None, None);
        if let (End::TakenBack, true, Some(dir)) = (end, self.made_dir, &self.dir) {
            let _ = std::fs::remove_dir_all(dir);
        }
    }

    fn write(
        &mut self,
        event: &str,
        step: Option<usize>,
        what: Option<&str>,
        state: Option<State>,
    ) -> Result<()> {
        let Some(dir) = self.dir.clone() else {
            return Ok(());
        };
        if self.file.is_none() {
            self.made_dir = !dir.exists();
            self.file = Some(open(&dir)?);
        }
        let line = Line {
            time: jiff::Timestamp::now().to_string(),
            run: &self.run,
            event,
            step,
            what,
            state,
        };
        let mut text = serde_json::to_string(&line)?;
        text.push('\n');
        if let Some(file) = &mut self.file {
            file.write_all(text.as_bytes())
                .and_then(|()| file.sync_data())
                .with_context(|| format!("cannot write the journal in `{}`", dir.display()))?;
        }
        Ok(())
    }
}

fn open(dir: &Path) -> Result<File> {
    let what = || format!("cannot write the journal in `{}`", dir.display());
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent).with_context(what)?;
    }
    files::make_dir(dir, Look::owned(0o700, Owner::ROOT)).with_context(what)?;
    let path = dir.join("journal.jsonl");
    if std::fs::symlink_metadata(&path).is_ok_and(|m| m.len() > KEEP) {
        std::fs::rename(&path, dir.join("journal.old.jsonl")).with_context(what)?;
    }
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC)
        .open(&path)
        .with_context(what)?;
    if !file.metadata().is_ok_and(|m| m.is_file()) {
        bail!("{}: `{}` is not a file", what(), path.display());
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_pipe_does_not_hold_us() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(Journal::at(dir.path()).begin(0, "one").is_err());
    }
}
