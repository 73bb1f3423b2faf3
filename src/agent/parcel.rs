//! One upload, whatever its form: what is sent, and what came back.

use crate::agent::blob::Lines;
use crate::agent::config::{Form, Output};
use crate::agent::link::Link;
use crate::agent::queue::frame::Kind;
use crate::agent::syslog::item::push_text;
use crate::wire::http::{HttpError, Response};
use flate2::{Compression, write::ZlibEncoder};
use std::io::Write;

/// Deflate level: the cheapest; level 6 of the original costs five times as much for a tenth less.
const LEVEL: u32 = 1;

/// What is sent, for as many attempts as it takes.
pub enum Parcel {
    /// An envelope with items (protocol.md 3.1).
    Items {
        /// The body.
        body: Vec<u8>,
        /// It is deflated.
        compressed: bool,
        /// Of whom telemetry speaks.
        source: String,
    },
    /// A list of records (protocol.md 3.11).
    Records {
        /// The body.
        body: Vec<u8>,
        /// It is deflated.
        compressed: bool,
        /// `api-version`.
        version: String,
        /// `Log-Type`.
        log_type: String,
        /// `time-generated-field`; may be empty.
        time_field: String,
    },
    /// Lines for a blob (protocol.md 3.10).
    Blob(Lines),
}

/// What came of one attempt.
pub struct Sent {
    /// Where, without what must stay secret.
    pub url: String,
    /// `X-Request-ID` of the request that was answered last.
    pub request_id: String,
    /// Bytes of the body.
    pub bytes: usize,
    /// The answer that decides: the last one, or the first that was no success.
    pub answer: Result<Response, HttpError>,
}

impl Parcel {
    /// Of items that were queued for that output.
    pub fn make(output: &Output, kind: &Kind, items: &[u8]) -> std::io::Result<Parcel> {
        let compressed = output.compress;
        Ok(match &output.form {
            Form::Items => Parcel::Items {
                body: envelope(kind, items, compressed)?,
                compressed,
                source: format!("{}.{}", kind.data_type, kind.ip_name),
            },
            Form::Records { version, .. } => Parcel::Records {
                body: packed(&[b"[", items, b"]"], compressed)?,
                compressed,
                version: version.clone(),
                log_type: kind.data_type.clone().into_owned(),
                time_field: kind.ip_name.clone().into_owned(),
            },
            Form::Blob { expiry } => Parcel::Blob(Lines::new(kind, items, expiry)?),
        })
    }

    /// Of whom telemetry speaks (protocol.md 2.3): for lines their tag.
    pub fn source(&self) -> String {
        match self {
            Parcel::Items { source, .. } => source.clone(),
            Parcel::Records { log_type, .. } => format!("oms.api.{log_type}"),
            Parcel::Blob(lines) => lines.source(),
        }
    }

    /// Tries once; `attempt` counts from 0.
    pub fn send(&self, link: &mut Link, attempt: u32) -> Sent {
        match self {
            Parcel::Items {
                body, compressed, ..
            } => {
                let headers = link.headers.for_attempt(attempt, *compressed);
                let url = link.url.clone();
                post(link, url, &headers, body)
            }
            Parcel::Records {
                body,
                compressed,
                version,
                log_type,
                time_field,
            } => {
                let mut headers = link.headers.for_attempt(attempt, *compressed);
                headers.push(("Log-Type", log_type.clone()));
                let now = jiff::Timestamp::now();
                let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT");
                headers.push(("x-ms-date", date.to_string()));
                if !time_field.is_empty() {
                    headers.push(("time-generated-field", time_field.clone()));
                }
                let url = format!("{}?api-version={version}", link.url);
                post(link, url, &headers, body)
            }
            Parcel::Blob(lines) => lines.send(link, attempt),
        }
    }
}

/// Posts with our certificate.
pub fn post(link: &Link, url: String, headers: &[(&'static str, String)], body: &[u8]) -> Sent {
    Sent {
        request_id: request_id(headers),
        bytes: body.len(),
        answer: link.client.post(&url, headers, body),
        url,
    }
}

/// The `X-Request-ID` among some headers.
pub fn request_id(headers: &[(&'static str, String)]) -> String {
    let id = headers.iter().find(|(name, _)| *name == "X-Request-ID");
    id.map(|(_, value)| value.clone()).unwrap_or_default()
}

/// The body of a request (protocol.md 3.1, "Envelope").
fn envelope(kind: &Kind, items: &[u8], compress: bool) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(128);
    head.extend_from_slice(b"{\"DataType\":");
    push_text(&mut head, kind.data_type.as_bytes());
    head.extend_from_slice(b",\"IPName\":");
    push_text(&mut head, kind.ip_name.as_bytes());
    head.extend_from_slice(b",\"DataItems\":[");
    packed(&[&head, items, b"]}"], compress)
}

/// Parts of a body as one, deflated or not.
fn packed(parts: &[&[u8]], compress: bool) -> std::io::Result<Vec<u8>> {
    if !compress {
        return Ok(parts.concat());
    }
    let length: usize = parts.iter().map(|p| p.len()).sum();
    let room = Vec::with_capacity(length / 6 + 256);
    let mut encoder = ZlibEncoder::new(room, Compression::new(LEVEL));
    for part in parts {
        encoder.write_all(part)?;
    }
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envelope_is_zlib_and_json() {
        use std::io::Read;
        let kind = Kind::new("A", "B");
        let plain = envelope(&kind, b"{\"x\":1},{}", false).unwrap();
        assert_eq!(
            plain,
            br#"{"DataType":"A","IPName":"B","DataItems":[{"x":1},{}]}"#
        );
        let packed = envelope(&kind, b"{\"x\":1},{}", true).unwrap();
        let mut unpacked = Vec::new();
        flate2::read::ZlibDecoder::new(&packed[..])
            .read_to_end(&mut unpacked)
            .unwrap();
        assert_eq!(unpacked, plain);
    }
}
