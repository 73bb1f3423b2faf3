//! Our lines inside somebody else's file: a block between two mark lines, put in, renewed and
//! taken out so that every other byte of the file stays as it was - also the odd ones (CRLF, a
//! last line without an end, Latin-1). Text in, text out; nothing here touches a file.

use std::ops::Range;

/// The line that remembers, inside a block, that the line above it had no line end. We gave it
/// one; taking the block out takes it back.
pub const NO_LINE_END: &[u8] = b"# (the line above this block had no line end)";

/// The two lines around a block, compared without blanks at the end of the line.
#[derive(Debug, Clone)]
pub struct Marks {
    /// First line of the block.
    pub begin: String,
    /// Last line of the block.
    pub end: String,
}

/// A block that begins and never ends: where it stops is anyone's guess, so nothing is edited.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line} (`{begin}`) begins a block that no `{end}` ends; mend that by hand")]
pub struct Unended {
    /// Line number, from 1.
    pub line: usize,
    /// The mark found.
    pub begin: String,
    /// The mark missed.
    pub end: String,
}

impl Marks {
    /// `text` with exactly one block holding `body` (whole lines): where the first one stood, or
    /// at the end.
    pub fn put(&self, text: &[u8], body: &str) -> Result<Vec<u8>, Unended> {
        Ok(self.put_over(text, &self.find(text)?, body))
    }

    /// `text` with one block holding `body` in place of the first of `ranges` (at the end when
    /// there is none), without the others. For files that hold older forms of the block too.
    pub fn put_over(&self, text: &[u8], ranges: &[Range<usize>], body: &str) -> Vec<u8> {
        let Some((first, others)) = ranges.split_first() else {
            return self.append(text, body);
        };
        let noted = is_noted(&text[first.clone()]);
        let mut new = text[..first.start].to_vec();
        new.extend_from_slice(&self.block(body, noted));
        let others: Vec<_> = others
            .iter()
            .map(|r| r.start - first.end..r.end - first.end)
            .collect();
        new.extend_from_slice(&cut(&text[first.end..], &others));
        new
    }

    fn append(&self, text: &[u8], body: &str) -> Vec<u8> {
        let ends_well = text.is_empty() || text.ends_with(b"\n");
        let mut new = text.to_vec();
        if !ends_well {
            new.push(b'\n');
        }
        new.extend_from_slice(&self.block(body, !ends_well));
        new
    }

    /// `text` without any such block.
    pub fn take_out(&self, text: &[u8]) -> Result<Vec<u8>, Unended> {
        Ok(cut(text, &self.find(text)?))
    }

    /// True when there is a block.
    pub fn present(&self, text: &[u8]) -> Result<bool, Unended> {
        Ok(!self.find(text)?.is_empty())
    }

    /// Where the blocks are: whole lines, marks included.
    pub fn find(&self, text: &[u8]) -> Result<Vec<Range<usize>>, Unended> {
        let mut blocks = Vec::new();
        let mut open: Option<(usize, usize)> = None;
        for (number, line) in lines(text).enumerate() {
            let is = |mark: &str| bare(&text[line.clone()]) == mark.as_bytes();
            match open {
                None if is(&self.begin) => open = Some((line.start, number + 1)),
                Some((start, _)) if is(&self.end) => {
                    blocks.push(start..line.end);
                    open = None;
                }
                Some((_, begun)) if is(&self.begin) => return Err(self.unended(begun)),
                _ => {}
            }
        }
        match open {
            Some((_, begun)) => Err(self.unended(begun)),
            None => Ok(blocks),
        }
    }

    fn unended(&self, line: usize) -> Unended {
        Unended {
            line,
            begin: self.begin.clone(),
            end: self.end.clone(),
        }
    }

    fn block(&self, body: &str, note: bool) -> Vec<u8> {
        let mut block = format!("{}\n", self.begin).into_bytes();
        if note {
            block.extend_from_slice(NO_LINE_END);
            block.push(b'\n');
        }
        block.extend_from_slice(body.as_bytes());
        if !body.is_empty() && !body.ends_with('\n') {
            block.push(b'\n');
        }
        block.extend_from_slice(self.end.as_bytes());
        block.push(b'\n');
        block
    }
}

/// The lines of a text, ends included.
pub fn lines(text: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut start = 0;
    std::iter::from_fn(move || {
        if start >= text.len() {
            return None;
        }
        let end = text[start..]
            .iter()
            .position(|b| *b == b'\n')
            .map_or(text.len(), |n| start + n + 1);
        let line = start..end;
        start = end;
        Some(line)
    })
}

/// A line without its end and the blanks before that.
pub fn bare(line: &[u8]) -> &[u8] {
    line.trim_ascii_end()
}

/// True when nothing but blanks and line ends is there.
pub fn is_blank(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_whitespace)
}

/// `text` without these ranges of whole lines (in order). A noted block gives its line end back
/// when nothing follows it.
pub fn cut(text: &[u8], ranges: &[Range<usize>]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(text.len());
    let mut from = 0;
    for range in ranges {
        kept.extend_from_slice(&text[from..range.start]);
        if is_noted(&text[range.clone()]) && range.end == text.len() && kept.ends_with(b"\n") {
            kept.pop();
        }
        from = range.end;
    }
    kept.extend_from_slice(&text[from..]);
    kept
}

fn is_noted(block: &[u8]) -> bool {
    lines(block).any(|line| bare(&block[line]) == NO_LINE_END)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn marks() -> Marks {
        Marks {
            begin: "# B".to_owned(),
            end: "# E".to_owned(),
        }
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_block_is_put_at_the_end_and_renewed_in_place() {
        let once = marks().put(b"a\nb\n", "one\n").unwrap();
        assert_eq!(text(once.clone()), "a\nb\n# B\none\n# E\n");
        assert_eq!(marks().put(&once, "one").unwrap(), once);
        let mut longer = once;
        longer.extend_from_slice(b"c\n");
        let renewed = marks().put(&longer, "two\n").unwrap();
        assert_eq!(text(renewed.clone()), "a\nb\n# B\ntwo\n# E\nc\n");
        assert_eq!(text(marks().take_out(&renewed).unwrap()), "a\nb\nc\n");
    }

    #[test]
    fn several_blocks_become_one() {
        let many = b"x\n# B\n1\n# E\ny\n# B\n2\n# E\nz";
        assert_eq!(
            text(marks().put(many, "n\n").unwrap()),
            "x\n# B\nn\n# E\ny\nz"
        );
        assert_eq!(text(marks().take_out(many).unwrap()), "x\ny\nz");
    }

    #[test]
    fn marks_with_carriage_returns_are_marks() {
        assert_eq!(
            marks().take_out(b"a\r\n# B\r\nx\r\n# E \r\nb\r\n").unwrap(),
            b"a\r\nb\r\n"
        );
        assert!(!marks().present(b"## B\n# Bx\n # B\n").unwrap());
    }

    #[test]
    fn an_open_block_is_not_guessed_at() {
        let error = marks().take_out(b"a\n# B\nb\n").unwrap_err();
        assert_eq!(error.line, 2);
        let twice = b"# B\nb\n# B\n# E\n";
        assert_eq!(marks().put(twice, "").unwrap_err().line, 1);
        assert!(marks().find(b"# E\n").unwrap().is_empty());
    }

    proptest! {
        /// Whatever the file: in and out again leaves the very bytes, and twice is once.
        #[test]
        fn in_and_out_leaves_every_byte(
            before in proptest::collection::vec(any::<u8>(), 0..200),
            body in "([a-z #]{0,8}\n){0,4}",
        ) {
            prop_assume!(marks().find(&before) == Ok(vec![]));
            let with = marks().put(&before, &body).unwrap();
            prop_assert!(marks().present(&with).unwrap());
            prop_assert_eq!(&marks().put(&with, &body).unwrap(), &with);
            prop_assert_eq!(marks().take_out(&with).unwrap(), before);
        }
    }
}
