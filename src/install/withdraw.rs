//! `--remove` and `--purge` of the bundle and of OPT/bin/uninstall (bundle.md 2.5).

use super::coexistence::Neighbours;
use super::companions::Failed;
use super::patience::patiently;
use super::product;
use super::release::PACKAGE;
use crate::base::command::Command;
use crate::base::files;
use crate::host::Host;
use crate::host::layout::Layout;
use crate::host::packages::PackageManager;
use crate::plan::Report;
use crate::workspace::{self, removal};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// How much goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The package; workspace settings and keys stay.
    Remove,
    /// Everything.
    Purge,
}

/// What the package manager knows of the package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// Nothing.
    Nothing,
    /// Removed, its configuration kept (dpkg).
    Leftovers,
    /// Installed, wholly or in part.
    Present,
    /// Its unpacking was cut short: dpkg removes it only when told that this is known.
    Broken,
}

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
    for path in LOOSE_FILES {
        files::remove(&host.layout.path(path))?;
    }
    let mut failures = Vec::new();
    let mut take = |name: &str, report: &mut dyn Report| {
        if let Err(e) = remove_other(manager, name, depth, report) {
            report.warn(&format!("{e:#}"));
            report.line(&format!(
                "----- Ignore previous errors from removing {name} package command. Continue... -----"
            ));
            failures.push(e);
        }
    };
    take("omsconfig", report);
    let own = if removes && neighbours.lad {
        report.line("--- LAD detected; not removing OMS package ---");
        leave_to_lad(host, report)
    } else {
        withdraw(host, depth, report)
    };
    if removes && neighbours.mdsd() {
        report.line("--- MDSD detected; not removing SCX or OMI packages ---");
    } else if neighbours.operations_manager && !force {
        report.line(
            "--- Operations Manager can reach this host; not removing SCX or OMI packages              (--force removes them) ---",
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
    if !removes {
        delete_folders(&host.layout, manager)?;
    }
    failures.into_iter().next().map_or(Ok(()), Err)
}

/// What remains for the diagnostics extension is omsagent without a workspace of its own.
fn leave_to_lad(host: &Host, report: &mut dyn Report) -> Result<()> {
    files::remove(&host.layout.onboarding_file())?;
    match workspace::primary(&host.layout) {
        None => Ok(()),
        Some(id) => {
            report.line(&format!("--- Unboarding the workspace {id}... ---"));
            removal::remove(host, &id, report)
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
    let there = match ask(manager, name)? {
        Known::Present | Known::Broken => true,
        Known::Leftovers => purges,
        Known::Nothing => false,
    };
    if !there {
        return Ok(());
    }
    report.line(&format!("----- Removing package: {name} -----"));
    let mut pass = |bytes: &[u8]| report.tool_output(bytes);
    let outcome = if purges {
        manager.purge(name, &mut pass)?
    } else {
        manager.remove(name, &mut pass)?
    };
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
    names.sort();
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
        ask(manager, name).map(|known| !matches!(known, Known::Present | Known::Broken))
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

/// Removes or purges omsagent alone. Says what failed and goes on: what is left is told at the end.
pub fn withdraw(host: &Host, depth: Depth, report: &mut dyn Report) -> Result<()> {
    let layout = &host.layout;
    files::remove(&layout.onboarding_file())?;
    let made = product::made(layout)?;
    if let Some(manager) = host.packages {
        remove_package(manager, depth, report)?;
    }
    let known = host
        .packages
        .map_or(Ok(Known::Nothing), |manager| ask(manager, PACKAGE))?;
    if matches!(known, Known::Present | Known::Broken) {
        return Ok(());
    }
    // The package did this already, unless its script was killed or folders were deleted by hand.
    product::withdraw(host, &made, report);
    if depth == Depth::Purge {
        remove_strays(layout)?;
        for tree in [layout.etc(), layout.var(), layout.opt()] {
            files::remove_tree(&tree)?;
            if let Some(parent) = tree.parent() {
                files::remove_dir_if_empty(parent);
            }
        }
    }
    Ok(())
}

/// Plain files of the package elsewhere, which nobody owns when an installation was killed before
/// the package manager wrote it down.
fn remove_strays(layout: &Layout) -> Result<()> {
    let link = layout.path("/usr/bin/omsagent");
    let ours = Path::new("/opt/microsoft/omsagent/bin/omsagent");
    if std::fs::read_link(&link).is_ok_and(|target| target == ours) {
        files::remove(&link)?;
    }
    files::remove(&layout.path("/usr/share/lintian/overrides/omsagent"))?;
    files::remove_tree(&layout.path("/usr/share/doc/omsagent"))?;
    Ok(())
}

fn remove_package(manager: PackageManager, depth: Depth, report: &mut dyn Report) -> Result<()> {
    let known = ask(manager, PACKAGE)?;
    let there = match known {
        Known::Present | Known::Broken => true,
        Known::Leftovers => depth == Depth::Purge,
        Known::Nothing => false,
    };
    if !there {
        report.line(&format!("Package {PACKAGE} is not installed."));
        return Ok(());
    }
    report.line(&format!("----- Removing package: {PACKAGE} -----"));
    let outcome = patiently(report, |output| match depth {
        _ if known == Known::Broken => manager.remove_broken(PACKAGE, output),
        Depth::Remove => manager.remove(PACKAGE, output),
        Depth::Purge => manager.purge(PACKAGE, output),
    })
    .with_context(|| format!("cannot remove package {PACKAGE}"))?;
    if !outcome.ok() {
        anyhow::bail!(
            "package {PACKAGE} could not be removed: {} said {} (status {})",
            manager.program(),
            outcome.last_line(),
            outcome.code
        );
    }
    Ok(())
}

fn ask(manager: PackageManager, name: &str) -> Result<Known> {
    if manager.installed_version(name)?.is_some() {
        return Ok(Known::Present);
    }
    if manager == PackageManager::Rpm {
        return Ok(Known::Nothing);
    }
    let asked = Command::new("dpkg").args(["-s", name]).run()?;
    Ok(known_to_dpkg(&asked.output))
}

/// By the last word of dpkg's `Status:` line. A package whose installation was cut short is
/// there too, and can be removed.
fn known_to_dpkg(said: &str) -> Known {
    let status = said.lines().find_map(|line| line.strip_prefix("Status:"));
    if status.is_some_and(|words| words.contains("reinstreq")) {
        return Known::Broken;
    }
    match status.and_then(|words| words.split_whitespace().last()) {
        None | Some("not-installed") => Known::Nothing,
        Some("config-files") => Known::Leftovers,
        Some(_) => Known::Present,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strays_of_ours_go_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let link = layout.path("/usr/bin/omsagent");
        std::fs::create_dir_all(layout.path("/usr/bin")).unwrap();
        std::fs::create_dir_all(layout.path("/usr/share/doc/omsagent")).unwrap();
        std::fs::write(&link, "somebody's").unwrap();
        remove_strays(&layout).unwrap();
        assert!(link.exists() && !layout.path("/usr/share/doc/omsagent").exists());
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("/opt/microsoft/omsagent/bin/omsagent", &link).unwrap();
        remove_strays(&layout).unwrap();
        assert!(!link.is_symlink());
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

    #[test]
    fn half_installed_is_there() {
        let known = |status: &str| known_to_dpkg(&format!("Package: x\nStatus: {status}\n"));
        assert_eq!(known("install ok half-configured"), Known::Present);
        assert_eq!(known("install reinstreq half-installed"), Known::Broken);
        assert_eq!(known("install ok unpacked"), Known::Present);
        assert_eq!(known("deinstall ok config-files"), Known::Leftovers);
        assert_eq!(known("purge ok not-installed"), Known::Nothing);
        assert_eq!(known_to_dpkg("dpkg-query: no such package"), Known::Nothing);
    }
}
