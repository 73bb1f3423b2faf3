//! Floor 4: one workspace on this host: onboarding, its files, its certificate, its state.

pub mod exchange;
pub mod forwarding;
pub mod identity;
pub mod listing;
pub mod migrate;
pub mod onboarding;
pub mod port;
pub mod pseudo;
pub mod refresh;
pub mod removal;
pub mod renewal;
pub mod service;
pub mod socket;
pub mod templates;

use crate::base::ids::{NotAWorkspace, WorkspaceId, WorkspaceName};
use crate::base::order;
use crate::base::secret::Secret;
use crate::host::credentials::{self, Pair};
use crate::host::layout::Layout;
use crate::host::{Host, services, unit};
use std::path::{Path, PathBuf};

/// What an administrator gives to onboard a workspace (bundle.md 6.3).
#[derive(Debug, Clone)]
pub struct OnboardingRequest {
    /// Workspace id.
    pub id: WorkspaceId,
    /// Its shared key.
    pub key: Secret,
    /// Domain of the service.
    pub domain: String,
    /// Proxy line for proxy.conf; `None` leaves what is there.
    pub proxy: Option<Secret>,
    /// Azure resource id.
    pub azure_resource: Option<String>,
    /// Present: secondary workspace, with this text as marker.
    pub marker: Option<String>,
    /// CA certificates to trust beside the system's; copied to ETC/ca.pem.
    pub ca_file: Option<PathBuf>,
    /// Show what is sent, the certificate masked.
    pub verbose: bool,
}

/// All workspaces that have a folder in ETC, in name order. Links and other names are not
/// workspaces (bundle.md 7, S15).
pub fn all(layout: &Layout) -> Vec<WorkspaceId> {
    let Ok(entries) = std::fs::read_dir(layout.etc()) else {
        return Vec::new();
    };
    let mut ids: Vec<WorkspaceId> = entries
        .filter_map(Result::ok)
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .filter_map(|e| e.file_name().to_string_lossy().parse().ok())
        .collect();
    order::ascending(&mut ids);
    ids
}

/// The id as its folder on this host is spelled: the same GUID in other letters is the same
/// workspace, and must not become a second one.
pub fn as_spelled(layout: &Layout, id: WorkspaceId) -> WorkspaceId {
    let known = all(layout);
    if known.contains(&id) {
        return id;
    }
    let same = |k: &WorkspaceId| k.as_str().eq_ignore_ascii_case(id.as_str());
    known.into_iter().find(same).unwrap_or(id)
}

/// A workspace as somebody typed it, [as its folder here is spelled](as_spelled).
pub fn typed(layout: &Layout, text: &str) -> Result<WorkspaceName, NotAWorkspace> {
    let name = text.parse::<WorkspaceName>()?;
    Ok(match name.id() {
        Some(id) => as_spelled(layout, id).into(),
        None => name,
    })
}

/// [`all`], then the pseudo-workspaces that have a folder: scom, LAD.
pub fn everything(layout: &Layout) -> Vec<WorkspaceName> {
    let there = |name: &WorkspaceName| {
        let folder = layout.workspace(name).etc;
        std::fs::symlink_metadata(folder).is_ok_and(|m| m.is_dir())
    };
    let mut names: Vec<WorkspaceName> = all(layout).into_iter().map(Into::into).collect();
    names.extend(
        [WorkspaceName::scom(), WorkspaceName::lad()]
            .into_iter()
            .filter(there),
    );
    names
}

/// The primary workspace: the one that ETC/conf points into (bundle.md 4.5).
pub fn primary(layout: &Layout) -> Option<WorkspaceId> {
    let target = std::fs::read_link(layout.etc().join("conf")).ok()?;
    let folder = target.parent().and_then(Path::file_name)?;
    folder.to_string_lossy().parse().ok()
}

/// Key, certificate and a non-empty omsadmin.conf are there (bundle.md 6.9).
pub fn is_onboarded(layout: &Layout, id: &WorkspaceName) -> bool {
    let paths = layout.workspace(id);
    let pair = pair(layout, id);
    [pair.key, pair.cert, paths.omsadmin_conf()]
        .iter()
        .all(|p| std::fs::metadata(p).is_ok_and(|m| m.is_file() && m.len() > 0))
}

/// Where the workspace's certificate and key are: what the service manager hands over goes before
/// what is in ETC.
pub fn pair(layout: &Layout, id: &WorkspaceName) -> Pair {
    let paths = layout.workspace(id);
    credentials::of(layout, id).unwrap_or_else(|| Pair {
        cert: paths.cert(),
        key: paths.key(),
    })
}

/// Does the workspace's agent run? A service manager that does not answer counts as no.
pub fn is_active(host: &Host, id: &WorkspaceName) -> bool {
    services::is_active(host, &unit::name(id)).unwrap_or(false)
}

/// The exit code of a failed onboarding: the service's answer or the transport's failure by its
/// code of protocol.md 1.9, anything on this host 30.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    error
        .downcast_ref::<exchange::OnboardError>()
        .map_or(30, exchange::OnboardError::exit_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_guid_folders_are_workspaces() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let id = "11111111-2222-3333-4444-555555555555";
        for name in [id, "sysconf", "..."] {
            std::fs::create_dir_all(layout.etc().join(name)).unwrap();
        }
        std::os::unix::fs::symlink(
            "/etc",
            layout.etc().join("21111111-2222-3333-4444-555555555555"),
        )
        .unwrap();
        assert_eq!(all(&layout), [id.parse().unwrap()]);
        let hex = "abcdef00-2222-3333-4444-555555555555";
        std::fs::create_dir_all(layout.etc().join(hex)).unwrap();
        let spelled = |id: &str| as_spelled(&layout, id.parse().unwrap()).to_string();
        assert_eq!(spelled(&hex.to_uppercase()), hex);
        let other = "ABCDEF00-0000-3333-4444-555555555555";
        assert_eq!(spelled(other), other);
        std::fs::remove_dir(layout.etc().join(hex)).unwrap();
        assert_eq!(primary(&layout), None);
        std::os::unix::fs::symlink(
            layout.workspace(&id.parse().unwrap()).conf(),
            layout.etc().join("conf"),
        )
        .unwrap();
        assert_eq!(primary(&layout), Some(id.parse().unwrap()));
    }
}
