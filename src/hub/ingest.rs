//! Data items: unpacked, checked, stored (protocol.md 3.1, 3.2).

use super::access;
use super::http::{self, Head, Response};
use super::inflate::{Encoding, InflateError, inflate};
use super::printable;
use super::roster::Agent;
use super::routes::{Peer, Place};
use super::store::{Store, Stored, Upload};
use crate::wire::signature::content_hash;
use serde::Deserialize;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Largest body, packed, bytes.
pub(super) const BODY_LIMIT: usize = 32 << 20;

/// Largest body, unpacked, bytes.
const INFLATED_LIMIT: usize = 64 << 20;

/// Most items of one upload.
const ITEMS_LIMIT: usize = 100_000;

/// Longest `DataType`, `IPName`, computer or request id, bytes.
const NAME_LIMIT: usize = 256;

/// Deepest nesting of one item; SQLite's JSON functions stop at 1000.
const DEPTH_LIMIT: usize = 64;

/// Whether the upload is welcome, decided before its body is read.
pub(super) fn admit(
    store: &Store,
    place: &Place,
    head: &Head,
    peer: &Peer,
) -> Result<Agent, Response> {
    let refused = |status, error: &str, message: &str| {
        let (ws, peer) = (&place.workspace, peer.address);
        log::warn!("refused upload workspace={ws} peer={peer} status={status} reason={error}");
        Err(refusal(status, error, message))
    };
    let agent = match access::agent(store, place, peer) {
        Ok(Ok(agent)) => agent,
        Ok(Err(denied)) => return refused(403, denied.reason(), &denied.to_string()),
        Err(error) => {
            log::error!("cannot look up an agent: {error:#}");
            return Err(http::no_room());
        }
    };
    if is_custom(head) {
        match head.header("log-type") {
            None => return refused(400, "MissingLogType", "Log-Type must be given"),
            Some(name) if !is_log_type(name) => {
                let message = "Log-Type must be a letter and then up to 100 letters, digits or _";
                return refused(400, "InvalidLogType", message);
            }
            Some(_) => {}
        }
    }
    let media_type = head.header("content-type").unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        let message = "Content-Type must be application/json";
        return refused(415, "UnsupportedContentType", message);
    }
    if Encoding::named(head.header("content-encoding")).is_none() {
        let message = "Content-Encoding must be deflate, gzip or none";
        return refused(415, "UnsupportedContentEncoding", message);
    }
    Ok(agent)
}

/// Stores the items of an upload that was admitted.
pub(super) fn answer(
    store: &Store,
    agent: &Agent,
    head: &Head,
    body: Vec<u8>,
    grow: &mut dyn FnMut(usize) -> bool,
) -> Response {
    let who = format!("workspace={} agent={}", agent.workspace, agent.guid);
    let refused = |status, error: &str, message: &str| {
        log::warn!(
            "refused upload {who} status={status} reason={error} {}",
            printable(message)
        );
        refusal(status, error, message)
    };
    let (body_bytes, body_sha256) = (body.len(), content_hash(&body));
    let encoding = Encoding::named(head.header("content-encoding")).unwrap_or(Encoding::Identity);
    let body = match inflate(body, encoding, INFLATED_LIMIT, grow) {
        Ok(body) => body,
        Err(InflateError::NoRoom) => return http::no_room(),
        Err(error @ InflateError::TooLarge(_)) => {
            return refused(413, "TooLarge", &error.to_string());
        }
        Err(error @ InflateError::Damaged) => {
            return refused(400, "InvalidBody", &error.to_string());
        }
    };
    let Ok(text) = std::str::from_utf8(&body) else {
        return refused(400, "InvalidBody", "the body is not UTF-8");
    };
    let read = match (is_custom(head), head.header("log-type")) {
        (true, Some(log_type)) => Envelope::of_records(text, log_type),
        _ => Envelope::parse(text),
    };
    let envelope = match read {
        Ok(envelope) => envelope,
        Err(why) => return refused(400, "InvalidEnvelope", &why),
    };
    let short = |name: &str| head.header(name).filter(|value| value.len() <= NAME_LIMIT);
    let items: Vec<_> = envelope
        .items
        .iter()
        .map(|item| (computer(item), *item))
        .collect();
    let upload = Upload {
        agent,
        request_id: short("x-request-id").filter(|id| !id.is_empty()),
        retry_count: short("x-ms-client-request-retry-count").and_then(|n| n.parse().ok()),
        client_version: head.client_version(),
        body_bytes,
        body_sha256,
        data_type: &envelope.data_type,
        ip_name: &envelope.ip_name,
        items,
    };
    match store.put(&upload) {
        Ok(stored) => {
            log::info!(
                "upload {who} type={} items={} bytes={body_bytes}{}",
                printable(&envelope.data_type),
                upload.items.len(),
                if stored == Stored::Before {
                    " (a repeated request, stored before)"
                } else {
                    ""
                }
            );
            Response::empty(200)
        }
        Err(error) => {
            log::error!("cannot store an upload {who}: {error:#}");
            http::no_room()
        }
    }
}

fn refusal(status: u16, error: &str, message: &str) -> Response {
    let body = serde_json::json!({ "Error": error, "Message": message });
    Response::new(status, "application/json", body.to_string())
}

/// Custom JSON (protocol.md 3.11), not items in an envelope.
fn is_custom(head: &Head) -> bool {
    let mut query = head.query.split('&');
    query.any(|pair| pair.to_ascii_lowercase().starts_with("api-version="))
}

/// protocol.md 3.11.
fn is_log_type(name: &str) -> bool {
    let letters = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    name.len() <= 101
        && name.bytes().all(letters)
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// An upload's JSON, items still as text.
#[derive(Debug)]
struct Envelope<'a> {
    data_type: String,
    ip_name: String,
    items: Vec<&'a str>,
}

impl<'a> Envelope<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let read: Read<'a> = serde_json::from_slice(text.as_bytes()).map_err(|e| e.to_string())?;
        let named = |key: &str, name: String| {
            let sane = !name.is_empty() && name.len() <= NAME_LIMIT;
            if sane && !name.chars().any(char::is_control) {
                return Ok(name);
            }
            Err(format!(
                "`{key}` must have 1 to {NAME_LIMIT} bytes and no control characters"
            ))
        };
        let items = match read.items {
            Some(Items(items)) => items,
            // Posted alone as it is (protocol.md 3.1, "Grouping").
            None => vec![text.trim()],
        };
        check(&items)?;
        Ok(Envelope {
            data_type: named("DataType", read.data_type)?,
            ip_name: named("IPName", read.ip_name)?,
            items,
        })
    }

    /// A list of records, or one; they are filed under `<log type>_CL`.
    fn of_records(text: &'a str, log_type: &str) -> Result<Self, String> {
        let items = match text.trim_start().starts_with('[') {
            true => serde_json::from_slice::<Items<'a>>(text.as_bytes()).map(|Items(items)| items),
            false => {
                serde_json::from_slice::<&'a RawValue>(text.as_bytes()).map(|item| vec![item.get()])
            }
        };
        let items = items.map_err(|e| e.to_string())?;
        check(&items)?;
        Ok(Envelope {
            data_type: format!("{log_type}_CL"),
            ip_name: "CustomJSON".into(),
            items,
        })
    }
}

/// Objects, not too deep.
fn check(items: &[&str]) -> Result<(), String> {
    for (i, item) in items.iter().enumerate() {
        if !item.starts_with('{') {
            return Err(format!("item {i} is not an object"));
        }
        if depth(item) > DEPTH_LIMIT {
            return Err(format!("item {i} is nested more than {DEPTH_LIMIT} deep"));
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Read<'a> {
    #[serde(rename = "DataType")]
    data_type: String,
    #[serde(rename = "IPName")]
    ip_name: String,
    #[serde(rename = "DataItems", borrow)]
    items: Option<Items<'a>>,
}

/// A list that is bounded while it is read: 64 MiB of `{},` would be a gigabyte of pointers.
struct Items<'a>(Vec<&'a str>);

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Listing;
        impl<'de> Visitor<'de> for Listing {
            type Value = Vec<&'de str>;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a list of items")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = from.next_element::<&'de RawValue>()? {
                    if items.len() == ITEMS_LIMIT {
                        return Err(A::Error::custom(format!("more than {ITEMS_LIMIT} items")));
                    }
                    items.push(item.get());
                }
                Ok(items)
            }
        }
        from.deserialize_seq(Listing).map(Items)
    }
}

/// How deep the brackets of well-formed JSON go.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The host an item is about, when it says: `Computer` (heartbeats and most), `Host` (syslog).
fn computer(item: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(rename = "Computer", borrow, default)]
        computer: Option<Cow<'a, str>>,
        #[serde(rename = "Host", borrow, default)]
        host: Option<Cow<'a, str>>,
    }
    let named: Named = serde_json::from_slice(item.as_bytes()).ok()?;
    let name = named.computer.or(named.host)?;
    let name = name.trim();
    (!name.is_empty() && name.len() <= NAME_LIMIT).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(items: &str) -> String {
        format!(r#"{{"DataType":"T","IPName":"P","DataItems":[{items}]}}"#)
    }

    #[test]
    fn items_keep_their_own_text() {
        let item = r#"{ "b":1.50, "a":12345678901234567890123, "c":"\u00e9}]" }"#;
        let text = wrapped(&format!("{item}, {{}}"));
        let envelope = Envelope::parse(&text).unwrap();
        assert_eq!(envelope.items, [item, "{}"]);
        assert_eq!((&*envelope.data_type, &*envelope.ip_name), ("T", "P"));
        let alone = r#" {"IPName":"P","DataType":"T","Extra":[1]} "#;
        assert_eq!(Envelope::parse(alone).unwrap().items, [alone.trim()]);
        assert!(Envelope::parse(&wrapped("")).unwrap().items.is_empty());
    }

    #[test]
    fn records_of_a_log_type() {
        let envelope = Envelope::of_records(r#"[{"a":1}, {}]"#, "App").unwrap();
        assert_eq!(envelope.items, [r#"{"a":1}"#, "{}"]);
        assert_eq!(
            (&*envelope.data_type, &*envelope.ip_name),
            ("App_CL", "CustomJSON")
        );
        assert_eq!(
            Envelope::of_records(r#" {"a":1} "#, "App").unwrap().items,
            [r#"{"a":1}"#]
        );
        for bad in ["", "[1]", "[[]]", "[{}", "5", "[{}] x"] {
            assert!(Envelope::of_records(bad, "App").is_err(), "{bad}");
        }
        let long = format!("a{}", "b".repeat(100));
        assert!(is_log_type(&long) && is_log_type("A_1"));
        for bad in ["", "1a", "a-b", &format!("{long}b")] {
            assert!(!is_log_type(bad), "{bad}");
        }
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        for bad in [
            "",
            "[]",
            "null",
            r#"{"DataType":"T","DataItems":[]}"#,
            r#"{"IPName":"P","DataItems":[]}"#,
            r#"{"DataType":1,"IPName":"P","DataItems":[]}"#,
            r#"{"DataType":"","IPName":"P","DataItems":[]}"#,
            r#"{"DataType":"a\nb","IPName":"P","DataItems":[]}"#,
            r#"{"DataType":"T","DataType":"U","IPName":"P","DataItems":[]}"#,
            r#"{"DataType":"T","IPName":"P","DataItems":{}}"#,
            r#"{"DataType":"T","IPName":"P","DataItems":[]} x"#,
            &wrapped("1"),
            &wrapped("[]"),
            &wrapped("{},"),
            &wrapped(r#"{"a":}"#),
        ] {
            assert!(Envelope::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_hold_at_the_edge() {
        let name = |n: usize| {
            let name = "x".repeat(n);
            format!(r#"{{"DataType":"{name}","IPName":"P","DataItems":[]}}"#)
        };
        assert!(Envelope::parse(&name(NAME_LIMIT)).is_ok());
        assert!(Envelope::parse(&name(NAME_LIMIT + 1)).is_err());
        let many = |n: usize| wrapped(&vec!["{}"; n].join(","));
        assert!(Envelope::parse(&many(ITEMS_LIMIT)).is_ok());
        let error = Envelope::parse(&many(ITEMS_LIMIT + 1)).unwrap_err();
        assert!(error.contains("more than"), "{error}");
        let deep = |n: usize| wrapped(&format!(r#"{{"a":{}{}}}"#, "[".repeat(n), "]".repeat(n)));
        assert!(Envelope::parse(&deep(DEPTH_LIMIT - 1)).is_ok());
        assert!(Envelope::parse(&deep(DEPTH_LIMIT)).is_err());
        assert!(Envelope::parse(&deep(1_000_000)).is_err());
    }

    #[test]
    fn brackets_in_strings_are_not_nesting() {
        assert_eq!(depth(r#"{"a":"[[[\"[[\\","b":[{}]}"#), 3);
        assert_eq!(depth("1"), 0);
    }

    #[test]
    fn computers_are_found() {
        let found = |item| computer(item);
        assert_eq!(
            found(r#"{"Computer":"a","Host":"b"}"#).as_deref(),
            Some("a")
        );
        assert_eq!(found(r#"{"Host":"b\u0063"}"#).as_deref(), Some("bc"));
        assert_eq!(found(r#"{"Host":null}"#), None);
        assert_eq!(found(r#"{"Host":5}"#), None);
        assert_eq!(found("{}"), None);
    }
}
