//! Reading back what is oldest.

use super::Queue;
use super::frame::{self, Kind};
use super::mark::Position;
use super::segment::{self, Reader};
use std::io;

/// Most different kinds in one [`Gathered`].
const KINDS_LIMIT: usize = 1024;

/// Some items of one kind, read back for sending.
#[derive(Debug)]
pub struct Batch {
    /// What the items are.
    pub kind: Kind,
    /// The items, joined by commas.
    pub items: Vec<u8>,
    /// How many; 0 when only damage was found and there is nothing to send.
    pub count: u64,
    /// When the oldest frame was sealed, milliseconds since 1970.
    pub oldest_ms: u64,
    /// Bytes of damaged frames that were stepped over on the way.
    pub skipped: u64,
    pub(super) end: Position,
}

/// What is oldest, sorted by kind.
#[derive(Debug)]
pub struct Gathered {
    /// The items of each kind, joined by commas, in the order in which the kinds came.
    pub parts: Vec<(Kind, Vec<u8>)>,
    /// All of it, for [`Queue::delivered`]; its own `kind` and `items` are empty.
    pub whole: Batch,
}

impl From<Batch> for Gathered {
    fn from(mut batch: Batch) -> Gathered {
        let items = std::mem::take(&mut batch.items);
        let parts = match items.is_empty() {
            true => Vec::new(),
            false => vec![(batch.kind.clone(), items)],
        };
        Gathered {
            parts,
            whole: batch,
        }
    }
}

impl Queue {
    /// Reads what is oldest: frames of one kind, up to about `limit` bytes of items, at least one
    /// frame. `None` when everything is delivered. Reading again without [`Queue::delivered`]
    /// gives the same.
    pub fn read(&self, limit: usize) -> io::Result<Option<Batch>> {
        let batch = |mut gathered: Gathered| match gathered.parts.pop() {
            Some((kind, items)) => Batch {
                kind,
                items,
                ..gathered.whole
            },
            None => gathered.whole,
        };
        Ok(self.gather(limit, 1)?.map(batch))
    }

    /// As [`Queue::read`], but of all kinds that come one after the other: sources that take turns
    /// shall not make a request of each turn.
    pub fn read_mixed(&self, limit: usize) -> io::Result<Option<Gathered>> {
        self.gather(limit, KINDS_LIMIT)
    }

    fn gather(&self, limit: usize, kinds: usize) -> io::Result<Option<Gathered>> {
        let (start, segments) = {
            let state = self.lock();
            let list: Vec<_> = state.segments.iter().map(|s| (s.id, s.bytes)).collect();
            (state.delivered, list)
        };
        let mut whole = Batch {
            kind: Kind::new("", ""),
            items: Vec::new(),
            count: 0,
            oldest_ms: 0,
            skipped: 0,
            end: start,
        };
        let mut parts: Vec<(Kind, Vec<u8>)> = Vec::new();
        let mut bytes_taken = 0;
        for (id, bytes) in segments {
            let from = if id == start.segment { start.offset } else { 0 };
            let mut reader = match Reader::open(&segment::path(&self.dir, id), from, bytes) {
                Ok(reader) => reader,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    whole.skipped += self.vanished(id);
                    continue;
                }
                Err(e) => return Err(e),
            };
            while let Some(read) = reader.next_frame()? {
                let part = parts.iter().position(|(kind, _)| *kind == read.kind);
                let fits = bytes_taken + read.items.len() < limit
                    && (part.is_some() || parts.len() < kinds);
                if whole.count > 0 && !fits {
                    whole.end.offset = read.at;
                    whole.end.segment = id;
                    whole.skipped += reader.skipped;
                    return Ok(Some(Gathered { parts, whole }));
                }
                if whole.count == 0 {
                    whole.oldest_ms = read.head.sealed_ms;
                }
                whole.count += u64::from(read.head.count);
                whole.end = Position {
                    segment: id,
                    offset: read.at + (frame::HEAD + read.head.length) as u64,
                };
                bytes_taken += read.items.len();
                match part.and_then(|n| parts.get_mut(n)) {
                    Some((_, items)) => {
                        items.push(b',');
                        items.extend_from_slice(read.items);
                    }
                    None => parts.push((read.kind, read.items.to_vec())),
                }
            }
            whole.skipped += reader.skipped;
            whole.end = Position {
                segment: id,
                offset: bytes,
            };
        }
        let something = whole.count > 0 || whole.skipped > 0;
        Ok(something.then_some(Gathered { parts, whole }))
    }

    /// The file of a segment is gone. Bytes lost with it: none if we dropped it ourselves
    /// meanwhile; else somebody removed it, and what would still be written to it goes to a new one.
    fn vanished(&self, id: u64) -> u64 {
        let mut state = self.lock();
        let Some(at) = state.segments.iter().position(|s| s.id == id) else {
            return 0;
        };
        if at + 1 == state.segments.len() {
            state.writer = None;
        }
        let before = state.waiting;
        if let Some(gone) = state.segments.remove(at) {
            state.counts.bytes = state.counts.bytes.saturating_sub(gone.bytes);
        }
        self.recount(&mut state);
        before.saturating_sub(state.waiting)
    }
}
