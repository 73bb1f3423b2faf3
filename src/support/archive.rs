//! The archive: a tar.gz that only its owner may read, with a list of what is in it.

use super::{Contents, Gap};
use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Its list of contents.
const LIST: &str = "MANIFEST";

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// Bytes of the file.
    pub size: u64,
}

/// `omsagent-support-HOST-20311109T101112Z`, the folder within and the file without its ending.
pub fn file_name(contents: &Contents, now: jiff::Timestamp) -> String {
    let host: String = contents
        .host
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '.') {
                c
            } else {
                '_'
            }
        })
        .take(64)
        .collect();
    let host = host.trim_start_matches(['.', '-']);
    format!("omsagent-support-{host}-{}", now.strftime("%Y%m%dT%H%M%SZ"))
}

/// Writes it to `path`, where nothing may be yet.
pub fn write(
    contents: &Contents,
    folder: &str,
    now: jiff::Timestamp,
    path: &Path,
) -> Result<Written> {
    let what = || format!("cannot write `{}`", path.display());
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(what)?;
    let written = (|| {
        // The mode must not depend on the caller's mask.
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        pack(contents, folder, now, &file)?;
        file.sync_all()?;
        anyhow::Ok(file.metadata()?.len())
    })();
    match written.with_context(what) {
        Ok(size) => Ok(Written { size }),
        Err(why) => {
            let _ = std::fs::remove_file(path);
            Err(why)
        }
    }
}

fn pack(contents: &Contents, folder: &str, now: jiff::Timestamp, out: impl Write) -> Result<()> {
    let mut tar = tar::Builder::new(GzEncoder::new(out, Compression::default()));
    let time = u64::try_from(now.as_second()).unwrap_or(0);
    let mut add = |name: &str, text: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(time);
        tar.append_data(&mut header, format!("{folder}/{name}"), text.as_bytes())
            .with_context(|| format!("`{name}`"))
    };
    add(LIST, &list(contents))?;
    for entry in &contents.entries {
        add(&entry.name, &entry.text)?;
    }
    tar.into_inner()?.finish()?.flush()?;
    Ok(())
}

/// A line for each entry, and for each thing that is missing.
pub fn list(contents: &Contents) -> String {
    let mut text = String::from(
        "What is in this archive. Secrets are replaced by [redacted]; behind each entry stands what\n\
         was taken out of it and how often. Look through it before you hand it on.\n\n\
         size\tname\tsource\ttaken out\n",
    );
    for entry in &contents.entries {
        let counts = entry.redacted.iter().map(|(kind, n)| format!("{n} {kind}"));
        let mut remarks: Vec<String> = counts.collect();
        remarks.extend(entry.note.iter().map(|note| format!("({note})")));
        let _ = writeln!(
            text,
            "{}\t{}\t{}\t{}",
            entry.text.len(),
            entry.name,
            one_line(&entry.source),
            remarks.join(", ")
        );
    }
    if !contents.gaps.is_empty() {
        text.push_str("\nNot in it:\n");
    }
    for Gap { source, why } in &contents.gaps {
        let _ = writeln!(text, "{}\t{}", one_line(source), one_line(why));
    }
    text
}

fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), "?")
}
