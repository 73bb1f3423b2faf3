//! The way from lines to a queue.

use crate::agent::queue::Queue;
use crate::agent::queue::frame::Frame;
use log::{info, warn};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a queue that cannot be written to is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// How often one that is full is.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// One output's queue.
pub struct Outlet {
    queue: Arc<Queue>,
    refused: Option<Instant>,
    told: bool,
    /// Something was appended that may not be on the disk yet.
    pub unsynced: bool,
}

impl Outlet {
    /// To `queue`.
    pub fn new(queue: Arc<Queue>) -> Outlet {
        Outlet {
            queue,
            refused: None,
            told: false,
            unsynced: false,
        }
    }

    /// When it may be tried again; `None`: now.
    pub fn retry(&self, now: Instant) -> Option<Instant> {
        self.refused.filter(|at| *at > now)
    }

    /// Hands a frame over. False: it was not taken, nothing was written, and the lines must be read
    /// again. A full queue is not taken as a reason to drop what is oldest: files keep their lines.
    pub fn append(&mut self, frame: &mut Frame, now: Instant) -> bool {
        if frame.is_empty() {
            return true;
        }
        if !self.queue.has_room(frame.size()) {
            self.refused = Some(now + LOOK_AGAIN);
            return false;
        }
        match self.queue.append(frame) {
            Ok(()) => {
                if std::mem::take(&mut self.told) {
                    info!(
                        "the queue `{}` takes lines of files again",
                        self.queue.dir().display()
                    );
                }
                self.refused = None;
                self.unsynced = true;
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.told, true) {
                    warn!(
                        "cannot write to the queue `{}`: {error}; free some space: trying again each second, files wait and lose nothing",
                        self.queue.dir().display()
                    );
                }
                self.refused = Some(now + TRY_AGAIN);
                false
            }
        }
    }

    /// Brings everything onto the disk that was appended.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.unsynced {
            self.queue.sync()?;
            self.unsynced = false;
        }
        Ok(())
    }
}
