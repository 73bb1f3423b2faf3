//! Floor 5: a door each. Words typed -> a request; a result -> text or JSON and an exit code.
//! Nothing below this floor prints and exits.

use crate::err;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

pub mod agent;
pub mod hub;
pub mod pack;

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
    /// Build, inspect and verify packages and bundles
    Pack(pack::Args),
}

/// Picks the door by the program's own name and first word.
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    ExitCode::from(dispatch(args))
}

fn dispatch(args: Vec<OsString>) -> u8 {
    if let Some(answer) = stub_probe(&args) {
        crate::out!("{answer}");
        return 0;
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
    };
    done.unwrap_or_else(|error| {
        err!("omsagent: {error:#}");
        1
    })
}

/// The bundle's stub asks a copy of this program whether it can run where it was put
/// (bundle-format.md E.3, item 7).
fn stub_probe(args: &[OsString]) -> Option<&'static str> {
    let (question, answer) = crate::bundle::PROBE;
    let name = std::path::Path::new(args.first()?).file_name()?;
    (name == crate::bundle::RUNNER_NAME && args.get(1)? == question).then_some(answer)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        super::Cli::command().debug_assert();
    }
}
