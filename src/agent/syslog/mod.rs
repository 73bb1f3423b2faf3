//! Syslog lines: taken apart by hand, once, into slices of the line itself (protocol.md 6.4).

pub mod framing;
pub mod item;
pub mod stamp;

use stamp::Zone;

/// Names of the facility codes 0-23 (protocol.md 3.5).
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "at", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

/// Names of the severity codes 0-7; `warn`, not `warning` (protocol.md 3.5).
const SEVERITIES: [&str; 8] = [
    "emerg", "alert", "crit", "err", "warn", "notice", "info", "debug",
];

/// Digits of a priority. Codes above 191 have no facility name but are not refused.
const PRIORITY_DIGITS: usize = 9;

/// A line taken apart; texts are slices of it, not necessarily UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'l> {
    /// Facility code * 8 + severity code.
    pub priority: u32,
    /// Facility name; empty above code 23.
    pub facility: &'static str,
    /// Severity name.
    pub severity: &'static str,
    /// When the sender says it happened, milliseconds since 1970; `None` when it says nothing
    /// (RFC 5424 allows that).
    pub time_ms: Option<i64>,
    /// Host name or address; empty when the line has none.
    pub host: &'l [u8],
    /// Program.
    pub ident: &'l [u8],
    /// Process id: digits.
    pub pid: Option<&'l [u8]>,
    /// The text.
    pub message: &'l [u8],
}

/// Why a line is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoMatch {
    /// It does not begin with `<digits>`.
    #[error("it does not begin with a priority such as `<13>`")]
    Priority,
    /// There is no time stamp, or one that no calendar knows.
    #[error("its time cannot be read")]
    Time,
    /// It ends before the program's name.
    #[error("it has no host and program after the time")]
    Short,
}

/// Names of a priority's facility, empty when it has none, and severity.
pub fn names(priority: u32) -> (&'static str, &'static str) {
    let facility = FACILITIES.get((priority / 8) as usize);
    let severity = SEVERITIES[(priority % 8) as usize];
    (facility.copied().unwrap_or(""), severity)
}

/// Takes one message apart; `default_priority` is for those without one. Of an RFC 3164 message
/// only the first line counts, as with the original; one of RFC 5424 is kept whole.
pub fn parse<'l>(
    line: &'l [u8],
    default_priority: Option<u32>,
    zone: &mut Zone,
) -> Result<Message<'l>, NoMatch> {
    let line = without_end(line);
    let (priority, rest) = match (priority(line), default_priority) {
        (Some(split), _) => split,
        (None, Some(code)) => (code, line),
        (None, None) => return Err(NoMatch::Priority),
    };
    let (facility, severity) = names(priority);
    let blank = Message {
        priority,
        facility,
        severity,
        time_ms: None,
        host: b"",
        ident: b"",
        pid: None,
        message: b"",
    };
    if let Some(rest) = version(rest) {
        return rfc5424(rest, blank, zone);
    }
    let rest = rest.split(|&b| b == b'\n').next().unwrap_or(rest);
    let (stamp, rest) = stamp::read(without_end(rest)).ok_or(NoMatch::Time)?;
    let time = zone.resolve(stamp).ok_or(NoMatch::Time)?;
    rfc3164(
        rest,
        Message {
            time_ms: Some(time),
            ..blank
        },
    )
}

/// Without a trailing line end; a NUL is one too.
fn without_end(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|b| !matches!(b, b'\n' | b'\r' | 0));
    &line[..end.map_or(0, |i| i + 1)]
}

fn priority(line: &[u8]) -> Option<(u32, &[u8])> {
    let rest = line.strip_prefix(b"<")?;
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    if !(1..=PRIORITY_DIGITS).contains(&digits) || rest.get(digits) != Some(&b'>') {
        return None;
    }
    let code = rest[..digits]
        .iter()
        .fold(0, |n, b| n * 10 + u32::from(b - b'0'));
    Some((code, &rest[digits + 1..]))
}

/// RFC 5424: a version of one or two digits and a blank right after the priority, then a stamp
/// that begins with a year, or `-`.
fn version(rest: &[u8]) -> Option<&[u8]> {
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let after = rest.get(digits..)?.strip_prefix(b" ")?;
    let stamp = after.starts_with(b"- ")
        || after.len() > 5 && after[..4].iter().all(u8::is_ascii_digit) && after[4] == b'-';
    ((1..=2).contains(&digits) && rest[0] != b'0' && stamp).then_some(after)
}

/// What follows the time: ` host ident[pid]: message`.
fn rfc3164<'l>(rest: &'l [u8], known: Message<'l>) -> Result<Message<'l>, NoMatch> {
    let rest = rest.strip_prefix(b" ").ok_or(NoMatch::Time)?;
    let blank = position(rest, |b| b == b' ').ok_or(NoMatch::Short)?;
    let (host, rest) = (&rest[..blank], &rest[blank + 1..]);
    let end = position(rest, |b| matches!(b, b' ' | b':' | b'[')).unwrap_or(rest.len());
    let (ident, rest) = rest.split_at(end);
    let (pid, rest) = match bracketed_pid(rest) {
        Some((pid, rest)) => (Some(pid), rest),
        None => (None, rest),
    };
    // Everything up to the first colon is skipped, wherever it is; without one, nothing is.
    let rest = match position(rest, |b| b == b':') {
        Some(colon) => &rest[colon + 1..],
        None => rest,
    };
    let blanks = rest.iter().take_while(|b| **b == b' ').count();
    Ok(Message {
        host,
        ident,
        pid,
        message: &rest[blanks..],
        ..known
    })
}

fn bracketed_pid(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = rest.strip_prefix(b"[")?;
    let digits = inner.iter().take_while(|b| b.is_ascii_digit()).count();
    let after = inner[digits..].strip_prefix(b"]")?;
    (digits > 0).then_some((&inner[..digits], after))
}

/// `time host app procid msgid structured-data message`.
fn rfc5424<'l>(
    rest: &'l [u8],
    known: Message<'l>,
    zone: &mut Zone,
) -> Result<Message<'l>, NoMatch> {
    let (time_ms, rest) = match rest.strip_prefix(b"-") {
        Some(rest) => (None, rest),
        None => {
            let (stamp, rest) = stamp::read(rest).ok_or(NoMatch::Time)?;
            (Some(zone.resolve(stamp).ok_or(NoMatch::Time)?), rest)
        }
    };
    let mut rest = rest.strip_prefix(b" ").ok_or(NoMatch::Time)?;
    let mut word = || {
        let end = position(rest, |b| b == b' ').unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after.strip_prefix(b" ").unwrap_or(after);
        if word == b"-" { &b""[..] } else { word }
    };
    let (host, ident, procid, _msgid) = (word(), word(), word(), word());
    if rest.is_empty() && ident.is_empty() {
        return Err(NoMatch::Short);
    }
    let message = structured_data(rest).unwrap_or(rest);
    let message = message.strip_prefix(b"\xef\xbb\xbf").unwrap_or(message);
    let digits = !procid.is_empty() && procid.iter().all(u8::is_ascii_digit);
    Ok(Message {
        time_ms,
        host,
        ident,
        pid: digits.then_some(procid),
        message,
        ..known
    })
}

/// What follows `-` or `[id name="value" …]…` and a blank; `None` when it is neither: then the
/// text is kept whole rather than guessed at.
fn structured_data(rest: &[u8]) -> Option<&[u8]> {
    let mut rest = match rest.strip_prefix(b"-") {
        Some(after) => after,
        None => {
            let mut rest = rest;
            if !rest.starts_with(b"[") {
                return None;
            }
            while rest.first() == Some(&b'[') {
                let mut quoted = false;
                let mut escaped = false;
                let end = position(rest, |b| {
                    let close = b == b']' && !quoted;
                    match b {
                        _ if escaped => escaped = false,
                        b'\\' if quoted => escaped = true,
                        b'"' => quoted = !quoted,
                        _ => {}
                    }
                    close
                })?;
                rest = &rest[end + 1..];
            }
            rest
        }
    };
    if !rest.is_empty() {
        rest = rest.strip_prefix(b" ")?;
    }
    Some(rest)
}

fn position(bytes: &[u8], mut is: impl FnMut(u8) -> bool) -> Option<usize> {
    bytes.iter().position(|&b| is(b))
}

#[cfg(test)]
mod tests;
