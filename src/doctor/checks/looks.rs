//! Modes and owners of what is ours (bundle.md 4.5), and the links between it.

use crate::base::files::{Look, Owner};
use crate::base::order;
use crate::doctor::finding::{Finding, Fix, Kind};
use crate::doctor::patient::{Patient, Ward};
use crate::workspace;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

fn meta(path: &Path) -> Option<Metadata> {
    std::fs::symlink_metadata(path).ok()
}

fn shown(m: &Metadata) -> String {
    format!(
        "mode {:04o}, owner {}:{}",
        m.mode() & 0o7777,
        m.uid(),
        m.gid()
    )
}

fn is_owned(m: &Metadata, owner: Owner) -> bool {
    (m.uid(), m.gid()) == (owner.uid, owner.gid)
}

/// VAR and root's records.
pub fn shared_folders(patient: &Patient, found: &mut Vec<Finding>) {
    let layout = &patient.host.layout;
    if !patient.installed {
        return;
    }
    for (path, mode) in [(layout.var(), 0o755), (layout.records(), 0o700)] {
        folder(&path, mode, Owner::ROOT, Fix::Package, found);
    }
}

fn folder(path: &Path, mode: u32, owner: Owner, fix: Fix, found: &mut Vec<Finding>) {
    let wanted = format!("wanted: {mode:04o}, {}:{}", owner.uid, owner.gid);
    match meta(path) {
        None => found.push(
            Finding::new(
                "folder-missing",
                format!("folder {} is missing", path.display()),
            )
            .seen(wanted)
            .fix(fix),
        ),
        Some(m) if !m.is_dir() => found.push(
            Finding::new(
                "folder-missing",
                format!("{} is not a folder", path.display()),
            )
            .seen(wanted)
            .mend("move it away, then: omsagent doctor --fix"),
        ),
        Some(m) if m.mode() & 0o7777 != mode || !is_owned(&m, owner) => found.push(
            Finding::new(
                "folder-look",
                format!("folder {} has another mode or owner", path.display()),
            )
            .seen(format!("{}; {wanted}", shown(&m)))
            .fix(fix),
        ),
        Some(_) => {}
    }
}

/// The folders of each workspace.
pub fn workspace_folders(patient: &Patient, found: &mut Vec<Finding>) {
    let Some(owner) = patient.owner else { return };
    for ward in patient.onboarded() {
        let paths = patient.host.layout.workspace(&ward.id);
        let open = [
            paths.etc.clone(),
            paths.conf(),
            paths.conf_d(),
            paths.var.clone(),
            paths.tmp(),
            paths.state(),
            paths.run(),
            paths.log(),
        ];
        let mut of_ward = Vec::new();
        for path in open {
            folder(
                &path,
                0o750,
                owner,
                Fix::Workspace(ward.id.clone()),
                &mut of_ward,
            );
        }
        let fix = Fix::Workspace(ward.id.clone());
        folder(&paths.certs(), 0o700, owner, fix, &mut of_ward);
        found.extend(of_ward.into_iter().map(|f| f.of(&ward.id)));
    }
}

/// Key and certificate: the agent's, and nobody else's.
pub fn identity_files(patient: &Patient, found: &mut Vec<Finding>) {
    let Some(owner) = patient.owner else { return };
    for ward in patient.onboarded() {
        let paths = patient.host.layout.workspace(&ward.id);
        for path in [paths.key(), paths.cert()] {
            let Some(m) = meta(&path).filter(Metadata::is_file) else {
                continue;
            };
            let fix = Fix::Look(path.clone(), Look::owned(0o640, owner), Kind::File);
            if m.mode() & 0o027 != 0 {
                found.push(
                    Finding::new(
                        "key-open",
                        format!("others can read or change {}", path.display()),
                    )
                    .seen(shown(&m))
                    .of(&ward.id)
                    .fix(fix),
                );
            } else if !is_owned(&m, owner) {
                found.push(not_the_agents(&path, &m, ward, fix));
            }
        }
    }
}

fn not_the_agents(path: &Path, m: &Metadata, ward: &Ward, fix: Fix) -> Finding {
    Finding::new(
        "file-owner",
        format!("{} is not the agent's", path.display()),
    )
    .seen(format!(
        "{}: the agent may not be able to read or renew it",
        shown(m)
    ))
    .of(&ward.id)
    .fix(fix)
}

/// omsadmin.conf, omsagent.conf and its fragments.
pub fn settings_files(patient: &Patient, found: &mut Vec<Finding>) {
    let Some(owner) = patient.owner else { return };
    for ward in patient.onboarded() {
        let paths = patient.host.layout.workspace(&ward.id);
        let mut all = vec![paths.omsadmin_conf(), paths.omsagent_conf()];
        all.extend(fragments(&paths.conf_d()));
        for path in all {
            let Some(m) = meta(&path).filter(Metadata::is_file) else {
                continue;
            };
            let fix = Fix::Look(path.clone(), Look::owned(0o644, owner), Kind::File);
            let unreadable = match m.uid() {
                uid if uid == owner.uid => m.mode() & 0o400 == 0,
                0 => m.mode() & 0o004 == 0 && !(m.gid() == owner.gid && m.mode() & 0o040 != 0),
                _ => true,
            };
            if m.mode() & 0o022 != 0 {
                found.push(
                    Finding::new("file-open", format!("others can change {}", path.display()))
                        .seen(shown(&m))
                        .of(&ward.id)
                        .fix(fix),
                );
            } else if unreadable {
                found.push(not_the_agents(&path, &m, ward, fix));
            }
        }
    }
}

/// The `*.conf` of a folder.
pub fn fragments(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut all: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "conf"))
        .collect();
    order::ascending(&mut all);
    all
}

/// proxy.conf may hold a password.
pub fn proxy_file(patient: &Patient, found: &mut Vec<Finding>) {
    let path = patient.host.layout.proxy_conf();
    let (Some(owner), Some(m)) = (patient.owner, meta(&path)) else {
        return;
    };
    let fix = Fix::Look(path.clone(), Look::owned(0o600, owner), Kind::File);
    if !m.is_file() {
        return;
    }
    if m.mode() & 0o077 != 0 {
        found.push(
            Finding::new("proxy-open", format!("others can read {}", path.display()))
                .seen(format!("{}; it may hold a password", shown(&m)))
                .fix(fix),
        );
    } else if m.uid() != owner.uid {
        found.push(
            Finding::new(
                "file-owner",
                format!("{} is not the agent's", path.display()),
            )
            .seen(format!("{}: the agent cannot read it", shown(&m)))
            .fix(fix),
        );
    }
}

/// Programs that root runs: only root may change them.
pub fn programs(patient: &Patient, found: &mut Vec<Finding>) {
    let layout = &patient.host.layout;
    let bin = layout.bin();
    let mut all = vec![layout.opt(), bin.clone()];
    let entries = std::fs::read_dir(&bin).into_iter().flatten().flatten();
    all.extend(entries.map(|entry| entry.path()));
    for path in all {
        let Some(m) = meta(&path).filter(|m| !m.is_symlink()) else {
            continue;
        };
        if m.uid() == 0 && m.mode() & 0o022 == 0 {
            continue;
        }
        let finding = Finding::new(
            "program-open",
            format!("not only root can change {}", path.display()),
        );
        let finding = finding.seen(format!("{}; root runs it", shown(&m)));
        let look = Look::owned(0o755, Owner::ROOT);
        // Whoever could change a program may have done so: root's mark would only hide that.
        found.push(match m.is_dir() {
            true => finding.fix(Fix::Look(path, look, Kind::Folder)),
            false => finding.mend("install the package again, then remove what is not its"),
        });
    }
}

/// The links that say which workspace is primary, and each workspace's program name.
pub fn links(patient: &Patient, found: &mut Vec<Finding>) {
    let layout = &patient.host.layout;
    if !patient.installed {
        return;
    }
    for ward in patient.onboarded() {
        let link = layout.bin().join(format!("omsagent-{}", ward.id));
        if std::fs::read_link(&link).is_err() {
            found.push(
                Finding::new("program-link", format!("{} is missing", link.display()))
                    .seen("administrators know the agent's process by this name")
                    .of(&ward.id)
                    .fix(Fix::Workspace(ward.id.clone())),
            );
        }
    }
    let primary = workspace::primary(layout).or_else(|| {
        let unmarked = |w: &&Ward| !layout.workspace(&w.id).marker().exists();
        let mut unmarked = patient.onboarded().filter(unmarked);
        unmarked.next().map(|w| w.id.clone())
    });
    let Some(id) = primary else { return };
    for (link, target) in layout.primary_links(&id) {
        let there = std::fs::read_link(&link).ok();
        let below = target
            .strip_prefix(layout.root())
            .map(|t| Path::new("/").join(t));
        if there.is_some() && there == below.ok() {
            continue;
        }
        let seen = there.map_or("no link".into(), |t| format!("leads to {}", t.display()));
        let what = format!("{} does not lead to the primary workspace", link.display());
        let finding = Finding::new("primary-link", what).seen(seen).of(&id);
        found.push(match meta(&link) {
            Some(m) if !m.is_symlink() => finding
                .mend("something else is in its place: move it away, then: omsagent doctor --fix"),
            _ => finding.fix(Fix::Workspace(id.clone())),
        });
    }
}
