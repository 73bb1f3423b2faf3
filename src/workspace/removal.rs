//! Taking one workspace away (`omsadmin.sh -x`), or only its traces on the running system
//! (package removal keeps identity and settings: bundle.md 5).

use super::{port, primary};
use crate::base::files;
use crate::base::ids::WorkspaceId;
use crate::host::services::ServiceManager;
use crate::host::{Host, logrotate, services, syslog, unit};
use crate::plan::Report;
use anyhow::Result;

/// Stops and unregisters the service, takes the log rotation, the program link, the syslog stanza
/// and the primary links away. The syslog daemon's restart is the caller's: true = needed.
pub fn withdraw(host: &Host, id: &WorkspaceId, report: &mut dyn Report) -> Result<bool> {
    let paths = host.layout.workspace(id);
    if host.services == ServiceManager::Systemd {
        report.line(&format!(
            "INFO:  Unconfiguring OMS agent (systemd) service {id} ..."
        ));
    }
    let _ = services::remove_unit(host, &unit::name(id))?;
    files::remove(&paths.service_registered())?;
    files::remove(&host.layout.bin().join(format!("omsagent-{id}")))?;
    let _ = logrotate::remove(host, id)?;
    if primary(&host.layout).as_ref() == Some(id) {
        for (link, _) in host.layout.primary_links(id) {
            if link.is_symlink() {
                files::remove(&link)?;
            }
        }
    }
    let port = port::configured(&host.layout, id).unwrap_or(port::FIRST);
    Ok(syslog::unconfigure(host, id, port)?.made())
}

/// Removes a workspace whole: [`withdraw`], then its folders.
pub fn remove(host: &Host, id: &WorkspaceId, report: &mut dyn Report) -> Result<()> {
    report.line(&format!("info\tDisable workspace: {id}"));
    let restart = withdraw(host, id, report)?;
    report.line("info\tCleanup the folders");
    let paths = host.layout.workspace(id);
    files::remove_tree(&paths.var)?;
    files::remove_tree(&paths.etc)?;
    if restart {
        let _ = services::restart_syslog(host)?;
    }
    Ok(())
}
