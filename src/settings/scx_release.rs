//! What operating system this is, in the words the service knows: from `scx-release` when it is
//! there, else derived from `os-release` (protocol.md 0.2).

use crate::base::files;
use anyhow::Result;
use std::fmt::Write as _;
use std::path::Path;

/// Largest scx-release or os-release that is read.
pub const LIMIT: usize = 64 << 10;

/// Longest value that is taken over.
const VALUE_LIMIT: usize = 256;

/// Facts of an operating system; an unknown one is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OsFacts {
    /// `OSName`, e.g. `Ubuntu`.
    pub name: String,
    /// `OSVersion`, e.g. `22.04`.
    pub version: String,
    /// `OSManufacturer`, e.g. `Canonical Group Limited`.
    pub manufacturer: String,
    /// `OSFullName`, e.g. `Ubuntu 22.04 (x86_64)`.
    pub full_name: String,
    /// `OSAlias`: `UniversalD` where packages are .deb, else `UniversalR`.
    pub alias: String,
    /// `OSShortName`, e.g. `Ubuntu_22.04`.
    pub short_name: String,
}

impl OsFacts {
    /// Name, version and manufacturer are known: only then the service is told (protocol.md 1.6).
    pub fn is_complete(&self) -> bool {
        ![&self.name, &self.version, &self.manufacturer]
            .iter()
            .any(|fact| fact.is_empty())
    }

    /// Reads `scx-release`.
    pub fn from_scx_release(text: &str) -> OsFacts {
        let fact = |key| value(text, key).unwrap_or_default();
        OsFacts {
            name: fact("OSName"),
            version: fact("OSVersion"),
            manufacturer: fact("OSManufacturer"),
            full_name: fact("OSFullName"),
            alias: fact("OSAlias"),
            short_name: fact("OSShortName"),
        }
    }

    /// Derives the facts from `os-release` and the machine's architecture (`uname -m`).
    pub fn from_os_release(text: &str, architecture: &str) -> OsFacts {
        let id = value(text, "ID").unwrap_or_default().to_ascii_lowercase();
        let like = value(text, "ID_LIKE").unwrap_or_default();
        let known = KNOWN.iter().find(|known| known.id == id);
        let name = match known {
            Some(known) => known.name.to_owned(),
            None => value(text, "NAME").unwrap_or_else(|| "Linux".to_owned()),
        };
        // A rolling distribution has no VERSION_ID; the service wants something.
        let version = value(text, "VERSION_ID")
            .or_else(|| value(text, "BUILD_ID"))
            .unwrap_or_else(|| "rolling".to_owned());
        let manufacturer = match known {
            Some(known) => known.manufacturer.to_owned(),
            None => value(text, "VENDOR_NAME").unwrap_or_else(|| name.clone()),
        };
        let debian = ["debian", "ubuntu"];
        let is_debian = debian.contains(&id.as_str())
            || like.split_whitespace().any(|word| debian.contains(&word));
        OsFacts {
            full_name: format!("{name} {version} ({architecture})"),
            alias: if is_debian {
                "UniversalD"
            } else {
                "UniversalR"
            }
            .to_owned(),
            short_name: format!("{}_{version}", name.replace(' ', "")),
            name,
            version,
            manufacturer,
        }
    }

    /// The content of `scx-release`.
    pub fn to_scx_release(&self) -> String {
        let mut text = String::new();
        for (key, fact) in [
            ("OSName", &self.name),
            ("OSVersion", &self.version),
            ("OSFullName", &self.full_name),
            ("OSAlias", &self.alias),
            ("OSManufacturer", &self.manufacturer),
            ("OSShortName", &self.short_name),
        ] {
            let _ = writeln!(text, "{key}={fact}");
        }
        text
    }
}

/// The facts of a host: `scx_release` if it names the system, else the first of `os_releases`
/// that exists (`/etc/os-release`, `/usr/lib/os-release`), else nothing known.
pub fn load(scx_release: &Path, os_releases: &[&Path], architecture: &str) -> Result<OsFacts> {
    if let Some(text) = files::read_text(scx_release, LIMIT)? {
        let facts = OsFacts::from_scx_release(&text);
        if facts.is_complete() {
            return Ok(facts);
        }
    }
    for path in os_releases {
        if let Some(text) = files::read_text(path, LIMIT)? {
            return Ok(OsFacts::from_os_release(&text, architecture));
        }
    }
    Ok(OsFacts::default())
}

/// How a distribution is called, by its `ID`.
struct Known {
    id: &'static str,
    name: &'static str,
    manufacturer: &'static str,
}

const fn known(id: &'static str, name: &'static str, manufacturer: &'static str) -> Known {
    Known {
        id,
        name,
        manufacturer,
    }
}

const KNOWN: [Known; 14] = [
    known("almalinux", "AlmaLinux", "AlmaLinux OS Foundation"),
    known("alpine", "Alpine Linux", "Alpine Linux"),
    known("amzn", "Amazon Linux", "Amazon"),
    known("azurelinux", "Azure Linux", "Microsoft Corporation"),
    known("centos", "CentOS Linux", "Central Logistics GmbH"),
    known("debian", "Debian", "Software in the Public Interest, Inc."),
    known("fedora", "Fedora Linux", "Fedora Project"),
    known("mariner", "CBL-Mariner", "Microsoft Corporation"),
    known("ol", "Oracle Linux Server", "Oracle Corporation"),
    known("opensuse-leap", "openSUSE Leap", "openSUSE"),
    known("rhel", "Red Hat Enterprise Linux", "Red Hat, Inc."),
    known(
        "rocky",
        "Rocky Linux",
        "Rocky Enterprise Software Foundation",
    ),
    known("sles", "SUSE Linux Enterprise Server", "SUSE GmbH"),
    known("ubuntu", "Ubuntu", "Canonical Group Limited"),
];

/// The last assignment of `key`, without quotes; `None` when absent or empty.
fn value(text: &str, key: &str) -> Option<String> {
    let raw = text
        .lines()
        .filter_map(|line| line.trim().split_once('='))
        .filter(|(k, _)| k.trim() == key)
        .map(|(_, v)| v.trim())
        .next_back()?;
    let quoted = |quote: char| raw.strip_prefix(quote)?.strip_suffix(quote);
    let bare = quoted('"').or_else(|| quoted('\'')).unwrap_or(raw);
    let clean: String = bare
        .chars()
        .filter(|c| !c.is_control() && *c != '\\')
        .take(VALUE_LIMIT)
        .collect();
    Some(clean).filter(|c| !c.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UBUNTU: &str = "PRETTY_NAME=\"Ubuntu 22.04.3 LTS\"\nNAME=\"Ubuntu\"\nVERSION_ID=\"22.04\"\n\
        ID=ubuntu\nID_LIKE=debian\n";

    #[test]
    fn derived_facts_make_a_file_that_reads_the_same() {
        let facts = OsFacts::from_os_release(UBUNTU, "x86_64");
        assert_eq!(
            facts.to_scx_release(),
            "OSName=Ubuntu\nOSVersion=22.04\nOSFullName=Ubuntu 22.04 (x86_64)\nOSAlias=UniversalD\n\
             OSManufacturer=Canonical Group Limited\nOSShortName=Ubuntu_22.04\n"
        );
        assert_eq!(OsFacts::from_scx_release(&facts.to_scx_release()), facts);
        assert!(facts.is_complete());
    }

    #[test]
    fn distributions_known_and_unknown() {
        let facts = |text| {
            let f = OsFacts::from_os_release(text, "x86_64");
            format!("{}|{}|{}|{}", f.name, f.version, f.manufacturer, f.alias)
        };
        assert_eq!(
            facts("ID=\"rhel\"\nNAME='Red Hat Enterprise Linux'\nVERSION_ID=\"9.4\"\n"),
            "Red Hat Enterprise Linux|9.4|Red Hat, Inc.|UniversalR"
        );
        assert_eq!(
            facts("ID=debian\nVERSION_ID=12\r\nNAME=\"Debian GNU/Linux\"\r\n"),
            "Debian|12|Software in the Public Interest, Inc.|UniversalD"
        );
        assert_eq!(
            facts("NAME=Thing\nID=thing\nID_LIKE=\"x debian\"\n"),
            "Thing|rolling|Thing|UniversalD"
        );
        assert_eq!(facts(""), "Linux|rolling|Linux|UniversalR");
    }

    #[test]
    fn the_scx_file_counts_first_if_it_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let (scx, os) = (
            dir.path().join("scx-release"),
            dir.path().join("os-release"),
        );
        let name = || {
            load(&scx, &[&dir.path().join("none"), &os], "x86_64")
                .unwrap()
                .name
        };
        assert_eq!(name(), "");
        std::fs::write(&os, UBUNTU).unwrap();
        assert_eq!(name(), "Ubuntu");
        std::fs::write(&scx, "OSName=Own\nOSVersion=1\n").unwrap();
        assert_eq!(name(), "Ubuntu");
        std::fs::write(&scx, "OSName=Own\nOSVersion=1\nOSManufacturer=Us\n").unwrap();
        assert_eq!(name(), "Own");
    }

    #[test]
    fn files_and_values_have_limits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("os-release");
        std::fs::write(&path, vec![b'\n'; LIMIT]).unwrap();
        assert!(load(&dir.path().join("none"), &[&path], "x").is_ok());
        std::fs::write(&path, vec![b'\n'; LIMIT + 1]).unwrap();
        assert!(load(&dir.path().join("none"), &[&path], "x").is_err());
        let long = format!("NAME={}\n", "x".repeat(VALUE_LIMIT + 1));
        assert_eq!(OsFacts::from_os_release(&long, "x").name.len(), VALUE_LIMIT);
    }
}
