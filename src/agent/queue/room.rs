//! How much a queue may take: of its own limit, and of the file system it is on.
//!
//! A full file system is everybody's trouble, so a queue stops before that: it leaves 5 % free. What
//! the far end takes at once still goes through: some data may wait even then.

use std::io;
use std::path::Path;

/// The part of a file system that stays free: one in so many.
const KEPT_FREE: u64 = 20;
/// Of that part a queue may use this much to hand over what arrives, one in so many.
const PASSAGE: u64 = 4;
/// And never more than this, bytes.
const PASSAGE_LIMIT: u64 = 1 << 20;

/// What to do when a queue has reached its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The oldest goes, counted.
    DropOldest,
    /// Nothing is taken: [`io::ErrorKind::QuotaExceeded`].
    Refuse,
}

/// [`io::ErrorKind::StorageFull`] when `size` more bytes would take what stays free of the file
/// system of `dir`, and `waiting` bytes wait already. A file system that does not tell is not asked
/// again: writing will show.
pub(super) fn check(dir: &Path, size: u64, waiting: u64) -> io::Result<()> {
    let Ok(stat) = rustix::fs::statvfs(dir) else {
        return Ok(());
    };
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    match refuses(bytes(stat.f_blocks), bytes(stat.f_bavail), size, waiting) {
        false => Ok(()),
        true => Err(io::Error::new(
            io::ErrorKind::StorageFull,
            format!(
                "only {} MiB of {} are free on its file system, of which 5 % stay free",
                bytes(stat.f_bavail) >> 20,
                bytes(stat.f_blocks) >> 20
            ),
        )),
    }
}

fn refuses(total: u64, free: u64, size: u64, waiting: u64) -> bool {
    let floor = total / KEPT_FREE;
    let passage = (floor / PASSAGE).min(PASSAGE_LIMIT);
    // A file system without a size, as some in memory are, has no floor.
    free.saturating_sub(size) < floor && waiting.saturating_add(size) > passage.max(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_percent_stay_free_and_what_is_taken_at_once_goes_through() {
        const K: u64 = 1 << 10;
        const G: u64 = 1 << 30;
        for (total, free, size, waiting, wanted) in [
            (0, 0, 64 * K, G, false),
            (100 * G, 50 * G, 64 * K, G, false),
            (100 * G, 5 * G + 64 * K, 64 * K, G, false),
            (100 * G, 5 * G, 64 * K, G, true),
            // Nothing waits: it is handed over.
            (100 * G, G, 64 * K, 0, false),
            (100 * G, G, 64 * K, PASSAGE_LIMIT - 64 * K, false),
            (100 * G, G, 64 * K, PASSAGE_LIMIT - 63 * K, true),
            (8192 * K, 0, 64 * K, 0, false),
            (8192 * K, 300 * K, 64 * K, 100 * K, true),
        ] {
            let case = format!("{total} {free} {size} {waiting}");
            assert_eq!(refuses(total, free, size, waiting), wanted, "{case}");
        }
    }
}
