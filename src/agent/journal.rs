//! omsagent.log: lines `YYYY-MM-DD hh:mm:ss +zzzz [level]: text`, as the original writes them.
//! A line that repeats the one before is counted and told once.

use crate::agent::quality::Gathered;
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long a repeated line is only counted.
const TELL_AFTER: Duration = Duration::from_secs(600);
/// Longest line.
const LINE_LIMIT: usize = 4096;

/// Who counts errors.
static GATHERED: OnceLock<Arc<Gathered>> = OnceLock::new();

/// Errors that are logged from now on are counted there, too.
pub fn count_errors(gathered: &Arc<Gathered>) {
    let _ = GATHERED.set(Arc::clone(gathered));
}

/// Where lines go.
pub struct Journal {
    state: Mutex<State>,
}

struct State {
    to: To,
    last: String,
    repeated: u64,
    since: Instant,
}

enum To {
    Stderr,
    File { path: PathBuf, file: File },
}

impl Journal {
    /// Appends to a file (made 0640), which may be rotated away: the next line goes to a new one.
    pub fn to_file(path: &Path) -> std::io::Result<Journal> {
        let to = To::File {
            path: path.to_owned(),
            file: open(path)?,
        };
        Ok(Journal::to(to))
    }

    /// Writes to standard error.
    pub fn to_stderr() -> Journal {
        Journal::to(To::Stderr)
    }

    fn to(to: To) -> Journal {
        Journal {
            state: Mutex::new(State {
                to,
                last: String::new(),
                repeated: 0,
                since: Instant::now(),
            }),
        }
    }

    /// Makes it the process's log. Only the first one counts.
    pub fn install(self, level: LevelFilter) {
        if log::set_boxed_logger(Box::new(self)).is_ok() {
            log::set_max_level(level);
        }
    }

    fn line(&self, level: Level, text: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("[{}]: {}", name(level), one_line(text));
        if line == state.last && state.since.elapsed() < TELL_AFTER {
            state.repeated += 1;
            return;
        }
        state.tell_repeats();
        state.write(&line);
        state.last = line;
        state.since = Instant::now();
    }
}

impl State {
    fn tell_repeats(&mut self) {
        if self.repeated > 0 {
            let text = format!(
                "[info]: the line above was repeated {} times",
                self.repeated
            );
            self.repeated = 0;
            self.write(&text);
        }
    }

    fn write(&mut self, line: &str) {
        let now = jiff::Zoned::now();
        let line = format!("{} {line}\n", now.strftime("%Y-%m-%d %H:%M:%S %z"));
        match &mut self.to {
            To::Stderr => crate::base::out::err_line(line.trim_end()),
            To::File { path, file } => {
                if !same(path, file)
                    && let Ok(new) = open(path)
                {
                    *file = new;
                }
                let _ = file.write_all(line.as_bytes());
            }
        }
    }
}

impl Log for Journal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("omsagent")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let text = record.args().to_string();
            if record.level() == Level::Error
                && let Some(gathered) = GATHERED.get()
            {
                gathered.error(&one_line(&text));
            }
            self.line(record.level(), &text);
        }
    }

    fn flush(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.tell_repeats();
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
        .open(path)
}

/// Is what we hold still what the name says?
fn same(path: &Path, file: &File) -> bool {
    match (std::fs::symlink_metadata(path), file.metadata()) {
        (Ok(a), Ok(b)) => a.dev() == b.dev() && a.ino() == b.ino(),
        _ => false,
    }
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// No text from outside may begin a line of its own.
fn one_line(text: &str) -> String {
    let end = text.floor_char_boundary(LINE_LIMIT);
    text[..end]
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|l| l[26..].to_owned()).collect()
    }

    #[test]
    fn lines_repeats_and_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("omsagent.log");
        let journal = Journal::to_file(&path).unwrap();
        journal.line(Level::Info, "one");
        for _ in 0..3 {
            journal.line(Level::Warn, "two\nforged line");
        }
        journal.line(Level::Error, "three");
        let rotated = dir.path().join("omsagent.log.1");
        std::fs::rename(&path, &rotated).unwrap();
        journal.line(Level::Error, "three");
        journal.line(Level::Info, "four");
        assert_eq!(
            texts(&rotated),
            [
                "[info]: one",
                "[warn]: two forged line",
                "[info]: the line above was repeated 2 times",
                "[error]: three"
            ]
        );
        assert_eq!(
            texts(&path),
            [
                "[info]: the line above was repeated 1 times",
                "[info]: four"
            ]
        );
        let text = std::fs::read_to_string(&path).unwrap();
        let stamp = jiff::fmt::strtime::parse("%Y-%m-%d %H:%M:%S %z", &text[..25]);
        assert!(stamp.is_ok() && text.as_bytes()[25] == b' ', "{text}");
    }
}
