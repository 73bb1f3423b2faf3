//! A syslog message as the data item it is sent as (protocol.md 3.5).

use super::Message;
use super::stamp::push_utc;
use crate::agent::queue::frame::Kind;

/// What the service files syslog under.
pub const KIND: Kind = Kind::new("LINUX_SYSLOGS_BLOB", "LOGMANAGEMENT");

/// What an item says beside the message itself.
#[derive(Debug, Clone, Copy)]
pub struct Context<'c> {
    /// Now, milliseconds since 1970.
    pub now_ms: i64,
    /// Address of the message's host, or `Unknown IP`.
    pub host_ip: &'c str,
    /// Name to put where the message names no host.
    pub own_host: &'c str,
    /// With facility and severity (they are part of the tag only if it has four parts).
    pub with_facility: bool,
}

/// Appends the item.
pub fn push(out: &mut Vec<u8>, message: &Message<'_>, context: Context<'_>) {
    out.extend_from_slice(b"{\"ident\":");
    push_text(out, message.ident);
    out.extend_from_slice(b",\"Timestamp\":\"");
    push_utc(out, context.now_ms);
    out.extend_from_slice(b"\",\"EventTime\":\"");
    push_utc(out, message.time_ms.unwrap_or(context.now_ms));
    out.extend_from_slice(b"\",\"Host\":");
    push_text(
        out,
        match message.host {
            b"" if message.time_ms.is_none() => context.own_host.as_bytes(),
            host => host,
        },
    );
    out.extend_from_slice(b",\"HostIP\":");
    push_text(out, context.host_ip.as_bytes());
    out.extend_from_slice(b",\"Message\":");
    push_text(out, message.message);
    if let Some(pid) = message.pid {
        out.extend_from_slice(b",\"ProcessId\":");
        push_text(out, pid);
    }
    if context.with_facility {
        out.extend_from_slice(b",\"Facility\":");
        push_text(out, message.facility.as_bytes());
        out.extend_from_slice(b",\"Severity\":");
        push_text(out, message.severity.as_bytes());
    }
    out.push(b'}');
}

/// Appends a JSON string. What is not UTF-8 becomes U+FFFD, in this text only.
pub fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        push_escaped(out, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    let mut from = 0;
    for (i, &byte) in text.iter().enumerate() {
        let short: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..=0x1f | 0x7f => b"",
            _ => continue,
        };
        out.extend_from_slice(&text[from..i]);
        from = i + 1;
        if short.is_empty() {
            let hex = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[hex(byte >> 4), hex(byte & 15)]);
        } else {
            out.extend_from_slice(short);
        }
    }
    out.extend_from_slice(&text[from..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_in_the_order_of_the_original() {
        let message = Message {
            priority: 86,
            facility: "authpriv",
            severity: "info",
            time_ms: Some(1_944_036_672_000),
            host: b"web01",
            ident: b"sshd",
            pid: Some(b"812"),
            message: b"Accepted publickey",
        };
        let context = Context {
            now_ms: 1_944_036_672_345,
            host_ip: "10.0.0.7",
            own_host: "me",
            with_facility: true,
        };
        let mut out = Vec::new();
        push(&mut out, &message, context);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"ident":"sshd","Timestamp":"2031-08-09T10:11:12.345Z","EventTime":"2031-08-09T10:11:12.000Z","Host":"web01","HostIP":"10.0.0.7","Message":"Accepted publickey","ProcessId":"812","Facility":"authpriv","Severity":"info"}"#
        );
        let mut out = Vec::new();
        let without = Message {
            pid: None,
            ..message
        };
        push(
            &mut out,
            &without,
            Context {
                with_facility: false,
                ..context
            },
        );
        assert!(
            String::from_utf8(out)
                .unwrap()
                .ends_with(r#""Message":"Accepted publickey"}"#)
        );
    }

    #[test]
    fn invalid_utf8_is_mended_not_dropped() {
        let mut out = Vec::new();
        push_text(&mut out, b"a\xff\"b\\\n\x00\x7f\xc3\xa9\xe2\x82");
        assert_eq!(
            out,
            "\"a\u{fffd}\\\"b\\\\\\n\\u0000\\u007f\u{e9}\u{fffd}\"".as_bytes()
        );
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_make_json(bytes: Vec<u8>) {
            let mut out = Vec::new();
            push_text(&mut out, &bytes);
            let back: String = serde_json::from_slice(&out).unwrap();
            proptest::prop_assert_eq!(back, String::from_utf8_lossy(&bytes));
        }
    }
}
