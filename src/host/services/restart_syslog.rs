//! The syslog daemon, restarted by whatever starts it here.

use super::systemctl::{quietly, refused, systemctl};
use super::{PATIENCE, ServiceError, ServiceManager, is_active, is_enabled};
use crate::base::command::{self, Command};
use crate::host::syslog::SyslogDaemon;
use crate::host::{Change, Host};

/// A script of this name runs whichever daemon is installed.
const GENERAL: &str = "syslog";

/// Restarts the syslog daemon so that it reads its configuration again (SIGHUP is not enough: it
/// only reopens its files). One that somebody stopped and disabled stays as it is: `AlreadyThere`.
pub fn restart_syslog(host: &Host) -> Result<Change, ServiceError> {
    let Some(daemon) = &host.syslog else {
        return Ok(Change::AlreadyThere);
    };
    let service = match daemon {
        SyslogDaemon::Rsyslog { .. } | SyslogDaemon::OldRsyslog => "rsyslog",
        SyslogDaemon::SyslogNg => "syslog-ng",
    };
    if !host.is_live() {
        return Ok(Change::AlreadyThere);
    }
    if host.services == ServiceManager::Systemd {
        let unit = format!("{service}.service");
        if !is_active(host, &unit)? && !is_enabled(host, &unit)? {
            return Ok(Change::AlreadyThere);
        }
        // dpkg triggers restart rsyslog as well: together they reach its start limit.
        let _ = quietly(&["reset-failed", &unit]);
        systemctl("restart", &["restart"], &unit)?;
        return Ok(Change::Made);
    }
    // One that does not run, as in most containers, reads its configuration when it starts.
    if !runs(host, daemon) {
        return Ok(Change::AlreadyThere);
    }
    let script_of = |service: &str| format!("/etc/init.d/{service}");
    // Some distributions run syslog-ng by a script with the general name.
    let service = match command::find(&script_of(service)) {
        None if command::find(&script_of(GENERAL)).is_some() => GENERAL,
        _ => service,
    };
    let script = script_of(service);
    let ways: [Command; 3] = [
        Command::new("invoke-rc.d").args([service, "restart"]),
        Command::new("service").args([service, "restart"]),
        Command::new(&script).arg("restart"),
    ];
    let script_there = command::find(&script).is_some();
    for (way, program) in ways.into_iter().zip(["invoke-rc.d", "service", &script]) {
        if !script_there || command::find(program).is_none() {
            continue;
        }
        let outcome = way.timeout(PATIENCE).run()?;
        return if outcome.ok() {
            Ok(Change::Made)
        } else {
            Err(refused("restart", service, &outcome))
        };
    }
    Err(ServiceError::NoSyslogRestart(service))
}

/// Is there a process of the syslog daemon's?
fn runs(host: &Host, daemon: &SyslogDaemon) -> bool {
    let program = match daemon {
        SyslogDaemon::SyslogNg => "syslog-ng",
        _ => "rsyslogd",
    };
    let entries = std::fs::read_dir(host.layout.path("/proc"))
        .into_iter()
        .flatten();
    entries
        .filter_map(|entry| Some(entry.ok()?.path().join("comm")))
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .any(|name| name.trim() == program)
}
