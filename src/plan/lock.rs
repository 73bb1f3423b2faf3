//! One change of the host at a time: an flock on a file that is never renamed or removed, so
//! that two waiters can never hold two different files of the same name.

use crate::host::layout::Layout;
use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

/// Held until dropped.
pub struct HostLock {
    _file: Option<Flock<File>>,
}

/// Takes the lock, waiting up to `patience`; the message of a failure names the holder's pid.
pub fn take(layout: &Layout, patience: Duration) -> Result<HostLock> {
    let dir = ["/run/lock", "/run", "/var/lock", "/tmp"]
        .map(|d| layout.path(d))
        .into_iter()
        .find(|d| d.is_dir())
        .context("no folder for the lock file: none of /run/lock, /run, /var/lock, /tmp exists")?;
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
    let deadline = Instant::now() + patience;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut held) => {
                let _ = held.set_len(0);
                let _ = held.rewind();
                let _ = writeln!(held, "{}", std::process::id());
                return Ok(HostLock { _file: Some(held) });
            }
            Err((mut back, _)) => {
                let mut holder = String::new();
                let _ = back.rewind();
                let _ = (&back).take(32).read_to_string(&mut holder);
                let holder = holder.trim();
                // A maintainer script below our own bundle works under the bundle's lock.
                if holder.parse().is_ok_and(is_ancestor) {
                    return Ok(HostLock { _file: None });
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
        assert!(take(&layout, Duration::ZERO).is_ok());
    }
}
