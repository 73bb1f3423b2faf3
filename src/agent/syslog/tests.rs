//! Every example and quirk row of protocol.md 6.4.

use super::*;
use jiff::tz::TimeZone;

fn parse_at_noon(line: &[u8], default: Option<u32>) -> Result<Message<'_>, NoMatch> {
    let mut zone = Zone::new(TimeZone::UTC);
    let now: jiff::Timestamp = "2031-08-09T12:00:00Z".parse().unwrap();
    zone.set_now(now.as_millisecond());
    parse(line, default, &mut zone)
}

/// facility.severity|time|host|ident|pid|message
fn shown(line: &str) -> String {
    match parse_at_noon(line.as_bytes(), None) {
        Err(e) => format!("{e:?}"),
        Ok(m) => {
            let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
            let mut time = Vec::new();
            if let Some(ms) = m.time_ms {
                stamp::push_utc(&mut time, ms);
            }
            format!(
                "{}.{}|{}|{}|{}|{}|{}",
                m.facility,
                m.severity,
                text(&time).get(5..19).unwrap_or("-"),
                text(m.host),
                text(m.ident),
                m.pid.map_or("-".into(), text),
                text(m.message)
            )
        }
    }
}

#[test]
fn rfc3164_lines() {
    for (line, wanted) in [
        (
            "<86>Aug  9 10:11:12 web01 sshd[812]: Accepted publickey",
            "authpriv.info|08-09T10:11:12|web01|sshd|812|Accepted publickey",
        ),
        (
            "<13>Aug  9 10:11:12 web01 just a message no colon",
            "user.notice|08-09T10:11:12|web01|just|-|a message no colon",
        ),
        (
            "<13>Aug  9 10:11:12 web01 foo(pam_unix)[3]: hi: there",
            "user.notice|08-09T10:11:12|web01|foo(pam_unix)|3|hi: there",
        ),
        (
            "<13>Aug  9 10:11:12 web01 word more text: tail",
            "user.notice|08-09T10:11:12|web01|word|-|tail",
        ),
        // One or two blanks before the day; the host may be empty; so may the ident.
        (
            "<34>Aug 9 10:11:12 h su: x",
            "auth.crit|08-09T10:11:12|h|su|-|x",
        ),
        (
            "<13>Aug  9 10:11:12  su: x",
            "user.notice|08-09T10:11:12||su|-|x",
        ),
        (
            "<13>Aug  9 10:11:12 h : x",
            "user.notice|08-09T10:11:12|h||-|x",
        ),
        (
            "<13>Aug  9 10:11:12 h su[]: x",
            "user.notice|08-09T10:11:12|h|su|-|x",
        ),
        (
            "<13>Aug  9 10:11:12 h su[1a]: x",
            "user.notice|08-09T10:11:12|h|su|-|x",
        ),
        (
            "<13>Aug  9 10:11:12 h su:",
            "user.notice|08-09T10:11:12|h|su|-|",
        ),
        (
            "<13>Aug  9 10:11:12 h su",
            "user.notice|08-09T10:11:12|h|su|-|",
        ),
        (
            "<13>Aug  9 10:11:12 h su[7]",
            "user.notice|08-09T10:11:12|h|su|7|",
        ),
        (
            "<13>Aug  9 10:11:12 h su[7]:   x  ",
            "user.notice|08-09T10:11:12|h|su|7|x  ",
        ),
        // The first line only, without its end.
        (
            "<13>Aug  9 10:11:12 h su: x\r\nmore",
            "user.notice|08-09T10:11:12|h|su|-|x",
        ),
        (
            "<13>Aug  9 10:11:12 h su: x\n",
            "user.notice|08-09T10:11:12|h|su|-|x",
        ),
        (
            "<13>Aug  9 10:11:12 h su: x\0",
            "user.notice|08-09T10:11:12|h|su|-|x",
        ),
        // Codes at the edges.
        (
            "<0>Aug  9 10:11:12 h k: x",
            "kern.emerg|08-09T10:11:12|h|k|-|x",
        ),
        (
            "<191>Aug  9 10:11:12 h k: x",
            "local7.debug|08-09T10:11:12|h|k|-|x",
        ),
        (
            "<192>Aug  9 10:11:12 h k: x",
            ".emerg|08-09T10:11:12|h|k|-|x",
        ),
        (
            "<999999999>Aug  9 10:11:12 h k: x",
            ".debug|08-09T10:11:12|h|k|-|x",
        ),
        ("<9999999990>Aug  9 10:11:12 h k: x", "Priority"),
        // RFC 3339 stamps, as rsyslog sends them with another template.
        (
            "<86>2031-08-09T10:11:12.5+02:00 web01 sshd[812]: ok",
            "authpriv.info|08-09T08:11:12|web01|sshd|812|ok",
        ),
        // Not taken.
        ("no priority", "Priority"),
        ("<>Aug  9 10:11:12 h k: x", "Priority"),
        ("<x>Aug  9 10:11:12 h k: x", "Priority"),
        ("<13", "Priority"),
        ("", "Priority"),
        ("<13>", "Time"),
        ("<13>yesterday at noon h k: x", "Time"),
        ("<13>Aug 39 10:11:12 h k: x", "Time"),
        ("<13>Aug  9 10:11:12", "Time"),
        ("<13>Aug  9 10:11:12 onlyhost", "Short"),
    ] {
        assert_eq!(shown(line), wanted, "{line}");
    }
}

#[test]
fn rfc5424_lines() {
    for (line, wanted) in [
        (
            "<34>1 2031-08-09T10:11:12.003Z h su 77 ID47 - failed",
            "auth.crit|08-09T10:11:12|h|su|77|failed",
        ),
        (
            "<165>1 2031-08-09T10:11:12.003Z h evntslog - ID47 [a@1 b=\"c\\\"]\" d=\"e\"][f] \u{feff}text",
            "local4.notice|08-09T10:11:12|h|evntslog|-|text",
        ),
        (
            "<34>1 2031-08-09T10:11:12Z h su 77 - - one\ntwo\n",
            "auth.crit|08-09T10:11:12|h|su|77|one\ntwo",
        ),
        ("<13>1 - - - - - - x", "user.notice|-||||x"),
        (
            "<13>1 2031-08-09T10:11:12Z h app - - -",
            "user.notice|08-09T10:11:12|h|app|-|",
        ),
        (
            "<13>1 2031-08-09T10:11:12Z h app p1 - - x",
            "user.notice|08-09T10:11:12|h|app|-|x",
        ),
        (
            "<13>1 2031-08-09T10:11:12Z h app - - [broken x",
            "user.notice|08-09T10:11:12|h|app|-|[broken x",
        ),
        ("<13>1 2031-99-09T10:11:12Z h app - - - x", "Time"),
        ("<13>1 - - -", "Short"),
    ] {
        let wanted = wanted.replace("||||x", "|||-|x");
        assert_eq!(shown(line), wanted, "{line}");
    }
}

#[test]
fn lines_without_priority_when_that_is_allowed() {
    let line = b"Aug  9 10:11:12 h su: x";
    let message = parse_at_noon(line, Some(13)).unwrap();
    assert_eq!((message.facility, message.severity), ("user", "notice"));
    assert_eq!(message.ident, b"su");
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>) {
        let _ = parse_at_noon(&bytes, Some(13));
    }

    #[test]
    fn nearly_right_lines_are_survived(
        line in "<[0-9]{1,3}>(1 )?(Aug|Xyz|2031-08-09T)?[ 0-9:.+-]{0,20} ?[a-z\\[\\]:\" =\\\\-]{0,30}"
    ) {
        let _ = parse_at_noon(line.as_bytes(), None);
    }

    #[test]
    fn well_formed_lines_come_back(
        host in "[a-z0-9.-]{1,12}", ident in "[a-zA-Z0-9_/.()-]{0,12}",
        pid in proptest::option::of("[0-9]{1,6}"), message in "[^ \r\n\0][^\r\n\0]{0,40}",
    ) {
        let tag = pid.as_ref().map_or(ident.clone(), |p| format!("{ident}[{p}]"));
        let line = format!("<13>Aug  9 10:11:12 {host} {tag}: {message}");
        let got = parse_at_noon(line.as_bytes(), None).unwrap();
        proptest::prop_assert_eq!(got.host, host.as_bytes());
        proptest::prop_assert_eq!(got.ident, ident.as_bytes());
        proptest::prop_assert_eq!(got.pid, pid.as_ref().map(|p| p.as_bytes()));
        proptest::prop_assert_eq!(got.message, message.as_bytes());
    }
}
