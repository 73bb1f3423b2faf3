//! The journal: JSON lines that say which run does what, how each step would be taken back, and
//! how the run ended. A step's line is on the disk before the step is applied. It holds
//! descriptions only, never file bodies or secrets: those are [`super::backup`]'s.

use super::State;
use super::backup::Backups;
use super::history::{self, Ended};
use super::process::Process;
use super::undo::Undo;
use crate::base::files::{self, Look, Owner};
use crate::base::spent::{self, Spent};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file larger than this gives way to a new one, unless a run in it is unfinished.
const KEEP: u64 = 256 << 10;

/// The journal's name.
pub(super) const NAME: &str = "journal.jsonl";
/// The one before it.
pub(super) const OLD: &str = "journal.old.jsonl";

/// What the next run makes of a run that was cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CutShort {
    /// Its steps are taken back.
    TakeBack,
    /// It is done again, to its end, as long as the package is installed.
    Complete,
}

/// What a run is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// In a few words: `onboard workspace X`.
    pub what: String,
    /// The version of the product that does it.
    pub version: String,
    /// What becomes of it when it is cut short.
    pub cut_short: CutShort,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Every step is applied.
    Complete,
    /// Every applied step was taken back.
    TakenBack,
    /// Some step could not be taken back: the next run tries once more.
    LeftBehind,
    /// It did not come to its end, and what it did stays.
    NotFinished,
}

/// One line, written and read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Line {
    pub time: String,
    pub run: String,
    pub event: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_short: Option<CutShort>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Kept as it is until it is needed: what a later release wrote must not make a line
    /// unreadable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Ended>,
    /// Of the process so far, in the line that ends a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ms: Option<Spent>,
}

impl Line {
    fn of(run: &str, event: &str) -> Line {
        Line {
            time: jiff::Timestamp::now().to_string(),
            run: run.to_owned(),
            event: event.to_owned(),
            step: None,
            what: None,
            version: None,
            process: None,
            cut_short: None,
            state: None,
            undo: None,
            outcome: None,
            ms: None,
        }
    }
}

/// Does a line have to be on the disk before anything else happens?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sync {
    Now,
    /// With the next one that has to be.
    Later,
}

/// One run's part of `journal.jsonl`, in a folder that is made when the first line is written.
pub struct Journal {
    records: PathBuf,
    about: Run,
    run: String,
    process: Process,
    file: Option<File>,
    made_dir: bool,
    /// Is every line of it?
    #[cfg(test)]
    is_on_disk: bool,
}

impl Journal {
    /// A journal in the folder `records`.
    pub fn at(records: &Path, about: Run) -> Self {
        Journal::by(Process::own(), records, about)
    }

    /// As [`Journal::at`], for a process that need not be this one.
    pub fn by(process: Process, records: &Path, about: Run) -> Self {
        Journal {
            records: records.to_owned(),
            about,
            run: uuid::Uuid::new_v4().simple().to_string(),
            process,
            file: None,
            made_dir: false,
            #[cfg(test)]
            is_on_disk: true,
        }
    }

    /// Where this run keeps what it replaces.
    pub fn backups(&self) -> Backups {
        Backups::of(&self.records, &self.run)
    }

    /// Before anything else of the run, also before its first backup: was there a folder?
    pub fn prepare(&mut self) {
        if self.file.is_none() {
            self.made_dir = !self.records.exists();
        }
    }

    /// A step is about to be applied; afterwards `undo` is on the disk.
    pub fn begin(&mut self, n: usize, what: &str, undo: &Undo) -> Result<()> {
        if self.file.is_none() {
            self.file = Some(open(&self.records)?);
            let mut line = Line::of(&self.run, "run");
            line.what = Some(self.about.what.clone());
            line.version = Some(self.about.version.clone());
            line.cut_short = Some(self.about.cut_short);
            line.process = Some(self.process.clone());
            self.write(&line, Sync::Later)?;
        }
        let mut line = Line::of(&self.run, "begin");
        line.step = Some(n);
        line.what = Some(what.to_owned());
        line.undo = Some(serde_json::to_value(undo)?);
        self.write(&line, Sync::Now)
    }

    /// A step was applied, failed, or was taken back; afterwards that is on the disk.
    pub fn end(&mut self, n: usize, state: State) -> Result<()> {
        let mut line = Line::of(&self.run, "end");
        line.step = Some(n);
        line.state = serde_json::to_value(state)?.as_str().map(str::to_owned);
        self.write(&line, Sync::Now)
    }

    /// The run is over. A journal that never had a line stays unwritten; one that was begun by a
    /// run of which nothing is left goes with it, so that the host is as before. What was kept goes
    /// when that is on the disk; after [`End::LeftBehind`] it is still needed.
    pub fn finish(&mut self, end: End, backups: &Backups) {
        let mut written = true;
        if self.file.is_some() {
            let event = match end {
                End::Complete => "complete",
                End::TakenBack => "taken-back",
                End::LeftBehind => "left-behind",
                End::NotFinished => "not-finished",
            };
            let mut line = Line::of(&self.run, event);
            line.ms = Some(spent::so_far());
            written = self.write(&line, Sync::Now).is_ok();
        }
        if written && end != End::LeftBehind {
            backups.discard();
        }
        // A receipt, or accounts of ours that could not go, are still needed.
        let needed = ["portable.json", "accounts"].map(|name| self.records.join(name).exists());
        if end == End::TakenBack && self.made_dir && needed == [false, false] {
            let _ = std::fs::remove_dir_all(&self.records);
        }
    }

    fn write(&mut self, line: &Line, sync: Sync) -> Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        #[cfg(test)]
        {
            self.is_on_disk = sync == Sync::Now;
        }
        put(file, line, sync)
            .with_context(|| format!("cannot write the journal in `{}`", self.records.display()))
    }
}

/// Writes down what became of an earlier run that was cut short.
pub fn recovered(records: &Path, run: &str, ended: Ended) -> Result<()> {
    let mut line = Line::of(run, "recovered");
    line.outcome = Some(ended);
    put(&mut open(records)?, &line, Sync::Now)
}

fn put(file: &mut File, line: &Line, sync: Sync) -> Result<()> {
    let mut text = serde_json::to_string(line)?;
    text.push('\n');
    let before = file.metadata()?.len();
    // One write: two processes of ours never mix their lines.
    if let Err(e) = file.write_all(text.as_bytes()) {
        // What came of it, as on a full disk, must not become the beginning of the next line. Whoever
        // writes holds the host's lock.
        let _ = file.set_len(before);
        return Err(e.into());
    }
    if sync == Sync::Now {
        file.sync_data()?;
    }
    Ok(())
}

fn open(dir: &Path) -> Result<File> {
    let what = || format!("cannot write the journal in `{}`", dir.display());
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent).with_context(what)?;
    }
    files::make_dir(dir, Look::owned(0o700, Owner::ROOT)).with_context(what)?;
    let path = dir.join(NAME);
    let is_large = std::fs::symlink_metadata(&path).is_ok_and(|m| m.len() > KEEP);
    if is_large && !history::read(dir).runs.iter().any(history::Past::is_open) {
        std::fs::rename(&path, dir.join(OLD)).with_context(what)?;
    }
    let is_new = !path.exists();
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC)
        .open(&path)
        .with_context(what)?;
    if !file.metadata().is_ok_and(|m| m.is_file()) {
        bail!("{}: `{}` is not a file", what(), path.display());
    }
    drop_torn_end(&mut file).with_context(what)?;
    if is_new {
        files::sync_dir(dir);
        dir.parent().map(files::sync_dir).unwrap_or_default();
    }
    Ok(file)
}

/// A line that a power cut left without its end must not become the beginning of the next one.
fn drop_torn_end(file: &mut File) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt;
    let size = file.metadata()?.len();
    let mut last = [b'\n'];
    if size > 0 {
        file.read_exact_at(&mut last, size - 1)?;
    }
    if last == [b'\n'] {
        return Ok(());
    }
    let mut end = size;
    while end > 0 {
        file.read_exact_at(&mut last, end - 1)?;
        if last == [b'\n'] {
            break;
        }
        end -= 1;
    }
    file.set_len(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> Run {
        Run {
            what: "test".into(),
            version: "1".into(),
            cut_short: CutShort::TakeBack,
        }
    }

    #[test]
    fn before_and_after_a_step_all_is_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::at(dir.path(), about());
        journal.begin(0, "one", &Undo::Nothing).unwrap();
        assert!(journal.is_on_disk);
        journal.end(0, State::Done).unwrap();
        assert!(journal.is_on_disk);
    }

    #[test]
    fn a_planted_pipe_does_not_hold_us() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut journal = Journal::at(dir.path(), about());
        assert!(journal.begin(0, "one", &Undo::Nothing).is_err());
    }

    #[test]
    fn a_torn_line_is_cut_off_and_the_next_one_stands_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::at(dir.path(), about());
        journal.begin(0, "one", &Undo::Nothing).unwrap();
        let path = dir.path().join(NAME);
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{whole}{{\"time\":\"20")).unwrap();
        assert!(history::read(dir.path()).is_sound, "torn is not garbage");
        let mut second = Journal::at(dir.path(), about());
        second.begin(0, "two", &Undo::Nothing).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 4);
        assert!(text.starts_with(&whole));
        let past = history::read(dir.path());
        assert!(past.is_sound && past.runs.len() == 2);
    }

    #[test]
    fn a_line_that_a_full_disk_tears_is_taken_back() {
        // The limit is of a whole process: another one, which runs this very test.
        const FOLDER: &str = "OMSAGENT_TEST_FULL_DISK";
        if let Some(dir) = std::env::var_os(FOLDER) {
            let dir = PathBuf::from(dir);
            let mut journal = Journal::at(&dir, about());
            journal.begin(0, "one", &Undo::Nothing).unwrap();
            let whole = std::fs::read_to_string(dir.join(NAME)).unwrap();
            let long = "x".repeat(5000);
            assert!(journal.begin(1, &long, &Undo::Nothing).is_err());
            assert_eq!(std::fs::read_to_string(dir.join(NAME)).unwrap(), whole);
            journal.end(0, State::Failed).unwrap();
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let name = "plan::journal::tests::a_line_that_a_full_disk_tears_is_taken_back";
        let limited = "trap '' XFSZ; ulimit -f 2; exec \"$@\"";
        let done = std::process::Command::new("sh")
            .args(["-c", limited, "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(FOLDER, dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success() && said.contains("1 passed"), "{said}");
        let past = history::read(dir.path());
        assert!(past.is_sound);
        assert_eq!(past.runs[0].steps[0].state.as_deref(), Some("failed"));
    }

    #[test]
    fn a_large_one_gives_way_unless_a_run_in_it_is_unfinished() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::at(dir.path(), about());
        let long = "x".repeat(KEEP as usize);
        journal.begin(0, &long, &Undo::Nothing).unwrap();
        let again = |n| {
            Journal::at(dir.path(), about())
                .begin(n, "next", &Undo::Nothing)
                .unwrap()
        };
        again(0);
        assert!(!dir.path().join(OLD).exists());
        for past in history::read(dir.path()).runs {
            recovered(dir.path(), &past.id, Ended::TakenBack).unwrap();
        }
        again(0);
        assert!(dir.path().join(OLD).exists());
        assert_eq!(history::read(dir.path()).runs.len(), 3);
    }
}
