//! `service_control`: start, stop and ask for workspaces' services (bundle.md 1.7).

use crate::base::files;
use crate::base::ids::WorkspaceName;
use crate::base::secret::shown_word;
use crate::cli::grammar::{Grammar, Section};
use crate::cli::report::Console;
use crate::host::layout::Layout;
use crate::host::services::{self, ServiceManager};
use crate::host::{Change, Host, process, reread, unit};
use crate::install::recovery::{self, Purpose};
use crate::workspace;
use crate::{err, out};
use anyhow::Result;
use std::ffi::OsString;
use std::path::Path;

/// Its command line as a table (bundle.md 1.7).
pub const GRAMMAR: Grammar = Grammar {
    name: "service_control",
    about: "Start, stop and ask for workspaces' services",
    synopsis: &[
        "service_control start|stop|restart|reload|enable|disable [WORKSPACE]",
        "service_control is-running [WORKSPACE]",
        "service_control find-systemd-dir",
    ],
    sections: &[Section {
        title: "Without a workspace all are meant, the pseudo workspaces scom and LAD too",
        rows: &[
            ("start [WORKSPACE]", "Register the service and start it"),
            (
                "stop [WORKSPACE]",
                "Stop it; it starts again at the next boot",
            ),
            ("restart [WORKSPACE]", "Stop it and start it"),
            (
                "reload [WORKSPACE]",
                "Have the running agent read its files anew",
            ),
            ("enable [WORKSPACE]", "Register it: it starts at boot"),
            ("disable [WORKSPACE]", "Stop it and unregister it"),
            (
                "is-running [WORKSPACE]",
                "Exit status 1: it runs, 0: it does not; without a workspace the primary one is meant",
            ),
            (
                "find-systemd-dir",
                "Show the folder of the system's own units",
            ),
            ("help", "Show this text"),
        ],
    }],
};

fn usage_text() -> String {
    format!("{}\n\n{}", GRAMMAR.usage(), GRAMMAR.table())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Start,
    Stop,
    Restart,
    Reload,
    Enable,
    Disable,
}

impl Verb {
    /// The name by which failures are reported.
    fn action(self) -> &'static str {
        match self {
            Verb::Start => "start_omsagent",
            Verb::Stop => "stop_omsagent",
            Verb::Restart | Verb::Reload => "restart_omsagent",
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
    // An empty word is none, as for the shell that the original was.
    let which = words.get(1).map(String::as_str).filter(|w| !w.is_empty());
    match words.first().map(String::as_str) {
        Some("start") => each(&host, Verb::Start, which),
        Some("stop") => each(&host, Verb::Stop, which),
        Some("restart") => each(&host, Verb::Restart, which),
        Some("reload") => each(&host, Verb::Reload, which),
        Some("enable") => each(&host, Verb::Enable, which),
        Some("disable") => each(&host, Verb::Disable, which),
        Some("is-running") => is_running(&host, which),
        Some(verb @ ("lsb-start" | "lsb-stop" | "lsb-restart" | "lsb-reload" | "lsb-status")) => {
            lsb(&host, verb, which)
        }
        Some("lsb-status-all") => lsb_status_all(&host),
        Some("find-systemd-dir") => find_systemd_dir(&host),
        Some("help" | "--help") => usage(),
        // Any single character, or a dash and one (bundle.md 1.7).
        Some(word) if word.strip_prefix('-').unwrap_or(word).chars().count() == 1 => usage(),
        None => {
            err!("Unknown parameter : ''");
            out!("{}", usage_text());
            out!("service_control exiting with code 75");
            75
        }
        Some(other) => {
            err!("Unknown parameter : '{}'", shown_word(other));
            out!("{}", usage_text());
            out!("service_control exiting with code 72");
            72
        }
    }
}

fn usage() -> u8 {
    out!("{}", usage_text());
    2
}

fn each(host: &Host, verb: Verb, which: Option<&str>) -> u8 {
    if !nix::unistd::geteuid().is_root() {
        err!("Must have root privileges for this operation");
        return 77;
    }
    let names = match which {
        None => meant(host, verb),
        Some(text) => match workspace::typed(&host.layout, text) {
            Ok(name) => vec![name],
            Err(e) => {
                err!("error\t{e}");
                return 1;
            }
        },
    };
    let ends = matches!(verb, Verb::Stop | Verb::Disable);
    if host.services == ServiceManager::None && !ends {
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
    let mut failed: u8 = 0;
    for name in &names {
        let done = one(host, verb, name).and_then(|registered| {
            // Disabled with all the others, it comes back with all the others.
            match verb == Verb::Disable && which.is_none() && registered {
                true => mark(&host.layout.workspace(name).service_disabled()),
                false => Ok(()),
            }
        });
        if let Err(e) = done {
            failed = failed.saturating_add(1);
            err!(
                "ERROR:  {} failed with result '1' on workspace {name}.",
                verb.action()
            );
            err!("error\t{e:#}");
        }
    }
    failed
}

/// Without a workspace: all of them, then scom, then LAD. What starts leaves LAD to the
/// diagnostics extension until that has named it once (bundle.md 1.7, R30).
fn meant(host: &Host, verb: Verb) -> Vec<WorkspaceName> {
    let mut names = workspace::everything(&host.layout);
    if matches!(
        verb,
        Verb::Start | Verb::Restart | Verb::Reload | Verb::Enable
    ) {
        let lad = host.layout.workspace(&WorkspaceName::lad());
        let named = [lad.service_registered(), lad.service_disabled()];
        let named = named.iter().any(|mark| mark.exists());
        names.retain(|name| *name != WorkspaceName::lad() || named);
    }
    names
}

fn mark(path: &Path) -> Result<()> {
    let look = files::Look::owned(0o644, files::Owner::ROOT);
    files::write_atomic(path, b"", look)
}

/// Does it; true when a registered service was disabled.
fn one(host: &Host, verb: Verb, name: &WorkspaceName) -> Result<bool> {
    let unit = unit::name(name);
    let paths = host.layout.workspace(name);
    // What is left of a workspace that was deleted by hand can be stopped and unregistered.
    let ends = matches!(verb, Verb::Stop | Verb::Disable);
    anyhow::ensure!(
        paths.conf().is_dir() || ends,
        "workspace {name} does not exist on this host; `omsadmin.sh -l` lists them"
    );
    // Registered, it would fail at every start of the host, and at every restart of all.
    let lacks = paths.omsagent_conf();
    anyhow::ensure!(
        lacks.is_file() || ends,
        "workspace {name} is not onboarded (`{}` is missing): run omsadmin.sh -w {name} -s KEY",
        lacks.display()
    );
    let register = || -> Result<Change> {
        files::make_link(
            &host.layout.bin().join(format!("omsagent-{name}")),
            Path::new("omsagent"),
        )?;
        let placed = services::install_unit(host, &unit, &unit::text_on(&host.layout, name))?;
        let done = services::enable(host, &unit)?.and(placed);
        if done.made() {
            out!("INFO:  Configuring OMS agent service {name} ...");
        }
        files::remove(&paths.service_disabled())?;
        mark(&paths.service_registered())?;
        Ok(done)
    };
    match verb {
        Verb::Start => {
            let _ = register()?;
            let _ = services::start(host, &unit)?;
        }
        Verb::Restart => {
            let _ = register()?;
            let _ = services::restart(host, &unit)?;
        }
        Verb::Reload => {
            // A new unit counts from the next start only.
            if register()?.made() || !reread::reread(host, name)? {
                let _ = services::restart(host, &unit)?;
            }
        }
        Verb::Enable => {
            let _ = register()?;
        }
        Verb::Stop => {
            let _ = services::stop(host, &unit)?;
        }
        Verb::Disable => {
            let systemd = match host.services {
                ServiceManager::Systemd => " (systemd)",
                _ => "",
            };
            out!("INFO:  Unconfiguring OMS agent{systemd} service {name} ...");
            let _ = services::remove_unit(host, &unit)?;
            return files::remove(&paths.service_registered());
        }
    }
    Ok(false)
}

/// What an init script asks for, by the exit codes of the LSB. No lock: whoever called the script
/// may hold it.
fn lsb(host: &Host, verb: &str, which: Option<&str>) -> u8 {
    let Some(name) = which.and_then(|text| text.parse::<WorkspaceName>().ok()) else {
        return 2;
    };
    let layout = &host.layout;
    if verb == "lsb-status" {
        return match (
            process::agent_pid(layout, &name),
            layout.workspace(&name).pid_file(),
        ) {
            (Some(pid), _) => {
                out!("omsagent-{name} runs (pid {pid})");
                0
            }
            (None, file) => {
                out!("omsagent-{name} does not run");
                if file.exists() { 1 } else { 3 }
            }
        };
    }
    if !nix::unistd::geteuid().is_root() {
        err!("Must have root privileges for this operation");
        return 4;
    }
    let done = match verb {
        "lsb-start" => lsb_start(host, &name),
        "lsb-stop" => process::stop(layout, &name).map(drop),
        "lsb-reload" => match reread::reread(host, &name) {
            Ok(false) => return 7,
            done => done.map(drop),
        },
        _ => process::stop(layout, &name).and_then(|_| lsb_start(host, &name)),
    };
    match done {
        Ok(()) => 0,
        Err(e) => {
            err!("error\t{e:#}");
            1
        }
    }
}

/// `service omsagent status`: 0 when every registered workspace's agent runs, else 3.
fn lsb_status_all(host: &Host) -> u8 {
    let registered = |name: &WorkspaceName| {
        let paths = host.layout.workspace(name);
        paths.service_registered().exists()
    };
    let mut names = workspace::everything(&host.layout);
    names.retain(registered);
    let codes = names
        .iter()
        .map(|name| lsb(host, "lsb-status", Some(name.as_str())));
    let stopped = codes.filter(|code| *code != 0).count();
    if names.is_empty() {
        out!("no workspace is registered");
    }
    if stopped > 0 || names.is_empty() {
        3
    } else {
        0
    }
}

fn lsb_start(host: &Host, name: &WorkspaceName) -> Result<()> {
    let owner = workspace::onboarding::service_owner(host)?;
    process::start(&host.layout, name, owner.uid, owner.gid).map(drop)
}

/// 1 = running, 0 = not: the original's inverted answer, on which automation relies.
fn is_running(host: &Host, which: Option<&str>) -> u8 {
    let id = match which {
        Some(text) => workspace::typed(&host.layout, text).ok(),
        None => workspace::primary(&host.layout).map(Into::into),
    };
    u8::from(id.is_some_and(|id| workspace::is_active(host, &id)))
}

fn find_systemd_dir(host: &Host) -> u8 {
    if host.services != ServiceManager::Systemd {
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
