//! Installations that were cut short and not done again yet. What they brought is ours to go on
//! with: `--install` refuses where omi or scx is there (exit code 23), and must not refuse for
//! what it brought itself when it is given again.

use super::withdraw::Depth;
use crate::host::layout::Layout;
use crate::plan::history::{self, Ended, Past};
use crate::plan::journal::CutShort;
use crate::plan::undo::Undo;

/// The runs since the last one that put packages in place, or took them away, to its end.
pub struct Begun {
    /// Newest first; those that were taken back are among them.
    runs: Vec<Past>,
    /// The one that did put its packages in place, when what its process did next, the onboarding,
    /// failed or was cut short: the same command is to be given again.
    half: Option<Past>,
}

impl Begun {
    /// Those of a host. A run that goes on is none of them.
    pub fn of(layout: &Layout) -> Begun {
        Begun::among(history::read(&layout.records()).runs)
    }

    fn among(runs: Vec<Past>) -> Begun {
        let mut begun = Begun {
            runs: Vec::new(),
            half: None,
        };
        // An onboarding that came to its end since then settles it; a package's script does not.
        let (mut broken, mut is_settled) = (Vec::new(), false);
        for run in runs.into_iter().rev().filter(|run| !run.is_running()) {
            match (moves_packages(&run), run.ended) {
                _ if removes(&run) => break,
                (false, Ended::Complete) => is_settled |= run.cut_short == CutShort::TakeBack,
                (false, _) => broken.extend(run.process),
                (true, Ended::Complete) => {
                    let is_half =
                        !is_settled && run.process.as_ref().is_some_and(|p| broken.contains(p));
                    begun.half = is_half.then_some(run);
                    break;
                }
                (true, _) => begun.runs.push(run),
            }
        }
        begun
    }

    /// When the first of them began; `None`: there is none.
    pub fn since(&self) -> Option<&str> {
        let mut left = self.runs.iter().rev();
        let first = left.find(|run| run.ended != Ended::TakenBack)?;
        Some(&first.time)
    }

    /// Did one of them bring this package, where there was none?
    pub fn brought(&self, name: &str) -> bool {
        let of_it = |run: &Past| {
            let mut packages = run.steps.iter().filter_map(|step| step.undo());
            packages.find_map(|undo| was_there(&undo, name))
        };
        let all = self.runs.iter().chain(&self.half);
        let newest = all
            .into_iter()
            .find_map(|run| of_it(run).map(|was| (run, was)));
        newest.is_some_and(|(run, was_there)| run.ended != Ended::TakenBack && !was_there)
    }
}

fn removes(run: &Past) -> bool {
    [Depth::Remove, Depth::Purge]
        .map(Depth::run)
        .contains(&run.what.as_str())
}

fn moves_packages(run: &Past) -> bool {
    run.steps
        .iter()
        .any(|step| step.undo().is_some_and(|undo| undo.has_package()))
}

/// Was the package there before that step? `None`: the step is about something else.
fn was_there(undo: &Undo, wanted: &str) -> Option<bool> {
    match undo {
        Undo::Package { name, version, .. } if name == wanted => Some(version.is_some()),
        Undo::All(several) => several.iter().find_map(|undo| was_there(undo, wanted)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::journal::{self, End, Journal, Run};
    use crate::plan::process::Process;

    fn package(name: &str, version: Option<&str>) -> Undo {
        Undo::Package {
            name: name.into(),
            version: version.map(str::to_owned),
            keeps_settings: false,
        }
    }

    /// A process that is no more.
    fn dead() -> Process {
        let mut waits = std::process::Command::new("cat");
        let mut child = waits.stdin(std::process::Stdio::piped()).spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        child.wait().unwrap(); // which ends its input
        process
    }

    /// A run that began those steps; without an end it was killed.
    fn run(layout: &Layout, by: Process, steps: &[Undo], end: Option<End>) {
        let about = Run {
            what: "install".into(),
            version: "1".into(),
            cut_short: CutShort::TakeBack,
        };
        let mut journal = Journal::by(by, &layout.records(), about);
        for (n, undo) in steps.iter().enumerate() {
            journal.begin(n, "step", undo).unwrap();
        }
        if let Some(end) = end {
            journal.finish(end, &journal.backups());
        }
    }

    #[test]
    fn what_a_killed_installation_brought_is_ours() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let brought = |name: &str| Begun::of(&layout).brought(name);
        assert!(!brought("omi"));
        run(&layout, dead(), &[package("omi", None)], None);
        assert!(brought("omi") && !brought("scx"));
        assert!(Begun::of(&layout).since().is_some());
        // Also when somebody has looked at it since, or configured the package.
        let id = history::read(&layout.records()).runs[0].id.clone();
        journal::recovered(&layout.records(), &id, Ended::NotFinished).unwrap();
        run(&layout, dead(), &[Undo::Nothing], Some(End::Complete));
        assert!(brought("omi"));
        // And after another one that failed at the next package.
        let scx = [package("scx", None)];
        run(&layout, dead(), &scx, Some(End::TakenBack));
        assert!(brought("omi") && !brought("scx"));
        run(&layout, dead(), &scx, Some(End::Complete));
        assert!(!brought("omi") && !brought("scx"), "it is done");
        assert_eq!(Begun::of(&layout).since(), None);
    }

    #[test]
    fn an_installation_whose_onboarding_failed_is_asked_for_again() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let brought = || Begun::of(&layout).brought("omi");
        let (one, other) = (dead(), dead());
        let (omi, onboard) = ([package("omi", None)], [Undo::Nothing]);
        run(&layout, one.clone(), &omi, Some(End::Complete));
        run(&layout, other, &onboard, Some(End::TakenBack));
        assert!(!brought(), "that was another command");
        run(&layout, one, &onboard, Some(End::TakenBack));
        assert!(brought());
        assert_eq!(Begun::of(&layout).since(), None, "its packages are whole");
        run(&layout, dead(), &onboard, Some(End::Complete));
        assert!(!brought(), "that made it whole");
    }

    #[test]
    fn what_was_there_or_is_under_way_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let brought = |name: &str| Begun::of(&layout).brought(name);
        run(&layout, dead(), &[package("omi", Some("1"))], None);
        run(&layout, Process::own(), &[package("scx", None)], None);
        assert!(!brought("omi") && !brought("scx"));
        let back = [package("omi", None)];
        run(&layout, dead(), &back, Some(End::TakenBack));
        assert!(!brought("omi"));
    }
}
