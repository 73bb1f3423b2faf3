//! One file of a queue: an eight-byte mark, then frames. Read with positions and checked frame
//! by frame; what is damaged is stepped over, never trusted.

use super::frame::{self, HEAD, Head, Kind};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What every segment begins with; the digit is the version of the format.
pub const MARK: [u8; 8] = *b"OMSQSEG1";

/// The file of the segment whose first frame is number `id`.
pub fn path(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("{id:016x}.seg"))
}

/// The number in a segment's file name.
pub fn id_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg").filter(|d| d.len() == 16)?;
    let id = u64::from_str_radix(digits, 16).ok();
    id.filter(|id| *id < frame::SEQ_LIMIT)
}

/// Walks over the frames of a segment.
pub struct Reader {
    file: File,
    /// Where the next frame is looked for.
    pub offset: u64,
    end: u64,
    payload: Vec<u8>,
    /// Bytes that were no sound frame and were stepped over.
    pub skipped: u64,
}

/// One frame as it was read.
pub struct Read<'r> {
    /// The fixed part.
    pub head: Head,
    /// What the items are.
    pub kind: Kind,
    /// The items, joined by commas.
    pub items: &'r [u8],
    /// Where the frame begins.
    pub at: u64,
}

impl Reader {
    /// Reads `path` from `offset` (0 or inside the mark: from the first frame) up to `end`.
    pub fn open(path: &Path, offset: u64, end: u64) -> io::Result<Self> {
        Ok(Reader {
            file: File::open(path)?,
            offset: offset.max(MARK.len() as u64),
            end,
            payload: Vec::new(),
            skipped: 0,
        })
    }

    /// The next sound frame, `None` at the end.
    pub fn next_frame(&mut self) -> io::Result<Option<Read<'_>>> {
        loop {
            if self.offset >= self.end {
                return Ok(None);
            }
            let at = self.offset;
            if let Some((head, bytes)) = self.head(at)? {
                self.payload.resize(head.length, 0);
                self.file
                    .read_exact_at(&mut self.payload, at + HEAD as u64)?;
                if let Some((kind, items)) = head.open(&bytes, &self.payload) {
                    self.offset = at + HEAD as u64 + head.length as u64;
                    let items = &self.payload[items..];
                    return Ok(Some(Read {
                        head,
                        kind,
                        items,
                        at,
                    }));
                }
            }
            self.resync(at)?;
        }
    }

    /// Items in the frames from here to the end, by their heads alone.
    pub fn count_items(mut self) -> io::Result<u64> {
        let mut count = 0;
        while let Some((head, _)) = self.head(self.offset)? {
            count += u64::from(head.count);
            self.offset += (HEAD + head.length) as u64;
        }
        Ok(count)
    }

    fn head(&self, at: u64) -> io::Result<Option<(Head, [u8; HEAD])>> {
        if at + HEAD as u64 > self.end {
            return Ok(None);
        }
        let mut bytes = [0; HEAD];
        self.file.read_exact_at(&mut bytes, at)?;
        let head = Head::decode(&bytes);
        let whole = head.filter(|h| at + (HEAD + h.length) as u64 <= self.end);
        Ok(whole.map(|h| (h, bytes)))
    }

    /// Steps over damage at `at`: on to the next magic, or to the end.
    fn resync(&mut self, at: u64) -> io::Result<()> {
        let mut from = at + 1;
        let mut window = vec![0; 64 << 10];
        while from + 4 <= self.end {
            let want = usize::try_from(self.end - from).unwrap_or(usize::MAX);
            let want = want.min(window.len());
            self.file.read_exact_at(&mut window[..want], from)?;
            if let Some(i) = frame::find_magic(&window[..want], 0) {
                self.skipped += from + i as u64 - at;
                self.offset = from + i as u64;
                return Ok(());
            }
            from += (want - 3) as u64; // a magic may lie across two windows
        }
        self.skipped += self.end - at;
        self.offset = self.end;
        Ok(())
    }
}

/// How far a segment is sound, and the number after its last frame.
pub struct Extent {
    /// Bytes up to the end of the last sound frame (at least the mark).
    pub valid: u64,
    /// Number of the last sound frame plus one, if there is any.
    pub next_seq: Option<u64>,
}

/// Reads a whole segment to find where its sound part ends.
pub fn measure(path: &Path, end: u64) -> io::Result<Extent> {
    let mut reader = Reader::open(path, 0, end)?;
    let mut extent = Extent {
        valid: MARK.len() as u64,
        next_seq: None,
    };
    while let Some(read) = reader.next_frame()? {
        extent.next_seq = Some(read.head.seq + 1);
        extent.valid = read.at + (HEAD + read.head.length) as u64;
    }
    Ok(extent)
}
