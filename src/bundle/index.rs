//! The index: UTF-8 JSON lines, first the header, then one line per entry. No I/O here.

use super::kit::KitRule;
use super::{ALIGN, BundleError, ENTRY_LIMIT, INDEX_LIMIT, NAME_LIMIT, Result, STUB_SIZE, aligned};
use crate::package::Arch;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// The word every header line carries.
const FORMAT: &str = "OMSB";
/// Longest free text of the header, and most of them.
const TEXT_LIMIT: usize = 256;
const SOURCE_LIMIT: usize = 64;

/// What a member of the bundle is. A word that is not listed makes the bundle unreadable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A package for dpkg.
    Deb,
    /// A provider bundle, run when its rule fits.
    Kit,
    /// A licence text.
    Licence,
    /// A package for rpm.
    Rpm,
    /// A program that does the bundle's work.
    Runner,
    /// A list of what the programs were made of.
    Sbom,
    /// The shell script at the beginning.
    Stub,
}

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// `OMSB`.
    pub format: String,
    /// The format's version: 1.
    pub version: u16,
    /// What is bundled: `omsagent`.
    pub product: String,
    /// Its version with revision: `2.0.0-1`.
    pub release: String,
    /// How many lines follow.
    pub entries: usize,
    /// One `repository: commit` text each (`--source-references`, bundle.md 1.2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
}

impl Header {
    /// The header of a bundle with `entries` members.
    pub fn new(product: &str, release: &str, entries: usize, sources: Vec<String>) -> Self {
        Header {
            format: FORMAT.to_owned(),
            version: super::trailer::VERSION,
            product: product.to_owned(),
            release: release.to_owned(),
            entries,
            sources,
        }
    }
}

/// One member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// File name: letters, digits and `._+~-`, not longer than 128 bytes.
    pub name: String,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its bytes, without the padding after them.
    pub size: u64,
    /// Of exactly those bytes, in lower-case hexadecimal.
    pub sha256: Sha256Hex,
    /// What it is.
    pub kind: Kind,
    /// For which processor, if for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<Arch>,
    /// A package's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pkg: Option<String>,
    /// A package's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Bytes a package takes on disk when installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<u64>,
    /// When a kit is run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kit: Option<KitRule>,
}

/// A SHA-256 digest in hexadecimal, 64 lower-case digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256Hex(String);

impl Sha256Hex {
    /// The text for a digest.
    pub fn of(digest: &[u8]) -> Self {
        use std::fmt::Write;
        let text = digest.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        Sha256Hex(text)
    }

    /// The 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Sha256Hex {
    type Error = &'static str;

    fn try_from(text: String) -> std::result::Result<Self, Self::Error> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 64 && text.bytes().all(digit) {
            Ok(Sha256Hex(text))
        } else {
            Err("a SHA-256 is 64 lower-case hexadecimal digits")
        }
    }
}

impl From<Sha256Hex> for String {
    fn from(hex: Sha256Hex) -> String {
        hex.0
    }
}

/// The bytes of an index.
pub fn write(header: &Header, entries: &[Entry]) -> Result<Vec<u8>> {
    let build = |e: serde_json::Error| BundleError::Build(format!("index: {e}"));
    let mut bytes = serde_json::to_vec(header).map_err(build)?;
    bytes.push(b'\n');
    for entry in entries {
        serde_json::to_writer(&mut bytes, entry).map_err(build)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// Reads an index that begins at byte `index_offset` of its bundle, and checks every rule that
/// can be checked without the bundle's other bytes.
pub fn parse(bytes: &[u8], index_offset: u64) -> Result<(Header, Vec<Entry>)> {
    if bytes.len() as u64 > INDEX_LIMIT {
        return Err(layout(format!("index larger than {INDEX_LIMIT} bytes")));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| layout("index is not UTF-8"))?;
    let text = text
        .strip_suffix('\n')
        .ok_or_else(|| layout("last line of the index is cut off"))?;
    let mut lines = text.split('\n');
    let header = lines.next().unwrap_or("");
    let header: Header = serde_json::from_slice(header.as_bytes())
        .map_err(|e| layout(format!("index header: {e}")))?;
    check_header(&header)?;
    let lines: Vec<&str> = lines.take(ENTRY_LIMIT + 1).collect();
    if lines.len() > ENTRY_LIMIT {
        return Err(layout(format!("more than {ENTRY_LIMIT} entries")));
    }
    if lines.len() != header.entries {
        return Err(layout(format!(
            "index has {} entries and says {}",
            lines.len(),
            header.entries
        )));
    }
    let mut entries = Vec::with_capacity(lines.len());
    for (number, line) in lines.iter().enumerate() {
        let entry: Entry = serde_json::from_slice(line.as_bytes())
            .map_err(|e| layout(format!("index entry {number}: {e}")))?;
        entries.push(entry);
    }
    check_entries(&entries, index_offset)?;
    check_release(&header, &entries)?;
    Ok((header, entries))
}

fn check_header(header: &Header) -> Result<()> {
    if header.format != FORMAT {
        return Err(layout("index header: not this format"));
    }
    if header.version != super::trailer::VERSION {
        return Err(BundleError::Version(header.version));
    }
    if !is_name(&header.product) || !is_name(&header.release) {
        return Err(layout("index header: unusable product or release"));
    }
    let plain = |s: &String| s.len() <= TEXT_LIMIT && !s.contains(char::is_control);
    if header.sources.len() > SOURCE_LIMIT || !header.sources.iter().all(plain) {
        return Err(layout("index header: unusable source references"));
    }
    Ok(())
}

/// Stub first and alone, at least one runner, each entry right behind the one before, the index
/// right behind the last; names usable and unique; each kind with the fields it needs.
fn check_entries(entries: &[Entry], index_offset: u64) -> Result<()> {
    let mut names = HashSet::new();
    let mut runners = HashSet::new();
    let mut expected = Some(0);
    for (number, entry) in entries.iter().enumerate() {
        if !is_name(&entry.name) {
            return Err(BundleError::Entry {
                name: format!("number {number}"),
                problem: "unusable name".to_owned(),
            });
        }
        let wrong = |problem: &str| BundleError::Entry {
            name: entry.name.clone(),
            problem: problem.to_owned(),
        };
        if !names.insert(&entry.name) {
            return Err(wrong("listed twice"));
        }
        if (entry.kind == Kind::Stub) != (number == 0) {
            return Err(wrong("the stub, and only the stub, comes first"));
        }
        if entry.offset % ALIGN != 0 || Some(entry.offset) != expected {
            return Err(wrong("does not begin where the entry before it ends"));
        }
        if entry.size == 0 || (entry.kind == Kind::Stub && entry.size != STUB_SIZE) {
            return Err(wrong("unusable size"));
        }
        expected = entry.offset.checked_add(entry.size).and_then(aligned);
        if expected.is_none_or(|end| end > index_offset) {
            return Err(wrong("goes on into the index"));
        }
        check_fields(entry).map_err(wrong)?;
        if entry.kind == Kind::Runner && !runners.insert(entry.arch) {
            return Err(wrong("a second runner for the same processor"));
        }
    }
    if expected != Some(index_offset) {
        return Err(layout("the index does not begin where the last entry ends"));
    }
    if runners.is_empty() {
        return Err(layout("no runner inside"));
    }
    Ok(())
}

/// The product's own packages are of the bundle's release: the program installs, names and compares
/// its own number.
fn check_release(header: &Header, entries: &[Entry]) -> Result<()> {
    let number = |text: &str| crate::package::version::Version::parse(text).ok();
    let release = number(&header.release);
    for entry in entries {
        let own = entry.pkg.as_deref() == Some(header.product.as_str());
        let version = entry.version.as_deref().unwrap_or_default();
        if own && (release.is_none() || number(version) != release) {
            return Err(BundleError::Entry {
                name: entry.name.clone(),
                problem: format!(
                    "is version {version} in a bundle of release {}",
                    header.release
                ),
            });
        }
    }
    Ok(())
}

fn check_fields(entry: &Entry) -> std::result::Result<(), &'static str> {
    let package = matches!(entry.kind, Kind::Deb | Kind::Rpm);
    if package != entry.pkg.is_some()
        || package != entry.version.is_some()
        || package != entry.installed.is_some()
    {
        return Err(
            "package name, version and installed size belong to packages, and only to them",
        );
    }
    if entry.kind == Kind::Runner && entry.arch.is_none() {
        return Err("a runner without processor");
    }
    if (entry.kind == Kind::Kit) != entry.kit.is_some() {
        return Err("a rule belongs to kits, and only to them");
    }
    if let Some(rule) = &entry.kit {
        rule.check()?;
    }
    if entry.pkg.as_deref().is_some_and(|pkg| !is_name(pkg)) {
        return Err("unusable package name");
    }
    let version = entry.version.as_deref();
    if version.is_some_and(|v| crate::package::version::Version::parse(v).is_err()) {
        return Err("unusable package version");
    }
    Ok(())
}

/// `[A-Za-z0-9][A-Za-z0-9._+~-]{0,127}`
pub fn is_name(text: &str) -> bool {
    text.len() <= NAME_LIMIT
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._+~-".contains(&b))
}

fn layout(problem: impl Into<String>) -> BundleError {
    BundleError::Layout(problem.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        let entry = |name: &str, offset, size, kind| Entry {
            name: name.to_owned(),
            offset,
            size,
            sha256: Sha256Hex::of(&[7; 32]),
            kind,
            arch: (kind == Kind::Runner).then_some(Arch::X86_64),
            pkg: None,
            version: None,
            installed: None,
            kit: None,
        };
        vec![
            entry("stub.sh", 0, STUB_SIZE, Kind::Stub),
            entry("run", STUB_SIZE, 5, Kind::Runner),
            entry("a.txt", STUB_SIZE + ALIGN, ALIGN, Kind::Licence),
        ]
    }

    const END: u64 = STUB_SIZE + 2 * ALIGN;

    fn check(change: impl FnOnce(&mut Vec<Entry>)) -> Result<(Header, Vec<Entry>)> {
        let mut entries = entries();
        change(&mut entries);
        let header = Header::new("omsagent", "2.0.0-1", entries.len(), vec![]);
        parse(&write(&header, &entries).unwrap(), END)
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(check(|_| {}).unwrap().1, entries());
    }

    #[test]
    fn names_at_the_limit_and_past_it() {
        let named = |name: String| check(|e| e[2].name = name);
        assert!(named("a".repeat(NAME_LIMIT)).is_ok());
        assert!(named("a".repeat(NAME_LIMIT + 1)).is_err());
        for bad in [
            "", ".a", "../a", "a/b", "a b", "-a", "ä", "a\n", "a\0", "run",
        ] {
            assert!(named(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn places_and_kinds() {
        type Change = fn(&mut Vec<Entry>);
        let changes: [Change; 19] = [
            |e| e[2].offset += ALIGN,
            |e| e[2].offset -= ALIGN,
            |e| e[2].offset += 1,
            |e| e[2].size += 1,
            |e| e[2].size = 0,
            |e| e[2].size = u64::MAX,
            |e| e[2].offset = u64::MAX - 5000,
            |e| e[1].size = ALIGN + 1,
            |e| e[0].size = 1,
            |e| e[0].kind = Kind::Licence,
            |e| e[2].kind = Kind::Stub,
            |e| e[2].kind = Kind::Deb,
            |e| e[2].kind = Kind::Runner,
            |e| e[2].kind = Kind::Kit,
            |e| e[1].arch = None,
            |e| e[1].kind = Kind::Sbom,
            |e| e[2].pkg = Some("omsagent".into()),
            |e| e.swap(1, 2),
            |e| e.truncate(2),
        ];
        for (i, change) in changes.into_iter().enumerate() {
            assert!(check(change).is_err(), "change {i}");
        }
        let package = |pkg: &str, version: &str| {
            check(|e| {
                e[2].kind = Kind::Deb;
                e[2].pkg = Some(pkg.into());
                e[2].version = Some(version.into());
                e[2].installed = Some(1);
            })
        };
        assert!(package("omsagent", "2.0.0-1").is_ok());
        assert!(package("omsagent", "2.0.0.1").is_ok());
        let other = package("omsagent", "2.0.1-1").unwrap_err().to_string();
        assert!(
            other.contains("2.0.1-1 in a bundle of release 2.0.0-1"),
            "{other}"
        );
        assert!(package("omi", "1.8.1-0").is_ok());
        assert!(package("../x", "2.0.0-1").is_err());
        assert!(package("omsagent", "; reboot").is_err());
    }

    #[test]
    fn words_and_lines() {
        let header = Header::new("omsagent", "2.0.0-1", 3, vec![]);
        let good = String::from_utf8(write(&header, &entries()).unwrap()).unwrap();
        assert!(parse(good.as_bytes(), END).is_ok());
        for (from, to) in [
            ("\"licence\"", "\"script\""),
            ("\"x86_64\"", "\"sparc\""),
            ("\"entries\":3", "\"entries\":4"),
            ("\"version\":1", "\"version\":2"),
            ("\"OMSB\"", "\"OMSC\""),
            ("\"size\":5", "\"size\":-5"),
            ("\"size\":5", "\"size\":5e0"),
            ("\"size\":5", "\"size\":99999999999999999999999999"),
            ("\"size\":5", "\"size\":5,\"size\":5"),
            ("\"size\":5", "\"size\":5,\"extra\":5"),
            ("0707", "07Zz"),
            ("0707", "070"),
            ("\n{\"name\":\"run\"", "\n\n{\"name\":\"run\""),
            ("\n{\"name\":\"run\"", "\r\n{\"name\":\"run\""),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from}");
            let read = parse(bad.as_bytes(), END);
            // A CR at a line's end is blank space to JSON.
            assert!(read.is_err() || to.starts_with('\r'), "{to}");
        }
        assert!(parse(good.trim_end().as_bytes(), END).is_err());
        assert!(parse(b"", END).is_err());
        assert!(parse(b"\n", END).is_err());
        assert!(parse(b"\xff\n", END).is_err());
    }

    #[test]
    fn how_many_at_the_limit_and_past_it() {
        let many = |n: usize| {
            let mut entries = entries();
            entries.truncate(2);
            for i in 2..n {
                let mut entry = entries[1].clone();
                (entry.kind, entry.arch) = (Kind::Sbom, None);
                entry.name = format!("e{i}");
                entry.offset = STUB_SIZE + (i as u64 - 1) * ALIGN;
                entries.push(entry);
            }
            let header = Header::new("omsagent", "2.0.0-1", n, vec![]);
            let end = STUB_SIZE + (n as u64 - 1) * ALIGN;
            parse(&write(&header, &entries).unwrap(), end)
        };
        assert!(many(ENTRY_LIMIT).is_ok());
        assert!(many(ENTRY_LIMIT + 1).is_err());
        let blank = |n: usize| parse(&vec![b' '; n], 0).unwrap_err().to_string();
        assert!(!blank(INDEX_LIMIT as usize).contains("larger"));
        assert!(blank(INDEX_LIMIT as usize + 1).contains("larger"));
    }
}
