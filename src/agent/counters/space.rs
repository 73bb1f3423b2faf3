//! How full file systems are: `statvfs`, which waits for ever where a server or a disk does not
//! answer. So another thread asks, and nobody waits for it longer than a moment.

use crate::host::layout::Layout;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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

type Ask = fn(&Path) -> Option<Space>;

/// Asks file systems how full they are.
pub struct Spaces {
    ask: Ask,
    worker: Option<Worker>,
    /// Threads that have not come back, and what they were asked.
    hung: Vec<(PathBuf, Worker)>,
}

/// A thread that asks.
struct Worker(Arc<Desk>);

/// What lies between it and us.
#[derive(Default)]
struct Desk {
    turn: Mutex<Turn>,
    changed: Condvar,
}

#[derive(Default)]
enum Turn {
    #[default]
    Nothing,
    Question(PathBuf),
    Answer(Option<Space>),
    End,
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
            hung: Vec::new(),
        }
    }

    /// Of the file system at `point`; `None` when it cannot be had soon.
    pub fn of(&mut self, point: &str, layout: &Layout) -> Option<Space> {
        let path = layout.path(point);
        if let Some(place) = self.hung.iter().position(|(asked, _)| *asked == path) {
            let late = self.hung[place].1.answer(Duration::ZERO)?;
            log::info!("the file system at `{point}` answers again");
            let (_, worker) = self.hung.swap_remove(place);
            self.worker.get_or_insert(worker);
            return late;
        }
        if self.hung.len() >= HUNG_LIMIT {
            // Perhaps one of those that nobody asks about any more.
            self.hung
                .retain(|(_, worker)| worker.answer(Duration::ZERO).is_none());
            if self.hung.len() >= HUNG_LIMIT {
                return None;
            }
        }
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => Worker::start(self.ask)?,
        };
        worker.0.put(Turn::Question(path.clone()));
        match worker.answer(PATIENCE) {
            Some(space) => {
                self.worker = Some(worker);
                space
            }
            None => {
                log::warn!(
                    "the file system at `{point}` does not answer: its space is left out until it does"
                );
                self.hung.push((path, worker));
                None
            }
        }
    }
}

impl Desk {
    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, turn: Turn) {
        *self.turn() = turn;
        self.changed.notify_all();
    }
}

impl Worker {
    fn start(ask: Ask) -> Option<Worker> {
        let desk = Arc::new(Desk::default());
        let worker = Worker(Arc::clone(&desk));
        let work = move || {
            let _ = crate::agent::signals::block();
            let mut turn = desk.turn();
            loop {
                match &*turn {
                    Turn::End => return,
                    Turn::Question(path) => {
                        let path = path.clone();
                        drop(turn);
                        let answer = ask(&path);
                        turn = desk.turn();
                        if let Turn::Question(_) = *turn {
                            *turn = Turn::Answer(answer);
                            desk.changed.notify_all();
                        }
                    }
                    Turn::Nothing | Turn::Answer(_) => {
                        let woken = desk.changed.wait(turn);
                        turn = woken.unwrap_or_else(PoisonError::into_inner);
                    }
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("statvfs".to_owned())
            .stack_size(STACK);
        thread.spawn(work).ok()?;
        Some(worker)
    }

    /// Its answer, if it comes within that time.
    fn answer(&self, patience: Duration) -> Option<Option<Space>> {
        let turn = self.0.turn();
        let there = |turn: &mut Turn| !matches!(turn, Turn::Answer(_));
        let waited = self.0.changed.wait_timeout_while(turn, patience, there);
        let (mut turn, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match &*turn {
            Turn::Answer(space) => {
                let space = *space;
                *turn = Turn::Nothing;
                Some(space)
            }
            _ => None,
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.put(Turn::End);
    }
}

fn ask(path: &Path) -> Option<Space> {
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
