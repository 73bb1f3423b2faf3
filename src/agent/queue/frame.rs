//! A frame: some data items of one kind, joined by commas as they will be sent, with a checksum.
//!
//! ```text
//! 0  4  magic "OMSF"
//! 4  4  length of what follows the head: names and items
//! 8  4  CRC-32C of bytes 12.. of the head and of what follows it
//! 12 4  how many items
//! 16 8  number of the frame in its queue, counting from 0, never used twice
//! 24 8  when it was sealed: milliseconds since 1970
//! 32 1  length of DataType     33 1  length of IPName     34 6  zero
//! 40    DataType, IPName, items
//! ```
//! Numbers are little-endian.

use super::shares::{self, Origin, Parts};
use crc::{CRC_32_ISCSI, Crc, Table};
use std::borrow::Cow;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Bytes of the fixed part.
pub const HEAD: usize = 40;
/// Most bytes after the head. The largest item is one line of 64 KiB, escaped.
pub const PAYLOAD_LIMIT: usize = 1 << 20;
/// A frame that has grown this large is closed.
pub const CLOSE_AT: usize = 64 << 10;

/// No queue gets as far as this; a number beyond it is damage, and counting on from it would overflow.
pub const SEQ_LIMIT: u64 = 1 << 63;

const MAGIC: [u8; 4] = *b"OMSF";
static CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// What the items are and where the service files them (protocol.md 3.1, "Envelope").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// `DataType`, at most 255 bytes.
    pub data_type: Cow<'static, str>,
    /// `IPName`, at most 255 bytes.
    pub ip_name: Cow<'static, str>,
}

impl Kind {
    /// A kind known when we were built.
    pub const fn new(data_type: &'static str, ip_name: &'static str) -> Self {
        Kind {
            data_type: Cow::Borrowed(data_type),
            ip_name: Cow::Borrowed(ip_name),
        }
    }
}

/// A frame being filled.
#[derive(Debug)]
pub struct Frame {
    bytes: Vec<u8>,
    prefix: usize,
    count: u32,
    parts: Parts,
    begun: Instant,
}

impl Frame {
    /// An empty frame.
    pub fn new(kind: &Kind) -> Self {
        let mut bytes = vec![0; HEAD];
        let names = [&kind.data_type, &kind.ip_name].map(|name| {
            let name = &name.as_bytes()[..name.len().min(255)];
            bytes.extend_from_slice(name);
            name.len() as u8
        });
        bytes[32..34].copy_from_slice(&names);
        Frame {
            prefix: bytes.len(),
            bytes,
            count: 0,
            parts: Parts::new(),
            begun: Instant::now(),
        }
    }

    /// Lets `write` append one item (a JSON object) of this input in place.
    pub fn push(&mut self, origin: Origin, write: impl FnOnce(&mut Vec<u8>)) {
        if self.count == 0 {
            self.begun = Instant::now();
        } else {
            self.bytes.push(b',');
        }
        write(&mut self.bytes);
        self.count += 1;
        shares::count(&mut self.parts, origin, 1);
    }

    /// As [`Frame::push`], of an item that may turn out to be none: `write` says whether it appended
    /// one, and has appended nothing when it says no or fails.
    pub fn try_push<E>(
        &mut self,
        origin: Origin,
        write: impl FnOnce(&mut Vec<u8>) -> Result<bool, E>,
    ) -> Result<bool, E> {
        let before = self.bytes.len();
        if self.count == 0 {
            self.begun = Instant::now();
        } else {
            self.bytes.push(b',');
        }
        let wrote = write(&mut self.bytes);
        match wrote {
            Ok(true) => {
                self.count += 1;
                shares::count(&mut self.parts, origin, 1);
            }
            _ => self.bytes.truncate(before),
        }
        wrote
    }

    /// Items in it.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// From which inputs they are.
    pub(super) fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Nothing in it.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Large enough to be closed.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= CLOSE_AT
    }

    /// When its first item came.
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// Bytes it takes on disk.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets the items; a buffer that had to grow large is given back.
    pub fn clear(&mut self) {
        self.bytes.truncate(self.prefix);
        self.bytes.shrink_to(2 * CLOSE_AT);
        self.count = 0;
        self.parts.clear();
    }

    /// Fills in the head; the result is what goes to disk.
    pub(super) fn seal(&mut self, seq: u64) -> &[u8] {
        let length = (self.bytes.len() - HEAD) as u32;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |d| d.as_millis() as u64);
        let head = &mut self.bytes;
        head[0..4].copy_from_slice(&MAGIC);
        head[4..8].copy_from_slice(&length.to_le_bytes());
        head[12..16].copy_from_slice(&self.count.to_le_bytes());
        head[16..24].copy_from_slice(&seq.to_le_bytes());
        head[24..32].copy_from_slice(&now.to_le_bytes());
        let crc = CRC.checksum(&head[12..]);
        head[8..12].copy_from_slice(&crc.to_le_bytes());
        head
    }
}

/// The fixed part of a frame, read back.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// Bytes after the head.
    pub length: usize,
    /// Items.
    pub count: u32,
    /// Number of the frame.
    pub seq: u64,
    /// Milliseconds since 1970.
    pub sealed_ms: u64,
    crc: u32,
    names: [u8; 2],
}

impl Head {
    /// `None` when these bytes cannot be a head.
    pub fn decode(bytes: &[u8; HEAD]) -> Option<Head> {
        let u32_at =
            |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        let u64_at = |i: usize| u64::from(u32_at(i)) | u64::from(u32_at(i + 4)) << 32;
        let head = Head {
            length: u32_at(4) as usize,
            count: u32_at(12),
            seq: u64_at(16),
            sealed_ms: u64_at(24),
            crc: u32_at(8),
            names: [bytes[32], bytes[33]],
        };
        let names = head.names.iter().map(|&n| usize::from(n)).sum();
        let sound = bytes[0..4] == MAGIC
            && (names..=PAYLOAD_LIMIT).contains(&head.length)
            && head.count > 0
            && head.seq < SEQ_LIMIT;
        sound.then_some(head)
    }

    /// The kind, and where in `payload` the items begin, if the checksum holds.
    pub fn open(&self, head: &[u8; HEAD], payload: &[u8]) -> Option<(Kind, usize)> {
        let mut digest = CRC.digest();
        digest.update(&head[12..]);
        digest.update(payload);
        if digest.finalize() != self.crc || payload.len() != self.length {
            return None;
        }
        let (data_type, rest) = payload.split_at_checked(usize::from(self.names[0]))?;
        let (ip_name, _) = rest.split_at_checked(usize::from(self.names[1]))?;
        let items = data_type.len() + ip_name.len();
        let text = |b: &[u8]| Cow::Owned(String::from_utf8_lossy(b).into_owned());
        let kind = Kind {
            data_type: text(data_type),
            ip_name: text(ip_name),
        };
        Some((kind, items))
    }
}

/// CRC-32C of some bytes.
pub(in crate::agent) fn checksum(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes)
}

/// Where the next frame may begin at or after `from`.
pub(super) fn find_magic(bytes: &[u8], from: usize) -> Option<usize> {
    let found = bytes.get(from..)?.windows(4).position(|w| w == MAGIC)?;
    Some(from + found)
}
