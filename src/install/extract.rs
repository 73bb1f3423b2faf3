//! `--extract`: the packages as files in `./omsbundle.<pid>`, where automation looks for them
//! (bundle.md 2.7, bundle.md 9 item 1).

use super::release;
use crate::base::files;
use crate::bundle::{Bundle, Entry, Extraction, Kind};
use crate::package::Arch;
use anyhow::{Context, Result, bail};
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The folder of the original for the oldest OpenSSL it knew; ours fit all of them.
const REAL: &str = "100";
/// Names by which the same packages are asked for.
const LINKS: [&str; 2] = ["110", "300"];

/// Writes the packages below `cwd`. The folder must not exist yet: another user could have made
/// it.
pub fn extract(bundle: &Bundle, cwd: &Path, pid: u32) -> Result<PathBuf> {
    let name = &format!("omsbundle.{pid}");
    let top = cwd.join(name);
    let folder = top.join(REAL);
    for dir in [&top, &folder] {
        std::fs::DirBuilder::new()
            .mode(0o755)
            .create(dir)
            .with_context(|| format!("cannot make folder `{}`", dir.display()))?;
    }
    // In a folder that others may change, ours could be exchanged for a link while we write.
    let pinned = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
        .open(&folder)
        .with_context(|| format!("cannot open folder `{}`", folder.display()))?;
    let mut inside = folder.clone();
    if nix::unistd::geteuid().is_root() && !files::only_root_can_change(cwd) {
        let through = PathBuf::from(format!("/proc/self/fd/{}", pinned.as_raw_fd()));
        let there = std::fs::read_link(&through).with_context(|| "cannot read /proc/self/fd")?;
        if !std::fs::canonicalize(cwd).is_ok_and(|cwd| there == cwd.join(name).join(REAL)) {
            bail!("somebody moved folder `{}` away", folder.display());
        }
        inside = through;
    }
    let wanted: Vec<Extraction> = bundle
        .entries()
        .iter()
        .filter(|e| matches!(e.kind, Kind::Deb | Kind::Rpm))
        .map(|entry| Extraction {
            entry,
            path: inside.join(file_name(entry)),
            mode: 0o644,
        })
        .collect();
    let written = bundle
        .extract_all(&wanted)
        .with_context(|| format!("cannot write to `{}`", folder.display()))
        .and_then(|()| {
            LINKS.iter().try_for_each(|link| {
                std::os::unix::fs::symlink(REAL, top.join(link))
                    .with_context(|| format!("cannot make link `{link}` in `{}`", top.display()))
            })
        });
    if let Err(error) = written {
        let _ = std::fs::remove_dir_all(&top);
        return Err(error);
    }
    Ok(top)
}

/// Our package under the base name the original's scripts look for; others under their own.
fn file_name(entry: &Entry) -> String {
    let suffix = if entry.kind == Kind::Deb {
        "deb"
    } else {
        "rpm"
    };
    match entry.pkg.as_deref() {
        Some(release::PACKAGE) if entry.arch == Some(Arch::X86_64) => {
            format!("{}.{suffix}", release::base_name())
        }
        _ => entry.name.clone(),
    }
}
