//! HTTP/1.1 as a server reads and writes it, over any stream; every size has a bound.

use super::clock::Clock;
use std::io::{ErrorKind, Read};

/// Largest request line and headers together, bytes.
pub(super) const HEAD_LIMIT: usize = 64 << 10;

/// Most headers.
const HEADERS_LIMIT: usize = 100;

/// Longest line that tells a chunk's size, and longest trailer, bytes.
const CHUNK_LINE_LIMIT: usize = 1024;

/// Most trailers after a chunked body.
const TRAILERS_LIMIT: usize = 100;

/// Longest version of an agent, bytes.
const VERSION_LIMIT: usize = 64;

/// Why no request, or no whole one, was read.
#[derive(Debug)]
pub(super) enum HttpError {
    /// The other side went away, in good order or not.
    Closed,
    /// To be answered, and the connection closed.
    Refused(Response),
    /// The deadline passed.
    Timeout,
}

impl From<std::io::Error> for HttpError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => HttpError::Timeout,
            _ => HttpError::Closed,
        }
    }
}

/// How a body's end is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Chunked,
    Length(usize),
}

/// A request without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) method: String,
    /// Without query and without scheme and authority.
    pub(super) path: String,
    /// What follows `?`, may be empty.
    pub(super) query: String,
    headers: Vec<(String, String)>,
    pub(super) framing: Framing,
    /// The connection may carry another request.
    pub(super) keep_alive: bool,
    /// The client waits for `100 Continue`.
    pub(super) expects_continue: bool,
}

impl Head {
    /// The first header of that name, any case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    /// The version of the agent that asks, when it says (protocol.md 3.1).
    pub(super) fn client_version(&self) -> Option<&str> {
        let by_agent = || {
            let agent = self.header("user-agent")?;
            let version = agent.strip_prefix("LinuxMonitoringAgent/")?;
            version.split_whitespace().next()
        };
        let version = self.header("x-ms-client-version").or_else(by_agent)?;
        let sane = (1..=VERSION_LIMIT).contains(&version.len())
            && version.bytes().all(|b| b.is_ascii_graphic());
        sane.then_some(version)
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    /// Reads a complete head, up to and with its blank line.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Response> {
        let bad = |why: &str| Response::text(400, &format!("bad request: {why}\n"));
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_LIMIT];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(bytes) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(bad("incomplete head")),
            Err(httparse::Error::TooManyHeaders) => {
                return Err(Response::text(431, "too many headers\n"));
            }
            Err(httparse::Error::Version) => {
                return Err(Response::text(505, "only HTTP/1.1 is spoken here\n"));
            }
            Err(error) => return Err(bad(&error.to_string())),
        }
        let target = request.path.unwrap_or("/");
        let (path, query) = origin_form(target)
            .split_once('?')
            .unwrap_or((origin_form(target), ""));
        let is_1_1 = request.version == Some(1);
        let mut head = Head {
            method: request.method.unwrap_or_default().to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: request
                .headers
                .iter()
                .map(|h| {
                    let value = String::from_utf8_lossy(h.value);
                    (h.name.to_owned(), value.trim().to_owned())
                })
                .collect(),
            framing: Framing::Length(0),
            keep_alive: is_1_1,
            expects_continue: false,
        };
        let hosts = head.all("host").count();
        if hosts > 1 || (is_1_1 && hosts == 0) {
            return Err(bad("exactly one Host header is needed"));
        }
        head.framing = framing(&head)?;
        if let Some(connection) = head.header("connection") {
            let says = |word: &str| {
                let mut words = connection.split(',').map(str::trim);
                words.any(|w| w.eq_ignore_ascii_case(word))
            };
            head.keep_alive = !says("close") && (is_1_1 || says("keep-alive"));
        }
        if let Some(expect) = head.header("expect") {
            if !expect.eq_ignore_ascii_case("100-continue") {
                return Err(Response::text(417, "only 100-continue can be expected\n"));
            }
            head.expects_continue = is_1_1 && head.framing != Framing::Length(0);
        }
        Ok(head)
    }
}

/// `https://host/path` as a proxy sends it -> `/path`.
fn origin_form(target: &str) -> &str {
    match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            rest.find('/').map_or("/", |at| &rest[at..])
        }
        _ => target,
    }
}

/// Two lengths, or a length and chunks, are how requests are smuggled past proxies: refused.
fn framing(head: &Head) -> Result<Framing, Response> {
    let bad = |why: &str| Response::text(400, &format!("bad request: {why}\n"));
    let mut lengths = head.all("content-length");
    let mut codings = head.all("transfer-encoding");
    match (lengths.next(), codings.next()) {
        (None, None) => Ok(Framing::Length(0)),
        (Some(length), None) => {
            if lengths.next().is_some() {
                return Err(bad("more than one Content-Length"));
            }
            if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
                return Err(bad("Content-Length is not a number"));
            }
            // A number too large for usize is too large for any limit.
            Ok(Framing::Length(length.parse().unwrap_or(usize::MAX)))
        }
        (None, Some(coding)) if coding.eq_ignore_ascii_case("chunked") => match codings.next() {
            None => Ok(Framing::Chunked),
            Some(_) => Err(bad("more than one Transfer-Encoding")),
        },
        (None, Some(_)) => Err(Response::text(
            501,
            "only chunked transfers are understood\n",
        )),
        (Some(_), Some(_)) => Err(bad("Content-Length together with Transfer-Encoding")),
    }
}

/// What was read from a stream and not yet used.
pub(super) struct Inbox<S> {
    stream: S,
    buffer: Vec<u8>,
    used: usize,
}

impl<S: Read> Inbox<S> {
    pub(super) fn new(stream: S) -> Self {
        Inbox {
            stream,
            buffer: Vec::new(),
            used: 0,
        }
    }

    /// The stream itself, for deadlines and for writing.
    pub(super) fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Whether something came that was not used yet.
    pub(super) fn is_empty(&self) -> bool {
        self.used == self.buffer.len()
    }

    /// Waits for more bytes; the end of the stream is an error.
    pub(super) fn fill(&mut self) -> Result<(), HttpError> {
        self.buffer.drain(..self.used);
        self.used = 0;
        let filled = self.buffer.len();
        self.buffer.resize(filled + (16 << 10), 0);
        let read = loop {
            match self.stream.read(&mut self.buffer[filled..]) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                done => break done,
            }
        };
        self.buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
        match read? {
            0 => Err(HttpError::Closed),
            _ => Ok(()),
        }
    }

    /// Reads a request's head.
    pub(super) fn head(&mut self) -> Result<Head, HttpError> {
        let mut searched = 0;
        loop {
            let unused = &self.buffer[self.used..];
            // Blank lines before a request are allowed, and no request.
            let blank = unused
                .iter()
                .take_while(|b| matches!(b, b'\r' | b'\n'))
                .count();
            if blank > 0 && searched == 0 {
                self.used += blank;
                continue;
            }
            if let Some(end) = end_of_head(unused, searched) {
                if end > HEAD_LIMIT {
                    return Err(too_large_head());
                }
                let head = Head::parse(&unused[..end]).map_err(HttpError::Refused)?;
                self.used += end;
                return Ok(head);
            }
            if unused.len() > HEAD_LIMIT {
                return Err(too_large_head());
            }
            searched = unused.len();
            self.fill()?;
        }
    }

    /// Reads a request's body of at most `limit` bytes. `grow` is asked before memory is taken,
    /// with how many bytes more are wanted.
    pub(super) fn body(
        &mut self,
        framing: Framing,
        limit: usize,
        grow: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Vec<u8>, HttpError> {
        let mut body = Vec::new();
        match framing {
            Framing::Length(length) => {
                self.take(length, limit, &mut body, grow)?;
            }
            Framing::Chunked => loop {
                let line = self.line()?;
                let digits = line.split(';').next().unwrap_or("").trim();
                let valid = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
                let size = usize::from_str_radix(digits, 16).ok().filter(|_| valid);
                let Some(size) = size else {
                    return Err(bad("a chunk's size is not a number"));
                };
                if size == 0 {
                    self.trailers()?;
                    break;
                }
                self.take(size, limit, &mut body, grow)?;
                if !self.line()?.is_empty() {
                    return Err(bad("a chunk is longer than it says"));
                }
            },
        }
        Ok(body)
    }

    /// Moves exactly `length` bytes to `body`.
    fn take(
        &mut self,
        length: usize,
        limit: usize,
        body: &mut Vec<u8>,
        grow: &mut dyn FnMut(usize) -> bool,
    ) -> Result<(), HttpError> {
        if length > limit.saturating_sub(body.len()) {
            return Err(HttpError::Refused(too_large_body(limit)));
        }
        let mut missing = length;
        while missing > 0 {
            if self.is_empty() {
                self.fill()?;
            }
            let n = missing.min(self.buffer.len() - self.used);
            if !grow(n) {
                return Err(HttpError::Refused(no_room()));
            }
            body.extend_from_slice(&self.buffer[self.used..self.used + n]);
            self.used += n;
            missing -= n;
        }
        Ok(())
    }

    fn trailers(&mut self) -> Result<(), HttpError> {
        for _ in 0..TRAILERS_LIMIT {
            if self.line()?.is_empty() {
                return Ok(());
            }
        }
        Err(bad("too many trailers"))
    }

    /// A line without its line end.
    fn line(&mut self) -> Result<String, HttpError> {
        loop {
            let unused = &self.buffer[self.used..];
            if let Some(end) = unused.iter().position(|&b| b == b'\n') {
                let line = unused[..end].strip_suffix(b"\r").unwrap_or(&unused[..end]);
                if line.len() > CHUNK_LINE_LIMIT {
                    return Err(bad("a line between chunks is too long"));
                }
                let line = String::from_utf8_lossy(line).into_owned();
                self.used += end + 1;
                return Ok(line);
            }
            if unused.len() > CHUNK_LINE_LIMIT {
                return Err(bad("a line between chunks is too long"));
            }
            self.fill()?;
        }
    }
}

/// Where the blank line after a head ends, if it has come. `searched` bytes were looked at before.
fn end_of_head(bytes: &[u8], searched: usize) -> Option<usize> {
    (searched.saturating_sub(3)..bytes.len()).find_map(|i| match &bytes[i..] {
        [b'\r', b'\n', b'\r', b'\n', ..] => Some(i + 4),
        [b'\n', b'\n', ..] => Some(i + 2),
        [b'\n', b'\r', b'\n', ..] => Some(i + 3),
        _ => None,
    })
}

fn bad(why: &str) -> HttpError {
    HttpError::Refused(Response::text(400, &format!("bad request: {why}\n")))
}

fn too_large_head() -> HttpError {
    let text = format!("request line and headers are larger than {HEAD_LIMIT} bytes\n");
    HttpError::Refused(Response::text(431, &text))
}

/// 413, naming the limit.
pub(super) fn too_large_body(limit: usize) -> Response {
    Response::text(413, &format!("the body is larger than {limit} bytes\n"))
}

/// 503: try again soon.
pub(super) fn no_room() -> Response {
    Response::text(503, "too busy at the moment, try again\n").with("Retry-After", "10")
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    clock: Clock,
}

impl Response {
    /// No body.
    pub(super) fn empty(status: u16) -> Self {
        Response {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            clock: Clock::default(),
        }
    }

    /// A body of the given type.
    pub(super) fn new(status: u16, content_type: &str, body: String) -> Self {
        let mut response = Response::empty(status).with("Content-Type", content_type);
        response.body = body.into_bytes();
        response
    }

    /// A plain text body.
    pub(super) fn text(status: u16, text: &str) -> Self {
        Response::new(status, "text/plain; charset=utf-8", text.to_owned())
    }

    /// One more header; the value must not hold line ends.
    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Dated by this clock.
    pub(super) fn by(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The bytes to send. `head_only` leaves out the body but not its length (HEAD requests).
    pub(super) fn to_bytes(&self, close: bool, head_only: bool) -> Vec<u8> {
        let mut text = format!(
            "HTTP/1.1 {} {}\r\nDate: {}\r\nContent-Length: {}\r\n",
            self.status,
            phrase(self.status),
            self.clock.http_date(),
            self.body.len()
        );
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if close {
            text.push_str("Connection: close\r\n");
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        if !head_only {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests;
