//! The private folder that the stub made for this run, and those that killed runs left.

use crate::base::files;
use crate::bundle::ENV_RUNDIR;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the stub's folders are called, but for six letters of mktemp's.
const PREFIX: &str = "omsb.";
/// Where the stub makes them.
const PLACES: [&str; 5] = ["/run", "/var/tmp", "/tmp", "/opt", "/root"];
/// One so old, without a process, is nobody's: between its making and its process lie seconds.
const OLD: Duration = Duration::from_secs(24 * 60 * 60);

/// The private folder that the stub made for us; gone when we are.
pub struct RunnerFolder(PathBuf);

impl RunnerFolder {
    /// Where this very program lies: the environment is not asked.
    pub fn find() -> Self {
        let own = std::fs::read_link("/proc/self/exe").unwrap_or_default();
        RunnerFolder(own.parent().map(Path::to_owned).unwrap_or_default())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Takes it away with all that the stub and we put there. Somebody who runs the program by hand
    /// keeps the folder it lies in.
    pub fn tidy(&self) {
        let stub_says = std::env::var_os(ENV_RUNDIR).map(PathBuf::from);
        if stub_says.as_ref() == Some(&self.0) && is_of_a_stub(&self.0) {
            let _ = files::remove_tree(&self.0);
        }
    }

    /// Takes away what runs left that were killed long ago. The caller holds the host's lock.
    pub fn sweep_others(&self) {
        for place in PLACES.map(Path::new).iter().chain(&self.0.parent()) {
            self.sweep(place, OLD);
        }
    }

    fn sweep(&self, place: &Path, old: Duration) {
        let entries = std::fs::read_dir(place).into_iter().flatten();
        for folder in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let age = || {
                folder
                    .symlink_metadata()
                    .ok()?
                    .modified()
                    .ok()?
                    .elapsed()
                    .ok()
            };
            if folder != self.0
                && is_of_a_stub(&folder)
                && age().is_some_and(|age| age >= old)
                && !has_process(&folder)
            {
                let _ = files::remove_tree(&folder);
            }
        }
    }
}

impl Drop for RunnerFolder {
    fn drop(&mut self) {
        self.tidy();
    }
}

/// Is it what mktemp made for a stub of ours: of that name, our user's, closed to all others?
fn is_of_a_stub(folder: &Path) -> bool {
    let name = folder.file_name().and_then(|name| name.to_str());
    let letters = name.and_then(|name| name.strip_prefix(PREFIX));
    let named =
        letters.is_some_and(|l| l.len() >= 6 && l.bytes().all(|b| b.is_ascii_alphanumeric()));
    let own = nix::unistd::geteuid().as_raw();
    let private = |m: std::fs::Metadata| m.is_dir() && m.uid() == own && m.mode() & 0o777 == 0o700;
    named && folder.symlink_metadata().is_ok_and(private)
}

/// Does a process run a program that lies there?
fn has_process(folder: &Path) -> bool {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path().join("exe")).ok())
        .any(|exe| exe.starts_with(folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn folder(place: &Path, name: &str, mode: u32) -> PathBuf {
        let folder = place.join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("omsagent_2.0.0-1_amd64.deb"), "x").unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).unwrap();
        folder
    }

    #[test]
    fn only_dead_folders_of_stubs_go() {
        let dir = tempfile::tempdir().unwrap();
        let own = RunnerFolder(folder(dir.path(), "omsb.Own111", 0o700));
        let dead = folder(dir.path(), "omsb.Dead11", 0o700);
        let kept = [
            folder(dir.path(), "omsb.Open11", 0o755),
            folder(dir.path(), "omsb.", 0o700),
            folder(dir.path(), "omsb.in-use", 0o700),
            folder(dir.path(), "other.Dead11", 0o700),
        ];
        let busy = folder(dir.path(), "omsb.Busy11", 0o700);
        let program = busy.join("omsbundle");
        std::fs::copy("/bin/sleep", &program).unwrap();
        let mut child = std::process::Command::new(&program)
            .arg("30")
            .spawn()
            .unwrap();
        own.sweep(dir.path(), OLD);
        assert!(dead.exists(), "too young");
        own.sweep(dir.path(), Duration::ZERO);
        let there = busy.exists();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(there && !dead.exists() && own.path().exists());
        assert!(kept.iter().all(|folder| folder.exists()));
        own.sweep(dir.path(), Duration::ZERO);
        assert!(!busy.exists());
    }
}
