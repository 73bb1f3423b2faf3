//! What files held before a run changed them. Some are keys: each body is a file of root's alone,
//! on the disk before the step is applied, and never a line of the journal.

use super::undo::Undo;
use crate::base::files::{self, Look, Owner};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Most that is kept of one file; those that we change are far smaller.
pub const LIMIT: usize = 16 << 20;

/// A kept file: where its body is, and how it looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Number of the body in the run's folder.
    pub body: u32,
    /// Permission bits.
    pub mode: u32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Kept {
    /// Mode and owner.
    pub fn look(&self) -> Look {
        let (uid, gid) = (self.uid, self.gid);
        Look::owned(self.mode, Owner { uid, gid })
    }
}

/// The bodies of one run, in `undo/<run>` beside the journal.
pub struct Backups {
    dir: PathBuf,
    next: u32,
    unsettled: bool,
}

impl Backups {
    /// Those of run `run`, in the folder of records `records`.
    pub fn of(records: &Path, run: &str) -> Backups {
        Backups {
            dir: records.join("undo").join(run),
            next: 0,
            unsettled: false,
        }
    }

    /// How to bring back what is at `path` now: nothing, a file, or a link. A folder is an error.
    pub fn snapshot(&mut self, path: &Path) -> Result<Undo> {
        let path = path.to_owned();
        let meta = match std::fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            // A parent that is no folder is for the step to stumble over.
            Err(_) => return Ok(Undo::File { path, before: None }),
        };
        if meta.is_symlink() {
            let before = Some(std::fs::read_link(&path)?);
            return Ok(Undo::Link { path, before });
        }
        if !meta.is_file() {
            bail!("`{}` is in the way: not a file; remove it", path.display());
        }
        let bytes = files::read_no_follow(&path, LIMIT)?.map(Zeroizing::new);
        let bytes = bytes.with_context(|| format!("`{}` is gone", path.display()))?;
        let before = Some(Kept {
            body: self.put(&bytes)?,
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
        });
        Ok(Undo::File { path, before })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<u32> {
        let number = self.next;
        let path = self.path(number);
        let what = || format!("cannot keep what is replaced in `{}`", path.display());
        if number == 0 {
            let own = Look::owned(0o700, Owner::ROOT);
            let undo = self.dir.parent().with_context(what)?;
            let records = undo.parent().with_context(what)?;
            // A bare root may not even have /var/lib.
            if let Some(parent) = records.parent() {
                std::fs::create_dir_all(parent).with_context(what)?;
            }
            for dir in [records, undo, &self.dir] {
                files::make_dir(dir, own)?;
            }
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
            .open(&path)
            .with_context(what)?;
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .with_context(what)?;
        self.next += 1;
        self.unsettled = true;
        Ok(number)
    }

    /// Brings the names of all bodies to the disk.
    pub fn settle(&mut self) {
        if !std::mem::take(&mut self.unsettled) {
            return;
        }
        files::sync_dir(&self.dir);
        if self.next == 1
            && let Some(undo) = self.dir.parent()
        {
            files::sync_dir(undo);
            undo.parent().map(files::sync_dir).unwrap_or_default();
        }
    }

    /// A body.
    pub fn body(&self, kept: &Kept) -> Result<Zeroizing<Vec<u8>>> {
        let path = self.path(kept.body);
        let bytes = files::read_no_follow(&path, LIMIT)?;
        let bytes = bytes.with_context(|| format!("the kept file `{}` is gone", path.display()))?;
        Ok(Zeroizing::new(bytes))
    }

    fn path(&self, body: u32) -> PathBuf {
        self.dir.join(body.to_string())
    }

    /// Where they are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes all of them away, and the folder above when no other run has any.
    pub fn discard(&self) {
        let _ = files::remove_tree(&self.dir);
        if let Some(undo) = self.dir.parent() {
            files::remove_dir_if_empty(undo);
        }
    }

    /// Takes away the bodies of runs that `known` does not name: a power cut may bring them back.
    pub fn sweep(records: &Path, known: impl Fn(&str) -> bool) {
        let undo = records.join("undo");
        for entry in std::fs::read_dir(&undo).into_iter().flatten().flatten() {
            if !known(&entry.file_name().to_string_lossy()) {
                let _ = files::remove_tree(&entry.path());
            }
        }
        files::remove_dir_if_empty(&undo);
    }
}
