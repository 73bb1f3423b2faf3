//! Floor 3: every command that changes a host first builds a [`Plan`]: an ordered list of
//! [`Step`]s that can describe and apply themselves and say, before that, how they are taken back.
//! `--dry-run` prints it and stops.

pub mod backup;
pub mod history;
pub mod journal;
pub mod keep;
pub mod lock;
pub mod patience;
pub mod process;
pub mod steps;
pub mod undo;

use crate::host::Host;
use anyhow::Result;
use backup::Backups;
use journal::{End, Journal};
use std::sync::atomic::{AtomicBool, Ordering};
use undo::{Reverter, Undo, When};

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
///
/// The order of calls is [`Step::satisfied`]; when that is false [`Step::before`], whose answer is
/// brought to the disk; then [`Step::apply`]. Nobody asks the step to take itself back: its [`Undo`]
/// is carried out when a later step fails, and by the next command when this process is killed. So
/// `before` must name all that `apply` may change, also what it changes before it fails, and
/// nothing else: things that others may change meanwhile would be set back, too.
pub trait Step {
    /// What it does to what, in one line, without any secret: shown in plans, logs, journals.
    fn describe(&self) -> String;

    /// Is the host as this step would leave it? Such a step is neither applied nor undone.
    fn satisfied(&self) -> Result<bool>;

    /// How the host is brought back to what it is now. Changes nothing; what files hold goes to
    /// `backups` ([`Backups::snapshot`]). An error fails the step before it did anything.
    fn before(&self, backups: &mut Backups) -> Result<Undo>;

    /// Does it.
    fn apply(&mut self, report: &mut dyn Report) -> Result<()>;
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
        host: &Host,
        journal: &mut Journal,
        report: &mut dyn Report,
    ) -> Result<Finished, Broken> {
        let of = self.steps.len();
        let mut states = vec![State::Pending; of];
        let mut begun: Vec<(usize, Undo)> = Vec::new();
        let mut backups = journal.backups();
        journal.prepare();
        for (n, step) in self.steps.iter().enumerate() {
            report.step(n, of, &step.describe(), State::Pending);
        }
        let mut failure = None;
        for (n, step) in self.steps.iter_mut().enumerate() {
            let result = if is_interrupted() {
                Err(anyhow::anyhow!("stopped by a signal"))
            } else {
                begin(n, step.as_ref(), &mut states[n], journal, &mut backups).and_then(|undo| {
                    let Some(undo) = undo else { return Ok(()) };
                    begun.push((n, undo));
                    apply(n, step.as_mut(), &mut states[n], journal, report)
                })
            };
            report.step(n, of, &step.describe(), states[n]);
            if let Err(source) = result {
                failure = Some((step.describe(), source));
                break;
            }
        }
        let Some((step, source)) = failure else {
            let changed = states.contains(&State::Done);
            journal.finish(End::Complete, &backups);
            return Ok(Finished { changed });
        };
        let mut left_behind = Vec::new();
        for (n, undo) in begun.iter().rev() {
            let what = self.steps[*n].describe();
            let mut reverter = Reverter {
                host,
                backups: &backups,
                when: When::Failed,
                report: &mut *report,
            };
            match reverter.revert(undo) {
                Ok(()) => {
                    states[*n] = State::Undone;
                    let _ = journal.end(*n, State::Undone);
                    report.step(*n, of, &what, State::Undone);
                }
                Err(e) => left_behind.push(format!("{what}: {e:#}")),
            }
        }
        let end = if left_behind.is_empty() {
            End::TakenBack
        } else {
            End::LeftBehind
        };
        journal.finish(end, &backups);
        Err(Broken {
            step,
            source,
            left_behind,
        })
    }
}

/// Writes down how the step is taken back; `None` when there is nothing to do.
fn begin(
    n: usize,
    step: &dyn Step,
    state: &mut State,
    journal: &mut Journal,
    backups: &mut Backups,
) -> Result<Option<Undo>> {
    if step.satisfied()? {
        *state = State::AlreadySatisfied;
        return Ok(None);
    }
    let undo = step.before(backups)?;
    backups.settle();
    journal.begin(n, &step.describe(), &undo)?;
    Ok(Some(undo))
}

fn apply(
    n: usize,
    step: &mut dyn Step,
    state: &mut State,
    journal: &mut Journal,
    report: &mut dyn Report,
) -> Result<()> {
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
    //! A report that keeps its lines; a step on its own.

    use super::Step;
    use super::backup::Backups;
    use super::journal::{CutShort, Run};
    use super::undo::{Reverter, Undo, When};
    use crate::host::Host;
    use crate::host::layout::Layout;
    use std::path::Path;

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

    /// A run of that name.
    pub fn about(what: &str) -> Run {
        Run {
            what: what.into(),
            version: "1".into(),
            cut_short: CutShort::TakeBack,
        }
    }

    /// A host below a folder.
    pub fn host_at(root: &Path) -> Host {
        Host::detect(Layout::new(root))
    }

    /// Applies a step as a plan does; what takes it back. Backups are below `records`.
    pub fn applied(step: &mut dyn Step, records: &Path) -> Applied {
        let run = uuid::Uuid::new_v4().simple().to_string();
        let mut backups = Backups::of(records, &run);
        let undo = step.before(&mut backups).unwrap();
        let result = step.apply(&mut Kept::default());
        Applied {
            undo,
            backups,
            result,
        }
    }

    /// A step that was applied.
    pub struct Applied {
        pub undo: Undo,
        pub backups: Backups,
        pub result: anyhow::Result<()>,
    }

    impl Applied {
        /// Takes it back, twice: the second time must do no harm.
        pub fn take_back(self, host: &Host) {
            for when in [When::Failed, When::CutShort] {
                let mut reverter = Reverter {
                    host,
                    backups: &self.backups,
                    when,
                    report: &mut Kept::default(),
                };
                reverter.revert(&self.undo).unwrap();
            }
            self.backups.discard();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{Kept, about, host_at};
    use super::*;
    use std::path::PathBuf;

    /// Writes a file of its name, taken back by its removal.
    struct Mark {
        dir: PathBuf,
        name: &'static str,
        satisfied: bool,
        fails: bool,
    }

    impl Step for Mark {
        fn describe(&self) -> String {
            self.name.into()
        }
        fn satisfied(&self) -> Result<bool> {
            Ok(self.satisfied)
        }
        fn before(&self, backups: &mut Backups) -> Result<Undo> {
            backups.snapshot(&self.dir.join(self.name))
        }
        fn apply(&mut self, _: &mut dyn Report) -> Result<()> {
            std::fs::write(self.dir.join(self.name), "x").unwrap();
            anyhow::ensure!(!self.fails, "no luck");
            Ok(())
        }
    }

    fn plan_of(dir: &std::path::Path, steps: &[(&'static str, bool, bool)]) -> Plan {
        let mut plan = Plan::new();
        for (name, satisfied, fails) in steps {
            plan.push(Mark {
                dir: dir.to_owned(),
                name,
                satisfied: *satisfied,
                fails: *fails,
            });
        }
        plan
    }

    fn names(dir: &std::path::Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_failure_takes_back_what_was_done_newest_first_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (work, records) = (dir.path().join("work"), dir.path().join("records"));
        std::fs::create_dir(&work).unwrap();
        std::fs::create_dir(&records).unwrap();
        let host = host_at(dir.path());
        std::fs::write(work.join("there"), "x").unwrap();
        std::fs::write(work.join("b"), "old").unwrap();
        let plan = plan_of(
            &work,
            &[
                ("a", false, false),
                ("there", true, false),
                ("b", false, false),
                ("c", false, true),
                ("d", false, false),
            ],
        );
        let mut journal = Journal::at(&records, about("test"));
        let broken = plan
            .run(&host, &mut journal, &mut Kept::default())
            .unwrap_err();
        assert_eq!(names(&work), ["b", "there"]);
        assert_eq!(std::fs::read(work.join("b")).unwrap(), b"old");
        assert_eq!(broken.step, "c");
        assert!(broken.left_behind.is_empty());
        // The journal tells of it, in that order; what was kept is gone.
        let past = history::read(&records);
        let run = &past.runs[0];
        assert_eq!(run.ended, history::Ended::TakenBack);
        assert_eq!(run.steps.len(), 3);
        let text = std::fs::read_to_string(records.join("journal.jsonl")).unwrap();
        let undone: Vec<&str> = text
            .lines()
            .filter(|l| l.contains("\"undone\""))
            .map(|l| &l[l.find("\"step\":").unwrap() + 7..][..1])
            .collect();
        assert_eq!(undone, ["3", "2", "0"]);
        assert_eq!(names(&records), ["journal.jsonl"]);
        // A folder that this run made does not outlive what was taken back.
        let fresh = dir.path().join("fresh");
        let failing = plan_of(&work, &[("b", false, true)]);
        let _ = failing.run(
            &host,
            &mut Journal::at(&fresh, about("test")),
            &mut Kept::default(),
        );
        assert!(!fresh.exists());
        assert_eq!(std::fs::read(work.join("b")).unwrap(), b"old");
    }

    #[test]
    fn nothing_to_do_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::at(&dir.path().join("none"), about("test"));
        let done = plan_of(dir.path(), &[("there", true, false)])
            .run(&host_at(dir.path()), &mut journal, &mut Kept::default())
            .unwrap();
        assert!(!done.changed);
        assert!(!dir.path().join("none").exists());
    }

    #[test]
    fn a_finished_run_keeps_no_body() {
        let dir = tempfile::tempdir().unwrap();
        let records = dir.path().join("records");
        std::fs::write(dir.path().join("a"), "secret body").unwrap();
        let mut journal = Journal::at(&records, about("test"));
        plan_of(dir.path(), &[("a", false, false)])
            .run(&host_at(dir.path()), &mut journal, &mut Kept::default())
            .unwrap();
        assert_eq!(names(&records), ["journal.jsonl"]);
        let text = std::fs::read_to_string(records.join("journal.jsonl")).unwrap();
        assert!(text.contains("\"body\":0") && !text.contains("secret"));
    }
}
