//! Room for queues and logs.

use crate::doctor::finding::Finding;
use crate::doctor::patient::Patient;
use nix::sys::statvfs::{FsFlags, statvfs};
use std::path::PathBuf;

/// Below this nothing can be written any more.
const FULL: u64 = 4 << 20;
/// Below this a short outage of the service fills it.
const LOW: u64 = 50 << 20;

/// The folders that are written to, each file system once.
pub fn space(patient: &Patient, found: &mut Vec<Finding>) {
    let layout = &patient.host.layout;
    let mut folders = vec![layout.var(), layout.etc(), layout.path("/tmp")];
    for ward in &patient.workspaces {
        let paths = layout.workspace(&ward.id);
        folders.extend([paths.state(), paths.log(), paths.run()]);
    }
    let mut seen: Vec<((u64, bool), PathBuf)> = Vec::new();
    for folder in folders {
        let Ok(stat) = statvfs(&folder) else { continue };
        // Of one file system a part can be mounted read-only.
        let read_only = stat.flags().contains(FsFlags::ST_RDONLY);
        let id = (stat.filesystem_id(), read_only);
        if seen.iter().any(|(known, _)| *known == id) {
            continue;
        }
        seen.push((id, folder.clone()));
        let free = stat.blocks_available() * stat.fragment_size();
        let inodes = (stat.files() > 0).then_some(stat.files_available());
        let (id, what) = match judge(free, inodes, read_only) {
            None => continue,
            Some(id) => (id, folder.display()),
        };
        let inodes = inodes.map_or(String::new(), |n| format!(", {n} files"));
        found.push(
            Finding::new(id, format!("no room where {what} is"))
                .seen(format!("{} KiB{inodes} are free", free >> 10))
                .mend("make room, or give it a larger disk; what the queue cannot take is lost"),
        );
    }
}

fn judge(free: u64, inodes: Option<u64>, read_only: bool) -> Option<&'static str> {
    match (free, inodes) {
        _ if read_only => Some("disk-read-only"),
        (..FULL, _) | (_, Some(0)) => Some("disk-full"),
        (..LOW, _) | (_, Some(..1000)) => Some("disk-low"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_limits() {
        assert_eq!(judge(LOW, None, false), None);
        assert_eq!(judge(LOW - 1, None, false), Some("disk-low"));
        assert_eq!(judge(FULL, Some(5000), false), Some("disk-low"));
        assert_eq!(judge(FULL - 1, None, false), Some("disk-full"));
        assert_eq!(judge(LOW, Some(0), false), Some("disk-full"));
        assert_eq!(judge(LOW, Some(1000), true), Some("disk-read-only"));
    }
}
