//! Secrets that were found on this host, looked for in every form in which they could turn up
//! again: as they are, percent-encoded, escaped, in base64 at any offset, in hex, backwards.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use std::collections::HashMap;
use std::ops::Range;
use zeroize::Zeroizing;

/// Shorter ones would be found in every word.
pub const SHORTEST: usize = 4;
/// Longest text between two of base64's letters that is taken for one token.
const TOKEN_LIMIT: usize = 4096;

/// Texts to look for.
#[derive(Default)]
pub struct Known {
    /// As they are, after `\` and `%` were undone.
    plain: Finder,
    /// Forms of them, in the text as it stands; the token around them goes, too.
    encoded: Finder,
}

impl Known {
    /// One more.
    pub fn learn(&mut self, secret: &str) {
        if secret.len() < SHORTEST {
            return;
        }
        let bytes = secret.as_bytes();
        self.plain.add(bytes);
        let backwards: String = secret.chars().rev().collect();
        self.plain.add(backwards.as_bytes());
        // What a configuration has percent-encoded is sent decoded.
        let (decoded, _) = undone(bytes, percent);
        if decoded.len() != bytes.len()
            && let Ok(decoded) = String::from_utf8(decoded)
        {
            self.learn(&decoded);
        }
        let shell = secret.replace('\'', "'\\''");
        self.plain.add(shell.as_bytes());
        let xml = secret
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        self.plain.add(xml.replace('"', "&quot;").as_bytes());
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        self.encoded.add(hex.as_bytes());
        self.encoded.add(hex.to_uppercase().as_bytes());
        for offset in 0..3 {
            self.learn_base64(bytes, offset);
        }
    }

    /// The letters that only `bytes` decide, whatever stands before and behind them.
    fn learn_base64(&mut self, bytes: &[u8], offset: usize) {
        let padded = Zeroizing::new([&vec![0; offset], bytes].concat());
        let text = Zeroizing::new(STANDARD_NO_PAD.encode(&*padded));
        let begin = (offset * 8).div_ceil(6);
        let end = padded.len() * 8 / 6;
        let Some(sure) = text
            .get(begin..end)
            .filter(|sure| sure.len() >= SHORTEST + 2)
        else {
            return;
        };
        self.encoded.add(sure.as_bytes());
        self.encoded
            .add(sure.replace('+', "-").replace('/', "_").as_bytes());
        self.encoded
            .add(sure.chars().rev().collect::<String>().as_bytes());
    }

    /// Where they are in `text`.
    pub fn find(&self, text: &str) -> Vec<Range<usize>> {
        let bytes = text.as_bytes();
        let mut found = self.plain.find(bytes);
        for undo in [percent as Undo, escapes] {
            let (plain, from) = undone(bytes, undo);
            if plain.len() != bytes.len() {
                let ranges = self.plain.find(&plain).into_iter();
                found.extend(ranges.map(|r| from[r.start]..from[r.end]));
            }
        }
        let encoded = self.encoded.find(bytes).into_iter();
        found.extend(encoded.map(|range| token_around(bytes, range)));
        let (plain, from) = undone(bytes, percent);
        if plain.len() != bytes.len() {
            let encoded = self.encoded.find(&plain).into_iter();
            found.extend(encoded.map(|r| {
                let r = token_around(&plain, r);
                from[r.start]..from[r.end]
            }));
        }
        // Whole characters only.
        for range in &mut found {
            while !text.is_char_boundary(range.start) {
                range.start -= 1;
            }
            while !text.is_char_boundary(range.end) {
                range.end += 1;
            }
        }
        found
    }
}

fn token_around(text: &[u8], range: Range<usize>) -> Range<usize> {
    let is_of_it = |b: &u8| b.is_ascii_alphanumeric() || b"+/=-_".contains(b);
    let before = text[..range.start].iter().rev().take(TOKEN_LIMIT);
    let before = before.take_while(|b| is_of_it(b) && **b != b'=').count();
    let after = text[range.end..].iter().take(TOKEN_LIMIT);
    let after = after.take_while(|b| is_of_it(b)).count();
    range.start - before..range.end + after
}

/// How many bytes at the beginning stand for one, and for which.
type Undo = fn(&[u8]) -> Option<(usize, u8)>;

/// `%40`.
fn percent(text: &[u8]) -> Option<(usize, u8)> {
    match text {
        [b'%', high, low, ..] => Some((3, hex(*high)? << 4 | hex(*low)?)),
        _ => None,
    }
}

/// `\"`, `\/`, `\x40`, `\u0040`; of other escapes the backslash goes.
fn escapes(text: &[u8]) -> Option<(usize, u8)> {
    match text {
        [b'\\', b'x', high, low, ..] if hex(*high).is_some() => {
            Some((4, hex(*high)? << 4 | hex(*low)?))
        }
        [b'\\', b'u', b'0', b'0', high, low, ..] => Some((6, hex(*high)? << 4 | hex(*low)?)),
        [b'\\', c, ..] if c.is_ascii_punctuation() => Some((2, *c)),
        _ => None,
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|d| u8::try_from(d).ok())
}

/// The text with its escapes undone, and for each byte (and the end) where it came from.
fn undone(text: &[u8], undo: Undo) -> (Vec<u8>, Vec<usize>) {
    let (mut plain, mut from) = (Vec::with_capacity(text.len()), Vec::new());
    let mut at = 0;
    while at < text.len() {
        let (length, byte) = undo(&text[at..]).unwrap_or((1, text[at]));
        plain.push(byte);
        from.push(at);
        at += length;
    }
    from.push(text.len());
    (plain, from)
}

/// Finds any of many texts in one pass.
#[derive(Default)]
struct Finder {
    by_start: HashMap<[u8; SHORTEST], Vec<Zeroizing<Vec<u8>>>>,
}

impl Finder {
    fn add(&mut self, text: &[u8]) {
        let Some(start) = text.first_chunk::<SHORTEST>() else {
            return;
        };
        let texts = self.by_start.entry(*start).or_default();
        if !texts.iter().any(|known| ***known == *text) {
            texts.push(Zeroizing::new(text.to_vec()));
        }
    }

    fn find(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        // A look at a table of the first two bytes spares most look-ups.
        let mut begins = vec![false; 1 << 16];
        for start in self.by_start.keys() {
            begins[usize::from(u16::from_be_bytes([start[0], start[1]]))] = true;
        }
        for (at, window) in text.windows(SHORTEST).enumerate() {
            if !begins[usize::from(u16::from_be_bytes([window[0], window[1]]))] {
                continue;
            }
            let Some(texts) = window.first_chunk().and_then(|w| self.by_start.get(w)) else {
                continue;
            };
            let fitting = texts.iter().filter(|t| text[at..].starts_with(t));
            if let Some(length) = fitting.map(|t| t.len()).max() {
                found.push(at..at + length);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};

    #[test]
    fn every_form_is_found() {
        let secret = "p@ss \"w/rd'9?é";
        let mut known = Known::default();
        known.learn(secret);
        let encode = |f: fn(u8) -> String| secret.bytes().map(f).collect::<String>();
        let forms = [
            secret.to_owned(),
            encode(|b| format!("%{b:02X}")),
            encode(|b| format!("%{b:02x}")),
            encode(|b| match b.is_ascii_alphanumeric() {
                true => char::from(b).to_string(),
                false => format!("%{b:02X}"),
            }),
            serde_json::to_string(secret)
                .unwrap()
                .trim_matches('"')
                .to_owned(),
            secret.replace('@', "\\x40").replace('/', "\\/"),
            secret.replace('\'', "'\\''"),
            secret.chars().rev().collect(),
            encode(|b| format!("{b:02x}")),
            STANDARD.encode(secret),
            STANDARD.encode(format!("u:{secret}")),
            STANDARD.encode(format!("us:{secret}@h")),
            URL_SAFE.encode(format!("user:{secret}")),
            STANDARD
                .encode(format!("u:{secret}"))
                .replace('+', "%2B")
                .replace('=', "%3D"),
        ];
        for form in forms {
            let text = format!("before {form} after");
            let found = known.find(&text);
            assert!(!found.is_empty(), "{form}");
            let end = found.iter().map(|r| r.end).max().unwrap();
            let begin = found.iter().map(|r| r.start).min().unwrap();
            let rest = format!("{}{}", &text[..begin], &text[end..]);
            assert!(
                rest.starts_with("before ") && rest.ends_with(" after"),
                "{form}: {rest}"
            );
            assert!(rest.len() <= "before  after".len() + 2, "{form}: {rest}");
        }
        assert!(known.find("nothing of that kind").is_empty());
    }

    #[test]
    fn what_is_too_short_is_not_looked_for() {
        let mut known = Known::default();
        known.learn("abc");
        known.learn("");
        assert!(known.find("abc abc").is_empty());
    }
}
