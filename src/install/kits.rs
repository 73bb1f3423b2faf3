//! Provider bundles that come with ours, run after the packages where their rule fits
//! (bundle.md 2.10a). They are other people's programs: their failure is told and has an exit
//! code, and takes nothing of ours back.

use super::means::Means;
use crate::base::command::{self, Command};
use crate::base::files::{self, Look};
use crate::bundle::kit::{Condition, Group, KitRule};
use crate::bundle::{Bundle, Entry};
use crate::host::Host;
use crate::host::services;
use crate::plan::{Report, is_interrupted};
use anyhow::Result;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

/// How long one kit may take: it installs packages of its own.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// How long a kit may think about its version.
const ASKING: Duration = Duration::from_secs(60);

/// How kits are run.
#[derive(Debug, Clone, Copy, Default)]
pub struct How {
    /// `--upgrade` rather than `--install`.
    pub upgrade: bool,
    /// `--force`
    pub force: bool,
    /// `--restart-deps`
    pub restart_deps: bool,
    /// `--noDigest`: passed on to `bundles`, not to `oss-kits`.
    pub no_digest: bool,
    /// `--skip-docker-provider-install`
    pub skip_docker: bool,
}

impl How {
    fn words(&self, group: Group) -> Vec<&'static str> {
        let mode = if self.upgrade {
            "--upgrade"
        } else {
            "--install"
        };
        [
            (true, mode),
            (self.force, "--force"),
            (self.restart_deps, "--restart-deps"),
            (self.no_digest && group == Group::Bundles, "--noDigest"),
        ]
        .into_iter()
        .filter_map(|(wanted, word)| wanted.then_some(word))
        .collect()
    }
}

/// The kits of a bundle in the order in which they are run.
pub fn of(bundle: &Bundle) -> impl Iterator<Item = (&Entry, &KitRule)> {
    Group::ALL.into_iter().flat_map(move |group| {
        let kits = bundle.entries().iter();
        kits.filter_map(|e| e.kit.as_ref().map(|rule| (e, rule)))
            .filter(move |(_, rule)| rule.group == group)
    })
}

/// Has the host what the kit is for?
pub fn applies(host: &Host, rule: &KitRule) -> Result<bool> {
    for condition in &rule.when {
        let holds = match condition {
            Condition::Command(name) => command::find(name).is_some(),
            Condition::Path(path) => host.layout.path(path).exists(),
            // Through links: /var/run is one.
            Condition::Socket(path) => std::fs::metadata(host.layout.path(path))
                .is_ok_and(|meta| meta.file_type().is_socket()),
            Condition::Service(name) => services::runs(host, name)?,
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Are they for a host to which the packages came so? They are other people's programs that install
/// packages, and may start what they install.
pub fn fit(host: &Host, means: Means) -> bool {
    !host.image && means.manager().is_some()
}

/// What [`run_all`] would do, a line each.
pub fn outline(host: &Host, bundle: &Bundle, how: How) -> Vec<(String, bool)> {
    of(bundle)
        .map(|(_, rule)| {
            let wanted = !skipped(rule, how) && applies(host, rule).unwrap_or(false);
            let words = how.words(rule.group).join(" ");
            (format!("run kit {} with {words}", rule.name), wanted)
        })
        .collect()
}

/// Runs every kit that applies; 0, or 21 for a failed kit, or 22 for a failed bundle, which
/// overrides 21 (bundle.md 1.3); 30 when a signal came before the last of them.
pub fn run_all(
    host: &Host,
    bundle: &Bundle,
    scratch: &Path,
    how: How,
    report: &mut dyn Report,
) -> u8 {
    let mut code = 0;
    if of(bundle).next().is_none() {
        return code;
    }
    report.line(match how.upgrade {
        false => "----- Installing bundled provider packages -----",
        true => "----- Updating bundled provider packages -----",
    });
    for (entry, rule) in of(bundle) {
        if is_interrupted() {
            report.warn(&format!(
                "stopped by a signal: kit {} and those after it were not run; the packages stay",
                rule.name
            ));
            return 30;
        }
        if skipped(rule, how) {
            report.line(
                "docker provider package installation skipped since \
                 --skip-docker-provider-install flag is set.",
            );
            continue;
        }
        let done = applies(host, rule).and_then(|yes| {
            if yes {
                run(bundle, entry, rule, scratch, how, report)
            } else {
                Ok(0)
            }
        });
        let status = match done {
            Ok(0) => continue,
            Ok(status) => status,
            Err(e) => {
                report.warn(&format!("{}: {e:#}", rule.name));
                1
            }
        };
        let verb = if how.upgrade { "upgrade" } else { "install" };
        let (what, failed) = match rule.group {
            Group::OssKits => ("provider package failed to install".to_owned(), 21),
            Group::Bundles => (format!("package failed to {verb}"), 22),
        };
        report.line(&format!(
            "{} {what} and exited with error code {status}",
            rule.name
        ));
        code = code.max(failed);
    }
    code
}

fn skipped(rule: &KitRule, how: How) -> bool {
    how.skip_docker && rule.group == Group::OssKits && rule.name == "docker"
}

fn run(
    bundle: &Bundle,
    entry: &Entry,
    rule: &KitRule,
    scratch: &Path,
    how: How,
    report: &mut dyn Report,
) -> Result<i32> {
    laid_out(bundle, entry, scratch, |kit| {
        let outcome = kit
            .args(how.words(rule.group))
            .timeout(PATIENCE)
            .apart()
            .run_with(|bytes| report.tool_output(bytes))?;
        Ok(outcome.code)
    })
}

/// The last line of each kit's own `--version-check` (bundle.md 2.8). A kit that cannot tell has
/// no row.
pub fn version_rows(bundle: &Bundle, scratch: &Path) -> Vec<String> {
    of(bundle)
        .filter(|(_, rule)| rule.group == Group::OssKits)
        .filter_map(|(entry, _)| {
            let asked = laid_out(bundle, entry, scratch, |kit| {
                Ok(kit.arg("--version-check").timeout(ASKING).run()?)
            });
            let outcome = asked.ok().filter(|outcome| outcome.ok())?;
            let said = outcome.last_line();
            (said != "(no output)").then(|| said.to_owned())
        })
        .collect()
}

/// Gives `work` the kit, about to be run, for as long as it takes.
fn laid_out<T>(
    bundle: &Bundle,
    entry: &Entry,
    scratch: &Path,
    work: impl FnOnce(Command) -> Result<T>,
) -> Result<T> {
    in_a_folder_of_its_own(scratch, |folder| {
        let file = folder.join(&entry.name);
        bundle.extract(entry, &file, 0o700)?;
        let place = folder.join(PLACE);
        files::make_dir(&place, Look::mode(0o700))?;
        work(command(&file, &place))
    })
}

/// Where a kit begins: it extracts into that folder, and deletes packages there afterwards
/// (bundle.md 1.9).
const PLACE: &str = "place";

fn in_a_folder_of_its_own<T>(scratch: &Path, work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let folder = scratch.join("kit");
    files::remove_tree(&folder)?;
    files::make_dir(&folder, Look::mode(0o700))?;
    let done = work(&folder);
    files::remove_tree(&folder)?;
    done
}

/// What a kit sees of our environment beside PATH: its home, and the way to the network.
const PASSED_ON: [&str; 8] = [
    "HOME",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "TMPDIR",
];

fn command(file: &Path, place: &Path) -> Command {
    let kit = Command::new("sh").arg(file).dir(place);
    PASSED_ON
        .into_iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?)))
        .fold(kit, |kit, (name, value)| kit.env(name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::layout::Layout;

    fn rule(name: &str, group: Group, when: &[&str]) -> KitRule {
        KitRule {
            name: name.into(),
            group,
            when: when.iter().map(|c| c.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn a_kit_runs_where_every_condition_holds() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("there"), "").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        let host = Host::detect(Layout::new(dir.path()));
        let yes = |when: &[&str]| applies(&host, &rule("k", Group::OssKits, when)).unwrap();
        assert!(yes(&[]));
        assert!(yes(&["command:sh", "path:/there", "socket:/socket"]));
        assert!(!yes(&["command:sh", "path:/gone"]));
        assert!(!yes(&["command:no-such-program-here"]));
        assert!(!yes(&["socket:/there"]), "a file is no socket");
        assert!(!yes(&["service:cron"]), "nothing runs below a prefix");
    }

    #[test]
    fn a_kit_works_in_a_private_folder_that_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let script = "pwd; touch here.deb; ls; rm *.deb; echo home=$HOME cargo=$CARGO";
        let mut place = std::path::PathBuf::new();
        let said = in_a_folder_of_its_own(dir.path(), |folder| {
            place = folder.join(PLACE);
            std::fs::create_dir(&place)?;
            std::fs::write(folder.join("kit.sh"), script)?;
            Ok(command(&folder.join("kit.sh"), &place).run()?)
        });
        let said = said.unwrap().output;
        let home = std::env::var("HOME").unwrap_or_default();
        let want = format!("{}\nhere.deb\nhome={home} cargo=\n", place.display());
        assert_eq!(said, want);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn kits_need_a_package_manager_and_a_running_host() {
        let dir = tempfile::tempdir().unwrap();
        let mut host = Host::detect(Layout::new(dir.path()));
        host.image = false;
        let dpkg = Means::Manager(crate::host::packages::PackageManager::Dpkg);
        assert!(fit(&host, dpkg) && !fit(&host, Means::Portable));
        host.image = true;
        assert!(!fit(&host, dpkg));
    }

    #[test]
    fn what_is_passed_on() {
        let how = How {
            upgrade: true,
            force: true,
            restart_deps: true,
            no_digest: true,
            skip_docker: true,
        };
        let words = |group| how.words(group).join(" ");
        assert_eq!(words(Group::OssKits), "--upgrade --force --restart-deps");
        assert_eq!(
            words(Group::Bundles),
            "--upgrade --force --restart-deps --noDigest"
        );
        assert_eq!(How::default().words(Group::Bundles), ["--install"]);
        assert!(skipped(&rule("docker", Group::OssKits, &[]), how));
        assert!(!skipped(&rule("apache", Group::OssKits, &[]), how));
        assert!(!skipped(
            &rule("docker", Group::OssKits, &[]),
            How::default()
        ));
    }
}
