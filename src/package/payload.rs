//! What a package file will put on a host, piece by piece, in one pass: no payload has to fit into
//! memory. The readers take what this project packs (gzip inside), and refuse what they do not know.

use super::{Format, deb, identify, rpm};
use anyhow::{Context, Result, bail};
use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Most pieces of one package.
const PIECE_LIMIT: usize = 10_000;
/// Longest path, and longest text of a link.
const PATH_LIMIT: usize = 1024;
/// Largest file.
const FILE_LIMIT: u64 = 1 << 30;

/// What a piece is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Dir,
    /// A file.
    File {
        /// Its bytes.
        size: u64,
        /// People edit it.
        conffile: bool,
    },
    /// A symbolic link with what it says.
    Link(String),
}

/// One thing that the package puts on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Absolute and plain.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner's name.
    pub owner: String,
    /// Group's name.
    pub group: String,
}

/// Hands every piece of the package at `path` to `each`, with a reader for its bytes. Every path is
/// checked first: absolute, plain, once.
pub fn walk(path: &Path, each: &mut dyn FnMut(&Piece, &mut dyn Read) -> Result<()>) -> Result<()> {
    let format = identify(path)?.format;
    let what = || format!("cannot read package `{}`", path.display());
    let file = File::open(path).with_context(what)?;
    let mut seen = HashSet::new();
    let mut checked = |piece: &Piece, bytes: &mut dyn Read| {
        check(piece)?;
        if !seen.insert(piece.path.clone()) {
            bail!("`{}` is in the package twice", piece.path);
        }
        if seen.len() > PIECE_LIMIT {
            bail!("more than {PIECE_LIMIT} files and folders in the package");
        }
        each(piece, bytes)
    };
    match format {
        Format::Deb => deb::walk(&file, &mut checked),
        Format::Rpm => rpm::walk(&file, &mut checked),
    }
    .with_context(what)
}

/// `./usr/bin/x` and `./usr/bin/` as the path on the host; `None` for the root itself.
pub(super) fn path_of(name: &str) -> Option<String> {
    let name = name.strip_prefix('.').unwrap_or(name);
    let name = name.trim_end_matches('/');
    (!name.is_empty()).then(|| {
        if name.starts_with('/') {
            name.to_owned()
        } else {
            format!("/{name}")
        }
    })
}

fn check(piece: &Piece) -> Result<()> {
    let Piece { path, mode, .. } = piece;
    let plain = |text: &str| text.len() <= PATH_LIMIT && !text.chars().any(char::is_control);
    let normal = plain(path)
        && path.strip_prefix('/').is_some_and(|rest| {
            rest.split('/')
                .all(|part| !part.is_empty() && part != "." && part != "..")
        });
    if !normal {
        bail!("not an absolute plain path in the package: `{path:?}`");
    }
    match &piece.kind {
        Kind::Link(target) if target.is_empty() || !plain(target) => {
            bail!("`{path}`: unusable link target")
        }
        Kind::File { size, .. } if *size > FILE_LIMIT => {
            bail!("`{path}` is larger than {FILE_LIMIT} bytes")
        }
        Kind::File { .. } | Kind::Dir if mode & 0o7022 != 0 => {
            bail!("`{path}`: mode {mode:o} lets others write or become somebody else")
        }
        _ => Ok(()),
    }
}

/// A part of a file as a reader.
pub(super) struct Section<'f> {
    file: &'f File,
    at: u64,
    left: u64,
}

impl<'f> Section<'f> {
    /// `size` bytes from `at`.
    pub(super) fn new(file: &'f File, at: u64, size: u64) -> Self {
        Section {
            file,
            at,
            left: size,
        }
    }

    /// Everything from `at`.
    pub(super) fn rest(file: &'f File, at: u64) -> Self {
        Section::new(file, at, u64::MAX)
    }
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let end = buffer.len().min(most);
        let got = self.file.read_at(&mut buffer[..end], self.at)?;
        self.at += got as u64;
        self.left -= got as u64;
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::manifest::Manifest;
    use crate::package::manifest::tests::SMALL;
    use crate::package::{Arch, Build};
    use proptest::prelude::*;

    const BUILD: Build<'static> = Build {
        arch: Arch::X86_64,
        label: "2.0.0-1",
        time: 0,
    };

    /// A package of either format with a folder, a file, a file that people edit and a link.
    fn package(format: Format) -> (tempfile::TempDir, std::path::PathBuf) {
        let base = tempfile::tempdir().unwrap();
        std::fs::write(base.path().join("bin"), vec![7u8; 100_001]).unwrap();
        std::fs::write(base.path().join("conf"), "a = 1\n").unwrap();
        let text = format!(
            "{SMALL}\n[[dir]]\npath='/opt/m'\n[[file]]\nsource='@binary'\npath='/opt/m/b'\nmode=0o755\n\
             [[file]]\nsource='conf'\npath='/etc/m.conf'\nmode=0o644\nconffile=true\n\
             [[link]]\npath='/usr/bin/b'\ntarget='/opt/m/b'\n"
        );
        let manifest = Manifest::parse(&text, base.path().to_owned()).unwrap();
        let binary = base.path().join("bin");
        let bytes = match format {
            Format::Deb => deb::write(&manifest, &BUILD, &binary),
            Format::Rpm => rpm::write(&manifest, &BUILD, &binary),
        };
        let path = base.path().join("package");
        std::fs::write(&path, bytes.unwrap()).unwrap();
        (base, path)
    }

    type Found = Vec<(Piece, Vec<u8>)>;

    fn all(path: &Path) -> Result<Found> {
        let mut found = Vec::new();
        walk(path, &mut |piece, reader| {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes)?;
            found.push((piece.clone(), bytes));
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn both_formats_say_the_same() {
        for format in [Format::Deb, Format::Rpm] {
            let (_base, path) = package(format);
            let found = all(&path).unwrap();
            let piece = |path: &str| {
                let hit = found.iter().find(|(p, _)| p.path == path);
                hit.unwrap_or_else(|| panic!("{format:?}: no {path}: {found:?}"))
            };
            assert_eq!(piece("/opt/m").0.kind, Kind::Dir, "{format:?}");
            let (binary, bytes) = piece("/opt/m/b");
            let file = |size, conffile| Kind::File { size, conffile };
            assert_eq!((&binary.kind, binary.mode), (&file(100_001, false), 0o755));
            assert!(bytes.len() == 100_001 && bytes.iter().all(|b| *b == 7));
            let (conf, bytes) = piece("/etc/m.conf");
            assert_eq!((&conf.kind, conf.mode), (&file(6, true), 0o644));
            assert_eq!(bytes, b"a = 1\n");
            assert_eq!((conf.owner.as_str(), conf.group.as_str()), ("root", "root"));
            assert_eq!(piece("/usr/bin/b").0.kind, Kind::Link("/opt/m/b".into()));
        }
    }

    #[test]
    fn hostile_names_are_refused() {
        let piece = |path: &str, kind, mode| Piece {
            path: path.into(),
            kind,
            mode,
            owner: "root".into(),
            group: "root".into(),
        };
        assert!(check(&piece("/a/b", Kind::Dir, 0o755)).is_ok());
        for path in ["a", "/", "/a/../b", "/a//b", "/./a", "/a\nb", ""] {
            assert!(check(&piece(path, Kind::Dir, 0o755)).is_err(), "{path:?}");
        }
        for mode in [0o4755, 0o2755, 0o777, 0o775] {
            assert!(check(&piece("/a", Kind::Dir, mode)).is_err(), "{mode:o}");
        }
        assert!(check(&piece("/a", Kind::Link(String::new()), 0o777)).is_err());
        assert_eq!(path_of("./"), None);
        assert_eq!(path_of("./usr/bin/").as_deref(), Some("/usr/bin"));
        assert_eq!(path_of("./../x").as_deref(), Some("/../x"));
    }

    proptest! {
        #[test]
        fn no_bytes_bring_it_down(
            rpm: bool, at in any::<prop::sample::Index>(), with: [u8; 4], cut: bool
        ) {
            let (_base, path) = package(if rpm { Format::Rpm } else { Format::Deb });
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at.index(bytes.len() - 4);
            bytes[at..at + 4].copy_from_slice(&with);
            if cut {
                bytes.truncate(at);
            }
            std::fs::write(&path, &bytes).unwrap();
            let _ = all(&path);
        }
    }
}
