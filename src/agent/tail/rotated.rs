//! Files that are no longer what their name means: where they went, and how long they are read on.

use super::fingerprint::{Fingerprint, Id};
use super::follow::{Followed, real};
use super::generations::{self, Generation};
use super::lines::Cursor;
use super::positions::Record;
use super::{Tailer, now_ms};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

impl Tailer {
    /// Its name means another file now, or none: it is read to its end, and then let go.
    pub(super) fn leave(&mut self, number: usize) {
        let now = Instant::now();
        let Some(file) = self.files.get_mut(&number) else {
            return;
        };
        let wait = self.sources.get(file.source).map(|s| s.config.rotate_wait);
        file.leaving = Some(now + wait.unwrap_or_default());
        let still = |path: &Path| generations::open_same(path, file.id).ok().flatten();
        let mut opened = false;
        if file.file.is_none() {
            opened = true;
            match still(&file.place) {
                Some(same) => file.file = Some(same),
                None => match generations::renamed(file.home(), file.id) {
                    Some((place, same)) => {
                        file.place = place;
                        file.file = Some(same);
                    }
                    None => opened = false,
                },
            }
        } else if let Some((place, _)) = generations::renamed(file.home(), file.id) {
            file.place = place;
        }
        let path = file.path.clone();
        if opened {
            self.opened(number);
        }
        self.unlist(number, &path);
        self.leaving.push(number);
        self.enqueue(number);
    }

    /// What the name meant before it meant the file `now`: those of which something is not read, the
    /// oldest first.
    pub(super) fn generations_of(
        &self,
        source: usize,
        path: &Path,
        records: Vec<Record>,
        scanned_ms: Option<u64>,
        now: Id,
        into: &mut Vec<(Generation, Record)>,
    ) {
        let homes: Vec<PathBuf> = records.iter().filter_map(|r| r.real.clone()).collect();
        let home = real(path).unwrap_or_else(|| path.to_owned());
        let mut since = scanned_ms;
        for record in records {
            let beside = record.real.as_deref().unwrap_or(path);
            let found = generations::open_same(beside, record.id).ok().flatten();
            let found = match found {
                Some(file) => Some((beside.to_owned(), file)),
                None => generations::renamed(beside, record.id),
            };
            since = since.max(Some(record.time_ms).filter(|t| *t > 0));
            let Some((place, file)) = found else { continue };
            let fits = record.fingerprint.fits(&file).unwrap_or(false);
            let longer = file.metadata().is_ok_and(|m| m.len() > record.offset);
            if fits && longer && !record.id.is(now) {
                into.push((Generation::of(place, file, record.id), record));
            }
        }
        // Those that came and went while nobody looked.
        let Some(since) = since else { return };
        for beside in [home].iter().chain(&homes) {
            let unknown = self.unknown(source, path, beside, since, now);
            let again = |g: &Generation| into.iter().any(|(known, _)| known.id == g.id);
            let unknown: Vec<_> = unknown.into_iter().filter(|(g, _)| !again(g)).collect();
            into.extend(unknown);
        }
    }

    /// Files that may have been called `path` and that nobody has read a byte of, oldest first.
    pub(super) fn unknown(
        &self,
        source: usize,
        path: &Path,
        beside: &Path,
        since_ms: u64,
        now: Id,
    ) -> Vec<(Generation, Record)> {
        let found = generations::later(beside, since_ms).into_iter();
        let found = found.filter(|g| g.id != now && !self.knows(source, g.id, &g.file));
        let whole = |generation: Generation| {
            let record = Record {
                path: path.to_owned(),
                real: None,
                id: generation.id,
                fingerprint: Fingerprint::default(),
                offset: 0,
                time_ms: 0,
            };
            (generation, record)
        };
        found.map(whole).collect()
    }

    /// Where the rest of a file is that was copied and cut, and then perhaps again: what is in the
    /// copies and was not read. `cut` says how far it was.
    pub(super) fn copies(
        &mut self,
        source: usize,
        home: &Path,
        cut: &Record,
        since_ms: Option<u64>,
    ) -> Vec<(Generation, Record)> {
        let mut found = Vec::new();
        let copy = generations::copy(home, cut.fingerprint, cut.offset);
        if let Some(copy) = copy.filter(|c| !self.knows(source, c.id, &c.file)) {
            let length = copy.file.metadata().map_or(0, |m| m.len());
            let record = Record {
                id: copy.id,
                real: None,
                ..cut.clone()
            };
            if length > cut.offset {
                found.push((copy, record));
            } else if let Some(positions) = self.positions_of(source) {
                // All that is in it was read: it is not to be taken for a file of its own.
                positions.set(Record {
                    time_ms: now_ms(),
                    ..record
                });
            }
        }
        if let Some(since) = since_ms {
            let unknown = self.unknown(source, &cut.path, home, since, cut.id);
            let again = |g: &Generation| found.iter().any(|(f, _)| f.id == g.id);
            let unknown: Vec<_> = unknown.into_iter().filter(|(g, _)| !again(g)).collect();
            found.extend(unknown);
        }
        found
    }

    /// Is the file followed, or was it?
    pub(super) fn knows(&self, source: usize, id: Id, file: &File) -> bool {
        if self.ids.contains_key(&(source, id)) {
            return true;
        }
        let positions = self.sources.get(source).map(|s| s.positions);
        let positions = positions.and_then(|n| self.positions.get(n));
        positions.is_some_and(|p| {
            let mut same = p.of_inode(id.ino).filter(|r| r.id.is(id));
            // All of it was read; one that has grown since is not done.
            let done = |r: &Record| file.metadata().is_ok_and(|m| m.len() <= r.offset);
            same.any(|r| {
                r.fingerprint.length > 0 && done(r) && r.fingerprint.fits(file).unwrap_or(false)
            })
        })
    }

    /// Reads the rest of a file that has another name now; `record` says how far it was read.
    pub(super) fn follow_generation(
        &mut self,
        source: usize,
        generation: Generation,
        record: Record,
    ) {
        let wait = self.sources.get(source).map(|s| s.config.rotate_wait);
        let number = self.follow(Followed {
            source,
            path: record.path,
            real: None,
            place: generation.place,
            id: generation.id,
            fingerprint: record.fingerprint,
            cursor: Cursor::at(record.offset),
            length: u64::MAX,
            looked_ms: now_ms(),
            may_be_cut: false,
            file: Some(generation.file),
            leaving: Some(Instant::now() + wait.unwrap_or_default()),
            waits: false,
            unsaved: true,
            used: self.uses,
        });
        self.opened(number);
    }

    /// Files whose time is over get their last turn.
    pub(super) fn let_go(&mut self) {
        let now = Instant::now();
        for number in self.leaving.clone() {
            let file = self.files.get(&number);
            if file.is_some_and(|f| f.leaving.is_some_and(|until| until <= now)) {
                self.enqueue(number);
            }
        }
    }

    /// It is read to its end, or gone.
    pub(super) fn drop_file(&mut self, number: usize) {
        self.leaving.retain(|n| *n != number);
        let Some(file) = self.files.remove(&number) else {
            return;
        };
        self.ids.remove(&(file.source, file.id));
        let gone = match &file.file {
            Some(open) => open.metadata().is_ok_and(|m| m.nlink() == 0),
            None => true,
        };
        if file.file.is_some() {
            self.open -= 1;
        }
        let time = now_ms();
        if let Some(positions) = self.positions_of(file.source) {
            match gone {
                true => positions.forget(&file.path, file.id.ino),
                false => positions.set(file.record(time)),
            }
        }
        self.moved();
    }
}
