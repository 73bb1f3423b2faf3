//! The .deb format (deb(5)): an ar archive of `debian-binary`, `control.tar.gz`, `data.tar.gz`.

mod ar;
mod read;

pub use ar::MAGIC as AR_MAGIC;
pub use read::{control_fields, identify, walk};

use super::contents::{Contents, Item, Kind};
use super::manifest::{DebScript, Manifest};
use super::md5::md5;
use super::{Build, Format, gzip, hex};
use crate::base::order;
use anyhow::{Context, Result};
use std::fmt::Write;
use std::path::Path;

/// `omsagent_2.0.0-1_amd64.deb`.
pub fn file_name(manifest: &Manifest, build: &Build) -> String {
    format!("{}_{}_{}.deb", manifest.name, build.label, build.arch.deb())
}

/// The bytes of the package.
pub fn write(manifest: &Manifest, build: &Build, binary: &Path) -> Result<Vec<u8>> {
    build.version_and_release()?;
    let contents = Contents::gather(manifest, Format::Deb, binary)?.with_parents();
    let control = control_archive(manifest, build, &contents)?;
    let data = data_archive(&contents, build.time)?;
    ar::write(
        &[
            ("debian-binary", b"2.0\n".as_slice()),
            ("control.tar.gz", &gzip(&control)?),
            ("data.tar.gz", &gzip(&data)?),
        ],
        build.time,
    )
}

fn control_archive(manifest: &Manifest, build: &Build, contents: &Contents) -> Result<Vec<u8>> {
    let mut members: Vec<(&str, u32, String)> = vec![
        ("conffiles", 0o644, conffiles(contents)),
        ("control", 0o644, control(manifest, build, contents)),
        ("md5sums", 0o644, md5sums(contents)),
    ];
    for (script, source) in &manifest.deb.scripts {
        let script: &DebScript = script;
        members.push((script.file_name(), 0o755, manifest.script(source)?));
    }
    members.retain(|(_, _, text)| !text.is_empty());
    order::ascending(&mut members);
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, b"./", &header(0o755, build.time), &[])?;
    for (name, mode, text) in members {
        let mut header = header(mode, build.time);
        header.set_entry_type(tar::EntryType::Regular);
        append(
            &mut archive,
            format!("./{name}").as_bytes(),
            &header,
            text.as_bytes(),
        )?;
    }
    Ok(archive.into_inner()?)
}

fn data_archive(contents: &Contents, time: u32) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, b"./", &header(0o755, time), &[])?;
    for (path, item) in &contents.items {
        let mut header = header(item.mode, time);
        // The numbers are root's; dpkg goes by the names where it knows them.
        header.set_username(&item.owner)?;
        header.set_groupname(&item.group)?;
        let what = || format!("packing `{path}`");
        match &item.kind {
            Kind::Dir => {
                let name = format!(".{path}/");
                append(&mut archive, name.as_bytes(), &header, &[]).with_context(what)?;
            }
            Kind::File { bytes, .. } => {
                header.set_entry_type(tar::EntryType::Regular);
                let name = format!(".{path}");
                append(&mut archive, name.as_bytes(), &header, bytes).with_context(what)?;
            }
            Kind::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_link_name_literal(target).with_context(what)?;
                let name = format!(".{path}");
                append(&mut archive, name.as_bytes(), &header, &[]).with_context(what)?;
            }
        }
    }
    Ok(archive.into_inner()?)
}

/// A folder's header until told otherwise.
fn header(mode: u32, time: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(mode);
    header.set_mtime(u64::from(time));
    header.set_uid(0);
    header.set_gid(0);
    // Names of at most 32 bytes always fit.
    let _ = header.set_username("root");
    let _ = header.set_groupname("root");
    header
}

/// `set_path` would drop the leading `./` that dpkg's own archives have, so the name is put in by
/// hand; `Contents` has seen to it that it is short enough.
fn append(
    archive: &mut tar::Builder<Vec<u8>>,
    name: &[u8],
    header: &tar::Header,
    bytes: &[u8],
) -> Result<()> {
    let mut header = header.clone();
    let field = &mut header.as_old_mut().name;
    let place = field.get_mut(..name.len()).context("path too long")?;
    place.copy_from_slice(name);
    header.set_size(bytes.len() as u64);
    header.set_cksum();
    archive.append(&header, bytes)?;
    Ok(())
}

fn control(manifest: &Manifest, build: &Build, contents: &Contents) -> String {
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{name}: {value}");
        }
    };
    field("Package", &manifest.name);
    field("Version", build.label);
    field("Architecture", build.arch.deb());
    field("Maintainer", &manifest.maintainer);
    field("Installed-Size", &installed_kib(contents).to_string());
    field("Depends", &manifest.deb.depends.join(", "));
    field("Recommends", &manifest.deb.recommends.join(", "));
    field("Provides", &manifest.deb.provides.join(", "));
    field("Section", &manifest.deb.section);
    field("Priority", &manifest.deb.priority);
    field("Homepage", manifest.homepage.as_deref().unwrap_or(""));
    field("Description", &manifest.summary);
    for line in manifest.description.trim().lines() {
        let line = line.trim_end();
        let _ = writeln!(text, " {}", if line.is_empty() { "." } else { line });
    }
    text
}

/// Policy 5.6.20: each file rounded up to KiB, one KiB for every other thing.
fn installed_kib(contents: &Contents) -> u64 {
    let kib = |item: &Item| match &item.kind {
        Kind::File { bytes, .. } => (bytes.len() as u64).div_ceil(1024),
        Kind::Dir | Kind::Link(_) => 1,
    };
    contents.items.values().map(kib).sum()
}

fn conffiles(contents: &Contents) -> String {
    let marked = |item: &Item| matches!(item.kind, Kind::File { conffile: true, .. });
    contents
        .items
        .iter()
        .filter(|(_, item)| marked(item))
        .map(|(path, _)| format!("{path}\n"))
        .collect()
}

fn md5sums(contents: &Contents) -> String {
    let line = |(path, item): (&String, &Item)| match &item.kind {
        Kind::File {
            bytes,
            conffile: false,
            ..
        } => Some(format!(
            "{}  {}\n",
            hex(&md5(bytes)),
            path.trim_start_matches('/')
        )),
        _ => None,
    };
    contents.items.iter().filter_map(line).collect()
}
