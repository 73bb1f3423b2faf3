//! How units stand, many at one asking: each call of systemctl costs some ten milliseconds.

use super::Host;
use super::services::ServiceManager;
use crate::base::command::Command;
use anyhow::Result;
use std::path::PathBuf;
use std::time::Duration;

/// How long the service manager may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// One unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitState {
    /// Its name.
    pub name: String,
    /// `loaded`, `not-found`, ...
    pub load: String,
    /// `active`, `inactive`, `failed`, `activating`, ...
    pub active: String,
    /// `running`, `dead`, `auto-restart`, ...
    pub sub: String,
    /// `enabled`, `disabled`, ...; empty when there is no unit file.
    pub file: String,
    /// The unit file, as the service manager found it.
    pub path: PathBuf,
    /// Process, if there is one.
    pub pid: Option<u32>,
    /// Automatic restarts since it was started.
    pub restarts: u32,
    /// The file on disk is newer than what the service manager knows.
    pub needs_reload: bool,
}

const PROPERTIES: &str = "Id,LoadState,ActiveState,SubState,UnitFileState,FragmentPath,MainPID,NRestarts,NeedDaemonReload";

/// The state of each of these units, in this order; empty where there is no systemd to ask.
pub fn of(host: &Host, names: &[String]) -> Result<Vec<UnitState>> {
    if !host.is_live() || host.services != ServiceManager::Systemd || names.is_empty() {
        return Ok(Vec::new());
    }
    let asked = Command::new("systemctl").args(["show", "--no-pager", "--property", PROPERTIES]);
    let outcome = asked.arg("--").args(names).timeout(PATIENCE).run()?;
    anyhow::ensure!(
        outcome.ok(),
        "`systemctl show` failed with status {}: {}",
        outcome.code,
        outcome.last_line()
    );
    let states = parse(&outcome.output);
    let of = |name: &String| states.iter().find(|s| s.name == *name).cloned();
    Ok(names.iter().filter_map(of).collect())
}

fn parse(text: &str) -> Vec<UnitState> {
    text.split("\n\n")
        .filter(|entry| entry.contains("Id="))
        .map(|entry| {
            let mut state = UnitState::default();
            for (key, value) in entry.lines().filter_map(|line| line.split_once('=')) {
                let text = value.trim().to_owned();
                match key.trim() {
                    "Id" => state.name = text,
                    "LoadState" => state.load = text,
                    "ActiveState" => state.active = text,
                    "SubState" => state.sub = text,
                    "UnitFileState" => state.file = text,
                    "FragmentPath" => state.path = text.into(),
                    "MainPID" => state.pid = text.parse().ok().filter(|pid| *pid != 0),
                    "NRestarts" => state.restarts = text.parse().unwrap_or(0),
                    "NeedDaemonReload" => state.needs_reload = text == "yes",
                    _ => {}
                }
            }
            state
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_units_of_one_answer() {
        let text = "MainPID=71\nNRestarts=2\nId=a.service\nLoadState=loaded\nActiveState=active\n\
                    SubState=running\nUnitFileState=enabled\nFragmentPath=/lib/a.service\nNeedDaemonReload=yes\n\n\
                    MainPID=0\nId=b.service\nLoadState=not-found\nActiveState=inactive\nSubState=dead\n";
        let states = parse(text);
        assert_eq!(states.len(), 2);
        assert_eq!(states[0].pid, Some(71));
        assert_eq!(states[0].path, PathBuf::from("/lib/a.service"));
        assert_eq!((states[0].restarts, states[0].needs_reload), (2, true));
        assert_eq!(
            (states[1].pid, states[1].load.as_str()),
            (None, "not-found")
        );
        assert!(parse("").is_empty());
    }
}
