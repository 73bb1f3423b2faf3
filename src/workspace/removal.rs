//! Taking one workspace away (`omsadmin.sh -x`), or only its traces on the running system
//! (package removal keeps identity and settings: bundle.md 5).

use super::{everything, port, primary};
use crate::base::files::{self, Look, Owner};
use crate::base::ids::WorkspaceName;
use crate::base::order;
use crate::host::layout::Layout;
use crate::host::services::ServiceManager;
use crate::host::{Host, logrotate, services, syslog, unit};
use crate::plan::Report;
use anyhow::{Result, bail};
use std::path::Path;

/// Every workspace that anything is left of: a folder, a unit, a program link, a log rotation, the
/// primary links. Somebody may have deleted one of them by hand.
pub fn traces(layout: &Layout) -> Vec<WorkspaceName> {
    let names = |dir: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(dir).into_iter().flatten();
        entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect()
    };
    let mut ids = everything(layout);
    let folders = names(&layout.var());
    ids.extend(folders.iter().filter_map(|name| name.parse().ok()));
    let mut named = names(&layout.bin());
    named.extend(names(&layout.path("/etc/logrotate.d")));
    named.extend(services::placed_units(layout));
    ids.extend(named.iter().filter_map(|name| {
        let name = name.strip_suffix(".service").unwrap_or(name);
        name.strip_prefix("omsagent-")?.parse().ok()
    }));
    ids.extend(primary(layout).map(Into::into));
    // GUIDs before the pseudo-workspaces, as `-X` goes through them (bundle.md 6.5).
    order::by_key(&mut ids, |name| {
        (name.id().is_none(), !name.is_scom(), name.clone())
    });
    ids.dedup();
    ids
}

/// What [`withdraw`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Withdrawn {
    /// The syslog daemon's configuration is another: the caller restarts it.
    pub restart_syslog: bool,
    /// Nothing was in the way.
    pub complete: bool,
}

/// Stops and unregisters the service, takes the log rotation, the program link, the syslog stanza
/// and the primary links away. What cannot be done is told, and the rest is done.
pub fn withdraw(host: &Host, id: &WorkspaceName, report: &mut dyn Report) -> Withdrawn {
    let layout = &host.layout;
    let paths = layout.workspace(id);
    let systemd = match host.services {
        ServiceManager::Systemd => " (systemd)",
        _ => "",
    };
    report.line(&format!(
        "INFO:  Unconfiguring OMS agent{systemd} service {id} ..."
    ));
    let mut complete = true;
    let mut try_to = |done: Result<bool>| match done {
        Ok(made) => made,
        Err(e) => {
            complete = false;
            report.warn(&format!("workspace {id}: {e:#}"));
            false
        }
    };
    let unit = services::remove_unit(host, &unit::name(id));
    try_to(unit.map(|c| c.made()).map_err(Into::into));
    try_to(files::remove(&paths.service_registered()));
    try_to(files::remove(&layout.bin().join(format!("omsagent-{id}"))));
    try_to(logrotate::remove(host, id).map(|c| c.made()));
    if let Some(id) = primary(layout).filter(|first| **first == *id) {
        // It is again, when the package comes back.
        if std::fs::symlink_metadata(paths.conf()).is_ok_and(|m| m.is_dir()) {
            let look = Look::owned(0o644, Owner::ROOT);
            let _ = files::write_atomic(&paths.was_primary(), b"", look);
        }
        for (link, _) in layout.primary_links(&id) {
            if link.is_symlink() {
                try_to(files::remove(&link));
            }
        }
    }
    let port = port::to_give_up(layout, id, None);
    let stanza = syslog::unconfigure(host, id, port);
    let restart_syslog = try_to(stanza.map(|c| c.made()).map_err(Into::into));
    Withdrawn {
        restart_syslog,
        complete,
    }
}

/// Stops and unregisters the service, and nothing else. True when nothing was in the way.
pub fn unregister(host: &Host, id: &WorkspaceName, report: &mut dyn Report) -> bool {
    let unit = services::remove_unit(host, &unit::name(id));
    let marker = files::remove(&host.layout.workspace(id).service_registered());
    let failed = [unit.map(drop).map_err(Into::into), marker.map(drop)];
    let mut complete = true;
    for e in failed.into_iter().filter_map(Result::err) {
        complete = false;
        report.warn(&format!("workspace {id}: {e:#}"));
    }
    complete
}

/// Removes workspaces whole: [`withdraw`], then the folders. The syslog daemon is restarted once.
/// One that cannot be removed does not keep the others.
pub fn remove(host: &Host, names: &[WorkspaceName], report: &mut dyn Report) -> Result<()> {
    let mut restart_syslog = false;
    let mut kept = Vec::new();
    for name in names {
        report.line(&match host.layout.workspace(name).conf().exists() {
            true => format!("info\tDisable workspace: {name}"),
            // Traces of one that somebody deleted by hand.
            false => format!("error\tWorkspace {name} doesn't exist"),
        });
        let done = withdraw(host, name, report);
        restart_syslog |= done.restart_syslog;
        if !done.complete {
            kept.push(name.as_str());
        } else if let Err(e) = remove_folders(host, name, report) {
            report.warn(&format!("workspace {name}: {e:#}"));
            kept.push(name.as_str());
        }
    }
    if restart_syslog && let Err(e) = services::restart_syslog(host) {
        report.warn(&format!(
            "the workspaces are removed; the syslog daemon still forwards to them: {e}"
        ));
    }
    if !kept.is_empty() {
        let kept = kept.join(", ");
        bail!("workspace {kept} is not removed: see the warnings above, then try again");
    }
    Ok(())
}

fn remove_folders(host: &Host, id: &WorkspaceName, report: &mut dyn Report) -> Result<()> {
    report.line("info\tCleanup the folders");
    let paths = host.layout.workspace(id);
    if paths.conf_d().join("npmd.conf").exists() {
        files::remove_tree(&host.layout.var().join("npm_state"))?;
    }
    files::remove_tree(&paths.var)?;
    files::remove_tree(&paths.etc)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::Kept;

    #[test]
    fn traces_are_found_and_removed_without_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let id = |n: u8| format!("{n}1111111-2222-3333-4444-555555555555");
        for folder in [
            "usr/lib/systemd/system",
            "etc/logrotate.d",
            "opt/microsoft/omsagent/bin",
            "etc/opt/microsoft/omsagent",
        ] {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        let left = [
            format!("usr/lib/systemd/system/omsagent-{}.service", id(1)),
            format!("etc/logrotate.d/omsagent-{}", id(2)),
            format!("opt/microsoft/omsagent/bin/omsagent-{}", id(3)),
        ];
        for file in &left {
            std::fs::write(at(file), "x").unwrap();
        }
        std::fs::write(at("etc/logrotate.d/omsagent-other"), "x").unwrap();
        let link = at("etc/opt/microsoft/omsagent/conf");
        let gone = format!("/etc/opt/microsoft/omsagent/{}/conf", id(4));
        std::os::unix::fs::symlink(gone, &link).unwrap();
        std::fs::create_dir_all(at(&format!("var/opt/microsoft/omsagent/{}", id(5)))).unwrap();
        for name in ["LAD", "scom"] {
            std::fs::create_dir_all(at(&format!("var/opt/microsoft/omsagent/{name}"))).unwrap();
        }
        let host = Host::detect(Layout::new(dir.path()));
        let found = traces(&host.layout);
        let wanted: Vec<WorkspaceName> = (1..=5)
            .map(|n| id(n).parse().unwrap())
            .chain([WorkspaceName::scom(), WorkspaceName::lad()])
            .collect();
        assert_eq!(found, wanted);
        remove(&host, &found, &mut Kept::default()).unwrap();
        assert_eq!(traces(&host.layout), []);
        assert!(!link.is_symlink() && at("etc/logrotate.d/omsagent-other").exists());
    }
}
