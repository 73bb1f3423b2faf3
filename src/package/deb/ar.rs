//! ar(5), as far as a .deb uses it.

use anyhow::{Context, Result, bail};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The first bytes of the archive.
pub const MAGIC: &[u8; 8] = b"!<arch>\n";
/// Bytes of a member's header.
const HEADER: usize = 60;
/// Most members that are looked at.
const MEMBER_LIMIT: usize = 16;

/// The bytes of an archive of these members.
pub fn write(members: &[(&str, &[u8])], time: u32) -> Result<Vec<u8>> {
    let mut archive = MAGIC.to_vec();
    for (name, bytes) in members {
        if name.len() > 16 || bytes.len() > 9_999_999_999 {
            bail!("`{name}` does not fit in an ar archive");
        }
        let header = format!(
            "{name:<16}{time:<12}{:<6}{:<6}{:<8}{:<10}`\n",
            0,
            0,
            "100644",
            bytes.len()
        );
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(bytes);
        if bytes.len() % 2 == 1 {
            archive.push(b'\n');
        }
    }
    Ok(archive)
}

/// The bytes of the member `name`, of at most `limit`.
pub fn member(file: &File, name: &str, limit: usize) -> Result<Option<Vec<u8>>> {
    let Some((at, size)) = find(file, name)? else {
        return Ok(None);
    };
    if size > limit as u64 {
        bail!("`{name}` is larger than {limit} bytes");
    }
    let mut bytes = vec![0u8; usize::try_from(size)?];
    file.read_exact_at(&mut bytes, at)
        .with_context(|| format!("`{name}` is cut off"))?;
    Ok(Some(bytes))
}

/// Where the member `name` begins, and its size as the archive says it.
pub fn find(file: &File, name: &str) -> Result<Option<(u64, u64)>> {
    let mut at = MAGIC.len() as u64;
    for _ in 0..MEMBER_LIMIT {
        let mut header = [0u8; HEADER];
        match file.read_at(&mut header, at)? {
            0 => return Ok(None),
            HEADER => {}
            _ => bail!("cut off inside an ar header at byte {at}"),
        }
        if &header[58..] != b"`\n" {
            bail!("no ar header at byte {at}");
        }
        let text = |range: std::ops::Range<usize>| {
            std::str::from_utf8(&header[range]).map(|t| t.trim_end().trim_end_matches('/'))
        };
        let size: u64 = text(48..58)?
            .parse()
            .with_context(|| format!("size of the ar member at byte {at}"))?;
        at += HEADER as u64;
        if text(0..16)? == name {
            return Ok(Some((at, size)));
        }
        at = at + size + size % 2;
    }
    bail!("more than {MEMBER_LIMIT} members");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, bytes).unwrap();
        file
    }

    #[test]
    fn members_come_back_and_limits_hold() {
        let bytes = write(&[("odd", b"123".as_slice()), ("even", b"4567")], 1).unwrap();
        let archive = file(&bytes);
        assert_eq!(member(&archive, "odd", 3).unwrap().unwrap(), b"123");
        assert_eq!(member(&archive, "even", 9).unwrap().unwrap(), b"4567");
        assert!(member(&archive, "none", 9).unwrap().is_none());
        assert!(member(&archive, "odd", 2).is_err());
        assert!(member(&file(&bytes[..bytes.len() - 1]), "even", 9).is_err());
        assert!(member(&file(&bytes[..20]), "even", 9).is_err());
        let full: Vec<(&str, &[u8])> = (0..MEMBER_LIMIT).map(|_| ("x", [].as_slice())).collect();
        assert!(member(&file(&write(&full, 0).unwrap()), "none", 9).is_err());
        assert!(
            member(&file(&write(&full[1..], 0).unwrap()), "none", 9)
                .unwrap()
                .is_none()
        );
        assert!(write(&[("12345678901234567", [].as_slice())], 0).is_err());
    }
}
