//! `service_control`: start, stop and ask for workspaces' services (bundle.md 1.7).

use crate::base::files;
use crate::base::ids::WorkspaceId;
use crate::base::secret::shown_word;
use crate::cli::report::Console;
use crate::host::Host;
use crate::host::layout::Layout;
use crate::host::services::{self, ServiceManager};
use crate::host::unit;
use crate::install::recovery::{self, Purpose};
use crate::workspace;
use crate::{err, out};
use anyhow::Result;
use std::ffi::OsString;

const USAGE: &str = "usage: service_control start|stop|restart|reload|enable|disable [workspace id]
       service_control is-running [workspace id]     exit status 1: running, 0: not running
       service_control find-systemd-dir
Without a workspace id, all workspaces are meant (is-running: the primary one).";

#[derive(Clone, Copy)]
enum Verb {
    Start,
    Stop,
    Restart,
    Enable,
    Disable,
}

impl Verb {
    /// The name by which failures are reported.
    fn action(self) -> &'static str {
        match self {
            Verb::Start => "start_omsagent",
            Verb::Stop => "stop_omsagent",
            Verb::Restart => "restart_omsagent",
            Verb::Enable => "enable_omsagent_service",
            Verb::Disable => "disable_omsagent_service",
        }
    }
}

/// Runs service_control with the words after its name.
pub fn run(words: &[OsString]) -> u8 {
    let words: Vec<String> = words
        .iter()
        .map(|w| w.to_string_lossy().into_owned())
        .collect();
    let host = Host::detect(Layout::new("/"));
    let which = words.get(1).map(String::as_str);
    match words.first().map(String::as_str) {
        Some("start") => each(&host, Verb::Start, which),
        Some("stop") => each(&host, Verb::Stop, which),
        Some("restart" | "reload") => each(&host, Verb::Restart, which),
        Some("enable") => each(&host, Verb::Enable, which),
        Some("disable") => each(&host, Verb::Disable, which),
        Some("is-running") => is_running(&host, which),
        Some("find-systemd-dir") => find_systemd_dir(&host),
        Some("help" | "--help") => usage(),
        // Any single character, or a dash and one (bundle.md 1.7).
        Some(word) if word.strip_prefix('-').unwrap_or(word).chars().count() == 1 => usage(),
        None => {
            err!("Unknown parameter : ''");
            out!("{USAGE}");
            out!("service_control exiting with code 75");
            75
        }
        Some(other) => {
            err!("Unknown parameter : '{}'", shown_word(other));
            out!("{USAGE}");
            out!("service_control exiting with code 72");
            72
        }
    }
}

fn usage() -> u8 {
    out!("{USAGE}");
    2
}

fn each(host: &Host, verb: Verb, which: Option<&str>) -> u8 {
    if !nix::unistd::geteuid().is_root() {
        err!("Must have root privileges for this operation");
        return 77;
    }
    if host.services == ServiceManager::None {
        // A container has nobody to start services; that is not a failure of the caller.
        out!("No service manager runs here: start the agent with `omsagent run --workspace ID`.");
        return 0;
    }
    // A package that is just being removed must not find its services registered again.
    let _lock = match recovery::enter(host, Purpose::Change, &mut Console) {
        Ok(lock) => lock,
        Err(e) => {
            err!("error\t{e:#}");
            return 30;
        }
    };
    let ids: Vec<WorkspaceId> = match which {
        None => workspace::all(&host.layout),
        Some(text) => match text.parse() {
            Ok(id) => vec![id],
            Err(e) => {
                err!("error\t{e}");
                return 1;
            }
        },
    };
    let mut failed: u8 = 0;
    for id in &ids {
        if let Err(e) = one(host, verb, id) {
            failed = failed.saturating_add(1);
            err!(
                "ERROR:  {} failed with result '1' on workspace {id}.",
                verb.action()
            );
            err!("error\t{e:#}");
        }
    }
    failed
}

fn one(host: &Host, verb: Verb, id: &WorkspaceId) -> Result<()> {
    let unit = unit::name(id);
    let paths = host.layout.workspace(id);
    // What is left of a workspace that was deleted by hand can be stopped and unregistered.
    let ends = matches!(verb, Verb::Stop | Verb::Disable);
    anyhow::ensure!(
        paths.conf().is_dir() || ends,
        "workspace {id} does not exist on this host; `omsadmin.sh -l` lists them"
    );
    let register = || -> Result<()> {
        let placed = services::install_unit(host, &unit, &unit::text(id))?;
        if services::enable(host, &unit)?.and(placed).made() {
            out!("INFO:  Configuring OMS agent service {id} ...");
        }
        let look = files::Look::owned(0o644, files::Owner::ROOT);
        files::write_atomic(&paths.service_registered(), b"", look)
    };
    match verb {
        Verb::Start => {
            register()?;
            let _ = services::start(host, &unit)?;
            Ok(())
        }
        Verb::Restart => {
            register()?;
            let _ = services::restart(host, &unit)?;
            Ok(())
        }
        Verb::Enable => register(),
        Verb::Stop => {
            let _ = services::stop(host, &unit)?;
            Ok(())
        }
        Verb::Disable => {
            out!("INFO:  Unconfiguring OMS agent (systemd) service {id} ...");
            let _ = services::remove_unit(host, &unit)?;
            files::remove(&paths.service_registered()).map(|_| ())
        }
    }
}

/// 1 = running, 0 = not: the original's inverted answer, on which automation relies.
fn is_running(host: &Host, which: Option<&str>) -> u8 {
    let id = match which {
        Some(text) => text.parse().ok(),
        None => workspace::primary(&host.layout),
    };
    u8::from(id.is_some_and(|id| workspace::is_active(host, &id)))
}

fn find_systemd_dir(host: &Host) -> u8 {
    if host.services == ServiceManager::None {
        return 67;
    }
    for dir in ["/usr/lib/systemd/system", "/lib/systemd/system"] {
        if host.layout.path(dir).is_dir() {
            out!("{dir}");
            return 0;
        }
    }
    67
}
