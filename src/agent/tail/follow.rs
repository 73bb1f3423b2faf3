//! A file that is followed.

use super::fingerprint::{Fingerprint, Id};
use super::lines::Cursor;
use super::positions::Record;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What is known of it. It is open only while there is reason to.
#[derive(Debug)]
pub struct Followed {
    /// Which source, counted from 0.
    pub source: usize,
    /// The name by which it was found.
    pub path: PathBuf,
    /// Where that led, if it was a link.
    pub real: Option<PathBuf>,
    /// The name it has now, once it was moved away.
    pub place: PathBuf,
    /// Which file.
    pub id: Id,
    /// Its first bytes, of those that were read.
    pub fingerprint: Fingerprint,
    /// How far it is in a queue.
    pub cursor: Cursor,
    /// Its length when it was looked at last.
    pub length: u64,
    /// When that was, milliseconds since 1970.
    pub looked_ms: u64,
    /// It was cut, and may be cut again before anything of it is read.
    pub may_be_cut: bool,
    /// Open.
    pub file: Option<File>,
    /// It is no longer what its name means, and is let go then.
    pub leaving: Option<Instant>,
    /// It waits for its turn.
    pub waits: bool,
    /// Its position is not written down.
    pub unsaved: bool,
    /// Counts up with each use.
    pub used: u64,
}

impl Followed {
    /// The name beside which its generations are.
    pub fn home(&self) -> &Path {
        self.real.as_deref().unwrap_or(&self.path)
    }

    /// What is written down of it.
    pub fn record(&self, time_ms: u64) -> Record {
        Record {
            path: self.path.clone(),
            real: self.real.clone(),
            id: self.id,
            fingerprint: self.fingerprint,
            offset: self.cursor.offset,
            time_ms,
        }
    }
}

/// Where a link leads; `None` when the name is the file's own.
pub fn real(path: &Path) -> Option<PathBuf> {
    let real = std::fs::canonicalize(path).ok()?;
    (real != path).then_some(real)
}
