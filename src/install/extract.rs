//! `--extract`: the packages as files in `./omsbundle.<pid>`, where automation looks for them
//! (bundle.md 2.7, bundle.md 9 item 1).

use super::kits;
use super::release;
use crate::base::files;
use crate::bundle::kit::Group;
use crate::bundle::{Bundle, Entry, Extraction, Kind};
use crate::package::Arch;
use anyhow::{Context, Result, bail};
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The folder of the original for the oldest OpenSSL it knew; ours fit all of them.
const REAL: &str = "100";
/// Names by which the same packages are asked for.
const LINKS: [&str; 2] = ["110", "300"];

/// The folder that the packages come to lie in.
pub struct Target {
    cwd: PathBuf,
    name: String,
}

impl Target {
    /// Makes it in the current folder. It must not exist yet: another user could have made it.
    pub fn make(pid: u32) -> Result<Target> {
        let cwd = std::env::current_dir().context("the current folder cannot be read")?;
        Target::make_in(&cwd, pid)
    }

    fn make_in(cwd: &Path, pid: u32) -> Result<Target> {
        let (cwd, name) = (cwd.to_owned(), format!("omsbundle.{pid}"));
        make(&cwd.join(&name))?;
        Ok(Target { cwd, name })
    }

    /// Writes the packages and kits; on failure the folder goes again.
    pub fn fill(self, bundle: &Bundle) -> Result<PathBuf> {
        let top = self.cwd.join(&self.name);
        let written = fill(bundle, &self.cwd, &self.name)
            .with_context(|| format!("cannot fill `{}`", top.display()));
        if let Err(error) = written {
            let _ = std::fs::remove_dir_all(&top);
            return Err(error);
        }
        Ok(top)
    }
}

fn make(folder: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .mode(0o755)
        .create(folder)
        .with_context(|| format!("cannot make folder `{}`", folder.display()))
}

fn fill(bundle: &Bundle, cwd: &Path, name: &str) -> Result<()> {
    let packages = Folder::make(cwd, name, REAL)?;
    let mut wanted: Vec<Extraction> = bundle
        .entries()
        .iter()
        .filter(|e| matches!(e.kind, Kind::Deb | Kind::Rpm))
        .map(|entry| Extraction {
            entry,
            path: packages.inside.join(file_name(entry)),
            mode: 0o644,
        })
        .collect();
    let has = |kind| bundle.entries().iter().any(|e| e.kind == kind);
    let universal = has(Kind::Deb) && has(Kind::Rpm);
    let mut folders = Vec::new();
    for group in Group::ALL {
        let kits = || kits::of(bundle).filter(|(_, rule)| rule.group == group);
        // The original's bundles for one format had no `bundles` (bundle.md 1.1).
        if group == Group::Bundles && !universal && kits().next().is_none() {
            continue;
        }
        let folder = Folder::make(cwd, name, group.folder())?;
        wanted.extend(kits().map(|(entry, _)| Extraction {
            entry,
            path: folder.inside.join(&entry.name),
            mode: 0o755,
        }));
        folders.push(folder);
    }
    bundle.extract_all(&wanted)?;
    for link in LINKS {
        std::os::unix::fs::symlink(REAL, cwd.join(name).join(link))
            .with_context(|| format!("cannot make link `{link}`"))?;
    }
    Ok(())
}

/// A folder of ours, held open: where others may change the folder above, ours could be exchanged
/// for a link while we write.
struct Folder {
    inside: PathBuf,
    _pinned: File,
}

impl Folder {
    fn make(cwd: &Path, top: &str, name: &str) -> Result<Folder> {
        let folder = cwd.join(top).join(name);
        make(&folder)?;
        let pinned = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
            .open(&folder)
            .with_context(|| format!("cannot open folder `{}`", folder.display()))?;
        let mut inside = folder.clone();
        if nix::unistd::geteuid().is_root() && !files::only_root_can_change(cwd) {
            let through = PathBuf::from(format!("/proc/self/fd/{}", pinned.as_raw_fd()));
            let there =
                std::fs::read_link(&through).with_context(|| "cannot read /proc/self/fd")?;
            if !std::fs::canonicalize(cwd).is_ok_and(|cwd| there == cwd.join(top).join(name)) {
                bail!("somebody moved folder `{}` away", folder.display());
            }
            inside = through;
        }
        Ok(Folder {
            inside,
            _pinned: pinned,
        })
    }
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
