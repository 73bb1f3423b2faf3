//! What a .deb says of itself.

use super::ar;
use crate::package::payload::{self, Kind, Piece, Section};
use crate::package::{Arch, Format, Identity, gunzip};
use anyhow::{Context, Result, bail};
use std::collections::HashSet;
use std::fs::File;
use std::io::Read;

/// Largest control archive, packed and unpacked.
const CONTROL_LIMIT: usize = 4 << 20;
/// Largest control file.
const FIELDS_LIMIT: u64 = 64 << 10;

/// The control file's fields in order; a continued value keeps its line ends.
pub fn control_fields(file: &File) -> Result<Vec<(String, String)>> {
    match control_member(file, "control")? {
        Some(text) => parse(&text),
        None => bail!("control.tar.gz has no `control`"),
    }
}

/// One text of the control archive.
fn control_member(file: &File, wanted: &str) -> Result<Option<String>> {
    let Some(packed) = ar::member(file, "control.tar.gz", CONTROL_LIMIT)? else {
        bail!("no `control.tar.gz` inside (one in xz or zstd cannot be read here)");
    };
    let plain = gunzip(&packed, CONTROL_LIMIT).context("control.tar.gz")?;
    let mut archive = tar::Archive::new(plain.as_slice());
    for entry in archive.entries()? {
        let entry = entry.context("control.tar.gz")?;
        let name = entry.path_bytes();
        if name.strip_prefix(b"./").unwrap_or(&name) != wanted.as_bytes() {
            continue;
        }
        let mut text = String::new();
        entry.take(FIELDS_LIMIT + 1).read_to_string(&mut text)?;
        if text.len() as u64 > FIELDS_LIMIT {
            bail!("{wanted} file is larger than {FIELDS_LIMIT} bytes");
        }
        return Ok(Some(text));
    }
    Ok(None)
}

/// Every piece of the data archive.
pub fn walk(file: &File, each: &mut dyn FnMut(&Piece, &mut dyn Read) -> Result<()>) -> Result<()> {
    let conffiles = control_member(file, "conffiles")?.unwrap_or_default();
    let conffiles: HashSet<&str> = conffiles.lines().map(str::trim).collect();
    let Some((at, size)) = ar::find(file, "data.tar.gz")? else {
        bail!("no `data.tar.gz` inside (one in xz or zstd cannot be read here)");
    };
    let packed = Section::new(file, at, size);
    let mut archive = tar::Archive::new(flate2::read::MultiGzDecoder::new(packed));
    for entry in archive.entries()? {
        let mut entry = entry.context("data.tar.gz")?;
        let text = |bytes: &[u8]| Ok::<_, anyhow::Error>(std::str::from_utf8(bytes)?.to_owned());
        let Some(path) = payload::path_of(&text(&entry.path_bytes())?) else {
            continue;
        };
        let header = entry.header();
        let kind = match header.entry_type() {
            tar::EntryType::Directory => Kind::Dir,
            tar::EntryType::Regular => Kind::File {
                size: header.size()?,
                conffile: conffiles.contains(path.as_str()),
            },
            tar::EntryType::Symlink => {
                let target = entry.link_name_bytes().context("a link without target")?;
                Kind::Link(text(&target)?)
            }
            other => bail!("`{path}`: cannot lay down what is of type {other:?}"),
        };
        let name = |bytes: Option<&[u8]>| bytes.map(text).transpose();
        let piece = Piece {
            kind,
            mode: header.mode()? & 0o7777,
            owner: name(header.username_bytes())?.unwrap_or_default(),
            group: name(header.groupname_bytes())?.unwrap_or_default(),
            path,
        };
        each(&piece, &mut entry)?;
    }
    Ok(())
}

/// Name, version, architecture and size.
pub fn identify(file: &File) -> Result<Identity> {
    let fields = control_fields(file)?;
    let field = |name: &str| {
        fields
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    };
    let needed = |name: &str| field(name).with_context(|| format!("control file has no {name}"));
    let kib: u64 = match field("Installed-Size") {
        Some(text) => text.parse().context("Installed-Size")?,
        None => 0,
    };
    let arch_word = needed("Architecture")?.to_owned();
    Ok(Identity {
        format: Format::Deb,
        name: needed("Package")?.to_owned(),
        version: needed("Version")?.to_owned(),
        arch: Arch::ALL.into_iter().find(|a| a.deb() == arch_word),
        arch_word,
        installed: kib.checked_mul(1024).context("Installed-Size")?,
    })
}

fn parse(text: &str) -> Result<Vec<(String, String)>> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        if line.starts_with([' ', '\t']) {
            let Some((_, value)) = fields.last_mut() else {
                bail!("control file begins with a continued line");
            };
            value.push('\n');
            value.push_str(line.trim_start());
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.to_owned(), value.trim().to_owned()));
        } else if !line.trim().is_empty() {
            bail!("control file: not a field: `{line}`");
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::manifest::{Manifest, tests::SMALL};
    use crate::package::{Build, deb};
    use proptest::prelude::*;
    use std::io::Write;

    fn package() -> Vec<u8> {
        let build = Build {
            arch: Arch::Aarch64,
            label: "2.0.0-1",
            time: 0,
        };
        let manifest = Manifest::parse(SMALL, "".into()).unwrap();
        deb::write(&manifest, &build, std::path::Path::new("none")).unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Identity> {
        let mut file = tempfile::tempfile()?;
        file.write_all(bytes)?;
        identify(&file)
    }

    /// A package whose control archive is made of these bytes.
    fn with_control(plain: &[u8]) -> Vec<u8> {
        let packed = crate::package::gzip(plain).unwrap();
        ar::write(&[("control.tar.gz", packed.as_slice())], 0).unwrap()
    }

    #[test]
    fn how_much_at_the_limit_and_past_it() {
        let identity = read(&package()).unwrap();
        assert_eq!(
            (identity.arch_word.as_str(), identity.arch),
            ("arm64", Some(Arch::Aarch64))
        );
        let error = |n: usize| format!("{:#}", read(&with_control(&vec![0; n])).unwrap_err());
        assert!(error(CONTROL_LIMIT).contains("has no `control`"));
        assert!(error(CONTROL_LIMIT + 1).contains("unpacks to more"));
        let fields = |n: u64| {
            let mut archive = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(n);
            let text = format!("Package: {}\n", "x".repeat(n as usize - 10));
            archive
                .append_data(&mut header, "control", text.as_bytes())
                .unwrap();
            let archive = archive.into_inner().unwrap();
            format!("{:#}", read(&with_control(&archive)).unwrap_err())
        };
        assert!(fields(FIELDS_LIMIT).contains("has no Architecture"));
        assert!(fields(FIELDS_LIMIT + 1).contains("larger than"));
    }

    proptest! {
        #[test]
        fn no_bytes_bring_it_down(at in any::<prop::sample::Index>(), with: [u8; 4], cut: bool) {
            let mut bytes = package();
            let at = at.index(bytes.len() - 4);
            bytes[at..at + 4].copy_from_slice(&with);
            if cut {
                bytes.truncate(at);
            }
            let _ = read(&bytes);
        }
    }

    #[test]
    fn fields_and_continued_lines() {
        let fields = parse("A: 1\nDescription: s\n more\n .\n\n").unwrap();
        assert_eq!(fields[0], ("A".into(), "1".into()));
        assert_eq!(fields[1].1, "s\nmore\n.");
        assert!(parse(" x").is_err());
        assert!(parse("no colon").is_err());
    }
}
