//! `--install` and `--upgrade`: the package through the host's own package manager, then
//! onboarding (bundle.md 2.9, 2.10, 2.12).

use super::companions::{self, Delivery};
use super::kits;
use super::patience::patiently;
use super::product;
use super::release::{self, PACKAGE};
use crate::bundle::{Bundle, Entry, Kind};
use crate::host::Host;
use crate::host::packages::{How, Kind as Installing, PackageManager};
use crate::package::Arch;
use crate::package::version::Version;
use crate::plan::journal::Journal;
use crate::plan::steps::WriteFile;
use crate::plan::{Broken, Plan, Report, Step};
use crate::workspace::{OnboardingRequest, onboarding};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// How to deploy.
#[derive(Debug, Clone)]
pub struct Order {
    /// `--install`: refuses when omi or scx is there (exit code 23).
    pub fresh: bool,
    /// `--force`
    pub force: bool,
    /// `--noDigest`
    pub no_digest: bool,
    /// How the kits are run afterwards.
    pub kits: kits::How,
    /// What to onboard afterwards.
    pub onboarding: Option<OnboardingRequest>,
}

/// Why a deployment ended, each with its exit code of bundle.md 1.3.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// 66
    #[error("Error: This system does not have a supported package manager")]
    NoPackageManager,
    /// 4
    #[error("This kit is intended for {kit} systems and cannot install on {host} systems")]
    WrongKind {
        /// What the bundle holds.
        kit: &'static str,
        /// What the host has.
        host: &'static str,
    },
    /// 23
    #[error(
        "The omi or scx package is already installed. Please run the\ninstaller with --upgrade (instead of --install) to continue."
    )]
    AlreadyInstalled,
    /// 17
    #[error("{0:#}")]
    Package(anyhow::Error),
    /// A package beside ours (18, 19, 20, 22, 52).
    #[error("{source:#}")]
    Companion {
        /// The exit code.
        code: u8,
        /// Which package, and why.
        source: anyhow::Error,
    },
    /// The code of the onboarding (protocol.md 1.9): the package stays installed.
    #[error("{broken}")]
    Onboarding {
        /// What went wrong.
        broken: Broken,
    },
    /// 30
    #[error("{0:#}")]
    Internal(anyhow::Error),
}

impl DeployError {
    /// The bundle's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            DeployError::NoPackageManager => 66,
            DeployError::WrongKind { .. } => 4,
            DeployError::AlreadyInstalled => 23,
            DeployError::Package(_) => 17,
            DeployError::Companion { code, .. } => *code,
            DeployError::Onboarding { broken } => crate::workspace::exit_code(&broken.source),
            DeployError::Internal(_) => 30,
        }
    }
}

/// The package of this bundle for this host.
pub fn package_for<'b>(bundle: &'b Bundle, host: &Host) -> Result<&'b Entry, DeployError> {
    let manager = host.packages.ok_or(DeployError::NoPackageManager)?;
    let (kind, name) = match manager {
        PackageManager::Dpkg => (Kind::Deb, "DPKG"),
        PackageManager::Rpm => (Kind::Rpm, "RPM"),
    };
    let other = if name == "DPKG" { "RPM" } else { "DPKG" };
    bundle
        .entries()
        .iter()
        .find(|e| e.kind == kind && e.pkg.as_deref() == Some(PACKAGE) && fits(e, host))
        .ok_or(DeployError::WrongKind {
            kit: other,
            host: name,
        })
}

fn fits(entry: &Entry, host: &Host) -> bool {
    entry
        .arch
        .is_none_or(|arch| Some(arch) == Arch::from_word(&host.arch))
}

/// Does it. `scratch` is a private folder for the package file while dpkg or rpm reads it.
pub fn deploy(
    host: &Host,
    bundle: Rc<Bundle>,
    scratch: &Path,
    order: Order,
    report: &mut dyn Report,
) -> Result<bool, DeployError> {
    let plan = package_plan(host, &bundle, scratch, &order)?;
    let mut journal = Journal::at(&product::records(&host.layout));
    let mut changed = plan
        .run(&mut journal, report)
        .map_err(|broken| match companions::code_of(&broken.source) {
            Some(code) => DeployError::Companion {
                code,
                source: with_left_behind(broken),
            },
            None => DeployError::Package(with_left_behind(broken)),
        })?
        .changed;
    if let Some(request) = order.onboarding {
        changed |=
            onboard(host, request, report).map_err(|broken| DeployError::Onboarding { broken })?;
    }
    Ok(changed)
}

/// One error that says what could not be taken back, too.
fn with_left_behind(broken: Broken) -> anyhow::Error {
    if broken.left_behind.is_empty() {
        return broken.source;
    }
    let left = broken.left_behind.join("; ");
    anyhow::anyhow!("{:#}; not taken back: {left}", broken.source)
}

/// The steps up to the installed package.
pub fn package_plan(
    host: &Host,
    bundle: &Rc<Bundle>,
    scratch: &Path,
    order: &Order,
) -> Result<Plan, DeployError> {
    let manager = host.packages.ok_or(DeployError::NoPackageManager)?;
    let entry = package_for(bundle, host)?.clone();
    let ask = |name| manager.installed_version(name);
    if order.fresh {
        let there = ["omi", "scx"].map(ask);
        for version in there {
            if version.map_err(DeployError::Package)?.is_some() {
                return Err(DeployError::AlreadyInstalled);
            }
        }
    }
    let installed = ask(PACKAGE).map_err(DeployError::Package)?;
    let delivery = Delivery {
        host,
        bundle,
        scratch,
        force: order.force,
        no_digest: order.no_digest,
    };
    let (before, after) = companions::plans(&delivery, manager).map_err(DeployError::Package)?;
    let mut plan = Plan::new();
    plan.append(before);
    if order.onboarding.is_some() {
        // What was asked for on the command line wins over a file lying there, as in the
        // original, which overwrote it.
        plan.push(WriteFile::remove(host.layout.onboarding_file()));
    }
    plan.push(InstallPackage {
        manager,
        bundle: bundle.clone(),
        entry,
        scratch: scratch.to_owned(),
        installed,
        settings_kept: host.layout.etc().exists(),
        force: order.force,
        no_digest: order.no_digest,
        applied: false,
    });
    plan.append(after);
    Ok(plan)
}

/// Onboards, unless the workspace's agent is running already. True when the host was changed.
pub fn onboard(
    host: &Host,
    request: OnboardingRequest,
    report: &mut dyn Report,
) -> Result<bool, Broken> {
    // What a run killed in the middle of a rename left, also where the package's steps are skipped.
    product::sweep(host);
    let id = request.id.clone();
    let already = format!("Workspace {id} already onboarded and agent is running.");
    let broken = |source| Broken {
        step: format!("onboard workspace {id}"),
        source,
        left_behind: Vec::new(),
    };
    if onboarding::is_running_as_asked(host, &request) {
        report.line(&already);
        return Ok(false);
    }
    if onboarding::update_resource(host, &request).map_err(broken)? {
        report.line("Azure Resource ID updated.");
        report.line(&already);
        return Ok(true);
    }
    // What a removal left here is root's.
    product::take_back(host, &id).map_err(broken)?;
    let plan = onboarding::plan(host, request, &release::version()).map_err(broken)?;
    let mut journal = Journal::at(&product::records(&host.layout));
    Ok(plan.run(&mut journal, report)?.changed)
}

/// Puts the package on the host with dpkg or rpm.
struct InstallPackage {
    manager: PackageManager,
    bundle: Rc<Bundle>,
    entry: Entry,
    scratch: PathBuf,
    installed: Option<String>,
    /// Settings and keys of an earlier installation are there.
    settings_kept: bool,
    force: bool,
    no_digest: bool,
    applied: bool,
}

impl InstallPackage {
    fn is_newer(&self) -> Result<bool> {
        let Some(installed) = &self.installed else {
            return Ok(true);
        };
        let ours = Version::parse(&release::version())?;
        // What cannot be read cannot be older than us for certain: let the tool decide.
        Ok(Version::parse(installed).map_or(true, |there| ours.is_newer_than(&there)))
    }
}

impl Step for InstallPackage {
    fn describe(&self) -> String {
        let verb = match self.installed {
            None => "install",
            Some(_) => "upgrade",
        };
        format!(
            "{verb} package {PACKAGE} {} with {}",
            release::version(),
            self.manager.program()
        )
    }

    fn satisfied(&self) -> Result<bool> {
        Ok(!self.force && !self.is_newer()?)
    }

    fn apply(&mut self, report: &mut dyn Report) -> Result<()> {
        let base = release::base_name();
        let kind = match self.installed {
            None => {
                report.line(&format!(
                    "----- Installing package: {PACKAGE} ({base}) -----"
                ));
                Installing::Add
            }
            Some(_) => {
                report.line(&format!(
                    "----- Upgrading package {PACKAGE} to version ({base}) -----"
                ));
                Installing::Upgrade
            }
        };
        let file = self
            .scratch
            .join(format!("{base}.{}", self.manager.suffix()));
        self.bundle.extract(&self.entry, &file, 0o644)?;
        self.applied = true;
        let how = How {
            kind,
            force: self.force,
            no_digest: self.no_digest,
        };
        let manager = self.manager;
        let outcome = patiently(report, |output| manager.install(&file, how, output));
        let _ = std::fs::remove_file(&file);
        let outcome = outcome?;
        if !outcome.ok() {
            let verb = match kind {
                Installing::Add => "install",
                Installing::Upgrade => "upgrade",
            };
            bail!(
                "{base} package failed to {verb} and exited with error code {}: {}",
                outcome.code,
                reason(&outcome.output).unwrap_or(outcome.last_line())
            );
        }
        Ok(())
    }

    fn undo(&mut self, report: &mut dyn Report) -> Result<()> {
        if !self.applied {
            return Ok(());
        }
        let there = self.manager.installed_version(PACKAGE)?;
        if there == self.installed && there.is_some() {
            return Ok(()); // the tool refused before it did anything
        }
        if let Some(version) = &self.installed {
            bail!("package {PACKAGE} cannot be set back to {version}: install that version again");
        }
        let mut pass = |bytes: &[u8]| report.tool_output(bytes);
        // A purge would take the settings and keys of an earlier installation with it.
        let outcome = if self.settings_kept {
            self.manager.remove(PACKAGE, &mut pass)?
        } else {
            self.manager.purge(PACKAGE, &mut pass)?
        };
        if outcome.ok() || self.manager.installed_version(PACKAGE)?.is_none() {
            return Ok(());
        }
        bail!(
            "package {PACKAGE} could not be taken away again: {}",
            outcome.last_line()
        )
    }
}

/// Why the package tool failed. Both end with what they were doing, not with the reason: dpkg says
/// it below its first `error processing` line, rpm in its first `error:` line.
fn reason(output: &str) -> Option<&str> {
    let mut lines = output.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line.starts_with("dpkg: error processing") && line.ends_with(':') {
            return lines.next();
        }
        if line.starts_with("error:") || line.starts_with("dpkg: error:") {
            return Some(line);
        }
    }
    None
}

/// What `--dry-run` says: every step up to a running, onboarded agent.
pub fn preview(
    host: &Host,
    bundle: &Rc<Bundle>,
    scratch: &Path,
    order: &Order,
) -> Result<Vec<(String, bool)>, DeployError> {
    let mut lines = package_plan(host, bundle, scratch, order)?
        .preview()
        .map_err(DeployError::Internal)?;
    lines.extend(
        product::configure_plan(host)
            .preview()
            .map_err(DeployError::Internal)?,
    );
    lines.extend(kits::outline(host, bundle, order.kits));
    if let Some(request) = &order.onboarding {
        let running = onboarding::is_running_as_asked(host, request);
        let outline = onboarding::outline(host, request)
            .context("cannot plan the onboarding")
            .map_err(DeployError::Internal)?;
        lines.extend(outline.into_iter().map(|line| (line, !running)));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_found_in_what_the_tool_said() {
        let dpkg = "Unpacking x ...\ndpkg: error processing archive /r/x.deb (--install):\n \
                    cannot copy: No space left on device\nErrors were encountered while \
                    processing:\n /r/x.deb\n";
        assert_eq!(reason(dpkg), Some("cannot copy: No space left on device"));
        let rpm = "Verifying...\nerror: unpacking of archive failed: No space left\nerror: x\n";
        assert_eq!(
            reason(rpm),
            Some("error: unpacking of archive failed: No space left")
        );
        assert_eq!(reason("who knows\n"), None);
    }
}
