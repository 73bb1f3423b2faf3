//! Who holds a package manager's lock. dpkg and rpm lock by `fcntl`, which the kernel can be
//! asked about; zypper and dnf write their process id into a file.

use super::layout::Layout;
use crate::base::files;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What is locked, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Fcntl,
    PidFile,
}

/// Files, the tool whose lock it is, and the way.
const LOCKS: [(&str, Tool, Way); 7] = [
    ("/var/lib/dpkg/lock-frontend", Tool::Dpkg, Way::Fcntl),
    ("/var/lib/dpkg/lock", Tool::Dpkg, Way::Fcntl),
    ("/var/lib/rpm/.rpm.lock", Tool::Rpm, Way::Fcntl),
    ("/usr/lib/sysimage/rpm/.rpm.lock", Tool::Rpm, Way::Fcntl),
    ("/run/zypp.pid", Tool::Rpm, Way::PidFile),
    ("/var/run/zypp.pid", Tool::Rpm, Way::PidFile),
    ("/var/lib/dnf/rpmdb_lock.pid", Tool::Rpm, Way::PidFile),
];

/// Programs that write these process ids; a number left behind may be anybody's by now.
const PID_WRITERS: [&str; 7] = [
    "zypper",
    "packagekitd",
    "y2",
    "YaST",
    "dnf",
    "yum",
    "microdnf",
];

/// Whose lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// dpkg, apt.
    Dpkg,
    /// rpm, dnf, yum, zypper.
    Rpm,
}

/// A lock that somebody else holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The lock's file.
    pub path: PathBuf,
    /// Whose lock.
    pub tool: Tool,
    /// Who holds it; unknown when the process is out of our sight (another container).
    pub pid: Option<u32>,
    /// The holder's program.
    pub program: Option<String>,
}

impl Held {
    /// One line for people and for automation, which looks for `dpkg` or `rpm` and `lock`.
    pub fn line(&self, waited: u64) -> String {
        let path = self.path.display();
        let program = self.program.as_deref().unwrap_or("unknown program");
        let holder = match self.pid {
            Some(pid) => format!("process {pid} ({program})"),
            None => "a process that cannot be seen from here".into(),
        };
        let what = match self.tool {
            Tool::Dpkg => format!("dpkg: error: the dpkg lock {path}"),
            Tool::Rpm => format!("error: the rpm transaction lock {path}"),
        };
        format!(
            "{what} is held by {holder}; waited {waited} s for it (--lock-timeout); let that end, then run the same command again"
        )
    }
}

/// The first lock that somebody holds now.
pub fn held(layout: &Layout) -> Option<Held> {
    LOCKS.into_iter().find_map(|(file, tool, way)| {
        let path = layout.path(file);
        let pid = match way {
            Way::Fcntl => asked(&path)?,
            Way::PidFile => Some(written(&path)?),
        };
        Some(Held {
            program: pid.and_then(program),
            pid,
            path,
            tool,
        })
    })
}

/// The kernel's answer. `Some(None)`: held by a process without a number here.
fn asked(path: &Path) -> Option<Option<u32>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .ok()?;
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_GETLK(&mut lock)).ok()?;
    if lock.l_type == libc::F_UNLCK as libc::c_short {
        return None;
    }
    Some(u32::try_from(lock.l_pid).ok().filter(|pid| *pid != 0))
}

/// A living process of the right kind whose number stands in the file.
fn written(path: &Path) -> Option<u32> {
    let text = files::read_text_no_follow(path, 64).ok()??;
    let pid = text.split_whitespace().next()?.parse().ok()?;
    let program = program(pid)?;
    let writer = PID_WRITERS.iter().any(|w| program.starts_with(w));
    writer.then_some(pid)
}

/// The name of a process, as `ps` shows it.
pub fn program(pid: u32) -> Option<String> {
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let shown = comm.trim().chars().filter(|c| !c.is_control());
    Some(shown.collect::<String>()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    fn root(file: &str, text: &str) -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        let layout = Layout::new(dir.path());
        (dir, layout)
    }

    #[test]
    fn the_holder_is_named() {
        let (dir, layout) = root("var/lib/dpkg/lock-frontend", "");
        assert_eq!(held(&layout), None);
        let path = dir.path().join("var/lib/dpkg/lock-frontend");
        let script = "use Fcntl; open(F, '+<', $ARGV[0]) or die; my $l = pack('s s x4 q q l x4', F_WRLCK, 0, 0, 0, 0); fcntl(F, F_SETLK, $l) or die; $| = 1; print \"locked\\n\"; <STDIN>;";
        let Ok(mut perl) = Command::new("perl")
            .args(["-e", script])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
        else {
            return; // no perl here: the system tests hold a real lock
        };
        let mut line = String::new();
        let mut said = BufReader::new(perl.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        let found = held(&layout).unwrap();
        drop(perl.stdin.take());
        perl.wait().unwrap();
        assert_eq!((found.pid, found.tool), (Some(perl.id()), Tool::Dpkg));
        let line = found.line(3);
        assert!(line.starts_with("dpkg: error: the dpkg lock "), "{line}");
        assert!(line.contains("(perl); waited 3 s"), "{line}");
        assert_eq!(held(&layout), None);
    }

    #[test]
    fn a_number_left_behind_is_nobodys_lock() {
        let (_dir, layout) = root("run/zypp.pid", &std::process::id().to_string());
        assert_eq!(held(&layout), None);
    }
}
