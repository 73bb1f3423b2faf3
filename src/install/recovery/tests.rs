use super::*;
use crate::base::files::{Look, Owner};
use crate::plan::Plan;
use crate::plan::journal::{Journal, Run};
use crate::plan::process::Process;
use crate::plan::steps::{MakeDir, MakeLink, WriteFile};
use crate::plan::testing::{Kept, about, host_at};
use crate::plan::{State, Step};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

const SECRET: &str = "-----the key-----";

/// Everything below, with kind, mode and content; not the records.
fn tree(root: &Path) -> Vec<String> {
    let (mut found, mut open) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with("var/lib/omsagent") || path.ends_with("run/omsagent.lock") {
                continue;
            }
            let meta = path.symlink_metadata().unwrap();
            let body = match meta.file_type() {
                t if t.is_dir() => {
                    open.push(path.clone());
                    String::new()
                }
                t if t.is_symlink() => format!("{:?}", std::fs::read_link(&path).unwrap()),
                _ => std::fs::read_to_string(&path).unwrap(),
            };
            let owner = (meta.uid(), meta.gid());
            found.push(format!("{path:?} {:o} {owner:?} {body}", meta.mode()));
        }
    }
    found.sort();
    found
}

struct Stage {
    _dir: tempfile::TempDir,
    host: Host,
    work: PathBuf,
}

impl Stage {
    fn new() -> Stage {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().join("work");
        for folder in ["run", "var/lib", "work/old"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        std::fs::write(work.join("key"), SECRET).unwrap();
        std::fs::write(work.join("stays"), "as it is").unwrap();
        let mode = |name: &str, mode| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(work.join(name), mode).unwrap();
        };
        mode("key", 0o640);
        mode("old", 0o711);
        std::os::unix::fs::symlink("/elsewhere", work.join("link")).unwrap();
        let host = host_at(dir.path());
        Stage {
            _dir: dir,
            host,
            work,
        }
    }

    fn records(&self) -> PathBuf {
        self.host.layout.records()
    }

    fn steps(&self) -> Vec<Box<dyn Step>> {
        let look = Look::owned(0o600, Owner::ROOT);
        let at = |name: &str| self.work.join(name);
        vec![
            Box::new(MakeDir::ours(at("new"), Look::mode(0o750))),
            Box::new(MakeDir::new(at("old"), Look::mode(0o750))),
            Box::new(WriteFile::new(at("key"), "another", look)),
            Box::new(WriteFile::new(at("new/file"), "fresh", look)),
            Box::new(WriteFile::if_absent(at("stays"), "fresh", look)),
            Box::new(MakeLink::new(at("link"), "/here")),
            Box::new(WriteFile::remove(at("key"))),
        ]
    }

    /// A run of another process, long gone, that was killed when it had begun `begun` steps
    /// and applied `applied` of them.
    fn killed(&self, begun: usize, applied: usize) {
        self.killed_as(begun, applied, about("onboard workspace x"), gone());
    }

    fn killed_as(&self, begun: usize, applied: usize, about: Run, process: Process) {
        let mut journal = Journal::by(process, &self.records(), about);
        let mut backups = journal.backups();
        for (n, step) in self.steps().iter_mut().enumerate() {
            if n >= begun || step.satisfied().unwrap() {
                continue;
            }
            let undo = step.before(&mut backups).unwrap();
            backups.settle();
            journal.begin(n, &step.describe(), &undo).unwrap();
            if n < applied {
                step.apply(&mut Kept::default()).unwrap();
                journal.end(n, State::Done).unwrap();
            }
        }
    }

    fn enter(&self, patience: Duration, purpose: Purpose) -> (Result<()>, Vec<String>) {
        let report = &mut Kept::default();
        let entered = enter_within(&self.host, patience, purpose, report).map(drop);
        (entered, std::mem::take(&mut report.0))
    }

    fn ended(&self) -> Vec<Ended> {
        let runs = history::read(&self.records()).runs;
        runs.iter().map(|run| run.ended).collect()
    }
}

fn gone() -> Process {
    Process {
        start: 1,
        ..Process::own()
    }
}

#[test]
fn a_killed_run_is_taken_back_to_the_last_bit_wherever_it_died() {
    for begun in 1..=7 {
        for applied in [begun - 1, begun] {
            let stage = Stage::new();
            let before = tree(stage.host.layout.root());
            stage.killed(begun, applied);
            let (entered, said) = stage.enter(Duration::ZERO, Purpose::Change);
            entered.unwrap();
            assert_eq!(tree(stage.host.layout.root()), before, "{begun} {applied}");
            assert_eq!(said.len(), 1, "{said:?}");
            assert!(said[0].contains("onboard workspace x, pid"), "{said:?}");
            assert!(said[0].ends_with("did not finish; taken back."), "{said:?}");
            assert_eq!(stage.ended(), [Ended::TakenBack]);
            // No second time, and no body is kept.
            let (_, said) = stage.enter(Duration::ZERO, Purpose::Change);
            assert!(said.is_empty());
            assert_eq!(tree(stage.host.layout.root()), before);
            assert!(!stage.records().join("undo").exists());
        }
    }
}

#[test]
fn a_recovery_that_was_killed_itself_is_done_again() {
    let stage = Stage::new();
    let before = tree(stage.host.layout.root());
    stage.killed(7, 7);
    let run = history::read(&stage.records()).runs.remove(0);
    for _ in 0..2 {
        // Taken back, killed before that was written down.
        let ended = take_back(&stage.host, &stage.records(), &run, &mut Kept::default());
        assert_eq!(ended, Ended::TakenBack);
        assert_eq!(tree(stage.host.layout.root()), before);
    }
    stage.enter(Duration::ZERO, Purpose::Change).0.unwrap();
    assert_eq!(tree(stage.host.layout.root()), before);
    assert_eq!(stage.ended(), [Ended::TakenBack]);
}

#[test]
fn what_was_there_already_stays_and_no_body_is_in_the_journal() {
    let stage = Stage::new();
    stage.killed(7, 7);
    assert!(!stage.work.join("key").exists());
    let body = stage.records().join("undo");
    let run = std::fs::read_dir(&body).unwrap().next().unwrap().unwrap();
    for (path, mode) in [
        (body, 0o700),
        (run.path(), 0o700),
        (run.path().join("0"), 0o600),
    ] {
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, mode, "{path:?}");
    }
    assert_eq!(
        std::fs::read(run.path().join("0")).unwrap(),
        SECRET.as_bytes()
    );
    let text = std::fs::read_to_string(stage.records().join("journal.jsonl")).unwrap();
    assert!(!text.contains(SECRET) && !text.contains("stays"), "{text}");
    std::fs::write(stage.work.join("stays"), "edited meanwhile").unwrap();
    stage.enter(Duration::ZERO, Purpose::Change).0.unwrap();
    let kept = std::fs::read(stage.work.join("stays")).unwrap();
    assert_eq!(kept, b"edited meanwhile");
}

#[test]
fn two_killed_runs_are_taken_back_newest_first() {
    let stage = Stage::new();
    let before = tree(stage.host.layout.root());
    stage.killed(3, 3);
    std::fs::write(stage.work.join("key"), "of a second run's time").unwrap();
    stage.killed(7, 7);
    stage.enter(Duration::ZERO, Purpose::Remove).0.unwrap();
    assert_eq!(tree(stage.host.layout.root()), before);
    assert_eq!(stage.ended(), [Ended::TakenBack; 2]);
}

#[test]
fn a_run_that_goes_on_is_waited_for_and_left_alone() {
    let stage = Stage::new();
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    let process = Process::of(child.id()).unwrap();
    stage.killed_as(7, 7, about("onboard"), process);
    let half = tree(stage.host.layout.root());
    let (entered, said) = stage.enter(Duration::from_millis(150), Purpose::Change);
    let text = entered.unwrap_err().to_string();
    assert!(text.contains(&format!("(pid {})", child.id())), "{text}");
    assert!(said.is_empty());
    recover(&stage.host, Purpose::Change, &mut Kept::default());
    assert_eq!(tree(stage.host.layout.root()), half);
    child.kill().unwrap();
    child.wait().unwrap();
    stage.enter(Duration::ZERO, Purpose::Change).0.unwrap();
    assert_eq!(stage.ended(), [Ended::TakenBack]);
}

#[test]
fn garbage_is_no_obstacle_and_said_once() {
    let stage = Stage::new();
    std::fs::create_dir(stage.records()).unwrap();
    let journal = stage.records().join("journal.jsonl");
    std::fs::write(&journal, "not\njson\n").unwrap();
    let (entered, said) = stage.enter(Duration::ZERO, Purpose::Change);
    entered.unwrap();
    assert!(said[0].contains("journal.bad.jsonl"), "{said:?}");
    assert!(!journal.exists() && stage.records().join("journal.bad.jsonl").exists());
    let (_, said) = stage.enter(Duration::ZERO, Purpose::Change);
    assert!(said.is_empty(), "{said:?}");
    // Nor is a folder of that name, or one line of a later release.
    std::fs::create_dir(&journal).unwrap();
    stage.enter(Duration::ZERO, Purpose::Change).0.unwrap();
    assert!(!journal.exists());
    stage.killed(1, 1);
    let text = std::fs::read_to_string(&journal).unwrap();
    std::fs::write(&journal, text.replace("\"folder\"", "\"novelty\"")).unwrap();
    let (entered, said) = stage.enter(Duration::ZERO, Purpose::Change);
    entered.unwrap();
    assert!(
        said.iter().any(|l| l.contains("does not know how")),
        "{said:?}"
    );
    assert_eq!(stage.ended(), [Ended::LeftBehind]);
    let (_, said) = stage.enter(Duration::ZERO, Purpose::Change);
    assert!(said.is_empty(), "tried once: {said:?}");
}

#[test]
fn what_a_failure_left_behind_is_tried_once_more() {
    let stage = Stage::new();
    let before = tree(stage.host.layout.root());
    let mut plan = Plan::new();
    plan.push(WriteFile::new(
        stage.work.join("key"),
        "another",
        Look::mode(0o600),
    ));
    plan.push(Spoil(stage.work.clone()));
    let mut journal = Journal::at(&stage.records(), about("onboard"));
    let broken = plan.run(&stage.host, &mut journal, &mut Kept::default());
    assert_eq!(broken.unwrap_err().left_behind.len(), 1);
    assert_eq!(stage.ended(), [Ended::LeftBehind]);
    std::fs::remove_dir(stage.work.join("key")).unwrap();
    let (_, said) = stage.enter(Duration::ZERO, Purpose::Change);
    assert!(said[0].ends_with("taken back."), "{said:?}");
    assert_eq!(tree(stage.host.layout.root()), before);
    assert!(!stage.records().join("undo").exists());
}

/// Puts a folder where the file was, and fails.
struct Spoil(PathBuf);

impl Step for Spoil {
    fn describe(&self) -> String {
        "spoil".into()
    }
    fn satisfied(&self) -> Result<bool> {
        Ok(false)
    }
    fn before(&self, _: &mut Backups) -> Result<crate::plan::undo::Undo> {
        Ok(crate::plan::undo::Undo::Nothing)
    }
    fn apply(&mut self, _: &mut dyn Report) -> Result<()> {
        std::fs::remove_file(self.0.join("key"))?;
        std::fs::create_dir(self.0.join("key"))?;
        bail!("no luck")
    }
}

#[test]
fn configuring_is_completed_not_taken_back() {
    let complete = || Run {
        cut_short: CutShort::Complete,
        ..about("configure package")
    };
    for (purpose, ended) in [
        (Purpose::Configure, Ended::Complete),
        (Purpose::Remove, Ended::NotFinished),
        // No package manager below this prefix: the package is not there.
        (Purpose::Change, Ended::NotFinished),
    ] {
        let stage = Stage::new();
        stage.killed_as(7, 7, complete(), gone());
        let half = tree(stage.host.layout.root());
        stage.enter(Duration::ZERO, purpose).0.unwrap();
        assert_eq!(tree(stage.host.layout.root()), half);
        assert_eq!(stage.ended(), [ended]);
        assert!(!stage.records().join("undo").exists());
    }
}
