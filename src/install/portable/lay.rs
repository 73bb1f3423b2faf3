//! The package's files, put on a host and taken away again by our own code, by the rules that dpkg
//! has for them: a file that somebody edited stays as it is.

use super::receipt::{Receipt, Thing, What};
use crate::base::files::{self, Look, Owner};
use crate::host::layout::Layout;
use crate::package::payload::{self, Kind, Piece};
use anyhow::{Context, Result, bail};
use nix::unistd::AccessFlags;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Folders of the system that the product needs; made where they are missing, and noted.
const SYSTEM: [&str; 3] = ["/opt", "/etc/opt", "/var/opt"];

/// How a package and a host go together.
#[derive(Debug, Default)]
pub struct Survey {
    /// Everything that belongs to the package here.
    pub things: BTreeMap<String, Thing>,
    /// Of these, what has to be put in place.
    pub write: BTreeSet<String>,
    /// Left out: below a /usr that cannot be written.
    pub left_out: Vec<String>,
    /// Files of somebody else in the way.
    pub foreign: Vec<String>,
}

impl Survey {
    /// Looks at the package and at the host; changes nothing. `before` is the receipt that is there.
    pub fn of(layout: &Layout, package: &Path, before: Option<&Receipt>) -> Result<Survey> {
        let mut things = BTreeMap::new();
        for path in SYSTEM {
            things.insert(path.to_owned(), folder(0o755));
        }
        payload::walk(package, &mut |piece, bytes| {
            for above in Path::new(&piece.path).ancestors().skip(1) {
                let above = above.to_string_lossy().into_owned();
                if above != "/" && !things.contains_key(&above) {
                    things.insert(above, folder(0o755));
                }
            }
            things.insert(piece.path.clone(), thing(piece, bytes)?);
            Ok(())
        })?;
        let mut survey = Survey::default();
        let mut closed = Vec::new();
        for (path, mut thing) in things {
            let old = before.and_then(|receipt| receipt.things.get(&path));
            let on_host = layout.path(&path);
            if let (What::Dir { made }, Some(What::Dir { made: old })) =
                (&mut thing.what, old.map(|t| &t.what))
            {
                *made = *old;
            } else if let What::Dir { made } = &mut thing.what {
                *made = !on_host.is_dir();
            }
            let wanted = decide(&on_host, &thing, old, before)
                .with_context(|| format!("cannot lay down `{}`", on_host.display()))?;
            if wanted != Decision::Keep && !can_be_written(&on_host) {
                if path.starts_with("/usr/") {
                    survey.left_out.push(path);
                } else {
                    closed.push(on_host.display().to_string());
                }
                continue;
            }
            if wanted == Decision::Foreign {
                survey.foreign.push(path.clone());
            }
            if wanted != Decision::Keep {
                survey.write.insert(path.clone());
            }
            if let (
                What::File { was, sha256, .. },
                Some(What::File {
                    sha256: old,
                    was: older,
                    ..
                }),
            ) = (&mut thing.what, old.map(|t| &t.what))
            {
                // A killed run noted the versions before it already.
                was.clone_from(older);
                was.extend((old != sha256).then(|| old.clone()));
            }
            survey.things.insert(path, thing);
        }
        if let Some(first) = closed.first() {
            bail!(
                "`{first}` and {} more cannot be written: the file system is read-only; \
                 nothing was changed; make it writable, or mount one there",
                closed.len() - 1
            );
        }
        Ok(survey)
    }

    /// Puts everything in place that is to be written. The receipt must be on the disk.
    pub fn lay(&self, layout: &Layout, package: &Path) -> Result<()> {
        sweep(layout, &self.things);
        let write = |path: &str| self.write.contains(path);
        for (path, thing) in self.things.iter().filter(|(path, _)| write(path)) {
            if let What::Dir { .. } = thing.what {
                let look = Look::owned(thing.mode, Owner::ROOT);
                files::make_dir(&layout.path(path), look)?;
            }
        }
        payload::walk(package, &mut |piece, bytes| {
            if !write(&piece.path) {
                return Ok(());
            }
            let path = layout.path(&piece.path);
            match &piece.kind {
                Kind::Dir => Ok(()),
                Kind::File { .. } => {
                    let look = Look::owned(piece.mode, Owner::ROOT);
                    files::write_atomic_from(&path, bytes, look)
                }
                Kind::Link(target) => {
                    if std::fs::symlink_metadata(&path).is_ok_and(|m| m.is_file()) {
                        files::remove(&path)?;
                    }
                    files::make_link(&path, Path::new(target))
                }
            }
        })
    }
}

/// Takes away what `old` lists and `kept` does not name. Files that somebody edited stay where
/// `edits_too` does not say otherwise; what is left is returned. Folders go when we made them and
/// they are empty.
pub fn take_away(
    layout: &Layout,
    old: &BTreeMap<String, Thing>,
    kept: &BTreeMap<String, Thing>,
    edits_too: bool,
) -> Result<BTreeMap<String, Thing>> {
    sweep(layout, old);
    let mut left = BTreeMap::new();
    // Deepest first: `/a/b` sorts behind `/a`.
    for (path, thing) in old
        .iter()
        .rev()
        .filter(|(path, _)| !kept.contains_key(*path))
    {
        let on_host = layout.path(path);
        let stays = match &thing.what {
            What::Dir { made } => {
                let ours = *made && !files::remove_dir_if_empty(&on_host);
                ours && on_host.is_dir()
            }
            What::Link { target } => {
                if std::fs::read_link(&on_host).is_ok_and(|says| says == Path::new(target)) {
                    files::remove(&on_host)?;
                }
                false
            }
            What::File { conffile, .. } => match digest_of(&on_host)? {
                Some(digest) if *conffile && !edits_too && !thing.is_as_packed(&digest) => true,
                Some(_) => {
                    files::remove(&on_host)?;
                    false
                }
                None => false,
            },
        };
        if stays {
            left.insert(path.clone(), thing.clone());
        }
    }
    Ok(left)
}

/// What a killed run left under names that are not final.
fn sweep(layout: &Layout, things: &BTreeMap<String, Thing>) {
    let folders: BTreeSet<&Path> = things
        .keys()
        .filter_map(|p| Path::new(p).parent())
        .collect();
    for folder in folders {
        files::sweep_unfinished(&layout.path(folder));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Write,
    Keep,
    /// Somebody else's is there.
    Foreign,
}

fn decide(
    path: &Path,
    thing: &Thing,
    old: Option<&Thing>,
    before: Option<&Receipt>,
) -> Result<Decision> {
    use Decision::{Foreign, Keep, Write};
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => Some(meta),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(e.into()),
    };
    if let What::Dir { .. } = thing.what {
        // A link to a folder is the administrator's or the distribution's way to have it.
        if path.is_dir() {
            return Ok(Keep);
        }
        return match meta {
            None => Ok(Write),
            Some(_) => bail!("something that is not a folder is in the way"),
        };
    }
    let Some(meta) = meta else {
        return Ok(if was_deleted(thing, old, before) {
            Keep
        } else {
            Write
        });
    };
    if meta.is_dir() {
        bail!("a folder is in the way");
    }
    if let What::Link { target } = &thing.what {
        let same = std::fs::read_link(path).is_ok_and(|says| says == Path::new(target));
        return Ok(match (same, old) {
            (true, _) => Keep,
            (false, Some(_)) => Write,
            (false, None) => Foreign,
        });
    }
    let digest = digest_of(path)?;
    let same = |t: &Thing| digest.as_deref().is_some_and(|d| t.is_as_packed(d));
    let conffile = thing.is_conffile();
    if same(thing) {
        // Owner and mode of a file that people edit are theirs to change, too.
        let look = meta.mode() & 0o7777 == thing.mode && meta.uid() == 0 && meta.gid() == 0;
        let fine = look || conffile || !nix::unistd::geteuid().is_root();
        return Ok(if fine { Keep } else { Write });
    }
    Ok(match old {
        None => Foreign,
        Some(old) if conffile && !same(old) => Keep,
        Some(_) => Write,
    })
}

/// Did the administrator delete this file of an installation that was whole?
fn was_deleted(thing: &Thing, old: Option<&Thing>, before: Option<&Receipt>) -> bool {
    let installed = before.is_some_and(|r| r.version.is_some() && r.complete);
    let noted = old.is_some_and(|old| match &old.what {
        What::File { was, .. } => installed || !was.is_empty(),
        _ => false,
    });
    thing.is_conffile() && noted
}

/// SHA-256 of a file, in hexadecimal; `None` when there is none, or something else than a file.
fn digest_of(path: &Path) -> Result<Option<String>> {
    if !std::fs::symlink_metadata(path).is_ok_and(|m| m.is_file()) {
        return Ok(None);
    }
    let what = || format!("cannot read `{}`", path.display());
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC;
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .with_context(what)?;
    digest(&mut file).with_context(what).map(Some)
}

fn digest(bytes: &mut dyn Read) -> Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 64 << 10];
    loop {
        match bytes.read(&mut buffer)? {
            0 => break,
            n => hash.update(&buffer[..n]),
        }
    }
    Ok(crate::package::hex(&hash.finalize()))
}

/// Can something be put at `path`? Asked of the nearest folder above it that is there.
fn can_be_written(path: &Path) -> bool {
    let above: Option<PathBuf> = path
        .ancestors()
        .skip(1)
        .find(|p| p.is_dir())
        .map(Into::into);
    above.is_some_and(|dir| nix::unistd::access(&dir, AccessFlags::W_OK).is_ok())
}

fn folder(mode: u32) -> Thing {
    Thing {
        what: What::Dir { made: false },
        mode,
        owner: "root".into(),
        group: "root".into(),
    }
}

fn thing(piece: &Piece, bytes: &mut dyn Read) -> Result<Thing> {
    if piece.owner != "root" || piece.group != "root" {
        let Piece {
            path, owner, group, ..
        } = piece;
        bail!("`{path}` belongs to {owner}:{group} in the package: only root's can be laid down");
    }
    let what = match &piece.kind {
        Kind::Dir => What::Dir { made: false },
        Kind::Link(target) => What::Link {
            target: target.clone(),
        },
        Kind::File { size, conffile } => What::File {
            size: *size,
            sha256: digest(bytes)?,
            conffile: *conffile,
            was: Vec::new(),
        },
    };
    Ok(Thing {
        what,
        mode: piece.mode,
        owner: piece.owner.clone(),
        group: piece.group.clone(),
    })
}
