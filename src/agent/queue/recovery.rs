//! What an earlier run left behind.

use super::Segment;
use super::segment::{self, MARK};
use crate::base::order;
use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;

/// The segments of a folder, oldest first, the newest cut to its sound part; how many bytes were
/// cut; the next free frame number.
pub(super) fn recover(dir: &Path) -> io::Result<(VecDeque<Segment>, u64, u64)> {
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if let Some(id) = segment::id_of(&entry.file_name().to_string_lossy())
            && entry.file_type()?.is_file()
        {
            let bytes = entry.metadata()?.len();
            segments.push(Segment { id, bytes });
        }
    }
    order::by_key(&mut segments, |s| s.id);
    let mut torn = 0;
    let mut next_seq = 0;
    if let Some(mut newest) = segments.pop() {
        let path = segment::path(dir, newest.id);
        let extent = segment::measure(&path, newest.bytes)?;
        next_seq = extent.next_seq.unwrap_or(newest.id + 1);
        let valid = extent.valid.min(newest.bytes);
        if extent.next_seq.is_none() {
            torn = newest.bytes.saturating_sub(MARK.len() as u64);
            std::fs::remove_file(&path)?;
        } else {
            torn = newest.bytes - valid;
            if torn > 0 {
                OpenOptions::new().write(true).open(&path)?.set_len(valid)?;
            }
            newest.bytes = valid;
            segments.push(newest);
        }
    }
    Ok((segments.into(), torn, next_seq))
}
