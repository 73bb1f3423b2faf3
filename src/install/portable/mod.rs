//! Where there is neither dpkg nor rpm: the package's files are laid down by our own code and
//! listed in a receipt, then the same is done as by the package's scripts.

mod back;
mod lay;
mod receipt;
#[cfg(test)]
mod tests;

pub use back::{format, go_back};
pub use receipt::Receipt;

use super::health::{self, Unhealthy};
use super::product;
use super::release::{self, PACKAGE};
use super::withdraw::Depth;
use crate::base::files;
use crate::bundle::{Bundle, Entry};
use crate::host::Host;
use crate::host::layout::Layout;
use crate::plan::backup::Backups;
use crate::plan::keep::{Coming, Keep};
use crate::plan::undo::Undo;
use crate::plan::{Report, Step};
use anyhow::{Result, bail};
use lay::Survey;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The version that was laid down here.
pub fn installed_version(layout: &Layout) -> Result<Option<String>> {
    Ok(Receipt::load(layout)?.and_then(|receipt| receipt.version))
}

/// A package manager has taken over: its books count from here on.
pub fn hand_over(layout: &Layout) -> Result<()> {
    Receipt::forget(layout)
}

/// Takes away what the receipt lists. A removal keeps the files that people edit, as dpkg does, and
/// a receipt for them. What the product made beside its files is gone before.
pub fn take_away(layout: &Layout, depth: Depth) -> Result<()> {
    let Some(mut receipt) = Receipt::load(layout)? else {
        return Ok(());
    };
    let kept: BTreeMap<_, _> = match depth {
        Depth::Purge => BTreeMap::new(),
        Depth::Remove => {
            let there = |path: &str| std::fs::symlink_metadata(layout.path(path)).is_ok();
            let kept =
                |(path, thing): &(&String, &receipt::Thing)| thing.is_conffile() && there(path);
            let clone = |(path, thing): (&String, &receipt::Thing)| (path.clone(), thing.clone());
            receipt.things.iter().filter(kept).map(clone).collect()
        }
    };
    let mut left = lay::take_away(layout, &receipt.things, &kept, depth == Depth::Purge)?;
    left.extend(kept);
    if depth == Depth::Purge || !left.values().any(receipt::Thing::is_conffile) {
        Receipt::forget(layout)?;
        files::remove_dir_if_empty(&layout.records());
        return Ok(());
    }
    receipt.things = left;
    receipt.version = None;
    receipt.finish();
    receipt.save(layout)
}

/// Lays the package down and configures the product.
pub struct InstallPortable {
    host: Host,
    bundle: Rc<Bundle>,
    entry: Entry,
    scratch: PathBuf,
    before: Option<Receipt>,
    keep: Keep,
    force: bool,
}

impl InstallPortable {
    /// What is in the way is found here, before anything is changed.
    pub fn new(
        host: &Host,
        bundle: &Rc<Bundle>,
        entry: Entry,
        scratch: &Path,
        force: bool,
    ) -> Result<InstallPortable> {
        let step = InstallPortable {
            host: host.clone(),
            bundle: bundle.clone(),
            entry,
            scratch: scratch.to_owned(),
            before: Receipt::load(&host.layout)?,
            keep: Keep::of(&host.layout),
            force,
        };
        if !step.satisfied()? {
            step.with_package(|package| step.survey(package).map(|_| ()))?;
        }
        Ok(step)
    }

    fn installed(&self) -> Option<&str> {
        self.before.as_ref()?.version.as_deref()
    }

    fn survey(&self, package: &Path) -> Result<Survey> {
        let survey = Survey::of(&self.host.layout, package, self.before.as_ref())?;
        if !self.force && !survey.foreign.is_empty() {
            bail!(
                "these files are here already, and not out of this product: {}; nothing was \
                 changed; move them away, or replace them with --force",
                survey.foreign.join(", ")
            );
        }
        Ok(survey)
    }

    fn with_package<T>(&self, work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let file = self.scratch.join(&self.entry.name);
        self.bundle.extract(&self.entry, &file, 0o600)?;
        let done = work(&file);
        files::remove(&file)?;
        done
    }

    fn lay(&self, package: &Path, report: &mut dyn Report) -> Result<Receipt> {
        let layout = &self.host.layout;
        let survey = self.survey(package)?;
        if !survey.left_out.is_empty() {
            report.line(&format!(
                "/usr cannot be written; left out, and not needed: {}",
                survey.left_out.join(", ")
            ));
        }
        let before = self.before.as_ref();
        back::replace(layout, package, survey, before, release::version())
    }
}

/// What a step of ours runs as a plan of its own is told of by its lines, not as steps.
struct Within<'r>(&'r mut dyn Report);

impl Report for Within<'_> {
    fn line(&mut self, text: &str) {
        self.0.line(text);
    }
    fn warn(&mut self, text: &str) {
        self.0.warn(text);
    }
    fn tool_output(&mut self, bytes: &[u8]) {
        self.0.tool_output(bytes);
    }
}

impl Step for InstallPortable {
    fn describe(&self) -> String {
        let verb = match self.installed() {
            None => "install",
            Some(_) => "upgrade",
        };
        let version = release::version();
        format!("{verb} package {PACKAGE} {version} without a package manager")
    }

    fn satisfied(&self) -> Result<bool> {
        let whole = self.before.as_ref().is_some_and(|r| r.complete);
        Ok(!self.force && whole && !release::is_newer_than(self.installed())?)
    }

    /// The receipt is on the disk before the first file, and the next run goes by it.
    fn before(&self, _: &mut Backups) -> Result<Undo> {
        Ok(Undo::Nothing)
    }

    fn apply(&mut self, report: &mut dyn Report) -> Result<()> {
        let base = release::base_name();
        report.line(&match self.installed() {
            None => format!("----- Installing package: {PACKAGE} ({base}) -----"),
            Some(_) => format!("----- Upgrading package {PACKAGE} to version ({base}) -----"),
        });
        let older = self.installed().is_some() && release::is_newer_than(self.installed())?;
        let running = match older {
            true => health::running(&self.host),
            false => Vec::new(),
        };
        let done = self.install(report);
        let Err(e) = done.and_then(|()| health::check(&self.host, &running, report)) else {
            return Ok(());
        };
        match (self.take_back(report), self.installed()) {
            (Err(back), _) => Err(e.context(format!("not taken back: {back:#}"))),
            (Ok(()), Some(from)) if e.is::<Unhealthy>() => {
                let down = health::not_running(&self.host, &running);
                let end = match down.is_empty() {
                    true => "is back and its agents run".to_owned(),
                    false => format!("is back, but does not run for {}", down.join(", ")),
                };
                bail!("{e:#}. omsagent {from} {end}")
            }
            (Ok(()), _) => Err(e),
        }
    }
}

impl InstallPortable {
    fn install(&self, report: &mut dyn Report) -> Result<()> {
        let coming = Coming {
            name: PACKAGE,
            manager: format(&self.entry),
            before: self.installed(),
            scratch: &self.scratch,
        };
        let file = self
            .keep
            .deliver(&self.bundle, &self.entry, &coming, report)?;
        let mut receipt = self.lay(file.path(), report)?;
        product::configure(&self.host, &mut Within(report))?;
        receipt.finish();
        receipt.save(&self.host.layout)
    }

    /// A failed installation is taken away again; after a failed upgrade the version before is laid
    /// down, out of its kept file.
    fn take_back(&self, report: &mut dyn Report) -> Result<()> {
        let layout = &self.host.layout;
        let untouched = Receipt::load(layout)? == self.before;
        if let Some(version) = self.installed() {
            if !untouched {
                go_back(&self.host, version, report)?;
            }
            self.keep.forget(PACKAGE, Some(version));
            return Ok(());
        }
        if untouched {
            self.keep.forget(PACKAGE, None);
            return Ok(()); // refused before anything was done
        }
        let made = product::made(layout)?;
        product::withdraw(&self.host, &made, report);
        let depth = match self.before {
            None => Depth::Purge,
            Some(_) => Depth::Remove,
        };
        take_away(layout, depth)
    }
}
