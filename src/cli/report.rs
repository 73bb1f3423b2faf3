//! What a running plan says, on the console - and, where a door asks for it with [`record`], kept
//! for its object of `--json`, its log and its progress line.

use crate::base::out::{self, Stream};
use crate::cli::bundle::log::Log;
use crate::cli::bundle::progress::Bar;
use crate::plan::{Report, State};
use crate::{err, out};
use serde::Serialize;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lines to standard output, warnings to standard error, tool output as it comes.
pub struct Console;

impl Console {
    /// A step of no plan, which is over.
    pub fn one_step(&mut self, what: &str, state: State) {
        self.step(0, 1, what, State::Pending);
        self.step(0, 1, what, state);
    }
}

impl Report for Console {
    fn line(&mut self, text: &str) {
        out!("{text}");
    }

    fn warn(&mut self, text: &str) {
        err!("warning\t{text}");
    }

    fn tool_output(&mut self, bytes: &[u8]) {
        out::bytes(bytes);
    }

    fn step(&mut self, n: usize, of: usize, what: &str, state: State) {
        with(|record| record.step(n, of, what, state));
    }
}

/// A step of a plan that ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepSeen {
    /// As it describes itself.
    pub what: String,
    /// What became of it.
    pub state: State,
}

/// Most lines of standard error that are kept for the object, and most steps.
const KEPT: usize = 1000;

/// Everything that was seen of a run.
#[derive(Default)]
pub struct Record {
    /// The steps of all plans that ran, in order.
    pub steps: Vec<StepSeen>,
    /// Lines of standard error that begin with `warning` (without that word).
    pub warnings: Vec<String>,
    /// Other lines of standard error (without a leading `error`).
    pub errors: Vec<String>,
    /// Where lines are logged.
    pub log: Log,
    /// The progress line.
    pub bar: Bar,
    plan_begins: usize,
}

impl Record {
    /// Did any step change the host, and stay?
    pub fn changed(&self) -> bool {
        let stayed = |s: &StepSeen| matches!(s.state, State::Done | State::Failed);
        self.steps.iter().any(stayed)
    }

    fn step(&mut self, n: usize, of: usize, what: &str, state: State) {
        if state == State::Pending {
            if n == 0 {
                self.plan_begins = self.steps.len();
            }
            if self.steps.len() < KEPT {
                let what = what.to_owned();
                self.steps.push(StepSeen { what, state });
            }
        } else if let Some(step) = self.steps.get_mut(self.plan_begins + n) {
            step.state = state;
        }
        self.log
            .note(&format!("step {}/{of} {}: {what}", n + 1, word(state)));
        let first_open = self.steps.iter().skip(self.plan_begins);
        let next = first_open.clone().position(|s| s.state == State::Pending);
        match next.and_then(|at| self.steps.get(self.plan_begins + at)) {
            Some(step) => {
                let text = step.what.clone();
                self.bar.at(next.unwrap_or(0) as u64, of as u64, &text);
            }
            None => self.bar.clear(),
        }
    }

    fn shown(&mut self, stream: Stream, bytes: &[u8]) {
        self.bar.clear();
        self.log.shown(stream, bytes);
        if stream == Stream::Out {
            return;
        }
        for line in String::from_utf8_lossy(bytes).lines() {
            let (kept, text) = match line.strip_prefix("warning\t") {
                Some(text) => (&mut self.warnings, text),
                None => (
                    &mut self.errors,
                    line.strip_prefix("error\t").unwrap_or(line),
                ),
            };
            if kept.len() < KEPT && !text.is_empty() {
                kept.push(text.to_owned());
            }
        }
    }
}

/// The state as it stands in the log.
fn word(state: State) -> &'static str {
    match state {
        State::Pending => "pending",
        State::Done => "done",
        State::AlreadySatisfied => "already satisfied",
        State::Failed => "failed",
        State::Undone => "undone",
    }
}

static RECORD: Mutex<Option<Record>> = Mutex::new(None);

fn lock() -> MutexGuard<'static, Option<Record>> {
    RECORD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From here on everything that is shown and every step is recorded.
pub fn record(log: Log, bar: Bar) {
    *lock() = Some(Record {
        log,
        bar,
        ..Record::default()
    });
    out::tap(|stream, bytes| with(|record| record.shown(stream, bytes)));
}

/// Looks at the record, or changes it, where there is one. Nothing may be shown in there.
pub fn with(work: impl FnOnce(&mut Record)) {
    if let Some(record) = lock().as_mut() {
        work(record);
    }
}

/// The end of the record: what was seen so far.
pub fn take() -> Record {
    lock().take().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_two_plans_and_lines_of_both_kinds() {
        let mut record = Record::default();
        for n in 0..2 {
            record.step(n, 2, &format!("a{n}"), State::Pending);
        }
        record.step(0, 2, "a0", State::AlreadySatisfied);
        record.step(1, 2, "a1", State::Done);
        assert!(record.changed());
        record.step(0, 1, "b0", State::Pending);
        record.step(0, 1, "b0", State::Failed);
        record.step(0, 1, "b0", State::Undone);
        let states: Vec<State> = record.steps.iter().map(|s| s.state).collect();
        assert_eq!(
            states,
            [State::AlreadySatisfied, State::Done, State::Undone]
        );
        record.shown(Stream::Err, b"warning\tslow\nerror\tbad\nplain\n");
        record.shown(Stream::Out, b"warning\tnot this\n");
        assert_eq!(record.warnings, ["slow"]);
        assert_eq!(record.errors, ["bad", "plain"]);
    }

    #[test]
    fn what_was_taken_back_is_no_change() {
        let mut record = Record::default();
        record.step(0, 1, "a", State::Pending);
        assert!(!record.changed());
        record.step(0, 1, "a", State::Done);
        record.step(0, 1, "a", State::Undone);
        assert!(!record.changed());
    }
}
