//! Which files there are, which of them are new, and what became of those that were followed.

use super::fingerprint::{Fingerprint, Id};
use super::follow::{Followed, real};
use super::generations::{self, Generation, SLACK_MS};
use super::lines::Cursor;
use super::positions::Record;
use super::{LOOK_EACH, Source, Tailer, now_ms};
use jiff::Zoned;
use log::warn;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Instant, UNIX_EPOCH};

/// Complaints about different names, of one source.
const TOLD_LIMIT: usize = 100;

/// A name of a source that leads to a file.
struct Named {
    path: PathBuf,
    meta: Metadata,
    /// Written without a pattern.
    plain: bool,
}

impl Source {
    /// Says it once for each name. This is where an agent that may not read everything tells how it
    /// could.
    pub(super) fn cannot_read(&mut self, path: &Path, error: &io::Error) {
        if self.told.len() >= TOLD_LIMIT || !self.told.insert(path.to_owned()) {
            return;
        }
        match error.kind() {
            io::ErrorKind::PermissionDenied => warn!(
                "{}: cannot read `{}`: {error}. Let the agent's user read it (group, setfacl), or let the agent read everything by a drop-in of its unit with `AmbientCapabilities=CAP_DAC_READ_SEARCH` and `CapabilityBoundingSet=CAP_DAC_READ_SEARCH` (docs/agent.md)",
                self.config.place,
                path.display()
            ),
            _ => warn!(
                "{}: cannot read `{}`: {error}",
                self.config.place,
                path.display()
            ),
        }
    }
}

impl Tailer {
    /// Looks up the patterns of the sources that are due.
    pub(super) fn scan_due(&mut self) {
        let now = Instant::now();
        let mut any = false;
        for number in 0..self.sources.len() {
            if self.sources[number].next_scan <= now {
                self.scan(number);
                any = true;
            }
        }
        if !any {
            return;
        }
        // A folder that is new to us may have changed before it was watched.
        if self.watch_folders() {
            for number in 0..self.sources.len() {
                self.scan(number);
            }
            self.watch_folders();
        }
        // A file that is followed from its end must be so after a kill, too.
        if self.files.values().any(|f| f.unsaved) {
            self.save();
        }
    }

    fn watch_folders(&mut self) -> bool {
        let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
        for source in &self.sources {
            folders.extend(source.folders.iter().cloned());
        }
        for file in self.files.values().filter(|f| f.leaving.is_none()) {
            let real = file.real.as_deref().and_then(Path::parent);
            folders.extend(real.map(Path::to_owned));
        }
        let live = self.files.values().filter(|f| f.leaving.is_none());
        let holding: HashSet<&Path> = live.filter_map(|f| f.home().parent()).collect();
        self.watch.set(&folders, |folder| holding.contains(folder))
    }

    fn scan(&mut self, number: usize) {
        let now = Instant::now();
        let begun_ms = now_ms();
        let source = &mut self.sources[number];
        source.next_scan = now + source.config.refresh;
        let found = source.config.patterns.find(&Zoned::now());
        source.folders = found.folders;
        for (folder, error) in &found.unreadable {
            source.cannot_read(folder, error);
        }
        if found.too_many && source.told.insert(PathBuf::new()) {
            warn!(
                "{}: more than {} files, or too many names to look at: the rest is not read",
                source.config.place,
                super::pattern::FILES_LIMIT
            );
        }
        let mut named = Vec::new();
        for (path, plain) in found.paths {
            match std::fs::metadata(&path) {
                Ok(meta) if meta.is_file() => named.push(Named { path, meta, plain }),
                Ok(_) => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound) => {}
                Err(error) => source.cannot_read(&path, &error),
            }
        }
        let (seen, moved_from) = self.recognise(number, &named);
        let mut fresh = Vec::new();
        for name in named {
            let id = Id::of(&name.meta);
            if !self.ids.contains_key(&(number, id)) {
                fresh.push(name);
            }
        }
        let lost = self.files.iter();
        let lost =
            lost.filter(|(n, f)| f.source == number && f.leaving.is_none() && !seen.contains(n));
        let lost: Vec<usize> = lost.map(|(n, _)| *n).collect();
        let mut replaced: HashSet<PathBuf> = moved_from;
        for n in lost {
            replaced.extend(self.files.get(&n).map(|f| f.path.clone()));
            self.leave(n);
        }
        for name in fresh {
            let was_there = replaced.contains(&name.path);
            self.begin(number, name, was_there, begun_ms);
        }
        self.sources[number].scanned_ms = Some(begun_ms);
    }

    /// Files that are followed already: those that are there, and names that no longer mean them.
    fn recognise(&mut self, source: usize, named: &[Named]) -> (HashSet<usize>, HashSet<PathBuf>) {
        let mut names: HashMap<usize, Vec<&Named>> = HashMap::new();
        for name in named {
            if let Some(n) = self.ids.get(&(source, Id::of(&name.meta))) {
                names.entry(*n).or_default().push(name);
            }
        }
        let mut moved_from = HashSet::new();
        let seen = names.keys().copied().collect();
        for (number, names) in names {
            let Some(file) = self.files.get_mut(&number) else {
                continue;
            };
            if names.iter().any(|n| n.meta.len() != file.length) && !file.waits {
                file.waits = true;
                self.work.push_back(number);
            }
            let stays = names.iter().any(|n| n.path == file.path);
            if stays && file.leaving.is_none() {
                continue;
            }
            let path = if stays {
                file.path.clone()
            } else {
                names[0].path.clone()
            };
            let (old, ino) = (std::mem::replace(&mut file.path, path.clone()), file.id.ino);
            file.place = path.clone();
            file.real = real(&path);
            file.leaving = None;
            file.unsaved = true;
            self.leaving.retain(|n| *n != number);
            self.unlist(number, &old);
            self.list(number);
            if old != path {
                if let Some(positions) = self.positions_of(source) {
                    positions.forget(&old, ino);
                }
                moved_from.insert(old);
            }
        }
        (seen, moved_from)
    }

    /// Begins to follow a file that is new to this run.
    fn begin(&mut self, number: usize, name: Named, was_there: bool, begun_ms: u64) {
        let (file, meta) = match generations::open(&name.path) {
            Ok(opened) => opened,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return self.sources[number].cannot_read(&name.path, &error),
        };
        let id = Id::of(&meta);
        if self.ids.contains_key(&(number, id)) {
            return; // it has just been renamed: the next look sorts it out
        }
        let (first, scanned_ms) = {
            let source = &self.sources[number];
            (source.scanned_ms.is_none(), source.scanned_ms)
        };
        let positions = &self.positions[self.sources[number].positions];
        let of_name = positions.of(&name.path);
        let of_inode = || positions.of_inode(id.ino).filter(|r| r.id.is(id));
        let same =
            |r: &&Record| r.offset <= meta.len() && r.fingerprint.fits(&file).unwrap_or(false);
        let known = of_name
            .iter()
            .rev()
            .find(|r| r.id.is(id) && same(r))
            .cloned();
        let known = known.or_else(|| of_inode().find(same).cloned());
        let cut = of_name.iter().rev().find(|r| r.id.is(id)).cloned();
        let (mut cursor, mut fingerprint) = (Cursor::at(0), Fingerprint::default());
        let mut before: Vec<(Generation, Record)> = Vec::new();
        let (mut may_be_cut, mut looked_ms) = (was_there || !of_name.is_empty(), begun_ms);
        if let Some(record) = known {
            may_be_cut = record.offset == 0 && record.time_ms > 0;
            looked_ms = record.time_ms;
            cursor = Cursor::at(record.offset);
            fingerprint = record.fingerprint;
            if record.path != name.path
                && let Some(positions) = self.positions_of(number)
            {
                positions.forget(&record.path, record.id.ino);
            }
        } else if let Some(record) = cut {
            // Cut to nothing, or written anew, while we were away.
            let home = real(&name.path).unwrap_or_else(|| name.path.clone());
            let since = Some(record.time_ms).filter(|t| *t > 0);
            before = self.copies(number, &home, &record, since);
        } else if !of_name.is_empty() || was_there {
            self.generations_of(number, &name.path, of_name, scanned_ms, id, &mut before);
        } else {
            let born_ms = meta
                .created()
                .ok()
                .and_then(|t| t.duration_since(UNIX_EPOCH).ok());
            let born_ms = born_ms.map(|d| d.as_millis() as u64);
            let is_new =
                scanned_ms.is_some_and(|then| born_ms.is_some_and(|b| b + SLACK_MS >= then));
            let from_head =
                self.sources[number].config.read_from_head || is_new || (!first && name.plain);
            if !from_head {
                cursor = Cursor::at(meta.len());
                fingerprint = Fingerprint::take(&file, meta.len()).unwrap_or_default();
            }
        }
        for (generation, record) in before {
            if !self.knows(number, generation.id, &generation.file) {
                self.follow_generation(number, generation, record);
            }
        }
        drop(file);
        let followed = Followed {
            source: number,
            real: real(&name.path),
            place: name.path.clone(),
            path: name.path,
            id,
            fingerprint,
            cursor,
            length: u64::MAX,
            looked_ms,
            may_be_cut,
            file: None,
            leaving: None,
            waits: false,
            unsaved: true,
            used: 0,
        };
        self.follow(followed);
    }

    pub(super) fn follow(&mut self, file: Followed) -> usize {
        let number = self.next_number;
        self.next_number += 1;
        self.ids.insert((file.source, file.id), number);
        let leaving = file.leaving.is_some();
        self.files.insert(number, file);
        match leaving {
            true => self.leaving.push(number),
            false => self.list(number),
        }
        self.enqueue(number);
        self.moved();
        number
    }

    fn list(&mut self, number: usize) {
        let Some(file) = self.files.get(&number) else {
            return;
        };
        for path in [Some(&file.path), file.real.as_ref()].into_iter().flatten() {
            let numbers = self.live.entry(path.clone()).or_default();
            if !numbers.contains(&number) {
                numbers.push(number);
            }
        }
    }

    pub(super) fn unlist(&mut self, number: usize, path: &Path) {
        let real = self.files.get(&number).and_then(|f| f.real.clone());
        for path in [Some(path), real.as_deref()].into_iter().flatten() {
            if let Some(numbers) = self.live.get_mut(path) {
                numbers.retain(|n| *n != number);
                if numbers.is_empty() {
                    self.live.remove(path);
                }
            }
        }
    }

    /// Where inotify cannot say what changed.
    pub(super) fn look(&mut self) {
        let now = Instant::now();
        if !self.watch.is_blind() || self.look_at > now {
            return;
        }
        self.look_at = now + LOOK_EACH;
        let mut changed = Vec::new();
        for (number, file) in &self.files {
            match std::fs::metadata(&file.place) {
                Ok(meta) if Id::of(&meta) == file.id => {
                    if meta.len() != file.length {
                        changed.push(*number);
                    }
                }
                _ => {
                    if file.leaving.is_none()
                        && let Some(source) = self.sources.get_mut(file.source)
                    {
                        source.next_scan = now;
                    }
                }
            }
        }
        changed.into_iter().for_each(|n| self.enqueue(n));
    }
}
