//! One logrotate file per workspace, for the agent's own log (bundle.md 4.8).

use super::layout::Layout;
use super::{Change, FILE_LIMIT, Host, template};
use crate::base::files::{self, Look, Owner};
use crate::base::ids::WorkspaceName;
use anyhow::Result;
use std::path::PathBuf;

/// `/etc/logrotate.d/omsagent-<WS>`.
pub fn path(host: &Host, id: &WorkspaceName) -> PathBuf {
    host.layout.path(format!("/etc/logrotate.d/omsagent-{id}"))
}

/// The file's text. Rotation is done as the agent's account (`su`), since the folder is that
/// account's: root would follow whatever it plants there.
pub fn text(id: &WorkspaceName) -> String {
    let log = Layout::new("/").workspace(id).log_file();
    template::fill(
        include_str!("../../templates/host/logrotate"),
        &[("%WS%", id.as_str()), ("%LOG%", &log.to_string_lossy())],
    )
}

/// Writes it, root:root 0644. Without /etc/logrotate.d nothing is rotated and nothing written.
pub fn install(host: &Host, id: &WorkspaceName) -> Result<Change> {
    let path = path(host, id);
    if !host.layout.path("/etc/logrotate.d").is_dir() {
        return Ok(Change::AlreadyThere);
    }
    let text = text(id);
    if files::read(&path, FILE_LIMIT)?.is_some_and(|b| b == text.as_bytes()) {
        return Ok(Change::AlreadyThere);
    }
    files::write_atomic(&path, text.as_bytes(), Look::owned(0o644, Owner::ROOT))?;
    Ok(Change::Made)
}

/// Removes it.
pub fn remove(host: &Host, id: &WorkspaceName) -> Result<Change> {
    Ok(files::remove(&path(host, id))?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_per_workspace() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::detect(Layout::new(dir.path()));
        let id: WorkspaceName = "01234567-89ab-cdef-0123-456789abcdef".parse().unwrap();
        assert_eq!(install(&host, &id).unwrap(), Change::AlreadyThere);
        std::fs::create_dir_all(dir.path().join("etc/logrotate.d")).unwrap();
        assert_eq!(install(&host, &id).unwrap(), Change::Made);
        assert_eq!(install(&host, &id).unwrap(), Change::AlreadyThere);
        let text = std::fs::read_to_string(path(&host, &id)).unwrap();
        assert!(text.contains(
            "\n/var/opt/microsoft/omsagent/01234567-89ab-cdef-0123-456789abcdef/log/omsagent.log {"
        ));
        assert!(!text.contains('%'), "{text}");
        assert_eq!(remove(&host, &id).unwrap(), Change::Made);
        assert_eq!(remove(&host, &id).unwrap(), Change::AlreadyThere);
    }
}
