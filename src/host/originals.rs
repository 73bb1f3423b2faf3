//! The original agent's services and processes (bundle.md 4.7): told from ours, and ended.

use super::layout::Layout;
use super::services;
use crate::base::files;
use crate::base::ids::WorkspaceId;
use crate::base::order;
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a daemon may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(10);
/// Larger than any unit.
const LIMIT: usize = 1 << 20;
/// What the original's units run, `omsagent-<workspace>` too.
const PROGRAM: &str = "/opt/microsoft/omsagent/bin/omsagent";
/// What only our units run.
const OURS: &str = "/opt/microsoft/omsagent/bin/omsagent run ";

/// Names, without `.service`, of the original's services that are registered here as a unit or as a
/// System V script. From before multi-homing it is `omsagent` alone.
pub fn services(layout: &Layout) -> Vec<String> {
    let units = services::placed_units(layout).into_iter();
    let mut found: Vec<String> = units
        .filter_map(|unit| Some(unit.strip_suffix(".service")?.to_owned()))
        .filter(|name| is_service(name) && runs_the_original(layout, name))
        .collect();
    let scripts = std::fs::read_dir(layout.path("/etc/init.d"));
    found.extend(
        scripts
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| is_service(name) && !starts_ours(layout, name)),
    );
    order::ascending(&mut found);
    found.dedup();
    found
}

/// Which pseudo workspace a service is of, in words; `None` for a real one.
pub fn extension(name: &str) -> Option<&'static str> {
    match name.strip_prefix("omsagent-") {
        Some("LAD") => Some("The Linux diagnostics extension (LAD)"),
        Some("scom") => Some("The pseudo workspace of Operations Manager (scom)"),
        _ => None,
    }
}

fn is_service(name: &str) -> bool {
    if name == "omsagent" || extension(name).is_some() {
        return true;
    }
    name.strip_prefix("omsagent-")
        .is_some_and(|id| id.parse::<WorkspaceId>().is_ok())
}

/// Only what starts the original's own program is the original's: ours, the unit that stands for all
/// of ours, and what an administrator wrote stay.
fn runs_the_original(layout: &Layout, name: &str) -> bool {
    let files = services::unit_files(layout, &format!("{name}.service"));
    files.iter().any(|path| {
        matches!(files::read_text(path, LIMIT), Ok(Some(text))
            if text.contains(PROGRAM) && !text.contains(OURS))
    })
}

/// What scripts of ours, and of administrators for our agent, have in them.
const OUR_SCRIPTS: [&str; 3] = [
    "omsagent run",
    " service \"lsb-",
    "/bin/service_control \"$@\"",
];

fn starts_ours(layout: &Layout, name: &str) -> bool {
    let path = layout.path("/etc/init.d").join(name);
    let text = files::read_text(&path, LIMIT).ok().flatten();
    text.is_none_or(|text| OUR_SCRIPTS.iter().any(|sign| text.contains(sign)))
}

/// The System V script of a service and the links that start it at boot.
pub fn scripts(layout: &Layout, name: &str) -> Vec<PathBuf> {
    let mut found = vec![layout.path("/etc/init.d").join(name)];
    for dir in ["/etc", "/etc/rc.d"].map(|dir| layout.path(dir)) {
        for level in "0123456S".chars() {
            let level = dir.join(format!("rc{level}.d"));
            for entry in std::fs::read_dir(level).into_iter().flatten().flatten() {
                let link = entry.file_name().to_string_lossy().into_owned();
                let number = link.strip_suffix(name).unwrap_or_default().as_bytes();
                if let [b'S' | b'K', tens, ones] = number
                    && tens.is_ascii_digit()
                    && ones.is_ascii_digit()
                {
                    found.push(entry.path());
                }
            }
        }
    }
    found.retain(|path| std::fs::symlink_metadata(path).is_ok());
    found
}

/// Ends every process that runs the original's own Ruby, wherever it was started: SIGTERM, and
/// SIGKILL after 10 s. How many there were.
pub fn end_processes(layout: &Layout) -> Result<usize> {
    let found = processes(layout);
    for pid in &found {
        signal(*pid, Signal::SIGTERM)?;
    }
    let deadline = Instant::now() + PATIENCE;
    while !found.is_empty() && !processes(layout).is_empty() {
        if Instant::now() >= deadline {
            for pid in processes(layout) {
                signal(pid, Signal::SIGKILL)?;
            }
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(found.len())
}

fn signal(pid: i32, signal: Signal) -> Result<()> {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(e) => Err(e).with_context(|| format!("cannot end process {pid} of the original agent")),
    }
}

/// By the program that runs, not by a pid file, which may be old (R29). The name of a deleted
/// program begins as before.
fn processes(layout: &Layout) -> Vec<i32> {
    let ruby = layout.opt().join("ruby");
    pids()
        .filter(|pid| {
            std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.starts_with(&ruby))
        })
        .collect()
}

/// Does any process run as this user?
pub fn runs_processes(uid: u32) -> bool {
    use std::os::unix::fs::MetadataExt;
    pids().any(|pid| std::fs::metadata(format!("/proc/{pid}")).is_ok_and(|m| m.uid() == uid))
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "11111111-2222-3333-4444-555555555555";

    #[test]
    fn its_services_are_told_from_ours_and_from_others() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let at = |path: &str| dir.path().join(path);
        for folder in ["usr/lib/systemd/system", "etc/init.d", "etc/rc2.d"] {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        let unit = |name: &str| at("usr/lib/systemd/system").join(format!("{name}.service"));
        let old = "ExecStart=/opt/microsoft/omsagent/bin/omsagent -d x\n";
        std::fs::write(unit(&format!("omsagent-{ID}")), old).unwrap();
        std::fs::write(unit("omsagent-LAD"), old).unwrap();
        std::fs::write(unit("omsagent-watch"), old).unwrap();
        std::fs::write(
            unit("omsagent-21111111-2222-3333-4444-555555555555"),
            format!("ExecStart={OURS}-d x\n"),
        )
        .unwrap();
        // The unit for all of ours, and their scripts.
        let ours = include_str!("../../templates/host/omsagent-all.service");
        std::fs::write(unit("omsagent"), ours).unwrap();
        for (id, text) in [
            (
                "scom",
                include_str!("../../templates/host/omsagent-all.init"),
            ),
            (
                "31111111-2222-3333-4444-555555555555",
                "exec \"$program\" service \"lsb-$1\" x",
            ),
        ] {
            std::fs::write(at("etc/init.d").join(format!("omsagent-{id}")), text).unwrap();
        }
        std::fs::write(at("etc/init.d/omsagent"), "x").unwrap();
        std::fs::write(at("etc/rc2.d/S20omsagent"), "x").unwrap();
        std::fs::write(at("etc/rc2.d/S20notomsagent"), "x").unwrap();
        assert_eq!(
            services(&layout),
            [
                "omsagent".to_owned(),
                format!("omsagent-{ID}"),
                "omsagent-LAD".to_owned()
            ]
        );
        assert!(extension("omsagent-LAD").is_some() && extension("omsagent").is_none());
        assert_eq!(
            scripts(&layout, "omsagent"),
            [at("etc/init.d/omsagent"), at("etc/rc2.d/S20omsagent")]
        );
    }

    #[test]
    fn a_process_of_its_ruby_is_ended_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let ruby = layout.opt().join("ruby/bin");
        std::fs::create_dir_all(&ruby).unwrap();
        std::fs::copy("/bin/sleep", ruby.join("ruby")).unwrap();
        let mut theirs = std::process::Command::new(ruby.join("ruby"))
            .arg("100")
            .spawn()
            .unwrap();
        std::fs::remove_file(ruby.join("ruby")).unwrap();
        // Its parent has to wait for it, or it stays as a zombie.
        let waiter = std::thread::spawn(move || theirs.wait().unwrap());
        assert_eq!(end_processes(&layout).unwrap(), 1);
        assert!(!waiter.join().unwrap().success());
        assert_eq!(end_processes(&layout).unwrap(), 0);
    }
}
