//! A .deb or an .rpm: described by a manifest, written by our own code, read back, versions compared.
//!
//! Writing is reproducible: the same inputs and the same time give the same bytes on any host.

pub mod changes;
pub mod contents;
pub mod deb;
pub mod manifest;
pub mod md5;
pub mod payload;
pub mod rpm;
pub mod version;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The packages' own revision, the part after the dash (`2.0.0-1`).
pub const RELEASE: &str = "1";

/// What [`label`] says when nothing else is asked for: the crate's version and [`RELEASE`].
pub fn label() -> String {
    format!("{}-{RELEASE}", env!("CARGO_PKG_VERSION"))
}

/// A processor the product is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// 64-bit ARM.
    Aarch64,
    /// 64-bit x86.
    #[serde(rename = "x86_64")]
    X86_64,
}

impl Arch {
    /// All of them.
    pub const ALL: [Arch; 2] = [Arch::Aarch64, Arch::X86_64];

    /// dpkg's word.
    pub fn deb(self) -> &'static str {
        match self {
            Arch::Aarch64 => "arm64",
            Arch::X86_64 => "amd64",
        }
    }

    /// rpm's word, which is the kernel's as well.
    pub fn rpm(self) -> &'static str {
        match self {
            Arch::Aarch64 => "aarch64",
            Arch::X86_64 => "x86_64",
        }
    }

    /// The words `uname -m` may say for it.
    pub fn uname(self) -> &'static [&'static str] {
        match self {
            Arch::Aarch64 => &["aarch64", "arm64"],
            Arch::X86_64 => &["x86_64", "amd64"],
        }
    }

    /// The architecture this binary was built for.
    pub fn own() -> Option<Arch> {
        Arch::from_word(std::env::consts::ARCH)
    }

    /// From any of the words above.
    pub fn from_word(word: &str) -> Option<Arch> {
        Arch::ALL
            .into_iter()
            .find(|a| a.deb() == word || a.uname().contains(&word))
    }
}

impl std::fmt::Display for Arch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.rpm())
    }
}

impl std::str::FromStr for Arch {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<Self> {
        Arch::from_word(word)
            .with_context(|| format!("unknown architecture `{word}`: x86_64 or aarch64"))
    }
}

/// The two package formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For dpkg.
    Deb,
    /// For rpm.
    Rpm,
}

/// What is the same for every package of one build.
#[derive(Debug, Clone)]
pub struct Build<'a> {
    /// For which processor.
    pub arch: Arch,
    /// Version with revision, `2.0.0-1`.
    pub label: &'a str,
    /// Seconds since 1970: the time of every file and of the build itself.
    pub time: u32,
}

impl Build<'_> {
    /// Version and revision apart: (`2.0.0`, `1`).
    pub fn version_and_release(&self) -> Result<(&str, &str)> {
        version::Version::parse(self.label).context("version label")?;
        match self.label.split_once('-') {
            Some((version, release)) if !version.is_empty() && !release.is_empty() => {
                if release.contains('-') || self.label.contains(':') {
                    bail!("version label `{}`: one dash, no colon", self.label);
                }
                Ok((version, release))
            }
            _ => bail!("version label `{}`: want VERSION-REVISION", self.label),
        }
    }
}

/// What a package file says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// .deb or .rpm.
    pub format: Format,
    /// Package name.
    pub name: String,
    /// Version with revision, as its own format writes it (`2.0.0-1` in both of ours).
    pub version: String,
    /// `None` when it is for every processor, or for one we do not build for.
    pub arch: Option<Arch>,
    /// The word the package itself uses for its architecture.
    pub arch_word: String,
    /// Bytes it takes on disk when installed, as it says itself.
    pub installed: u64,
}

/// Reads what the package at `path` says of itself; the format is found by its first bytes.
pub fn identify(path: &Path) -> Result<Identity> {
    let what = || format!("cannot read package `{}`", path.display());
    let file = File::open(path).with_context(what)?;
    if !file.metadata().with_context(what)?.is_file() {
        return Err(anyhow::anyhow!("not a regular file")).with_context(what);
    }
    let mut magic = [0u8; 8];
    let got = file.read_at(&mut magic, 0).with_context(what)?;
    match &magic[..got] {
        m if m == deb::AR_MAGIC => deb::identify(&file),
        m if m.starts_with(&rpm::LEAD_MAGIC) => rpm::identify(&file),
        _ => Err(anyhow::anyhow!("neither a .deb nor an .rpm")),
    }
    .with_context(what)
}

/// gzip with a header that says nothing of time, name or host.
fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = flate2::GzBuilder::new()
        .operating_system(255)
        .write(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// Unpacks gzip, for at most `limit` bytes.
pub fn gunzip(bytes: &[u8], limit: usize) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes)
        .take(limit as u64 + 1)
        .read_to_end(&mut plain)?;
    if plain.len() > limit {
        bail!("unpacks to more than {limit} bytes");
    }
    Ok(plain)
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architectures_by_any_of_their_words() {
        for word in ["x86_64", "amd64"] {
            assert_eq!(word.parse::<Arch>().unwrap(), Arch::X86_64);
        }
        for word in ["aarch64", "arm64"] {
            assert_eq!(word.parse::<Arch>().unwrap(), Arch::Aarch64);
        }
        assert!("i686".parse::<Arch>().is_err());
        assert_eq!(serde_json::to_string(&Arch::X86_64).unwrap(), "\"x86_64\"");
        assert_eq!(
            serde_json::to_string(&Arch::Aarch64).unwrap(),
            "\"aarch64\""
        );
    }

    #[test]
    fn gzip_is_bounded_when_read() {
        let packed = gzip(&[7u8; 1000]).unwrap();
        assert_eq!(&packed[4..8], [0, 0, 0, 0], "no time in the header");
        assert_eq!(gunzip(&packed, 1000).unwrap().len(), 1000);
        assert!(gunzip(&packed, 999).is_err());
    }

    #[test]
    fn labels_have_one_dash() {
        let build = |label| Build {
            arch: Arch::X86_64,
            label,
            time: 0,
        };
        assert_eq!(
            build("2.0.0-1").version_and_release().unwrap(),
            ("2.0.0", "1")
        );
        for bad in ["2.0.0", "2.0.0-", "-1", "2.0-0-1", "1:2.0-1", "2.0 -1", ""] {
            assert!(build(bad).version_and_release().is_err(), "{bad}");
        }
        assert!(build(&label()).version_and_release().is_ok());
    }
}
