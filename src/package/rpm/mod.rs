//! The .rpm format, version 4 (rpm.org manual, "RPM V4 Package format"): lead, signature header,
//! main header, gzip'd cpio. Not signed, but with every digest rpm 4.14 and later insist on.

mod cpio;
mod header;
mod read;
mod tags;

pub use read::{identify, walk};

use super::contents::{Contents, Item, Kind};
use super::manifest::{Manifest, RpmScript};
use super::md5::md5;
use super::{Arch, Build, Format, gzip, hex};
use crate::base::order;
use anyhow::{Context, Result};
use header::{Header, Value};
use sha2::{Digest, Sha256};
use std::path::Path;

/// The first bytes of the lead.
pub const LEAD_MAGIC: [u8; 4] = [0xed, 0xab, 0xee, 0xdb];
/// Bytes of the lead.
const LEAD: usize = 96;

/// File flags (rpmfiles.h).
const FLAG_CONFIG: u32 = 1;
const FLAG_DOC: u32 = 1 << 1;
const FLAG_NOREPLACE: u32 = 1 << 4;

/// Dependency flags (rpmds.h).
const SENSE_LESS: u32 = 1 << 1;
const SENSE_EQUAL: u32 = 1 << 3;
const SENSE_POSTTRANS: u32 = 1 << 5;
const SENSE_INTERP: u32 = 1 << 8;
const SENSE_PRE: u32 = 1 << 9;
const SENSE_POST: u32 = 1 << 10;
const SENSE_PREUN: u32 = 1 << 11;
const SENSE_POSTUN: u32 = 1 << 12;
const SENSE_RPMLIB: u32 = 1 << 24;

/// What reading this package asks of rpm itself.
const RPMLIB: [(&str, &str); 3] = [
    ("rpmlib(CompressedFileNames)", "3.0.4-1"),
    ("rpmlib(FileDigests)", "4.6.0-1"),
    ("rpmlib(PayloadFilesHavePrefix)", "4.0-1"),
];

/// SHA-256 in rpm's numbering of hash algorithms (RFC 4880's).
const SHA256: u32 = 8;

const SHELL: &str = "/bin/sh";

/// `omsagent-2.0.0-1.x86_64.rpm`.
pub fn file_name(manifest: &Manifest, build: &Build) -> String {
    format!("{}-{}.{}.rpm", manifest.name, build.label, build.arch.rpm())
}

/// The bytes of the package.
pub fn write(manifest: &Manifest, build: &Build, binary: &Path) -> Result<Vec<u8>> {
    let contents = Contents::gather(manifest, Format::Rpm, binary)?;
    let archive = cpio::write(&contents, build.time)?;
    let payload = gzip(&archive)?;

    let mut main = Header::new(tags::HEADER_IMMUTABLE);
    describe(&mut main, manifest, build, &contents)?;
    script(&mut main, manifest)?;
    relations(&mut main, manifest, build)?;
    files(&mut main, &contents, build.time)?;
    main.texts(tags::PAYLOAD_DIGEST, [hex(&Sha256::digest(&payload))]);
    main.numbers(tags::PAYLOAD_DIGEST_ALGORITHM, [SHA256]);
    main.texts(tags::PAYLOAD_DIGEST_PLAIN, [hex(&Sha256::digest(&archive))]);
    let main = main.bytes()?;

    let mut all = main.clone();
    all.extend_from_slice(&payload);
    let mut signature = Header::new(tags::HEADER_SIGNATURES);
    signature.text(tags::SIG_SHA1, hex(&sha1::Sha1::digest(&main)));
    signature.text(tags::SIG_SHA256, hex(&Sha256::digest(&main)));
    signature.numbers(tags::SIG_SIZE, [fits(all.len())?]);
    signature.put(tags::SIG_MD5, Value::Bytes(md5(&all).to_vec()));
    signature.numbers(tags::SIG_PAYLOAD_SIZE, [fits(archive.len())?]);
    let mut signature = signature.bytes()?;
    while signature.len() % 8 != 0 {
        signature.push(0);
    }

    let mut package = lead(manifest, build);
    package.extend_from_slice(&signature);
    package.extend_from_slice(&all);
    Ok(package)
}

/// Kept for `file` and for very old tools; rpm itself only looks at the magic.
fn lead(manifest: &Manifest, build: &Build) -> Vec<u8> {
    let arch: u16 = match build.arch {
        Arch::Aarch64 => 19,
        Arch::X86_64 => 1,
    };
    let mut lead = LEAD_MAGIC.to_vec();
    lead.extend_from_slice(&[3, 0]); // format 3.0
    lead.extend_from_slice(&0u16.to_be_bytes()); // a binary package
    lead.extend_from_slice(&arch.to_be_bytes());
    let mut name = [0u8; 66];
    let text = format!("{}-{}", manifest.name, build.label);
    for (place, byte) in name.iter_mut().take(65).zip(text.bytes()) {
        *place = byte;
    }
    lead.extend_from_slice(&name);
    lead.extend_from_slice(&1u16.to_be_bytes()); // Linux
    lead.extend_from_slice(&5u16.to_be_bytes()); // a header-style signature follows
    lead.resize(LEAD, 0);
    lead
}

fn describe(
    header: &mut Header,
    manifest: &Manifest,
    build: &Build,
    contents: &Contents,
) -> Result<()> {
    let (version, release) = build.version_and_release()?;
    header.texts(tags::I18N_TABLE, ["C"]);
    header.text(tags::NAME, &manifest.name);
    header.text(tags::VERSION, version);
    header.text(tags::RELEASE, release);
    header.localised(tags::SUMMARY, &manifest.summary);
    header.localised(tags::DESCRIPTION, manifest.description.trim());
    header.numbers(tags::BUILD_TIME, [build.time]);
    header.text(tags::BUILD_HOST, "reproducible");
    header.numbers(tags::SIZE, [fits(usize::try_from(contents.size())?)?]);
    header.text(tags::VENDOR, &manifest.vendor);
    header.text(tags::LICENSE, &manifest.license);
    header.text(tags::PACKAGER, &manifest.maintainer);
    header.localised(tags::GROUP, &manifest.rpm.group);
    if let Some(homepage) = &manifest.homepage {
        header.text(tags::URL, homepage);
    }
    if !manifest.change.is_empty() {
        let changes = &manifest.change;
        let times: Result<Vec<u32>> = changes.iter().map(|c| c.time()).collect();
        let by = |version: &str| format!("{} - {version}", manifest.maintainer);
        header.numbers(tags::CHANGE_TIMES, times?);
        header.texts(tags::CHANGE_NAMES, changes.iter().map(|c| by(&c.version)));
        header.texts(tags::CHANGE_TEXTS, changes.iter().map(|c| c.rpm_text()));
    }
    header.text(tags::OS, "linux");
    header.text(tags::ARCH, build.arch.rpm());
    header.text(tags::PLATFORM, format!("{}-linux", build.arch.rpm()));
    header.text(
        tags::SOURCE_RPM,
        format!("{}-{}.src.rpm", manifest.name, build.label),
    );
    header.text(tags::RPM_VERSION, "4.14.0");
    header.text(tags::ENCODING, "utf-8");
    header.text(tags::PAYLOAD_FORMAT, "cpio");
    header.text(tags::PAYLOAD_COMPRESSOR, "gzip");
    header.text(tags::PAYLOAD_FLAGS, "9");
    Ok(())
}

fn script(header: &mut Header, manifest: &Manifest) -> Result<()> {
    for (when, source) in &manifest.rpm.scripts {
        let (text_tag, program_tag) = match when {
            RpmScript::Post => (tags::POST, tags::POST_PROGRAM),
            RpmScript::Posttrans => (tags::POSTTRANS, tags::POSTTRANS_PROGRAM),
            RpmScript::Postun => (tags::POSTUN, tags::POSTUN_PROGRAM),
            RpmScript::Pre => (tags::PRE, tags::PRE_PROGRAM),
            RpmScript::Preun => (tags::PREUN, tags::PREUN_PROGRAM),
        };
        header.text(text_tag, manifest.script(source)?.trim_end());
        header.text(program_tag, SHELL);
    }
    Ok(())
}

fn relations(header: &mut Header, manifest: &Manifest, build: &Build) -> Result<()> {
    let isa = match build.arch {
        Arch::Aarch64 => "aarch-64",
        Arch::X86_64 => "x86-64",
    };
    let own = [manifest.name.clone(), format!("{}({isa})", manifest.name)];
    let mut provides: Vec<(&str, u32, &str)> = manifest
        .rpm
        .provides
        .iter()
        .chain(&own)
        .map(|name| (name.as_str(), SENSE_EQUAL, build.label))
        .collect();
    order::ascending(&mut provides);
    header.texts(tags::PROVIDE_NAME, provides.iter().map(|p| p.0));
    header.numbers(tags::PROVIDE_FLAGS, provides.iter().map(|p| p.1));
    header.texts(tags::PROVIDE_VERSION, provides.iter().map(|p| p.2));

    let mut requires: Vec<(&str, u32, &str)> = RPMLIB
        .iter()
        .map(|(name, version)| (*name, SENSE_RPMLIB | SENSE_LESS | SENSE_EQUAL, *version))
        .chain(manifest.rpm.requires.iter().map(|r| (r.as_str(), 0, "")))
        .collect();
    for when in manifest.rpm.scripts.keys() {
        let sense = match when {
            RpmScript::Post => SENSE_POST,
            RpmScript::Posttrans => SENSE_POSTTRANS,
            RpmScript::Postun => SENSE_POSTUN,
            RpmScript::Pre => SENSE_PRE,
            RpmScript::Preun => SENSE_PREUN,
        };
        requires.push((SHELL, SENSE_INTERP | sense, ""));
    }
    order::ascending(&mut requires);
    header.texts(tags::REQUIRE_NAME, requires.iter().map(|r| r.0));
    header.numbers(tags::REQUIRE_FLAGS, requires.iter().map(|r| r.1));
    header.texts(tags::REQUIRE_VERSION, requires.iter().map(|r| r.2));
    Ok(())
}

fn files(header: &mut Header, contents: &Contents, time: u32) -> Result<()> {
    let items: Vec<(&String, &Item)> = contents.items.iter().collect();
    if items.is_empty() {
        return Ok(());
    }
    let mut folders: Vec<String> = Vec::new();
    let mut folder_of: Vec<u32> = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for (path, _) in &items {
        let (folder, name) = path.rsplit_once('/').context("a path without folder")?;
        let folder = format!("{folder}/");
        let at = folders.iter().position(|f| *f == folder);
        let at = at.unwrap_or_else(|| {
            folders.push(folder);
            folders.len() - 1
        });
        folder_of.push(fits(at)?);
        names.push(name);
    }
    let each = |f: fn(&Item) -> u32| items.iter().map(move |(_, item)| f(item));
    let sizes: Result<Vec<u32>> = items
        .iter()
        .map(|(_, i)| fits(usize::try_from(i.size())?))
        .collect();
    header.numbers(tags::FILE_SIZES, sizes?);
    let modes = items.iter().map(|(_, item)| cpio::mode(item) as u16);
    header.put(tags::FILE_MODES, Value::Shorts(modes.collect()));
    let devices = items.iter().map(|_| 0u16);
    header.put(tags::FILE_RDEVS, Value::Shorts(devices.collect()));
    header.numbers(tags::FILE_MTIMES, items.iter().map(|_| time));
    header.texts(tags::FILE_DIGESTS, items.iter().map(|(_, i)| digest(i)));
    header.texts(
        tags::FILE_LINK_TARGETS,
        items.iter().map(|(_, i)| target(i)),
    );
    header.numbers(tags::FILE_FLAGS, each(flags));
    header.texts(tags::FILE_OWNERS, items.iter().map(|(_, i)| &i.owner));
    header.texts(tags::FILE_GROUPS, items.iter().map(|(_, i)| &i.group));
    header.numbers(tags::FILE_VERIFY_FLAGS, each(|_| u32::MAX));
    header.numbers(tags::FILE_DEVICES, each(|_| 1));
    header.numbers(tags::FILE_INODES, (1u32..).take(items.len()));
    header.texts(tags::FILE_LANGUAGES, items.iter().map(|_| ""));
    header.numbers(tags::FILE_DIGEST_ALGORITHM, [SHA256]);
    header.numbers(tags::FOLDER_INDEXES, folder_of);
    header.texts(tags::BASE_NAMES, names);
    header.texts(tags::FOLDER_NAMES, folders);
    Ok(())
}

fn digest(item: &Item) -> String {
    match &item.kind {
        Kind::File { bytes, .. } => hex(&Sha256::digest(bytes)),
        Kind::Dir | Kind::Link(_) => String::new(),
    }
}

fn target(item: &Item) -> &str {
    match &item.kind {
        Kind::Link(target) => target,
        Kind::Dir | Kind::File { .. } => "",
    }
}

fn flags(item: &Item) -> u32 {
    match item.kind {
        Kind::File { conffile, doc, .. } => {
            (if conffile {
                FLAG_CONFIG | FLAG_NOREPLACE
            } else {
                0
            }) | (if doc { FLAG_DOC } else { 0 })
        }
        Kind::Dir | Kind::Link(_) => 0,
    }
}

/// This format counts in 32 bits.
fn fits(n: usize) -> Result<u32> {
    u32::try_from(n).context("an .rpm of this kind holds less than 4 GiB")
}
