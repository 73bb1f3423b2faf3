//! How far a queue has been delivered: one small file with two slots, written in turn, so that a
//! crash in the middle of a write leaves the other one. Neither readable: everything that is
//! still there is sent again, which is better than not starting.

use super::frame::checksum;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

const SLOT: usize = 44;
const SLOT_SPACING: u64 = 512;
const MAGIC: [u8; 8] = *b"OMSQACK1";

/// A place in a queue: everything before it has been delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// Number of the segment's first frame.
    pub segment: u64,
    /// Byte in the segment.
    pub offset: u64,
}

/// The file that remembers a [`Position`].
pub struct Mark {
    file: File,
    generation: u64,
}

impl Mark {
    /// Opens or makes it; the newest valid slot: position, and a lower bound for the next
    /// frame's number.
    pub fn open(path: &Path) -> io::Result<(Self, Option<(Position, u64)>)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o640)
            .open(path)?;
        let newest = [0, SLOT_SPACING]
            .into_iter()
            .filter_map(|at| read_slot(&file, at))
            .max_by_key(|(generation, ..)| *generation);
        let mark = Mark {
            file,
            generation: newest.map_or(0, |(g, ..)| g),
        };
        Ok((mark, newest.map(|(_, position, next)| (position, next))))
    }

    /// Remembers a position. Not synced: after a power cut an older one means sending again.
    pub fn store(&mut self, position: Position, next_seq: u64) -> io::Result<()> {
        let generation = self.generation + 1;
        let mut slot = [0; SLOT];
        slot[..8].copy_from_slice(&MAGIC);
        slot[8..16].copy_from_slice(&generation.to_le_bytes());
        slot[16..24].copy_from_slice(&position.segment.to_le_bytes());
        slot[24..32].copy_from_slice(&position.offset.to_le_bytes());
        slot[32..40].copy_from_slice(&next_seq.to_le_bytes());
        let crc = checksum(&slot[..40]);
        slot[40..].copy_from_slice(&crc.to_le_bytes());
        self.file
            .write_all_at(&slot, generation % 2 * SLOT_SPACING)?;
        self.generation = generation;
        Ok(())
    }
}

fn read_slot(file: &File, at: u64) -> Option<(u64, Position, u64)> {
    let mut slot = [0; SLOT];
    file.read_exact_at(&mut slot, at).ok()?;
    let number = |i: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&slot[i..i + 8]);
        u64::from_le_bytes(bytes)
    };
    let sound = slot[..8] == MAGIC && checksum(&slot[..40]).to_le_bytes() == slot[40..];
    sound.then(|| {
        let position = Position {
            segment: number(16),
            offset: number(24),
        };
        (number(8), position, number(32))
    })
}
