//! Does the upgraded agent live? The last step of an upgrade that replaced an older omsagent whose
//! workspaces ran: each unit is active, its process stays the same for five seconds, and it has
//! uploaded or there is a reason why not. A step that fails takes the whole upgrade back.

use super::release::PACKAGE;
use crate::base::files;
use crate::base::ids::WorkspaceId;
use crate::host::last_words::last_line;
use crate::host::services::ServiceManager;
use crate::host::{Host, services, unit};
use crate::plan::backup::Backups;
use crate::plan::undo::Undo;
use crate::plan::{Report, Step, is_interrupted};
use crate::workspace;
use anyhow::{Result, bail};
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

/// A process that has lived this long under one unit stays.
const STABLE: Duration = Duration::from_secs(5);
/// Most that is waited in all: systemd starts a failed agent anew after 10 s.
const DEADLINE: Duration = Duration::from_secs(16);
/// How often is looked.
const LOOK: Duration = Duration::from_millis(250);

/// The workspaces whose agents run, before an upgrade.
pub fn running(host: &Host) -> Vec<WorkspaceId> {
    if !host.is_live() || host.services == ServiceManager::None {
        return Vec::new();
    }
    workspace::all(&host.layout)
        .into_iter()
        .filter(|id| workspace::is_active(host, id))
        .collect()
}

/// What an agent that is not well says, workspace by workspace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the upgraded agent is not healthy: {0}")]
pub struct Unhealthy(String);

/// The step, and what it found for those who come after it.
pub struct HealthCheck {
    host: Host,
    watched: Vec<WorkspaceId>,
    way_back: WayBack,
    verdict: Verdict,
}

/// What a failure of the check takes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WayBack {
    /// The upgrade, by the steps before this one.
    Steps,
    /// The upgrade of an earlier run, to this version.
    To(String),
    /// Nothing: no package file is kept.
    None,
}

/// What was found where nothing could be taken back.
pub type Verdict = Rc<RefCell<Option<Unhealthy>>>;

impl HealthCheck {
    /// Of the agents that ran before.
    pub fn new(host: &Host, watched: Vec<WorkspaceId>, way_back: WayBack) -> (Self, Verdict) {
        let verdict = Verdict::default();
        let step = HealthCheck {
            host: host.clone(),
            watched,
            way_back,
            verdict: verdict.clone(),
        };
        (step, verdict)
    }
}

impl Step for HealthCheck {
    fn describe(&self) -> String {
        let n = self.watched.len();
        let s = if n == 1 { "" } else { "s" };
        format!("check that the upgraded agent of {n} workspace{s} is healthy")
    }

    fn satisfied(&self) -> Result<bool> {
        Ok(self.watched.is_empty())
    }

    fn before(&self, _: &mut Backups) -> Result<Undo> {
        Ok(match &self.way_back {
            WayBack::Steps | WayBack::None => Undo::Nothing,
            WayBack::To(version) => Undo::Package {
                name: PACKAGE.into(),
                version: Some(version.clone()),
                keeps_settings: true,
            },
        })
    }

    fn apply(&mut self, report: &mut dyn Report) -> Result<()> {
        match watch(&self.host, &self.watched, report) {
            Ok(()) => Ok(()),
            Err(e) => match e.downcast::<Unhealthy>() {
                Ok(unhealthy) if self.way_back == WayBack::None => {
                    report.warn(&unhealthy.to_string());
                    *self.verdict.borrow_mut() = Some(unhealthy);
                    Ok(())
                }
                Ok(unhealthy) => Err(unhealthy.into()),
                Err(other) => Err(other),
            },
        }
    }
}

/// Are they well? An [`Unhealthy`] error when not.
pub fn check(host: &Host, watched: &[WorkspaceId], report: &mut dyn Report) -> Result<()> {
    if watched.is_empty() {
        return Ok(());
    }
    watch(host, watched, report)
}

/// What is known of one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// All that is asked for, with a line that says so.
    Healthy(String),
    /// Not yet, and why.
    Wait(String),
    /// As [`State::Wait`], and only the upload is not known yet.
    Quiet(String),
    /// It will not get better by waiting.
    Dead(String),
}

fn watch(host: &Host, watched: &[WorkspaceId], report: &mut dyn Report) -> Result<()> {
    let began = Instant::now();
    loop {
        let states: Vec<State> = watched.iter().map(|id| look(host, id)).collect();
        let late = began.elapsed() >= DEADLINE;
        let open = states
            .iter()
            .any(|s| matches!(s, State::Wait(_) | State::Quiet(_)));
        if !open || late {
            return settle(host, watched, states, report);
        }
        if is_interrupted() {
            bail!("stopped by a signal");
        }
        std::thread::sleep(LOOK);
    }
}

/// The end of the watch: what is not healthy by now is not healthy.
fn settle(
    host: &Host,
    watched: &[WorkspaceId],
    states: Vec<State>,
    report: &mut dyn Report,
) -> Result<()> {
    let mut sick = Vec::new();
    for (id, state) in watched.iter().zip(states) {
        match state {
            State::Healthy(text) | State::Quiet(text) => {
                report.line(&format!("Workspace {id}: the upgraded agent runs; {text}."));
            }
            State::Wait(text) | State::Dead(text) => {
                let log = host.layout.workspace(id).log_file();
                let words = match last_line(&log) {
                    Some(line) => format!("; last line of {}: {line}", log.display()),
                    None => format!("; see `journalctl -u {}`", unit::name(id)),
                };
                sick.push(format!("workspace {id}: {text}{words}"));
            }
        }
    }
    if sick.is_empty() {
        return Ok(());
    }
    Err(Unhealthy(sick.join("; ")).into())
}

fn look(host: &Host, id: &WorkspaceId) -> State {
    let name = unit::name(id);
    match services::activity(host, &name) {
        Err(e) => State::Wait(e.to_string()),
        Ok(now) if now.state == "failed" => State::Dead(format!("{name} has failed")),
        Ok(now) if now.state != "active" => {
            // Started again and again: each new start ends like the one before.
            let text = format!("{name} is {} ({})", now.state, now.sub_state);
            match now.restarts {
                0 => State::Wait(text),
                n => State::Dead(format!("{text}, started anew {n} times")),
            }
        }
        Ok(now) => match now.main_pid {
            None => State::Wait(format!("{name} has no process")),
            Some(pid) => look_at_process(host, id, pid),
        },
    }
}

fn look_at_process(host: &Host, id: &WorkspaceId, pid: u32) -> State {
    let Some(age) = age(pid) else {
        return State::Wait(format!("process {pid} has ended"));
    };
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    if program.to_string_lossy().ends_with(" (deleted)") {
        return State::Wait(format!("process {pid} still runs the program of before"));
    }
    if age < STABLE {
        return State::Wait(format!("process {pid} ended within {} s", STABLE.as_secs()));
    }
    let log = host.layout.workspace(id).log();
    match uploads(&log.join("ODSIngestion.status"), age) {
        Some(true) => State::Healthy("its first upload succeeded".into()),
        Some(false) => {
            let why = last_line(&host.layout.workspace(id).log_file());
            let why = why.unwrap_or_else(|| "its log says nothing".into());
            State::Healthy(format!("it cannot upload yet: {why}"))
        }
        None => State::Quiet(format!(
            "no upload was tried or answered within {} s",
            DEADLINE.as_secs()
        )),
    }
}

/// Did the process, so old, upload? `None`: it has not come to the end of an attempt yet.
fn uploads(status: &Path, age: Duration) -> Option<bool> {
    let written = std::fs::symlink_metadata(status).ok()?.modified().ok()?;
    let started = SystemTime::now().checked_sub(age)?;
    if written < started {
        return None;
    }
    let text = files::read_text_no_follow(status, 4096).ok()??;
    let value: serde_json::Value = serde_json::from_slice(text.as_bytes()).ok()?;
    Some(value.get("success")?.as_str()? == "true")
}

/// How long a process has been there: field 22 of its `stat` against the time since boot.
fn age(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name, in brackets, may hold anything.
    let after_name = &stat[stat.rfind(')')? + 1..];
    let ticks: f64 = after_name.split_whitespace().nth(19)?.parse().ok()?;
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    let age = uptime - ticks / per_second as f64;
    Some(Duration::from_secs_f64(age.max(0.0)))
}

/// Are the agents that ran before running again? The ids of those that are not.
pub fn not_running(host: &Host, watched: &[WorkspaceId]) -> Vec<String> {
    // A start that is under way gets a moment.
    for _ in 0..20 {
        if watched.iter().all(|id| workspace::is_active(host, id)) {
            return Vec::new();
        }
        std::thread::sleep(LOOK);
    }
    let down = watched
        .iter()
        .filter(|id| !workspace::is_active(host, id))
        .map(|id| id.as_str().to_owned());
    down.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::layout::Layout;
    use crate::plan::testing::Kept;

    #[test]
    fn an_upload_counts_when_this_process_made_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ODSIngestion.status");
        let old = Duration::from_secs(60);
        assert_eq!(uploads(&path, old), None);
        std::fs::write(&path, r#"{ "operation": "x", "success": "true" }"#).unwrap();
        assert_eq!(uploads(&path, old), Some(true));
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(uploads(&path, Duration::from_millis(1)), None);
        std::fs::write(&path, r#"{ "operation": "x", "success": "false" }"#).unwrap();
        assert_eq!(uploads(&path, old), Some(false));
        std::fs::write(&path, "{").unwrap();
        assert_eq!(uploads(&path, old), None);
    }

    #[test]
    fn a_process_has_an_age() {
        let child = std::process::Command::new("sleep").arg("5").spawn();
        let mut child = child.unwrap();
        let young = age(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(young < Duration::from_secs(3), "{young:?}");
        assert!(age(1).unwrap() > young);
        assert_eq!(age(child.id()), None);
    }

    #[test]
    fn quiet_is_healthy_and_every_sick_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::detect(Layout::new(dir.path()));
        let ids: Vec<WorkspaceId> = ["1", "2", "3"]
            .map(|n| format!("{}-2222-3333-4444-555555555555", n.repeat(8)))
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let log = host.layout.workspace(&ids[1]).log_file();
        std::fs::create_dir_all(log.parent().unwrap()).unwrap();
        std::fs::write(&log, "one\nthe \u{1b}reason\n\n").unwrap();
        let report = &mut Kept::default();
        let fine = vec![State::Quiet("x".into()), State::Healthy("y".into())];
        settle(&host, &ids[..2], fine, report).unwrap();
        let mixed = vec![
            State::Healthy("y".into()),
            State::Dead("failed".into()),
            State::Wait("no process".into()),
        ];
        let error = settle(&host, &ids, mixed, report).unwrap_err().to_string();
        assert!(error.contains("failed; last line of") && error.contains(": the reason; "));
        assert!(
            error.contains("33333333") && !error.contains("11111111"),
            "{error}"
        );
    }

    #[test]
    fn a_check_that_is_made_up_for_takes_the_package_back_itself() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::detect(Layout::new(dir.path()));
        let undo = |way| {
            let (step, _) = HealthCheck::new(&host, Vec::new(), way);
            step.before(&mut Backups::of(dir.path(), "x")).unwrap()
        };
        assert_eq!(undo(WayBack::Steps), Undo::Nothing);
        assert_eq!(undo(WayBack::None), Undo::Nothing);
        let back = undo(WayBack::To("1.0.0-1".into()));
        assert!(
            matches!(back, Undo::Package { version: Some(v), keeps_settings: true, .. } if v == "1.0.0-1")
        );
    }

    #[test]
    fn where_nothing_starts_services_nothing_is_watched() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::detect(Layout::new(dir.path()));
        assert!(running(&host).is_empty());
        let (step, _) = HealthCheck::new(&host, Vec::new(), WayBack::Steps);
        assert!(step.satisfied().unwrap());
    }
}
