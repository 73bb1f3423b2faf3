//! Where units are: their files, and the links that pull them in.

use super::{ServiceError, ServiceManager, check_name};
use crate::base::files;
use crate::base::order;
use crate::host::layout::Layout;
use crate::host::{Change, FILE_LIMIT, Host, sysv};
use anyhow::Context;
use std::path::PathBuf;

/// Unit folders of the distribution, in order (bundle.md 4.7).
pub(super) const VENDOR_DIRS: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];
/// Unit folder of the administrator: ours where the others cannot be written (image-based hosts).
pub(super) const ADMIN_DIR: &str = "/etc/systemd/system";

/// Where the links of what `omsagent.service` wants are.
pub(super) const UMBRELLA_WANTS: &str = "omsagent.service.wants";

/// Where units are placed: the first vendor folder that exists and can be written, else the
/// administrator's.
pub fn unit_dir(layout: &Layout) -> PathBuf {
    VENDOR_DIRS
        .iter()
        .map(|dir| layout.path(dir))
        .find(|dir| {
            dir.is_dir() && nix::unistd::access(dir, nix::unistd::AccessFlags::W_OK).is_ok()
        })
        .unwrap_or_else(|| layout.path(ADMIN_DIR))
}

/// Names of the unit files in every folder where one of ours may be.
pub fn placed_units(layout: &Layout) -> Vec<String> {
    VENDOR_DIRS
        .iter()
        .chain([&ADMIN_DIR])
        .filter_map(|dir| std::fs::read_dir(layout.path(dir)).ok())
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".service"))
        .chain(sysv::placed(layout))
        .collect()
}

/// The text of a unit (or of its script) as it is placed now.
pub fn placed_text(host: &Host, name: &str) -> Result<Option<String>, ServiceError> {
    check_name(name)?;
    Ok(files::read_text(&placed_path(host, name), FILE_LIMIT)?)
}

/// Where a unit (or its script) is placed.
pub fn placed_path(host: &Host, name: &str) -> PathBuf {
    match host.services {
        ServiceManager::SysV => sysv::path(&host.layout, name),
        _ => unit_dir(&host.layout).join(name),
    }
}

/// Is the unit placed with this text, or its script with the one it has to have?
pub fn is_placed(host: &Host, name: &str, text: &str) -> Result<bool, ServiceError> {
    let there = placed_text(host, name)?;
    Ok(match host.services {
        ServiceManager::SysV => there.is_some_and(|there| there == sysv::text(name)),
        _ => there.is_some_and(|there| there == text),
    })
}

/// The files of one unit, in every folder where one may be.
pub fn unit_files(layout: &Layout, name: &str) -> Vec<PathBuf> {
    let dirs = VENDOR_DIRS.iter().chain([&ADMIN_DIR]);
    let paths = dirs.map(|dir| layout.path(dir).join(name));
    paths.filter(|path| path.is_file()).collect()
}

/// Has a target of `folder` pull the unit in.
pub(super) fn link_wanted(host: &Host, name: &str, folder: &str) -> Result<Change, ServiceError> {
    let wants = host.layout.path(ADMIN_DIR).join(folder);
    if wants.join(name).is_symlink() {
        return Ok(Change::AlreadyThere);
    }
    std::fs::create_dir_all(&wants)
        .with_context(|| format!("cannot make `{}`", wants.display()))?;
    let unit = unit_dir(&host.layout).join(name);
    let target = unit.strip_prefix(host.layout.root()).unwrap_or(&unit);
    files::make_link(&wants.join(name), &PathBuf::from("/").join(target))?;
    Ok(Change::Made)
}

/// Links in /etc/systemd/system/*.wants and *.requires that pull the unit in.
pub(super) fn wants_links(host: &Host, name: &str) -> anyhow::Result<Vec<PathBuf>> {
    let dir = host.layout.path(ADMIN_DIR);
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("cannot read `{}`", dir.display())),
    };
    let mut links: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok())
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|e| e == "wants" || e == "requires")
        })
        .map(|path| path.join(name))
        .filter(|link| link.is_symlink())
        .collect();
    order::ascending(&mut links);
    Ok(links)
}
