//! What a run that was cut short (killed, or the power went) left behind: the next command that
//! changes the host takes it back, or brings it to its end, before it does anything of its own.

use super::release::{self, PACKAGE};
use super::{means, portable, product};
use crate::base::command::Command;
use crate::base::files;
use crate::host::Host;
use crate::plan::Report;
use crate::plan::backup::Backups;
use crate::plan::history::{self, Ended, History, Past};
use crate::plan::journal::{self, CutShort};
use crate::plan::lock::{self, HostLock};
use crate::plan::undo::{Reverter, Undo, When};
use anyhow::{Result, bail};
use std::path::Path;
use std::time::{Duration, Instant};

/// What the command is about to do. It decides what there is to do for a run that would rather be
/// completed than taken back: the configuration of the package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Anything else: such a run is done again.
    Change,
    /// To configure the package, so that nothing else is needed.
    Configure,
    /// To take the package away, so that nothing else is needed.
    Remove,
}

/// Takes the host's lock, waiting up to [`lock::patience`], and takes back or completes what was cut short.
/// Below a parent of ours that holds the lock, nothing is looked at: its run goes on.
pub fn enter(host: &Host, purpose: Purpose, report: &mut dyn Report) -> Result<HostLock> {
    enter_within(host, lock::patience(), purpose, report)
}

fn enter_within(
    host: &Host,
    patience: Duration,
    purpose: Purpose,
    report: &mut dyn Report,
) -> Result<HostLock> {
    let lock = lock::take(&host.layout, patience)?;
    // The service account may call some commands; what root did is not its affair.
    let may = nix::unistd::geteuid().is_root() || !host.is_live();
    if may && !lock.is_parents() {
        await_orphans(host, patience)?;
        recover(host, purpose, report);
    }
    Ok(lock)
}

/// A maintainer script may outlive the bundle that held the lock for it: its run is not over.
fn await_orphans(host: &Host, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    let own = std::process::id();
    loop {
        let runs = history::read(&host.layout.records()).runs;
        let pids = runs
            .iter()
            .filter(|run| run.is_running())
            .filter_map(|run| Some(run.process.as_ref()?.pid));
        let Some(pid) = pids.into_iter().find(|pid| *pid != own) else {
            return Ok(());
        };
        if Instant::now() >= deadline {
            bail!(
                "another omsagent command (pid {pid}) is changing this host; waited {} s for its end",
                patience.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Ends every run that was cut short, newest first. The caller holds the host's lock. Nothing that
/// goes wrong here keeps the caller from its work: it is told and written down.
pub fn recover(host: &Host, purpose: Purpose, report: &mut dyn Report) {
    let records = host.layout.records();
    let History { runs, is_sound } = history::read(&records);
    let mut completed = None;
    for run in runs.iter().rev().filter(|run| is_due(run)) {
        let ended = match run.cut_short {
            CutShort::TakeBack => take_back(host, &records, run, report),
            CutShort::Complete => {
                *completed.get_or_insert_with(|| complete(host, run, purpose, report))
            }
        };
        let backups = Backups::of(&records, &run.id);
        if ended == Ended::LeftBehind && backups.dir().exists() {
            report.warn(&format!(
                "what its files held before is kept in `{}`",
                backups.dir().display()
            ));
        }
        match journal::recovered(&records, &run.id, ended) {
            Err(e) => report.warn(&format!("{e:#}")),
            Ok(()) if ended != Ended::LeftBehind => backups.discard(),
            Ok(()) => {}
        }
    }
    if is_sound {
        let known = |id: &str| {
            let mut runs = runs.iter().rev();
            let run = runs.find(|run| run.id == id);
            run.is_some_and(|run| run.is_open() || run.ended == Ended::LeftBehind)
        };
        Backups::sweep(&records, known);
    } else {
        set_aside(&records, report);
    }
}

/// One that failed and left something behind is tried once more, by whoever comes next.
fn is_due(run: &Past) -> bool {
    run.is_open() && (run.ended == Ended::LeftBehind || !run.is_alive())
}

fn take_back(host: &Host, records: &Path, run: &Past, report: &mut dyn Report) -> Ended {
    let backups = Backups::of(records, &run.id);
    let (mut left, mut has_package, mut stays) = (Vec::new(), false, true);
    // What the run itself has taken back may be somebody's by now. An agent is started when all else
    // is done.
    let open = |step: &&history::Begun| {
        step.state.as_deref() != Some("undone") || matches!(step.undo(), Some(Undo::Running { .. }))
    };
    for step in run.steps.iter().rev().filter(open) {
        let done = match step.undo() {
            None => Err(anyhow::anyhow!("this release does not know how")),
            Some(undo) => {
                has_package |= undo.has_package();
                stays &= undo == Undo::Nothing;
                let mut reverter = Reverter {
                    host,
                    backups: &backups,
                    when: When::CutShort,
                    report: &mut *report,
                };
                reverter.revert(&undo)
            }
        };
        if let Err(e) = done {
            left.push(format!("{}: {e:#}", step.what));
        }
    }
    let which = name(run);
    let manager = host.packages.map_or("nobody", |manager| manager.program());
    let half_laid = portable::Receipt::load(&host.layout)
        .is_ok_and(|receipt| receipt.is_some_and(|receipt| !receipt.complete));
    let (ended, text) = match (left.is_empty(), has_package) {
        (false, _) => (Ended::LeftBehind, "not wholly taken back".to_owned()),
        (true, _) if half_laid => (
            Ended::NotFinished,
            "the package is left to the next installation".to_owned(),
        ),
        (true, true) => (
            Ended::NotFinished,
            format!("the package is left to {manager}"),
        ),
        (true, false) if stays && !run.steps.is_empty() => (
            Ended::NotFinished,
            "what it did stays, do it again for the rest".to_owned(),
        ),
        (true, false) => (Ended::TakenBack, "taken back".to_owned()),
    };
    report.line(&format!("{which} did not finish; {text}."));
    for line in &left {
        report.warn(&format!("not taken back: {line}"));
    }
    ended
}

/// Configures the package again. Where it is not there, or half there, its manager comes first,
/// and then calls for that by itself.
fn complete(host: &Host, run: &Past, purpose: Purpose, report: &mut dyn Report) -> Ended {
    let which = name(run);
    match purpose {
        Purpose::Configure => {
            report.line(&format!("{which} did not finish; it is done again."));
            return Ended::Complete;
        }
        Purpose::Remove => return Ended::NotFinished,
        Purpose::Change => {}
    }
    let Ok(Some(version)) = means::installed_version(host, PACKAGE) else {
        report.line(&format!(
            "{which} did not finish; the package is not installed wholly: install it again."
        ));
        return Ended::NotFinished;
    };
    report.line(&format!("{which} did not finish; it is done again."));
    match configure(host, &version, report) {
        Ok(()) => Ended::Complete,
        Err(e) => {
            report.warn(&format!("{e:#}"));
            Ended::LeftBehind
        }
    }
}

/// By the installed program, when that is another release than this one.
pub(super) fn configure(host: &Host, version: &str, report: &mut dyn Report) -> Result<()> {
    if version == release::version() || !host.is_live() {
        return product::configure(host, report).map_err(|broken| broken.source);
    }
    let program = host.layout.bin().join("omsagent");
    // The installed program takes this call for a package manager's, and forgets the receipt.
    let receipt = portable::Receipt::load(&host.layout)?;
    let outcome = Command::new(&program.to_string_lossy())
        .args(["maintainer", "postinst", "configure"])
        .run_with(|bytes| report.tool_output(bytes))?;
    if let Some(receipt) = receipt {
        receipt.save(&host.layout)?;
    }
    if !outcome.ok() {
        bail!(
            "package {PACKAGE} {version} is not configured: {}",
            outcome.last_line()
        );
    }
    Ok(())
}

fn name(run: &Past) -> String {
    let pid = match &run.process {
        Some(process) => format!(", pid {}", process.pid),
        None => String::new(),
    };
    format!("The run of {} ({}{pid})", run.time, run.what)
}

/// A journal that cannot be read must not be in the way for ever.
fn set_aside(records: &Path, report: &mut dyn Report) {
    let (from, to) = (
        records.join("journal.jsonl"),
        records.join("journal.bad.jsonl"),
    );
    // A folder of that name takes no other's place.
    let _ = files::remove_tree(&to);
    match std::fs::rename(&from, &to) {
        Ok(()) => report.warn(&format!(
            "the journal was damaged and is now `{}`: what it says of earlier runs is lost in part",
            to.display()
        )),
        Err(e) => report.warn(&format!("cannot set `{}` aside: {e}", from.display())),
    }
}

#[cfg(test)]
mod tests;
