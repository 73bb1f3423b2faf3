//! `omsagent history`: which runs changed this host, and what became of them.

use crate::host::layout::Layout;
use crate::plan::history::{self, Ended, Past};
use crate::{err, out};
use serde::Serialize;

/// What may be asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  omsagent history           runs that changed this host, the newest first
  omsagent history --json    the same as one JSON array, with every step")]
pub struct Args {
    /// One JSON array instead of lines
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Shown<'a> {
    time: &'a str,
    what: &'a str,
    version: &'a str,
    outcome: Ended,
    running: bool,
    pid: Option<u32>,
    steps: Vec<ShownStep<'a>>,
}

#[derive(Serialize)]
struct ShownStep<'a> {
    what: &'a str,
    /// Absent: it was begun, and no more is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'a str>,
}

/// Shows them. 5 when not root: the journal is root's alone.
pub fn run(args: &Args) -> u8 {
    if !nix::unistd::geteuid().is_root() {
        err!("error\tthe journal is root's: run `sudo omsagent history`");
        return 5;
    }
    let mut runs = history::read(&Layout::new("/").records()).runs;
    runs.reverse();
    let text = if args.json {
        serde_json::to_string(&runs.iter().map(shown).collect::<Vec<_>>()).unwrap_or_default()
    } else {
        lines(&runs)
    };
    out!("{text}");
    0
}

/// What `--json` would say.
pub fn json(layout: &Layout) -> String {
    let mut runs = history::read(&layout.records()).runs;
    runs.reverse();
    serde_json::to_string_pretty(&runs.iter().map(shown).collect::<Vec<_>>()).unwrap_or_default()
}

fn shown(run: &Past) -> Shown<'_> {
    Shown {
        time: &run.time,
        what: &run.what,
        version: &run.version,
        outcome: run.ended,
        running: run.is_running(),
        pid: run.process.as_ref().map(|process| process.pid),
        steps: run
            .steps
            .iter()
            .map(|step| ShownStep {
                what: &step.what,
                state: step.state.as_deref(),
            })
            .collect(),
    }
}

fn lines(runs: &[Past]) -> String {
    if runs.is_empty() {
        return "No runs are recorded.".into();
    }
    let lines: Vec<String> = runs.iter().map(line).collect();
    lines.join("\n")
}

fn line(run: &Past) -> String {
    let outcome = match run.ended {
        _ if run.is_running() => "running",
        Ended::Complete => "complete",
        Ended::TakenBack => "taken back",
        Ended::LeftBehind => "left behind",
        Ended::NotFinished => "not finished",
    };
    // To the second: the rest of the time is for programs.
    let time = run.time.split('.').next().unwrap_or_default();
    let time = time.trim_end_matches('Z');
    let (count, what, version) = (run.steps.len(), &run.what, &run.version);
    let steps = if count == 1 { "step" } else { "steps" };
    format!("{time}Z  {outcome:<12}  {version:<10}  {count:>3} {steps:<5}  {what}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::journal::Journal;
    use crate::plan::testing::about;
    use crate::plan::undo::Undo;

    #[test]
    fn a_line_and_an_object_for_each() {
        assert_eq!(lines(&[]), "No runs are recorded.");
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::at(dir.path(), about("install omsagent 2"));
        journal.begin(0, "make folder /x", &Undo::Nothing).unwrap();
        let runs = history::read(dir.path()).runs;
        assert!(
            lines(&runs).contains("Z  running       1             1 step   install omsagent 2")
        );
        let backups = journal.backups();
        journal.finish(crate::plan::journal::End::Complete, &backups);
        let runs = history::read(dir.path()).runs;
        assert!(lines(&runs).contains("  complete  "));
        let text = serde_json::to_string(&shown(&runs[0])).unwrap();
        assert!(
            text.contains(r#""outcome":"complete","running":false"#),
            "{text}"
        );
        assert!(
            text.contains(r#""steps":[{"what":"make folder /x"}]"#),
            "{text}"
        );
    }
}
