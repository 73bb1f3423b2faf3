//! One package of the bundle on its way to the host through dpkg or rpm: its lines, its file, what
//! the tool said (bundle.md 2.9).

use super::patience::patiently;
use crate::base::command::Outcome;
use crate::bundle::{Bundle, Entry};
use crate::host::packages::{How, Kind, PackageManager};
use crate::plan::Report;
use crate::plan::keep::{Coming, Keep, same};
use anyhow::Result;
use std::path::PathBuf;
use std::rc::Rc;

/// The package, and how it is installed.
pub(super) struct Package {
    /// dpkg or rpm.
    pub manager: PackageManager,
    /// Where it is.
    pub bundle: Rc<Bundle>,
    /// Its file in there.
    pub entry: Entry,
    /// What the package managers call it.
    pub name: String,
    /// What lines call it: the file's name without its ending.
    pub base: String,
    /// Given files are kept there.
    pub keep: Keep,
    /// A private folder.
    pub scratch: PathBuf,
    /// The version that is there.
    pub installed: Option<String>,
    /// Also over the same or a newer version.
    pub force: bool,
    /// rpm's `--nodigest`.
    pub no_digest: bool,
}

impl Package {
    /// "install" or "upgrade".
    pub fn verb(&self) -> &'static str {
        match self.installed {
            None => "install",
            Some(_) => "upgrade",
        }
    }

    /// For [`crate::plan::Step::describe`].
    pub fn describe(&self, version: &str) -> String {
        let (verb, name, program) = (self.verb(), &self.name, self.manager.program());
        format!("{verb} package {name} {version} with {program}")
    }

    /// The line that scripts look for.
    pub fn announce(&self, report: &mut dyn Report) {
        let (name, base) = (&self.name, &self.base);
        report.line(&match self.installed {
            None => format!("----- Installing package: {name} ({base}) -----"),
            Some(_) => format!("----- Upgrading package {name} to version ({base}) -----"),
        });
    }

    /// Lays the file down and has the tool install it, as soon as nobody holds its lock.
    pub fn put(&self, report: &mut dyn Report) -> Result<Outcome> {
        let coming = Coming {
            name: &self.name,
            manager: self.manager,
            before: self.installed.as_deref(),
            scratch: &self.scratch,
        };
        let file = self
            .keep
            .deliver(&self.bundle, &self.entry, &coming, report)?;
        let kind = match self.installed {
            None => Kind::Add,
            Some(_) => Kind::Upgrade,
        };
        let how = How {
            kind,
            force: self.force,
            no_digest: self.no_digest,
        };
        let mut outcome = patiently(report, |said| self.manager.install(file.path(), how, said))?;
        // rpm ends well also when its database had no room for the package.
        if outcome.ok() && self.manager == PackageManager::Rpm {
            let there = self.manager.installed_version(&self.name)?;
            let ours = self.entry.version.as_deref().unwrap_or_default();
            if !has_come(self.installed.as_deref(), there.as_deref(), ours) {
                let name = &self.name;
                outcome.code = 1;
                outcome.output.push_str(&format!(
                    "\nerror: rpm ended well, and its database does not know of {name}\n"
                ));
            }
        }
        Ok(outcome)
    }

    /// Tells of an installation that failed, by the line that scripts look for (bundle.md 1.4), and
    /// gives that line with the reason.
    pub fn failed(&self, outcome: &Outcome, report: &mut dyn Report) -> String {
        let (base, verb, code) = (&self.base, self.verb(), outcome.code);
        let line = format!("{base} package failed to {verb} and exited with error code {code}");
        report.line(&line);
        let why = reason(&outcome.output).unwrap_or(outcome.last_line());
        format!("{line}: {why}")
    }
}

/// Is what the package manager names now another version than before, or the bundle's?
fn has_come(before: Option<&str>, there: Option<&str>, ours: &str) -> bool {
    there.is_some_and(|there| before != Some(there) || same(there, ours))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_nobody_knows_has_not_come() {
        assert!(!has_come(None, None, "1.8.1-0"));
        assert!(!has_come(Some("1.7.0-0"), Some("1.7.0-0"), "1.8.1-0"));
        assert!(!has_come(Some("1.7.0-0"), None, "1.8.1-0"));
        assert!(has_come(None, Some("1.8.1-0"), "1.8.1-0"));
        assert!(has_come(Some("1.7.0-0"), Some("1.8.1-0"), "1.8.1-0"));
        assert!(has_come(Some("1.8.1-0"), Some("1.8.1-0"), "1.8.1.0"));
    }

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
