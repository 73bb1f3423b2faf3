//! Custom logs: lines of one file, appended to one blob of one day (protocol.md 3.10).
//!
//! Four requests: where to write, the lines as one block, the list of blocks with it, and the notice
//! that makes the service read it. Whatever fails, all of it is done again; a block that is in no
//! list does not count.

use crate::agent::hosts;
use crate::agent::link::Link;
use crate::agent::parcel::{Sent, post, request_id};
use crate::agent::queue::frame::Kind;
use crate::wire::http::{Cause, HttpError, Response};
use crate::wire::upload::beside;
use crate::wire::windows_zone;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{Timestamp, tz::TimeZone};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io;

/// What stands in place of a workspace in a blob's name.
const MANAGEMENT_GROUP: &str = "00000000-0000-0000-0000-000000000002";
/// Most blocks of a blob; the storage service takes no more.
const BLOCKS_LIMIT: usize = 50_000;

/// Lines for one blob.
pub struct Lines {
    container: String,
    data_type: String,
    custom: Option<String>,
    file_path: String,
    expiry: String,
    /// Each with CR LF behind it.
    body: Vec<u8>,
}

/// The service's answer to the first request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Place {
    uri: String,
    #[serde(default)]
    committed_block_list: Option<Vec<String>>,
    #[serde(default)]
    size: Option<u64>,
}

impl Lines {
    /// `items` are JSON strings, joined by commas; `kind` says what and of which file
    /// ([`Form::kind`](crate::agent::config::Form::kind)).
    pub fn new(kind: &Kind, items: &[u8], expiry: &str) -> io::Result<Lines> {
        let list = [b"[", items, b"]"].concat();
        let lines: Vec<std::borrow::Cow<'_, str>> = serde_json::from_slice(&list)?;
        let mut body = Vec::with_capacity(items.len());
        for line in lines {
            body.extend_from_slice(line.as_bytes());
            body.extend_from_slice(b"\r\n");
        }
        let mut names = kind.data_type.splitn(3, '.').map(str::to_owned);
        Ok(Lines {
            container: names.next().unwrap_or_default(),
            data_type: names.next().unwrap_or_default(),
            custom: names.next(),
            file_path: kind.ip_name.clone().into_owned(),
            expiry: expiry.to_owned(),
            body,
        })
    }

    /// The tag without the file's path.
    pub fn source(&self) -> String {
        format!("oms.blob.{}.{}", self.container, self.type_id())
    }

    fn type_id(&self) -> String {
        match &self.custom {
            Some(custom) => format!("{}.{custom}", self.data_type),
            None => self.data_type.clone(),
        }
    }

    /// All lines of one file on one day go to one name.
    fn suffix(&self, computer: &str, agent: &str, now: Timestamp) -> String {
        let now = now.to_zoned(TimeZone::UTC);
        let first = self.custom.as_deref().unwrap_or(&self.data_type);
        let last = match self.custom {
            Some(_) => {
                let digest = Sha256::digest(self.file_path.as_bytes());
                let mut name = now.strftime("d=%Y%m%d/").to_string();
                for byte in digest {
                    let _ = write!(name, "{byte:02x}");
                }
                name + ".log"
            }
            None => {
                let id = uuid::Uuid::new_v4();
                format!("{}/{id}", now.strftime("d=%Y%m%d/h=%H"))
            }
        };
        format!("{first}/{MANAGEMENT_GROUP}/{computer}/{agent}/{last}")
    }

    /// Does all four requests, or as many as succeed.
    pub fn send(&self, link: &mut Link, attempt: u32) -> Sent {
        let computer = hosts::computer();
        let suffix = self.suffix(&computer, &link.agent, Timestamp::now());
        let asked = serde_json::json!({
            "ContainerType": self.container,
            "DataTypeId": self.type_id(),
            "ExpiryDuration": self.expiry,
            "Suffix": suffix,
            "SkipScanningQueue": true,
            "SupportWriteOnlyBlob": true,
        });
        let url = beside(&link.url, "/ContainerService.svc/GetBlobUploadUri");
        let headers = link.headers.for_attempt(attempt, false);
        let first = post(link, url, &headers, asked.to_string().as_bytes());
        let Some(answer) = success(&first) else {
            return first;
        };
        let place = match Place::read(&answer.body) {
            Ok(place) => place,
            Err(why) => {
                let host = &first.url;
                let error = HttpError::new(
                    Cause::Protocol,
                    format!("the answer of {host} says no place to write to: {why}"),
                );
                return Sent {
                    answer: Err(error),
                    ..first
                };
            }
        };
        let zone = windows_zone::of_host();
        let id = STANDARD.encode(uuid::Uuid::new_v4().to_string());
        let headers = link.headers.for_blob(&computer, &zone);
        let block = format!("{}&comp=block&blockid={id}", place.uri);
        let second = put(link, &place, &block, &headers, &self.body);
        if success(&second).is_none() {
            return second;
        }
        let mut headers = link.headers.for_blob(&computer, &zone);
        headers.push(("x-ms-meta-FilePath", as_header(&self.file_path)));
        let list = format!("{}&comp=blocklist", place.uri);
        let third = put(link, &place, &list, &headers, place.blocks(&id).as_bytes());
        let Some(answer) = success(&third) else {
            return third;
        };
        let etag = answer.header("etag").unwrap_or_default().replace('"', "");
        let before = place.size.unwrap_or(0);
        let notice = serde_json::json!({
            "metadata-TimeZoneId": zone,
            "DataType": "BLOB_UPLOAD_NOTIFICATION",
            "IPName": "",
            "DataItems": [{
                "BlobUrl": place.shown(),
                "OriginalDataTypeId": self.type_id(),
                "StartOffset": before,
                "FileSize": before + self.body.len() as u64,
                "Etag": etag,
            }],
        });
        let url = beside(
            &link.url,
            "/ContainerService.svc/PostBlobUploadNotification",
        );
        let mut headers = link.headers.for_attempt(attempt, false);
        headers.retain(|(name, _)| *name != "x-ms-client-request-retry-count");
        Sent {
            bytes: self.body.len(),
            ..post(link, url, &headers, notice.to_string().as_bytes())
        }
    }
}

impl Place {
    fn read(body: &[u8]) -> Result<Place, String> {
        let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
        let place: Place = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        if !place.uri.contains('?') {
            return Err("its Uri has no query".into());
        }
        let blocks = place.committed_block_list.as_ref().map_or(0, Vec::len);
        if blocks >= BLOCKS_LIMIT {
            return Err(format!(
                "the blob has {blocks} blocks and takes no more today"
            ));
        }
        Ok(place)
    }

    /// Without the token.
    fn shown(&self) -> &str {
        self.uri.split('?').next().unwrap_or_default()
    }

    fn blocks(&self, new: &str) -> String {
        let mut list = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
        for id in self.committed_block_list.iter().flatten() {
            let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '-');
            let id: String = id.chars().filter(plain).collect();
            let _ = write!(list, "<Committed>{id}</Committed>");
        }
        let _ = write!(list, "<Uncommitted>{new}</Uncommitted></BlockList>");
        list
    }
}

fn put(
    link: &mut Link,
    place: &Place,
    url: &str,
    headers: &[(&'static str, String)],
    body: &[u8],
) -> Sent {
    let client = link.storage();
    Sent {
        url: place.shown().to_owned(),
        request_id: request_id(headers),
        bytes: body.len(),
        answer: client.and_then(|client| client.put(url, headers, body)),
    }
}

fn success(sent: &Sent) -> Option<Response> {
    let answer = sent.answer.as_ref().ok()?;
    (200..300).contains(&answer.status).then(|| answer.clone())
}

/// A text in a header: what is not printable ASCII, and `%`, as `%XX`.
fn as_header(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | 0..=0x1f | 0x7f.. => {
                let _ = write!(value, "%{byte:02X}");
            }
            plain => value.push(char::from(plain)),
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    fn lines(data_type: &str) -> Lines {
        let kind = Kind {
            data_type: Cow::Owned(data_type.to_owned()),
            ip_name: "/var/log/a.log".into(),
        };
        Lines::new(&kind, br#""one","t\"wo \u0000,""#, "00:10:00").unwrap()
    }

    #[test]
    fn lines_and_names() {
        let custom = lines("CustomLog.CUSTOM_LOG_BLOB.App_CL_ws");
        assert_eq!(custom.body, b"one\r\nt\"wo \0,\r\n");
        assert_eq!(custom.type_id(), "CUSTOM_LOG_BLOB.App_CL_ws");
        assert_eq!(
            custom.source(),
            "oms.blob.CustomLog.CUSTOM_LOG_BLOB.App_CL_ws"
        );
        let now: Timestamp = "2031-08-09T23:30:00Z".parse().unwrap();
        let suffix = custom.suffix("web01", "guid", now);
        let before = "App_CL_ws/00000000-0000-0000-0000-000000000002/web01/guid/d=20310809/";
        let name = suffix.strip_prefix(before).unwrap();
        let hash = name.strip_suffix(".log").unwrap();
        assert!(hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
        assert_eq!(custom.suffix("web01", "guid", now), suffix);
        let plain = lines("CustomLog.OTHER");
        let suffix = plain.suffix("web01", "guid", now);
        assert!(suffix.starts_with("OTHER/") && suffix.contains("/d=20310809/h=23/"));
    }

    #[test]
    fn answers_of_the_service() {
        let text = "\u{feff}{\"Uri\":\"https://s/x?sig=a\",\"CommittedBlockList\":[\"YQ==\",\"Yg==\\n\"],\"Size\":7}";
        let place = Place::read(text.as_bytes()).unwrap();
        assert_eq!((place.shown(), place.size), ("https://s/x", Some(7)));
        assert!(place.blocks("Yw==").ends_with(
            "<BlockList><Committed>YQ==</Committed><Committed>Yg==</Committed>\
             <Uncommitted>Yw==</Uncommitted></BlockList>"
        ));
        let bare = Place::read(br#"{"Uri":"https://s/x?a","CommittedBlockList":null}"#).unwrap();
        assert!(bare.committed_block_list.is_none() && bare.size.is_none());
        assert!(Place::read(b"{}").is_err());
        assert!(Place::read(br#"{"Uri":"https://s/x"}"#).is_err());
        let full = |n: usize| {
            let ids = vec!["\"YQ==\""; n].join(",");
            Place::read(
                format!(r#"{{"Uri":"https://s?x","CommittedBlockList":[{ids}]}}"#).as_bytes(),
            )
        };
        assert!(full(BLOCKS_LIMIT - 1).is_ok() && full(BLOCKS_LIMIT).is_err());
    }

    #[test]
    fn paths_in_headers() {
        assert_eq!(as_header("/a b\n\u{e9}%"), "/a b%0A%C3%A9%25");
    }
}
