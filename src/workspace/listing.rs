//! `omsadmin.sh -l`: one line per workspace, byte for byte what automation parses
//! (bundle.md 6.4).

use super::{all, is_active, primary};
use crate::base::files;
use crate::base::ids::{WorkspaceId, WorkspaceName};
use crate::base::order;
use crate::host::layout::Layout;
use crate::host::{Host, unit, unit_state};
use crate::settings::omsadmin::{self, OmsAdmin};

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
pub fn role(host: &Host, id: &WorkspaceName) -> Role {
    if primary(&host.layout).is_some_and(|first| *first == *id) {
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

/// The status of one workspace. scom never has an omsadmin.conf (bundle.md 6.6): its settings are
/// there when its omsagent.conf is.
pub fn status(host: &Host, id: &WorkspaceName) -> Status {
    status_of(host, id, is_active(host, id))
}

fn status_of(host: &Host, id: &WorkspaceName, runs: bool) -> Status {
    let paths = host.layout.workspace(id);
    let settings = match id.id() {
        Some(_) => paths.omsadmin_conf(),
        None => paths.omsagent_conf(),
    };
    if runs {
        Status::Running
    } else if paths.service_registered().exists() {
        Status::Registered
    } else if settings.exists() {
        Status::Saved
    } else {
        Status::Failure
    }
}

/// The lines of `-l`: the primary workspace first, then the others, then scom. LAD is never told.
pub fn lines(host: &Host) -> Vec<String> {
    if let Some(id) = only_one(&host.layout) {
        // Its settings are in the old place until the package is configured.
        let status = match status(host, &id) {
            Status::Failure => Status::Saved,
            other => other,
        };
        return vec![line(&Role::Primary, &id, status)];
    }
    let mut names: Vec<WorkspaceName> = all(&host.layout).into_iter().map(Into::into).collect();
    let first: Option<WorkspaceName> = primary(&host.layout).map(Into::into);
    order::by_key(&mut names, |name| first.as_ref() != Some(name));
    let scom = WorkspaceName::scom();
    if super::everything(&host.layout).contains(&scom) {
        names.push(scom);
    }
    if names.is_empty() {
        return vec!["No Workspace".into()];
    }
    // Asked for all at once: each call of systemctl costs some milliseconds.
    let units: Vec<String> = names.iter().map(unit::name).collect();
    let states = unit_state::of(host, &units).unwrap_or_default();
    let runs = |name: &WorkspaceName| match states.iter().find(|s| s.name == unit::name(name)) {
        Some(state) => matches!(state.active.as_str(), "active" | "reloading"),
        None => is_active(host, name),
    };
    names
        .iter()
        .map(|name| line(&role(host, name), name, status_of(host, name, runs(name))))
        .collect()
}

/// The workspace of a host that knows only one: ETC/conf is a folder, from before there were
/// several (bundle.md 6.4, 6.8).
fn only_one(layout: &Layout) -> Option<WorkspaceId> {
    let conf = layout.etc().join("conf");
    let is_folder = std::fs::symlink_metadata(&conf).is_ok_and(|m| m.is_dir());
    let conf = conf.join("omsadmin.conf");
    let text = files::read_text_no_follow(&conf, omsadmin::LIMIT).ok()??;
    OmsAdmin::parse(&text).workspace().filter(|_| is_folder)
}

fn line(role: &Role, name: &WorkspaceName, status: Status) -> String {
    let title = match role {
        Role::Primary => "Primary Workspace".to_owned(),
        Role::Other => "Workspace".to_owned(),
        Role::Marked(text) => format!("Workspace({text})"),
    };
    format!("{title}: {name}    Status: {}", status.text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const ONE: &str = "11111111-2222-3333-4444-555555555555";
    const TWO: &str = "22222222-2222-3333-4444-555555555555";
    const THREE: &str = "33333333-2222-3333-4444-555555555555";

    fn host() -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::detect(Layout::new(dir.path()));
        (dir, host)
    }

    fn put(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn a_marker_is_one_line_and_never_a_foreign_file() {
        let (_dir, host) = host();
        let id: WorkspaceId = ONE.parse().unwrap();
        let marker = host.layout.workspace(&id).marker();
        assert_eq!(role(&host, &id), Role::Other);
        put(&marker, "Az\u{1b}ure\nWorkspace: forged\n");
        assert_eq!(role(&host, &id), Role::Marked("Azure".into()));
        std::fs::remove_file(&marker).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &marker).unwrap();
        assert_eq!(role(&host, &id), Role::Other);
    }

    #[test]
    fn four_blanks_before_status() {
        let id: WorkspaceId = ONE.parse().unwrap();
        assert_eq!(
            line(&Role::Primary, &id, Status::Running),
            "Primary Workspace: 11111111-2222-3333-4444-555555555555    Status: Onboarded(OMSAgent Running)"
        );
        assert_eq!(
            line(&Role::Marked("Azure".into()), &id, Status::Registered),
            "Workspace(Azure): 11111111-2222-3333-4444-555555555555    Status: Warning(OMSAgent Registered, Not Running)"
        );
    }

    #[test]
    fn primary_then_others_then_scom_and_never_lad_or_state() {
        let (_dir, host) = host();
        let layout = &host.layout;
        assert_eq!(lines(&host), ["No Workspace"]);
        let at = |name: &str| layout.workspace(&name.parse().unwrap());
        put(&at(THREE).omsadmin_conf(), "x");
        put(&at(ONE).service_registered(), "");
        put(&at(TWO).marker(), "Azure");
        put(&at("scom").omsagent_conf(), "");
        put(&at("scom").marker(), "SCOM Workspace");
        put(&at("LAD").omsadmin_conf(), "x");
        put(&layout.etc().join("state").join(ONE).join("conf/x"), "x");
        std::os::unix::fs::symlink(at(THREE).conf(), layout.etc().join("conf")).unwrap();
        assert_eq!(
            lines(&host),
            [
                format!(
                    "Primary Workspace: {THREE}    Status: {}",
                    Status::Saved.text()
                ),
                format!("Workspace: {ONE}    Status: {}", Status::Registered.text()),
                format!(
                    "Workspace(Azure): {TWO}    Status: {}",
                    Status::Failure.text()
                ),
                format!(
                    "Workspace(SCOM Workspace): scom    Status: {}",
                    Status::Saved.text()
                ),
            ]
        );
    }

    #[test]
    fn a_folder_in_the_place_of_the_link_is_the_only_workspace() {
        let (_dir, host) = host();
        let conf = host.layout.etc().join("conf/omsadmin.conf");
        put(&conf, &format!("WORKSPACE_ID={TWO}\n"));
        assert_eq!(
            lines(&host),
            [format!(
                "Primary Workspace: {TWO}    Status: {}",
                Status::Saved.text()
            )]
        );
    }
}
