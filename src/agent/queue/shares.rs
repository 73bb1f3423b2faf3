//! Whose items wait in a queue: several inputs share one, and each wants to know how much of its
//! own the far end has taken. Kept in memory only, for what was appended in this run.

use super::mark::Position;
use std::collections::VecDeque;

/// Entries kept before neighbours in one segment become one, which is then known less finely.
const LIMIT: usize = 512;

/// An input, by a number that whoever fills frames chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin(pub usize);

/// How many items came from which input.
pub(super) type Parts = Vec<(Origin, u64)>;

/// Adds items of one input.
pub(super) fn count(parts: &mut Parts, origin: Origin, items: u64) {
    match parts.iter_mut().rfind(|(o, _)| *o == origin) {
        Some((_, n)) => *n += items,
        None => parts.push((origin, items)),
    }
}

/// What waits, in the queue's order, and what was taken of each input.
#[derive(Debug)]
pub(super) struct Shares {
    waiting: VecDeque<Waiting>,
    limit: usize,
    sent: Parts,
}

impl Default for Shares {
    fn default() -> Self {
        Shares {
            waiting: VecDeque::new(),
            limit: LIMIT,
            sent: Parts::new(),
        }
    }
}

#[derive(Debug)]
struct Waiting {
    begin: Position,
    end: Position,
    parts: Parts,
}

impl Shares {
    /// A frame was appended between these places.
    pub fn appended(&mut self, begin: Position, end: Position, parts: &Parts) {
        if self.waiting.len() >= self.limit {
            self.halve();
            self.limit = LIMIT.max(2 * self.waiting.len());
        }
        let parts = parts.clone();
        self.waiting.push_back(Waiting { begin, end, parts });
    }

    /// Everything before this place was taken.
    pub fn delivered(&mut self, to: Position) {
        while let Some(done) = self.waiting.pop_front_if(|w| w.end <= to) {
            for (origin, items) in done.parts {
                count(&mut self.sent, origin, items);
            }
        }
    }

    /// Everything before this place, the begin of a segment, was given up.
    pub fn dropped(&mut self, to: Position) {
        while self.waiting.pop_front_if(|w| w.begin < to).is_some() {}
    }

    /// How many items of this input were taken.
    pub fn sent(&self, origin: Origin) -> u64 {
        let found = self.sent.iter().find(|(o, _)| *o == origin);
        found.map_or(0, |(_, n)| *n)
    }

    fn halve(&mut self) {
        let mut old = std::mem::take(&mut self.waiting).into_iter().peekable();
        while let Some(mut first) = old.next() {
            if let Some(second) = old.next_if(|w| w.begin.segment == first.begin.segment) {
                first.end = second.end;
                for (origin, items) in second.parts {
                    count(&mut first.parts, origin, items);
                }
            }
            self.waiting.push_back(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Origin = Origin(0);
    const B: Origin = Origin(7);

    fn at(offset: u64) -> Position {
        Position { segment: 0, offset }
    }

    #[test]
    fn each_input_learns_what_was_taken_of_its_own() {
        let mut shares = Shares::default();
        shares.appended(at(0), at(10), &vec![(A, 3)]);
        shares.appended(at(10), at(20), &vec![(A, 1), (B, 2)]);
        shares.delivered(at(15));
        assert_eq!((shares.sent(A), shares.sent(B)), (3, 0));
        shares.delivered(at(20));
        assert_eq!((shares.sent(A), shares.sent(B)), (4, 2));
    }

    #[test]
    fn what_was_given_up_is_not_sent() {
        let mut shares = Shares::default();
        for n in 0..4 {
            shares.appended(at(n * 10), at(n * 10 + 10), &vec![(A, 1)]);
        }
        shares.dropped(at(20));
        shares.delivered(at(40));
        assert_eq!(shares.sent(A), 2);
    }

    #[test]
    fn a_long_outage_takes_bounded_memory_and_loses_no_count() {
        let mut shares = Shares::default();
        for n in 0..10_000 {
            shares.appended(at(n), at(n + 1), &vec![(A, 1), (B, 2)]);
            assert!(shares.waiting.len() <= 2 * LIMIT);
        }
        shares.delivered(at(10_000));
        assert_eq!((shares.sent(A), shares.sent(B)), (10_000, 20_000));
    }
}
