//! The running half of a workspace as steps: its program link, its unit, its syslog stanza.

use super::is_active;
use crate::base::files::{self, Look, Owner};
use crate::base::ids::WorkspaceId;
use crate::host::services::ServiceManager;
use crate::host::syslog::{self, Selection, SyslogError};
use crate::host::{Host, services, unit};
use crate::plan::steps::{MakeLink, WriteFile};
use crate::plan::{Report, Step};
use anyhow::{Context, Result};

/// `OPT/bin/omsagent-<WS>`: the process name by which administrators know the workspace.
pub struct ServiceLink(MakeLink);

impl ServiceLink {
    /// The link of one workspace.
    pub fn new(host: &Host, id: &WorkspaceId) -> Self {
        let link = host.layout.bin().join(format!("omsagent-{id}"));
        ServiceLink(MakeLink::new(link, "omsagent"))
    }
}

impl Step for ServiceLink {
    fn describe(&self) -> String {
        self.0.describe()
    }
    fn satisfied(&self) -> Result<bool> {
        self.0.satisfied()
    }
    fn apply(&mut self, report: &mut dyn Report) -> Result<()> {
        self.0.apply(report)
    }
    fn undo(&mut self, report: &mut dyn Report) -> Result<()> {
        self.0.undo(report)
    }
}

/// Writes the unit, enables and starts it; without a service manager there is nothing to do.
pub struct RunService {
    host: Host,
    id: WorkspaceId,
    marker: WriteFile,
    made: bool,
}

impl RunService {
    /// The service of one workspace.
    pub fn new(host: &Host, id: &WorkspaceId) -> Self {
        let marker = WriteFile::new(
            host.layout.workspace(id).service_registered(),
            "",
            Look::owned(0o644, Owner::ROOT),
        );
        RunService {
            host: host.clone(),
            id: id.clone(),
            marker,
            made: false,
        }
    }

    fn unit(&self) -> String {
        unit::name(&self.id)
    }
}

impl Step for RunService {
    fn describe(&self) -> String {
        format!("install, enable and start {}", self.unit())
    }

    fn satisfied(&self) -> Result<bool> {
        if self.host.services == ServiceManager::None {
            return Ok(true);
        }
        let path = services::unit_dir(&self.host.layout).join(self.unit());
        let there = files::read_text(&path, 1 << 20)?;
        Ok(self.marker.satisfied()?
            && there.is_some_and(|t| t == unit::text(&self.id))
            && services::is_enabled(&self.host, &self.unit())?
            && is_active(&self.host, &self.id))
    }

    fn apply(&mut self, report: &mut dyn Report) -> Result<()> {
        let unit = self.unit();
        report.line(&format!(
            "INFO:  Configuring OMS agent service {} ...",
            self.id
        ));
        self.made = true;
        let _ = services::install_unit(&self.host, &unit, &unit::text(&self.id))?;
        let _ = services::enable(&self.host, &unit)?;
        self.marker.apply(report)?;
        services::restart(&self.host, &unit)
            .map(|_| ())
            .with_context(|| self.why_not())
    }

    fn undo(&mut self, report: &mut dyn Report) -> Result<()> {
        if !self.made {
            return Ok(());
        }
        self.marker.undo(report)?;
        let _ = services::remove_unit(&self.host, &self.unit())?;
        Ok(())
    }
}

impl RunService {
    /// The agent's own last words explain a failed start better than systemd's.
    fn why_not(&self) -> String {
        let log = self.host.layout.workspace(&self.id).log_file();
        let last = files::read_text(&log, 8 << 20)
            .ok()
            .flatten()
            .and_then(|t| t.lines().last().map(str::to_owned));
        let unit = self.unit();
        match last {
            Some(line) => format!(
                "cannot start {unit}; last line of {}: {line}",
                log.display()
            ),
            None => format!("cannot start {unit}; see `journalctl -u {unit}`"),
        }
    }
}

/// Points the host's syslog daemon at the workspace's port and restarts it when that changed
/// anything. A host without a known daemon is said, not failed (bundle.md 1.8).
pub struct ForwardSyslog {
    host: Host,
    id: WorkspaceId,
    port: u16,
    made: bool,
}

impl ForwardSyslog {
    /// `port` on 127.0.0.1, default facilities.
    pub fn new(host: &Host, id: &WorkspaceId, port: u16) -> Self {
        ForwardSyslog {
            host: host.clone(),
            id: id.clone(),
            port,
            made: false,
        }
    }
}

impl Step for ForwardSyslog {
    fn describe(&self) -> String {
        match &self.host.syslog {
            Some(daemon) => format!(
                "let {} forward to 127.0.0.1:{} and restart it",
                daemon.name(),
                self.port
            ),
            None => "no supported syslog daemon found: nothing to forward".into(),
        }
    }

    fn satisfied(&self) -> Result<bool> {
        match &self.host.syslog {
            None => Ok(true),
            Some(_) => Ok(syslog::is_configured(
                &self.host,
                &self.id,
                self.port,
                &Selection::default(),
            )?),
        }
    }

    fn apply(&mut self, report: &mut dyn Report) -> Result<()> {
        let Some(daemon) = &self.host.syslog else {
            return Ok(());
        };
        report.line(&format!("Configuring {} for OMS logging", daemon.name()));
        self.made = true;
        let wanted = Selection::default();
        match syslog::configure(&self.host, &self.id, self.port, &wanted) {
            // Somebody else's mistake must not keep the workspace from being onboarded.
            Err(e @ SyslogError::BrokenBefore { .. }) => {
                self.made = false;
                report.warn(&format!(
                    "{e}; then run: configure_syslog.sh configure {} {}",
                    self.id, self.port
                ));
                Ok(())
            }
            configured => {
                if configured?.made() {
                    let _ = services::restart_syslog(&self.host)?;
                }
                Ok(())
            }
        }
    }

    fn undo(&mut self, _: &mut dyn Report) -> Result<()> {
        if self.made && syslog::unconfigure(&self.host, &self.id, self.port)?.made() {
            let _ = services::restart_syslog(&self.host)?;
        }
        Ok(())
    }
}
