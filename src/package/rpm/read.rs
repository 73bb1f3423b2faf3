//! What an .rpm says of itself.

use super::header::{ENTRY, INT32, MAGIC, STRING, STRING_ARRAY};
use super::{FLAG_CONFIG, LEAD, LEAD_MAGIC, cpio, tags};
use crate::package::payload::{self, Kind, Piece, Section};
use crate::package::{Arch, Format, Identity};
use anyhow::{Context, Result, bail};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;

/// Most index entries and most data that are read of one header.
const ENTRY_LIMIT: usize = 4096;
const DATA_LIMIT: usize = 16 << 20;

/// Every piece of the payload: names and bytes out of the archive, flags and owners out of the
/// header, which has them in the same order.
pub fn walk(file: &File, each: &mut dyn FnMut(&Piece, &mut dyn Read) -> Result<()>) -> Result<()> {
    let main = main_header(file)?;
    let compressor = main.text(tags::PAYLOAD_COMPRESSOR).unwrap_or_default();
    if compressor != "gzip" {
        bail!("the payload is packed with `{compressor}`; only gzip can be read here");
    }
    let known = main.files()?;
    let packed = Section::rest(file, main.end);
    let mut archive = BufReader::new(flate2::read::MultiGzDecoder::new(packed));
    while let Some(member) = cpio::next(&mut archive)? {
        let Some(path) = payload::path_of(&member.name) else {
            cpio::skip(&mut archive, member.size)?;
            continue;
        };
        let about = known
            .get(&path)
            .with_context(|| format!("`{path}` is not in the header"))?;
        let mut bytes = archive.by_ref().take(member.size);
        let kind = match member.mode & nix::libc::S_IFMT {
            nix::libc::S_IFDIR => Kind::Dir,
            nix::libc::S_IFREG => Kind::File {
                size: member.size,
                conffile: about.flags & FLAG_CONFIG != 0,
            },
            nix::libc::S_IFLNK if member.size <= 4096 => {
                let mut target = String::new();
                bytes.read_to_string(&mut target)?;
                Kind::Link(target)
            }
            other => bail!("`{path}`: cannot lay down what is of type {other:o}"),
        };
        let piece = Piece {
            kind,
            mode: member.mode & 0o7777,
            owner: about.owner.clone(),
            group: about.group.clone(),
            path,
        };
        each(&piece, &mut bytes)?;
        let unread = bytes.limit();
        if std::io::copy(&mut bytes, &mut std::io::sink())? != unread {
            bail!("the payload is cut off");
        }
        cpio::skip(&mut archive, cpio::padding(member.size))?;
    }
    Ok(())
}

fn main_header(file: &File) -> Result<Store> {
    let mut lead = [0u8; LEAD];
    file.read_exact_at(&mut lead, 0).context("cut off")?;
    if !lead.starts_with(&LEAD_MAGIC) {
        bail!("no rpm lead");
    }
    let signature = Store::read(file, LEAD as u64).context("signature header")?;
    Store::read(file, signature.end.next_multiple_of(8)).context("main header")
}

/// Name, version, architecture and size.
pub fn identify(file: &File) -> Result<Identity> {
    let main = main_header(file)?;
    let text = |tag, name| {
        main.text(tag)
            .with_context(|| format!("main header has no {name}"))
    };
    let version = text(tags::VERSION, "version")?;
    let release = text(tags::RELEASE, "release")?;
    let arch_word = text(tags::ARCH, "architecture")?;
    Ok(Identity {
        format: Format::Rpm,
        name: text(tags::NAME, "name")?,
        version: format!("{version}-{release}"),
        arch: Arch::ALL.into_iter().find(|a| a.rpm() == arch_word),
        arch_word,
        installed: u64::from(main.number(tags::SIZE).unwrap_or(0)),
    })
}

struct Store {
    index: Vec<[u32; 4]>,
    data: Vec<u8>,
    /// Where in the file it ends.
    end: u64,
}

impl Store {
    fn read(file: &File, at: u64) -> Result<Store> {
        let mut intro = [0u8; 16];
        file.read_exact_at(&mut intro, at).context("cut off")?;
        if !intro.starts_with(&MAGIC) {
            bail!("no header at byte {at}");
        }
        let word = |i: usize| be(&intro, i).map(|n| n as usize).context("cut off");
        let (entries, size) = (word(8)?, word(12)?);
        if entries > ENTRY_LIMIT || size > DATA_LIMIT {
            bail!("{entries} entries and {size} bytes are more than are read here");
        }
        let mut index = vec![0u8; entries * ENTRY];
        file.read_exact_at(&mut index, at + 16).context("cut off")?;
        let mut data = vec![0u8; size];
        let data_at = at + 16 + index.len() as u64;
        file.read_exact_at(&mut data, data_at).context("cut off")?;
        let entry = |e: &[u8]| Some([be(e, 0)?, be(e, 4)?, be(e, 8)?, be(e, 12)?]);
        Ok(Store {
            index: index.chunks_exact(ENTRY).filter_map(entry).collect(),
            data,
            end: data_at + size as u64,
        })
    }

    fn at(&self, tag: u32, kind: u32) -> Option<&[u8]> {
        let entry = self.index.iter().find(|e| e[0] == tag && e[1] == kind)?;
        self.data.get(entry[2] as usize..)
    }

    fn text(&self, tag: u32) -> Option<String> {
        let bytes = self.at(tag, STRING)?;
        let end = bytes.iter().take(256).position(|b| *b == 0)?;
        String::from_utf8(bytes.get(..end)?.to_vec()).ok()
    }

    fn number(&self, tag: u32) -> Option<u32> {
        be(self.at(tag, INT32)?, 0)
    }

    /// What the header says of each file, by path.
    fn files(&self) -> Result<HashMap<String, About>> {
        let texts = |tag| self.texts(tag).with_context(|| format!("header tag {tag}"));
        let numbers = |tag| {
            self.numbers(tag)
                .with_context(|| format!("header tag {tag}"))
        };
        let (names, folders) = (texts(tags::BASE_NAMES)?, texts(tags::FOLDER_NAMES)?);
        let (owners, groups) = (texts(tags::FILE_OWNERS)?, texts(tags::FILE_GROUPS)?);
        let (flags, of) = (numbers(tags::FILE_FLAGS)?, numbers(tags::FOLDER_INDEXES)?);
        let each = names.iter().zip(&of).zip(flags).zip(owners).zip(groups);
        each.map(|((((name, of), flags), owner), group)| {
            let folder = folders.get(*of as usize).context("a file in no folder")?;
            let about = About {
                flags,
                owner,
                group,
            };
            Ok((format!("{folder}{name}"), about))
        })
        .collect()
    }

    fn texts(&self, tag: u32) -> Option<Vec<String>> {
        let data = self.at(tag, STRING_ARRAY)?;
        let texts = data.split(|b| *b == 0).take(self.count(tag)?);
        texts.map(|t| String::from_utf8(t.to_vec()).ok()).collect()
    }

    fn numbers(&self, tag: u32) -> Option<Vec<u32>> {
        let data = self.at(tag, INT32)?;
        (0..self.count(tag)?).map(|n| be(data, n * 4)).collect()
    }

    /// How many values; never more than there is data for.
    fn count(&self, tag: u32) -> Option<usize> {
        let entry = self.index.iter().find(|e| e[0] == tag)?;
        Some(entry[3] as usize).filter(|n| *n <= self.data.len())
    }
}

/// What the header says of a file.
struct About {
    flags: u32,
    owner: String,
    group: String,
}

fn be(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(word.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::manifest::{Manifest, tests::SMALL};
    use crate::package::{Build, rpm};
    use proptest::prelude::*;
    use std::io::Write;

    fn package() -> Vec<u8> {
        let build = Build {
            arch: Arch::X86_64,
            label: "2.0.0-1",
            time: 0,
        };
        let manifest = Manifest::parse(SMALL, "".into()).unwrap();
        rpm::write(&manifest, &build, std::path::Path::new("none")).unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Identity> {
        let mut file = tempfile::tempfile()?;
        file.write_all(bytes)?;
        identify(&file)
    }

    #[test]
    fn how_much_at_the_limit_and_past_it() {
        let good = package();
        assert_eq!(read(&good).unwrap().version, "2.0.0-1");
        for (at, limit) in [(8, ENTRY_LIMIT), (12, DATA_LIMIT)] {
            let error = |n: usize| {
                let mut bad = good.clone();
                bad[LEAD + at..LEAD + at + 4].copy_from_slice(&(n as u32).to_be_bytes());
                format!("{:#}", read(&bad).unwrap_err())
            };
            assert!(error(limit).contains("cut off"), "{}", error(limit));
            assert!(error(limit + 1).contains("more than are read"));
            assert!(error(u32::MAX as usize).contains("more than are read"));
        }
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
}
