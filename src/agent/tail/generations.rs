//! Where a file has gone that was followed: renamed, or copied and cut. And those that came and went
//! while nobody looked.

use super::fingerprint::{Fingerprint, Id};
use crate::base::order;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Folder entries looked at.
const ENTRIES_LIMIT: usize = 100_000;
/// A copy is known by its first bytes; fewer than these could be anybody's.
const COPY_BYTES: u16 = 32;
/// Clocks of files are coarse, and clocks are set.
pub const SLACK_MS: u64 = 2000;

/// Opens a regular file for reading, without waiting for anybody.
pub fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let file = File::options()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY)
        .open(path)?;
    let meta = file.metadata()?;
    match meta.is_file() {
        true => Ok((file, meta)),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

/// Opens it if it is still the same file.
pub fn open_same(path: &Path, id: Id) -> io::Result<Option<File>> {
    let (file, meta) = open(path)?;
    Ok(Id::of(&meta).is(id).then_some(file))
}

/// The file of `id` under another name in the folder of `path`.
pub fn renamed(path: &Path, id: Id) -> Option<(PathBuf, File)> {
    let list = std::fs::read_dir(path.parent()?).ok()?;
    let entries = list.flatten().take(ENTRIES_LIMIT);
    let mut found = entries.filter(|e| e.ino() == id.ino).map(|e| e.path());
    found.find_map(|place| {
        let file = open_same(&place, id).ok().flatten()?;
        Some((place, file))
    })
}

/// A file that was once called `path`.
#[derive(Debug)]
pub struct Generation {
    /// Its name now.
    pub place: PathBuf,
    /// Itself.
    pub file: File,
    /// Which.
    pub id: Id,
    /// When it was written last.
    written_ms: u64,
}

impl Generation {
    /// One that was found by its number.
    pub fn of(place: PathBuf, file: File, id: Id) -> Generation {
        Generation {
            place,
            file,
            id,
            written_ms: 0,
        }
    }
}

/// Files that may have been called `path` and were written to since then (milliseconds since 1970),
/// oldest first; not the one that is called so now.
pub fn later(path: &Path, since_ms: u64) -> Vec<Generation> {
    let from = since_ms.saturating_sub(SLACK_MS);
    let mut found: Vec<Generation> = names(path)
        .filter_map(|place| generation(&place))
        .filter(|g| g.written_ms >= from)
        .collect();
    order::by_key(&mut found, |g| g.written_ms);
    found
}

/// The copy of a file that was then cut: it begins with the same bytes, and has at least what was read.
/// None if too few bytes are known.
pub fn copy(path: &Path, fingerprint: Fingerprint, offset: u64) -> Option<Generation> {
    if fingerprint.length < COPY_BYTES {
        return None;
    }
    let mut found: Vec<Generation> = names(path)
        .filter_map(|place| generation(&place))
        .filter(|g| g.file.metadata().is_ok_and(|m| m.len() >= offset))
        .filter(|g| fingerprint.fits(&g.file).unwrap_or(false))
        .collect();
    order::by_key(&mut found, |g| g.written_ms);
    found.pop()
}

fn generation(place: &Path) -> Option<Generation> {
    let (file, meta) = open(place).ok()?;
    let ms = meta.mtime().saturating_mul(1000) + meta.mtime_nsec() / 1_000_000;
    Some(Generation {
        place: place.to_owned(),
        id: Id::of(&meta),
        file,
        written_ms: u64::try_from(ms).unwrap_or(0),
    })
}

/// Names in the folder that rotation gives: the name with a number or a date behind it, or `.old`.
fn names(path: &Path) -> impl Iterator<Item = PathBuf> {
    let own = path.file_name().unwrap_or_default().to_owned();
    let list = path.parent().and_then(|f| std::fs::read_dir(f).ok());
    let entries = list.into_iter().flatten().flatten().take(ENTRIES_LIMIT);
    let fits = move |name: &[u8]| name.strip_prefix(own.as_bytes()).is_some_and(is_suffix);
    entries
        .filter(move |e| fits(e.file_name().as_bytes()))
        .map(|e| e.path())
}

fn is_suffix(suffix: &[u8]) -> bool {
    let counts = |b: &u8| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_' | b':' | b'T');
    suffix == b".old"
        || (matches!(suffix.first(), Some(b'.' | b'-' | b'_'))
            && suffix.iter().any(u8::is_ascii_digit)
            && suffix.iter().all(counts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_rotation_gives() {
        for (suffix, is) in [
            (".1", true),
            ("-20310809", true),
            (".2031-08-09T10:11:12", true),
            (".old", true),
            ("", false),
            (".1.gz", false),
            (".pos", false),
            ("1", false),
            ("-", false),
        ] {
            assert_eq!(is_suffix(suffix.as_bytes()), is, "{suffix}");
        }
    }

    #[test]
    fn renamed_and_copied_ones_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("a.log");
        let text = "a line that is long enough to be known\n".repeat(3);
        std::fs::write(&log, &text).unwrap();
        let (file, meta) = open(&log).unwrap();
        let fingerprint = Fingerprint::take(&file, 256).unwrap();
        std::fs::copy(&log, dir.path().join("a.log.1")).unwrap();
        let found = copy(&log, fingerprint, 10).unwrap();
        assert_eq!(found.place, dir.path().join("a.log.1"));
        assert!(copy(&log, fingerprint, text.len() as u64).is_some());
        assert!(copy(&log, fingerprint, text.len() as u64 + 1).is_none());
        let short = Fingerprint::take(&file, COPY_BYTES as u64 - 1).unwrap();
        assert!(copy(&log, short, 10).is_none());
        std::fs::rename(&log, dir.path().join("other")).unwrap();
        let (place, _) = renamed(&log, Id::of(&meta)).unwrap();
        assert_eq!(place, dir.path().join("other"));
        assert!(later(&log, u64::MAX).is_empty());
        assert_eq!(later(&log, 0).len(), 1);
        assert!(open(dir.path()).is_err());
    }
}
