//! What a line means: the `format` of a source (protocol.md 5.4), and the record that it becomes.
//!
//! A format that needs regular expressions is not here yet; the loader says so, and lines are then
//! sent as `none` would. One more is one more [`Format`] and its arm in [`Parser::members`].

mod access;

use crate::agent::syslog::item::push_text;
use access::Access;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Deepest nesting of a JSON object.
const DEPTH_LIMIT: usize = 60;

/// How lines are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// The line is the message.
    None,
    /// A JSON object.
    Json,
    /// Values with something between them.
    Separated {
        /// What stands between.
        delimiter: String,
        /// Their names, in their order.
        keys: Vec<String>,
        /// Values may be in double quotes (`csv`).
        quotes: bool,
    },
    /// Apache's access log, common or combined.
    Apache2,
    /// `label:value`, with something between them.
    Labelled {
        /// What stands between pairs.
        delimiter: String,
        /// What stands between a label and its value.
        label_delimiter: String,
    },
}

/// What a value shall be, where texts are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A whole number.
    Integer,
    /// A number.
    Float,
    /// True or false.
    Bool,
}

/// A format with what is done to its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parser {
    /// How lines are read.
    pub format: Format,
    /// The key that holds the time and is left out.
    pub time_key: Option<String>,
    /// Which values are no texts.
    pub types: Vec<(String, Type)>,
}

/// Why a line is not of its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoMatch(&'static str);

impl fmt::Display for NoMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Parser {
    /// Lines as they are.
    pub fn none() -> Parser {
        Parser {
            format: Format::None,
            time_key: None,
            types: Vec::new(),
        }
    }

    /// Appends `{...}`: the record of a line, with `extra` (a key and its text) at its end. False:
    /// there is nothing in it, and nothing was appended.
    pub fn record(
        &self,
        out: &mut Vec<u8>,
        line: &[u8],
        extra: Option<(&str, &[u8])>,
    ) -> Result<bool, NoMatch> {
        let begin = out.len();
        out.push(b'{');
        if let Err(reason) = self.members(out, line) {
            out.truncate(begin);
            return Err(reason);
        }
        if out.len() == begin + 1 {
            out.truncate(begin);
            return Ok(false);
        }
        if let Some((key, text)) = extra {
            out.push(b',');
            push_text(out, key.as_bytes());
            out.push(b':');
            push_text(out, text);
        }
        out.push(b'}');
        Ok(true)
    }

    fn members(&self, out: &mut Vec<u8>, line: &[u8]) -> Result<(), NoMatch> {
        match &self.format {
            Format::None => {
                out.extend_from_slice(b"\"message\":");
                push_text(out, line);
            }
            Format::Json => {
                if is_deep(line) {
                    return Err(NoMatch("it is nested too deeply"));
                }
                let text = String::from_utf8_lossy(line);
                let object: Members<'_> = serde_json::from_slice(text.as_bytes())
                    .map_err(|_| NoMatch("it is no JSON object"))?;
                for (key, value) in object.0 {
                    if self.is_time(key.as_bytes()) {
                        continue;
                    }
                    self.key(out, key.as_bytes());
                    out.extend_from_slice(value.get().as_bytes());
                }
            }
            Format::Separated {
                delimiter,
                keys,
                quotes,
            } => {
                let mut rest = Some(line);
                for key in keys {
                    let Some(text) = rest else { break };
                    let (value, behind) = field(text, delimiter.as_bytes(), *quotes)?;
                    rest = behind;
                    self.text(out, key.as_bytes(), &value);
                }
            }
            Format::Apache2 => {
                let access = Access::read(line).ok_or(NoMatch("it is no line of an access log"))?;
                for (key, value) in access.texts() {
                    if let Some(value) = value {
                        self.text(out, key, value);
                    }
                }
                for (key, value) in [("code", access.code), ("size", access.size)] {
                    let number = std::str::from_utf8(value)
                        .ok()
                        .and_then(|v| v.parse::<u64>().ok());
                    self.key(out, key.as_bytes());
                    let number = number.map_or("null".to_owned(), |n| n.to_string());
                    out.extend_from_slice(number.as_bytes());
                }
            }
            Format::Labelled {
                delimiter,
                label_delimiter,
            } => {
                let mut rest = Some(line);
                while let Some(text) = rest {
                    let (pair, behind) = cut(text, delimiter.as_bytes());
                    rest = behind;
                    if let (label, Some(value)) = cut(pair, label_delimiter.as_bytes()) {
                        self.text(out, label, value);
                    }
                }
            }
        }
        Ok(())
    }

    fn is_time(&self, key: &[u8]) -> bool {
        self.time_key.as_ref().is_some_and(|t| t.as_bytes() == key)
    }

    fn key(&self, out: &mut Vec<u8>, key: &[u8]) {
        if !out.ends_with(b"{") {
            out.push(b',');
        }
        push_text(out, key);
        out.push(b':');
    }

    fn text(&self, out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
        if self.is_time(key) {
            return;
        }
        self.key(out, key);
        let mut types = self.types.iter();
        let kind = types.find(|(name, _)| name.as_bytes() == key).map(|t| t.1);
        let text = std::str::from_utf8(value).unwrap_or_default().trim();
        let typed = match kind {
            None => None,
            Some(Type::Integer) => text.parse::<i64>().ok().map(|n| n.to_string()),
            Some(Type::Float) => {
                let number = text.parse::<f64>().ok().filter(|n| n.is_finite());
                number.and_then(|n| serde_json::to_string(&n).ok())
            }
            Some(Type::Bool) => Some(matches!(text, "true" | "yes" | "1").to_string()),
        };
        match typed {
            Some(json) => out.extend_from_slice(json.as_bytes()),
            None => push_text(out, value),
        }
    }
}

/// One value, and what is behind the delimiter that ends it.
type Field<'l> = (Cow<'l, [u8]>, Option<&'l [u8]>);

fn field<'l>(text: &'l [u8], delimiter: &[u8], quotes: bool) -> Result<Field<'l>, NoMatch> {
    let Some(quoted) = text.strip_prefix(b"\"").filter(|_| quotes) else {
        let (value, rest) = cut(text, delimiter);
        return Ok((Cow::Borrowed(value), rest));
    };
    let mut value = Vec::new();
    let mut rest = quoted;
    loop {
        let end = memchr::memchr(b'"', rest).ok_or(NoMatch("a quote is not closed"))?;
        value.extend_from_slice(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.first() {
            Some(b'"') => {
                value.push(b'"');
                rest = &rest[1..];
            }
            None => return Ok((Cow::Owned(value), None)),
            Some(_) => {
                let behind = rest.strip_prefix(delimiter);
                let behind = behind.ok_or(NoMatch("there is text behind a closing quote"))?;
                return Ok((Cow::Owned(value), Some(behind)));
            }
        }
    }
}

/// What is before and behind the first `delimiter`.
fn cut<'l>(text: &'l [u8], delimiter: &[u8]) -> (&'l [u8], Option<&'l [u8]>) {
    match memchr::memmem::find(text, delimiter) {
        Some(n) if !delimiter.is_empty() => (&text[..n], Some(&text[n + delimiter.len()..])),
        _ => (text, None),
    }
}

/// Deeper than a service takes? Brackets in texts count, too, unless they are closed there.
fn is_deep(json: &[u8]) -> bool {
    let mut depth = 0_usize;
    for byte in json {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_LIMIT {
            return true;
        }
    }
    false
}

/// The members of an object in their order, values as they are written.
struct Members<'l>(Vec<(Cow<'l, str>, &'l RawValue)>);

impl<'de: 'l, 'l> Deserialize<'de> for Members<'l> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(key) = from.next_key::<Key<'de>>()? {
                    members.push((key.0, from.next_value()?));
                }
                Ok(members)
            }
        }
        from.deserialize_map(Object).map(Members)
    }
}

#[derive(Deserialize)]
struct Key<'l>(#[serde(borrow)] Cow<'l, str>);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(parser: &Parser, line: &[u8]) -> Result<String, String> {
        let mut out = Vec::new();
        match parser.record(&mut out, line, None) {
            Ok(_) => Ok(String::from_utf8(out).unwrap()),
            Err(reason) => Err(reason.to_string()),
        }
    }

    fn separated(delimiter: &str, quotes: bool) -> Parser {
        Parser {
            format: Format::Separated {
                delimiter: delimiter.into(),
                keys: ["a", "b", "time", "c"].map(str::to_owned).to_vec(),
                quotes,
            },
            time_key: Some("time".into()),
            types: vec![
                ("a".into(), Type::Integer),
                ("b".into(), Type::Float),
                ("c".into(), Type::Bool),
            ],
        }
    }

    #[test]
    fn none_takes_everything() {
        let mut out = b"x".to_vec();
        let extra = Some(("file", &b"/a\xff"[..]));
        let took = Parser::none().record(&mut out, b"a\"\0\xff", extra);
        assert_eq!(took, Ok(true));
        let wanted = "x{\"message\":\"a\\\"\\u0000\u{fffd}\",\"file\":\"/a\u{fffd}\"}";
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }

    #[test]
    fn json_keeps_order_numbers_and_nesting() {
        let json = Parser {
            format: Format::Json,
            time_key: Some("time".into()),
            types: Vec::new(),
        };
        let line =
            br#" { "z": 1.50, "time":5, "\u0061": {"time":[1, "}"]}, "n":12345678901234567890 } "#;
        assert_eq!(
            read(&json, line).unwrap(),
            r#"{"z":1.50,"a":{"time":[1, "}"]},"n":12345678901234567890}"#
        );
        assert_eq!(read(&json, br#"{"time":1}"#).unwrap(), "");
        assert_eq!(
            read(&json, b"{\"a\":\"\xff\"}").unwrap(),
            "{\"a\":\"\u{fffd}\"}"
        );
        for bad in ["", "[1]", "5", "{", r#"{"a":}"#, "{} x"] {
            assert!(read(&json, bad.as_bytes()).is_err(), "{bad}");
        }
        let deep = |n: usize| format!("{}1{}", "{\"a\":".repeat(n), "}".repeat(n));
        assert!(read(&json, deep(DEPTH_LIMIT).as_bytes()).is_ok());
        assert!(read(&json, deep(DEPTH_LIMIT + 1).as_bytes()).is_err());
        assert!(read(&json, deep(5000).as_bytes()).is_err());
    }

    #[test]
    fn values_get_their_names_and_types() {
        let csv = separated(",", true);
        for (line, wanted) in [
            (r#"7,1.50,now,yes"#, r#"{"a":7,"b":1.5,"c":true}"#),
            (
                r#""7","x""y,z",,0,more"#,
                r#"{"a":7,"b":"x\"y,z","c":false}"#,
            ),
            ("seven,NaN", r#"{"a":"seven","b":"NaN"}"#),
            ("", r#"{"a":""}"#),
        ] {
            assert_eq!(read(&csv, line.as_bytes()).unwrap(), wanted, "{line}");
        }
        assert!(read(&csv, b"\"open").is_err() && read(&csv, b"\"a\"b,c").is_err());
        let tsv = separated("\t", false);
        assert_eq!(read(&tsv, b"\"7\t2").unwrap(), r#"{"a":"\"7","b":2.0}"#);
    }

    #[test]
    fn labels() {
        let ltsv = Parser {
            format: Format::Labelled {
                delimiter: "\t".into(),
                label_delimiter: ":".into(),
            },
            time_key: Some("time".into()),
            types: vec![("n".into(), Type::Integer)],
        };
        assert_eq!(
            read(&ltsv, b"time:1:2\thost:a:80\tjunk\tn:5").unwrap(),
            r#"{"host":"a:80","n":5}"#
        );
        assert_eq!(read(&ltsv, b"junk").unwrap(), "");
    }

    #[test]
    fn access_logs() {
        let parser = |time_key: Option<&str>| Parser {
            format: Format::Apache2,
            time_key: time_key.map(str::to_owned),
            types: Vec::new(),
        };
        let line = br#"10.0.0.7 - bob [09/Aug/2031:10:11:12 +0200] "GET /a?b=\"c\" d HTTP/1.1" 200 2326 "http://x/" "Mozilla (X; \"Y\")""#;
        assert_eq!(
            read(&parser(Some("time")), line).unwrap(),
            r#"{"host":"10.0.0.7","user":"bob","method":"GET","path":"/a?b=\\\"c\\\" d","referer":"http://x/","agent":"Mozilla (X; \\\"Y\\\")","code":200,"size":2326}"#
        );
        let line = br#"::1 - - [09/Aug/2031:10:11:12 +0200] "-" 408 -"#;
        assert_eq!(
            read(&parser(None), line).unwrap(),
            r#"{"host":"::1","user":"-","time":"09/Aug/2031:10:11:12 +0200","method":"-","code":408,"size":null}"#
        );
        for bad in [
            "",
            "a b c d",
            r#"h - - [t] "GET / HTTP/1.1" 200"#,
            r#"h - - [t] "GET / HTTP/1.1 200 5"#,
            r#"h - - [t] "GET / HTTP/1.1" 200 5 "r""#,
            r#"h - - [t] "GET / HTTP/1.1" 200 5 "r" "a" x"#,
        ] {
            assert!(read(&parser(None), bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_line_makes_json_or_is_refused(line: Vec<u8>, which in 0..5) {
            let parser = match which {
                0 => Parser::none(),
                1 => Parser { format: Format::Json, ..Parser::none() },
                2 => separated(",", true),
                3 => Parser { format: Format::Apache2, ..Parser::none() },
                _ => separated("", false),
            };
            let mut out = Vec::new();
            if parser.record(&mut out, &line, Some(("p", b"/x"))) == Ok(true) {
                let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
                prop_assert!(value.is_object());
            } else {
                prop_assert!(out.is_empty());
            }
        }
    }
}
