use super::*;

/// Gives its bytes in pieces of a fixed size.
struct Slowly<'a>(&'a [u8], usize);

impl Read for Slowly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.1.min(self.0.len()).min(buffer.len());
        buffer[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

fn read(bytes: &[u8], piece: usize, limit: usize) -> Result<(Head, Vec<u8>), HttpError> {
    let mut inbox = Inbox::new(Slowly(bytes, piece));
    let head = inbox.head()?;
    let body = inbox.body(head.framing, limit, &mut |_| true)?;
    Ok((head, body))
}

fn status(bytes: &[u8]) -> u16 {
    match read(bytes, 7, 1000) {
        Err(HttpError::Refused(response)) => response.status,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn requests_of_any_piece_size_are_read() {
    let bytes = b"\r\nPOST https://h/a/b?c=d HTTP/1.1\r\nHost: h\r\nX-One:  two \r\n\
                  Content-Length: 5\r\nExpect: 100-Continue\r\n\r\nhello";
    for piece in 1..bytes.len() + 1 {
        let (head, body) = read(bytes, piece, 5).unwrap();
        assert_eq!(
            (&*head.method, &*head.path, &*head.query),
            ("POST", "/a/b", "c=d")
        );
        assert_eq!(head.header("x-oNE"), Some("two"));
        assert!(head.expects_continue && head.keep_alive);
        assert_eq!(body, b"hello");
    }
}

#[test]
fn several_requests_follow_each_other() {
    let bytes = b"GET /1 HTTP/1.1\nHost: h\n\nPOST /2 HTTP/1.1\r\nHost: h\r\n\
                  Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nT: 1\r\n\r\n\
                  GET /3 HTTP/1.0\r\n\r\n";
    for piece in 1..100 {
        let mut inbox = Inbox::new(Slowly(bytes, piece));
        let one = inbox.head().unwrap();
        assert_eq!(one.path, "/1");
        assert!(
            inbox
                .body(one.framing, 0, &mut |_| true)
                .unwrap()
                .is_empty()
        );
        let two = inbox.head().unwrap();
        assert_eq!(two.framing, Framing::Chunked);
        let body = inbox.body(two.framing, 13, &mut |_| true).unwrap();
        assert_eq!(body, b"abc0123456789");
        let three = inbox.head().unwrap();
        assert_eq!(three.path, "/3");
        assert!(!three.keep_alive);
        assert!(matches!(inbox.head(), Err(HttpError::Closed)));
    }
}

#[test]
fn nonsense_is_a_bad_request() {
    for bad in [
        "\x16\x03\x01\x02garbage\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffffff\r\n",
    ] {
        assert_eq!(status(bad.as_bytes()), 400, "{bad:?}");
    }
    assert_eq!(status(b"GET / HTTP/2.0\r\n\r\n"), 505);
    let gzip = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n";
    assert_eq!(status(gzip), 501);
    let expect = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n";
    assert_eq!(status(expect), 417);
}

#[test]
fn heads_are_read_up_to_the_limit_and_not_past_it() {
    let sized = |size: usize| {
        let frame = "GET / HTTP/1.1\r\nHost: h\r\nX: \r\n\r\n".len();
        format!(
            "GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n",
            "x".repeat(size - frame)
        )
    };
    assert!(read(sized(HEAD_LIMIT).as_bytes(), 1000, 0).is_ok());
    assert_eq!(status(sized(HEAD_LIMIT + 1).as_bytes()), 431);
    assert_eq!(status("A".repeat(HEAD_LIMIT + 100).as_bytes()), 431);
    let many = |n: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: 1\r\n".repeat(n));
    assert!(read(many(HEADERS_LIMIT - 1).as_bytes(), 1000, 0).is_ok());
    assert_eq!(status(many(HEADERS_LIMIT).as_bytes()), 431);
}

#[test]
fn bodies_are_read_up_to_the_limit_and_not_past_it() {
    let plain = |n: usize| {
        let head = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {n}\r\n\r\n");
        [head.into_bytes(), vec![b'x'; n]].concat()
    };
    assert_eq!(read(&plain(1000), 100, 1000).unwrap().1.len(), 1000);
    assert_eq!(status(&plain(1001)), 413);
    let chunked = |n: usize| {
        let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        format!("{head}{}0\r\n\r\n", "1\r\nx\r\n".repeat(n)).into_bytes()
    };
    assert_eq!(read(&chunked(1000), 100, 1000).unwrap().1.len(), 1000);
    assert_eq!(status(&chunked(1001)), 413);
    let huge = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999\r\n\r\n";
    assert_eq!(status(huge), 413);
    let long = format!(
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;{}",
        "x".repeat(2 * CHUNK_LINE_LIMIT)
    );
    assert_eq!(status(long.as_bytes()), 400);
    let trailers = format!(
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{}\r\n",
        "X: 1\r\n".repeat(TRAILERS_LIMIT)
    );
    assert_eq!(status(trailers.as_bytes()), 400);
}

#[test]
fn a_body_that_ends_early_is_a_closed_connection() {
    let cut = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhell";
    assert!(matches!(read(cut, 3, 5), Err(HttpError::Closed)));
}

#[test]
fn memory_is_asked_for_before_it_is_taken() {
    let bytes = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 900\r\n\r\n";
    let all = [&bytes[..], &[b'x'; 900]].concat();
    let mut inbox = Inbox::new(Slowly(&all, 100));
    let head = inbox.head().unwrap();
    let mut given = 0;
    let refused = inbox.body(head.framing, 1000, &mut |n| {
        given += n;
        given <= 500
    });
    match refused {
        Err(HttpError::Refused(response)) => assert_eq!(response.status, 503),
        other => panic!("{other:?}"),
    }
}

#[test]
fn answers_have_a_date_and_a_length() {
    let text = String::from_utf8(Response::text(200, "ok\n").to_bytes(true, false)).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\nDate: "), "{text}");
    assert!(text.contains(" GMT\r\n"));
    assert!(text.contains("\r\nContent-Length: 3\r\n"));
    assert!(text.ends_with("\r\nConnection: close\r\n\r\nok\n"));
    let head = String::from_utf8(Response::text(200, "ok\n").to_bytes(false, true)).unwrap();
    assert!(head.contains("\r\nContent-Length: 3\r\n") && head.ends_with("\r\n\r\n"));
}

#[test]
fn agents_say_their_version() {
    let version = |headers: &str| {
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        let head = Head::parse(text.as_bytes()).unwrap();
        head.client_version().unwrap_or("-").to_owned()
    };
    assert_eq!(
        version("User-Agent: LinuxMonitoringAgent/2.0.0-1\r\n"),
        "2.0.0-1"
    );
    assert_eq!(version("user-agent: LinuxMonitoringAgent/2.0 x\r\n"), "2.0");
    let both = "x-ms-client-version: 3\r\nUser-Agent: LinuxMonitoringAgent/2\r\n";
    assert_eq!(version(both), "3");
    let long = "x".repeat(VERSION_LIMIT + 1);
    for none in [
        "",
        "User-Agent: curl/8\r\n",
        "User-Agent: LinuxMonitoringAgent/\r\n",
        "User-Agent: LinuxMonitoringAgent/\u{e9}\r\n",
        "x-ms-client-version: \r\n",
        "x-ms-client-version: a b\r\n",
        &format!("x-ms-client-version: {long}\r\n"),
    ] {
        assert_eq!(version(none), "-", "{none}");
    }
    let longest = &long[1..];
    assert_eq!(
        version(&format!("x-ms-client-version: {longest}\r\n")),
        longest
    );
}
