//! `--remove` and `--purge` of the bundle and of OPT/bin/uninstall (bundle.md 2.5).

use super::product;
use super::release::PACKAGE;
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
enum Known {
    /// Nothing.
    Nothing,
    /// Removed, its configuration kept (dpkg).
    Leftovers,
    /// Installed, wholly or in part.
    Present,
}

/// Removes or purges. Says what failed and goes on: what is left is told at the end.
pub fn withdraw(host: &Host, depth: Depth, report: &mut dyn Report) -> Result<()> {
    let layout = &host.layout;
    files::remove(&layout.onboarding_file())?;
    let made = product::made(layout)?;
    if let Some(manager) = host.packages {
        remove_package(manager, depth, report)?;
    }
    let known = host.packages.map_or(Ok(Known::Nothing), ask)?;
    if known == Known::Present {
        return Ok(());
    }
    // The package did this already, unless its script was killed or folders were deleted by hand.
    product::withdraw(host, &made, report);
    if depth == Depth::Purge {
        for tree in [layout.etc(), layout.var(), layout.opt()] {
            files::remove_tree(&tree)?;
            if let Some(parent) = tree.parent() {
                files::remove_dir_if_empty(parent);
            }
        }
    }
    Ok(())
}

fn remove_package(manager: PackageManager, depth: Depth, report: &mut dyn Report) -> Result<()> {
    let there = match ask(manager)? {
        Known::Present => true,
        Known::Leftovers => depth == Depth::Purge,
        Known::Nothing => false,
    };
    if !there {
        report.line(&format!("Package {PACKAGE} is not installed."));
        return Ok(());
    }
    report.line(&format!("----- Removing package: {PACKAGE} -----"));
    let mut pass = |bytes: &[u8]| report.tool_output(bytes);
    let outcome = match depth {
        Depth::Remove => manager.remove(PACKAGE, &mut pass),
        Depth::Purge => manager.purge(PACKAGE, &mut pass),
    }
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

fn ask(manager: PackageManager) -> Result<Known> {
    if manager.installed_version(PACKAGE)?.is_some() {
        return Ok(Known::Present);
    }
    if manager == PackageManager::Rpm {
        return Ok(Known::Nothing);
    }
    let asked = Command::new("dpkg").args(["-s", PACKAGE]).run()?;
    Ok(known_to_dpkg(&asked.output))
}

/// By the last word of dpkg's `Status:` line. A package whose installation was cut short is
/// there too, and can be removed.
fn known_to_dpkg(said: &str) -> Known {
    let status = said.lines().find_map(|line| line.strip_prefix("Status:"));
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
        assert_eq!(known("install reinstreq half-installed"), Known::Present);
        assert_eq!(known("install ok unpacked"), Known::Present);
        assert_eq!(known("deinstall ok config-files"), Known::Leftovers);
        assert_eq!(known("purge ok not-installed"), Known::Nothing);
        assert_eq!(known_to_dpkg("dpkg-query: no such package"), Known::Nothing);
    }
}
