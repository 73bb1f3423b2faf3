//! What the agent's account may do by sudo: our rules, and no others in their place.

use crate::base::command::{self, Command};
use crate::base::files;
use crate::doctor::finding::{Finding, Fix};
use crate::doctor::patient::Patient;
use crate::host::{FILE_LIMIT, sudoers};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

fn has_sudo(patient: &Patient) -> bool {
    patient.installed
        && patient.host.is_live()
        && patient.host.layout.path("/etc/sudoers").exists()
        && command::find("visudo").is_some()
}

/// The drop-in, or the block in /etc/sudoers.
pub fn rules(patient: &Patient, found: &mut Vec<Finding>) {
    if !has_sudo(patient) {
        return;
    }
    let layout = &patient.host.layout;
    let path = layout.path("/etc/sudoers.d/omsagent");
    let rules = sudoers::rules();
    let Ok(there) = files::read_text(&path, FILE_LIMIT) else {
        return;
    };
    let Some(text) = there else {
        let main = files::read_text(&layout.path("/etc/sudoers"), FILE_LIMIT);
        let block = main
            .ok()
            .flatten()
            .is_some_and(|main| main.contains(&rules));
        if !block {
            found.push(
                Finding::new("sudo-missing", "the agent's sudo rules are missing")
                    .seen(format!(
                        "neither {} nor a block in /etc/sudoers",
                        path.display()
                    ))
                    .fix(Fix::Package),
            );
        }
        return;
    };
    let look = std::fs::symlink_metadata(&path)
        .is_ok_and(|m| m.uid() == 0 && m.gid() == 0 && m.mode() & 0o7777 == 0o440);
    if text != rules || !look {
        let seen = match text == rules {
            true => "its mode or owner is not 0440 root:root".to_owned(),
            false => {
                let foreign = text.lines().find(|l| !rules.contains(l.trim()));
                format!(
                    "its text is another, as in: {}",
                    foreign.unwrap_or("(lines are missing)")
                )
            }
        };
        let what = format!("{} is not as we write it", path.display());
        found.push(
            Finding::new("sudo-changed", what)
                .seen(seen)
                .fix(Fix::Package),
        );
    }
}

/// sudo refuses everybody when one of its files is wrong.
pub fn whole(patient: &Patient, found: &mut Vec<Finding>) {
    if !has_sudo(patient) || !nix::unistd::geteuid().is_root() {
        return;
    }
    let Ok(outcome) = Command::new("visudo").arg("-c").timeout(PATIENCE).run() else {
        return;
    };
    if !outcome.ok() {
        let says = outcome.output.lines().find(|l| !l.contains("parsed OK"));
        found.push(
            Finding::new("sudo-invalid", "sudo refuses its configuration")
                .seen(says.unwrap_or("visudo says no"))
                .mend("visudo -c names the file; correct it with visudo -f FILE"),
        );
    }
}
