//! Values: their quoting, and what sizes, times and booleans look like (protocol.md 5.1).

use super::{FILE_LIMIT, Lines, Problem};
use std::time::Duration;

/// Why a value is not of the type that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not {wanted}")]
pub struct BadValue {
    /// What was written.
    pub value: String,
    /// What would have been understood, with an example.
    pub wanted: &'static str,
}

/// Reads the value that begins at `rest`; may take further lines for JSON and double quotes.
pub(super) fn text(
    rest: &str,
    lines: &mut Lines<'_>,
    warnings: &mut Vec<Problem>,
) -> Result<String, Problem> {
    match rest.as_bytes().first() {
        Some(b'"') => double_quoted(&rest[1..], lines, warnings),
        Some(b'\'') => single_quoted(&rest[1..], lines),
        Some(b'[' | b'{') => json(rest, lines),
        _ => Ok(bare(rest).to_owned()),
    }
}

/// To the line's end or to a comment: a blank and then `#`.
fn bare(rest: &str) -> &str {
    let bytes = rest.as_bytes();
    let comment = (1..bytes.len())
        .find(|&i| bytes[i] == b'#' && matches!(bytes[i - 1], b' ' | b'\t'))
        .unwrap_or(rest.len());
    rest[..comment].trim()
}

fn only_comment_follows(tail: &str, lines: &Lines<'_>) -> Result<(), Problem> {
    let tail = tail.trim_start();
    if tail.is_empty() || tail.starts_with('#') {
        Ok(())
    } else {
        // Not what it is: it may be the rest of a password.
        Err(lines.problem("text after the closing quote or bracket"))
    }
}

fn double_quoted(
    rest: &str,
    lines: &mut Lines<'_>,
    warnings: &mut Vec<Problem>,
) -> Result<String, Problem> {
    let opened = lines.place();
    let mut value = String::new();
    let mut piece = rest;
    loop {
        let mut chars = piece.char_indices();
        let mut joined = false;
        while let Some((i, c)) = chars.next() {
            match c {
                '"' => {
                    only_comment_follows(&piece[i + 1..], lines)?;
                    if value.contains("#{") {
                        warnings.push(Problem {
                            place: opened,
                            text:
                                "`#{…}` (embedded Ruby) is not run; the text is taken as it stands"
                                    .to_owned(),
                        });
                    }
                    return Ok(value);
                }
                '\\' => match chars.next() {
                    None => joined = true,
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, 'r')) => value.push('\r'),
                    Some((_, 't')) => value.push('\t'),
                    Some((_, 'f')) => value.push('\u{c}'),
                    Some((_, 'b')) => value.push('\u{8}'),
                    Some((_, '0')) => value.push('\0'),
                    Some((_, other)) => value.push(other),
                },
                other => value.push(other),
            }
        }
        if !joined {
            value.push('\n');
        }
        piece = match lines.next() {
            Some(line) => line,
            None => {
                return Err(Problem {
                    place: opened,
                    text: "the closing `\"` is missing".to_owned(),
                });
            }
        };
    }
}

fn single_quoted(rest: &str, lines: &Lines<'_>) -> Result<String, Problem> {
    let mut value = String::new();
    let mut chars = rest.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '\'' => {
                only_comment_follows(&rest[i + 1..], lines)?;
                return Ok(value);
            }
            '\\' => match chars.clone().next() {
                Some((_, next @ ('\'' | '\\'))) => {
                    value.push(next);
                    chars.next();
                }
                _ => value.push('\\'),
            },
            other => value.push(other),
        }
    }
    Err(lines.problem("the closing `'` is missing"))
}

/// A JSON array or object; may span lines, `#` comments at line ends are left out.
fn json(rest: &str, lines: &mut Lines<'_>) -> Result<String, Problem> {
    let opened = lines.place();
    let mut value = String::new();
    let mut piece = rest;
    let mut nesting = 0_usize;
    let mut in_string = false;
    loop {
        let mut chars = piece.char_indices();
        while let Some((i, c)) = chars.next() {
            if in_string {
                value.push(c);
                match c {
                    '"' => in_string = false,
                    '\\' => value.extend(chars.next().map(|(_, c)| c)),
                    _ => {}
                }
                continue;
            }
            match c {
                '#' => break,
                '"' => in_string = true,
                '[' | '{' => nesting += 1,
                ']' | '}' => nesting = nesting.saturating_sub(1),
                _ => {}
            }
            value.push(c);
            if nesting == 0 {
                only_comment_follows(&piece[i + 1..], lines)?;
                return match serde_json::from_slice::<serde::de::IgnoredAny>(value.as_bytes()) {
                    Ok(_) => Ok(value),
                    Err(e) => Err(Problem {
                        place: opened,
                        text: format!(
                            "a value that begins with `[` or `{{` must be JSON ({e}); quote it if it is a text"
                        ),
                    }),
                };
            }
        }
        value.push('\n');
        piece = match lines.next() {
            Some(line) if value.len() < FILE_LIMIT => line,
            _ => {
                return Err(Problem {
                    place: opened,
                    text: "the closing bracket of the JSON value is missing".to_owned(),
                });
            }
        };
    }
}

/// `123`, `10k`, `10m`, `1g`, `1t`: bytes, by powers of 1024.
pub fn size(value: &str) -> Result<u64, BadValue> {
    let bad = || BadValue {
        value: value.to_owned(),
        wanted: "a size such as `512k`, `15m` or `1g`",
    };
    let (digits, shift) = match value.bytes().last().ok_or_else(bad)? {
        b'k' | b'K' => (&value[..value.len() - 1], 10),
        b'm' | b'M' => (&value[..value.len() - 1], 20),
        b'g' | b'G' => (&value[..value.len() - 1], 30),
        b't' | b'T' => (&value[..value.len() - 1], 40),
        _ => (value, 0),
    };
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let number: u64 = digits.parse().map_err(|_| bad())?;
    number.checked_mul(1 << shift).ok_or_else(bad)
}

/// `30`, `30s`, `10m`, `2h`, `1d`, `0.5s`: at most 3660 days.
pub fn duration(value: &str) -> Result<Duration, BadValue> {
    let bad = || BadValue {
        value: value.to_owned(),
        wanted: "a time such as `30s`, `10m`, `2h`, `1d` or `0.5s`",
    };
    let (digits, unit) = match value.bytes().last().ok_or_else(bad)? {
        b's' => (&value[..value.len() - 1], 1.0),
        b'm' => (&value[..value.len() - 1], 60.0),
        b'h' => (&value[..value.len() - 1], 3600.0),
        b'd' => (&value[..value.len() - 1], 86_400.0),
        _ => (value, 1.0),
    };
    let plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number: f64 = digits.parse().map_err(|_| bad())?;
    let seconds = number * unit;
    if !plain || !(0.0..=3660.0 * 86_400.0).contains(&seconds) {
        return Err(bad());
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// `true`/`yes`, `false`/`no`.
pub fn boolean(value: &str) -> Result<bool, BadValue> {
    match value {
        "true" | "yes" => Ok(true),
        "false" | "no" => Ok(false),
        _ => Err(BadValue {
            value: value.to_owned(),
            wanted: "`true` or `false`",
        }),
    }
}
