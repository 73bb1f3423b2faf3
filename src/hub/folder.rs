//! The hub's data folder: what is where in it, and that nobody else can look in.

use crate::base::files::{self, Look};
use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
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
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(folder.database())
            .with_context(|| format!("cannot make `{}`", folder.database().display()))?;
        files::make_dir(&folder.authority(), Look::mode(0o700))?;
        files::make_dir(&folder.keys(), Look::mode(0o700))?;
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
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(&path)
            .with_context(|| format!("cannot open `{}`", path.display()))?;
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
