//! The agent as a service: its unit, its process.

use crate::base::files;
use crate::doctor::asking::Silent;
use crate::doctor::finding::{Finding, Fix};
use crate::doctor::patient::{Patient, Ward};
use crate::doctor::process;
use crate::host::last_words;
use crate::host::services::ServiceManager;
use crate::host::{services, unit};
use std::time::Duration;

/// More automatic restarts than this are no accident.
const RESTARTS: u32 = 3;
/// An agent that is just starting has no socket yet.
const YOUNG: Duration = Duration::from_secs(5);

/// The unit file: there, as we write it, started at boot, known to systemd as it is on disk.
pub fn unit(patient: &Patient, found: &mut Vec<Finding>) {
    if !patient.host.is_live() {
        return;
    }
    match patient.host.services {
        ServiceManager::Systemd => {}
        ServiceManager::SysV => return script(patient, found),
        ServiceManager::None => return,
    }
    for ward in patient.onboarded() {
        let name = unit::name(&ward.id);
        let fix = Fix::Workspace(ward.id.clone());
        let mut say = |id, what: String, seen: &str| {
            let finding = Finding::new(id, what).seen(seen).of(&ward.id);
            found.push(finding.fix(fix.clone()));
        };
        let state = ward.unit.as_ref().filter(|u| u.load != "not-found");
        // Where systemd found it; below /etc on hosts that are images.
        let path = state.map(|u| u.path.clone()).unwrap_or_default();
        let text = files::read_text(&path, 1 << 20).ok().flatten();
        let Some(state) = state.filter(|_| text.is_some()) else {
            say(
                "unit-missing",
                format!("{name} is not there"),
                "systemd cannot start the agent",
            );
            continue;
        };
        if text.is_some_and(|t| t != unit::text_on(&patient.host.layout, &ward.id)) {
            let what = format!("{} is not as this version writes it", path.display());
            say(
                "unit-changed",
                what,
                "own settings belong into a drop-in: systemctl edit",
            );
        }
        if state.file != "enabled" {
            let seen = format!("systemd says `{}`", state.file);
            say(
                "unit-disabled",
                format!("{name} is not started at boot"),
                &seen,
            );
        }
        if state.needs_reload {
            found.push(
                Finding::new("unit-not-reloaded", format!("{name} was changed on disk"))
                    .seen("systemd still has the old text")
                    .of(&ward.id)
                    .mend("systemctl daemon-reload"),
            );
        }
    }
}

/// The init script, where those start services.
fn script(patient: &Patient, found: &mut Vec<Finding>) {
    let host = &patient.host;
    for ward in patient.onboarded() {
        let name = unit::name(&ward.id);
        let path = services::placed_path(host, &name);
        let mut say = |id, what: String, seen: &str| {
            let finding = Finding::new(id, what).seen(seen).of(&ward.id);
            found.push(finding.fix(Fix::Workspace(ward.id.clone())));
        };
        if !path.is_file() {
            let what = format!("{} is not there", path.display());
            say("unit-missing", what, "init cannot start the agent");
            continue;
        }
        if !services::is_placed(host, &name, "").unwrap_or(false) {
            let what = format!("{} is not as this version writes it", path.display());
            say("unit-changed", what, "it is written anew at each upgrade");
        }
        if !services::is_enabled(host, &name).unwrap_or(false) {
            let what = format!("{} is not started at boot", path.display());
            say("unit-disabled", what, "no link in /etc/rc2.d to /etc/rc5.d");
        }
    }
}

/// The agent: running, not again and again, answering.
pub fn running(patient: &Patient, found: &mut Vec<Finding>) {
    if !patient.host.is_live() {
        return;
    }
    for ward in patient.onboarded() {
        let name = unit::name(&ward.id);
        if !ward.runs() {
            found.push(stopped(patient, ward, &name));
            continue;
        }
        if let Some(unit) = ward.unit.as_ref().filter(|u| u.restarts >= RESTARTS) {
            found.push(
                Finding::new(
                    "agent-restarts",
                    format!("{name} was started again and again"),
                )
                .seen(format!(
                    "{} automatic restarts{}",
                    unit.restarts,
                    last_words(patient, ward)
                ))
                .of(&ward.id)
                .mend(format!(
                    "journalctl -u {name}; then: systemctl reset-failed {name}"
                )),
            );
        }
        let process = ward.unit.as_ref().and_then(|u| process::look(u.pid?));
        let old_enough = process.is_none_or(|p| p.age > YOUNG);
        if let Err(why) = &ward.figures
            && *why != Silent::Forbidden
            && old_enough
        {
            let state = process.map_or(String::new(), |p| {
                format!("; its process is in state {}", p.state)
            });
            found.push(
                Finding::new(
                    "agent-stuck",
                    format!("the agent of {name} runs and does not answer"),
                )
                .seen(format!("{why}{state}"))
                .of(&ward.id)
                .mend(format!("systemctl restart {name}")),
            );
        }
    }
}

fn stopped(patient: &Patient, ward: &Ward, name: &str) -> Finding {
    let state = match &ward.unit {
        Some(unit) => format!("systemd says `{}` ({})", unit.active, unit.sub),
        None => "no process answers".to_owned(),
    };
    let finding = Finding::new("agent-stopped", format!("the agent of {name} does not run"));
    let finding = finding
        .seen(format!("{state}{}", last_words(patient, ward)))
        .of(&ward.id);
    match patient.host.services {
        ServiceManager::Systemd | ServiceManager::SysV => {
            finding.fix(Fix::Workspace(ward.id.clone()))
        }
        ServiceManager::None => {
            finding.mend("start it: omsagent run --workspace ID, as user omsagent")
        }
    }
}

/// The last line of its log that is worse than a notice.
fn last_words(patient: &Patient, ward: &Ward) -> String {
    let log = patient.host.layout.workspace(&ward.id).log_file();
    let bad = |l: &str| l.contains("[error]") || l.contains("[warn]");
    let line = last_words::last_line_where(&log, bad);
    line.map(|l| format!("; its log says: {l}"))
        .unwrap_or_default()
}

/// A program that was replaced on disk and still runs.
pub fn program(patient: &Patient, found: &mut Vec<Finding>) {
    for ward in patient.onboarded() {
        let Some(pid) = ward.unit.as_ref().and_then(|u| u.pid) else {
            continue;
        };
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        if exe.to_string_lossy().ends_with(" (deleted)") {
            let name = unit::name(&ward.id);
            found.push(
                Finding::new(
                    "agent-outdated",
                    format!("{name} runs a program that is gone"),
                )
                .seen(format!("process {pid} was started before the last upgrade"))
                .of(&ward.id)
                .mend(format!("systemctl restart {name}")),
            );
        }
    }
}
