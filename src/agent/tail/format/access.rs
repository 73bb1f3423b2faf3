//! Apache's access log (protocol.md 5.4, `apache2`).

use super::cut;

/// A line of Apache's access log: `host ident user [time] "method path protocol" code size`, and
/// perhaps `"referer" "agent"`.
pub struct Access<'l> {
    host: &'l [u8],
    user: &'l [u8],
    time: &'l [u8],
    method: &'l [u8],
    path: Option<&'l [u8]>,
    /// Digits, as a rule.
    pub code: &'l [u8],
    /// Digits, or `-`.
    pub size: &'l [u8],
    referer: Option<&'l [u8]>,
    agent: Option<&'l [u8]>,
}

impl<'l> Access<'l> {
    /// `None` when it is no such line.
    pub fn read(line: &'l [u8]) -> Option<Access<'l>> {
        let word = |text: &'l [u8]| {
            let (word, rest) = cut(text, b" ");
            Some((word, rest?))
        };
        let (host, rest) = word(line)?;
        let (_, rest) = word(rest)?;
        let (user, rest) = word(rest)?;
        let (time, rest) = cut(rest.strip_prefix(b"[")?, b"]");
        let (request, rest) = in_quotes(rest?.strip_prefix(b" ")?)?;
        let (code, rest) = word(rest.strip_prefix(b" ")?)?;
        let (size, rest) = cut(rest, b" ");
        let (referer, agent) = match rest {
            None => (None, None),
            Some(rest) => {
                let (referer, rest) = in_quotes(rest)?;
                let (agent, rest) = in_quotes(rest.strip_prefix(b" ")?)?;
                if !rest.is_empty() {
                    return None;
                }
                (Some(referer), Some(agent))
            }
        };
        let (method, target) = cut(request, b" ");
        let without_protocol = |target: &'l [u8]| match memchr::memrchr(b' ', target) {
            Some(n) => &target[..n],
            None => target,
        };
        Some(Access {
            host,
            user,
            time,
            method,
            path: target.map(without_protocol),
            code,
            size,
            referer,
            agent,
        })
    }

    /// The values that are texts, in their order.
    pub fn texts(&self) -> [(&'static [u8], Option<&'l [u8]>); 7] {
        [
            (b"host", Some(self.host)),
            (b"user", Some(self.user)),
            (b"time", Some(self.time)),
            (b"method", Some(self.method)),
            (b"path", self.path),
            (b"referer", self.referer),
            (b"agent", self.agent),
        ]
    }
}

/// What stands in double quotes at the beginning, and what is behind; `\"` does not end it.
fn in_quotes(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(b"\"")?;
    let mut escaped = false;
    for (n, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some((&text[..n], &text[n + 1..])),
            _ => {}
        }
    }
    None
}
