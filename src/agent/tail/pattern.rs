//! The files that a `path` means: shell patterns and strftime, looked up in the file system
//! (protocol.md 5.3, 5.5).

use crate::base::glob::fits;
use crate::base::order;
use jiff::Zoned;
use std::collections::BTreeSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Most files of one source.
pub const FILES_LIMIT: usize = 10_000;
/// Folder entries looked at in one go.
const ENTRIES_LIMIT: usize = 200_000;
/// Work for one comparison of a name with a pattern.
const STEPS: u32 = 100_000;

/// The patterns of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patterns {
    /// Whole paths.
    pub include: Vec<String>,
    /// What is left out of them.
    pub exclude: Vec<String>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Names of files, and whether they were written without a pattern.
    pub paths: Vec<(PathBuf, bool)>,
    /// Folders in which a change matters.
    pub folders: BTreeSet<PathBuf>,
    /// Folders that could not be read.
    pub unreadable: Vec<(PathBuf, io::Error)>,
    /// There were more than [`FILES_LIMIT`].
    pub too_many: bool,
}

impl Patterns {
    /// Looks. Files are not opened, and may be something else than files.
    pub fn find(&self, now: &Zoned) -> Found {
        let mut found = Found::default();
        let mut seen = BTreeSet::new();
        let mut entries = ENTRIES_LIMIT;
        for pattern in &self.include {
            let pattern = dated(pattern, now);
            let plain = !is_wild(&pattern);
            for path in expand(&pattern, &mut found, &mut entries) {
                if !self.leaves_out(&path, now) && seen.insert(path.clone()) {
                    found.paths.push((path, plain));
                }
            }
        }
        found.too_many = entries == 0 || found.paths.len() > FILES_LIMIT;
        found.paths.truncate(FILES_LIMIT);
        found
    }

    /// May a file of this name be one of them?
    pub fn may_be(&self, path: &Path, now: &Zoned) -> bool {
        let mut include = self.include.iter();
        include.any(|pattern| is_like(&dated(pattern, now), path))
    }

    fn leaves_out(&self, path: &Path, now: &Zoned) -> bool {
        let mut exclude = self.exclude.iter();
        exclude.any(|pattern| is_like(&dated(pattern, now), path))
    }
}

fn is_wild(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

/// The pattern with strftime filled in; one that jiff does not know stays as it is.
fn dated(pattern: &str, now: &Zoned) -> String {
    if !pattern.contains('%') {
        return pattern.to_owned();
    }
    let filled = jiff::fmt::strtime::format(pattern, now);
    filled.unwrap_or_else(|_| pattern.to_owned())
}

/// Part by part, as [`expand`] does.
fn is_like(pattern: &str, path: &Path) -> bool {
    let mut parts = Path::new(pattern).components();
    let mut names = path.components();
    loop {
        match (parts.next(), names.next()) {
            (None, None) => return true,
            (Some(part), Some(name)) => {
                let (part, name) = (part.as_os_str(), name.as_os_str());
                let like = part == name || fits_name(&part.to_string_lossy(), name.as_bytes());
                if !like {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

/// As a shell: a hidden file only when asked for.
fn fits_name(pattern: &str, name: &[u8]) -> bool {
    (!name.starts_with(b".") || pattern.starts_with('.'))
        && fits(pattern.as_bytes(), name, &mut STEPS.clone())
}

fn expand(pattern: &str, found: &mut Found, entries: &mut usize) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::from("/")];
    let parts: Vec<_> = Path::new(pattern).components().collect();
    for (n, part) in parts.iter().enumerate() {
        let part = match part {
            Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
            Component::ParentDir => "..".into(),
            Component::Normal(name) => name.to_string_lossy(),
        };
        let last = n + 1 == parts.len();
        if !is_wild(&part) {
            if last {
                for folder in &paths {
                    found.folders.insert(nearest(folder));
                }
            }
            paths.iter_mut().for_each(|p| p.push(part.as_ref()));
            continue;
        }
        let mut next = Vec::new();
        for folder in paths {
            found.folders.insert(nearest(&folder));
            let list = match std::fs::read_dir(&folder) {
                Ok(list) => list,
                Err(e) => {
                    if !matches!(
                        e.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) {
                        found.unreadable.push((folder, e));
                    }
                    continue;
                }
            };
            for entry in list.flatten() {
                if *entries == 0 || next.len() > FILES_LIMIT {
                    break;
                }
                *entries -= 1;
                if fits_name(&part, entry.file_name().as_bytes()) {
                    next.push(entry.path());
                }
            }
        }
        order::ascending(&mut next);
        paths = next;
    }
    paths
}

/// The folder, or what there is on the way to it.
fn nearest(folder: &Path) -> PathBuf {
    let there = folder.ancestors().find(|f| f.is_dir());
    there.unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(found: &Found, dir: &Path) -> Vec<String> {
        let short = |p: &Path| p.strip_prefix(dir).unwrap().display().to_string();
        found.paths.iter().map(|(p, _)| short(p)).collect()
    }

    #[test]
    fn patterns_and_dates_and_what_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "a/x.log",
            "a/y.log",
            "a/.hidden.log",
            "b/x.log",
            "b/x.log.gz",
            "day-20310809.log",
        ] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let d = dir.path().display();
        let now: Zoned = "2031-08-09T10:11:12+00:00[+00:00]".parse().unwrap();
        let patterns = Patterns {
            include: vec![
                format!("{d}/*/*.log*"),
                format!("{d}/day-%Y%m%d.log"),
                format!("{d}/later/z.log"),
            ],
            exclude: vec![format!("{d}/*/*.gz"), format!("{d}/a/y.*")],
        };
        let found = patterns.find(&now);
        assert_eq!(
            names(&found, dir.path()),
            ["a/x.log", "b/x.log", "day-20310809.log", "later/z.log"]
        );
        let plain: Vec<bool> = found.paths.iter().map(|(_, plain)| *plain).collect();
        assert_eq!(plain, [false, false, true, true]);
        // The folder that is not there yet is waited for in the one that is.
        let folders: Vec<_> = found.folders.iter().collect();
        assert_eq!(
            folders,
            [dir.path(), &dir.path().join("a"), &dir.path().join("b")]
        );
        let may = |name: &str| patterns.may_be(&dir.path().join(name), &now);
        assert!(may("c/new.log") && may("day-20310809.log") && may("later/z.log"));
        assert!(!may("new.log") && !may("day-20310810.log") && !may("a/b/x.log"));
        assert!(!may("a/.x.log"));
    }

    #[test]
    fn the_number_of_files_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..=FILES_LIMIT {
            std::fs::write(dir.path().join(format!("{n:05}")), "").unwrap();
        }
        let patterns = Patterns {
            include: vec![format!("{}/*", dir.path().display())],
            exclude: Vec::new(),
        };
        let found = patterns.find(&Zoned::now());
        assert!(found.too_many);
        assert_eq!(found.paths.len(), FILES_LIMIT);
        std::fs::remove_file(dir.path().join("00000")).unwrap();
        let found = patterns.find(&Zoned::now());
        assert!(!found.too_many);
        assert_eq!(found.paths.len(), FILES_LIMIT);
    }
}
