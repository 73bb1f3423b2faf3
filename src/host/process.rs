//! The agent's process where no systemd knows it: found by its pid file and looked at, started in
//! the background, ended (bundle.md 4.7, R29).

use super::layout::Layout;
use crate::base::files;
use crate::base::ids::WorkspaceName;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// As long as the original waited (bundle.md 1.7, 4.7).
const START_PATIENCE: Duration = Duration::from_secs(18);
const TERM_PATIENCE: Duration = Duration::from_secs(10);
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// The agent's process: the one its pid file names, when that is an agent of this workspace. The
/// file is the service account's: a number alone proves nothing.
pub fn agent_pid(layout: &Layout, name: &WorkspaceName) -> Option<u32> {
    let file = layout.workspace(name).pid_file();
    let text = files::read_text_no_follow(&file, 64).ok()??;
    let pid: u32 = text.trim().parse().ok().filter(|pid| *pid > 1)?;
    is_agent_of(layout, pid, name).then_some(pid)
}

fn is_agent_of(layout: &Layout, pid: u32, name: &WorkspaceName) -> bool {
    let Ok(line) = std::fs::read(layout.path(format!("/proc/{pid}/cmdline"))) else {
        return false;
    };
    let mut words = line.split(|b| *b == 0).map(String::from_utf8_lossy);
    let program = words.next().unwrap_or_default().into_owned();
    let program = program.rsplit('/').next().unwrap_or_default();
    program.starts_with("omsagent") && words.any(|word| word.contains(name.as_str()))
}

/// Starts it in the background as user `uid`, group `gid`, and waits until its pid file is there.
pub fn start(layout: &Layout, name: &WorkspaceName, uid: u32, gid: u32) -> Result<u32> {
    if let Some(pid) = agent_pid(layout, name) {
        return Ok(pid);
    }
    let paths = layout.workspace(name);
    // A number left by a crash would be waited for in vain.
    files::remove(&paths.pid_file())?;
    let program = layout.bin().join("omsagent");
    let mut command = Command::new(&program);
    command
        .arg("run")
        .arg("-d")
        .arg(paths.pid_file())
        .arg("-o")
        .arg(paths.log_file())
        .arg("-c")
        .arg(paths.omsagent_conf())
        .arg("--no-supervisor")
        .current_dir("/")
        .env_clear()
        .env("PATH", crate::base::command::PATH)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C at our terminal is not for it.
        .process_group(0);
    if nix::unistd::geteuid().is_root() {
        command.uid(uid).gid(gid);
    }
    let mask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o027));
    let child = command.spawn();
    nix::sys::stat::umask(mask);
    let mut child = child.with_context(|| format!("cannot start `{}`", program.display()))?;
    let until = Instant::now() + START_PATIENCE;
    while Instant::now() < until {
        if let Some(pid) = agent_pid(layout, name) {
            return Ok(pid);
        }
        if let Ok(Some(status)) = child.try_wait() {
            bail!(
                "the agent of workspace {name} ended at once ({status}); see {}",
                paths.log_file().display()
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!(
        "the agent of workspace {name} is not ready after {} s; see {}",
        START_PATIENCE.as_secs(),
        paths.log_file().display()
    )
}

/// Ends it: SIGTERM, later SIGKILL. True when it ran.
pub fn stop(layout: &Layout, name: &WorkspaceName) -> Result<bool> {
    let Some(pid) = agent_pid(layout, name) else {
        return Ok(false);
    };
    let target = Pid::from_raw(i32::try_from(pid).context("pid")?);
    for (signal, patience) in [
        (Signal::SIGTERM, TERM_PATIENCE),
        (Signal::SIGKILL, KILL_PATIENCE),
    ] {
        // Asked again: it may have ended, and its number be somebody else's.
        if !is_agent_of(layout, pid, name) {
            return Ok(true);
        }
        match kill(target, signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(e) => bail!("cannot end the agent of workspace {name} (pid {pid}): {e}"),
        }
        let until = Instant::now() + patience;
        while Instant::now() < until {
            if !is_agent_of(layout, pid, name) {
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    bail!("the agent of workspace {name} (pid {pid}) does not end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_alone_proves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let name = WorkspaceName::lad();
        let file = layout.workspace(&name).pid_file();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        assert_eq!(agent_pid(&layout, &name), None);
        let process = |pid: u32, line: &str| {
            let proc = layout.path(format!("/proc/{pid}"));
            std::fs::create_dir_all(&proc).unwrap();
            std::fs::write(proc.join("cmdline"), line).unwrap();
        };
        process(700, "/usr/sbin/sshd\0-D\0");
        process(
            701,
            "/opt/microsoft/omsagent/bin/omsagent\0run\0-d\0/var/LAD/run/omsagent.pid\0",
        );
        process(
            702,
            "/opt/microsoft/omsagent/bin/omsagent\0run\0-d\0/var/scom/run/omsagent.pid\0",
        );
        for (text, found) in [
            ("700\n", None),
            ("701\n", Some(701)),
            ("702\n", None),
            ("703\n", None),
            ("1\n", None),
            ("-1\n", None),
            ("", None),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(agent_pid(&layout, &name), found, "{text:?}");
        }
    }
}
