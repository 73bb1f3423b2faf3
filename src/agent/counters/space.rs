//! How full file systems are: `statvfs`, which waits for ever where a server or a disk does not
//! answer. So another thread asks, and nobody waits for it longer than a moment.

use crate::host::layout::Layout;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::time::Duration;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(300);
/// Most file systems that keep a thread waiting, each its own; the next one has to wait for these.
pub const HUNG_LIMIT: usize = 8;
/// Stack of a thread that asks.
const STACK: usize = 64 << 10;

/// What a file system says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes in a block.
    pub block: u64,
    /// Blocks.
    pub blocks: u64,
    /// Those that nothing is in.
    pub free: u64,
    /// Those of them that are for everybody.
    pub available: u64,
    /// Inodes; 0: it does not count them.
    pub inodes: u64,
    /// Those that are free.
    pub inodes_free: u64,
}

type Ask = fn(&std::path::Path) -> Option<Space>;

/// Asks file systems how full they are.
pub struct Spaces {
    ask: Ask,
    worker: Option<Worker>,
    /// Threads that never came back, by what they were asked.
    hung: HashMap<PathBuf, Worker>,
}

struct Worker {
    questions: Sender<PathBuf>,
    answers: Receiver<Option<Space>>,
}

impl Default for Spaces {
    fn default() -> Self {
        Spaces::asking(ask)
    }
}

impl Spaces {
    fn asking(ask: Ask) -> Spaces {
        Spaces {
            ask,
            worker: None,
            hung: HashMap::new(),
        }
    }

    /// Of the file system at `point`; `None` when it cannot be had soon.
    pub fn of(&mut self, point: &str, layout: &Layout) -> Option<Space> {
        let path = layout.path(point);
        if let Some(worker) = self.hung.remove(&path) {
            match worker.answers.try_recv() {
                Ok(late) => {
                    log::info!("the file system at `{point}` answers again");
                    self.worker.get_or_insert(worker);
                    return late;
                }
                Err(_) => {
                    self.hung.insert(path, worker);
                    return None;
                }
            }
        }
        if self.hung.len() >= HUNG_LIMIT {
            // Perhaps one of those that nobody asks about any more.
            let hangs = |w: &Worker| matches!(w.answers.try_recv(), Err(TryRecvError::Empty));
            self.hung.retain(|_, worker| hangs(worker));
            if self.hung.len() >= HUNG_LIMIT {
                return None;
            }
        }
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => Worker::start(self.ask)?,
        };
        worker.questions.send(path.clone()).ok()?;
        match worker.answers.recv_timeout(PATIENCE) {
            Ok(space) => {
                self.worker = Some(worker);
                space
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                log::warn!(
                    "the file system at `{point}` does not answer: its space is left out until it does"
                );
                self.hung.insert(path, worker);
                None
            }
        }
    }
}

impl Worker {
    fn start(ask: Ask) -> Option<Worker> {
        let (questions, asked) = channel::<PathBuf>();
        let (answer, answers) = channel();
        let work = move || {
            let _ = crate::agent::signals::block();
            for path in asked {
                if answer.send(ask(&path)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("statvfs".to_owned())
            .stack_size(STACK);
        thread.spawn(work).ok()?;
        Some(Worker { questions, answers })
    }
}

fn ask(path: &std::path::Path) -> Option<Space> {
    let found = nix::sys::statvfs::statvfs(path).ok()?;
    Some(Space {
        block: found.fragment_size(),
        blocks: found.blocks(),
        free: found.blocks_free(),
        available: found.blocks_available(),
        inodes: found.files(),
        inodes_free: found.files_free(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::sync::Mutex;

    /// Held: `/hung...` does not answer.
    static DEAD: Mutex<()> = Mutex::new(());

    fn slow(path: &Path) -> Option<Space> {
        if path.to_string_lossy().starts_with("/hung") {
            drop(DEAD.lock().unwrap());
        }
        ask(Path::new("/"))
    }

    #[test]
    fn one_that_hangs_stops_nobody_and_may_come_back() {
        let layout = Layout::new("/");
        let mut spaces = Spaces::asking(slow);
        let dead = DEAD.lock().unwrap();
        assert_eq!(spaces.of("/hung0", &layout), None);
        assert!(spaces.of("/tmp", &layout).is_some());
        assert_eq!(spaces.of("/hung0", &layout), None, "is not asked again");
        for n in 1..HUNG_LIMIT {
            assert_eq!(spaces.of(&format!("/hung{n}"), &layout), None);
        }
        assert_eq!(spaces.of("/tmp", &layout), None, "too many wait");
        assert_eq!(spaces.hung.len(), HUNG_LIMIT);
        drop(dead);
        let until = std::time::Instant::now() + Duration::from_secs(30);
        while spaces.of("/hung0", &layout).is_none() {
            assert!(std::time::Instant::now() < until);
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(spaces.of("/tmp", &layout).is_some());
    }

    #[test]
    fn a_place_that_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut spaces = Spaces::default();
        let layout = Layout::new(dir.path());
        assert_eq!(spaces.of("/nosuch", &layout), None);
        assert!(spaces.of("/", &layout).unwrap().blocks > 0);
    }
}
