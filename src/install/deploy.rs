//! `--install` and `--upgrade`: the package through the host's own package manager, then
//! onboarding (bundle.md 2.9, 2.10, 2.12).

use super::begun::Begun;
use super::companions::{self, Delivery};
use super::health::{HealthCheck, Verdict};
use super::means::Means;
use super::portable::InstallPortable;
use super::product;
use super::release::{self, PACKAGE};
use super::through_manager::Package;
use super::upgrade::{Replaced, Upgrade};
use super::{kits, migrate, upgrade};
use crate::base::files::{Look, Owner};
use crate::bundle::{Bundle, Entry, Kind};
use crate::host::Host;
use crate::host::packages::PackageManager;
use crate::package::Arch;
use crate::plan::backup::Backups;
use crate::plan::journal::{CutShort, Journal, Run};
use crate::plan::keep::Keep;
use crate::plan::steps::{MakeDir, WriteFile};
use crate::plan::undo::Undo;
use crate::plan::{Broken, Plan, Report, Step};
use crate::workspace::{self, OnboardingRequest, onboarding};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::rc::Rc;
use zeroize::Zeroizing;

/// How to deploy.
#[derive(Debug, Clone)]
pub struct Order {
    /// How the package gets here.
    pub means: Means,
    /// `--install`: refuses when omi or scx is there (exit code 23), unless a run of ours that was
    /// cut short brought it.
    pub fresh: bool,
    /// `--force`
    pub force: bool,
    /// `--noDigest`
    pub no_digest: bool,
    /// How the kits are run afterwards.
    pub kits: kits::How,
    /// What to onboard afterwards.
    pub onboarding: Option<OnboardingRequest>,
    /// In an image: what its first boot shall onboard.
    pub first_boot: Option<FirstBoot>,
}

/// What an image finds at its first boot.
#[derive(Clone)]
pub struct FirstBoot {
    /// Text of the onboarding file.
    pub file: Zeroizing<String>,
    /// Certificates of `--ca-file`.
    pub ca: Option<Vec<u8>>,
}

impl std::fmt::Debug for FirstBoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FirstBoot(..)")
    }
}

/// Why a deployment ended, each with its exit code of bundle.md 1.3.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// 66: the bundle holds nothing that could be laid down here without one.
    #[error(
        "Error: This system does not have a supported package manager\n(and this bundle has no omsagent package for {0} that could be laid down without one)"
    )]
    NoPackageManager(String),
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
            DeployError::NoPackageManager(_) => 66,
            DeployError::WrongKind { .. } => 4,
            DeployError::AlreadyInstalled => 23,
            DeployError::Package(_) => 17,
            DeployError::Companion { code, .. } => *code,
            DeployError::Onboarding { broken } => crate::workspace::exit_code(&broken.source),
            DeployError::Internal(_) => 30,
        }
    }
}

/// The package of this bundle for this host. Without a package manager either kind will do.
pub fn package_for<'b>(
    bundle: &'b Bundle,
    host: &Host,
    means: Means,
) -> Result<&'b Entry, DeployError> {
    let ours = |kind| {
        let wanted = move |e: &&Entry| e.kind == kind && e.pkg.as_deref() == Some(PACKAGE);
        let mut entries = bundle.entries().iter().filter(wanted);
        entries.find(|e| fits(e, host))
    };
    let Some(manager) = means.manager() else {
        return ours(Kind::Deb)
            .or_else(|| ours(Kind::Rpm))
            .ok_or_else(|| DeployError::NoPackageManager(host.arch.clone()));
    };
    let (kind, name) = match manager {
        PackageManager::Dpkg => (Kind::Deb, "DPKG"),
        PackageManager::Rpm => (Kind::Rpm, "RPM"),
    };
    let other = if name == "DPKG" { "RPM" } else { "DPKG" };
    ours(kind).ok_or(DeployError::WrongKind {
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
    // What a run that was killed left, also where the package's steps are skipped.
    product::sweep(host);
    let Prepared {
        plan,
        upgrade,
        verdict,
    } = prepare(host, &bundle, scratch, &order)?;
    let about = Run {
        what: format!("install {PACKAGE} {}", release::version()),
        version: release::version(),
        cut_short: CutShort::TakeBack,
    };
    let mut journal = Journal::at(&host.layout.records(), about);
    if let Some(upgrade) = &upgrade {
        upgrade.begins(host, report);
    }
    let ran = plan.run(host, &mut journal, report);
    upgrade::ended(host, ran.is_ok(), report);
    let mut changed = ran
        .map_err(|broken| match companions::code_of(&broken.source) {
            Some(code) => DeployError::Companion {
                code,
                source: with_left_behind(broken),
            },
            None => DeployError::Package(upgrade::went_back(host, upgrade.as_ref(), broken)),
        })?
        .changed;
    if let Some(unhealthy) = verdict.take() {
        return Err(DeployError::Package(anyhow::anyhow!(
            "{unhealthy}. No package file of the version before is kept on this host, so {} stays",
            release::version()
        )));
    }
    if changed {
        Keep::of(&host.layout).trim();
    }
    if let Some(request) = order.onboarding {
        changed |=
            onboard(host, request, report).map_err(|broken| DeployError::Onboarding { broken })?;
    }
    Ok(changed)
}

/// The steps of the packages, and what holds for them together.
struct Prepared {
    plan: Plan,
    upgrade: Option<Upgrade>,
    verdict: Verdict,
}

/// One error that says what could not be taken back, too.
pub(super) fn with_left_behind(broken: Broken) -> anyhow::Error {
    if broken.left_behind.is_empty() {
        return broken.source;
    }
    let left = broken.left_behind.join("; ");
    anyhow::anyhow!("{:#}; not taken back: {left}", broken.source)
}

/// The steps up to the installed package, and to its running agent when that is an upgrade.
pub fn package_plan(
    host: &Host,
    bundle: &Rc<Bundle>,
    scratch: &Path,
    order: &Order,
) -> Result<Plan, DeployError> {
    Ok(prepare(host, bundle, scratch, order)?.plan)
}

fn prepare(
    host: &Host,
    bundle: &Rc<Bundle>,
    scratch: &Path,
    order: &Order,
) -> Result<Prepared, DeployError> {
    let entry = package_for(bundle, host, order.means)?.clone();
    let mut plan = Plan::new();
    let Some(manager) = order.means.manager() else {
        let step = InstallPortable::new(host, bundle, entry, scratch, order.force)
            .map_err(DeployError::Package)?;
        push_onboarding_file(&mut plan, host, order);
        if order
            .first_boot
            .as_ref()
            .is_some_and(|first| first.ca.is_some())
        {
            let etc = host.layout.etc();
            let missing: Vec<_> = etc.ancestors().take_while(|dir| !dir.is_dir()).collect();
            for dir in missing.into_iter().rev() {
                plan.push(MakeDir::new(dir, Look::owned(0o755, Owner::ROOT)));
            }
        }
        push_first_boot(&mut plan, host, order);
        // The last one: it takes back what it did by itself.
        plan.push(step);
        return Ok(Prepared {
            plan,
            upgrade: None,
            verdict: Verdict::default(),
        });
    };
    let ask = |name| manager.installed_version(name);
    let begun = Begun::of(&host.layout);
    if order.fresh {
        for name in ["omi", "scx"] {
            let there = ask(name).map_err(DeployError::Package)?;
            if there.is_some() && !begun.brought(name) {
                return Err(DeployError::AlreadyInstalled);
            }
        }
    }
    let Replaced {
        installed,
        before,
        upgrade,
    } = Replaced::find(host, manager).map_err(DeployError::Package)?;
    let delivery = Delivery {
        host,
        bundle,
        scratch,
        force: order.force,
        no_digest: order.no_digest,
    };
    let keep = Keep::of(&host.layout);
    if let Some(since) = begun.since() {
        keep.go_on(since);
    }
    let (first, after) =
        companions::plans(&delivery, manager, &keep).map_err(DeployError::Package)?;
    plan.append(first);
    push_onboarding_file(&mut plan, host, order);
    plan.push(InstallPackage {
        package: Package {
            manager,
            bundle: bundle.clone(),
            entry,
            name: PACKAGE.to_owned(),
            base: release::base_name(),
            keep,
            scratch: scratch.to_owned(),
            installed,
            force: order.force,
            no_digest: order.no_digest,
        },
        before: before.clone(),
        settings_kept: host.layout.etc().exists(),
    });
    plan.push(FinishConfiguration { host: host.clone() });
    plan.append(after);
    push_first_boot(&mut plan, host, order);
    let mut verdict = Verdict::default();
    if let Some(upgrade) = &upgrade {
        let (step, found) = HealthCheck::new(host, upgrade.running.clone(), upgrade.way_back());
        plan.push(step);
        verdict = found;
    }
    Ok(Prepared {
        plan,
        upgrade,
        verdict,
    })
}

/// What was asked for on the command line wins over a file lying there, as in the original, which
/// overwrote it.
fn push_onboarding_file(plan: &mut Plan, host: &Host, order: &Order) {
    if order.onboarding.is_some() {
        plan.push(WriteFile::remove(host.layout.onboarding_file()));
    }
}

fn push_first_boot(plan: &mut Plan, host: &Host, order: &Order) {
    let Some(first_boot) = &order.first_boot else {
        return;
    };
    if let Some(pem) = &first_boot.ca {
        let look = Look::owned(0o644, Owner::ROOT);
        plan.push(WriteFile::new(host.layout.ca_file(), pem.clone(), look));
    }
    let look = Look::owned(0o600, Owner::ROOT);
    let text = first_boot.file.as_bytes();
    plan.push(WriteFile::new(host.layout.onboarding_file(), text, look));
}

/// Onboards, unless the workspace's agent is running already. True when the host was changed.
pub fn onboard(
    host: &Host,
    mut request: OnboardingRequest,
    report: &mut dyn Report,
) -> Result<bool, Broken> {
    request.id = workspace::as_spelled(&host.layout, request.id);
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
    let about = Run {
        what: format!("onboard workspace {id}"),
        version: release::version(),
        cut_short: CutShort::TakeBack,
    };
    let mut journal = Journal::at(&host.layout.records(), about);
    Ok(plan.run(host, &mut journal, report)?.changed)
}

/// Puts the package on the host with dpkg or rpm.
struct InstallPackage {
    package: Package,
    /// The version to go back to.
    before: Option<String>,
    /// Settings and keys of an earlier installation are there.
    settings_kept: bool,
}

impl Step for InstallPackage {
    fn describe(&self) -> String {
        self.package.describe(&release::version())
    }

    fn satisfied(&self) -> Result<bool> {
        let package = &self.package;
        Ok(!package.force && !release::is_newer_than(package.installed.as_deref())?)
    }

    fn before(&self, _: &mut Backups) -> Result<Undo> {
        Ok(Undo::Package {
            name: PACKAGE.into(),
            version: self.before.clone(),
            // A purge would take the settings and keys of an earlier installation with it.
            keeps_settings: self.settings_kept,
        })
    }

    fn apply(&mut self, report: &mut dyn Report) -> Result<()> {
        let package = &self.package;
        package.announce(report);
        let outcome = package.put(report)?;
        if outcome.ok() {
            return Ok(());
        }
        // An orphan of a killed run may have finished it while its lock was waited for.
        if !package.force
            && package.installed.is_none()
            && package.manager.installed_version(PACKAGE)? == Some(release::version())
        {
            report.line(&format!("Package {PACKAGE} was installed meanwhile."));
            return Ok(());
        }
        bail!("{}", package.failed(&outcome, report))
    }
}

/// How [`FinishConfiguration`] describes itself.
const FINISH: &str = "configure the package, where that was cut short or has failed";

/// Configures a package that a killed rpm left for later, or of which it took the failure for a
/// success: it does not come back to that itself.
struct FinishConfiguration {
    host: Host,
}

impl Step for FinishConfiguration {
    fn describe(&self) -> String {
        FINISH.into()
    }

    fn satisfied(&self) -> Result<bool> {
        Ok(!migrate::is_due(&self.host.layout))
    }

    fn before(&self, _: &mut Backups) -> Result<Undo> {
        // Going back to the original is not possible: its files are gone.
        Ok(Undo::Nothing)
    }

    fn apply(&mut self, report: &mut dyn Report) -> Result<()> {
        product::configure(&self.host, report).map_err(with_left_behind)
    }
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
    let own = format!(" package {PACKAGE} ");
    let configures = lines
        .iter()
        .any(|(what, due)| *due && (what.contains(&own) || what == FINISH));
    let takeover = migrate::outline(&host.layout);
    lines.extend(takeover.into_iter().map(|line| (line, true)));
    let configuration = product::configure_plan(host)
        .preview()
        .map_err(DeployError::Internal)?;
    // The package's own part: a run that leaves the package alone does none of it.
    let configuration = configuration.into_iter();
    lines.extend(configuration.map(|(what, due)| (what, due && configures)));
    if let Some(request) = &order.onboarding {
        let running = onboarding::is_running_as_asked(host, request);
        let outline = onboarding::outline(host, request)
            .context("cannot plan the onboarding")
            .map_err(DeployError::Internal)?;
        lines.extend(outline.into_iter().map(|line| (line, !running)));
    }
    Ok(lines)
}
