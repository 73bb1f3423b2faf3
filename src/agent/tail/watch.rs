//! Says which files may have changed: inotify on folders. Where the kernel gives no more watches the
//! caller looks by itself, each second.

use log::warn;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// Most folders that are watched; files in others are looked at each second.
pub const FOLDERS_LIMIT: usize = 4096;

/// What happened.
#[derive(Debug, Default)]
pub struct Events {
    /// Files that were written to.
    pub written: Vec<PathBuf>,
    /// Names that came, went, or changed their permissions.
    pub moved: Vec<PathBuf>,
    /// Something was missed: anything may have happened.
    pub all: bool,
}

/// The watches.
pub struct Watch {
    inotify: Option<Inotify>,
    folders: HashMap<PathBuf, WatchDescriptor>,
    names: HashMap<WatchDescriptor, PathBuf>,
    blind: bool,
}

impl Watch {
    /// Begins; without inotify it says so once.
    pub fn new() -> Watch {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC);
        if let Err(errno) = &inotify {
            warn!(
                "no inotify ({errno}; the limit is fs.inotify.max_user_instances): files are looked at each second"
            );
        }
        Watch {
            blind: inotify.is_err(),
            inotify: inotify.ok(),
            folders: HashMap::new(),
            names: HashMap::new(),
        }
    }

    /// Files must be looked at each second.
    pub fn is_blind(&self) -> bool {
        self.blind
    }

    /// Becomes readable when something happened.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// Watches these folders and no others; `holds` says in which of them files are followed. True
    /// when one is new: what happened in it before is not known.
    pub fn set(&mut self, wanted: &BTreeSet<PathBuf>, holds: impl Fn(&Path) -> bool) -> bool {
        let Some(inotify) = &self.inotify else {
            return false;
        };
        let names = &mut self.names;
        self.folders.retain(|folder, wd| {
            let keep = wanted.contains(folder);
            if !keep {
                names.remove(wd);
                let _ = inotify.rm_watch(*wd);
            }
            keep
        });
        let flags = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let mut new = false;
        let mut refused = None;
        for folder in wanted {
            if self.folders.contains_key(folder) {
                continue;
            }
            if self.folders.len() >= FOLDERS_LIMIT {
                refused = Some(format!("more than {FOLDERS_LIMIT} folders"));
                break;
            }
            match inotify.add_watch(folder, flags) {
                Ok(wd) => {
                    self.folders.insert(folder.clone(), wd);
                    self.names.insert(wd, folder.clone());
                    new = true;
                }
                // Gone since, or not ours to read: the next look at the patterns says so.
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(Errno::EACCES) if !holds(folder) => {}
                Err(Errno::ENOSPC) => {
                    refused = Some("the limit is fs.inotify.max_user_watches".to_owned());
                }
                Err(errno) => refused = Some(format!("`{}`: {errno}", folder.display())),
            }
        }
        if let (Some(why), false) = (&refused, self.blind) {
            warn!("cannot watch every folder ({why}): files are looked at each second");
        }
        self.blind = refused.is_some();
        new
    }

    /// What happened since the last call.
    pub fn events(&mut self) -> Events {
        let mut events = Events::default();
        let Some(inotify) = &self.inotify else {
            return events;
        };
        while let Ok(read) = inotify.read_events() {
            if read.is_empty() {
                break;
            }
            for event in read {
                let mask = event.mask;
                if mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    events.all = true;
                }
                let Some(folder) = self.names.get(&event.wd) else {
                    continue;
                };
                let itself = AddWatchFlags::IN_DELETE_SELF
                    | AddWatchFlags::IN_MOVE_SELF
                    | AddWatchFlags::IN_IGNORED
                    | AddWatchFlags::IN_UNMOUNT;
                if mask.intersects(itself) {
                    let folder = folder.clone();
                    self.names.remove(&event.wd);
                    self.folders.remove(&folder);
                    if !mask.contains(AddWatchFlags::IN_IGNORED) {
                        let _ = inotify.rm_watch(event.wd);
                    }
                    events.all = true;
                    continue;
                }
                let Some(name) = event.name else { continue };
                let path = folder.join(name);
                let list = match mask.contains(AddWatchFlags::IN_MODIFY) {
                    true => &mut events.written,
                    false => &mut events.moved,
                };
                if list.last() != Some(&path) {
                    list.push(path);
                }
            }
        }
        events
    }

    #[cfg(test)]
    fn covers(&self, folder: &Path) -> bool {
        self.folders.contains_key(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn writes_and_names_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let mut watch = Watch::new();
        let folders = BTreeSet::from([dir.path().to_owned()]);
        assert!(watch.set(&folders, |_| true) && !watch.set(&folders, |_| true));
        assert!(watch.covers(dir.path()) && !watch.is_blind());
        let mut file = std::fs::File::create(&a).unwrap();
        let events = watch.events();
        assert_eq!((events.moved, events.written), (vec![a.clone()], vec![]));
        file.write_all(b"x").unwrap();
        file.write_all(b"y").unwrap();
        let events = watch.events();
        assert_eq!((events.moved, events.written), (vec![], vec![a.clone()]));
        std::fs::rename(&a, &b).unwrap();
        assert_eq!(watch.events().moved, [a, b]);
        drop(file); // an open file keeps its folder
        std::fs::remove_dir_all(dir.path()).unwrap();
        assert!(watch.events().all);
        assert!(!watch.covers(dir.path()));
    }
}
