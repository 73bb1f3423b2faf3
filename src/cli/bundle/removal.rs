//! `--remove` and `--purge`: the plan, the question, and whether anything was changed.

use super::args::{Mode, Request};
use super::runner::RunnerFolder;
use super::session::Session;
use crate::cli::report::Console;
use crate::cli::signals;
use crate::host::Host;
use crate::install::companions;
use crate::install::departure;
use crate::install::means;
use crate::install::recovery::{self, Purpose};
use crate::install::release;
use crate::install::withdraw::Depth;
use crate::plan::{Report, State};
use crate::{err, out};

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
    let mut plan = vec!["remove package omsagent and undo what it changed on this host"];
    if depth == Depth::Purge {
        plan.push("delete every workspace's settings, keys, queues and logs");
    }
    let before = Traces::of(host);
    session.plan(plan.iter().map(|what| {
        let pending = before.package.is_some() || (depth == Depth::Purge && before.any());
        ((*what).to_owned(), pending)
    }));
    if session.facts.dry_run {
        for what in plan {
            out!("Would {what}");
        }
        return 0;
    }
    let refused = match depth {
        Depth::Purge => session.confirm().or_else(|| session.confirm_purge()),
        Depth::Remove => session.confirm(),
    };
    if let Some(code) = refused {
        return code;
    }
    let what = plan.join("; ");
    Console.step(0, 1, &what, State::Pending);
    let done = recovery::enter(host, Purpose::Remove, &mut Console).and_then(|_lock| {
        signals::interrupt_plans();
        if !host.image {
            runner.sweep_others();
        }
        departure::withdraw_all(host, depth, request.force, &mut Console)
    });
    let same = Traces::of(host) == before;
    let (code, state) = match done {
        Ok(()) if same => (0, State::AlreadySatisfied),
        Ok(()) => (0, State::Done),
        Err(e) => {
            err!("error\t{e:#}");
            (
                companions::code_of(&e).unwrap_or(17),
                if same { State::Undone } else { State::Failed },
            )
        }
    };
    Console.step(0, 1, &what, state);
    code
}

/// Packages that a removal may take away beside ours (bundle.md 2.5).
const COMPANIONS: [&str; 4] = ["omi", "scx", "omsconfig", "auoms"];

/// What of the product is on a host: two of them tell whether a removal changed anything.
#[derive(PartialEq, Eq)]
struct Traces {
    package: Option<String>,
    companions: Vec<Option<String>>,
    places: Vec<bool>,
}

impl Traces {
    fn of(host: &Host) -> Traces {
        let layout = &host.layout;
        let places = [
            layout.etc(),
            layout.var(),
            layout.opt(),
            layout.records(),
            layout.onboarding_file(),
        ];
        let ask = |name: &str| means::installed_version(host, name).ok().flatten();
        Traces {
            package: ask(release::PACKAGE),
            companions: COMPANIONS.map(ask).into(),
            places: places.iter().map(|p| p.exists()).collect(),
        }
    }

    fn any(&self) -> bool {
        self.package.is_some()
            || self.places.contains(&true)
            || self.companions.iter().any(Option::is_some)
    }
}
