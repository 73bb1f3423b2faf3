//! `--remove` and `--purge` of all that a bundle may have installed, beside those who use some of it
//! too (bundle.md 2.5).

use super::coexistence::Neighbours;
use super::companions::Failed;
use super::patience::patiently;
use super::release::{self, PACKAGE};
use super::withdraw::{self, Depth};
use super::{product, unconfirmed};
use crate::base::files;
use crate::base::order;
use crate::host::Host;
use crate::host::layout::Layout;
use crate::host::packages::{Known, Leaving, PackageManager};
use crate::plan::journal::{CutShort, End, Journal, Run};
use crate::plan::undo::Undo;
use crate::plan::{Report, State, is_interrupted};
use crate::workspace::{self, removal};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// What the original's other parts, and its removal, took away beside the packages.
const LOOSE_FILES: [&str; 3] = [
    "/etc/cron.d/OMSConsistencyInvoker",
    "/etc/collectd.d/oms.conf",
    "/etc/collectd/collectd.conf.d/oms.conf",
];

/// The three folders below which the packages have one of their own name.
const PARENTS: [&str; 3] = ["/etc/opt/microsoft", "/opt/microsoft", "/var/opt/microsoft"];

/// Ends the names of the packages that plug into scx.
const PROVIDER: &str = "-cimprov";

/// `--remove` and `--purge`: omsconfig, omsagent, the providers with scx and omi, auoms, then (purge)
/// the folders of those that are gone (bundle.md 2.5). A package that others use stays. Goes on
/// when one cannot be removed; the first failure is returned at the end. What was done stands in the
/// journal, but for a purge, which takes that along.
pub fn withdraw_all(host: &Host, depth: Depth, force: bool, report: &mut dyn Report) -> Result<()> {
    let way = Way::find(host, depth, force)?;
    way.warn(report);
    let done = way.go(report);
    if done.own.is_ok() {
        forget(host, depth)?;
    }
    done.own?;
    if done.is_cut_short {
        bail!(
            "stopped by a signal: what is named above is gone, the rest is as it was; run it again"
        );
    }
    done.failures.into_iter().next().map_or(Ok(()), Err)
}

/// What [`withdraw_all`] would do, a line each, and whether there is anything to do.
pub fn outline(host: &Host, depth: Depth, force: bool) -> Result<Vec<(String, bool)>> {
    let way = Way::find(host, depth, force)?;
    way.parts
        .iter()
        .map(|part| Ok((way.describe(part), way.is_due(part)?)))
        .collect()
}

/// One thing that goes, or stays.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// [`LOOSE_FILES`]
    LooseFiles,
    /// A package beside ours.
    Package(String),
    /// omsagent.
    Own,
    /// omsagent stays; its own workspace goes.
    OwnWorkspace,
    /// omi and scx stay, with the line that says why.
    OthersStay(&'static str),
    /// What packages that are gone had in folders of their name.
    Folders,
}

/// All of them, in order.
struct Way<'a> {
    host: &'a Host,
    manager: Option<PackageManager>,
    depth: Depth,
    neighbours: Neighbours,
    parts: Vec<Part>,
}

/// What became of them.
struct Gone {
    own: Result<()>,
    failures: Vec<anyhow::Error>,
    is_cut_short: bool,
}

impl<'a> Way<'a> {
    fn find(host: &'a Host, depth: Depth, force: bool) -> Result<Way<'a>> {
        let neighbours = match host.packages {
            Some(manager) => Neighbours::find(host, manager)?,
            None => Neighbours::default(),
        };
        let providers = providers(&host.layout, &PARENTS[1..2]);
        Ok(Way {
            host,
            manager: host.packages,
            depth,
            neighbours,
            parts: match host.packages {
                Some(_) => parts(neighbours, depth, force, providers),
                None => vec![Part::Own],
            },
        })
    }

    fn warn(&self, report: &mut dyn Report) {
        if self.depth == Depth::Purge {
            self.neighbours.warn_before_purge(report);
        }
    }

    fn describe(&self, part: &Part) -> String {
        let verb = match self.depth {
            Depth::Remove => "remove",
            Depth::Purge => "purge",
        };
        match part {
            Part::LooseFiles => "delete files of omsconfig and collectd".into(),
            Part::Package(name) => format!("{verb} package {name}"),
            Part::Own if self.depth == Depth::Purge => format!(
                "{verb} package {PACKAGE}, undo what it changed on this host, delete every \
                 workspace's settings, keys, queues and logs"
            ),
            Part::Own => {
                format!("{verb} package {PACKAGE} and undo what it changed on this host")
            }
            Part::OwnWorkspace => format!(
                "take its workspace from package {PACKAGE}, which stays for the diagnostics \
                 extension"
            ),
            Part::OthersStay(_) => "leave packages scx and omi to those who use them".into(),
            Part::Folders => "delete the folders of packages that are gone".into(),
        }
    }

    /// Is there anything to do?
    fn is_due(&self, part: &Part) -> Result<bool> {
        let layout = &self.host.layout;
        let there = |path: &Path| path.symlink_metadata().is_ok();
        match part {
            Part::LooseFiles => Ok(LOOSE_FILES.iter().any(|path| there(&layout.path(path)))),
            Part::Package(name) => {
                let known = self.manager.map_or(Ok(Known::Nothing), |m| m.known(name))?;
                Ok(known.has_any(self.leaving(name)))
            }
            Part::Own => withdraw::is_due(self.host, self.depth),
            Part::OwnWorkspace => {
                Ok(there(&layout.onboarding_file()) || workspace::primary(layout).is_some())
            }
            Part::OthersStay(_) => Ok(false),
            Part::Folders => {
                let gone = |name: &str| {
                    let goes = |part: &Part| match part {
                        Part::Package(package) => package == name,
                        Part::Own => name == PACKAGE,
                        _ => false,
                    };
                    Ok(self.parts.iter().any(goes) || self.is_gone(name)?)
                };
                let trees = trees(layout, &gone)?;
                let is_empty = |parent: &str| {
                    let entries = std::fs::read_dir(layout.path(parent));
                    entries.is_ok_and(|mut entries| entries.next().is_none())
                };
                Ok(trees.iter().any(|tree| there(tree)) || PARENTS.into_iter().any(is_empty))
            }
        }
    }

    /// Is nothing but settings there of a package?
    fn is_gone(&self, name: &str) -> Result<bool> {
        let known = self.manager.map_or(Ok(Known::Nothing), |m| m.known(name))?;
        Ok(matches!(known, Known::Nothing | Known::Leftovers))
    }

    /// dpkg always purges omi, whose account and folders are in the way of a new one (bundle.md 2.5).
    fn leaving(&self, name: &str) -> Leaving {
        match name {
            "omi" => Leaving::Purge,
            _ => self.depth.leaving(),
        }
    }

    fn apply(&self, part: &Part, report: &mut dyn Report) -> Result<()> {
        match (part, self.manager) {
            (Part::LooseFiles, _) => {
                let failures = remove_loose_files(&self.host.layout, report);
                failures.into_iter().next().map_or(Ok(()), Err)
            }
            (Part::Package(name), Some(manager)) => {
                remove_other(manager, name, self.leaving(name), report).inspect_err(|e| {
                    report.warn(&format!("{e:#}"));
                    report.line(&format!(
                        "----- Ignore previous errors from removing {name} package command. Continue... -----"
                    ));
                })
            }
            (Part::Own, _) => withdraw::withdraw(self.host, self.depth, report),
            (Part::OwnWorkspace, _) => {
                report.line("--- LAD detected; not removing OMS package ---");
                leave_to_lad(self.host, report)
            }
            (Part::OthersStay(line), _) => {
                report.line(line);
                Ok(())
            }
            (Part::Folders, Some(_)) => {
                report.line("Purging all files in cross-platform agent ...");
                delete_folders(&self.host.layout, &|name| self.is_gone(name))
            }
            (Part::Package(_) | Part::Folders, None) => Ok(()),
        }
    }

    /// All of it. What has nothing to do is gone through, too: it costs little, and no trace of us
    /// is known that it would pass over.
    fn go(&self, report: &mut dyn Report) -> Gone {
        let about = Run {
            what: self.depth.run().to_owned(),
            version: release::version(),
            cut_short: CutShort::TakeBack,
        };
        let mut journal = Journal::at(&self.host.layout.records(), about);
        let mut gone = Gone {
            own: Ok(()),
            failures: Vec::new(),
            is_cut_short: false,
        };
        let of = self.parts.len();
        for (n, part) in self.parts.iter().enumerate() {
            report.step(n, of, &self.describe(part), State::Pending);
        }
        let mut is_written = true;
        for (n, part) in self.parts.iter().enumerate() {
            // Folders go with the packages only when all of those were gone through.
            let too_early = *part == Part::Folders && (gone.own.is_err() || gone.is_cut_short);
            let stays = matches!(part, Part::OthersStay(_));
            let is_stopped = is_interrupted() && !stays && *part != Part::LooseFiles;
            if too_early || is_stopped {
                gone.is_cut_short |= is_stopped;
                continue;
            }
            let what = self.describe(part);
            let is_due = self.is_due(part).unwrap_or(true);
            if is_due
                && is_written
                && let Err(e) = journal.begin(n, &what, &Undo::Nothing)
            {
                // A full disk must not keep anything here.
                report.warn(&format!("{e:#}"));
                is_written = false;
            }
            let before = self.trace(part);
            let done = self.apply(part, report);
            let state = match &done {
                Ok(()) if is_due => State::Done,
                Ok(()) => State::AlreadySatisfied,
                Err(_) if before.is_some() && before == self.trace(part) => State::Undone,
                Err(_) => State::Failed,
            };
            if is_due && is_written {
                let _ = journal.end(n, state);
            }
            report.step(n, of, &what, state);
            match done {
                Ok(()) => {}
                Err(e) if matches!(part, Part::Own | Part::OwnWorkspace) => gone.own = Err(e),
                Err(e) => gone.failures.push(e),
            }
        }
        let end = match (&gone.own, gone.failures.is_empty(), gone.is_cut_short) {
            (Ok(()), true, false) => End::Complete,
            _ => End::NotFinished,
        };
        journal.finish(end, &journal.backups());
        gone
    }

    /// What is there of a package: one that the tool refused to touch is as before.
    fn trace(&self, part: &Part) -> Option<(Known, Option<String>)> {
        let (name, manager) = match part {
            Part::Package(name) => (name.as_str(), self.manager?),
            Part::Own => (PACKAGE, self.manager?),
            _ => return None,
        };
        let version = manager.installed_version(name).ok()?;
        Some((manager.known(name).ok()?, version))
    }
}

/// Who goes in which order, beside those who use some of it too (bundle.md 2.5).
fn parts(neighbours: Neighbours, depth: Depth, force: bool, providers: Vec<String>) -> Vec<Part> {
    let removes = depth == Depth::Remove;
    let package = |name: &str| Part::Package(name.to_owned());
    let mut parts = vec![Part::LooseFiles, package("omsconfig")];
    parts.push(match removes && neighbours.lad {
        true => Part::OwnWorkspace,
        false => Part::Own,
    });
    if removes && neighbours.mdsd() {
        parts.push(Part::OthersStay(
            "--- MDSD detected; not removing SCX or OMI packages ---",
        ));
    } else if neighbours.operations_manager && !force {
        parts.push(Part::OthersStay(
            "--- Operations Manager can reach this host; not removing SCX or OMI packages \
             (--force removes them) ---",
        ));
    } else {
        parts.extend(providers.into_iter().map(Part::Package));
        parts.extend(["scx", "omi"].map(package));
    }
    parts.push(package("auoms"));
    if !removes {
        parts.push(Part::Folders);
    }
    parts
}

/// A removal leaves what it did, and its log, to be read; a purge nothing.
fn forget(host: &Host, depth: Depth) -> Result<()> {
    let known = host
        .packages
        .map_or(Ok(Known::Nothing), |m| m.known(PACKAGE))?;
    if matches!(known, Known::Present | Known::Broken) {
        return Ok(());
    }
    match depth {
        Depth::Remove => unconfirmed::forget(&host.layout),
        Depth::Purge => product::forget_runs(&host.layout),
    }
}

/// One that cannot be removed does not keep the packages here.
fn remove_loose_files(layout: &Layout, report: &mut dyn Report) -> Vec<anyhow::Error> {
    let removed = LOOSE_FILES.map(|path| files::remove(&layout.path(path)));
    let failures: Vec<_> = removed.into_iter().filter_map(Result::err).collect();
    for e in &failures {
        report.warn(&format!("{e:#}"));
    }
    failures
}

/// What remains for the diagnostics extension is omsagent without a workspace of its own.
fn leave_to_lad(host: &Host, report: &mut dyn Report) -> Result<()> {
    files::remove(&host.layout.onboarding_file())?;
    match workspace::primary(&host.layout) {
        None => Ok(()),
        Some(id) => {
            report.line(&format!("--- Unboarding the workspace {id}... ---"));
            removal::remove(host, &[id.into()], report)
        }
    }
}

/// A package beside ours.
fn remove_other(
    manager: PackageManager,
    name: &str,
    leaving: Leaving,
    report: &mut dyn Report,
) -> Result<()> {
    let known = manager.known(name)?;
    if !known.has_any(leaving) {
        return Ok(());
    }
    report.line(&format!("----- Removing package: {name} -----"));
    let outcome = patiently(report, |said| manager.take_away(name, known, leaving, said))?;
    if outcome.ok() {
        return Ok(());
    }
    let (program, why, status) = (manager.program(), outcome.last_line(), outcome.code);
    let text =
        format!("package {name} could not be removed: {program} said {why} (status {status})");
    Err(Failed::new(name, text).into())
}

/// Names of provider packages, after their folders.
fn providers(layout: &Layout, parents: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = parents
        .iter()
        .filter_map(|parent| std::fs::read_dir(layout.path(parent)).ok())
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| is_provider(name))
        .collect();
    order::ascending(&mut names);
    names.dedup();
    names
}

fn is_provider(name: &str) -> bool {
    let kind = name.strip_suffix(PROVIDER).unwrap_or_default();
    !kind.is_empty()
        && kind
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

/// The folders of every package that is gone.
fn trees(layout: &Layout, gone: &dyn Fn(&str) -> Result<bool>) -> Result<Vec<PathBuf>> {
    let mut names: Vec<String> = ["omsconfig", PACKAGE, "scx", "auoms"]
        .map(Into::into)
        .into();
    names.extend(providers(layout, &PARENTS));
    let mut trees = Vec::new();
    for name in &names {
        if gone(name)? {
            trees.extend(PARENTS.map(|parent| layout.path(parent).join(name)));
        }
    }
    if gone("omi")? {
        trees.extend(["/etc/opt/omi", "/opt/omi", "/var/opt/omi"].map(|tree| layout.path(tree)));
    }
    Ok(trees)
}

/// Deletes them, whatever is in them.
fn delete_folders(layout: &Layout, gone: &dyn Fn(&str) -> Result<bool>) -> Result<()> {
    for tree in trees(layout, gone)? {
        files::remove_tree(&tree)?;
    }
    for parent in PARENTS {
        files::remove_dir_if_empty(&layout.path(parent));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
