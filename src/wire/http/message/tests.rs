//! Answers whole, cut, malformed and too large; requests that cannot be forged.

use super::*;

/// The answer as read in one piece; it must be the same read byte by byte.
fn read(bytes: &[u8]) -> Result<Answer, String> {
    let show = |failure| match failure {
        Failure::Stream { source, received } => format!("{:?} {received}", source.kind()),
        Failure::NotHttp(why) => why.to_owned(),
    };
    let whole = read_answer(bytes).map_err(show);
    if bytes.len() < 5000 {
        let slow = read_answer(OneByte(bytes)).map_err(show);
        match (&whole, &slow) {
            (Ok(a), Ok(b)) => {
                assert_eq!(a.response.status, b.response.status);
                assert_eq!(a.response.body, b.response.body);
            }
            (Err(a), Err(b)) => assert_eq!(a, b),
            _ => panic!("{whole:?} but slowly {slow:?}"),
        }
    }
    whole
}

fn body(bytes: &str) -> (u16, String, bool) {
    let answer = read(bytes.as_bytes()).unwrap();
    let text = String::from_utf8(answer.response.body).unwrap();
    (answer.response.status, text, answer.reusable)
}

#[test]
fn bodies_of_each_framing() {
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(body(length), (200, "abc".into(), true));
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n\
        2;x=y\r\nab\r\n1\r\nc\r\n0\r\nTrailer: t\r\n\r\n";
    assert_eq!(body(chunks), (200, "abc".into(), true));
    let to_the_end = "HTTP/1.1 403 No\r\nDate: x\r\n\r\nabc";
    assert_eq!(body(to_the_end), (403, "abc".into(), false));
    assert_eq!(body("HTTP/1.1 204 No\r\n\r\n"), (204, "".into(), true));
}

#[test]
fn interim_answers_are_passed_over() {
    let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(body(text), (200, "".into(), true));
    let many = |n| {
        let end = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        read(format!("{}{end}", "HTTP/1.1 103 Hints\r\n\r\n".repeat(n)).as_bytes())
    };
    assert!(many(MAX_INTERIM - 1).is_ok());
    assert!(many(MAX_INTERIM).is_err());
}

#[test]
fn when_the_connection_may_be_kept() {
    let kept = |head: &str| body(&format!("{head}\r\nContent-Length: 0\r\n\r\n")).2;
    assert!(kept("HTTP/1.1 200 OK"));
    assert!(!kept("HTTP/1.1 200 OK\r\nConnection: Close"));
    assert!(!kept("HTTP/1.0 200 OK"));
    assert!(kept("HTTP/1.0 200 OK\r\nConnection: keep-alive"));
    let more = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK";
    assert!(!body(more).2, "bytes nobody asked for");
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n\
        0\r\n\r\n";
    assert_eq!(body(both), (200, "".into(), false));
}

#[test]
fn a_cut_answer_is_no_answer() {
    for whole in [
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    ] {
        for n in 0..whole.len() {
            let error = read(&whole.as_bytes()[..n]).unwrap_err();
            assert_eq!(error, format!("UnexpectedEof {n}"));
        }
    }
}

#[test]
fn what_is_not_http() {
    for bad in [
        "SSH-2.0-OpenSSH\r\n",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        "HTTP/1.1 101 Switching\r\n\r\n",
        "HTTP/1.1 999 Odd\r\n\r\n",
    ] {
        let error = read(bad.as_bytes()).unwrap_err();
        assert!(!error.contains("Eof"), "{bad:?}: {error}");
    }
}

#[test]
fn head_has_limits() {
    let many = |n: usize| {
        let lines = "A: b\r\n".repeat(n - 1);
        read(format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 0\r\n\r\n").as_bytes())
    };
    assert!(many(MAX_HEADERS).is_ok());
    assert!(many(MAX_HEADERS + 1).unwrap_err().contains("100 headers"));
    let large = |n: usize| {
        let frame = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: \r\n\r\n".len();
        let fill = "x".repeat(n - frame);
        read(format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: {fill}\r\n\r\n").as_bytes())
    };
    assert!(large(HEAD_LIMIT).is_ok());
    assert!(large(HEAD_LIMIT + 1).unwrap_err().contains("64 KiB"));
}

#[test]
fn body_has_a_limit_in_each_framing() {
    let fill = |n: usize| "x".repeat(n);
    let length =
        |n| read(format!("HTTP/1.1 200 OK\r\nContent-Length: {n}\r\n\r\n{}", fill(n)).as_bytes());
    let chunked = |n| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let half = fill(n / 2);
        let rest = fill(n - n / 2);
        let (a, b) = (half.len(), rest.len());
        read(format!("{head}{a:x}\r\n{half}\r\n{b:x}\r\n{rest}\r\n0\r\n\r\n").as_bytes())
    };
    let to_the_end = |n| read(format!("HTTP/1.1 200 OK\r\n\r\n{}", fill(n)).as_bytes());
    for reader in [&length as &dyn Fn(usize) -> _, &chunked, &to_the_end] {
        assert_eq!(reader(BODY_LIMIT).unwrap().response.body.len(), BODY_LIMIT);
        assert!(reader(BODY_LIMIT + 1).unwrap_err().contains("1 MiB"));
    }
}

#[test]
fn a_proxy_s_answer_ends_with_its_head() {
    let mut stream = &b"HTTP/1.1 200 Connection established\r\n\r\n\x16\x03"[..];
    assert_eq!(read_connect_answer(&mut stream).unwrap(), 200);
    assert_eq!(stream, b"\x16\x03");
}

#[test]
fn a_request_is_one_that_cannot_be_forged() {
    let url = Url::parse("https://h.example:8443/p?q").unwrap();
    let make = |headers: &[(&str, &str)]| Request::new("POST", &url, "UA/1", headers, Some(b"xy"));
    let text = String::from_utf8(make(&[("X-A", "b")]).unwrap().head).unwrap();
    assert_eq!(
        text,
        "POST /p?q HTTP/1.1\r\nHost: h.example:8443\r\nUser-Agent: UA/1\r\nAccept: */*\r\n\
         X-A: b\r\nContent-Length: 2\r\n\r\n"
    );
    let own = String::from_utf8(make(&[("user-agent", "me")]).unwrap().head).unwrap();
    assert!(!own.contains("UA/1"));
    for (name, value) in [("X", "a\r\nY: b"), ("X: y", "z"), ("", "z"), ("X\n", "z")] {
        assert!(make(&[(name, value)]).is_err());
    }
}
