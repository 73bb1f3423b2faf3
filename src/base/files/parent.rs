//! The folder that a file is in, held by its descriptor, so that nobody leads root elsewhere.

use super::only_root_can_change;
use anyhow::{Context, Result, bail};
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The folder of a path, opened once and used through its descriptor. As root, links on the way
/// are followed only where nobody but root can have made them: below a folder that the service
/// account may write to, a link would let it choose where root writes.
pub(super) struct Parent {
    /// The folder, through its descriptor.
    pub(super) dir: PathBuf,
    /// The file in it.
    pub(super) path: PathBuf,
    _pinned: Option<File>,
}

impl Parent {
    pub(super) fn pin(path: &Path) -> Result<Parent> {
        let name = path.file_name().context("the path has no file name")?;
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let plain = || Parent {
            dir: dir.to_owned(),
            path: path.to_owned(),
            _pinned: None,
        };
        if !nix::unistd::geteuid().is_root() || !dir.is_absolute() {
            return Ok(plain());
        }
        let pinned = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_DIRECTORY | nix::libc::O_CLOEXEC)
            .open(dir)
            .with_context(|| format!("cannot open folder `{}`", dir.display()))?;
        let through = PathBuf::from(format!("/proc/self/fd/{}", pinned.as_raw_fd()));
        let Ok(actual) = fs::read_link(&through) else {
            return Ok(plain()); // no /proc here (an image being built): nobody else runs either
        };
        let roots = longest_of_root(dir);
        let expected = fs::canonicalize(&roots)?.join(dir.strip_prefix(&roots)?);
        if actual != expected {
            bail!(
                "`{}` leads to `{}` through a link that is not root's",
                dir.display(),
                actual.display()
            );
        }
        Ok(Parent {
            path: through.join(name),
            dir: through,
            _pinned: Some(pinned),
        })
    }
}

/// The longest beginning of `dir` that nobody but root can change: neither the names as they are
/// written nor what they lead to.
fn longest_of_root(dir: &Path) -> PathBuf {
    let mut trusted = PathBuf::from("/");
    for part in dir.components().skip(1) {
        let next = trusted.join(part);
        let named_by_root = fs::symlink_metadata(&next).is_ok_and(|m| m.uid() == 0);
        if !named_by_root || !only_root_can_change(&next) {
            break;
        }
        trusted = next;
    }
    trusted
}
