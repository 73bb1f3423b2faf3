//! The packages beside omsagent that a bundle may hold: omi and scx before it, omsconfig after it
//! (bundle.md 2.9, 2.10, 2.12), each with its own exit code.

use super::deploy::package_for;
use super::kits;
use super::means::{self, Means};
use super::release::PACKAGE;
use super::through_manager::Package;
use crate::base::command::Command;
use crate::base::order;
use crate::bundle::{Bundle, Entry, Kind};
use crate::host::Host;
use crate::host::packages::{Known, PackageManager};
use crate::package::Arch;
use crate::package::version::Version;
use crate::plan::backup::Backups;
use crate::plan::keep::{Keep, same};
use crate::plan::undo::Undo;
use crate::plan::{Plan, Report, Step};
use anyhow::Result;
use std::path::Path;
use std::rc::Rc;

/// The order in which the original's packages are installed.
pub const ORDER: [&str; 4] = ["omi", "scx", PACKAGE, "omsconfig"];

/// The order of `--version-check` (bundle.md 2.8).
const SHOWN: [&str; 4] = [PACKAGE, "omsconfig", "omi", "scx"];

/// omi's own tool for its service.
const OMI_CONTROL: &str = "/opt/omi/bin/service_control";

/// A package that could not be installed, upgraded or removed, with the exit code that callers
/// know (bundle.md 1.3).
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Failed {
    /// 17, 18, 19, 20, 22 or 52.
    pub code: u8,
    text: String,
}

impl Failed {
    /// With the code of `package`.
    pub fn new(package: &str, text: String) -> Self {
        let code = code(package);
        Failed { code, text }
    }
}

/// The exit code in an error's chain, if there is one.
pub fn code_of(error: &anyhow::Error) -> Option<u8> {
    error.downcast_ref::<Failed>().map(|failed| failed.code)
}

/// The exit code of a package's failure.
fn code(package: &str) -> u8 {
    match package {
        "omi" => 19,
        "scx" => 20,
        PACKAGE => 17,
        "omsconfig" => 18,
        _ => 22,
    }
}

/// Place in [`ORDER`]; packages that the original had not come last, in the bundle's order.
fn place(package: &str) -> usize {
    ORDER
        .iter()
        .position(|p| *p == package)
        .unwrap_or(ORDER.len())
}

/// The packages for this host in the order in which they are installed.
pub fn packages<'b>(
    bundle: &'b Bundle,
    manager: PackageManager,
    arch: &str,
) -> Vec<(&'b str, &'b Entry)> {
    let kind = match manager {
        PackageManager::Dpkg => Kind::Deb,
        PackageManager::Rpm => Kind::Rpm,
    };
    let fits = |e: &&Entry| {
        let here = e.arch.is_none_or(|a| Some(a) == Arch::from_word(arch));
        e.kind == kind && here
    };
    let mut found: Vec<(&str, &Entry)> = bundle
        .entries()
        .iter()
        .filter(fits)
        .filter_map(|e| e.pkg.as_deref().map(|pkg| (pkg, e)))
        .collect();
    order::by_key(&mut found, |(pkg, _)| place(pkg));
    let mut seen = std::collections::HashSet::new();
    found.retain(|(pkg, _)| seen.insert(*pkg));
    found
}

/// What all steps of this room need.
pub struct Delivery<'a> {
    /// Where to.
    pub host: &'a Host,
    /// Where from.
    pub bundle: &'a Rc<Bundle>,
    /// A private folder for a package file while dpkg or rpm reads it.
    pub scratch: &'a Path,
    /// `--force`
    pub force: bool,
    /// `--noDigest`
    pub no_digest: bool,
}

/// Steps for the packages that come before omsagent, and for those after it.
pub fn plans(
    delivery: &Delivery<'_>,
    manager: PackageManager,
    keep: &Keep,
) -> Result<(Plan, Plan)> {
    let (mut before, mut after) = (Plan::new(), Plan::new());
    for (name, entry) in packages(delivery.bundle, manager, &delivery.host.arch) {
        if name == PACKAGE {
            continue;
        }
        let installed = manager.installed_version(name)?;
        let foreign = is_foreign(manager, name, installed.as_deref())?;
        let plan = if place(name) < place(PACKAGE) {
            &mut before
        } else {
            &mut after
        };
        let package = Package {
            manager,
            bundle: delivery.bundle.clone(),
            entry: entry.clone(),
            name: name.to_owned(),
            base: base(entry, manager).to_owned(),
            keep: keep.clone(),
            scratch: delivery.scratch.to_owned(),
            installed,
            force: delivery.force,
            no_digest: delivery.no_digest,
        };
        let runs = delivery.host.is_live() && !delivery.host.image;
        plan.push(InstallCompanion {
            package,
            foreign,
            runs,
        });
    }
    Ok((before, after))
}

/// Lines about packages that are left alone though the bundle has a newer one.
pub fn left_alone(delivery: &Delivery<'_>, manager: PackageManager) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for (name, entry) in packages(delivery.bundle, manager, &delivery.host.arch) {
        let installed = manager.installed_version(name)?;
        if delivery.force
            || !is_newer(entry, installed.as_deref())?
            || !is_foreign(manager, name, installed.as_deref())?
        {
            continue;
        }
        let whole = match installed {
            Some(there) => format!(" {there} is Microsoft's and"),
            None => ", not wholly installed, is Microsoft's and".to_owned(),
        };
        lines.push(format!(
            "Package {name}{whole} is left alone: Operations Manager may be using it (--force \
             replaces it)."
        ));
    }
    Ok(lines)
}

/// Lines about packages, and kits, that only a package manager can install.
pub fn left_out(bundle: &Bundle) -> Vec<String> {
    let mut names: Vec<&str> = bundle
        .entries()
        .iter()
        .filter(|e| matches!(e.kind, Kind::Deb | Kind::Rpm))
        .filter_map(|e| e.pkg.as_deref().filter(|name| *name != PACKAGE))
        .collect();
    order::by_key(&mut names, |name| place(name));
    names.dedup();
    let packages = names.into_iter().map(|name| format!("Package {name}"));
    // They bring packages of their own.
    let kits = kits::of(bundle).map(|(_, rule)| format!("Kit {}", rule.name));
    packages
        .chain(kits)
        .map(|what| format!("{what} needs dpkg or rpm and is left out."))
        .collect()
}

/// Is it Microsoft's omi or scx, installed wholly or in part?
fn is_foreign(manager: PackageManager, name: &str, installed: Option<&str>) -> Result<bool> {
    if !matches!(name, "omi" | "scx") {
        return Ok(false);
    }
    let there = match installed {
        Some(_) => Known::Present,
        None => manager.known(name)?,
    };
    Ok(matches!(there, Known::Present | Known::Broken) && microsoft_made(manager, name)?)
}

/// Does the package that is there say that Microsoft made it?
fn microsoft_made(manager: PackageManager, name: &str) -> Result<bool> {
    let asked = match manager {
        PackageManager::Dpkg => {
            Command::new("dpkg-query").args(["-W", "-f", "${Maintainer}\\n", name])
        }
        PackageManager::Rpm => {
            let format = "%{VENDOR} %{PACKAGER}\\n";
            Command::new("rpm").args(["-q", "--queryformat", format, name])
        }
    };
    let outcome = asked.run()?;
    Ok(outcome.ok() && says_microsoft(&outcome.output))
}

fn says_microsoft(text: &str) -> bool {
    text.to_ascii_lowercase().contains("microsoft")
}

fn is_newer(entry: &Entry, installed: Option<&str>) -> Result<bool> {
    let Some(installed) = installed else {
        return Ok(true);
    };
    let ours = Version::parse(entry.version.as_deref().unwrap_or_default())?;
    // What cannot be read cannot be older than ours for certain: let the tool decide.
    Ok(Version::parse(installed).map_or(true, |there| ours.is_newer_than(&there)))
}

/// One line of `--version-check` per component, cells 15 wide (bundle.md 2.8). It answers for
/// `--upgrade`, with `--force` when that was given.
pub fn version_rows(host: &Host, bundle: &Bundle, force: bool) -> Result<Vec<String>> {
    let means = means::of(host);
    let mut found = match means {
        Means::Manager(manager) => packages(bundle, manager, &host.arch),
        Means::Portable => vec![(PACKAGE, package_for(bundle, host, means)?)],
    };
    let shown = |name: &str| SHOWN.iter().position(|s| *s == name);
    order::by_key(&mut found, |(name, _)| shown(name).unwrap_or(SHOWN.len()));
    found
        .into_iter()
        .map(|(name, entry)| {
            let installed = means::installed_version(host, name)?;
            let available = Version::parse(entry.version.as_deref().unwrap_or_default())?;
            let stays = || match means {
                Means::Manager(manager) if !force => {
                    is_foreign(manager, name, installed.as_deref())
                }
                _ => Ok(false),
            };
            let answer = match is_newer(entry, installed.as_deref())? && !stays()? {
                true => "Yes",
                false => "No",
            };
            Ok(row(
                name,
                installed.as_deref(),
                &available.to_string(),
                answer,
            ))
        })
        .collect()
}

fn row(name: &str, installed: Option<&str>, available: &str, answer: &str) -> String {
    let installed = installed.map_or("None".into(), |v| v.replacen('-', ".", 1));
    format!("{name:<15}{installed:<15}{available:<15}{answer:<15}")
}

/// The name of a package's file without its ending.
fn base(entry: &Entry, manager: PackageManager) -> &str {
    let suffix = format!(".{}", manager.suffix());
    entry
        .name
        .strip_suffix(suffix.as_str())
        .unwrap_or(&entry.name)
}

/// Puts one package on the host with dpkg or rpm.
struct InstallCompanion {
    package: Package,
    /// Microsoft's omi or scx.
    foreign: bool,
    /// The host runs: in an image no service does.
    runs: bool,
}

impl InstallCompanion {
    /// An orphan of a killed run may have finished it while its lock was waited for.
    fn came_meanwhile(&self) -> Result<bool> {
        let package = &self.package;
        if package.force || package.installed.is_some() {
            return Ok(false);
        }
        let there = package.manager.installed_version(&package.name)?;
        let ours = package.entry.version.as_deref().unwrap_or_default();
        Ok(there.is_some_and(|there| same(&there, ours)))
    }

    /// omi's service takes up what changed, as in the original (bundle.md 2.9 item 3).
    fn reload_omi(&self, report: &mut dyn Report) -> Result<()> {
        let outcome = Command::new(OMI_CONTROL)
            .arg("reload")
            .run_with(|bytes| report.tool_output(bytes));
        let (status, why) = match outcome {
            Ok(outcome) if outcome.ok() => return Ok(()),
            Ok(outcome) => (outcome.code, outcome.last_line().to_owned()),
            Err(e) => (127, e.to_string()),
        };
        let upgraded = self.package.installed.is_some();
        let reason = why_not_started(status, upgraded);
        let line = format!(
            "OMI server failed to start due to {reason} and exited with error code {status}"
        );
        report.line(&line);
        Err(Failed {
            code: if matches!(status, 2 | 3) { 52 } else { 19 },
            text: format!("{line}: {why}"),
        }
        .into())
    }
}

/// What the original says of that status (bundle.md 1.4), its spelling included: scripts match it.
fn why_not_started(status: i32, upgraded: bool) -> &'static str {
    match (status, upgraded) {
        (2, _) => "system issue with daemon control tool",
        (3, false) => "missng omi server conf file",
        (3, true) => "missing omi server conf file",
        (_, false) => "OMI installation failure",
        (_, true) => "Failure upgrading OMI",
    }
}

impl Step for InstallCompanion {
    fn describe(&self) -> String {
        let version = self.package.entry.version.as_deref();
        self.package.describe(version.unwrap_or_default())
    }

    fn satisfied(&self) -> Result<bool> {
        let package = &self.package;
        if package.force {
            return Ok(false);
        }
        Ok(self.foreign || !is_newer(&package.entry, package.installed.as_deref())?)
    }

    fn before(&self, _: &mut Backups) -> Result<Undo> {
        Ok(Undo::Package {
            name: self.package.name.clone(),
            version: self.package.installed.clone(),
            // Those of an earlier installation are not this run's to delete.
            keeps_settings: self.package.manager.known(&self.package.name)? == Known::Leftovers,
        })
    }

    fn apply(&mut self, report: &mut dyn Report) -> Result<()> {
        let package = &self.package;
        package.announce(report);
        if self.foreign {
            report.warn(&format!(
                "package {} is Microsoft's; it is replaced, as --force asks for",
                package.name
            ));
        }
        let outcome = package.put(report)?;
        if !outcome.ok() && self.came_meanwhile()? {
            report.line(&format!(
                "Package {} was installed meanwhile.",
                package.name
            ));
        } else if !outcome.ok() {
            let text = package.failed(&outcome, report);
            let code = match (package.name.as_str(), outcome.code) {
                ("omi", 2) => 52,
                (name, _) => code(name),
            };
            return Err(Failed { code, text }.into());
        }
        if package.name == "omi" && self.runs {
            self.reload_omi(report)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_package_has_its_code_and_its_place() {
        let codes = ["omi", "scx", "omsagent", "omsconfig", "auoms"].map(code);
        assert_eq!(codes, [19, 20, 17, 18, 22]);
        let mut names = ["auoms", "omsconfig", "omsagent", "scx", "other", "omi"];
        names.sort_by_key(|name| place(name));
        assert_eq!(
            names,
            ["omi", "scx", "omsagent", "omsconfig", "auoms", "other"]
        );
        let failed = anyhow::Error::new(Failed::new("scx", "x".into()));
        assert_eq!(code_of(&failed.context("more")), Some(20));
        assert_eq!(code_of(&anyhow::anyhow!("other")), None);
    }

    #[test]
    fn cells_are_fifteen_wide() {
        let row = row("omi", Some("1.8.1-0"), "1.9.0.2", "Yes");
        assert_eq!(row.len(), 60);
        let cells: Vec<&str> = (0..4).map(|n| row[n * 15..(n + 1) * 15].trim()).collect();
        assert_eq!(cells, ["omi", "1.8.1.0", "1.9.0.2", "Yes"]);
        assert!(super::row("scx", None, "1", "No").contains("None   "));
    }

    #[test]
    fn why_omi_did_not_start_is_said_as_by_the_original() {
        assert_eq!(why_not_started(3, false), "missng omi server conf file");
        assert_eq!(why_not_started(3, true), "missing omi server conf file");
        assert_eq!(why_not_started(1, true), "Failure upgrading OMI");
    }

    #[test]
    fn whose_package_it_is() {
        assert!(says_microsoft("Microsoft Corporation <x@example.org>"));
        assert!(says_microsoft("(none) microsoft\n"));
        assert!(!says_microsoft("omsagent project <m@example.org>"));
    }
}
