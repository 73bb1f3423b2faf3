//! The running half of a workspace as steps: its program link, its unit, its syslog stanza.

use super::{forwarding, is_active};
use crate::base::files::{Look, Owner};
use crate::base::ids::WorkspaceId;
use crate::host::last_words::last_line;
use crate::host::services::{ServiceError, ServiceManager};
use crate::host::syslog::{self, SyslogError};
use crate::host::{Host, accounts, services, unit};
use crate::plan::backup::Backups;
use crate::plan::process::Process;
use crate::plan::steps::{MakeLink, WriteFile};
use crate::plan::undo::{Undo, UnitBefore};
use crate::plan::{Report, Step};
use anyhow::{Context, Result};
use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;

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
    fn before(&self, backups: &mut Backups) -> Result<Undo> {
        self.0.before(backups)
    }
    fn apply(&mut self, report: &mut dyn Report) -> Result<()> {
        self.0.apply(report)
    }
}

/// What the steps of one plan tell each other about the workspace's agent.
#[derive(Clone, Default)]
pub struct AgentNews {
    /// Something that it reads when it starts is another than before.
    stale: Rc<Cell<bool>>,
}

/// A step whose result the agent reads when it starts.
pub struct ReadByAgent<S> {
    step: S,
    news: AgentNews,
    line: Option<String>,
}

impl<S: Step> ReadByAgent<S> {
    /// `step`, which makes a running agent stale.
    pub fn new(step: S, news: &AgentNews) -> Self {
        ReadByAgent {
            step,
            news: news.clone(),
            line: None,
        }
    }

    /// With a line that is said when it is done.
    pub fn saying(self, line: impl Into<String>) -> Self {
        ReadByAgent {
            line: Some(line.into()),
            ..self
        }
    }
}

impl<S: Step> Step for ReadByAgent<S> {
    fn describe(&self) -> String {
        self.step.describe()
    }
    fn satisfied(&self) -> Result<bool> {
        self.step.satisfied()
    }
    fn before(&self, backups: &mut Backups) -> Result<Undo> {
        self.step.before(backups)
    }
    fn apply(&mut self, report: &mut dyn Report) -> Result<()> {
        self.news.stale.set(true);
        self.step.apply(report)?;
        if let Some(line) = &self.line {
            report.line(line);
        }
        Ok(())
    }
}

/// Changes nothing itself. Stands first in its plan, so that it is taken back last: an agent that
/// ran before the plan runs again, with everything that the other steps have put back.
pub struct KeepRunning {
    host: Host,
    id: WorkspaceId,
}

impl KeepRunning {
    /// The agent of one workspace.
    pub fn new(host: &Host, id: &WorkspaceId) -> Self {
        KeepRunning {
            host: host.clone(),
            id: id.clone(),
        }
    }
}

impl Step for KeepRunning {
    fn describe(&self) -> String {
        format!("should this fail: start {} as it was", unit::name(&self.id))
    }
    fn satisfied(&self) -> Result<bool> {
        Ok(!is_active(&self.host, &self.id))
    }
    fn before(&self, _: &mut Backups) -> Result<Undo> {
        let name = unit::name(&self.id);
        let pid = services::main_pid(&self.host, &name)?;
        // It may be starting again just now: then no process is the one that was there.
        let process = pid.and_then(Process::of).unwrap_or(Process {
            pid: 0,
            start: 0,
            boot: String::new(),
        });
        Ok(Undo::Running { name, process })
    }
    fn apply(&mut self, _: &mut dyn Report) -> Result<()> {
        Ok(())
    }
}

/// Where nothing we know starts services, onboarding leaves the start to the administrator, and
/// says how.
pub fn say_who_starts_it(host: &Host, id: &WorkspaceId, report: &mut dyn Report) {
    if !host.is_live() || host.services != ServiceManager::None {
        return;
    }
    let paths = host.layout.workspace(id);
    report.line(&format!(
        "warning\tNo service manager runs here: have the agent started as user {} by your own \
         means: {} run -d {} -o {} -c {}",
        accounts::OMSAGENT,
        host.layout.bin().join("omsagent").display(),
        paths.pid_file().display(),
        paths.log_file().display(),
        paths.omsagent_conf().display(),
    ));
}

/// Writes the unit, enables and starts it; without a service manager there is nothing to do.
pub struct RunService {
    host: Host,
    id: WorkspaceId,
    marker: WriteFile,
    news: AgentNews,
}

impl RunService {
    /// The service of one workspace.
    pub fn new(host: &Host, id: &WorkspaceId, news: &AgentNews) -> Self {
        let marker = WriteFile::new(
            host.layout.workspace(id).service_registered(),
            "",
            Look::owned(0o644, Owner::ROOT),
        );
        RunService {
            host: host.clone(),
            id: id.clone(),
            marker,
            news: news.clone(),
        }
    }

    fn unit(&self) -> String {
        unit::name(&self.id)
    }

    fn unit_path(&self) -> PathBuf {
        services::placed_path(&self.host, &self.unit())
    }

    fn unit_text(&self) -> Result<Option<String>> {
        Ok(services::placed_text(&self.host, &self.unit())?)
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
        Ok(!self.news.stale.get()
            && self.marker.satisfied()?
            && services::is_placed(
                &self.host,
                &self.unit(),
                &unit::text_on(&self.host.layout, &self.id),
            )?
            && services::is_enabled(&self.host, &self.unit())?
            && is_active(&self.host, &self.id))
    }

    fn before(&self, backups: &mut Backups) -> Result<Undo> {
        let name = self.unit();
        let before = match self.unit_text()? {
            None => None,
            Some(_) => Some(UnitBefore {
                file: Box::new(backups.snapshot(&self.unit_path())?),
                enabled: services::is_enabled(&self.host, &name)?,
                active: is_active(&self.host, &self.id),
            }),
        };
        let unit = Undo::Unit { name, before };
        Ok(Undo::All(vec![unit, self.marker.before(backups)?]))
    }

    fn apply(&mut self, report: &mut dyn Report) -> Result<()> {
        let unit = self.unit();
        report.line(&format!(
            "INFO:  Configuring OMS agent service {} ...",
            self.id
        ));
        let _ = services::install_unit(
            &self.host,
            &unit,
            &unit::text_on(&self.host.layout, &self.id),
        )?;
        let _ = services::enable(&self.host, &unit)?;
        self.marker.apply(report)?;
        services::restart(&self.host, &unit)
            .map(|_| ())
            .with_context(|| self.why_not())
    }
}

impl RunService {
    /// The agent's own last words explain a failed start better than systemd's.
    fn why_not(&self) -> String {
        let log = self.host.layout.workspace(&self.id).log_file();
        let unit = self.unit();
        match last_line(&log) {
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
}

impl ForwardSyslog {
    /// `port` on 127.0.0.1, default facilities.
    pub fn new(host: &Host, id: &WorkspaceId, port: u16) -> Self {
        ForwardSyslog {
            host: host.clone(),
            id: id.clone(),
            port,
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
        if self.host.syslog.is_none() {
            return Ok(true);
        }
        let selection = forwarding::selection(&self.host.layout, &self.id)?;
        if selection.is_none() {
            return Ok(true); // somebody has taken it out
        }
        match syslog::would_change(&self.host, &self.id, self.port, &selection) {
            Err(SyslogError::NoSource(_)) => Ok(false),
            paths => Ok(paths?.is_empty()),
        }
    }

    fn before(&self, backups: &mut Backups) -> Result<Undo> {
        let selection = forwarding::selection(&self.host.layout, &self.id)?;
        let paths = match syslog::would_change(&self.host, &self.id, self.port, &selection) {
            Err(SyslogError::NoSource(_)) => return Ok(Undo::Nothing),
            paths => paths?,
        };
        let files = paths.iter().map(|path| backups.snapshot(path));
        Ok(Undo::Syslog(files.collect::<Result<_>>()?))
    }

    fn apply(&mut self, report: &mut dyn Report) -> Result<()> {
        let Some(daemon) = &self.host.syslog else {
            return Ok(());
        };
        report.line(&format!("Configuring {} for OMS logging", daemon.name()));
        let wanted = forwarding::selection(&self.host.layout, &self.id)?;
        match syslog::configure_keeping(&self.host, &self.id, self.port, &wanted) {
            // Somebody else's mistake must not keep the workspace from being onboarded.
            Err(e @ (SyslogError::BrokenBefore { .. } | SyslogError::NoSource(_))) => {
                report.warn(&format!(
                    "{e}; then run: configure_syslog.sh configure {} {}",
                    self.id, self.port
                ));
                Ok(())
            }
            configured => {
                if configured?.made() {
                    match services::restart_syslog(&self.host) {
                        // Whoever runs it without either has a way of their own.
                        Err(e @ ServiceError::NoSyslogRestart(_)) => report.warn(&e.to_string()),
                        done => {
                            let _ = done?;
                        }
                    }
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::layout::Layout;
    use crate::plan::testing::{Kept, applied};

    const ID: &str = "11111111-2222-3333-4444-555555555555";

    fn host() -> (tempfile::TempDir, Host, WorkspaceId) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["usr/lib/systemd/system", "etc/rsyslog.d"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("etc/rsyslog.conf"), "# main\n").unwrap();
        let id: WorkspaceId = ID.parse().unwrap();
        let host = Host::detect(Layout::new(dir.path()));
        std::fs::create_dir_all(host.layout.workspace(&id).conf()).unwrap();
        (dir, host, id)
    }

    #[test]
    fn a_unit_that_was_there_comes_back_and_a_new_one_goes() {
        let (_dir, host, id) = host();
        let records = host.layout.path("/records");
        let path = services::unit_dir(&host.layout).join(unit::name(&id));
        let mut step = RunService::new(&host, &id, &AgentNews::default());
        applied(&mut step, &records).take_back(&host);
        assert!(!path.exists());
        std::fs::write(&path, "an older one\n").unwrap();
        let mut step = RunService::new(&host, &id, &AgentNews::default());
        assert!(!step.satisfied().unwrap());
        let done = applied(&mut step, &records);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), unit::text(&id));
        done.take_back(&host);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "an older one\n");
        assert!(!services::is_enabled(&host, &unit::name(&id)).unwrap());
        let marker = host.layout.workspace(&id).service_registered();
        assert!(!marker.exists());
    }

    #[test]
    fn forwarding_that_was_there_comes_back() {
        let (dir, host, id) = host();
        let records = host.layout.path("/records");
        let path = dir.path().join("etc/rsyslog.d/95-omsagent.conf");
        let edited =
            format!("# OMS Syslog collection for workspace {ID}\nkern.emerg\t@127.0.0.1:25300\n");
        std::fs::write(&path, &edited).unwrap();
        let done = applied(&mut ForwardSyslog::new(&host, &id, 25224), &records);
        assert!(std::fs::read_to_string(&path).unwrap().contains(":25224"));
        done.take_back(&host);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), edited);
        std::fs::remove_file(&path).unwrap();
        let done = applied(&mut ForwardSyslog::new(&host, &id, 25224), &records);
        assert!(path.exists());
        done.take_back(&host);
        assert!(!path.exists());
    }

    #[test]
    fn what_the_agent_reads_makes_it_stale() {
        let (dir, _, _) = host();
        let report = &mut Kept::default();
        let news = AgentNews::default();
        let write = WriteFile::new(dir.path().join("f"), "x", Look::mode(0o600));
        let mut step = ReadByAgent::new(write, &news);
        step.apply(report).unwrap();
        assert!(news.stale.get() && step.satisfied().unwrap());
    }
}
