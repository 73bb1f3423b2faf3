//! Floor 3: every command that changes a host first builds a [`Plan`]: an ordered list of
//! [`Step`]s that can describe, apply and undo themselves. `--dry-run` prints it and stops.

pub mod journal;
pub mod lock;
pub mod steps;

use anyhow::Result;
use journal::{End, Journal};
use std::sync::atomic::{AtomicBool, Ordering};

/// Where the lines go that a person sees while a plan runs. The doors implement it.
pub trait Report {
    /// One line of our own.
    fn line(&mut self, text: &str);
    /// One line about something that is not as it should be.
    fn warn(&mut self, text: &str);
    /// Output of a system tool (dpkg, rpm), passed on as it comes.
    fn tool_output(&mut self, bytes: &[u8]);
    /// Step `n` of `of` is in this state now. A run begins by telling of all of them, pending.
    fn step(&mut self, _n: usize, _of: usize, _what: &str, _state: State) {}
}

/// One unit of change and of reversal.
pub trait Step {
    /// What it does to what, in one line, without any secret: shown in plans, logs, journals.
    fn describe(&self) -> String;

    /// Is the host as this step would leave it? Such a step is neither applied nor undone.
    fn satisfied(&self) -> Result<bool>;

    /// Does it, remembering in `self` what [`Step::undo`] needs.
    fn apply(&mut self, report: &mut dyn Report) -> Result<()>;

    /// Takes back what [`Step::apply`] did, also when that failed half-way.
    fn undo(&mut self, report: &mut dyn Report) -> Result<()>;
}

/// What became of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Not reached.
    Pending,
    /// Applied.
    Done,
    /// Nothing to do; never undone.
    AlreadySatisfied,
    /// Applied with an error, then taken back.
    Failed,
    /// Applied, then taken back because a later step failed.
    Undone,
}

/// An ordered list of steps.
#[derive(Default)]
pub struct Plan {
    steps: Vec<Box<dyn Step>>,
}

/// A run that reached its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Did any step change the host?
    pub changed: bool,
}

/// A run that did not.
#[derive(Debug, thiserror::Error)]
#[error("{source:#}")]
pub struct Broken {
    /// The step that failed, as it describes itself.
    pub step: String,
    /// Why.
    pub source: anyhow::Error,
    /// What could not be taken back: the host is not as before. Empty is the rule.
    pub left_behind: Vec<String>,
}

/// Set by a signal handler; looked at between two steps.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Asks the running plan to stop after the current step and take everything back.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Was that asked for? For steps that wait.
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

impl Plan {
    /// An empty plan.
    pub fn new() -> Self {
        Plan::default()
    }

    /// Adds a step at the end.
    pub fn push(&mut self, step: impl Step + 'static) {
        self.steps.push(Box::new(step));
    }

    /// Adds all steps of another plan at the end.
    pub fn append(&mut self, mut other: Plan) {
        self.steps.append(&mut other.steps);
    }

    /// Each step's description and whether there is anything to do; for `--dry-run`.
    pub fn preview(&self) -> Result<Vec<(String, bool)>> {
        self.steps
            .iter()
            .map(|step| Ok((step.describe(), !step.satisfied()?)))
            .collect()
    }

    /// Applies the steps in order. A failure (or an interrupt) takes back what was done, newest
    /// first, collecting what cannot be. Nothing is journaled when nothing is to be done.
    pub fn run(
        mut self,
        journal: &mut Journal,
        report: &mut dyn Report,
    ) -> Result<Finished, Broken> {
        let of = self.steps.len();
        let mut states = vec![State::Pending; of];
        for (n, step) in self.steps.iter().enumerate() {
            report.step(n, of, &step.describe(), State::Pending);
        }
        let mut failure = None;
        for (n, step) in self.steps.iter_mut().enumerate() {
            let result = if is_interrupted() {
                Err(anyhow::anyhow!("stopped by a signal"))
            } else {
                apply_one(n, step.as_mut(), &mut states[n], journal, report)
            };
            report.step(n, of, &step.describe(), states[n]);
            if let Err(source) = result {
                failure = Some((step.describe(), source));
                break;
            }
        }
        let Some((step, source)) = failure else {
            let changed = states.contains(&State::Done);
            journal.finish(End::Complete);
            return Ok(Finished { changed });
        };
        let mut left_behind = Vec::new();
        for (n, step) in self.steps.iter_mut().enumerate().rev() {
            if !matches!(states[n], State::Done | State::Failed) {
                continue;
            }
            journal.undoing(n, &step.describe());
            match step.undo(report) {
                Ok(()) => {
                    states[n] = State::Undone;
                    report.step(n, of, &step.describe(), State::Undone);
                }
                Err(e) => left_behind.push(format!("{}: {e:#}", step.describe())),
            }
        }
        journal.finish(if left_behind.is_empty() {
            End::TakenBack
        } else {
            End::LeftBehind
        });
        Err(Broken {
            step,
            source,
            left_behind,
        })
    }
}

fn apply_one(
    n: usize,
    step: &mut dyn Step,
    state: &mut State,
    journal: &mut Journal,
    report: &mut dyn Report,
) -> Result<()> {
    if step.satisfied()? {
        *state = State::AlreadySatisfied;
        return Ok(());
    }
    journal.begin(n, &step.describe())?;
    match step.apply(report) {
        Ok(()) => {
            *state = State::Done;
            journal.end(n, State::Done)
        }
        Err(e) => {
            *state = State::Failed;
            let _ = journal.end(n, State::Failed);
            Err(e)
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A report that keeps its lines.

    #[derive(Default)]
    pub struct Kept(pub Vec<String>);

    impl super::Report for Kept {
        fn line(&mut self, text: &str) {
            self.0.push(text.into());
        }
        fn warn(&mut self, text: &str) {
            self.0.push(text.into());
        }
        fn tool_output(&mut self, bytes: &[u8]) {
            self.0.push(String::from_utf8_lossy(bytes).into_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Kept;
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    struct Trace {
        name: &'static str,
        satisfied: bool,
        fails: bool,
        log: Rc<RefCell<Vec<String>>>,
    }

    impl Step for Trace {
        fn describe(&self) -> String {
            self.name.into()
        }
        fn satisfied(&self) -> Result<bool> {
            Ok(self.satisfied)
        }
        fn apply(&mut self, _: &mut dyn Report) -> Result<()> {
            self.log.borrow_mut().push(format!("+{}", self.name));
            anyhow::ensure!(!self.fails, "no luck");
            Ok(())
        }
        fn undo(&mut self, _: &mut dyn Report) -> Result<()> {
            self.log.borrow_mut().push(format!("-{}", self.name));
            Ok(())
        }
    }

    fn plan_of(log: &Rc<RefCell<Vec<String>>>, steps: &[(&'static str, bool, bool)]) -> Plan {
        let mut plan = Plan::new();
        for (name, satisfied, fails) in steps {
            plan.push(Trace {
                name,
                satisfied: *satisfied,
                fails: *fails,
                log: log.clone(),
            });
        }
        plan
    }

    #[test]
    fn a_failure_takes_back_what_was_done_newest_first_and_nothing_else() {
        let log = Rc::default();
        let plan = plan_of(
            &log,
            &[
                ("a", false, false),
                ("there", true, false),
                ("b", false, false),
                ("c", false, true),
                ("d", false, false),
            ],
        );
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::at(dir.path());
        let broken = plan.run(&mut journal, &mut Kept::default()).unwrap_err();
        assert_eq!(*log.borrow(), ["+a", "+b", "+c", "-c", "-b", "-a"]);
        assert_eq!(broken.step, "c");
        assert!(broken.left_behind.is_empty());
        let text = std::fs::read_to_string(dir.path().join("journal.jsonl")).unwrap();
        assert!(text.contains(r#""event":"begin""#) && text.contains("taken-back"));
        // A folder that this run made does not outlive what was taken back.
        let fresh = dir.path().join("fresh");
        let failing = plan_of(&Rc::default(), &[("x", false, true)]);
        let _ = failing.run(&mut Journal::at(&fresh), &mut Kept::default());
        assert!(!fresh.exists());
    }

    #[test]
    fn nothing_to_do_writes_nothing() {
        let log = Rc::default();
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::at(&dir.path().join("none"));
        let done = plan_of(&log, &[("there", true, false)])
            .run(&mut journal, &mut Kept::default())
            .unwrap();
        assert!(!done.changed);
        assert!(!dir.path().join("none").exists());
    }
}
