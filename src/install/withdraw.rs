//! `--remove` and `--purge` of the bundle and of OPT/bin/uninstall (bundle.md 2.5).

use super::release::PACKAGE;
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

/// Removes or purges. Says what failed and goes on: what is left is told at the end.
pub fn withdraw(host: &Host, depth: Depth, report: &mut dyn Report) -> Result<()> {
    let layout = &host.layout;
    files::remove(&layout.onboarding_file())?;
    if let Some(manager) = host.packages {
        remove_package(manager, depth, report)?;
    }
    if depth == Depth::Purge {
        // rpm keeps nothing of its own; a dpkg package is gone by now, its purge did the same.
        let gone = match host.packages {
            Some(manager) => manager.installed_version(PACKAGE)?.is_none(),
            None => true,
        };
        if gone {
            for tree in [layout.etc(), layout.var(), layout.opt()] {
                files::remove_tree(&tree)?;
                if let Some(parent) = tree.parent() {
                    files::remove_dir_if_empty(parent);
                }
            }
        }
    }
    Ok(())
}

fn remove_package(manager: PackageManager, depth: Depth, report: &mut dyn Report) -> Result<()> {
    let installed = manager.installed_version(PACKAGE)?.is_some();
    let known = installed || (depth == Depth::Purge && has_leftovers(manager)?);
    if !known {
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

/// dpkg remembers a removed package until it is purged.
fn has_leftovers(manager: PackageManager) -> Result<bool> {
    match manager {
        PackageManager::Rpm => Ok(false),
        PackageManager::Dpkg => {
            let asked = crate::base::command::Command::new("dpkg")
                .args(["-s", PACKAGE])
                .run()?;
            Ok(asked.output.contains("config-files"))
        }
    }
}
