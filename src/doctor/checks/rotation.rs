//! Rotation of the agent's log.

use crate::base::files::{Look, Owner};
use crate::doctor::finding::{Finding, Fix, Kind};
use crate::doctor::patient::Patient;
use crate::host::logrotate;
use std::os::unix::fs::MetadataExt;

/// Ten times what is rotated at.
const LARGE: u64 = 1 << 30;

/// One file per workspace, which logrotate reads only when it is root's alone.
pub fn own_file(patient: &Patient, found: &mut Vec<Finding>) {
    let dir = patient.host.layout.path("/etc/logrotate.d");
    if !dir.is_dir() {
        return;
    }
    for ward in patient.onboarded() {
        let path = logrotate::path(&patient.host, &ward.id);
        match std::fs::symlink_metadata(&path) {
            Err(_) => found.push(
                Finding::new(
                    "logrotate-missing",
                    format!("{} is missing", path.display()),
                )
                .seen("the agent's log would grow without end")
                .of(&ward.id)
                .fix(Fix::Workspace(ward.id.clone())),
            ),
            Ok(m) if m.uid() != 0 || m.mode() & 0o022 != 0 => {
                let look = Look::owned(0o644, Owner::ROOT);
                found.push(
                    Finding::new(
                        "logrotate-look",
                        format!("logrotate ignores {}", path.display()),
                    )
                    .seen(format!(
                        "mode {:04o}, owner {}: others can change it",
                        m.mode() & 0o7777,
                        m.uid()
                    ))
                    .of(&ward.id)
                    .fix(Fix::Look(path, look, Kind::File)),
                );
            }
            Ok(_) => {}
        }
    }
}

/// A log that nobody rotates.
pub fn log(patient: &Patient, found: &mut Vec<Finding>) {
    for ward in &patient.workspaces {
        let path = patient.host.layout.workspace(&ward.id).log_file();
        let size = std::fs::symlink_metadata(&path).map_or(0, |m| m.len());
        if size > LARGE {
            found.push(
                Finding::new("log-large", format!("{} is not rotated", path.display()))
                    .seen(format!("it has {} MiB", size >> 20))
                    .of(&ward.id)
                    .mend("see that logrotate runs (its timer or cron job), or: logrotate -f /etc/logrotate.conf"),
            );
        }
    }
}
