//! What an .rpm says of itself.

use super::header::{ENTRY, INT32, MAGIC, STRING};
use super::{LEAD, LEAD_MAGIC, tags};
use crate::package::{Arch, Format, Identity};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Most index entries and most data that are read of one header.
const ENTRY_LIMIT: usize = 4096;
const DATA_LIMIT: usize = 16 << 20;

/// Name, version, architecture and size.
pub fn identify(file: &File) -> Result<Identity> {
    let mut lead = [0u8; LEAD];
    file.read_exact_at(&mut lead, 0).context("cut off")?;
    if !lead.starts_with(&LEAD_MAGIC) {
        bail!("no rpm lead");
    }
    let signature = Store::read(file, LEAD as u64).context("signature header")?;
    let main = Store::read(file, signature.end.next_multiple_of(8)).context("main header")?;
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
