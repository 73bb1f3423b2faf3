//! Is the package whole, as dpkg or rpm knows it?

use crate::base::command::Command;
use crate::doctor::finding::{Finding, Fix};
use crate::doctor::patient::Patient;
use crate::host::packages::PackageManager;
use crate::install::release::PACKAGE;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);
const AGAIN: &str = "install the package again: sh omsagent-*.universal.*.sh --upgrade --force";

/// A package whose scripts did not end well.
pub fn half_installed(patient: &Patient, found: &mut Vec<Finding>) {
    if !patient.host.is_live() || patient.host.packages != Some(PackageManager::Dpkg) {
        return;
    }
    let asked = Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Abbrev}", PACKAGE]);
    let Ok(outcome) = asked.timeout(PATIENCE).run() else {
        return;
    };
    let status = outcome.output.trim();
    if outcome.ok() && is_half(status) {
        found.push(
            Finding::new(
                "package-half-installed",
                "the package is neither in nor out",
            )
            .seen(format!("dpkg's status of {PACKAGE} is `{status}`"))
            .mend("dpkg --configure -a; or run the bundle again with --upgrade"),
        );
    }
}

/// dpkg's two letters (and a third for an error): wanted, and is.
fn is_half(status: &str) -> bool {
    let is = status.chars().nth(1).unwrap_or('n');
    let broken = status.chars().nth(2).is_some_and(|c| c == 'R');
    broken || matches!(is, 'F' | 'U' | 'H' | 'W' | 't')
}

/// Files of the package that are gone or other than it brought them.
pub fn changed_files(patient: &Patient, found: &mut Vec<Finding>) {
    if !patient.host.is_live() || !patient.installed {
        return;
    }
    let asked = match patient.host.packages {
        Some(PackageManager::Dpkg) => Command::new("dpkg").args(["-V", PACKAGE]),
        Some(PackageManager::Rpm) => Command::new("rpm").args(["-V", PACKAGE]),
        None => return,
    };
    let Ok(outcome) = asked.timeout(PATIENCE).run() else {
        return;
    };
    for (path, change) in outcome.output.lines().filter_map(changed) {
        let (id, what) = match change {
            Change::Gone => ("package-file-missing", "is missing"),
            Change::Content => ("package-file-changed", "is not as the package brought it"),
        };
        found.push(
            Finding::new(id, format!("{path} {what}"))
                .seen(
                    outcome
                        .output
                        .lines()
                        .find(|l| l.contains(path))
                        .unwrap_or(path),
                )
                .mend(AGAIN),
        );
    }
}

/// What the agent does not need.
const PAPERS: [&str; 6] = [
    "/usr/share/bash-completion/",
    "/usr/share/doc/",
    "/usr/share/fish/",
    "/usr/share/lintian/",
    "/usr/share/man/",
    "/usr/share/zsh/",
];

#[derive(Debug, PartialEq, Eq)]
enum Change {
    Gone,
    Content,
}

/// `??5?????? c /path`, `S.5....T.  c /path`, `missing     /path`: what both tools print. A changed
/// configuration file is its owner's right; rpm's `M`, `U`, `G` and `T` are looked at elsewhere.
fn changed(line: &str) -> Option<(&str, Change)> {
    let at = line.find(" /")? + 1;
    let path = line[at..].split(" (").next()?;
    let head = &line[..at];
    let is_config = head.split_whitespace().nth(1) == Some("c");
    if head.starts_with("missing") {
        // Small systems tell dpkg and rpm to leave documentation out.
        let paper = PAPERS.iter().any(|folder| path.starts_with(folder));
        return (!paper).then_some((path, Change::Gone));
    }
    let flags = head.split_whitespace().next()?;
    let content = flags.contains('5') || flags.contains('S') || flags.contains('L');
    (content && !is_config).then_some((path, Change::Content))
}

/// installinfo.txt, which heartbeats take their version from.
pub fn install_info(patient: &Patient, found: &mut Vec<Finding>) {
    let path = patient.host.layout.installinfo();
    if patient.installed && !path.exists() {
        found.push(
            Finding::new(
                "installinfo-missing",
                format!("{} is missing", path.display()),
            )
            .seen("heartbeats tell no version")
            .fix(Fix::Package),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dpkg_and_rpm_say_of_files() {
        for (line, wanted) in [
            ("??5??????   /opt/x y", Some(("/opt/x y", Change::Content))),
            ("??5?????? c /etc/x", None),
            ("missing     /opt/x", Some(("/opt/x", Change::Gone))),
            ("missing   c /etc/x", Some(("/etc/x", Change::Gone))),
            (
                "missing     /opt/x (Permission denied)",
                Some(("/opt/x", Change::Gone)),
            ),
            ("S.5....T.    /opt/x", Some(("/opt/x", Change::Content))),
            (".......T.    /opt/x", None),
            ("missing     /usr/share/man/man1/omsagent.1.gz", None),
            ("rpm: no such thing", None),
        ] {
            assert_eq!(changed(line), wanted, "{line}");
        }
    }

    #[test]
    fn which_states_are_half() {
        for (status, half) in [
            ("ii ", false),
            ("rc ", false),
            ("iF ", true),
            ("iU", true),
            ("iHR", true),
            ("", false),
        ] {
            assert_eq!(is_half(status), half, "{status}");
        }
    }
}
