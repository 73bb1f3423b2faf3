//! HTTP/1.1 messages: a request as bytes, an answer from bytes. Knows no network (RFC 9112).

use super::url::Url;
use super::{Cause, HttpError, Response};
use std::io::{self, Read};

/// Largest head of an answer, the interim ones (100 Continue) each for itself.
pub(super) const HEAD_LIMIT: usize = 64 << 10;
/// Most headers of an answer.
pub(super) const MAX_HEADERS: usize = 100;
/// Largest body of an answer.
pub(super) const BODY_LIMIT: usize = 1 << 20;
/// Most interim answers before the real one.
const MAX_INTERIM: usize = 10;
/// Longest chunk-size line with its extensions.
const CHUNK_LINE_LIMIT: usize = 1024;

/// A request, ready to be written.
pub(super) struct Request<'a> {
    pub(super) head: Vec<u8>,
    pub(super) body: &'a [u8],
}

impl<'a> Request<'a> {
    pub(super) fn new(
        method: &str,
        url: &Url,
        user_agent: &str,
        headers: &[(&str, &str)],
        body: Option<&'a [u8]>,
    ) -> Result<Self, HttpError> {
        let host = url.target().host_header();
        let length = body.map(|b| b.len().to_string());
        let mut all = vec![("Host", host.as_str())];
        for (name, value) in [("User-Agent", user_agent), ("Accept", "*/*")] {
            if !headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name)) {
                all.push((name, value));
            }
        }
        all.extend_from_slice(headers);
        all.extend(length.as_deref().map(|n| ("Content-Length", n)));
        let mut head = format!("{method} {} HTTP/1.1\r\n", url.path);
        for (name, value) in all {
            push_header(&mut head, name, value)?;
        }
        head.push_str("\r\n");
        Ok(Request {
            head: head.into_bytes(),
            body: body.unwrap_or_default(),
        })
    }
}

/// Adds one header line; what would break out of the line is refused.
pub(super) fn push_header(head: &mut String, name: &str, value: &str) -> Result<(), HttpError> {
    let name_byte = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let good_name = !name.is_empty() && name.bytes().all(name_byte);
    if !good_name || value.bytes().any(|b| b.is_ascii_control()) {
        let detail = format!("cannot send the header `{}`", name.escape_default());
        return Err(HttpError::new(Cause::Local, detail));
    }
    for piece in [name, ": ", value, "\r\n"] {
        head.push_str(piece);
    }
    Ok(())
}

/// A whole answer, and whether the connection may carry another.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response,
    pub(super) reusable: bool,
}

/// Why no whole answer was read.
#[derive(Debug)]
pub(super) enum Failure {
    /// The stream failed or ended, after `received` bytes.
    Stream { source: io::Error, received: usize },
    /// What came is not an answer, or more than we take.
    NotHttp(&'static str),
}

/// Reads one answer to a request of a method that gets a body in its answer (not HEAD).
pub(super) fn read_answer(stream: impl Read) -> Result<Answer, Failure> {
    let mut incoming = Incoming {
        stream,
        buffer: Vec::new(),
        received: 0,
    };
    for _ in 0..MAX_INTERIM {
        let head = incoming.head()?;
        if head.status == 101 {
            return Err(Failure::NotHttp("it switches to another protocol"));
        }
        if head.status >= 200 {
            return incoming.body(head);
        }
    }
    Err(Failure::NotHttp("too many interim answers"))
}

/// Reads the head of a proxy's answer to CONNECT; what follows a 2xx belongs to the tunnel.
pub(super) fn read_connect_answer(stream: impl Read) -> Result<u16, Failure> {
    let mut incoming = Incoming {
        // Byte by byte: nothing of the tunnel may be taken, and the head is short.
        stream: OneByte(stream),
        buffer: Vec::new(),
        received: 0,
    };
    loop {
        let status = incoming.head()?.status;
        if status >= 200 {
            return Ok(status);
        }
    }
}

struct OneByte<R>(R);

impl<R: Read> Read for OneByte<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = into.len().min(1);
        self.0.read(&mut into[..n])
    }
}

struct Head {
    status: u16,
    http_1_0: bool,
    headers: Vec<(String, String)>,
}

impl Head {
    /// All values of a header, as the elements of one comma-separated list.
    fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers
            .iter()
            .filter(move |(n, _)| n == name)
            .flat_map(|(_, value)| value.split(','))
            .map(str::trim)
            .filter(|element| !element.is_empty())
    }
}

struct Incoming<R> {
    stream: R,
    /// Read and not yet used.
    buffer: Vec<u8>,
    received: usize,
}

impl<R: Read> Incoming<R> {
    /// Reads some more; `false` at the proper end of the stream.
    fn more(&mut self) -> Result<bool, Failure> {
        let mut piece = [0u8; 8192];
        loop {
            match self.stream.read(&mut piece) {
                Ok(n) => {
                    self.buffer.extend_from_slice(&piece[..n]);
                    self.received += n;
                    return Ok(n > 0);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let received = self.received;
                    return Err(Failure::Stream { source, received });
                }
            }
        }
    }

    fn must_get_more(&mut self) -> Result<(), Failure> {
        if self.more()? {
            return Ok(());
        }
        Err(Failure::Stream {
            source: io::ErrorKind::UnexpectedEof.into(),
            received: self.received,
        })
    }

    fn head(&mut self) -> Result<Head, Failure> {
        let mut looked_at = 0;
        loop {
            // Parse once the end is there, not at each piece.
            let window = &self.buffer[looked_at.min(self.buffer.len())..];
            let ended = window.windows(2).any(|w| w == b"\n\n")
                || window.windows(4).any(|w| w == b"\r\n\r\n");
            let full = self.buffer.len() > HEAD_LIMIT;
            if ended || full || !looks_like_http(&self.buffer) {
                let limit = self.buffer.len().min(HEAD_LIMIT);
                let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
                let mut parsed = httparse::Response::new(&mut headers);
                let used = match parsed.parse(&self.buffer[..limit]) {
                    Ok(httparse::Status::Complete(used)) => used,
                    Ok(httparse::Status::Partial) if full => {
                        return Err(Failure::NotHttp("its head is larger than 64 KiB"));
                    }
                    Ok(httparse::Status::Partial) => {
                        looked_at = self.buffer.len().saturating_sub(3);
                        self.must_get_more()?;
                        continue;
                    }
                    Err(httparse::Error::TooManyHeaders) => {
                        return Err(Failure::NotHttp("it has more than 100 headers"));
                    }
                    Err(_) => return Err(Failure::NotHttp("it is not HTTP/1.1")),
                };
                let head = Head {
                    status: parsed.code.unwrap_or(0),
                    http_1_0: parsed.version == Some(0),
                    headers: parsed
                        .headers
                        .iter()
                        .map(|h| {
                            let value = String::from_utf8_lossy(h.value).trim().to_owned();
                            (h.name.to_ascii_lowercase(), value)
                        })
                        .collect(),
                };
                self.buffer.drain(..used);
                if !(100..=599).contains(&head.status) {
                    return Err(Failure::NotHttp("its status is no number from 100 to 599"));
                }
                return Ok(head);
            }
            looked_at = self.buffer.len().saturating_sub(3);
            self.must_get_more()?;
        }
    }

    fn body(mut self, head: Head) -> Result<Answer, Failure> {
        let says = |name: &str, word: &str| head.list(name).any(|e| e.eq_ignore_ascii_case(word));
        let mut reusable = if head.http_1_0 {
            says("connection", "keep-alive")
        } else {
            !says("connection", "close")
        };
        let coded = head.list("transfer-encoding").next().is_some();
        let mut lengths: Vec<&str> = head.list("content-length").collect();
        lengths.dedup();
        let body = if matches!(head.status, 204 | 304) {
            Vec::new()
        } else if coded {
            if head.list("transfer-encoding").count() != 1 || !says("transfer-encoding", "chunked")
            {
                return Err(Failure::NotHttp("its transfer encoding is not chunked"));
            }
            reusable &= lengths.is_empty();
            self.chunked()?
        } else if let Some(length) = lengths.first() {
            let digits = length.bytes().all(|b| b.is_ascii_digit());
            if lengths.len() != 1 || !digits {
                return Err(Failure::NotHttp("its Content-Length is no number"));
            }
            let too_long = Failure::NotHttp("its body is larger than 1 MiB");
            let length: usize = length
                .parse()
                .ok()
                .filter(|n| *n <= BODY_LIMIT)
                .ok_or(too_long)?;
            self.exactly(length)?
        } else {
            reusable = false;
            while self.more()? {
                within_limit(self.buffer.len())?;
            }
            std::mem::take(&mut self.buffer)
        };
        reusable &= self.buffer.is_empty();
        Ok(Answer {
            response: Response {
                status: head.status,
                headers: head.headers,
                body,
            },
            reusable,
        })
    }

    fn exactly(&mut self, length: usize) -> Result<Vec<u8>, Failure> {
        while self.buffer.len() < length {
            self.must_get_more()?;
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    fn line(&mut self, limit: usize) -> Result<Vec<u8>, Failure> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let mut line = self.exactly(end + 1)?;
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(line);
            }
            if self.buffer.len() > limit {
                return Err(Failure::NotHttp("a line between its chunks is too long"));
            }
            self.must_get_more()?;
        }
    }

    fn chunked(&mut self) -> Result<Vec<u8>, Failure> {
        const BAD: Failure = Failure::NotHttp("its chunks are malformed");
        let mut body = Vec::new();
        loop {
            let line = self.line(CHUNK_LINE_LIMIT)?;
            let digits = line.split(|b| *b == b';').next().unwrap_or(&line);
            let digits = std::str::from_utf8(digits).map_err(|_| BAD)?.trim();
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(BAD);
            }
            let size = usize::from_str_radix(digits, 16).map_err(|_| BAD)?;
            if size == 0 {
                break;
            }
            within_limit(body.len().saturating_add(size))?;
            body.extend(self.exactly(size)?);
            if !self.line(2)?.is_empty() {
                return Err(BAD);
            }
        }
        let mut trailers = 0;
        loop {
            let line = self.line(HEAD_LIMIT)?;
            trailers += line.len();
            if line.is_empty() {
                return Ok(body);
            }
            if trailers > HEAD_LIMIT {
                return Err(Failure::NotHttp("its trailers are larger than 64 KiB"));
            }
        }
    }
}

/// False as soon as the first bytes cannot become an answer: then nothing is waited for.
fn looks_like_http(bytes: &[u8]) -> bool {
    let begin = b"HTTP/1.";
    let n = bytes.len().min(begin.len());
    bytes[..n] == begin[..n]
}

fn within_limit(length: usize) -> Result<(), Failure> {
    if length > BODY_LIMIT {
        return Err(Failure::NotHttp("its body is larger than 1 MiB"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
