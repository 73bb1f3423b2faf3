//! What removed workspaces, killed runs and the original agent have left.

use crate::base::files;
use crate::doctor::finding::{Finding, Fix};
use crate::doctor::patient::Patient;
use crate::host::FILE_LIMIT;
use crate::host::syslog::{OURS, RSYSLOG_CONF, RSYSLOG_D, SYSLOG_NG_CONF, SYSLOG_NG_D};
use crate::install::{migrate, product};
use crate::plan::history::{self, Past};
use crate::workspace::{self, removal};
use std::path::PathBuf;

/// Units, links and folders of a workspace that is not here any more.
pub fn workspaces(patient: &Patient, found: &mut Vec<Finding>) {
    let layout = &patient.host.layout;
    for id in removal::traces(layout) {
        let pseudo = id.id().is_none() && layout.workspace(&id).etc.is_dir();
        let here = pseudo || patient.workspaces.iter().any(|w| *w.id == id);
        // What a removal of the package keeps is no left-over: the folder is there.
        if here {
            continue;
        }
        let paths = layout.workspace(&id);
        let seen = match paths.var.is_dir() {
            true => format!(
                "{} is there, {} is not",
                paths.var.display(),
                paths.etc.display()
            ),
            false => {
                "a unit, a log rotation, a program link or the primary links name it".to_owned()
            }
        };
        found.push(
            Finding::new(
                "workspace-remains",
                format!("something is left of workspace {id}"),
            )
            .seen(seen)
            .of(&id)
            .mend(format!("omsadmin.sh -x {id}")),
        );
    }
}

/// What the original's packages leave behind beside that (bundle.md 4.4, 5), and whether it may go
/// without a look.
const ORIGINAL: [(&str, bool); 3] = [
    ("/etc/opt/microsoft/omsagent/omsagent.env", true),
    ("/var/opt/microsoft/omsagent/npm_state", false),
    ("/usr/share/selinux/packages/omsagent-logrotate", false),
];

/// Files of the original that nothing here uses, as the upgrade from it clears them up.
pub fn original(patient: &Patient, found: &mut Vec<Finding>) {
    let layout = &patient.host.layout;
    // Below sysconf the package manager sets aside what somebody has edited.
    let mut all: Vec<(PathBuf, bool)> = migrate::leftovers(layout, false)
        .into_iter()
        .filter(|path| !path.starts_with(layout.sysconf()))
        .map(|path| (path, true))
        .collect();
    all.extend(ORIGINAL.map(|(path, safe)| (layout.path(path), safe)));
    for (path, safe) in all {
        if std::fs::symlink_metadata(&path).is_err() {
            continue;
        }
        let what = format!("{} is the original agent's", path.display());
        let finding = Finding::new("original-remains", what);
        let finding = finding.seen("nothing of this version uses it");
        found.push(if safe {
            finding.fix(Fix::Remove(path))
        } else {
            finding.mend(format!("rm -r {}", path.display()))
        });
    }
}

/// Files that a killed run had begun: some programs read every file of their folder.
pub fn unfinished_files(patient: &Patient, found: &mut Vec<Finding>) {
    let layout = &patient.host.layout;
    let mut folders = product::folders(layout);
    for ward in &patient.workspaces {
        let paths = layout.workspace(&ward.id);
        folders.extend([
            paths.etc.clone(),
            paths.conf(),
            paths.conf_d(),
            paths.certs(),
        ]);
    }
    for folder in folders {
        for path in files::unfinished(&folder) {
            found.push(
                Finding::new(
                    "unfinished-file",
                    format!("{} was never finished", path.display()),
                )
                .seen("a run that was killed has left it")
                .fix(Fix::Remove(path)),
            );
        }
    }
}

/// A run that changed this host and did not come to its end.
pub fn unfinished_run(patient: &Patient, found: &mut Vec<Finding>) {
    if !nix::unistd::geteuid().is_root() && patient.host.is_live() {
        return;
    }
    let history = history::read(&patient.host.layout.records());
    let cut = |run: &&Past| run.is_open() && !run.is_running();
    for run in history.runs.iter().filter(cut) {
        found.push(
            Finding::new("run-unfinished", format!("a change of this host was cut off: {}", run.what))
                .seen(format!("it began {}; `omsagent history` shows it", run.time))
                .mend("the next command that changes the host takes it back or completes it; or: omsagent doctor --fix")
                .fix(Fix::Recovery),
        );
    }
}

/// Stanzas for workspaces that are not here.
pub fn syslog_lines(patient: &Patient, found: &mut Vec<Finding>) {
    let layout = &patient.host.layout;
    let everything = workspace::everything(layout);
    let all = [
        layout.path(RSYSLOG_D).join(OURS),
        layout.path(RSYSLOG_CONF),
        layout.path(SYSLOG_NG_D).join(OURS),
        layout.path(SYSLOG_NG_CONF),
    ];
    for path in all {
        let text = files::read_text(&path, FILE_LIMIT)
            .ok()
            .flatten()
            .unwrap_or_default();
        for id in text.lines().filter_map(stanza_of) {
            if everything.iter().any(|name| name.as_str() == id) {
                continue;
            }
            let what = format!("{} still forwards for workspace {id}", path.display());
            found.push(
                Finding::new("syslog-remains", what)
                    .seen("that workspace is not on this host")
                    .mend(format!(
                        "configure_syslog.sh unconfigure {id} PORT, with the port of its lines"
                    )),
            );
        }
    }
}

fn stanza_of(line: &str) -> Option<&str> {
    line.trim()
        .strip_prefix("# OMS Syslog collection for workspace ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_a_stanza_is() {
        assert_eq!(
            stanza_of("# OMS Syslog collection for workspace X"),
            Some("X")
        );
        assert_eq!(
            stanza_of("# End of OMS Syslog collection for workspace X"),
            None
        );
    }
}
