//! How far each file has been read, on disk.
//!
//! A text file of lines, each for itself and in its own right: the newest line of a file counts.
//!
//! ```text
//! path TAB offset TAB inode                                                     the original's (protocol.md 5.5)
//! path TAB offset TAB inode TAB device TAB length TAB hash TAB time TAB real TAB checksum           ours
//! ```
//! Offset (`ffffffffffffffff`: no longer followed), inode, device, the fingerprint's hash and the time
//! (milliseconds since 1970) are 16 hexadecimal digits; the fingerprint's length is decimal; `real` is
//! where a link led; the checksum is CRC-32C of all before it, 8 digits. In paths, `\t`, `\n` and `\\`
//! stand for TAB, LF and `\`. Lines are appended, so a kill leaves old ones or new ones; a torn one
//! does not count, and a file that has grown to several times its content is written anew, whole.

use super::fingerprint::{Fingerprint, Id};
use crate::agent::queue::frame::checksum;
use crate::base::files::{self, Look};
use crate::base::order;
use log::warn;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Largest file that is read, bytes.
pub const FILE_LIMIT: usize = 64 << 20;
/// Most files remembered; those that were looked at longest ago go first.
pub const RECORDS_LIMIT: usize = 40_000;
/// A file that is smaller is not written anew because of its size.
const COMPACT_AT: u64 = 256 << 10;
/// What stands for "no longer followed".
const UNWATCHED: u64 = u64::MAX;

/// How far one file has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The name by which it was found.
    pub path: PathBuf,
    /// Where that led, if it was a link.
    pub real: Option<PathBuf>,
    /// Which file.
    pub id: Id,
    /// Its first bytes, of those that were read.
    pub fingerprint: Fingerprint,
    /// Everything before this byte is in a queue.
    pub offset: u64,
    /// When that was written down, milliseconds since 1970; 0 is not known.
    pub time_ms: u64,
}

/// Generations of one name that are remembered.
const GENERATIONS_LIMIT: usize = 16;

type Key = (u64, PathBuf);

impl Record {
    fn key(&self) -> Key {
        (self.id.ino, self.path.clone())
    }

    fn line(&self, offset: u64) -> Vec<u8> {
        let mut line = escaped(&self.path);
        let real = self.real.as_deref().map(escaped).unwrap_or_default();
        let _ = write!(
            line,
            "\t{offset:016x}\t{:016x}\t{:016x}\t{}\t{:016x}\t{:016x}\t",
            self.id.ino, self.id.dev, self.fingerprint.length, self.fingerprint.hash, self.time_ms
        );
        line.extend_from_slice(&real);
        let crc = checksum(&line);
        let _ = writeln!(line, "\t{crc:08x}");
        line
    }

    /// `None` when the line is none.
    fn parse(line: &[u8]) -> Option<Record> {
        let columns: Vec<&[u8]> = line.split(|&b| b == b'\t').collect();
        let hex = |n: usize| {
            let digits = std::str::from_utf8(columns.get(n)?).ok()?;
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
            u64::from_str_radix(digits, 16).ok().filter(|_| plain)
        };
        let path = PathBuf::from(unescaped(columns.first()?));
        let mut record = Record {
            path,
            real: None,
            id: Id {
                dev: 0,
                ino: hex(2)?,
            },
            fingerprint: Fingerprint::default(),
            offset: hex(1)?,
            time_ms: 0,
        };
        match columns.len() {
            3 => {}
            9 => {
                let sum = columns[8];
                let before = &line[..line.len() - sum.len() - 1];
                if hex(8)? != u64::from(checksum(before)) {
                    return None;
                }
                let length = std::str::from_utf8(columns[4]).ok()?.parse().ok()?;
                record.id.dev = hex(3)?;
                record.fingerprint = Fingerprint {
                    length,
                    hash: hex(5)?,
                };
                record.time_ms = hex(6)?;
                record.real = (!columns[7].is_empty()).then(|| unescaped(columns[7]).into());
            }
            _ => return None,
        }
        (!record.path.as_os_str().is_empty()).then_some(record)
    }
}

fn escaped(path: &Path) -> Vec<u8> {
    let mut text = Vec::with_capacity(path.as_os_str().len() + 2);
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'\t' => text.extend_from_slice(b"\\t"),
            b'\n' => text.extend_from_slice(b"\\n"),
            b'\\' => text.extend_from_slice(b"\\\\"),
            other => text.push(other),
        }
    }
    text
}

fn unescaped(text: &[u8]) -> OsString {
    let mut path = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        match (byte, bytes.as_slice().first()) {
            (b'\\', Some(b't')) => path.push(b'\t'),
            (b'\\', Some(b'n')) => path.push(b'\n'),
            (b'\\', Some(b'\\')) => path.push(b'\\'),
            (other, _) => {
                path.push(other);
                continue;
            }
        }
        bytes.next();
    }
    OsString::from_vec(path)
}

/// What a position file says. Later lines replace earlier ones.
pub struct Content {
    /// The files.
    pub records: Vec<Record>,
    /// Lines that are none, a torn last one too.
    pub damaged: usize,
}

/// Reads the bytes of a position file.
pub fn read(bytes: &[u8]) -> Content {
    let mut records: HashMap<Key, (usize, Record)> = HashMap::new();
    let mut damaged = 0;
    for (n, line) in bytes.split_inclusive(|&b| b == b'\n').enumerate() {
        let Some(line) = line.strip_suffix(b"\n") else {
            damaged += 1;
            continue;
        };
        match Record::parse(line) {
            Some(record) if record.offset == UNWATCHED => {
                records.remove(&record.key());
            }
            Some(record) => {
                records.insert(record.key(), (n, record));
            }
            None => damaged += 1,
        }
    }
    let mut records: Vec<(usize, Record)> = records.into_values().collect();
    order::by_key(&mut records, |(n, r)| (r.time_ms, *n));
    let records = records.into_iter().map(|(_, r)| r).collect();
    Content { records, damaged }
}

/// A position file that is kept up to date.
pub struct Positions {
    path: PathBuf,
    file: File,
    bytes: u64,
    compact_at: u64,
    records: BTreeMap<Key, Record>,
    names: HashMap<PathBuf, Vec<u64>>,
    changed: HashSet<Key>,
    gone: Vec<Record>,
}

impl Positions {
    /// Opens or makes the file. Where it cannot be written (the unit allows only the workspace's own
    /// folder), what it says is taken over into one of the same name in `state`.
    pub fn open(wanted: &Path, state: &Path) -> io::Result<Positions> {
        let other = io::Error::other::<anyhow::Error>;
        let said = files::read(wanted, FILE_LIMIT);
        let (path, file) = match append(wanted) {
            Ok(file) => (wanted.to_owned(), file),
            Err(error) => {
                let name = wanted.file_name().unwrap_or(wanted.as_os_str());
                let path = state.join(name);
                let file = append(&path)?;
                log::info!(
                    "cannot write the pos_file `{}` ({error}): positions are kept in `{}`",
                    wanted.display(),
                    path.display()
                );
                (path, file)
            }
        };
        let mut said = said.map_err(other)?.unwrap_or_default();
        if path != wanted {
            let own = files::read(&path, FILE_LIMIT).map_err(other)?;
            // The original's goes on counting only until there is one of our own.
            said = own.filter(|b| !b.is_empty()).unwrap_or(said);
        }
        let taken_over = path != wanted && !said.is_empty();
        let content = read(&said);
        if content.damaged > 0 {
            warn!(
                "{} lines of the position file `{}` are damaged or torn and do not count: what they were for may be sent again",
                content.damaged,
                path.display()
            );
        }
        let of_ours = content.records.iter().all(|r| r.time_ms > 0);
        let mut positions = Positions {
            bytes: said.len() as u64,
            compact_at: COMPACT_AT,
            records: BTreeMap::new(),
            names: HashMap::new(),
            changed: HashSet::new(),
            gone: Vec::new(),
            path,
            file,
        };
        for record in content.records {
            positions.insert(record);
        }
        if content.damaged > 0 || !of_ours || taken_over || positions.bytes > COMPACT_AT {
            positions.compact();
        }
        Ok(positions)
    }

    fn insert(&mut self, record: Record) {
        let inodes = self.names.entry(record.path.clone()).or_default();
        inodes.retain(|&ino| ino != record.id.ino);
        inodes.push(record.id.ino);
        self.records.insert(record.key(), record);
    }

    /// What is known of files of that name, the newest last.
    pub fn of(&self, path: &Path) -> Vec<Record> {
        let inodes = self.names.get(path).into_iter().flatten();
        let record = |&ino| self.records.get(&(ino, path.to_owned()));
        let mut found: Vec<Record> = inodes.filter_map(record).cloned().collect();
        order::by_key(&mut found, |r| r.time_ms);
        found
    }

    /// What is known of files with that inode, by whatever name.
    pub fn of_inode(&self, ino: u64) -> impl Iterator<Item = &Record> {
        let from = (ino, PathBuf::new());
        let records = self.records.range(from..);
        records.map(|(_, r)| r).take_while(move |r| r.id.ino == ino)
    }

    /// A file has been read further. On disk with the next [`Positions::save`].
    pub fn set(&mut self, record: Record) {
        let path = record.path.clone();
        self.changed.insert(record.key());
        self.insert(record);
        let inodes = self.names.get(&path);
        let oldest = inodes.filter(|i| i.len() > GENERATIONS_LIMIT).map(|i| i[0]);
        if let Some(oldest) = oldest {
            self.forget(&path, oldest);
        }
        if self.records.len() > RECORDS_LIMIT {
            self.forget_oldest();
        }
    }

    /// A file is no longer of interest.
    pub fn forget(&mut self, path: &Path, ino: u64) {
        let key = (ino, path.to_owned());
        self.changed.remove(&key);
        self.gone.extend(self.records.remove(&key));
        if let Some(inodes) = self.names.get_mut(path) {
            inodes.retain(|&i| i != ino);
            if inodes.is_empty() {
                self.names.remove(path);
            }
        }
    }

    fn forget_oldest(&mut self) {
        let mut ages: Vec<(u64, Key)> = self
            .records
            .values()
            .map(|r| (r.time_ms, r.key()))
            .collect();
        order::ascending(&mut ages);
        for (_, (ino, path)) in ages.drain(..RECORDS_LIMIT / 10) {
            self.forget(&path, ino);
        }
    }

    /// Is there something to save?
    pub fn is_changed(&self) -> bool {
        !self.changed.is_empty() || !self.gone.is_empty()
    }

    /// Brings changes into the file. The data they speak of must be on the disk already.
    pub fn save(&mut self) -> io::Result<()> {
        let mut lines = Vec::new();
        for record in &self.gone {
            lines.extend_from_slice(&record.line(UNWATCHED));
        }
        for key in &self.changed {
            if let Some(record) = self.records.get(key) {
                lines.extend_from_slice(&record.line(record.offset));
            }
        }
        if lines.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.file.write_all(&lines) {
            // Half a line must not take the next one with it.
            let _ = self.file.set_len(self.bytes);
            return Err(error);
        }
        self.bytes += lines.len() as u64;
        self.changed.clear();
        self.gone.clear();
        if self.bytes > self.compact_at {
            self.compact();
        }
        Ok(())
    }

    /// Writes the file anew: what counts, and nothing else.
    fn compact(&mut self) {
        let mut text = Vec::new();
        for record in self.records.values() {
            text.extend_from_slice(&record.line(record.offset));
        }
        let written = files::write_atomic(&self.path, &text, Look::mode(0o640));
        let opened = written.and_then(|()| Ok(append(&self.path)?));
        match opened {
            Ok(file) => {
                self.file = file;
                self.bytes = text.len() as u64;
                self.changed.clear();
                self.gone.clear();
            }
            Err(error) => {
                // A torn end would spoil the next line.
                let _ = self.file.write_all(b"\n");
                log::debug!("{error:#}");
            }
        }
        self.compact_at = COMPACT_AT.max(4 * self.bytes);
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}

#[cfg(test)]
mod tests;
