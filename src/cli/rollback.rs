//! `omsagent rollback`: back to the packages before the last upgrade.

use crate::base::out as shown;
use crate::cli::bundle::log::Log;
use crate::cli::bundle::progress::Bar;
use crate::cli::report::{self, Console, StepSeen};
use crate::cli::signals;
use crate::host::Host;
use crate::host::layout::Layout;
use crate::install::recovery::{self, Purpose};
use crate::install::rollback::{self, Move, NoWay};
use crate::plan::{Report, lock};
use crate::{err, out};
use serde::Serialize;
use std::time::Duration;

/// Nothing to go back to: nothing was changed.
const NOTHING: u8 = 1;
/// A package could not be set back (docs/exit-codes.md).
const FAILED: u8 = 17;

/// Words of the door.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show what would be done, change nothing
    #[arg(long)]
    dry_run: bool,
    /// One JSON object on standard output, everything else on standard error
    #[arg(long)]
    json: bool,
    /// Wait so long for another omsagent command and for other package managers (default 120)
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    lock_timeout: Option<Duration>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    lock::parse_patience(text).ok_or_else(|| format!("must be 0 to {} seconds", lock::LONGEST))
}

#[derive(Serialize)]
struct Object<'a> {
    schema: u32,
    dry_run: bool,
    exit_code: u8,
    changed: bool,
    packages: &'a [Move],
    steps: &'a [StepSeen],
    warnings: &'a [String],
    errors: &'a [String],
}

/// Runs it; the exit code.
pub fn run(args: &Args) -> u8 {
    if let Some(time) = args.lock_timeout {
        lock::be_patient(time);
    }
    if args.json {
        report::record(Log::default(), Bar::default());
        shown::keep_stdout_free();
    }
    let mut moves = Vec::new();
    let code = perform(args, &mut moves);
    if args.json {
        let record = report::take();
        let object = Object {
            schema: 1,
            dry_run: args.dry_run,
            exit_code: code,
            changed: record.changed(),
            packages: &moves,
            steps: &record.steps,
            warnings: &record.warnings,
            errors: &record.errors,
        };
        let text = serde_json::to_string(&object);
        shown::machine_line(&text.unwrap_or_default());
    }
    code
}

fn perform(args: &Args, moves: &mut Vec<Move>) -> u8 {
    if !nix::unistd::geteuid().is_root() {
        err!("Must have root privileges to be able to perform rollback operation");
        return 5;
    }
    let host = Host::detect(Layout::new("/"));
    let lock = (!args.dry_run).then(|| recovery::enter(&host, Purpose::Change, &mut Console));
    let _lock = match lock.transpose() {
        Ok(lock) => lock,
        Err(e) => {
            err!("error\t{e:#}");
            return 30;
        }
    };
    let way = match rollback::find(&host) {
        Ok(way) => way,
        Err(e) => {
            err!("error\t{e:#}");
            return if e.is::<NoWay>() { NOTHING } else { FAILED };
        }
    };
    way.moves.clone_into(moves);
    if args.dry_run {
        return match way.preview() {
            Ok(steps) => {
                for (what, _) in steps {
                    out!("would {what}");
                }
                0
            }
            Err(e) => {
                err!("error\t{e:#}");
                FAILED
            }
        };
    }
    signals::interrupt_plans();
    match way.go(&host, &mut Console) {
        Ok(()) => {
            Console.line("The packages are as before the last upgrade; settings and workspaces stay as they are.");
            0
        }
        Err(e) => {
            err!("error\t{e:#}");
            FAILED
        }
    }
}
