//! dpkg and rpm: which one the host has, what is installed, and the exact commands that change
//! that (bundle.md 2.2, 2.12).

mod known;

pub use known::{Known, Leaving};

use super::Host;
use super::layout::Layout;
use crate::base::command::{Command, CommandError, Outcome};
use crate::base::files;
use std::path::Path;
use std::time::Duration;

/// How long one package command may take: a maintainer script may wait for a service.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// What a line of rpm begins with that answers us.
const ANSWER: &str = "omsagent-asks ";

/// How long a question to the package database may take.
const ASKING: Duration = Duration::from_secs(120);

/// The variable by which maintainer scripts learn whose lock they work under.
pub const LOCK_HOLDER: &str = "OMSAGENT_LOCK_HOLDER";

/// The tool that owns the host's packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackageManager {
    /// dpkg; packages are .deb files.
    Dpkg,
    /// rpm; packages are .rpm files.
    Rpm,
}

/// Whether the package is new to the host or replaces a version of itself. dpkg has one command
/// for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Not installed so far.
    Add,
    /// Some version is installed.
    Upgrade,
}

/// How a package is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct How {
    /// New or replaced.
    pub kind: Kind,
    /// `--force` of the bundle: a downgrade or the same version again is fine.
    pub force: bool,
    /// `--noDigest` of the bundle: rpm does not check digests. No effect on dpkg.
    pub no_digest: bool,
}

impl PackageManager {
    /// The order of bundle.md 2.2. `None`: neither.
    pub fn detect(layout: &Layout) -> Option<PackageManager> {
        use PackageManager::{Dpkg, Rpm};
        if layout.path("/etc/debian_version").exists() {
            return Some(Dpkg);
        }
        if layout.path("/etc/redhat-release").exists() {
            return Some(Rpm);
        }
        let os = super::os::Os::detect(layout);
        if os.pretty_name.to_lowercase().contains("suse") {
            return Some(Rpm);
        }
        [(Dpkg, "dpkg"), (Rpm, "rpm")]
            .into_iter()
            .find(|(_, program)| super::has_program(layout, program))
            .map(|(manager, _)| manager)
    }

    /// The program's name, for messages.
    pub fn program(self) -> &'static str {
        match self {
            PackageManager::Dpkg => "dpkg",
            PackageManager::Rpm => "rpm",
        }
    }

    /// File name ending of its packages, without the dot.
    pub fn suffix(self) -> &'static str {
        match self {
            PackageManager::Dpkg => "deb",
            PackageManager::Rpm => "rpm",
        }
    }

    /// The installed version of a package, e.g. `2.0.0-1` (dpkg: as `Version:` says it; rpm:
    /// version-release). `None`: not installed; removed but not purged counts as not installed.
    pub fn installed_version(self, name: &str) -> anyhow::Result<Option<String>> {
        let asked = match self {
            PackageManager::Dpkg => Command::new("dpkg").args(["-s", name]),
            PackageManager::Rpm => {
                let format = format!("{ANSWER}%{{VERSION}}-%{{RELEASE}}\\n");
                Command::new("rpm").args(["-q", "--queryformat", &format, name])
            }
        };
        let command = asked.display();
        let answer = asked.timeout(ASKING).run()?;
        // Both say 1 for "not installed"; more (or a signal) is a database that cannot be read.
        match (self, answer.code) {
            (PackageManager::Dpkg, 0) => Ok(installed_by_dpkg(&answer.output)),
            (PackageManager::Rpm, 0) => Ok(installed_by_rpm(&answer.output)),
            (_, 1) if !cannot_read_database(&answer.output) => Ok(None),
            (_, code) => anyhow::bail!(
                "`{command}` failed with status {code}: {}; repair the package database and try again",
                answer.last_line()
            ),
        }
    }

    /// Installs one package file with the flags of bundle.md 2.12. `output` gets what the tool
    /// says as it says it. The status is the tool's; see [`lock_held`] for one reason.
    pub fn install(
        self,
        path: &Path,
        how: How,
        output: &mut dyn FnMut(&[u8]),
    ) -> Result<Outcome, CommandError> {
        self.install_command(path, how).run_with(output)
    }

    /// The command [`install`](Self::install) runs, for a plan to show.
    pub fn install_command(self, path: &Path, how: How) -> Command {
        match self {
            PackageManager::Dpkg => {
                let mut dpkg = dpkg().args(["--force-confold", "--force-confdef", "--install"]);
                if !how.force {
                    dpkg = dpkg.arg("--refuse-downgrade");
                }
                dpkg.arg(path)
            }
            PackageManager::Rpm => {
                let digest = ["--nodigest", "--nofiledigest"];
                let digest = if how.no_digest { &digest[..] } else { &[] };
                let force: &[&str] = if how.force { &["--force"] } else { &[] };
                let rpm = rpm();
                match how.kind {
                    Kind::Add => rpm.arg("-ivh").args(digest).args(force),
                    Kind::Upgrade => rpm.arg("--upgrade").args(force).args(digest),
                }
                .arg(path)
            }
        }
    }

    /// Installs a package file over the same or a newer version.
    pub fn install_earlier(
        self,
        path: &Path,
        output: &mut dyn FnMut(&[u8]),
    ) -> Result<Outcome, CommandError> {
        self.install_earlier_command(path).run_with(output)
    }

    fn install_earlier_command(self, path: &Path) -> Command {
        match self {
            // Without `--refuse-downgrade` dpkg lets any version replace any other.
            PackageManager::Dpkg => {
                dpkg().args(["--force-confold", "--force-confdef", "--install"])
            }
            PackageManager::Rpm => rpm().args(["--upgrade", "--oldpackage", "--replacepkgs"]),
        }
        .arg(path)
    }
}

/// As [`PackageManager::installed_version`] for this host, a prefix included: there dpkg's list is
/// read, and rpm's database, which only rpm can read, is an error.
pub fn installed_version(host: &Host, name: &str) -> anyhow::Result<Option<String>> {
    match host.packages {
        None => Ok(None),
        Some(manager) if host.layout.is_live() => manager.installed_version(name),
        Some(PackageManager::Dpkg) => installed_below(&host.layout, name),
        Some(PackageManager::Rpm) => anyhow::bail!(
            "cannot tell whether `{name}` is installed below `{}`: the rpm database of a root \
             that is not running is not read",
            host.layout.root().display()
        ),
    }
}

/// The line of rpm's answer that is ours: warnings about its database may come before it.
fn installed_by_rpm(text: &str) -> Option<String> {
    let version = text.lines().find_map(|line| line.strip_prefix(ANSWER))?;
    Some(version.to_owned())
}

/// Did the tool fail because another one holds the package database? Then waiting helps.
pub fn lock_held(outcome: &Outcome) -> bool {
    // Newer dpkgs name the holder's program where older ones say `another process`.
    const SIGNS: [&str; 4] = [
        "lock was locked by ",
        "status database is locked by ",
        "unable to lock dpkg status database",
        "can't create transaction lock",
    ];
    !outcome.ok() && SIGNS.iter().any(|sign| outcome.output.contains(sign))
}

fn dpkg() -> Command {
    Command::new("dpkg")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env(LOCK_HOLDER, std::process::id().to_string())
        .timeout(PATIENCE)
        .apart()
}

fn rpm() -> Command {
    Command::new("rpm")
        .env(LOCK_HOLDER, std::process::id().to_string())
        .timeout(PATIENCE)
        .apart()
}

fn erase(name: &str) -> Command {
    rpm().args(["--erase", name])
}

/// `Version:` of `dpkg -s` when its `Status:` line holds ` installed` (bundle.md 2.2).
fn installed_by_dpkg(text: &str) -> Option<String> {
    let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name));
    field("Status:").filter(|status| status.contains(" installed"))?;
    Some(field("Version:")?.trim().to_owned())
}

fn cannot_read_database(text: &str) -> bool {
    // rpm says 1 for both; its database errors begin with this word.
    text.lines().any(|l| l.trim_start().starts_with("error:"))
}

/// What is installed according to dpkg's own list, without running dpkg: for roots below a prefix.
fn installed_below(layout: &Layout, name: &str) -> anyhow::Result<Option<String>> {
    const STATUS_LIMIT: usize = 256 << 20;
    let path = layout.path("/var/lib/dpkg/status");
    let Some(text) = files::read_text(&path, STATUS_LIMIT)? else {
        return Ok(None);
    };
    let wanted = format!("Package: {name}");
    Ok(text
        .split("\n\n")
        .find(|entry| entry.lines().any(|l| l == wanted))
        .and_then(installed_by_dpkg))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> (tempfile::TempDir, Layout) {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let layout = Layout::new(dir.path());
        (dir, layout)
    }

    type Files = &'static [(&'static str, &'static str)];

    #[test]
    fn detection_goes_in_the_order_of_the_original() {
        use PackageManager::{Dpkg, Rpm};
        const SUSE: (&str, &str) = ("etc/os-release", "PRETTY_NAME=\"openSUSE Leap 15.5\"\n");
        let cases: [(Files, Option<PackageManager>); 7] = [
            (&[("etc/debian_version", "12")], Some(Dpkg)),
            (
                &[("etc/debian_version", "12"), ("etc/redhat-release", "x")],
                Some(Dpkg),
            ),
            (
                &[("etc/redhat-release", "x"), ("usr/bin/dpkg", "")],
                Some(Rpm),
            ),
            (&[SUSE, ("usr/bin/dpkg", "")], Some(Rpm)),
            (&[("usr/bin/dpkg", ""), ("usr/bin/rpm", "")], Some(Dpkg)),
            (&[("usr/bin/rpm", "")], Some(Rpm)),
            (&[], None),
        ];
        for (files, expected) in cases {
            let (_dir, layout) = root(files);
            assert_eq!(PackageManager::detect(&layout), expected, "{files:?}");
        }
    }

    #[test]
    fn flags_are_those_of_the_original() {
        let how = |kind, force, no_digest| How {
            kind,
            force,
            no_digest,
        };
        let shown = |manager: PackageManager, how| {
            manager
                .install_command(Path::new("/t/a.pkg"), how)
                .display()
        };
        use Kind::{Add, Upgrade};
        use PackageManager::{Dpkg, Rpm};
        assert_eq!(
            shown(Dpkg, how(Add, false, true)),
            "dpkg --force-confold --force-confdef --install --refuse-downgrade /t/a.pkg"
        );
        assert_eq!(
            shown(Dpkg, how(Upgrade, true, false)),
            "dpkg --force-confold --force-confdef --install /t/a.pkg"
        );
        assert_eq!(shown(Rpm, how(Add, false, false)), "rpm -ivh /t/a.pkg");
        assert_eq!(
            shown(Rpm, how(Add, true, true)),
            "rpm -ivh --nodigest --nofiledigest --force /t/a.pkg"
        );
        assert_eq!(
            shown(Rpm, how(Upgrade, true, true)),
            "rpm --upgrade --force --nodigest --nofiledigest /t/a.pkg"
        );
        let earlier = |manager: PackageManager| {
            let command = manager.install_earlier_command(Path::new("/t/a.pkg"));
            command.display()
        };
        assert_eq!(
            earlier(Dpkg),
            "dpkg --force-confold --force-confdef --install /t/a.pkg"
        );
        assert_eq!(
            earlier(Rpm),
            "rpm --upgrade --oldpackage --replacepkgs /t/a.pkg"
        );
    }

    #[test]
    fn only_installed_is_installed() {
        let status = |s: &str| format!("Package: x\nStatus: {s}\nVersion: 1:2.0-1\n");
        let version = |s: &str| installed_by_dpkg(&status(s));
        assert_eq!(version("install ok installed").as_deref(), Some("1:2.0-1"));
        assert_eq!(version("hold ok installed").as_deref(), Some("1:2.0-1"));
        assert_eq!(version("deinstall ok config-files"), None);
        assert_eq!(version("install ok half-installed"), None);
        assert_eq!(version("install ok unpacked"), None);
    }

    #[test]
    fn a_warning_of_rpm_is_no_version() {
        let said = "warning: Found bdb_ro Packages database while attempting sqlite backend: using \
                    bdb_ro backend.\nomsagent-asks 2.0.0-1\nomsagent-asks 1.9.0-1\n";
        assert_eq!(installed_by_rpm(said).as_deref(), Some("2.0.0-1"));
        assert_eq!(installed_by_rpm("2.0.0-1\n"), None);
    }

    #[test]
    fn a_prefix_is_read_from_its_own_list() {
        let list = "Package: omsagent-x\nStatus: install ok installed\nVersion: 9\n\n\
                    Package: omsagent\nStatus: install ok installed\nVersion: 2.0.0-1\n";
        let (_dir, layout) = root(&[("var/lib/dpkg/status", list)]);
        let found = installed_below(&layout, "omsagent").unwrap();
        assert_eq!(found.as_deref(), Some("2.0.0-1"));
        assert_eq!(installed_below(&layout, "none").unwrap(), None);
    }

    #[test]
    fn a_held_lock_is_recognised() {
        let outcome = |code, output: &str| Outcome {
            code,
            output: output.to_owned(),
        };
        let dpkg = "dpkg: error: dpkg frontend lock was locked by another process with pid 42";
        assert!(lock_held(&outcome(2, dpkg)));
        let of_debian_13 =
            "dpkg: error: dpkg frontend lock was locked by /usr/bin/dpkg process with pid 1759";
        assert!(lock_held(&outcome(2, of_debian_13)));
        assert!(lock_held(&outcome(
            1,
            "error: can't create transaction lock on /var/lib/rpm/.rpm.lock (Resource temporarily unavailable)"
        )));
        assert!(!lock_held(&outcome(0, dpkg)));
        assert!(!lock_held(&outcome(1, "dpkg: error processing archive")));
    }
}
