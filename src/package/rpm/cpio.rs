//! The payload: a cpio archive in the "newc" form, names with `./` in front.

use crate::package::contents::{Contents, Item, Kind};
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};

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

/// One member's header.
pub struct Member {
    /// With `./` in front.
    pub name: String,
    /// Type and permission bits.
    pub mode: u32,
    /// Bytes that follow, without the padding behind them.
    pub size: u64,
}

/// Bytes of the fixed part of a header.
const HEADER: usize = 110;
/// Longest name.
const NAME_LIMIT: usize = 4096;

/// The next member; `None` at the archive's end. Its bytes and their padding are the caller's.
pub fn next(archive: &mut impl Read) -> Result<Option<Member>> {
    let mut header = [0u8; HEADER];
    archive.read_exact(&mut header).context("cut off")?;
    if !header.starts_with(b"070701") {
        bail!("no cpio header in the payload");
    }
    let field = |n: usize| -> Result<u32> {
        let digits = std::str::from_utf8(&header[6 + n * 8..14 + n * 8])?;
        Ok(u32::from_str_radix(digits, 16)?)
    };
    let (mode, size, name_size) = (field(1)?, field(6)?, field(11)? as usize);
    if name_size == 0 || name_size > NAME_LIMIT {
        bail!("a name of {name_size} bytes in the payload");
    }
    let mut name = vec![0u8; name_size];
    archive.read_exact(&mut name).context("cut off")?;
    skip(archive, padding((HEADER + name_size) as u64))?;
    name.pop();
    let name = String::from_utf8(name)?;
    Ok((name != "TRAILER!!!").then_some(Member {
        name,
        mode,
        size: u64::from(size),
    }))
}

/// Bytes up to the next multiple of four.
pub fn padding(size: u64) -> u64 {
    size.next_multiple_of(4) - size
}

/// Reads past `n` bytes.
pub fn skip(archive: &mut impl Read, n: u64) -> Result<()> {
    if std::io::copy(&mut archive.take(n), &mut std::io::sink())? != n {
        bail!("the payload is cut off");
    }
    Ok(())
}
