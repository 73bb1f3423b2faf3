//! One queue as an input sees it: the frame that is being filled, and what happens when the queue
//! does not take it.

use crate::agent::queue::Queue;
use crate::agent::queue::frame::{CLOSE_AT, Frame, Kind};
use crate::agent::queue::room::Full;
use log::{info, warn};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an item waits in memory for others.
const CLOSE_AFTER: Duration = Duration::from_millis(50);
/// How often a queue that refused is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// Bytes of items kept in memory while a queue refuses.
const HELD_LIMIT: usize = 4 * CLOSE_AT;
/// How long a queue that is full keeps senders waiting before its oldest items go: who logs must not
/// stand still for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// A queue and the frame for it.
pub struct Outlet {
    queue: Arc<Queue>,
    frame: Frame,
    refused: Option<Refused>,
    /// It kept senders waiting long enough: until there is room again, the oldest items go.
    drops: bool,
}

/// Since when the queue refuses, and what was lost meanwhile.
struct Refused {
    since: Instant,
    tried: Instant,
    lost: u64,
}

impl Outlet {
    /// For items of that kind.
    pub fn new(queue: &Arc<Queue>, kind: &Kind) -> Self {
        Outlet {
            queue: Arc::clone(queue),
            frame: Frame::new(kind),
            refused: None,
            drops: false,
        }
    }

    /// It takes nothing now: who can wait should.
    pub fn refuses(&self) -> bool {
        self.refused.is_some()
    }

    /// Where the next item goes; `None`: too many are held already, and it is lost.
    pub fn frame(&mut self) -> Option<&mut Frame> {
        if let Some(refused) = &mut self.refused
            && self.frame.size() >= HELD_LIMIT
        {
            refused.lost += 1;
            return None;
        }
        Some(&mut self.frame)
    }

    /// Large enough to be handed over now.
    pub fn is_ready(&self) -> bool {
        self.frame.is_full() && self.refused.is_none()
    }

    /// When it should be handed over.
    pub fn due(&self) -> Option<Instant> {
        match &self.refused {
            Some(refused) => Some(refused.tried + TRY_AGAIN),
            None if self.frame.is_empty() => None,
            None => Some(self.frame.begun() + CLOSE_AFTER),
        }
    }

    /// Something that must not be left in memory.
    pub fn holds_any(&self) -> bool {
        !self.frame.is_empty()
    }

    /// Hands the frame to the queue; true when it took it. `waits`: those whose items these are can
    /// be kept waiting.
    pub fn close(&mut self, now: Instant, waits: bool) -> bool {
        if self.drops && self.queue.has_room(CLOSE_AT) {
            self.drops = false;
        }
        let full = match waits && !self.drops {
            true => Full::Refuse,
            false => Full::DropOldest,
        };
        let error = match (
            self.queue.append_unless(&mut self.frame, full),
            &self.refused,
        ) {
            (Ok(()), None) => return true,
            (Ok(()), Some(refused)) => {
                info!(
                    "the queue `{}` takes data again; {} messages were lost meanwhile",
                    self.queue.dir().display(),
                    refused.lost
                );
                self.refused = None;
                return true;
            }
            (Err(error), _) => error,
        };
        let refused = self.refused.get_or_insert_with(|| {
            let what = match error.kind() {
                ErrorKind::QuotaExceeded => "streams wait for up to 30 s, then its oldest items go",
                _ => {
                    "free some space: trying again each second, streams wait, datagrams may be lost"
                }
            };
            warn!(
                "cannot write to the queue `{}`: {error}; {what}",
                self.queue.dir().display()
            );
            Refused {
                since: now,
                tried: now,
                lost: 0,
            }
        });
        refused.tried = now;
        if error.kind() == ErrorKind::QuotaExceeded && now >= refused.since + PATIENCE {
            self.drops = true;
            return self.close(now, false);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::queue::SMALLEST_LIMIT;
    use crate::agent::queue::shares::Origin;

    fn fill(outlet: &mut Outlet) {
        while !outlet.frame.is_full() {
            let item = format!("{{\"x\":\"{}\"}}", "y".repeat(4000));
            let frame = outlet.frame().unwrap();
            frame.push(Origin(0), |out| out.extend_from_slice(item.as_bytes()));
        }
    }

    #[test]
    fn a_full_queue_waits_for_those_who_can_and_then_drops_its_oldest() {
        let dir = tempfile::tempdir().unwrap();
        let (queue, _) = Queue::open(&dir.path().join("q"), 8 * SMALLEST_LIMIT).unwrap();
        let mut outlet = Outlet::new(&Arc::new(queue), &Kind::new("A", "B"));
        let begun = Instant::now();
        while !outlet.refuses() {
            fill(&mut outlet);
            outlet.close(begun, true);
        }
        assert_eq!(outlet.queue.counts().dropped, 0);
        assert_eq!(outlet.due(), Some(begun + TRY_AGAIN));
        outlet.close(begun + PATIENCE - TRY_AGAIN, true);
        assert!(outlet.refuses() && outlet.queue.counts().dropped == 0);
        outlet.close(begun + PATIENCE, true);
        assert!(!outlet.refuses() && outlet.queue.counts().dropped > 0);
        // It goes on so, until there is room again.
        let dropped = outlet.queue.counts().dropped;
        for _ in 0..8 {
            fill(&mut outlet);
            outlet.close(begun + PATIENCE, true);
            assert!(!outlet.refuses());
        }
        assert!(outlet.queue.counts().dropped > dropped);
        let dropped = outlet.queue.counts().dropped;
        while let Some(batch) = outlet.queue.read(1 << 20).unwrap() {
            outlet.queue.delivered(&batch).unwrap();
        }
        while !outlet.refuses() {
            fill(&mut outlet);
            outlet.close(begun + PATIENCE, true);
        }
        assert_eq!(outlet.queue.counts().dropped, dropped);
    }

    #[test]
    fn what_a_queue_refuses_is_kept_within_the_limit_and_goes_there_when_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let (queue, _) = Queue::open(&dir.path().join("q"), 1 << 20).unwrap();
        let mut outlet = Outlet::new(&Arc::new(queue), &Kind::new("A", "B"));
        let now = Instant::now();
        outlet.refused = Some(Refused {
            since: now,
            tried: now,
            lost: 0,
        });
        let mut taken = 0;
        for _ in 0..4000 {
            if let Some(frame) = outlet.frame() {
                frame.push(Origin(0), |out| out.extend_from_slice(&[b'1'; 100]));
                taken += 1;
            }
        }
        let lost = outlet.refused.as_ref().map(|r| r.lost);
        assert!(taken < 4000 && lost == Some(4000 - taken));
        assert!(outlet.frame.size() < HELD_LIMIT + 200 && !outlet.is_ready());
        assert_eq!(outlet.queue.counts().appended, 0);
        assert!(outlet.close(now, false) && !outlet.refuses());
        assert_eq!(outlet.queue.counts().appended, taken);
    }

    #[test]
    fn datagrams_do_not_wait() {
        let dir = tempfile::tempdir().unwrap();
        let (queue, _) = Queue::open(&dir.path().join("q"), SMALLEST_LIMIT).unwrap();
        let mut outlet = Outlet::new(&Arc::new(queue), &Kind::new("A", "B"));
        for _ in 0..20 {
            fill(&mut outlet);
            outlet.close(Instant::now(), false);
            assert!(!outlet.refuses());
        }
        assert!(outlet.queue.counts().dropped > 0);
    }
}
