//! Installations that were cut short and not done again yet. What they brought is ours to go on
//! with: `--install` refuses where omi or scx is there (exit code 23), and must not refuse for
//! what it brought itself.

use super::withdraw::Depth;
use crate::host::layout::Layout;
use crate::plan::history::{self, Ended, Past};
use crate::plan::undo::Undo;

/// The runs since the last one that put packages in place, or took them away, to its end.
pub struct Begun {
    /// Newest first; those that were taken back are among them.
    runs: Vec<Past>,
}

impl Begun {
    /// Those of a host. A run that goes on is none of them.
    pub fn of(layout: &Layout) -> Begun {
        Begun::among(history::read(&layout.records()).runs)
    }

    fn among(runs: Vec<Past>) -> Begun {
        let installs = runs
            .into_iter()
            .rev()
            .take_while(|run| !removes(run))
            .take_while(|run| run.ended != Ended::Complete || !moves_packages(run))
            .filter(|run| moves_packages(run) && !run.is_running());
        Begun {
            runs: installs.collect(),
        }
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
        let newest = self
            .runs
            .iter()
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
    use crate::plan::journal::{self, CutShort, End, Journal, Run};
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
