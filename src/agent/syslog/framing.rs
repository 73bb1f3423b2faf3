//! Where one message ends and the next begins in a byte stream: a line feed, or a count in front
//! (RFC 6587). Each message says by its first bytes which it is.

/// Longest message; the rest of a longer one is skipped and it is taken as cut.
pub const MESSAGE_LIMIT: usize = 64 << 10;
/// Digits of an octet count.
const COUNT_DIGITS: usize = 9;

/// Collects the bytes of one connection.
#[derive(Debug, Default)]
pub struct Framing {
    held: Vec<u8>,
    skip: Skip,
}

/// What is left to skip of a message that was too long.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Skip {
    #[default]
    Nothing,
    ToLineFeed,
    Bytes(usize),
}

enum Begin {
    Line,
    /// Bytes of the count with its blank, and the count.
    Counted(usize, usize),
    Undecided,
}

impl Framing {
    /// Hands on every message that is complete with `bytes`; keeps the rest.
    pub fn take(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        let mut bytes = self.skip(bytes);
        if self.held.is_empty() {
            // The common case copies nothing but the last, incomplete message.
            let used = messages(bytes, &mut each);
            bytes = &bytes[used..];
            self.held.extend_from_slice(bytes);
        } else {
            self.held.extend_from_slice(bytes);
            let used = messages(&self.held, &mut each);
            self.held.drain(..used);
        }
        self.cut_long(&mut each);
        if self.held.is_empty() && self.held.capacity() > 4096 {
            self.held = Vec::new();
        }
    }

    /// The connection has ended: what is held is the last message.
    pub fn finish(&mut self, mut each: impl FnMut(&[u8])) {
        let held = std::mem::take(&mut self.held);
        let text = match begin(&held) {
            Begin::Counted(prefix, _) => &held[prefix..],
            _ => &held[..],
        };
        if !text.is_empty() {
            each(text);
        }
    }

    /// What is held of an incomplete message, and what is left to skip: to the line's end (0), or
    /// so many bytes.
    pub fn into_parts(self) -> (Vec<u8>, Option<usize>) {
        let skip = match self.skip {
            Skip::Nothing => None,
            Skip::ToLineFeed => Some(0),
            Skip::Bytes(count) => Some(count),
        };
        (self.held, skip)
    }

    /// The other way round.
    pub fn from_parts(held: Vec<u8>, skip: Option<usize>) -> Framing {
        let skip = match skip {
            None => Skip::Nothing,
            Some(0) => Skip::ToLineFeed,
            Some(count) => Skip::Bytes(count),
        };
        Framing { held, skip }
    }

    fn skip<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        match self.skip {
            Skip::Nothing => bytes,
            Skip::ToLineFeed => match bytes.iter().position(|&b| b == b'\n') {
                None => &[],
                Some(end) => {
                    self.skip = Skip::Nothing;
                    &bytes[end + 1..]
                }
            },
            Skip::Bytes(count) => {
                let now = count.min(bytes.len());
                self.skip = match count - now {
                    0 => Skip::Nothing,
                    left => Skip::Bytes(left),
                };
                &bytes[now..]
            }
        }
    }

    /// A message that is longer than allowed goes out cut.
    fn cut_long(&mut self, each: &mut impl FnMut(&[u8])) {
        match begin(&self.held) {
            Begin::Counted(prefix, count) if self.held.len() >= prefix + MESSAGE_LIMIT => {
                each(&self.held[prefix..prefix + MESSAGE_LIMIT]);
                self.skip = Skip::Bytes(prefix + count - self.held.len());
                self.held.clear();
            }
            Begin::Line if self.held.len() > MESSAGE_LIMIT => {
                each(&self.held[..MESSAGE_LIMIT]);
                self.skip = Skip::ToLineFeed;
                self.held.clear();
            }
            _ => {}
        }
    }
}

/// Hands on the complete messages at the beginning of `bytes`; how many bytes they took.
fn messages(bytes: &[u8], each: &mut impl FnMut(&[u8])) -> usize {
    let mut used = 0;
    loop {
        let rest = &bytes[used..];
        match begin(rest) {
            Begin::Undecided => return used,
            Begin::Counted(prefix, count) => {
                let Some(message) = rest.get(prefix..prefix + count) else {
                    return used;
                };
                each(&message[..count.min(MESSAGE_LIMIT)]);
                used += prefix + count;
            }
            Begin::Line => {
                let Some(end) = rest.iter().position(|&b| b == b'\n') else {
                    return used;
                };
                let line = &rest[..end];
                if line.iter().any(|b| !matches!(b, b'\r' | 0 | b' ')) {
                    each(&line[..end.min(MESSAGE_LIMIT)]);
                }
                used += end + 1;
            }
        }
    }
}

/// A count is digits, a blank, and the `<` of a priority; a line that begins with a number by
/// chance does not go on so.
fn begin(bytes: &[u8]) -> Begin {
    let digits = bytes
        .iter()
        .take(COUNT_DIGITS + 1)
        .take_while(|b| b.is_ascii_digit())
        .count();
    if bytes.is_empty() || (digits == bytes.len() && digits <= COUNT_DIGITS) {
        return Begin::Undecided;
    }
    if digits == 0 || digits > COUNT_DIGITS || bytes[0] == b'0' || bytes[digits] != b' ' {
        return Begin::Line;
    }
    match bytes.get(digits + 1) {
        None => Begin::Undecided,
        Some(b'<') => {
            let count = bytes[..digits]
                .iter()
                .fold(0, |n, b| n * 10 + usize::from(b - b'0'));
            Begin::Counted(digits + 1, count)
        }
        Some(_) => Begin::Line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(pieces: &[&[u8]]) -> Vec<String> {
        let mut framing = Framing::default();
        let mut got = Vec::new();
        let mut each = |m: &[u8]| got.push(String::from_utf8_lossy(m).into_owned());
        for piece in pieces {
            framing.take(piece, &mut each);
        }
        framing.finish(&mut each);
        got
    }

    #[test]
    fn lines_counts_and_both_mixed() {
        for (stream, wanted) in [
            (
                &b"<1>a\n<2>b\r\n\n<3>c"[..],
                &["<1>a", "<2>b\r", "<3>c"][..],
            ),
            (b"4 <1>a5 <2>b\n<3>c\n", &["<1>a", "<2>b\n", "<3>c"]),
            (b"12 monkeys\n<1>x\n", &["12 monkeys", "<1>x"]),
            (b"2031-01-01 x\n", &["2031-01-01 x"]),
            (b"0 <1>a\n", &["0 <1>a"]),
            (b"12345678901 <x\n", &["12345678901 <x"]),
            (b"999 <1>cut off", &["<1>cut off"]),
            (b"123", &["123"]),
        ] {
            assert_eq!(
                run(&[stream]),
                wanted,
                "{}",
                String::from_utf8_lossy(stream)
            );
        }
    }

    #[test]
    fn any_cut_into_pieces_gives_the_same() {
        let stream = b"<1>one\n5 <2>ab17 <3>with\nline feed\n\n9 lives\n<4>end";
        let whole = run(&[stream]);
        for i in 0..stream.len() {
            for j in i..stream.len() {
                assert_eq!(
                    run(&[&stream[..i], &stream[i..j], &stream[j..]]),
                    whole,
                    "{i} {j}"
                );
            }
        }
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(run(&bytes), whole);
    }

    #[test]
    fn a_long_message_is_cut_and_the_next_one_is_whole() {
        let at = "x".repeat(MESSAGE_LIMIT);
        let over = "y".repeat(MESSAGE_LIMIT + 1);
        let lines = format!("{at}\n{over}\nnext\n");
        let counted = format!(
            "{} <{}{} <{}4 <1>n",
            MESSAGE_LIMIT,
            &at[1..],
            MESSAGE_LIMIT * 3,
            "z".repeat(MESSAGE_LIMIT * 3 - 1)
        );
        for size in [1000, 65_536, 1 << 20] {
            let pieces: Vec<&[u8]> = lines.as_bytes().chunks(size).collect();
            let got = run(&pieces);
            assert_eq!(got.len(), 3);
            assert_eq!((got[0].len(), got[1].len()), (MESSAGE_LIMIT, MESSAGE_LIMIT));
            assert_eq!(got[2], "next");
            let pieces: Vec<&[u8]> = counted.as_bytes().chunks(size).collect();
            let got = run(&pieces);
            assert_eq!(got.len(), 3, "{size}");
            assert_eq!(got[1].len(), MESSAGE_LIMIT);
            assert_eq!(got[2], "<1>n");
        }
    }

    #[test]
    fn memory_stays_bounded_without_a_line_feed() {
        let mut framing = Framing::default();
        for _ in 0..100 {
            framing.take(&[b'x'; 60_000], |_| {});
            assert!(framing.held.capacity() <= 4 * MESSAGE_LIMIT);
        }
    }
}
