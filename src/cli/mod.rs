//! Floor 5: a door each. Words typed -> a request; a result -> text or JSON and an exit code.
//! Nothing below this floor prints and exits.

use crate::base::spent;
use crate::plan::lock;
use crate::{err, out};
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub mod admin;
pub mod agent;
pub mod bundle;
pub mod config;
pub mod doctor;
pub mod explain;
pub mod history;
pub mod hub;
pub mod identity;
pub mod maintainer;
pub mod pack;
pub mod report;
pub mod rollback;
pub mod service;
pub mod signals;
pub mod status;
pub mod syslog;
pub mod uninstall;
pub mod verify;

/// What the one binary can do.
#[derive(Debug, Parser)]
#[command(name = "omsagent", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    door: Door,
}

#[derive(Debug, Subcommand)]
enum Door {
    /// Run the forwarding agent of one workspace
    Run(agent::Args),
    /// The self-hosted workspace service
    Hub(hub::Args),
    /// Build, inspect, sign and verify packages and bundles
    Pack(pack::Args),
    /// Which runs changed this host, and what became of them
    History(history::Args),
    /// Is a bundle whole, and who signed it?
    Verify(verify::Args),
    /// How every workspace of this host stands
    Status(status::Args),
    /// What is wrong with this host's agent, and how to mend it
    Doctor(doctor::Args),
    /// What the agent makes of an omsagent.conf, directive by directive
    #[command(subcommand)]
    Config(config::Args),
    /// Onboard, list and remove workspaces (omsadmin.sh)
    Admin(Words),
    /// Start, stop and ask for workspaces' services (service_control)
    Service(Words),
    /// The forwarding stanza of the syslog daemon (configure_syslog.sh)
    Syslog(Words),
    /// Is this host a copy of another one? A new identity for copies
    #[command(subcommand)]
    Identity(identity::Args),
    /// Go back to the packages before the last upgrade
    Rollback(rollback::Args),
    /// Remove (R) or purge (P) the package
    Uninstall(Words),
    /// Called by the packages' maintainer scripts
    #[command(hide = true)]
    Maintainer(Words),
}

/// Words of a door that has its own, older grammar; clap passes them on as they are.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true, disable_version_flag = true)]
struct Words {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// Picks the door by the program's own name and first word.
pub fn main() -> ExitCode {
    spent::begin();
    let args: Vec<OsString> = std::env::args_os().collect();
    heed_the_environment();
    ExitCode::from(dispatch(args))
}

/// `OMSAGENT_LOCK_TIMEOUT`: for every door; an option of a door's own goes before it.
fn heed_the_environment() {
    let Some(text) = std::env::var_os("OMSAGENT_LOCK_TIMEOUT").filter(|v| !v.is_empty()) else {
        return;
    };
    match lock::parse_patience(&text.to_string_lossy()) {
        Some(time) => lock::be_patient(time),
        None => err!(
            "warning\tOMSAGENT_LOCK_TIMEOUT is not a number of seconds from 0 to {}: {} are used",
            lock::LONGEST,
            lock::PATIENCE.as_secs()
        ),
    }
}

fn dispatch(args: Vec<OsString>) -> u8 {
    let name = args.first().map(PathBuf::from);
    let name = name.as_deref().and_then(Path::file_name);
    if name.is_some_and(|n| n == crate::bundle::RUNNER_NAME) {
        let (question, answer) = crate::bundle::PROBE;
        if args.get(1).is_some_and(|word| word == question) {
            out!("{answer}");
            return 0;
        }
        return bundle::run(&args[1..]);
    }
    // Doors with their own, older grammar get their words untouched, `--` and `-V` too.
    let older: Option<fn(&[OsString]) -> u8> = match args.get(1).and_then(|word| word.to_str()) {
        Some("admin") => Some(admin::run),
        Some("service") => Some(service::run),
        Some("syslog") => Some(syslog::run),
        Some("uninstall") => Some(uninstall::run),
        _ => None,
    };
    if let Some(door) = older {
        return door(&args[2..]);
    }
    let mut args = args;
    // The original's daemon was called without a door: `omsagent-<WS> -d PID -o LOG -c CONF`.
    if args
        .get(1)
        .is_some_and(|w| ["-d", "-o", "-c"].iter().any(|o| w == o))
    {
        args.insert(1, "run".into());
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    let done = match cli.door {
        Door::Run(args) => agent::run(args),
        Door::Hub(args) => hub::run(args),
        Door::Pack(args) => pack::run(args),
        Door::History(args) => Ok(history::run(&args)),
        Door::Verify(args) => verify::run(&args),
        Door::Status(args) => status::run(&args),
        Door::Doctor(args) => doctor::run(&args),
        Door::Config(args) => config::run(&args),
        Door::Admin(args) => Ok(admin::run(&args.words)),
        Door::Service(args) => Ok(service::run(&args.words)),
        Door::Syslog(args) => Ok(syslog::run(&args.words)),
        Door::Identity(args) => identity::run(&args),
        Door::Rollback(args) => Ok(rollback::run(&args)),
        Door::Uninstall(args) => Ok(uninstall::run(&args.words)),
        Door::Maintainer(args) => maintainer::run(&args.words),
    };
    done.unwrap_or_else(|error| {
        err!("omsagent: {error:#}");
        1
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        super::Cli::command().debug_assert();
    }
}
