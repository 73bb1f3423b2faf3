//! What starts things: units placed, enabled, started, asked and removed; the syslog daemon
//! restarted (bundle.md 4.7, R25, R29).
//!
//! Below a prefix units are placed and enabled by files alone, and never started.

mod placing;
mod restart_syslog;
mod systemctl;
#[cfg(test)]
mod tests;

pub use placing::{is_placed, placed_path, placed_text, placed_units, unit_dir, unit_files};
pub use restart_syslog::restart_syslog;
pub use systemctl::reload;

use super::layout::Layout;
use super::{Change, FILE_LIMIT, Host, process, sysv, umbrella};
use crate::base::command::CommandError;
use crate::base::files::{self, Look, Owner};
use anyhow::Context;
use placing::{ADMIN_DIR, UMBRELLA_WANTS, VENDOR_DIRS, link_wanted, wants_links};
use std::path::PathBuf;
use std::time::Duration;
use systemctl::{property, quietly, systemctl};

/// A start waits for the unit's own time limit (60 s) at most; a stop for 30 s.
const PATIENCE: Duration = Duration::from_secs(150);

/// What starts services here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceManager {
    /// systemd runs (live), or has a unit folder (below a prefix).
    Systemd,
    /// Init scripts, on a live host only.
    SysV,
    /// Nothing we know, e.g. a container.
    None,
}

impl ServiceManager {
    /// Live: systemd is what runs when /run/systemd/system exists.
    pub fn detect(layout: &Layout, live: bool) -> ServiceManager {
        let is = if live {
            layout.path("/run/systemd/system").is_dir()
        } else {
            VENDOR_DIRS.iter().any(|dir| layout.path(dir).is_dir())
        };
        if is {
            ServiceManager::Systemd
        } else if layout.is_live() && sysv::is_here(layout) {
            ServiceManager::SysV
        } else {
            ServiceManager::None
        }
    }
}

/// Why a service could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// There is nothing to ask.
    #[error("cannot {action} `{unit}`: neither systemd nor init scripts start services here")]
    NoManager {
        /// e.g. `start`.
        action: &'static str,
        /// The unit.
        unit: String,
    },
    /// Neither systemd nor a script of the daemon's.
    #[error(
        "cannot restart `{0}`: neither systemd nor `/etc/init.d/{0}` is here; restart it by your \
         own means (SIGHUP is not enough: it only reopens its files)"
    )]
    NoSyslogRestart(&'static str),
    /// systemctl (or a service script) failed.
    #[error("cannot {action} `{unit}` (status {code}): {says}; see `{look}`")]
    Refused {
        /// e.g. `start`.
        action: &'static str,
        /// The unit.
        unit: String,
        /// Its status.
        code: i32,
        /// Its last line.
        says: String,
        /// Where the reason is.
        look: String,
    },
    /// Not a unit's name.
    #[error("`{0}` is not the name of a service unit")]
    BadName(String),
    /// The tool could not be run.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file could not be read or written.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// Writes a unit when it is not there in just this form, and makes systemd read it.
pub fn install_unit(host: &Host, name: &str, text: &str) -> Result<Change, ServiceError> {
    check_name(name)?;
    need(host, "install", name)?;
    let placed = match host.services {
        ServiceManager::SysV => sysv::install(&host.layout, name)?,
        _ => place(host, name, text)?,
    };
    Ok(placed.and(umbrella::settle(host)?))
}

fn place(host: &Host, name: &str, text: &str) -> Result<Change, ServiceError> {
    let dir = unit_dir(&host.layout);
    let path = dir.join(name);
    if files::read(&path, FILE_LIMIT)?.is_some_and(|b| b == text.as_bytes()) {
        return Ok(Change::AlreadyThere);
    }
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make `{}`", dir.display()))?;
    files::write_atomic(&path, text.as_bytes(), Look::owned(0o644, Owner::ROOT))?;
    reload(host)?;
    Ok(Change::Made)
}

/// Has it started at boot.
pub fn enable(host: &Host, name: &str) -> Result<Change, ServiceError> {
    check_name(name)?;
    need(host, "enable", name)?;
    if !host.is_live() {
        return enable_below_prefix(host, name);
    }
    if host.services == ServiceManager::SysV {
        return sysv::register(&host.layout, name);
    }
    // One of before there was a service for all is enabled, and not wanted by that one.
    let by_umbrella = |link: &PathBuf| link.parent().is_some_and(|d| d.ends_with(UMBRELLA_WANTS));
    let alone = umbrella::workspace_of(name).is_none() || umbrella::is_theirs(&host.layout);
    let wanted = alone || wants_links(host, name)?.iter().any(by_umbrella);
    if wanted && is_enabled(host, name)? {
        return Ok(Change::AlreadyThere);
    }
    systemctl("enable", &["enable"], name)?;
    Ok(Change::Made)
}

/// No longer has it started at boot; a unit that does not exist is fine.
pub fn disable(host: &Host, name: &str) -> Result<Change, ServiceError> {
    check_name(name)?;
    if host.services == ServiceManager::SysV {
        return sysv::unregister(&host.layout, name);
    }
    let linked = !wants_links(host, name)?.is_empty();
    if host.is_live() && host.services == ServiceManager::Systemd && is_enabled(host, name)? {
        systemctl("disable", &["disable"], name)?;
    }
    for link in wants_links(host, name)? {
        files::remove(&link)?;
    }
    files::remove_dir_if_empty(&host.layout.path(ADMIN_DIR).join(UMBRELLA_WANTS));
    Ok(linked.into())
}

/// Starts it and waits until it is ready (`Type=notify`). Below a prefix nothing starts.
pub fn start(host: &Host, name: &str) -> Result<Change, ServiceError> {
    check_name(name)?;
    need(host, "start", name)?;
    if !host.is_live() || is_active(host, name)? {
        return Ok(Change::AlreadyThere);
    }
    if host.services == ServiceManager::SysV {
        sysv::run(&host.layout, name, "start")?;
        return Ok(Change::Made);
    }
    // A limit reached by earlier failures is not this start's fault.
    let _ = quietly(&["reset-failed", name]);
    systemctl("start", &["start"], name)?;
    Ok(Change::Made)
}

/// Stops it and waits until it is gone; one that does not run or exist is fine.
pub fn stop(host: &Host, name: &str) -> Result<Change, ServiceError> {
    check_name(name)?;
    if !host.is_live() {
        return Ok(Change::AlreadyThere);
    }
    if host.services == ServiceManager::None {
        // Whoever started it: a container's end must not lose what is queued.
        let name = umbrella::workspace_of(name);
        let stopped = name
            .map(|name| process::stop(&host.layout, &name))
            .transpose()?;
        return Ok(stopped.unwrap_or(false).into());
    }
    if host.services == ServiceManager::SysV {
        return match running(host, name) {
            None => Ok(Change::AlreadyThere),
            Some(_) => sysv::run(&host.layout, name, "stop").map(|()| Change::Made),
        };
    }
    // `activating (auto-restart)` is not active, but it will be: only these two are at rest.
    let state = property(name, "ActiveState")?;
    if matches!(state.as_str(), "inactive" | "failed") {
        return Ok(Change::AlreadyThere);
    }
    systemctl("stop", &["stop"], name)?;
    Ok(Change::Made)
}

/// Stops and starts it, also when it did not run. Below a prefix nothing starts.
pub fn restart(host: &Host, name: &str) -> Result<Change, ServiceError> {
    check_name(name)?;
    need(host, "restart", name)?;
    if !host.is_live() {
        return Ok(Change::AlreadyThere);
    }
    if host.services == ServiceManager::SysV {
        sysv::run(&host.layout, name, "restart")?;
        return Ok(Change::Made);
    }
    let _ = quietly(&["reset-failed", name]);
    systemctl("restart", &["restart"], name)?;
    Ok(Change::Made)
}

/// Where systemd is not asked: the process that the workspace's pid file names.
fn running(host: &Host, name: &str) -> Option<u32> {
    process::agent_pid(&host.layout, &umbrella::workspace_of(name)?)
}

/// Does it run, ready? systemd is asked, not a pid file (R29); where it is not, the process is
/// looked at.
pub fn is_active(host: &Host, name: &str) -> Result<bool, ServiceError> {
    check_name(name)?;
    if !host.is_live() {
        return Ok(false);
    }
    if host.services != ServiceManager::Systemd {
        return Ok(running(host, name).is_some());
    }
    Ok(quietly(&["is-active", "--quiet", name])?.ok())
}

/// Does a service run that is not ours, `docker` or `docker.service`? Without systemd its script is
/// asked, which answers with 0 then, as the LSB says. Below a prefix nothing runs.
pub fn runs(host: &Host, name: &str) -> Result<bool, ServiceError> {
    let stem = name.strip_suffix(".service").unwrap_or(name);
    let unit = format!("{stem}.service");
    check_name(&unit)?;
    if !host.is_live() || host.services == ServiceManager::Systemd {
        return is_active(host, &unit);
    }
    sysv::runs(&host.layout, stem)
}

/// Is it started at boot?
pub fn is_enabled(host: &Host, name: &str) -> Result<bool, ServiceError> {
    check_name(name)?;
    if host.is_live() && host.services == ServiceManager::Systemd {
        return Ok(quietly(&["is-enabled", "--quiet", name])?.ok());
    }
    if host.services == ServiceManager::SysV {
        return Ok(sysv::is_registered(&host.layout, name));
    }
    Ok(!wants_links(host, name)?.is_empty())
}

/// The process that is the service now.
pub fn main_pid(host: &Host, name: &str) -> Result<Option<u32>, ServiceError> {
    check_name(name)?;
    if !host.is_live() {
        return Ok(None);
    }
    if host.services != ServiceManager::Systemd {
        return Ok(running(host, name));
    }
    let pid = property(name, "MainPID")?;
    Ok(pid.parse().ok().filter(|pid| *pid != 0))
}

/// What systemd says of a unit at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activity {
    /// `active`, `activating`, `failed`, ...
    pub state: String,
    /// `running`, `auto-restart`, ...
    pub sub_state: String,
    /// Its process.
    pub main_pid: Option<u32>,
    /// How often systemd started it anew by itself; 0 where an older systemd does not say.
    pub restarts: u32,
}

/// Asks for all of it at once.
pub fn activity(host: &Host, name: &str) -> Result<Activity, ServiceError> {
    check_name(name)?;
    need(host, "ask for", name)?;
    if host.services != ServiceManager::Systemd {
        let main_pid = running(host, name);
        let (state, sub_state) = match main_pid {
            Some(_) => ("active", "running"),
            None => ("inactive", "dead"),
        };
        return Ok(Activity {
            state: state.into(),
            sub_state: sub_state.into(),
            main_pid,
            restarts: 0,
        });
    }
    const NAMES: &str = "ActiveState,SubState,MainPID,NRestarts";
    let outcome = quietly(&["show", "--property", NAMES, name])?;
    Ok(read_activity(&outcome.output))
}

fn read_activity(text: &str) -> Activity {
    let value = |name: &str| {
        let values = text.lines().find_map(|line| line.strip_prefix(name));
        values.unwrap_or_default().trim().to_owned()
    };
    Activity {
        state: value("ActiveState="),
        sub_state: value("SubState="),
        main_pid: value("MainPID=").parse().ok().filter(|pid| *pid != 0),
        restarts: value("NRestarts=").parse().unwrap_or(0),
    }
}

/// Stops it, takes it out of the boot, deletes the unit from every folder it may be in, and makes
/// systemd forget it. Works without systemd too: then only files go.
pub fn remove_unit(host: &Host, name: &str) -> Result<Change, ServiceError> {
    Ok(take_unit_away(host, name)?.and(umbrella::settle(host)?))
}

/// The unit that stands for all: placed, started at boot and now, without what it wants: each
/// workspace is started by who asks for it.
pub(super) fn place_umbrella(host: &Host, name: &str, text: &str) -> Result<Change, ServiceError> {
    let mut change = place(host, name, text)?;
    if !host.is_live() {
        return Ok(change.and(link_wanted(host, name, "multi-user.target.wants")?));
    }
    if !is_enabled(host, name)? {
        systemctl("enable", &["enable"], name)?;
        change = Change::Made;
    }
    if !quietly(&["is-active", "--quiet", name])?.ok() {
        systemctl("start", &["start", "--job-mode=ignore-dependencies"], name)?;
        change = Change::Made;
    }
    Ok(change)
}

/// [`remove_unit`] of one.
pub(super) fn take_unit_away(host: &Host, name: &str) -> Result<Change, ServiceError> {
    check_name(name)?;
    let live = host.is_live() && host.services == ServiceManager::Systemd;
    let mut change = stop(host, name)?.and(disable(host, name)?);
    for dir in VENDOR_DIRS.iter().chain([&ADMIN_DIR]) {
        change = change.and(files::remove(&host.layout.path(dir).join(name))?.into());
    }
    if umbrella::workspace_of(name).is_some() {
        change = change.and(files::remove(&sysv::path(&host.layout, name))?.into());
    }
    if live && change.made() {
        reload(host)?;
        let _ = quietly(&["reset-failed", name]);
    }
    Ok(change)
}

fn need(host: &Host, action: &'static str, unit: &str) -> Result<(), ServiceError> {
    match host.services {
        ServiceManager::Systemd | ServiceManager::SysV => Ok(()),
        ServiceManager::None => Err(ServiceError::NoManager {
            action,
            unit: unit.to_owned(),
        }),
    }
}

fn check_name(name: &str) -> Result<(), ServiceError> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b"-_.@".contains(&b);
    if name.ends_with(".service") && !name.starts_with(['-', '.']) && name.bytes().all(fine) {
        Ok(())
    } else {
        Err(ServiceError::BadName(name.chars().take(80).collect()))
    }
}

fn enable_below_prefix(host: &Host, name: &str) -> Result<Change, ServiceError> {
    let booted = link_wanted(host, name, "multi-user.target.wants")?;
    if umbrella::workspace_of(name).is_none() || umbrella::is_theirs(&host.layout) {
        return Ok(booted);
    }
    Ok(booted.and(link_wanted(host, name, UMBRELLA_WANTS)?))
}
