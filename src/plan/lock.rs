//! One change of the host at a time: an flock on a file that is never renamed or removed, so
//! that two waiters can never hold two different files of the same name.

use crate::host::layout::Layout;
use crate::host::packages::LOCK_HOLDER;
use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Held until dropped.
pub struct HostLock {
    file: Option<Flock<File>>,
}

impl HostLock {
    /// Is it a parent process that holds the lock, and we work for it?
    pub fn is_parents(&self) -> bool {
        self.file.is_none()
    }
}

/// Where the file is: the first of these that exists. /run comes before the folders that everybody
/// may write to, where any user could make the file first and keep it locked.
const FOLDERS: [&str; 5] = ["/run", "/var/run", "/run/lock", "/var/lock", "/tmp"];

/// How long locks are waited for when nobody says otherwise, and the longest time anybody may say.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// See [`PATIENCE`].
pub const LONGEST: u64 = 86_400;

static SECONDS: AtomicU64 = AtomicU64::new(PATIENCE.as_secs());

/// How long this process waits for its own lock and for those of package managers.
pub fn patience() -> Duration {
    Duration::from_secs(SECONDS.load(Ordering::Relaxed))
}

/// `--lock-timeout`: sets that time for the whole process.
pub fn be_patient(time: Duration) {
    SECONDS.store(time.as_secs(), Ordering::Relaxed);
}

/// Reads seconds, `0` to [`LONGEST`].
pub fn parse_patience(text: &str) -> Option<Duration> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let seconds = text.parse().ok().filter(|s| digits && *s <= LONGEST)?;
    Some(Duration::from_secs(seconds))
}

/// Takes the lock, waiting up to `patience`; the message of a failure names the holder's pid.
pub fn take(layout: &Layout, patience: Duration) -> Result<HostLock> {
    let dir = FOLDERS
        .map(|d| layout.path(d))
        .into_iter()
        .find(|d| d.is_dir())
        .context("no folder for the lock file: neither /run nor /var/lock nor /tmp exists")?;
    let path = dir.join("omsagent.lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
        .open(&path)
        .with_context(|| format!("cannot open the lock file `{}`", path.display()))?;
    let meta = file.metadata()?;
    let ours = meta.uid() == nix::unistd::geteuid().as_raw() && meta.mode() & 0o022 == 0;
    if !meta.is_file() || !ours {
        bail!(
            "the lock file `{}` was made by somebody else: remove it and try again",
            path.display()
        );
    }
    let deadline = Instant::now() + patience;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut held) => {
                let _ = held.set_len(0);
                let _ = held.rewind();
                let _ = writeln!(held, "{}", std::process::id());
                return Ok(HostLock { file: Some(held) });
            }
            Err((mut back, _)) => {
                let mut holder = String::new();
                let _ = back.rewind();
                let _ = (&back).take(32).read_to_string(&mut holder);
                let holder = holder.trim();
                // A maintainer script below our own bundle works under the bundle's lock.
                if holder.parse().is_ok_and(is_ancestor) || is_told(holder) {
                    return Ok(HostLock { file: None });
                }
                if Instant::now() >= deadline {
                    bail!(
                        "another omsagent command (pid {holder}) is changing this host; waited {} s for the lock `{}`",
                        patience.as_secs(),
                        path.display()
                    );
                }
                file = back;
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// In an image without /proc, what the package tool was told by the bundle that runs it.
fn is_told(holder: &str) -> bool {
    !std::path::Path::new("/proc/self").exists()
        && std::env::var(LOCK_HOLDER).is_ok_and(|told| told == holder)
}

/// Is `pid` a parent, grandparent, ... of this process?
fn is_ancestor(pid: u32) -> bool {
    let parent_of = |pid: u32| -> Option<u32> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix("PPid:"))?;
        line.trim().parse().ok()
    };
    std::iter::successors(parent_of(std::process::id()), |p| parent_of(*p))
        .take(64)
        .any(|p| p == pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_waits_then_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("run")).unwrap();
        let layout = Layout::new(dir.path());
        let held = take(&layout, Duration::ZERO).unwrap();
        let Err(error) = take(&layout, Duration::from_millis(50)) else {
            panic!("two holders")
        };
        assert!(error.to_string().contains(&std::process::id().to_string()));
        drop(held);
        assert!(is_ancestor(std::os::unix::process::parent_id()));
        assert!(!is_ancestor(std::process::id()));
        assert!(!take(&layout, Duration::ZERO).unwrap().is_parents());
    }

    #[test]
    fn seconds_are_digits() {
        assert_eq!(parse_patience("0"), Some(Duration::ZERO));
        assert_eq!(parse_patience("86400"), Some(Duration::from_secs(LONGEST)));
        for text in [
            "",
            "86401",
            "-1",
            "+1",
            "1.5",
            "1s",
            "99999999999999999999999",
        ] {
            assert_eq!(parse_patience(text), None, "{text}");
        }
    }

    #[test]
    fn a_lock_file_of_somebody_else_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("run/lock")).unwrap();
        let layout = Layout::new(dir.path());
        let path = dir.path().join("run/omsagent.lock");
        std::fs::write(&path, "1").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(take(&layout, Duration::ZERO).is_err());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(take(&layout, Duration::ZERO).is_ok());
    }
}
