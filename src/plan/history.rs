//! What the journal says of earlier runs.

use super::journal::{CutShort, Line, NAME, OLD};
use super::process::Process;
use super::undo::Undo;
use crate::base::files;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A journal is far smaller; a larger file is none.
const LIMIT: usize = 8 << 20;

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// Every step is applied.
    Complete,
    /// Everything was taken back.
    TakenBack,
    /// Something could not be taken back.
    LeftBehind,
    /// It was cut short, or is not over yet.
    NotFinished,
}

/// A step that was begun.
#[derive(Debug, Clone, PartialEq)]
pub struct Begun {
    /// Its place in the plan.
    pub n: usize,
    /// As it described itself.
    pub what: String,
    /// How it is taken back.
    undo: Option<serde_json::Value>,
    /// What became of it, when that was written down.
    pub state: Option<String>,
}

impl Begun {
    /// How it is taken back; `None` when this release does not know such a way.
    pub fn undo(&self) -> Option<Undo> {
        match &self.undo {
            None => Some(Undo::Nothing), // a release that wrote none down
            Some(value) => serde_json::from_value(value.clone()).ok(),
        }
    }
}

/// One run.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    /// Its name in the journal.
    pub id: String,
    /// When it began (RFC 3339, UTC).
    pub time: String,
    /// What it is about.
    pub what: String,
    /// The version of the product that did it.
    pub version: String,
    /// Who did it.
    pub process: Option<Process>,
    /// What becomes of it when it was cut short.
    pub cut_short: CutShort,
    /// Its steps, oldest first.
    pub steps: Vec<Begun>,
    /// What became of it.
    pub ended: Ended,
    is_open: bool,
}

impl Past {
    /// Does it wait for somebody to end it: itself, or whoever comes after its end by force?
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Does its process still run?
    pub fn is_alive(&self) -> bool {
        self.process.as_ref().is_some_and(Process::is_alive)
    }

    /// Does it go on?
    pub fn is_running(&self) -> bool {
        self.is_open && self.ended == Ended::NotFinished && self.is_alive()
    }
}

/// What was read.
pub struct History {
    /// The runs, oldest first.
    pub runs: Vec<Past>,
    /// Was every line (but a torn last one) one of ours?
    pub is_sound: bool,
}

/// Reads the journal in the folder `records` and the one before it. Lines that cannot be read are
/// passed over.
pub fn read(records: &Path) -> History {
    let mut history = History {
        runs: Vec::new(),
        is_sound: true,
    };
    for name in [OLD, NAME] {
        let fine = add(&mut history.runs, &records.join(name));
        history.is_sound &= fine || name == OLD;
    }
    history
}

fn add(runs: &mut Vec<Past>, path: &Path) -> bool {
    let bytes = match files::read_no_follow(path, LIMIT) {
        Ok(None) => return true,
        Ok(Some(bytes)) => bytes,
        Err(_) => return false,
    };
    let mut is_sound = true;
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        match serde_json::from_slice::<Line>(line) {
            Ok(line) => apply(runs, line),
            // A power cut in the middle of a line.
            Err(_) if !line.ends_with(b"\n") => {}
            Err(_) => is_sound = false,
        }
    }
    is_sound
}

fn apply(runs: &mut Vec<Past>, line: Line) {
    let at = match runs.iter().rposition(|run| run.id == line.run) {
        Some(at) => at,
        // What is known of its end alone, or of a release that wrote no line for the run.
        None if matches!(line.event.as_str(), "run" | "begin") => {
            runs.push(Past {
                id: line.run.clone(),
                time: line.time.clone(),
                what: String::new(),
                version: String::new(),
                process: None,
                cut_short: CutShort::TakeBack,
                steps: Vec::new(),
                ended: Ended::NotFinished,
                is_open: true,
            });
            runs.len() - 1
        }
        None => return,
    };
    let run = &mut runs[at];
    let mut close = |ended, is_open| {
        run.ended = ended;
        run.is_open = is_open;
    };
    match line.event.as_str() {
        "run" => {
            run.what = line.what.unwrap_or_default();
            run.version = line.version.unwrap_or_default();
            run.process = line.process;
            run.cut_short = line.cut_short.unwrap_or(CutShort::TakeBack);
        }
        "begin" => run.steps.push(Begun {
            n: line.step.unwrap_or_default(),
            what: line.what.unwrap_or_default(),
            undo: line.undo,
            state: None,
        }),
        "end" => {
            let mut steps = run.steps.iter_mut().rev();
            if let Some(step) = steps.find(|step| Some(step.n) == line.step) {
                step.state = line.state;
            }
        }
        "complete" => close(Ended::Complete, false),
        "taken-back" => close(Ended::TakenBack, false),
        "left-behind" => close(Ended::LeftBehind, true),
        "not-finished" => close(Ended::NotFinished, false),
        "recovered" => close(line.outcome.unwrap_or(Ended::NotFinished), false),
        _ => {}
    }
}
