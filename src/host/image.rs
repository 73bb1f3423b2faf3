//! The root folder of an image: entered with chroot(2), so that no link in it leads out, and what
//! runs for it are its own tools.

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Inside the image until dropped. Only the thread that entered it is.
pub struct Inside {
    outside: File,
}

/// Enters `dir`. It must be root's and nobody else's to write: what is in it is run as root.
/// /proc and, where the image has no devices, /dev are lent to it; nobody else sees that.
pub fn enter(dir: &Path) -> Result<Inside> {
    let what = || format!("cannot use `{}` as the root of an image", dir.display());
    let folder = open_folder(dir).with_context(what)?;
    let meta = folder.metadata().with_context(what)?;
    let others_write = meta.mode() & 0o002 != 0 || (meta.mode() & 0o020 != 0 && meta.gid() != 0);
    if meta.uid() != 0 || others_write {
        bail!(
            "{}: it must belong to root, and nobody else may write to it",
            what()
        );
    }
    let outside = open_folder(Path::new("/")).with_context(what)?;
    // Signals are answered by another thread, outside.
    unshare(CloneFlags::CLONE_FS).with_context(what)?;
    let private = make_private();
    nix::unistd::fchdir(&folder).with_context(what)?;
    if private {
        lend();
    }
    nix::unistd::chroot(".").with_context(what)?;
    Ok(Inside { outside })
}

impl Drop for Inside {
    fn drop(&mut self) {
        if nix::unistd::fchdir(&self.outside).is_ok() {
            let _ = nix::unistd::chroot(".");
        }
    }
}

/// Is it the running system's own root?
pub fn is_running_root(dir: &Path) -> bool {
    let place = |path: &Path| std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
    place(dir).is_some() && place(dir) == place(Path::new("/"))
}

fn open_folder(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_DIRECTORY | nix::libc::O_CLOEXEC)
        .open(path)
}

/// Mounts of our own, which end with us. A container may not be allowed to have them; most images
/// do without.
fn make_private() -> bool {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).is_ok()
        && mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).is_ok()
}

/// In the image's folder: best effort, on folders that are no links.
fn lend() {
    let none: Option<&str> = None;
    let is_dir = |path: &str| std::fs::symlink_metadata(path).is_ok_and(|m| m.is_dir());
    if is_dir("proc") && !Path::new("proc/self").exists() {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let _ = mount(Some("proc"), "proc", Some("proc"), flags, none);
    }
    let has_null = std::fs::metadata("dev/null").is_ok_and(|m| m.file_type().is_char_device());
    if is_dir("dev") && !has_null {
        let _ = mount(Some("/dev"), "dev", none, MsFlags::MS_BIND, none);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn inside_is_inside_and_outside_is_outside_again() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("here"), "").unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("out")).unwrap();
        let inside = enter(dir.path()).unwrap();
        assert!(Path::new("/here").exists() && !Path::new("/out/passwd").exists());
        assert!(crate::host::os::is_chroot());
        drop(inside);
        assert!(!Path::new("/here").exists() && dir.path().join("here").exists());
    }

    #[test]
    fn what_others_can_write_is_no_image() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let refused = |dir: &Path| enter(dir).err().map(|e| format!("{e:#}"));
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o757)).unwrap();
        let said = refused(dir.path()).unwrap();
        assert!(said.contains("nobody else may write"), "{said}");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(dir.path(), Some(65534), None).unwrap();
        assert!(refused(dir.path()).is_some());
        let file = dir.path().join("f");
        std::fs::write(&file, "").unwrap();
        assert!(refused(&file).is_some() && refused(&dir.path().join("none")).is_some());
        assert!(is_running_root(Path::new("/")) && !is_running_root(dir.path()));
    }
}
