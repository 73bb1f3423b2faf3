//! The bounded queue of one destination, on disk.
//!
//! A record is written once, in the form in which it will be sent. `DIR/<number>.seg` hold
//! [`frame`]s, `DIR/delivered` says how far the far end has taken them, `DIR/lock` keeps a second
//! agent out. Segments that are delivered are removed whole; over the limit the oldest one goes,
//! counted. A crash loses what was not yet handed to [`Queue::append`]; a power cut, what was not
//! yet [`Queue::sync`]ed; a torn tail is cut and its size reported.

pub mod frame;
mod mark;
mod reading;
mod recovery;
pub mod room;
pub mod segment;
pub mod shares;

use anyhow::{Context, Result, bail};
use frame::Frame;
use mark::{Mark, Position};
pub use reading::{Batch, Gathered};
use room::Full;
use segment::{MARK, Reader};
use shares::{Origin, Shares};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Largest segment; a small queue has smaller ones, so that dropping one is not dropping all.
const SEGMENT_LIMIT: u64 = 4 << 20;
/// A queue has at least this many segments when it is full.
const SEGMENTS_AT_LEAST: u64 = 8;
/// Smallest limit that makes sense.
pub const SMALLEST_LIMIT: u64 = 64 << 10;

/// What was found on opening.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Bytes waiting from an earlier run.
    pub waiting: u64,
    /// Bytes of a torn tail that were cut off.
    pub torn: u64,
}

/// Figures for people.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Items appended in this run.
    pub appended: u64,
    /// Items acknowledged in this run.
    pub delivered: u64,
    /// Items given up because the queue was full, in this run.
    pub dropped: u64,
    /// Bytes of queue files.
    pub bytes: u64,
}

/// The queue. Shared by those who append and the one thread that sends.
pub struct Queue {
    dir: PathBuf,
    limit: u64,
    segment_limit: u64,
    state: Mutex<State>,
    changed: Condvar,
    /// Held while files are brought onto the disk: who comes second must not return before that.
    syncing: Mutex<()>,
    _lock: nix::fcntl::Flock<File>,
}

struct State {
    segments: VecDeque<Segment>,
    writer: Option<Arc<File>>,
    unsynced: Vec<Arc<File>>,
    mark: Mark,
    delivered: Position,
    next_seq: u64,
    counts: Counts,
    shares: Shares,
    waiting: u64,
    waiting_since: Option<Instant>,
    /// Bytes of what waits that were old enough when [`Queue::wait`] looked: a batch holds one kind,
    /// and what is behind it has waited as long.
    due: u64,
    enough: u64,
}

struct Segment {
    id: u64,
    bytes: u64,
}

impl Queue {
    /// Opens or makes the queue in `dir` (made if missing, 0750); `limit` bounds its files.
    pub fn open(dir: &Path, limit: u64) -> Result<(Self, Recovery)> {
        let what = || format!("cannot open the queue `{}`", dir.display());
        match std::fs::DirBuilder::new().mode(0o750).create(dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e).with_context(what),
            _ => {}
        }
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o640)
            .open(dir.join("lock"))
            .with_context(what)?;
        let lock = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusiveNonblock);
        let Ok(lock) = lock else {
            bail!("{}: another agent is using it", what());
        };
        let (mut mark, stored) = Mark::open(&dir.join("delivered")).with_context(what)?;
        let (mut segments, torn, mut next_seq) = recovery::recover(dir).with_context(what)?;
        let mut delivered = Position::default();
        if let Some((position, seq)) = stored {
            next_seq = next_seq.max(seq);
            delivered = position;
            // The mark was stored, the files it passed were not yet removed.
            while segments.front().is_some_and(|s| s.id < delivered.segment) {
                let gone = segments.pop_front();
                remove(dir, gone);
            }
        }
        if let Some(oldest) = segments.front()
            && oldest.id != delivered.segment
        {
            delivered = Position {
                segment: oldest.id,
                offset: 0,
            };
        }
        delivered.offset = match segments.front() {
            Some(s) => delivered.offset.clamp(MARK.len() as u64, s.bytes),
            None => 0,
        };
        mark.store(delivered, next_seq).with_context(what)?;
        let bytes: u64 = segments.iter().map(|s| s.bytes).sum();
        let marks = segments.len().saturating_sub(1) * MARK.len();
        let waiting = bytes.saturating_sub(delivered.offset + marks as u64);
        let limit = limit.max(SMALLEST_LIMIT);
        let queue = Queue {
            dir: dir.to_owned(),
            limit,
            segment_limit: SEGMENT_LIMIT.min(limit / SEGMENTS_AT_LEAST),
            state: Mutex::new(State {
                segments,
                writer: None,
                unsynced: Vec::new(),
                mark,
                delivered,
                next_seq,
                counts: Counts {
                    bytes,
                    ..Counts::default()
                },
                shares: Shares::default(),
                waiting,
                waiting_since: (waiting > 0).then(Instant::now),
                due: 0,
                enough: u64::MAX,
            }),
            changed: Condvar::new(),
            syncing: Mutex::new(()),
            _lock: lock,
        };
        Ok((queue, Recovery { waiting, torn }))
    }

    /// Writes a frame and empties it; where the queue is full, the oldest items go. On an error (a
    /// full disk above all) nothing was written and the frame keeps its items: try again later.
    pub fn append(&self, frame: &mut Frame) -> io::Result<()> {
        self.append_unless(frame, Full::DropOldest)
    }

    /// [`Queue::append`], with a choice of what happens when the queue is full.
    pub fn append_unless(&self, frame: &mut Frame, full: Full) -> io::Result<()> {
        if frame.is_empty() {
            return Ok(());
        }
        let mut state = self.lock();
        let size = frame.size() as u64;
        let over = state.counts.bytes + size > self.limit && state.segments.len() > 1;
        if full == Full::Refuse && over && state.waiting > 0 {
            let what = format!("it is full: {} of {} bytes", state.counts.bytes, self.limit);
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, what));
        }
        room::check(&self.dir, size, state.waiting)?;
        self.make_room(&mut state, size);
        let full = state
            .segments
            .back()
            .is_none_or(|s| s.bytes > MARK.len() as u64 && s.bytes + size > self.segment_limit);
        let writer = match &state.writer {
            Some(writer) if !full => Arc::clone(writer),
            _ => self.begin_segment(&mut state)?,
        };
        let seq = state.next_seq;
        let written = (&*writer).write_all(frame.seal(seq));
        let at = state.segments.back().map_or(0, |s| s.bytes);
        if let Err(error) = written {
            // Take back what a full disk let through; if even that fails, the next frame goes to
            // a new file and the reader stops at the length it knows.
            if writer.set_len(at).is_err() {
                state.writer = None;
            }
            return Err(error);
        }
        if let Some(segment) = state.segments.back_mut() {
            segment.bytes += size;
            let segment = segment.id;
            let place = |offset| Position { segment, offset };
            state
                .shares
                .appended(place(at), place(at + size), frame.parts());
        }
        state.next_seq += 1;
        state.counts.bytes += size;
        state.counts.appended += u64::from(frame.count());
        if !state.unsynced.iter().any(|f| Arc::ptr_eq(f, &writer)) {
            state.unsynced.push(writer);
        }
        let before = state.waiting;
        state.waiting += size;
        if state.waiting_since.is_none() {
            state.waiting_since = Some(Instant::now());
        }
        if before == 0 || (before < state.enough && state.waiting >= state.enough) {
            self.changed.notify_all();
        }
        drop(state);
        frame.clear();
        Ok(())
    }

    /// Waits until there is something to send: `enough` bytes, or anything that has waited for
    /// `age`. False when `stop` became true (see [`Queue::wake`]).
    pub fn wait(&self, enough: u64, age: Duration, stop: impl Fn() -> bool) -> bool {
        let mut state = self.lock();
        state.enough = enough;
        loop {
            if stop() {
                return false;
            }
            let left = match state.waiting_since {
                Some(_) if state.waiting >= enough || state.due > 0 => return true,
                Some(since) => match age.checked_sub(since.elapsed()) {
                    None | Some(Duration::ZERO) => {
                        state.due = state.waiting;
                        return true;
                    }
                    left => left,
                },
                None => None,
            };
            state = match left {
                None => recovered(self.changed.wait(state)),
                Some(left) => recovered(self.changed.wait_timeout(state, left)).0,
            };
        }
    }

    /// Sleeps for `time`, or until `stop` becomes true.
    pub fn pause(&self, time: Duration, stop: impl Fn() -> bool) {
        let until = Instant::now() + time;
        let mut state = self.lock();
        while !stop() {
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                return;
            };
            state = recovered(self.changed.wait_timeout(state, left)).0;
        }
    }

    /// Makes [`Queue::wait`] and [`Queue::pause`] look at their `stop` again.
    pub fn wake(&self) {
        let _state = self.lock();
        self.changed.notify_all();
    }

    /// The far end has taken this batch: it is removed, now or with the rest of its segment.
    /// An error means that a restart would send it again; this run goes on behind it.
    pub fn delivered(&self, batch: &Batch) -> io::Result<()> {
        let mut state = self.lock();
        state.counts.delivered += batch.count;
        if batch.end <= state.delivered {
            return Ok(()); // dropped meanwhile
        }
        let next_seq = state.next_seq;
        // Before any file goes: a crash in between must not lead to a mark without its segment.
        let stored = state.mark.store(batch.end, next_seq);
        state.delivered = batch.end;
        state.shares.delivered(batch.end);
        let writing = state.writer.is_some();
        while let Some(oldest) = state.segments.front() {
            let passed = oldest.id < batch.end.segment;
            let done = oldest.id == batch.end.segment
                && batch.end.offset >= oldest.bytes
                && !(writing && state.segments.len() == 1);
            if !passed && !done {
                break;
            }
            self.remove_oldest(&mut state);
        }
        self.recount(&mut state);
        stored
    }

    /// Brings what is not delivered yet onto the disk. Cheap when there is nothing. When it returns,
    /// all that was appended before is there, or was delivered, or dropped as the oldest.
    pub fn sync(&self) -> io::Result<()> {
        let _one_at_a_time = recovered(self.syncing.lock());
        let files = {
            let mut state = self.lock();
            let files = std::mem::take(&mut state.unsynced);
            if state.waiting == 0 {
                Vec::new()
            } else {
                files
            }
        };
        if let Err(error) = files.iter().try_for_each(|file| file.sync_data()) {
            self.lock().unsynced.extend(files);
            return Err(error);
        }
        if !files.is_empty() {
            crate::base::files::sync_dir(&self.dir);
        }
        Ok(())
    }

    /// Is there room for so many bytes without dropping the oldest? A quarter is left to those who
    /// cannot wait; an empty queue always has room.
    pub fn has_room(&self, bytes: usize) -> bool {
        let state = self.lock();
        let then = state.counts.bytes + bytes as u64 + 2 * self.segment_limit;
        state.waiting == 0 || then <= self.limit
    }

    /// Figures for people.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Items of this input that were acknowledged, of those appended in this run.
    pub fn sent(&self, origin: Origin) -> u64 {
        self.lock().shares.sent(origin)
    }

    /// Bytes not delivered yet.
    pub fn waiting(&self) -> u64 {
        self.lock().waiting
    }

    /// How long the oldest of it has waited, as far as this run knows; `None` when nothing waits.
    pub fn waiting_for(&self) -> Option<Duration> {
        self.lock().waiting_since.map(|since| since.elapsed())
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        recovered(self.state.lock())
    }

    fn begin_segment(&self, state: &mut State) -> io::Result<Arc<File>> {
        let create = |id| {
            OpenOptions::new()
                .append(true)
                .create_new(true)
                .mode(0o640)
                .open(segment::path(&self.dir, id))
        };
        // A file of that number is there only when an earlier write failed and could not be
        // taken back: leave it to the reader.
        let file = match create(state.next_seq) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                state.next_seq += 1;
                create(state.next_seq)?
            }
            made => made?,
        };
        let id = state.next_seq;
        if let Err(error) = (&file).write_all(&MARK) {
            let _ = std::fs::remove_file(segment::path(&self.dir, id));
            return Err(error);
        }
        let file = Arc::new(file);
        let bytes = MARK.len() as u64;
        // The one that was being written may be delivered already.
        if state.waiting == 0 {
            while !state.segments.is_empty() {
                self.remove_oldest(state);
            }
            state.delivered = Position {
                segment: id,
                offset: bytes,
            };
        }
        state.segments.push_back(Segment { id, bytes });
        state.counts.bytes += bytes;
        state.writer = Some(Arc::clone(&file));
        Ok(file)
    }

    /// Over the limit the oldest segment goes.
    fn make_room(&self, state: &mut State, size: u64) {
        while state.counts.bytes + size > self.limit && state.segments.len() > 1 {
            let Some(oldest) = state.segments.front() else {
                break;
            };
            let from = match state.delivered.segment == oldest.id {
                true => state.delivered.offset,
                false => 0,
            };
            let path = segment::path(&self.dir, oldest.id);
            let lost = Reader::open(&path, from, oldest.bytes).and_then(Reader::count_items);
            state.counts.dropped += lost.unwrap_or(0);
            self.remove_oldest(state);
            if let Some(next) = state.segments.front() {
                state.delivered = Position {
                    segment: next.id,
                    offset: MARK.len() as u64,
                };
            }
            let gone_to = state.delivered;
            state.shares.dropped(gone_to);
            self.recount(state);
        }
    }

    fn remove_oldest(&self, state: &mut State) {
        if let Some(gone) = state.segments.pop_front() {
            state.counts.bytes = state.counts.bytes.saturating_sub(gone.bytes);
            if state.segments.is_empty() {
                state.writer = None;
            }
            remove(&self.dir, Some(gone));
        }
    }

    fn recount(&self, state: &mut State) {
        let before = state.waiting;
        state.waiting = state
            .segments
            .iter()
            .map(|s| match s.id == state.delivered.segment {
                true => s.bytes.saturating_sub(state.delivered.offset),
                false if s.id < state.delivered.segment => 0,
                false => s.bytes.saturating_sub(MARK.len() as u64),
            })
            .sum();
        state.due = state
            .due
            .saturating_sub(before.saturating_sub(state.waiting));
        state.waiting_since = (state.waiting > 0).then(Instant::now);
        if state.waiting == 0 {
            state.unsynced.clear();
        }
    }
}

fn remove(dir: &Path, gone: Option<Segment>) {
    if let Some(gone) = gone {
        let _ = std::fs::remove_file(segment::path(dir, gone.id));
    }
}

/// A panic elsewhere does not make the data worse.
fn recovered<T>(result: Result<T, PoisonError<T>>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
