//! The way back of one package.

use super::{Keep, same};
use crate::host::packages::{Leaving, PackageManager};
use crate::plan::Report;
use crate::plan::patience::patiently;
use anyhow::{Context, Result, bail};

/// Brings a package back to the version before: the kept file of it is installed over what is
/// there; one that was not there before goes.
pub fn go_back(
    keep: &Keep,
    manager: PackageManager,
    name: &str,
    before: Option<&str>,
    leaving: Leaving,
    report: &mut dyn Report,
) -> Result<()> {
    if let Some(before) = before {
        let there = manager.installed_version(name)?;
        // Also when the tool refused before it did anything.
        if !there.as_deref().is_some_and(|there| same(there, before)) {
            put_back(keep, manager, name, before, report)?;
        }
        return Ok(());
    }
    // One whose unpacking was cut short has no version, and is there. One that never came needs no
    // manager, which may be busy.
    let known = manager.known(name)?;
    if !known.has_any(leaving) {
        return Ok(());
    }
    let outcome = patiently(report, |said| manager.take_away(name, known, leaving, said))?;
    if !outcome.ok() && manager.known(name)?.has_any(leaving) {
        let why = outcome.last_line();
        bail!("package {name} could not be taken away again: {why}");
    }
    Ok(())
}

/// As [`go_back`], for a run that failed: what it noted of the package goes, too.
pub fn take_back(
    keep: &Keep,
    manager: PackageManager,
    name: &str,
    before: Option<&str>,
    leaving: Leaving,
    report: &mut dyn Report,
) -> Result<()> {
    go_back(keep, manager, name, before, leaving, report)?;
    keep.forget(name, before);
    Ok(())
}

fn put_back(
    keep: &Keep,
    manager: PackageManager,
    name: &str,
    version: &str,
    report: &mut dyn Report,
) -> Result<()> {
    let kept = keep.find(name, version, manager).with_context(|| {
        format!(
            "package {name} cannot be set back to {version}, no package file of it is kept on \
             this host: install that version again"
        )
    })?;
    let path = keep.checked(&kept)?;
    report.line(&format!(
        "----- Going back: package {name} to version ({version}) -----"
    ));
    let outcome = patiently(report, |said| manager.install_earlier(&path, said))?;
    let there = manager.installed_version(name)?;
    if outcome.ok() && there.as_deref().is_some_and(|there| same(there, version)) {
        return Ok(());
    }
    let (program, why, code) = (manager.program(), outcome.last_line(), outcome.code);
    bail!("package {name} could not be set back to {version}: {program} said {why} (status {code})")
}
