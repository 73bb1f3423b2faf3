//! `omsadmin.sh -l`: one line per workspace, byte for byte what automation parses
//! (bundle.md 6.4).

use super::{all, is_active, primary};
use crate::base::files;
use crate::base::ids::WorkspaceId;
use crate::host::Host;

/// What a workspace is to this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// ETC/conf points to it.
    Primary,
    /// Another one, without a marker.
    Other,
    /// Onboarded with `-m`.
    Marked(String),
}

/// How far a workspace is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Its agent runs.
    Running,
    /// Its service is registered but does not run.
    Registered,
    /// Its settings are there.
    Saved,
    /// Nothing usable is there.
    Failure,
}

impl Status {
    /// The literal of bundle.md 6.4.
    pub fn text(self) -> &'static str {
        match self {
            Status::Running => "Onboarded(OMSAgent Running)",
            Status::Registered => "Warning(OMSAgent Registered, Not Running)",
            Status::Saved => "Saved(OMSAgent Not Registered, Workspace Configuration Saved)",
            Status::Failure => "Failure(Agent Not Onboarded, No Workspace Configuration Present)",
        }
    }
}

/// The role of one workspace.
pub fn role(host: &Host, id: &WorkspaceId) -> Role {
    if primary(&host.layout).as_ref() == Some(id) {
        return Role::Primary;
    }
    let marker = host.layout.workspace(id).marker();
    // One line, whatever the service account made of the file: others parse what is printed.
    match files::read_text_no_follow(&marker, 4096) {
        Ok(Some(text)) => {
            let first = text.trim().lines().next().unwrap_or_default();
            Role::Marked(first.chars().filter(|c| !c.is_control()).collect())
        }
        _ => Role::Other,
    }
}

/// The status of one workspace.
pub fn status(host: &Host, id: &WorkspaceId) -> Status {
    let paths = host.layout.workspace(id);
    if is_active(host, id) {
        Status::Running
    } else if paths.service_registered().exists() {
        Status::Registered
    } else if paths.omsadmin_conf().exists() {
        Status::Saved
    } else {
        Status::Failure
    }
}

/// The lines of `-l`: the primary workspace first.
pub fn lines(host: &Host) -> Vec<String> {
    let mut ids = all(&host.layout);
    let first = primary(&host.layout);
    ids.sort_by_key(|id| first.as_ref() != Some(id));
    if ids.is_empty() {
        return vec!["No Workspace".into()];
    }
    ids.iter()
        .map(|id| line(&role(host, id), id, status(host, id)))
        .collect()
}

fn line(role: &Role, id: &WorkspaceId, status: Status) -> String {
    let title = match role {
        Role::Primary => "Primary Workspace".to_owned(),
        Role::Other => "Workspace".to_owned(),
        Role::Marked(text) => format!("Workspace({text})"),
    };
    format!("{title}: {id}    Status: {}", status.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_one_line_and_never_a_foreign_file() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::detect(crate::host::layout::Layout::new(dir.path()));
        let id = "11111111-2222-3333-4444-555555555555".parse().unwrap();
        let marker = host.layout.workspace(&id).marker();
        std::fs::create_dir_all(marker.parent().unwrap()).unwrap();
        assert_eq!(role(&host, &id), Role::Other);
        std::fs::write(&marker, "Az\u{1b}ure\nWorkspace: forged\n").unwrap();
        assert_eq!(role(&host, &id), Role::Marked("Azure".into()));
        std::fs::remove_file(&marker).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &marker).unwrap();
        assert_eq!(role(&host, &id), Role::Other);
    }

    #[test]
    fn four_blanks_before_status() {
        let id = "11111111-2222-3333-4444-555555555555".parse().unwrap();
        assert_eq!(
            line(&Role::Primary, &id, Status::Running),
            "Primary Workspace: 11111111-2222-3333-4444-555555555555    Status: Onboarded(OMSAgent Running)"
        );
        assert_eq!(
            line(&Role::Marked("Azure".into()), &id, Status::Registered),
            "Workspace(Azure): 11111111-2222-3333-4444-555555555555    Status: Warning(OMSAgent Registered, Not Running)"
        );
    }
}
