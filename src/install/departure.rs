//! `--remove` and `--purge` of all that a bundle may have installed, beside those who use some of it
//! too (bundle.md 2.5).

use super::coexistence::Neighbours;
use super::companions::Failed;
use super::patience::patiently;
use super::release::PACKAGE;
use super::withdraw::{Depth, withdraw};
use crate::base::files;
use crate::host::Host;
use crate::host::layout::Layout;
use crate::host::packages::{Known, Leaving, PackageManager};
use crate::plan::{Report, is_interrupted};
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
/// when one cannot be removed; the first failure is returned at the end.
pub fn withdraw_all(host: &Host, depth: Depth, force: bool, report: &mut dyn Report) -> Result<()> {
    let Some(manager) = host.packages else {
        return withdraw(host, depth, report);
    };
    let neighbours = Neighbours::find(host, manager)?;
    let removes = depth == Depth::Remove;
    if !removes {
        neighbours.warn_before_purge(report);
    }
    let mut failures = remove_loose_files(&host.layout, report);
    let mut take = |name: &str, report: &mut dyn Report| {
        if is_interrupted() {
            return;
        }
        if let Err(e) = remove_other(manager, name, depth, report) {
            report.warn(&format!("{e:#}"));
            report.line(&format!(
                "----- Ignore previous errors from removing {name} package command. Continue... -----"
            ));
            failures.push(e);
        }
    };
    take("omsconfig", report);
    let own = if is_interrupted() {
        Ok(())
    } else if removes && neighbours.lad {
        report.line("--- LAD detected; not removing OMS package ---");
        leave_to_lad(host, report)
    } else {
        withdraw(host, depth, report)
    };
    if removes && neighbours.mdsd() {
        report.line("--- MDSD detected; not removing SCX or OMI packages ---");
    } else if neighbours.operations_manager && !force {
        report.line(
            "--- Operations Manager can reach this host; not removing SCX or OMI packages \
             (--force removes them) ---",
        );
    } else {
        for provider in providers(&host.layout, &PARENTS[1..2]) {
            take(&provider, report);
        }
        take("scx", report);
        take("omi", report);
    }
    take("auoms", report);
    own?;
    if is_interrupted() {
        bail!(
            "stopped by a signal: what is named above is gone, the rest is as it was; run it again"
        );
    }
    if !removes {
        report.line("Purging all files in cross-platform agent ...");
        delete_folders(&host.layout, manager)?;
    }
    failures.into_iter().next().map_or(Ok(()), Err)
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

/// A package beside ours; dpkg always purges omi, whose account and folders are in the way of a
/// new one (bundle.md 2.5).
fn remove_other(
    manager: PackageManager,
    name: &str,
    depth: Depth,
    report: &mut dyn Report,
) -> Result<()> {
    let purges = depth == Depth::Purge || name == "omi";
    let leaving = if purges {
        Leaving::Purge
    } else {
        Leaving::Remove
    };
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
    names.sort_unstable();
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

/// The folders of every package that is gone, whatever is in them.
fn delete_folders(layout: &Layout, manager: PackageManager) -> Result<()> {
    let gone = |name: &str| {
        manager
            .known(name)
            .map(|known| matches!(known, Known::Nothing | Known::Leftovers))
    };
    let delete = |trees: &[PathBuf]| -> Result<()> {
        trees
            .iter()
            .try_for_each(|tree| files::remove_tree(tree).map(|_| ()))
    };
    let below_parents = |name: &str| PARENTS.map(|parent| layout.path(parent).join(name));
    let mut names: Vec<String> = ["omsconfig", PACKAGE, "scx", "auoms"]
        .map(Into::into)
        .into();
    names.extend(providers(layout, &PARENTS));
    for name in &names {
        if gone(name)? {
            delete(&below_parents(name))?;
        }
    }
    if gone("omi")? {
        delete(&["/etc/opt/omi", "/opt/omi", "/var/opt/omi"].map(|tree| layout.path(tree)))?;
    }
    for parent in PARENTS {
        files::remove_dir_if_empty(&layout.path(Path::new(parent)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loose_file_that_stays_does_not_hold_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        // A folder of that name is not removed as a file.
        std::fs::create_dir_all(layout.path(LOOSE_FILES[0])).unwrap();
        std::fs::create_dir_all(layout.path("/etc/collectd.d")).unwrap();
        std::fs::write(layout.path(LOOSE_FILES[1]), "").unwrap();
        let report = &mut crate::plan::testing::Kept::default();
        assert_eq!(remove_loose_files(&layout, report).len(), 1);
        assert_eq!(report.0.len(), 1);
        assert!(
            report.0[0].contains("OMSConsistencyInvoker"),
            "{:?}",
            report.0
        );
        assert!(!layout.path(LOOSE_FILES[1]).exists());
    }

    #[test]
    fn providers_are_found_by_their_folders() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "docker-cimprov",
            "mysql-cimprov",
            "-cimprov",
            "scx",
            "--purge-cimprov",
        ] {
            std::fs::create_dir_all(dir.path().join("opt/microsoft").join(name)).unwrap();
        }
        std::fs::create_dir_all(dir.path().join("var/opt/microsoft/apache-cimprov")).unwrap();
        let layout = Layout::new(dir.path());
        assert_eq!(
            providers(&layout, &PARENTS[1..2]),
            ["docker-cimprov", "mysql-cimprov"]
        );
        assert_eq!(providers(&layout, &PARENTS).len(), 3);
    }
}
