//! From blocks of bytes to lines. Nothing is kept between blocks: half a line is read again when the
//! rest of it has come, so ten thousand files cost no buffers.

use memchr::{memchr, memchr_iter};

/// Longest line, bytes; what is longer is cut there and marked.
pub const LINE_LIMIT: usize = 64 << 10;

/// How far a file has been taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// Everything before it is done. The first byte of a line.
    pub offset: u64,
    /// The line there was too long and is done, too; its end is looked for from here on.
    pub skipping: Option<u64>,
}

impl Cursor {
    /// At the beginning of a line.
    pub fn at(offset: u64) -> Cursor {
        Cursor {
            offset,
            skipping: None,
        }
    }

    /// Where the next block begins.
    pub fn next_read(self) -> u64 {
        self.skipping.unwrap_or(self.offset)
    }
}

/// One line, without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'b> {
    /// As it is.
    Whole(&'b [u8]),
    /// The first [`LINE_LIMIT`] bytes of a longer one.
    Cut(&'b [u8]),
}

/// Cuts `block`, which begins at `cursor.next_read()`, into lines; empty ones are left out. `take` gets
/// each with the cursor behind it, and ends it all by saying false. `last`: nothing will follow, so
/// that half a line is one. Gives the cursor behind everything that was taken.
pub fn split(
    block: &[u8],
    mut cursor: Cursor,
    last: bool,
    mut take: impl FnMut(Line<'_>, Cursor) -> bool,
) -> Cursor {
    let base = cursor.next_read();
    let at = |n: usize| base + n as u64;
    let mut start = 0;
    if cursor.skipping.is_some() {
        match memchr(b'\n', block) {
            Some(n) => start = n + 1,
            None if last => return Cursor::at(at(block.len())),
            None => {
                cursor.skipping = Some(at(block.len()));
                return cursor;
            }
        }
        cursor = Cursor::at(at(start));
    }
    let first = start;
    for n in memchr_iter(b'\n', &block[first..]) {
        let end = first + n;
        let line = &block[start..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let behind = Cursor::at(at(end + 1));
        if !line.is_empty() && !take(bounded(line), behind) {
            return cursor;
        }
        cursor = behind;
        start = end + 1;
    }
    let rest = &block[start..];
    if rest.len() > LINE_LIMIT {
        let behind = match last {
            true => Cursor::at(at(block.len())),
            false => Cursor {
                offset: at(start),
                skipping: Some(at(block.len())),
            },
        };
        if take(bounded(rest), behind) {
            cursor = behind;
        }
    } else if last && !rest.is_empty() {
        let behind = Cursor::at(at(block.len()));
        if take(Line::Whole(rest), behind) {
            cursor = behind;
        }
    }
    cursor
}

fn bounded(line: &[u8]) -> Line<'_> {
    match line.len() > LINE_LIMIT {
        true => Line::Cut(&line[..before_character(line, LINE_LIMIT)]),
        false => Line::Whole(line),
    }
}

/// `at`, or up to three bytes before it, so that no character of UTF-8 is cut in two.
fn before_character(line: &[u8], at: usize) -> usize {
    let inside = |n: &usize| line.get(*n).is_some_and(|b| b & 0xc0 == 0x80);
    let mut candidates = (at.saturating_sub(3)..=at).rev();
    candidates.find(|n| !inside(n)).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(block: &[u8], cursor: Cursor, last: bool) -> (Vec<(String, bool)>, Cursor) {
        let mut lines = Vec::new();
        let cursor = split(block, cursor, last, |line, _| {
            let (text, cut) = match line {
                Line::Whole(text) => (text, false),
                Line::Cut(text) => (text, true),
            };
            lines.push((String::from_utf8_lossy(text).into_owned(), cut));
            true
        });
        (lines, cursor)
    }

    #[test]
    fn half_a_line_waits_and_the_last_one_does_not() {
        let text = b"one\r\n\ntwo\0\nhal";
        let (lines, cursor) = all(text, Cursor::at(100), false);
        assert_eq!(lines, [("one".into(), false), ("two\0".into(), false)]);
        assert_eq!(cursor, Cursor::at(100 + text.len() as u64 - 3));
        let (lines, cursor) = all(text, Cursor::at(100), true);
        assert_eq!(lines[2], ("hal".into(), false));
        assert_eq!(cursor, Cursor::at(100 + text.len() as u64));
    }

    #[test]
    fn a_line_at_the_limit_is_whole_and_one_past_it_is_cut() {
        for (length, cut) in [(LINE_LIMIT, false), (LINE_LIMIT + 1, true)] {
            let text = format!("{}\nx\n", "a".repeat(length));
            let (lines, cursor) = all(text.as_bytes(), Cursor::default(), false);
            assert_eq!(lines[0], ("a".repeat(LINE_LIMIT), cut));
            assert_eq!(lines[1], ("x".into(), false));
            assert_eq!(cursor, Cursor::at(text.len() as u64));
        }
        // Not in the middle of a character.
        let text = format!("{}\u{e9}\n", "a".repeat(LINE_LIMIT - 1));
        let (lines, _) = all(text.as_bytes(), Cursor::default(), false);
        assert_eq!(lines, [("a".repeat(LINE_LIMIT - 1), true)]);
    }

    #[test]
    fn the_rest_of_a_line_without_end_is_skipped_block_by_block() {
        let long = vec![b'a'; LINE_LIMIT + 10];
        let (lines, cursor) = all(&long, Cursor::at(5), false);
        assert_eq!(lines, [("a".repeat(LINE_LIMIT), true)]);
        let far = 5 + long.len() as u64;
        assert_eq!((cursor.offset, cursor.skipping), (5, Some(far)));
        let (lines, cursor) = all(b"aaa", cursor, false);
        assert_eq!((lines.len(), cursor.skipping), (0, Some(far + 3)));
        let (lines, cursor) = all(b"aa\nb\nc", cursor, false);
        assert_eq!(lines, [("b".into(), false)]);
        assert_eq!(cursor, Cursor::at(far + 3 + 5));
    }

    #[test]
    fn who_stops_has_taken_nothing_more() {
        let mut taken = 0;
        let cursor = split(b"a\nb\nc\n", Cursor::default(), false, |_, _| {
            taken += 1;
            taken < 3
        });
        assert_eq!((cursor, taken), (Cursor::at(4), 3));
    }

    proptest! {
        /// Wherever the blocks end, the lines are the same.
        #[test]
        fn blocks_do_not_matter(text in "[a\n\r]{0,60}", step in 1_usize..20) {
            let bytes = text.as_bytes();
            let mut seen = Vec::new();
            let mut cursor = Cursor::default();
            let mut have = 0;
            while have < bytes.len() {
                have = (have + step).min(bytes.len());
                let from = cursor.next_read() as usize;
                let (lines, behind) = all(&bytes[from..have], cursor, have == bytes.len());
                seen.extend(lines.into_iter().map(|(text, _)| text));
                cursor = behind;
            }
            let wanted: Vec<&str> = text.split('\n').collect();
            let (last, ended) = wanted.split_last().unwrap();
            let ended = ended.iter().map(|l| l.strip_suffix('\r').unwrap_or(l));
            let wanted: Vec<&str> = ended.chain([*last]).filter(|l| !l.is_empty()).collect();
            prop_assert_eq!(seen, wanted);
        }
    }
}
