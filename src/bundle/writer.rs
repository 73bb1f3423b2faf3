//! Building a bundle: stub, runners, packages, documents, index, trailer.

use super::index::{self, Sha256Hex, is_name};
use super::kit::KitRule;
use super::stub::{self, Runner, Summing};
use super::trailer::{self, Trailer};
use super::{ALIGN, BundleError, Entry, Header, Kind, Result, SIGNATURE_PLACE, STUB_SIZE, aligned};
use crate::base::order;
use crate::package::version::Version;
use crate::package::{Arch, Format, Identity};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// One file to be packed.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where it is.
    pub path: PathBuf,
    /// What it is called inside.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// For which processor.
    pub arch: Option<Arch>,
    /// What a package says of itself: name, version, installed bytes.
    pub package: Option<(String, String, u64)>,
    /// When a kit is run.
    pub kit: Option<KitRule>,
}

impl Source {
    /// A runner for one processor.
    pub fn runner(arch: Arch, path: &Path) -> Self {
        Source {
            path: path.to_owned(),
            name: format!("omsagent.{arch}"),
            kind: Kind::Runner,
            arch: Some(arch),
            package: None,
            kit: None,
        }
    }

    /// A package, under its file name.
    pub fn package(path: &Path, identity: Identity) -> Result<Self> {
        Ok(Source {
            path: path.to_owned(),
            name: file_name(path)?,
            kind: match identity.format {
                Format::Deb => Kind::Deb,
                Format::Rpm => Kind::Rpm,
            },
            arch: identity.arch,
            package: Some((identity.name, identity.version, identity.installed)),
            kit: None,
        })
    }

    /// A licence or a list of parts, under its file name.
    pub fn document(path: &Path, kind: Kind) -> Result<Self> {
        Ok(Source {
            path: path.to_owned(),
            name: file_name(path)?,
            kind,
            arch: None,
            package: None,
            kit: None,
        })
    }

    /// A kit, under its file name.
    pub fn kit(path: &Path, rule: KitRule) -> Result<Self> {
        Ok(Source {
            kit: Some(rule),
            ..Source::document(path, Kind::Kit)?
        })
    }
}

/// What a bundle shall be made of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// `omsagent`.
    pub product: String,
    /// `2.0.0-1`.
    pub release: String,
    /// Runners first; the order of the others is kept.
    pub members: Vec<Source>,
    /// Texts for `--source-references`.
    pub sources: Vec<String>,
}

/// Writes the bundle to `out`, which is made anew with mode 0755, and reads it again.
pub fn write(plan: &Plan, out: &Path) -> Result<()> {
    let failed = failed(out);
    let release = Version::parse(&plan.release).map_err(|e| BundleError::Build(e.to_string()))?;
    let file = put_beside(out)?;

    let mut members = plan.members.clone();
    order::by_key(&mut members, |m| m.kind != Kind::Runner);
    let mut entries = vec![stub_entry(&[])];
    let mut runners = Vec::new();
    let mut offset = STUB_SIZE;
    for member in &members {
        let (entry, summing) = copy(member, file.as_file(), offset, out)?;
        let (padded, sums) = summing.finish();
        if let (Kind::Runner, Some(arch)) = (entry.kind, entry.arch) {
            runners.push(Runner {
                name: entry.name.clone(),
                arch,
                offset,
                padded,
                sums,
            });
        }
        offset = offset
            .checked_add(entry.size)
            .and_then(aligned)
            .ok_or_else(|| BundleError::Build("too large".to_owned()))?;
        entries.push(entry);
    }

    // The stub holds the index's length and the index the stub's hash: a hash is always 64
    // digits, so the length is known before the hash is.
    let sources = plan.sources.clone();
    let header = Header::new(&plan.product, &plan.release, entries.len(), sources);
    let index_len = index::write(&header, &entries)?.len() as u64;
    let total = trailer::total(offset, index_len);
    let stub = stub::fill(&release, total, (offset, index_len), &runners)?;
    entries[0] = stub_entry(&stub);
    let index = index::write(&header, &entries)?;
    index::parse(&index, offset)?;
    let trailer = Trailer {
        index_offset: offset,
        index_len,
        index_sha256: Sha256::digest(&index).into(),
        signature_len: 0,
    };
    let mut end = index;
    end.resize(end.len() + SIGNATURE_PLACE as usize, 0);
    end.extend_from_slice(&trailer.bytes());
    let to = file.as_file();
    to.write_all_at(&stub, 0).map_err(&failed)?;
    to.write_all_at(&end, offset).map_err(&failed)?;
    let bundle = super::Bundle::open(to.try_clone().map_err(failed)?)?;
    bundle.verify(&mut |_, _| {})?;
    keep(file, out)
}

/// A new file in the folder of `out`, gone again unless [`keep`] is called.
pub(super) fn put_beside(out: &Path) -> Result<NamedTempFile> {
    let folder = out.parent().filter(|p| !p.as_os_str().is_empty());
    tempfile::Builder::new()
        .prefix(".bundle.")
        .tempfile_in(folder.unwrap_or(Path::new(".")))
        .map_err(failed(out))
}

/// Makes it `out`, with mode 0755.
pub(super) fn keep(file: NamedTempFile, out: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let to = file.as_file();
    to.set_permissions(std::fs::Permissions::from_mode(0o755))
        .map_err(failed(out))?;
    to.sync_all().map_err(failed(out))?;
    file.persist(out).map_err(|e| failed(out)(e.error))?;
    Ok(())
}

/// What to say of a file that could not be written.
pub(super) fn failed(path: &Path) -> impl Fn(std::io::Error) -> BundleError {
    move |source| BundleError::Write {
        path: path.to_owned(),
        source,
    }
}

/// Hands on the file's bytes, a piece at a time.
pub(super) fn each_piece(path: &Path, mut each: impl FnMut(&[u8])) -> Result<()> {
    let unreadable = |source| BundleError::Read {
        what: format!("`{}`", path.display()),
        source,
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        match std::io::Read::read(&mut file, &mut buffer).map_err(unreadable)? {
            0 => return Ok(()),
            n => each(&buffer[..n]),
        }
    }
}

fn stub_entry(bytes: &[u8]) -> Entry {
    Entry {
        name: "stub.sh".to_owned(),
        offset: 0,
        size: STUB_SIZE,
        sha256: Sha256Hex::of(&Sha256::digest(bytes)),
        kind: Kind::Stub,
        arch: None,
        pkg: None,
        version: None,
        installed: None,
        kit: None,
    }
}

fn copy(member: &Source, to: &File, offset: u64, out: &Path) -> Result<(Entry, Summing)> {
    let unreadable = |source| BundleError::Read {
        what: format!("`{}`", member.path.display()),
        source,
    };
    let mut from = File::open(&member.path).map_err(unreadable)?;
    let (mut hash, mut summing) = (Sha256::new(), Summing::new());
    let mut buffer = vec![0u8; 1 << 20];
    let mut size = 0u64;
    loop {
        let n = std::io::Read::read(&mut from, &mut buffer).map_err(unreadable)?;
        let bytes = &buffer[..n];
        if n == 0 {
            break;
        }
        hash.update(bytes);
        summing.update(bytes);
        to.write_all_at(bytes, offset + size)
            .map_err(|source| BundleError::Write {
                path: out.to_owned(),
                source,
            })?;
        size += n as u64;
    }
    let package = member.package.clone();
    let (pkg, version, installed) = match package {
        Some((pkg, version, installed)) => (Some(pkg), Some(version), Some(installed)),
        None => (None, None, None),
    };
    let entry = Entry {
        name: member.name.clone(),
        offset,
        size,
        sha256: Sha256Hex::of(&hash.finalize()),
        kind: member.kind,
        arch: member.arch,
        pkg,
        version,
        installed,
        kit: member.kit.clone(),
    };
    Ok((entry, summing))
}

pub(super) fn file_name(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
    if !is_name(name) {
        let problem = format!("`{}`: unusable file name", path.display());
        return Err(BundleError::Build(problem));
    }
    Ok(name.to_owned())
}

/// Writes `<bundle without .sh>.sha256sums` beside the bundle, one line as sha256sum(1) writes it
/// (bundle.md 1.1, "Sidecar").
pub fn write_sums(bundle: &Path) -> Result<PathBuf> {
    let name = file_name(bundle)?;
    let path = bundle.with_file_name(format!(
        "{}.sha256sums",
        name.strip_suffix(".sh").unwrap_or(&name)
    ));
    let mut hash = Sha256::new();
    each_piece(bundle, |bytes| hash.update(bytes))?;
    let failed = failed(&path);
    let line = format!("{}  {name}\n", Sha256Hex::of(&hash.finalize()).as_str());
    let mut sums = File::create(&path).map_err(&failed)?;
    sums.write_all(line.as_bytes()).map_err(&failed)?;
    drop(failed);
    Ok(path)
}

const _: () = assert!(STUB_SIZE.is_multiple_of(ALIGN));
