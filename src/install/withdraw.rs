//! `--remove` and `--purge` of the bundle and of OPT/bin/uninstall (bundle.md 2.5).

use super::patience::patiently;
use super::portable;
use super::product;
use super::release::PACKAGE;
use crate::base::files;
use crate::host::Host;
use crate::host::layout::Layout;
use crate::host::packages::{Known, Leaving, PackageManager};
use crate::plan::Report;
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
    /// The same of one package.
    pub(super) fn leaving(self) -> Leaving {
        match self {
            Depth::Remove => Leaving::Remove,
            Depth::Purge => Leaving::Purge,
        }
    }
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
        remove_strays(layout)?;
        for tree in [layout.etc(), layout.var(), layout.opt()] {
            files::remove_tree(&tree)?;
            if let Some(parent) = tree.parent() {
                files::remove_dir_if_empty(parent);
            }
        }
    }
    portable::take_away(layout, depth)
}

/// The package's folder of documents.
const DOCUMENTS: &str = "/usr/share/doc/omsagent";
/// Its other files and links below /usr/share.
const STRAYS: &[&str] = &[
    "/usr/share/bash-completion/completions/configure_syslog.sh",
    "/usr/share/bash-completion/completions/omsadmin.sh",
    "/usr/share/bash-completion/completions/omsagent",
    "/usr/share/bash-completion/completions/service_control",
    "/usr/share/fish/vendor_completions.d/configure_syslog.sh.fish",
    "/usr/share/fish/vendor_completions.d/omsadmin.sh.fish",
    "/usr/share/fish/vendor_completions.d/omsagent.fish",
    "/usr/share/fish/vendor_completions.d/service_control.fish",
    "/usr/share/lintian/overrides/omsagent",
    "/usr/share/man/man1/omsagent-bundle.1.gz",
    "/usr/share/man/man1/omsagent.1.gz",
    "/usr/share/man/man5/omsagent.conf.5.gz",
    "/usr/share/man/man8/configure_syslog.sh.8.gz",
    "/usr/share/man/man8/omsadmin.sh.8.gz",
    "/usr/share/man/man8/omsagent-hub.8.gz",
    "/usr/share/man/man8/service_control.8.gz",
    "/usr/share/zsh/site-functions/_omsagent",
    "/usr/share/zsh/vendor-completions/_omsagent",
];
/// Folders that come with the package where the shell itself is not there.
const SHELLS: [&str; 7] = [
    "share/bash-completion",
    "share/bash-completion/completions",
    "share/fish",
    "share/fish/vendor_completions.d",
    "share/zsh",
    "share/zsh/site-functions",
    "share/zsh/vendor-completions",
];

/// Plain files of the package elsewhere, which nobody owns when an installation was killed before
/// the package manager wrote it down.
fn remove_strays(layout: &Layout) -> Result<()> {
    let link = layout.path("/usr/bin/omsagent");
    let ours = Path::new("/opt/microsoft/omsagent/bin/omsagent");
    if std::fs::read_link(&link).is_ok_and(|target| target == ours) {
        files::remove(&link)?;
    }
    for path in STRAYS {
        files::remove(&layout.path(path))?;
    }
    files::remove_tree(&layout.path(DOCUMENTS))?;
    // Folders of shells that are not there, deepest first.
    for path in STRAYS {
        let folder = layout.path(path);
        let mut folder = folder.parent();
        while let Some(dir) = folder.filter(|dir| SHELLS.iter().any(|of| dir.ends_with(of))) {
            files::remove_dir_if_empty(dir);
            folder = dir.parent();
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strays_of_ours_go_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let link = layout.path("/usr/bin/omsagent");
        std::fs::create_dir_all(layout.path("/usr/bin")).unwrap();
        std::fs::create_dir_all(layout.path("/usr/share/doc/omsagent")).unwrap();
        std::fs::write(&link, "somebody's").unwrap();
        remove_strays(&layout).unwrap();
        assert!(link.exists() && !layout.path("/usr/share/doc/omsagent").exists());
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink("/opt/microsoft/omsagent/bin/omsagent", &link).unwrap();
        remove_strays(&layout).unwrap();
        assert!(!link.is_symlink());
    }

    #[test]
    fn every_file_of_the_package_below_usr_share_is_known() {
        let manifest = include_str!("../../bundle/omsagent.toml");
        let mut named: Vec<&str> = manifest
            .lines()
            .filter_map(|line| line.strip_prefix("path = \"")?.strip_suffix('"'))
            .filter(|path| path.starts_with("/usr/share/") && !path.starts_with(DOCUMENTS))
            .filter(|path| !SHELLS.iter().any(|folder| path.ends_with(folder)))
            .collect();
        named.sort_unstable();
        assert_eq!(named, STRAYS);
    }

    #[test]
    fn a_shells_folder_goes_when_nothing_else_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        for path in STRAYS {
            let path = layout.path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        std::fs::write(layout.path("/usr/share/zsh/site-functions/_other"), "").unwrap();
        remove_strays(&layout).unwrap();
        let left = |path: &str| layout.path(path).exists();
        assert!(!left("/usr/share/fish") && !left("/usr/share/bash-completion"));
        assert!(left("/usr/share/zsh/site-functions/_other") && left("/usr/share/man/man8"));
        assert!(!left("/usr/share/zsh/site-functions/_omsagent"));
    }
}
