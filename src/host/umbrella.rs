//! `omsagent.service`: one name for the agents of all workspaces, as `service omsagent restart`
//! wants it (users.md A.3 C20). It is there as long as any workspace's service is.

use super::layout::Layout;
use super::services::{self, ServiceError, ServiceManager};
use super::{Change, FILE_LIMIT, Host};
use crate::base::files::{self, Look, Owner};
use crate::base::ids::WorkspaceName;
use std::path::PathBuf;

/// Its name.
pub const NAME: &str = "omsagent.service";
const TEXT: &str = include_str!("../../templates/host/omsagent-all.service");
const SCRIPT: &str = include_str!("../../templates/host/omsagent-all.init");

/// The workspace of a unit's or a script's name.
pub fn workspace_of(unit: &str) -> Option<WorkspaceName> {
    let name = unit.strip_suffix(".service").unwrap_or(unit);
    name.strip_prefix("omsagent-")?.parse().ok()
}

/// Does an administrator (or Puppet: users.md A.1) use the name for something else?
pub(super) fn is_theirs(layout: &Layout) -> bool {
    let path = layout.path("/etc/systemd/system").join(NAME);
    match std::fs::symlink_metadata(&path) {
        Err(_) => false,
        Ok(m) if m.is_symlink() => true,
        Ok(_) => {
            !matches!(files::read(&path, FILE_LIMIT), Ok(Some(text)) if text == TEXT.as_bytes())
        }
    }
}

/// Has it stand where it is needed, and nowhere else.
pub(super) fn settle(host: &Host) -> Result<Change, ServiceError> {
    let names = services::placed_units(&host.layout);
    let needed = names.iter().any(|name| workspace_of(name).is_some());
    match host.services {
        ServiceManager::Systemd if is_theirs(&host.layout) => Ok(Change::AlreadyThere),
        ServiceManager::Systemd if needed => services::place_umbrella(host, NAME, TEXT),
        ServiceManager::Systemd => services::take_unit_away(host, NAME),
        ServiceManager::SysV => settle_script(host, needed),
        ServiceManager::None => Ok(Change::AlreadyThere),
    }
}

fn settle_script(host: &Host, needed: bool) -> Result<Change, ServiceError> {
    let path: PathBuf = host.layout.path("/etc/init.d/omsagent");
    let there = files::read(&path, FILE_LIMIT)?;
    match there {
        Some(text) if needed || text != SCRIPT.as_bytes() => Ok(Change::AlreadyThere),
        Some(_) => Ok(files::remove(&path)?.into()),
        None if !needed => Ok(Change::AlreadyThere),
        None => {
            files::write_atomic(&path, SCRIPT.as_bytes(), Look::owned(0o755, Owner::ROOT))?;
            Ok(Change::Made)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::unit;

    #[test]
    fn it_comes_with_the_first_workspace_and_goes_with_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let units = dir.path().join("usr/lib/systemd/system");
        std::fs::create_dir_all(&units).unwrap();
        let host = Host::detect(Layout::new(dir.path()));
        let one: WorkspaceName = "11111111-2222-3333-4444-555555555555".parse().unwrap();
        let lad = WorkspaceName::lad();
        let wants = dir.path().join("etc/systemd/system/omsagent.service.wants");
        for name in [&one, &lad] {
            let unit = unit::name(name);
            let _ = services::install_unit(&host, &unit, &unit::text(name)).unwrap();
            let _ = services::enable(&host, &unit).unwrap();
            assert!(units.join(NAME).exists());
            assert!(wants.join(unit).is_symlink());
        }
        let _ = services::remove_unit(&host, &unit::name(&one)).unwrap();
        assert!(units.join(NAME).exists());
        let _ = services::remove_unit(&host, &unit::name(&lad)).unwrap();
        assert!(!units.join(NAME).exists() && !wants.exists());
    }

    #[test]
    fn somebody_elses_stays() {
        let dir = tempfile::tempdir().unwrap();
        let admin = dir.path().join("etc/systemd/system");
        let units = dir.path().join("usr/lib/systemd/system");
        std::fs::create_dir_all(&units).unwrap();
        std::fs::create_dir_all(&admin).unwrap();
        std::os::unix::fs::symlink("/usr/lib/systemd/system/x.service", admin.join(NAME)).unwrap();
        let host = Host::detect(Layout::new(dir.path()));
        let lad = WorkspaceName::lad();
        let unit = unit::name(&lad);
        let _ = services::install_unit(&host, &unit, &unit::text(&lad)).unwrap();
        assert!(!units.join(NAME).exists());
        let _ = services::remove_unit(&host, &unit).unwrap();
        assert!(admin.join(NAME).is_symlink());
    }

    #[test]
    fn names() {
        assert_eq!(
            workspace_of("omsagent-LAD.service"),
            Some(WorkspaceName::lad())
        );
        assert_eq!(workspace_of("omsagent-scom"), Some(WorkspaceName::scom()));
        assert_eq!(workspace_of(NAME), None);
        assert_eq!(workspace_of("omsagent-x.service"), None);
    }
}
