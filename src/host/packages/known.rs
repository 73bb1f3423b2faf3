//! What the package manager knows of a package, and the removal that fits.

use super::{Command, CommandError, Outcome, PackageManager, dpkg, erase};

/// What is there of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Nothing.
    Nothing,
    /// Removed, its configuration kept (dpkg).
    Leftovers,
    /// Installed, wholly or in part.
    Present,
    /// Its unpacking was cut short: dpkg removes it only when told that this is known.
    Broken,
}

/// How a package goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// With its settings. rpm knows one removal only.
    Purge,
    /// dpkg keeps its configuration files.
    Remove,
}

impl Known {
    /// Is there anything that such a removal would take away?
    pub fn has_any(self, leaving: Leaving) -> bool {
        match self {
            Known::Nothing => false,
            Known::Leftovers => leaving == Leaving::Purge,
            Known::Present | Known::Broken => true,
        }
    }
}

impl PackageManager {
    /// What is there of the package `name`.
    pub fn known(self, name: &str) -> anyhow::Result<Known> {
        if self.installed_version(name)?.is_some() {
            return Ok(Known::Present);
        }
        if self == PackageManager::Rpm {
            return Ok(Known::Nothing);
        }
        let asked = Command::new("dpkg").args(["-s", name]).run()?;
        Ok(known_to_dpkg(&asked.output))
    }

    /// Takes away a package of which that is there.
    pub fn take_away(
        self,
        name: &str,
        known: Known,
        leaving: Leaving,
        output: &mut dyn FnMut(&[u8]),
    ) -> Result<Outcome, CommandError> {
        self.removal(name, known, leaving).run_with(output)
    }

    fn removal(self, name: &str, known: Known, leaving: Leaving) -> Command {
        if self == PackageManager::Rpm {
            return erase(name);
        }
        let insist = (known == Known::Broken).then_some("--force-remove-reinstreq");
        dpkg().args(insist).args(match leaving {
            Leaving::Purge => ["--purge", name],
            Leaving::Remove => ["--remove", name],
        })
    }
}

/// By the last word of dpkg's `Status:` line. A package whose installation was cut short is
/// there too, and can be removed.
fn known_to_dpkg(said: &str) -> Known {
    let status = said.lines().find_map(|line| line.strip_prefix("Status:"));
    if status.is_some_and(|words| words.contains("reinstreq")) {
        return Known::Broken;
    }
    match status.and_then(|words| words.split_whitespace().last()) {
        None | Some("not-installed") => Known::Nothing,
        Some("config-files") => Known::Leftovers,
        Some(_) => Known::Present,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_installed_is_there() {
        let known = |status: &str| known_to_dpkg(&format!("Package: x\nStatus: {status}\n"));
        assert_eq!(known("install ok half-configured"), Known::Present);
        assert_eq!(known("install reinstreq half-installed"), Known::Broken);
        assert_eq!(known("install ok unpacked"), Known::Present);
        assert_eq!(known("deinstall ok config-files"), Known::Leftovers);
        assert_eq!(known("purge ok not-installed"), Known::Nothing);
        assert_eq!(known_to_dpkg("dpkg-query: no such package"), Known::Nothing);
    }

    #[test]
    fn only_a_purge_purges() {
        use Leaving::{Purge, Remove};
        let shown = |known, leaving| PackageManager::Dpkg.removal("x", known, leaving).display();
        assert_eq!(shown(Known::Present, Remove), "dpkg --remove x");
        assert_eq!(shown(Known::Present, Purge), "dpkg --purge x");
        let broken = shown(Known::Broken, Remove);
        assert_eq!(broken, "dpkg --force-remove-reinstreq --remove x");
        let broken = shown(Known::Broken, Purge);
        assert_eq!(broken, "dpkg --force-remove-reinstreq --purge x");
        let rpm = PackageManager::Rpm.removal("x", Known::Present, Remove);
        assert_eq!(rpm.display(), "rpm --erase x");
        assert!(Known::Leftovers.has_any(Purge) && !Known::Leftovers.has_any(Remove));
    }
}
