//! `--extract`: the packages as files in `./omsbundle.<pid>`, where automation looks for them
//! (bundle.md 2.7, bundle.md 9 item 1).

use super::release;
use crate::bundle::{Bundle, Entry, Extraction, Kind};
use crate::package::Arch;
use anyhow::{Context, Result};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The folder of the original for the oldest OpenSSL it knew; ours fit all of them.
const REAL: &str = "100";
/// Names by which the same packages are asked for.
const LINKS: [&str; 2] = ["110", "300"];

/// Writes the packages below `cwd`. The folder must not exist yet: another user could have made
/// it.
pub fn extract(bundle: &Bundle, cwd: &Path, pid: u32) -> Result<PathBuf> {
    let top = cwd.join(format!("omsbundle.{pid}"));
    let folder = top.join(REAL);
    for dir in [&top, &folder] {
        std::fs::DirBuilder::new()
            .mode(0o755)
            .create(dir)
            .with_context(|| format!("cannot make folder `{}`", dir.display()))?;
    }
    let wanted: Vec<Extraction> = bundle
        .entries()
        .iter()
        .filter(|e| matches!(e.kind, Kind::Deb | Kind::Rpm))
        .map(|entry| Extraction {
            entry,
            path: folder.join(file_name(entry)),
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
