//! The hub's data folder: what is where in it, and that nobody else can look in.

use crate::base::files::{self, Look, Owner};
use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// A data folder that exists, mode 0700.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder at `path`; made when it is not there or is empty. A folder that holds other
    /// things is refused: its mode would be changed.
    pub fn make(path: &Path) -> Result<Self> {
        let folder = Folder {
            path: std::path::absolute(path)
                .with_context(|| format!("cannot use `{}`", path.display()))?,
        };
        let used = match std::fs::read_dir(&folder.path) {
            Ok(mut entries) => entries.next().is_some(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
            Err(e) => {
                return Err(e).with_context(|| format!("cannot read `{}`", path.display()));
            }
        };
        if used && !folder.ours() {
            bail!(
                "`{}` is not empty and not a hub's data folder: name an empty or a new one",
                path.display()
            );
        }
        files::make_dir(&folder.path, Look::mode(0o700))?;
        // Before any key is written: from now on the folder is known as ours.
        folder.open_file(&folder.database())?;
        files::make_dir(&folder.authority(), folder.look(0o700))?;
        files::make_dir(&folder.keys(), folder.look(0o700))?;
        Ok(folder)
    }

    /// The folder at `path`, which must be a hub's already.
    pub fn open(path: &Path) -> Result<Self> {
        let folder = Folder {
            path: path.to_owned(),
        };
        if !folder.ours() {
            bail!(
                "`{}` is not a hub's data folder (no `hub.db` in it)",
                path.display()
            );
        }
        Ok(folder)
    }

    /// How a file or folder in here shall look. What root puts in (`hub workspace add` by an
    /// administrator) belongs to the folder's owner, or the hub could not read it.
    pub(super) fn look(&self, mode: u32) -> Look {
        match std::fs::metadata(&self.path) {
            Ok(meta) => {
                let (uid, gid) = (meta.uid(), meta.gid());
                Look::owned(mode, Owner { uid, gid })
            }
            Err(_) => Look::mode(mode),
        }
    }

    /// Opens a file of the folder, making it when it is not there; 0600.
    fn open_file(&self, path: &Path) -> Result<File> {
        let what = || format!("cannot open `{}`", path.display());
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(path)
            .with_context(what)?;
        if let Some(owner) = self.look(0o600).owner {
            fchown(&file, Some(owner.uid), Some(owner.gid)).with_context(what)?;
        }
        Ok(file)
    }

    fn ours(&self) -> bool {
        self.database().is_file()
    }

    /// The SQLite database, 0600.
    pub fn database(&self) -> PathBuf {
        self.path.join("hub.db")
    }

    /// Where the hub's own certificate authority is, 0700.
    pub fn authority(&self) -> PathBuf {
        self.path.join("ca")
    }

    /// The authority's certificate: what agents are told to trust.
    pub fn authority_certificate(&self) -> PathBuf {
        self.authority().join("ca.pem")
    }

    /// The authority's private key, 0600.
    pub fn authority_key(&self) -> PathBuf {
        self.authority().join("ca.key")
    }

    /// Shared keys, one file a workspace, 0700.
    pub fn keys(&self) -> PathBuf {
        self.path.join("keys")
    }

    /// Held while a server runs on this folder; let go when dropped, or by the kernel.
    pub(super) fn lock(&self) -> Result<Flock<File>> {
        let path = self.path.join("serve.lock");
        let file = self.open_file(&path)?;
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            nix::errno::Errno::EWOULDBLOCK => {
                anyhow::anyhow!("another hub serves from `{}` already", self.path.display())
            }
            other => anyhow::anyhow!("cannot lock `{}`: {other}", path.display()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_new_folder_is_closed_to_others() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("hub");
        let folder = Folder::make(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&folder.keys()), 0o700);
        assert_eq!(mode(&folder.database()), 0o600);
        Folder::make(&path).unwrap();
        Folder::open(&path).unwrap();
    }

    #[test]
    fn a_folder_of_others_is_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::set_permissions(temp.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(temp.path().join("thesis.tex"), "x").unwrap();
        assert!(Folder::make(temp.path()).is_err());
        assert!(Folder::open(temp.path()).is_err());
        assert_eq!(mode(temp.path()), 0o755);
    }

    #[test]
    fn what_root_adds_belongs_to_the_folders_owner() {
        if !nix::unistd::geteuid().is_root() {
            return; // only root can give files away
        }
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("hub");
        std::fs::create_dir(&path).unwrap();
        std::os::unix::fs::chown(&path, Some(4242), Some(4243)).unwrap();
        let folder = Folder::make(&path).unwrap();
        for path in [
            &path,
            &folder.database(),
            &folder.keys(),
            &folder.authority(),
        ] {
            let meta = std::fs::metadata(path).unwrap();
            assert_eq!((meta.uid(), meta.gid()), (4242, 4243), "{}", path.display());
        }
    }

    #[test]
    fn one_server_a_folder() {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::make(&temp.path().join("hub")).unwrap();
        let held = folder.lock().unwrap();
        assert!(
            folder
                .lock()
                .unwrap_err()
                .to_string()
                .contains("another hub")
        );
        drop(held);
        folder.lock().unwrap();
    }
}
