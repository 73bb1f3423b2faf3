//! By which means the package reaches a host: with dpkg or rpm, or laid down by our own code.

use super::deploy::DeployError;
use super::portable::{self, Receipt};
use super::release::PACKAGE;
use crate::host::Host;
use crate::host::packages::{Known, PackageManager};
use anyhow::Result;

/// The two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// The host's own package manager.
    Manager(PackageManager),
    /// A receipt of ours.
    Portable,
}

impl Means {
    /// As it stands in the object of `--json`.
    pub fn word(self) -> &'static str {
        match self {
            Means::Manager(manager) => manager.program(),
            Means::Portable => "portable",
        }
    }

    /// The package manager, where there is one.
    pub fn manager(self) -> Option<PackageManager> {
        match self {
            Means::Manager(manager) => Some(manager),
            Means::Portable => None,
        }
    }
}

/// Decides, with a line for a person where the choice is not what one expects. `asked`:
/// `--portable`.
pub fn choose(host: &Host, asked: bool) -> Result<(Means, Option<String>), DeployError> {
    let receipt = Receipt::load(&host.layout).map_err(DeployError::Package)?;
    let laid_down = receipt.is_some_and(|receipt| receipt.version.is_some());
    let program = host.packages.map(PackageManager::program);
    if laid_down {
        let line = program.map(|program| {
            format!(
                "omsagent was laid down portably and stays so, though {program} is here; \
                 to change over: --remove, then --install."
            )
        });
        return Ok((Means::Portable, line));
    }
    let Some(manager) = host.packages else {
        let line =
            "Neither dpkg nor rpm is here: the files are laid down portably, listed in a receipt.";
        return Ok((Means::Portable, Some(line.to_owned())));
    };
    if !asked {
        return Ok((Means::Manager(manager), None));
    }
    let program = manager.program();
    match manager.known(PACKAGE).map_err(DeployError::Package)? {
        Known::Present | Known::Broken => Err(DeployError::Package(anyhow::anyhow!(
            "package {PACKAGE} is installed with {program}, so --portable is refused; leave it \
             out, or --remove first"
        ))),
        Known::Nothing | Known::Leftovers => {
            let line = format!(
                "warning\t{program} is here and will not know of the files that --portable lays down"
            );
            Ok((Means::Portable, Some(line)))
        }
    }
}

/// How the product got here, else how it would.
pub fn of(host: &Host) -> Means {
    match (portable::installed_version(&host.layout), host.packages) {
        (Ok(None), Some(manager)) => Means::Manager(manager),
        _ => Means::Portable,
    }
}

/// The installed version of a package, by whatever means it came.
pub fn installed_version(host: &Host, name: &str) -> Result<Option<String>> {
    if name == PACKAGE
        && let Some(version) = portable::installed_version(&host.layout)?
    {
        return Ok(Some(version));
    }
    match host.packages {
        None => Ok(None),
        Some(manager) => manager.installed_version(name),
    }
}
