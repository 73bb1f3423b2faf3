//! `--remove` and `--purge`: the plan, and the question.

use super::args::{Mode, Request};
use super::runner::RunnerFolder;
use super::session::Session;
use crate::cli::report::Console;
use crate::cli::signals;
use crate::err;
use crate::host::Host;
use crate::install::companions;
use crate::install::departure;
use crate::install::recovery::{self, Purpose};
use crate::install::withdraw::Depth;

/// Does it; the exit code.
pub fn take_away(
    host: &Host,
    request: &Request,
    runner: &RunnerFolder,
    session: &mut Session,
) -> u8 {
    let depth = match request.mode {
        Mode::Purge => Depth::Purge,
        _ => Depth::Remove,
    };
    match departure::outline(host, depth, request.force) {
        Ok(plan) => session.plan(plan),
        Err(e) => return failed(&e),
    }
    if session.facts.dry_run {
        session.show_plan();
        return 0;
    }
    let refused = match depth {
        Depth::Purge => session.confirm().or_else(|| session.confirm_purge()),
        Depth::Remove => session.confirm(),
    };
    if let Some(code) = refused {
        return code;
    }
    let done = recovery::enter(host, Purpose::Remove, &mut Console).and_then(|_lock| {
        signals::interrupt_plans();
        if !host.image {
            runner.sweep_others();
        }
        departure::withdraw_all(host, depth, request.force, &mut Console)
    });
    done.map_or_else(|e| failed(&e), |()| 0)
}

fn failed(error: &anyhow::Error) -> u8 {
    err!("error\t{error:#}");
    companions::code_of(error).unwrap_or(17)
}
