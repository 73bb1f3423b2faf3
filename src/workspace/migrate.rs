//! A workspace as the original left it (bundle.md 4.5, 6.8): its folders where one workspace had
//! them before there could be several, its identity with too wide modes.
//!
//! Every step can be taken back, and a run that was killed is finished by the next one: the folder
//! that says which workspace it is moves last.

use crate::base::files::{self, Look, Owner};
use crate::base::ids::WorkspaceId;
use crate::host::Host;
use crate::host::layout::Layout;
use crate::plan::Plan;
use crate::plan::steps::{MakeDir, MovePath, WriteFile};
use crate::settings::{self, flat_conf, omsadmin::OmsAdmin};
use anyhow::{Context, Result, bail};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Larger than any configuration file.
const LIMIT: usize = 1 << 20;
/// Larger than any key or certificate.
const PEM_LIMIT: usize = 64 << 10;

/// The one workspace of a host from before multi-homing: ETC/conf is a folder, not a link, and
/// its omsadmin.conf names it. `None` when there is no such folder, or nothing in it.
pub fn flat(layout: &Layout) -> Result<Option<WorkspaceId>> {
    let conf = layout.etc().join("conf");
    if !is_real_dir(&conf) {
        return Ok(None);
    }
    let path = conf.join("omsadmin.conf");
    let Some(text) = files::read_text_no_follow(&path, settings::omsadmin::LIMIT)? else {
        return Ok(None);
    };
    if text.trim().is_empty() {
        return Ok(None);
    }
    let Some(id) = OmsAdmin::parse(&text).workspace() else {
        bail!(
            "`{}` names no workspace (WORKSPACE_ID): its folder stays where it is; mend the file, \
             then install the package again",
            path.display()
        );
    };
    Ok(Some(id))
}

/// omsconfig delivers ETC/conf/omsagent.d, and before the first onboarding that is a folder where
/// the link to the primary workspace shall be (bundle.md 4.14). An empty one gives way.
pub fn clear_empty_conf(layout: &Layout) {
    let conf = layout.etc().join("conf");
    if is_real_dir(&conf) {
        files::remove_dir_if_empty(&conf.join("omsagent.d"));
        files::remove_dir_if_empty(&conf);
    }
}

fn is_real_dir(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|m| m.is_dir())
}

/// Moves the workspace of [`flat`] into folders of its own, and rewrites its omsagent.conf to them,
/// with the old text beside it in omsagent.conf.bak.
pub fn unflatten(host: &Host, id: &WorkspaceId, owner: Owner) -> Result<Plan> {
    let layout = &host.layout;
    let (etc, var, paths) = (layout.etc(), layout.var(), layout.workspace(id));
    let open = Look::owned(0o750, owner);
    let mut plan = Plan::new();
    plan.push(MakeDir::new(&paths.etc, open));
    plan.push(MakeDir::new(&paths.var, open));
    let conf = etc.join("conf");
    rewrite_conf(&mut plan, id, &conf, owner)?;
    take_proxy(&mut plan, layout, &conf.join("proxy.conf"), owner)?;
    for (link, target) in layout.primary_links(id) {
        if link != conf {
            plan.push(MovePath::new(link, target));
        }
    }
    if !is_real_dir(&var) {
        bail!("`{}` is not a folder", var.display());
    }
    plan.push(MovePath::new(conf, paths.conf()));
    Ok(plan)
}

/// omsagent.conf in place, before its folder moves.
fn rewrite_conf(plan: &mut Plan, id: &WorkspaceId, conf: &Path, owner: Owner) -> Result<()> {
    let path = conf.join("omsagent.conf");
    let Some(old) = files::read_text_no_follow(&path, LIMIT)? else {
        return Ok(());
    };
    // What the agent will see, without the prefix of an image folder.
    let inside = Layout::new("/").workspace(id);
    let new = flat_conf::rewrite(&old, &inside);
    if new.main == old {
        return Ok(());
    }
    let look = Look::owned(0o644, owner);
    plan.push(WriteFile::if_absent(
        conf.join("omsagent.conf.bak"),
        old,
        look,
    ));
    let folder = conf.join("omsagent.d");
    if !new.syslog.is_empty() {
        plan.push(MakeDir::new(&folder, Look::owned(0o750, owner)));
        plan.push(WriteFile::if_absent(
            folder.join("syslog.conf"),
            new.syslog,
            look,
        ));
    }
    plan.push(WriteFile::new(path, new.main, look));
    Ok(())
}

/// proxy.conf's place was in the workspace's folder once. A newer one in its present place wins
/// (bundle.md 4.11, R21).
fn take_proxy(plan: &mut Plan, layout: &Layout, old: &Path, owner: Owner) -> Result<()> {
    let text = files::read_no_follow(old, settings::proxy::LIMIT)?;
    if let Some(text) = text {
        let new = layout.proxy_conf();
        plan.push(WriteFile::if_absent(new, text, Look::owned(0o600, owner)));
        plan.push(WriteFile::remove(old));
    }
    Ok(())
}

/// The identity of a workspace with our owner and modes, byte for byte what it was: the original
/// made the primary's key readable and executable for the group (S13). Its proxy settings in their
/// present place.
pub fn own_identity(host: &Host, id: &WorkspaceId, owner: Owner) -> Result<Plan> {
    let layout = &host.layout;
    let paths = layout.workspace(id);
    let mut plan = Plan::new();
    for (path, mode) in [
        (paths.key(), 0o640),
        (paths.cert(), 0o640),
        (paths.omsadmin_conf(), 0o644),
    ] {
        let Ok(meta) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        // A narrower mode is somebody's wish.
        let narrow = meta.mode() & 0o7777 & !mode == 0;
        let ours =
            !nix::unistd::geteuid().is_root() || (meta.uid(), meta.gid()) == (owner.uid, owner.gid);
        if narrow && ours {
            continue;
        }
        let bytes = files::read_no_follow(&path, PEM_LIMIT)?
            .with_context(|| format!("`{}` vanished", path.display()))?;
        plan.push(WriteFile::new(path, bytes, Look::owned(mode, owner)));
    }
    if super::primary(layout).as_ref() == Some(id) {
        take_proxy(&mut plan, layout, &paths.conf().join("proxy.conf"), owner)?;
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::backup::Backups;
    use crate::plan::journal::Journal;
    use crate::plan::testing::{Kept, about};
    use crate::plan::undo::Undo;
    use std::path::PathBuf;

    const ID: &str = "11111111-2222-3333-4444-555555555555";
    const CONF: &str = "@include omsagent.d/*.conf\n\
        <source>\n  type syslog\n  port 25224\n  bind 127.0.0.1\n  tag oms.syslog\n</source>\n\
        <match oms.**>\n  type out_oms\n  buffer_chunk_limit 1m\n\
        buffer_path /var/opt/microsoft/omsagent/state/out*.buffer\n</match>\n";

    fn flat_host() -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        for (path, text) in [
            (
                layout.etc().join("conf/omsadmin.conf"),
                format!("WORKSPACE_ID={ID}\n"),
            ),
            (layout.etc().join("conf/omsagent.conf"), CONF.into()),
            (
                layout.etc().join("conf/proxy.conf"),
                "http://p:1".to_owned(),
            ),
            (layout.etc().join("certs/oms.key"), "key".into()),
            (layout.var().join("log/omsagent.log"), "old".into()),
            (layout.var().join("state/x.buffer"), "data".into()),
            (layout.var().join("run/omsagent.pid"), "1".into()),
        ] {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        (dir, Host::detect(layout))
    }

    fn owner() -> Owner {
        Owner {
            uid: nix::unistd::getuid().as_raw(),
            gid: nix::unistd::getgid().as_raw(),
        }
    }

    fn files_below(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut open = vec![dir.to_owned()];
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    found.push((path.clone(), std::fs::read(path).unwrap()));
                }
            }
        }
        found.sort_unstable();
        found
    }

    /// Runs a plan up to a step that fails, or whole.
    fn run(host: &Host, mut plan: Plan, fails: bool) -> bool {
        struct Fails;
        impl crate::plan::Step for Fails {
            fn describe(&self) -> String {
                "fail".into()
            }
            fn satisfied(&self) -> Result<bool> {
                Ok(false)
            }
            fn apply(&mut self, _: &mut dyn crate::plan::Report) -> Result<()> {
                bail!("no")
            }
            fn before(&self, _: &mut Backups) -> Result<Undo> {
                Ok(Undo::Nothing)
            }
        }
        if fails {
            plan.push(Fails);
        }
        let records = tempfile::tempdir().unwrap();
        let mut journal = Journal::at(records.path(), about("move"));
        plan.run(host, &mut journal, &mut Kept::default()).is_ok()
    }

    #[test]
    fn one_workspace_gets_folders_of_its_own_and_nothing_is_lost() {
        let (dir, host) = flat_host();
        let id = flat(&host.layout).unwrap().unwrap();
        let before = files_below(dir.path());
        assert!(!run(&host, unflatten(&host, &id, owner()).unwrap(), true));
        assert_eq!(files_below(dir.path()), before, "all is taken back");
        assert!(run(&host, unflatten(&host, &id, owner()).unwrap(), false));
        assert_eq!(flat(&host.layout).unwrap(), None);
        let paths = host.layout.workspace(&id);
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
        assert_eq!(read(paths.key()), "key");
        assert_eq!(read(paths.log_file()), "old");
        assert_eq!(read(paths.state().join("x.buffer")), "data");
        assert_eq!(read(paths.conf().join("omsagent.conf.bak")), CONF);
        assert!(read(paths.conf_d().join("syslog.conf")).contains("port 25224"));
        assert!(!read(paths.omsagent_conf()).contains("type syslog"));
        assert_eq!(read(host.layout.proxy_conf()), "http://p:1");
        assert!(!host.layout.etc().join("certs").exists());
    }

    #[test]
    fn a_run_that_was_killed_is_finished() {
        let (_dir, host) = flat_host();
        let id = flat(&host.layout).unwrap().unwrap();
        let paths = host.layout.workspace(&id);
        std::fs::create_dir_all(&paths.etc).unwrap();
        std::fs::create_dir_all(&paths.var).unwrap();
        std::fs::rename(host.layout.etc().join("certs"), paths.certs()).unwrap();
        std::fs::rename(host.layout.var().join("log"), paths.log()).unwrap();
        assert!(run(&host, unflatten(&host, &id, owner()).unwrap(), false));
        assert!(paths.key().exists() && paths.log_file().exists());
        assert!(paths.omsadmin_conf().exists());
    }

    #[test]
    fn a_folder_that_names_no_workspace_stays_and_an_empty_one_goes() {
        let (_dir, host) = flat_host();
        let conf = host.layout.etc().join("conf");
        std::fs::write(conf.join("omsadmin.conf"), "WORKSPACE_ID=x\n").unwrap();
        let error = format!("{:#}", flat(&host.layout).unwrap_err());
        assert!(error.contains("omsadmin.conf") && error.contains("WORKSPACE_ID"));
        std::fs::remove_dir_all(&conf).unwrap();
        std::fs::create_dir_all(conf.join("omsagent.d")).unwrap();
        assert_eq!(flat(&host.layout).unwrap(), None);
        clear_empty_conf(&host.layout);
        assert!(!conf.exists());
    }

    #[test]
    fn a_key_that_the_group_may_execute_gets_its_mode_and_keeps_its_bytes() {
        use std::os::unix::fs::PermissionsExt;
        let (_dir, host) = flat_host();
        let id: WorkspaceId = ID.parse().unwrap();
        assert!(run(&host, unflatten(&host, &id, owner()).unwrap(), false));
        let key = host.layout.workspace(&id).key();
        std::fs::set_permissions(&key, PermissionsExt::from_mode(0o750)).unwrap();
        assert!(run(
            &host,
            own_identity(&host, &id, owner()).unwrap(),
            false
        ));
        assert_eq!(key.metadata().unwrap().mode() & 0o7777, 0o640);
        std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
        assert!(run(
            &host,
            own_identity(&host, &id, owner()).unwrap(),
            false
        ));
        assert_eq!(key.metadata().unwrap().mode() & 0o7777, 0o600, "narrower");
        assert_eq!(std::fs::read(key).unwrap(), b"key");
    }
}
