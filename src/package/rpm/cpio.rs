//! The payload: a cpio archive in the "newc" form, names with `./` in front.

use crate::package::contents::{Contents, Item, Kind};
use anyhow::{Context, Result};
use std::io::Write;

/// Type and permission bits as stat(2) has them.
pub fn mode(item: &Item) -> u32 {
    let kind = match item.kind {
        Kind::Dir => nix::libc::S_IFDIR,
        Kind::File { .. } => nix::libc::S_IFREG,
        Kind::Link(_) => nix::libc::S_IFLNK,
    };
    kind | item.mode
}

/// The bytes of the archive.
pub fn write(contents: &Contents, time: u32) -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    for (inode, (path, item)) in (1u32..).zip(&contents.items) {
        let bytes = match &item.kind {
            Kind::Dir => &[],
            Kind::File { bytes, .. } => bytes.as_slice(),
            Kind::Link(target) => target.as_bytes(),
        };
        let links = if item.kind == Kind::Dir { 2 } else { 1 };
        let name = format!(".{path}");
        member(&mut archive, &name, [inode, mode(item), links, time], bytes)?;
    }
    member(&mut archive, "TRAILER!!!", [0, 0, 1, 0], &[])?;
    Ok(archive)
}

fn member(
    archive: &mut Vec<u8>,
    name: &str,
    [inode, mode, links, time]: [u32; 4],
    bytes: &[u8],
) -> Result<()> {
    let size = u32::try_from(bytes.len()).with_context(|| format!("`{name}` is too large"))?;
    let name_size = name.len() + 1;
    // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    write!(
        archive,
        "070701{inode:08x}{mode:08x}{0:08x}{0:08x}{links:08x}{time:08x}{size:08x}\
         {0:08x}{0:08x}{0:08x}{0:08x}{name_size:08x}{0:08x}{name}\0",
        0
    )?;
    pad(archive);
    archive.extend_from_slice(bytes);
    pad(archive);
    Ok(())
}

fn pad(archive: &mut Vec<u8>) {
    while !archive.len().is_multiple_of(4) {
        archive.push(0);
    }
}
