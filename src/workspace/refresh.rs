//! `omsadmin.sh -U` and `-R`: the shipped fragments renewed, the folders put right
//! (bundle.md 6.8, 6.9). What hosts from before the time of several workspaces need is elsewhere.

use super::onboarding::{push_folders, service_owner};
use super::{all, port, primary, templates};
use crate::base::files::{self, Look, Owner};
use crate::base::ids::WorkspaceId;
use crate::host::{Host, logrotate};
use crate::plan::steps::WriteFile;
use crate::plan::{Plan, Report};
use crate::settings::proxy;
use anyhow::{Context, Result};

/// What the product ships and administrators do not edit: renewed by `-U`. syslog.conf and
/// monitor.conf hold a host's own ports.
const SHIPPED: [&str; 4] = [
    "heartbeat.conf",
    "telemetry.conf",
    "operation.conf",
    "container.conf",
];

/// What is done one after the other; what one cannot do is no other's harm.
pub type Parts = Vec<Result<Plan>>;

/// The plans of `-U`: proxy.conf brought to its place, then each workspace's shipped fragments.
pub fn update(host: &Host, report: &mut dyn Report) -> Result<Parts> {
    let owner = service_owner(host)?;
    let mut plan = Plan::new();
    let proxy = push_old_proxy(&mut plan, host, owner, report);
    let mut parts = vec![proxy.map(|()| plan)];
    for id in all(&host.layout) {
        let paths = host.layout.workspace(&id);
        if !paths.conf_d().is_dir() {
            report.line(&format!(
                "info\tWorkspace {id} has no folder {}: skipped",
                paths.conf_d().display()
            ));
            continue;
        }
        parts.push(shipped(host, &id, owner).with_context(|| format!("workspace {id}")));
    }
    Ok(parts)
}

/// The shipped fragments of one workspace.
fn shipped(host: &Host, id: &WorkspaceId, owner: Owner) -> Result<Plan> {
    let conf_d = host.layout.workspace(id).conf_d();
    let port = port::configured(&host.layout, id).unwrap_or(port::FIRST);
    let mut plan = Plan::new();
    for (path, text) in templates::render(&host.layout, id, port)? {
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        if path.starts_with(&conf_d) && SHIPPED.contains(&name) {
            // Left by a full disk, say: what the workspace has is better.
            anyhow::ensure!(
                is_text(&text),
                "the package's {name} is damaged: install the package again"
            );
            plan.push(WriteFile::new(path, text, Look::owned(0o644, owner)));
        }
    }
    Ok(plan)
}

/// Something, and nothing that is no text.
fn is_text(text: &str) -> bool {
    let odd = |c: char| (c.is_control() && !c.is_whitespace()) || c == char::REPLACEMENT_CHARACTER;
    !text.trim().is_empty() && !text.contains(odd)
}

/// proxy.conf of the time of one workspace. One in the new place is newer (R21).
fn push_old_proxy(
    plan: &mut Plan,
    host: &Host,
    owner: Owner,
    report: &mut dyn Report,
) -> Result<()> {
    let new = host.layout.proxy_conf();
    let conf = host.layout.etc().join("conf");
    let old = match primary(&host.layout) {
        Some(id) => host.layout.workspace(&id).conf(),
        None => conf,
    };
    let old = old.join("proxy.conf");
    if new.exists() {
        return Ok(());
    }
    let Some(bytes) = files::read_no_follow(&old, proxy::LIMIT)? else {
        return Ok(());
    };
    report.line(&format!(
        "info\tMoving proxy configuration from file {} to {}",
        old.display(),
        new.display()
    ));
    plan.push(WriteFile::new(new, bytes, Look::owned(0o600, owner)));
    Ok(())
}

/// The plans of `-R`: folders and log rotation of each workspace that is whole. The others are told.
pub fn rebuild(host: &Host, report: &mut dyn Report) -> Result<Parts> {
    let owner = service_owner(host)?;
    let mut parts = Parts::new();
    for id in all(&host.layout) {
        if let Some(lack) = lack(host, &id) {
            report.line(&format!("warning\t{lack}"));
            continue;
        }
        let mut plan = Plan::new();
        push_folders(&mut plan, host, &id, owner);
        let rotation = logrotate::path(host, &id);
        if rotation.parent().is_some_and(|dir| dir.is_dir()) {
            report.line(&format!("info\tConfigure log rotate for workspace {id}..."));
            let look = Look::owned(0o644, Owner::ROOT);
            plan.push(WriteFile::new(rotation, logrotate::text(&id), look));
        }
        parts.push(Ok(plan));
    }
    Ok(parts)
}

fn lack(host: &Host, id: &WorkspaceId) -> Option<String> {
    let paths = host.layout.workspace(id);
    let conf = paths.omsadmin_conf();
    let pair = super::pair(&host.layout, id);
    let there = [pair.key, pair.cert, conf.clone()]
        .iter()
        .all(|p| p.is_file());
    if !there {
        return Some(format!(
            "Workspace {id} has created a folder {}, but is missing certificates or configuration; please onboard",
            paths.etc.display()
        ));
    }
    let empty = std::fs::metadata(&conf).is_ok_and(|m| m.len() == 0);
    empty.then(|| {
        format!(
            "Workspace {id} has an empty configuration file at {}",
            conf.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::is_text;

    #[test]
    fn what_is_no_text_is_not_taken() {
        assert!(is_text("# grüße\r\n<source>\n\ttype x\n</source>\n"));
        for damaged in ["", "\n \n", "\u{1f}\u{8b}\u{8}", "a\u{fffd}b", "\0\0"] {
            assert!(!is_text(damaged), "{damaged:?}");
        }
    }
}
