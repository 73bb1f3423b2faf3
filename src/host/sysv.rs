//! Services by init scripts (bundle.md 4.7): /etc/init.d/omsagent-<WS>, registered by whichever
//! tool the distribution has, called through its own wrapper.

use super::layout::Layout;
use super::services::ServiceError;
use super::template;
use super::umbrella::workspace_of;
use super::{Change, FILE_LIMIT};
use crate::base::command::{self, Command, Outcome};
use crate::base::files::{self, Look, Owner};
use std::path::PathBuf;
use std::time::Duration;

const DIR: &str = "/etc/init.d";
const PATIENCE: Duration = Duration::from_secs(60);

/// Tools that register a script: (program, words before its name, words after, words to take it
/// out before, after).
struct Registrar {
    program: &'static str,
    add: (&'static [&'static str], &'static [&'static str]),
    remove: (&'static [&'static str], &'static [&'static str]),
}

const REGISTRARS: [Registrar; 3] = [
    Registrar {
        program: "update-rc.d",
        add: (&[], &["defaults"]),
        remove: (&["-f"], &["remove"]),
    },
    Registrar {
        program: "/usr/lib/lsb/install_initd",
        add: (&[], &[]),
        remove: (&[], &[]),
    },
    Registrar {
        program: "chkconfig",
        add: (&["--add"], &[]),
        remove: (&["--del"], &[]),
    },
];

fn registrar() -> Option<&'static Registrar> {
    REGISTRARS
        .iter()
        .find(|r| command::find(r.program).is_some())
}

/// The first process is an init of that kind, and scripts can be registered. In a container the
/// first process is anything else.
pub(super) fn is_here(layout: &Layout) -> bool {
    let first = files::read_text(&layout.path("/proc/1/comm"), 64);
    matches!(first, Ok(Some(name)) if name.trim() == "init")
        && layout.path(DIR).is_dir()
        && registrar().is_some()
}

fn stem(name: &str) -> &str {
    name.strip_suffix(".service").unwrap_or(name)
}

/// Names in /etc/init.d, as units are called.
pub(super) fn placed(layout: &Layout) -> Vec<String> {
    let entries = std::fs::read_dir(layout.path(DIR)).into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter(|name| workspace_of(name).is_some())
        .map(|name| format!("{name}.service"))
        .collect()
}

pub(super) fn path(layout: &Layout, name: &str) -> PathBuf {
    layout.path(DIR).join(stem(name))
}

pub(super) fn text(name: &str) -> String {
    let workspace = workspace_of(name).map(|name| name.to_string());
    template::fill(
        include_str!("../../templates/host/omsagent.init"),
        &[("%WS%", workspace.as_deref().unwrap_or_default())],
    )
}

pub(super) fn install(layout: &Layout, name: &str) -> Result<Change, ServiceError> {
    let (path, text) = (path(layout, name), text(name));
    if files::read(&path, FILE_LIMIT)?.is_some_and(|b| b == text.as_bytes()) {
        return Ok(Change::AlreadyThere);
    }
    files::write_atomic(&path, text.as_bytes(), Look::owned(0o755, Owner::ROOT))?;
    Ok(Change::Made)
}

/// Is there a link that starts it in any runlevel?
pub(super) fn is_registered(layout: &Layout, name: &str) -> bool {
    let starts = |file: &str| {
        file.strip_prefix('S')
            .is_some_and(|rest| rest.get(2..) == Some(stem(name)))
    };
    ["/etc", "/etc/rc.d"].iter().any(|above| {
        (2..=5).any(|level| {
            let dir = layout.path(above).join(format!("rc{level}.d"));
            let entries = std::fs::read_dir(dir).into_iter().flatten();
            entries
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .any(|file| starts(&file))
        })
    })
}

pub(super) fn register(layout: &Layout, name: &str) -> Result<Change, ServiceError> {
    if is_registered(layout, name) {
        return Ok(Change::AlreadyThere);
    }
    if let Some(tool) = registrar() {
        call(tool.program, tool.add, "register", name)?;
    }
    Ok(Change::Made)
}

pub(super) fn unregister(layout: &Layout, name: &str) -> Result<Change, ServiceError> {
    if !is_registered(layout, name) {
        return Ok(Change::AlreadyThere);
    }
    if let Some(tool) = registrar() {
        let program = match tool.program {
            "/usr/lib/lsb/install_initd" => "/usr/lib/lsb/remove_initd",
            other => other,
        };
        call(program, tool.remove, "unregister", name)?;
    }
    Ok(Change::Made)
}

fn call(
    program: &str,
    (before, after): (&[&str], &[&str]),
    action: &'static str,
    name: &str,
) -> Result<(), ServiceError> {
    let name = stem(name);
    let command = Command::new(program).args(before).arg(name).args(after);
    told(action, name, &command.timeout(PATIENCE).run()?)
}

/// Does the script say that its service runs? One that is not there runs none.
pub(super) fn runs(layout: &Layout, name: &str) -> Result<bool, ServiceError> {
    let script = path(layout, name);
    if !script.exists() {
        return Ok(false);
    }
    let status = Command::new(&script.to_string_lossy()).arg("status");
    Ok(status.timeout(PATIENCE).run()?.ok())
}

/// Runs the script with this verb, through the distribution's wrapper where there is one.
pub(super) fn run(layout: &Layout, name: &str, action: &'static str) -> Result<(), ServiceError> {
    let script = path(layout, name);
    let stem = stem(name);
    let command = if command::find("service").is_some() {
        Command::new("service").args([stem, action])
    } else {
        Command::new(&script.to_string_lossy()).arg(action)
    };
    told(action, stem, &command.timeout(PATIENCE).run()?)
}

fn told(action: &'static str, name: &str, outcome: &Outcome) -> Result<(), ServiceError> {
    if outcome.ok() {
        return Ok(());
    }
    Err(ServiceError::Refused {
        action,
        unit: name.to_owned(),
        code: outcome.code,
        says: outcome.last_line().to_owned(),
        look: format!("{DIR}/{name} status"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_of_others_runs_when_its_script_says_so() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        std::fs::create_dir_all(dir.path().join("etc/init.d")).unwrap();
        for (name, status) in [("up", 0), ("down", 3)] {
            let script = path(&layout, name);
            let text = format!("#!/bin/sh\n[ \"$1\" = status ] && exit {status}\nexit 9\n");
            std::fs::write(&script, text).unwrap();
            std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
        }
        let running = ["up", "down", "gone"].map(|name| runs(&layout, name).unwrap());
        assert_eq!(running, [true, false, false]);
    }

    #[test]
    fn a_script_is_complete_and_its_links_are_found() {
        let name = "omsagent-LAD.service";
        let text = text(name);
        assert!(!text.contains('%') && text.contains("Provides:          omsagent-LAD\n"));
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        for folder in ["etc/init.d", "etc/rc2.d", "etc/rc.d/rc3.d"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        assert_eq!(install(&layout, name).unwrap(), Change::Made);
        assert_eq!(install(&layout, name).unwrap(), Change::AlreadyThere);
        assert_eq!(placed(&layout), [name]);
        for (link, starts) in [
            ("etc/rc2.d/K01omsagent-LAD", false),
            ("etc/rc2.d/S01omsagent-LADx", false),
            ("etc/rc.d/rc3.d/S90omsagent-LAD", true),
        ] {
            std::fs::write(dir.path().join(link), "").unwrap();
            assert_eq!(is_registered(&layout, name), starts, "{link}");
        }
    }
}
