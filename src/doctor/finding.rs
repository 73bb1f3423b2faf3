//! What a check may find: an entry of the catalogue, with what was seen and what to do.

use crate::base::files::Look;
use crate::base::ids::{WorkspaceId, WorkspaceName};
use serde::Serialize;
use std::path::PathBuf;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It works, but should not stay so.
    Warning,
    /// Something does not work, or a secret is open.
    Error,
}

use Severity::{Error, Warning};

/// Every id that a finding may have. docs/doctor.md explains each; a test compares.
pub const CATALOGUE: &[(&str, Severity)] = &[
    ("account-can-login", Warning),
    ("account-group", Warning),
    ("account-is-root", Error),
    ("account-missing", Error),
    ("agent-outdated", Warning),
    ("agent-restarts", Warning),
    ("agent-stopped", Error),
    ("agent-stuck", Error),
    ("ca-unusable", Error),
    ("certificate-expired", Error),
    ("certificate-expires", Warning),
    ("certificate-foreign", Error),
    ("certificate-mismatch", Error),
    ("certificate-missing", Error),
    ("certificate-not-yet", Error),
    ("certificate-renewal", Warning),
    ("certificate-unreadable", Error),
    ("chain-not-received", Error),
    ("chain-not-sent", Error),
    ("clock-off", Error),
    ("config-ignored", Warning),
    ("config-missing", Error),
    ("config-mistake", Error),
    ("disk-full", Error),
    ("disk-low", Warning),
    ("disk-read-only", Error),
    ("dns-fails", Error),
    ("endpoint-closed", Error),
    ("endpoint-odd-answer", Warning),
    ("endpoint-silent", Error),
    ("file-open", Warning),
    ("file-owner", Error),
    ("folder-look", Warning),
    ("folder-missing", Error),
    ("group-missing", Error),
    ("heartbeat-late", Warning),
    ("host-copied", Error),
    ("installinfo-missing", Warning),
    ("key-missing", Error),
    ("key-open", Error),
    ("lines-not-understood", Warning),
    ("log-large", Warning),
    ("logrotate-look", Warning),
    ("logrotate-missing", Warning),
    ("network-local", Error),
    ("onboarding-file-left", Warning),
    ("original-remains", Warning),
    ("package-file-changed", Error),
    ("package-file-missing", Error),
    ("package-half-installed", Error),
    ("port-closed", Error),
    ("port-open", Warning),
    ("port-shared", Error),
    ("port-taken", Error),
    ("primary-link", Warning),
    ("program-link", Warning),
    ("program-open", Error),
    ("proxy-auth", Error),
    ("proxy-dns", Error),
    ("proxy-mistake", Error),
    ("proxy-open", Warning),
    ("proxy-refuses", Error),
    ("proxy-tls", Error),
    ("proxy-unreachable", Error),
    ("queue-full", Warning),
    ("queue-old", Warning),
    ("records-dropped", Warning),
    ("route-missing", Error),
    ("run-unfinished", Warning),
    ("selinux-denial", Warning),
    ("service-refuses", Error),
    ("settings-broken", Error),
    ("sudo-changed", Error),
    ("sudo-invalid", Error),
    ("sudo-missing", Warning),
    ("syslog-broken", Error),
    ("syslog-file-look", Warning),
    ("syslog-none", Warning),
    ("syslog-not-forwarding", Error),
    ("syslog-remains", Warning),
    ("syslog-stopped", Error),
    ("syslog-twice", Warning),
    ("tls-failed", Error),
    ("tls-name", Error),
    ("tls-old", Error),
    ("tls-time", Error),
    ("tls-untrusted", Error),
    ("unfinished-file", Warning),
    ("unit-changed", Warning),
    ("unit-disabled", Warning),
    ("unit-missing", Error),
    ("unit-not-reloaded", Warning),
    ("upload-failing", Error),
    ("workspace-remains", Warning),
];

/// What `--fix` does about a finding: the safe ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A small file.
    File,
}

/// What `--fix` does about a finding.
#[derive(Debug, Clone)]
pub enum Fix {
    /// What the package makes: accounts, shared folders, sudo rules, installinfo.txt.
    Package,
    /// What a workspace needs: folders, configuration, links, unit, rotation, syslog lines.
    Workspace(WorkspaceId),
    /// Mode and owner of one file or folder.
    Look(PathBuf, Look, Kind),
    /// A run that was cut short: whoever changes the host next takes it back or completes it.
    Recovery,
    /// A file that nobody uses goes.
    Remove(PathBuf),
}

/// Something that is not as it should be.
#[derive(Debug, Clone)]
pub struct Finding {
    /// Of [`CATALOGUE`].
    pub id: &'static str,
    /// The workspace, if it is about one.
    pub workspace: Option<WorkspaceName>,
    /// What is wrong, on what.
    pub what: String,
    /// What was seen.
    pub evidence: String,
    /// What to do.
    pub mend: String,
    /// What `--fix` would do.
    pub fix: Option<Fix>,
}

/// Without what a terminal would act on: part of it is the service account's, or the far end's.
fn plain(text: String) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

impl PartialEq for Finding {
    fn eq(&self, other: &Finding) -> bool {
        let key = |f: &Finding| (f.id, f.workspace.clone(), f.what.clone());
        key(self) == key(other)
    }
}

impl Finding {
    /// An entry of the catalogue, about `what`.
    pub fn new(id: &'static str, what: impl Into<String>) -> Finding {
        debug_assert!(CATALOGUE.iter().any(|(known, _)| *known == id), "{id}");
        Finding {
            id,
            workspace: None,
            what: plain(what.into()),
            evidence: String::new(),
            mend: String::new(),
            fix: None,
        }
    }

    /// About this workspace.
    pub fn of(mut self, id: &WorkspaceName) -> Finding {
        self.workspace = Some(id.clone());
        self
    }

    /// What was seen.
    pub fn seen(mut self, evidence: impl Into<String>) -> Finding {
        self.evidence = plain(evidence.into()).chars().take(600).collect();
        self
    }

    /// What to do by hand.
    pub fn mend(mut self, mend: impl Into<String>) -> Finding {
        self.mend = mend.into();
        self
    }

    /// What `--fix` does.
    pub fn fix(mut self, fix: Fix) -> Finding {
        self.fix = Some(fix);
        if self.mend.is_empty() {
            self.mend = "omsagent doctor --fix".to_owned();
        }
        self
    }

    /// As the catalogue says.
    pub fn severity(&self) -> Severity {
        let entry = CATALOGUE.iter().find(|(id, _)| *id == self.id);
        entry.map_or(Error, |(_, severity)| *severity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../docs/doctor.md");

    #[test]
    fn the_page_explains_every_id_and_no_other() {
        let mut explained: Vec<(&str, &str)> = PAGE
            .lines()
            .filter_map(|line| {
                let mut cells = line.strip_prefix("| `")?.split('|');
                let id = cells.next()?.trim().trim_end_matches('`');
                Some((id, cells.next()?.trim()))
            })
            .collect();
        explained.sort_unstable();
        let word = |s: &Severity| match s {
            Warning => "warning",
            Error => "error",
        };
        let known: Vec<_> = CATALOGUE.iter().map(|(id, s)| (*id, word(s))).collect();
        assert_eq!(explained, known);
    }

    #[test]
    fn evidence_is_one_line_with_an_end() {
        let finding =
            Finding::new("dns-fails", "x").seen("a\nb\u{1b}".to_owned() + &"c".repeat(999));
        assert!(finding.evidence.starts_with("a b c") && finding.evidence.len() == 600);
        assert_eq!(finding.severity(), Error);
    }
}
