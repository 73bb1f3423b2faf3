//! systemctl, called.

use super::{PATIENCE, ServiceError, ServiceManager};
use crate::base::command::{Command, Outcome};
use crate::host::Host;

/// Has the service manager read the units again.
pub fn reload(host: &Host) -> Result<(), ServiceError> {
    if host.is_live() && host.services == ServiceManager::Systemd {
        systemctl("reload units for", &["daemon-reload"], "")?;
    }
    Ok(())
}

/// Does something to a unit, or to systemd itself when `unit` is empty.
pub(super) fn systemctl(
    action: &'static str,
    args: &[&str],
    unit: &str,
) -> Result<(), ServiceError> {
    let command = Command::new("systemctl").args(args);
    let command = if unit.is_empty() {
        command
    } else {
        command.arg(unit)
    };
    let outcome = command.timeout(PATIENCE).run()?;
    if outcome.ok() {
        Ok(())
    } else {
        Err(refused(action, unit, &outcome))
    }
}

pub(super) fn refused(action: &'static str, unit: &str, outcome: &Outcome) -> ServiceError {
    // systemctl's first line is the reason, the second tells where to look: we say that ourselves.
    let says = outcome.output.lines().map(str::trim);
    let says = says.into_iter().find(|l| !l.is_empty());
    ServiceError::Refused {
        action,
        unit: unit.to_owned(),
        code: outcome.code,
        says: says.unwrap_or("no reason given").to_owned(),
        look: format!("journalctl -u {unit}"),
    }
}

/// Asks; any status will do.
pub(super) fn quietly(args: &[&str]) -> Result<Outcome, ServiceError> {
    Ok(Command::new("systemctl").args(args).run()?)
}

/// One property. Without `--value`, which older systemctl does not know.
pub(super) fn property(unit: &str, name: &'static str) -> Result<String, ServiceError> {
    let outcome = quietly(&["show", "--property", name, unit])?;
    let value = outcome
        .output
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    Ok(value.unwrap_or_default().trim().to_owned())
}
