//! The version before, laid down again out of its kept package file.

use super::receipt::{Receipt, Thing};
use super::{Within, lay};
use crate::bundle::{Entry, Kind};
use crate::host::Host;
use crate::host::layout::Layout;
use crate::host::packages::PackageManager;
use crate::install::recovery;
use crate::install::release::PACKAGE;
use crate::plan::Report;
use crate::plan::keep::Keep;
use anyhow::{Context, Result};
use lay::Survey;
use std::collections::BTreeMap;
use std::path::Path;

/// Whose format the package has: kept files are told apart by it.
pub fn format(entry: &Entry) -> PackageManager {
    match entry.kind {
        Kind::Rpm => PackageManager::Rpm,
        _ => PackageManager::Dpkg,
    }
}

/// Puts a package's files in place of those that a receipt lists; the receipt of all of it, which
/// is not complete yet.
pub(super) fn replace(
    layout: &Layout,
    package: &Path,
    survey: Survey,
    before: Option<&Receipt>,
    version: String,
) -> Result<Receipt> {
    let old: BTreeMap<String, Thing> = before.map(|r| r.things.clone()).unwrap_or_default();
    // Until the end it lists the files of both versions: whatever happens, all are known.
    let mut receipt = Receipt::begin(version, survey.things.clone());
    for (path, thing) in &old {
        let known = receipt.things.entry(path.clone());
        known.or_insert_with(|| thing.clone());
    }
    receipt.save(layout)?;
    survey.lay(layout, package)?;
    let left = lay::take_away(layout, &old, &survey.things, false)?;
    receipt.things = survey.things;
    receipt.things.extend(left);
    receipt.save(layout)?;
    Ok(receipt)
}

/// Lays the kept package of `version` down over what is there, and has it configured.
pub fn go_back(host: &Host, version: &str, report: &mut dyn Report) -> Result<()> {
    let layout = &host.layout;
    let keep = Keep::of(layout);
    let formats = [PackageManager::Dpkg, PackageManager::Rpm];
    let kept = formats
        .into_iter()
        .find_map(|format| keep.find(PACKAGE, version, format))
        .with_context(|| {
            format!(
                "package {PACKAGE} cannot be set back to {version}, no package file of it is kept \
                 on this host: install that version again"
            )
        })?;
    let package = keep.checked(&kept)?;
    report.line(&format!(
        "----- Going back: package {PACKAGE} to version ({version}) -----"
    ));
    put_back(layout, &package, version)?;
    recovery::configure(host, version, &mut Within(report))?;
    let mut receipt = Receipt::load(layout)?.context("the receipt is gone")?;
    receipt.finish();
    receipt.save(layout)
}

pub(super) fn put_back(layout: &Layout, package: &Path, version: &str) -> Result<()> {
    let there = Receipt::load(layout)?;
    // What is somebody else's was replaced by --force already, or the way here would not have begun.
    let survey = Survey::of(layout, package, there.as_ref())?;
    replace(layout, package, survey, there.as_ref(), version.to_owned()).map(drop)
}
