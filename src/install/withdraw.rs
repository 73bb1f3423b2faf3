//! `--remove` and `--purge` of the bundle and of OPT/bin/uninstall (bundle.md 2.5).

use super::patience::patiently;
use super::portable;
use super::product;
use super::release::PACKAGE;
use super::strays;
use crate::base::files;
use crate::host::packages::{Known, Leaving, PackageManager};
use crate::host::{Host, services};
use crate::plan::{Report, keep};
use anyhow::{Context, Result};
use std::path::Path;

/// How much goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The package; workspace settings and keys stay.
    Remove,
    /// Everything.
    Purge,
}

impl Depth {
    /// The name of such a run in the journal.
    pub(super) fn run(self) -> &'static str {
        match self {
            Depth::Remove => "remove packages",
            Depth::Purge => "purge packages",
        }
    }

    /// The same of one package.
    pub(super) fn leaving(self) -> Leaving {
        match self {
            Depth::Remove => Leaving::Remove,
            Depth::Purge => Leaving::Purge,
        }
    }
}

/// Would [`withdraw`] find anything to take away?
pub fn is_due(host: &Host, depth: Depth) -> Result<bool> {
    let layout = &host.layout;
    let there = |path: &Path| path.symlink_metadata().is_ok();
    let known = host
        .packages
        .map_or(Ok(Known::Nothing), |manager| manager.known(PACKAGE))?;
    let receipt = portable::Receipt::load(layout)?;
    let laid_down = receipt.is_some_and(|r| r.version.is_some() || !r.complete);
    // Workspaces of a removed package are traces, too: what they are known by here is what runs.
    let made = [
        layout.onboarding_file(),
        layout.installinfo(),
        keep::folder(layout),
    ];
    let units = || services::placed_units(layout);
    let removed = known.has_any(depth.leaving())
        || laid_down
        || made.iter().any(|path| there(path))
        || !product::made(layout)?.is_empty()
        || units().iter().any(|unit| unit.starts_with("omsagent-"));
    let places = || {
        let records = layout.records();
        let all = [layout.etc(), layout.var(), layout.opt(), records];
        all.iter().any(|path| there(path)) || strays::are_there(layout)
    };
    Ok(removed || (depth == Depth::Purge && places()))
}

/// Removes or purges omsagent alone. Says what failed and goes on: what is left is told at the end.
pub fn withdraw(host: &Host, depth: Depth, report: &mut dyn Report) -> Result<()> {
    let layout = &host.layout;
    files::remove(&layout.onboarding_file())?;
    let made = product::made(layout)?;
    let laid_down = portable::Receipt::load(layout)?.is_some();
    match host.packages {
        Some(manager) if !laid_down || manager.known(PACKAGE)?.has_any(depth.leaving()) => {
            remove_package(manager, depth, report)?;
        }
        _ if laid_down => report.line(&format!("----- Removing package: {PACKAGE} -----")),
        _ => report.line(&format!("Package {PACKAGE} is not installed.")),
    }
    let known = host
        .packages
        .map_or(Ok(Known::Nothing), |manager| manager.known(PACKAGE))?;
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
    let (known, leaving) = (manager.known(PACKAGE)?, depth.leaving());
    if !known.has_any(leaving) {
        report.line(&format!("Package {PACKAGE} is not installed."));
        return Ok(());
    }
    report.line(&format!("----- Removing package: {PACKAGE} -----"));
    let outcome = patiently(report, |output| {
        manager.take_away(PACKAGE, known, leaving, output)
    })
    .with_context(|| format!("cannot remove package {PACKAGE}"))?;
    // Somebody else may have removed it while the lock was waited for.
    if !outcome.ok() && manager.known(PACKAGE)? != Known::Nothing {
        anyhow::bail!(
            "package {PACKAGE} could not be removed: {} said {} (status {})",
            manager.program(),
            outcome.last_line(),
            outcome.code
        );
    }
    Ok(())
}
