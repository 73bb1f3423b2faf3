//! `--remove` and `--purge` of the bundle and of OPT/bin/uninstall (bundle.md 2.5).

use super::patience::patiently;
use super::portable;
use super::product;
use super::release::PACKAGE;
use super::strays;
use crate::base::command::Command;
use crate::base::files;
use crate::host::Host;
use crate::host::packages::PackageManager;
use crate::plan::Report;
use anyhow::{Context, Result};

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
pub(super) enum Known {
    /// Nothing.
    Nothing,
    /// Removed, its configuration kept (dpkg).
    Leftovers,
    /// Installed, wholly or in part.
    Present,
    /// Its unpacking was cut short: dpkg removes it only when told that this is known.
    Broken,
}

/// Removes or purges omsagent alone. Says what failed and goes on: what is left is told at the end.
pub fn withdraw(host: &Host, depth: Depth, report: &mut dyn Report) -> Result<()> {
    let layout = &host.layout;
    files::remove(&layout.onboarding_file())?;
    let made = product::made(layout)?;
    let laid_down = portable::Receipt::load(layout)?.is_some();
    match host.packages {
        Some(manager) if !laid_down || ask(manager, PACKAGE)? != Known::Nothing => {
            remove_package(manager, depth, report)?;
        }
        _ if laid_down => report.line(&format!("----- Removing package: {PACKAGE} -----")),
        _ => report.line(&format!("Package {PACKAGE} is not installed.")),
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
        strays::remove(layout)?;
        for tree in [layout.etc(), layout.var(), layout.opt()] {
            files::remove_tree(&tree)?;
            if let Some(parent) = tree.parent() {
                files::remove_dir_if_empty(parent);
            }
        }
    }
    portable::take_away(layout, depth)
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
    // Somebody else may have removed it while the lock was waited for.
    if !outcome.ok() && ask(manager, PACKAGE)? != Known::Nothing {
        anyhow::bail!(
            "package {PACKAGE} could not be removed: {} said {} (status {})",
            manager.program(),
            outcome.last_line(),
            outcome.code
        );
    }
    Ok(())
}

/// What is there of the package `name`.
pub(super) fn ask(manager: PackageManager, name: &str) -> Result<Known> {
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
