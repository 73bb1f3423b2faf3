//! Through proxies of every kind, and what they must not see.

use super::*;

#[test]
fn a_proxy_carries_the_request_to_names_only_it_knows() {
    let bench = Bench::new();
    let server = bench.server(|_| answer(200, "", "through"));
    for credentials in [None, Some(("user", "pa:ss"))] {
        let relay = Server::proxy(200, server.port);
        let mut options = bench.options();
        options.proxy = Some(proxy(relay.port, credentials));
        let client = Client::new(options).unwrap();
        let there = "https://w.oms.example.test:8443/x";
        assert_eq!(client.post(there, NONE, b"").unwrap().body, b"through");
        assert_eq!(client.post(there, NONE, b"").unwrap().body, b"through");
        let asked = relay.seen();
        assert_eq!(asked.len(), 1, "the tunnel is kept");
        let head = &asked[0].head;
        let line = "CONNECT w.oms.example.test:8443 HTTP/1.1\r\nHost: w.oms.example.test:8443\r\n";
        assert!(head.starts_with(line), "{head}");
        let basic = "Proxy-Authorization: Basic dXNlcjpwYTpzcw==\r\n";
        assert_eq!(head.contains(basic), credentials.is_some());
    }
    assert!(
        !server.seen()[0].head.contains("Proxy"),
        "not for the server"
    );
}

/// A proxy behind TLS: what comes is passed on to `to`, a plain one.
fn behind_tls(pair: rig::Pair, to: u16) -> Server {
    let builder = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ));
    let config = builder
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(pair.chain, pair.key)
        .unwrap();
    let config = Arc::new(config);
    Server::listen(move |_, tcp, _| {
        let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut inner = std::net::TcpStream::connect(("127.0.0.1", to)).unwrap();
        let short = Some(Duration::from_millis(5));
        tcp.set_read_timeout(short).unwrap();
        inner.set_read_timeout(short).unwrap();
        let mut outer = rustls::StreamOwned::new(session, tcp);
        let mut piece = [0; 16384];
        let waits = |e: &std::io::Error| {
            let kind = e.kind();
            matches!(
                kind,
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            )
        };
        // In turns: enough for one request after the other.
        loop {
            match outer.read(&mut piece) {
                Ok(0) => return,
                Ok(n) => inner.write_all(&piece[..n]).unwrap(),
                Err(e) if waits(&e) => {}
                Err(_) => return,
            }
            match inner.read(&mut piece) {
                Ok(0) => return,
                Ok(n) => {
                    let sent = outer.write_all(&piece[..n]).and_then(|()| outer.flush());
                    if sent.is_err() {
                        return;
                    }
                }
                Err(e) if waits(&e) => {}
                Err(_) => return,
            }
        }
    })
}

#[test]
fn a_proxy_behind_tls_is_verified_too() {
    use crate::settings::proxy::Scheme;
    let bench = Bench::new();
    let server = bench.server(|_| answer(200, "", "through"));
    let plain = Server::proxy(200, server.port);
    let pair = |bench: &Bench| bench.authority.issue(&["127.0.0.1"], YEARS);
    let secure = behind_tls(pair(&bench), plain.port);
    let client = |port, credentials| {
        let mut options = bench.options();
        options.proxy = Some(Proxy {
            scheme: Scheme::Https,
            ..proxy(port, credentials)
        });
        Client::new(options).unwrap()
    };
    let there = "https://w.oms.example.test/x";
    let through = client(secure.port, Some(("user", "hunter2")));
    for _ in 0..3 {
        assert_eq!(through.post(there, NONE, b"x").unwrap().body, b"through");
    }
    assert_eq!(plain.seen().len(), 1, "the tunnel is kept");
    assert!(plain.seen()[0].head.contains("Proxy-Authorization: Basic "));
    assert_eq!(through.remark(), None);
    assert!(!through.was_asked_for_certificate());
    // One that nobody vouches for.
    let stranger = Bench::new();
    let other = behind_tls(pair(&stranger), plain.port);
    let result = client(other.port, None).post(there, NONE, b"x");
    fails(result, Cause::ProxyTls, "issued by \"CN=Test Root\"");
    // One that speaks no TLS: as the original's agent did.
    let talks = Server::listen(move |_, mut tcp, _| {
        let mut first = [0; 1];
        if tcp.peek(&mut first).is_ok() && first == [0x16] {
            let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = tcp.read(&mut [0; 4096]);
            return;
        }
        let _ = tcp.read(&mut [0; 4096]);
        let _ = tcp.write_all(b"HTTP/1.1 407 No\r\n\r\n");
    });
    let old = client(talks.port, Some(("user", "hunter2")));
    fails(old.post(there, NONE, b"x"), Cause::ProxyAuth, "(407)");
    let remark = old.remark().unwrap();
    assert!(remark.contains("in the clear, its user and password too"));
    assert!(!remark.contains("hunter2"), "{remark}");
}

#[test]
fn a_password_is_tried_as_meant_and_as_written() {
    let bench = Bench::new();
    let server = bench.server(|_| answer(200, "", "through"));
    let there = "https://w.oms.example.test/x";
    for good in ["user:p@ss", "user:p%40ss"] {
        use base64::Engine;
        let coded = base64::engine::general_purpose::STANDARD.encode(good);
        let relay = Server::proxy(200, server.port);
        let (passes, refuses) = (relay.port, Server::proxy(407, 0));
        let no = refuses.port;
        let guard = Server::listen(move |_, mut tcp, _| {
            let mut head = [0; 4096];
            let n = tcp.read(&mut head).unwrap();
            let text = String::from_utf8_lossy(&head[..n]).into_owned();
            let to = if text.contains(&coded) { passes } else { no };
            let mut inner = std::net::TcpStream::connect(("127.0.0.1", to)).unwrap();
            inner.write_all(&head[..n]).unwrap();
            let mut back = (inner.try_clone().unwrap(), tcp.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut back.0, &mut back.1);
                let _ = back.1.shutdown(std::net::Shutdown::Both);
            });
            let _ = std::io::copy(&mut tcp, &mut inner);
        });
        let mut options = bench.options();
        options.proxy = Some(proxy(guard.port, Some(("user", "p%40ss"))));
        let client = Client::new(options).unwrap();
        assert_eq!(client.post(there, NONE, b"x").unwrap().body, b"through");
        let tried = refuses.seen().len();
        assert_eq!(tried, usize::from(good.contains('%')), "{good}");
    }
}

#[test]
fn a_server_that_asks_who_we_are_is_told_apart() {
    let bench = Bench::new();
    let now = jiff::Timestamp::now();
    let ws = "11111111-2222-3333-4444-555555555555".parse().unwrap();
    let guid = crate::base::ids::AgentGuid::random();
    let mut options = bench.options();
    options.identity = Some(ClientIdentity::generate(&ws, &guid, now).unwrap());
    let asks = bench.server(|_| answer(200, "", ""));
    let client = Client::new(options.clone()).unwrap();
    client.get(&url(&asks), NONE).unwrap();
    assert!(client.was_asked_for_certificate());
    let plain = Server::listen(|_, mut tcp, _| {
        let mut head = [0; 4096];
        let _ = tcp.read(&mut head);
        let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    let opener = behind_tls(bench.authority.issue(&["127.0.0.1"], YEARS), plain.port);
    let client = Client::new(options).unwrap();
    assert_eq!(client.get(&url(&opener), NONE).unwrap().status, 200);
    assert!(!client.was_asked_for_certificate());
}

#[test]
fn a_proxy_that_refuses_is_told_apart() {
    let bench = Bench::new();
    let try_with = |port, credentials| {
        let mut options = bench.options();
        options.proxy = Some(proxy(port, credentials));
        Client::new(options)
            .unwrap()
            .post("https://w.example.test/", NONE, b"")
    };
    let strict = Server::proxy(407, 0);
    let secret = Some(("user", "hunter2"));
    fails(
        try_with(strict.port, None),
        Cause::ProxyAuth,
        "wants a user",
    );
    fails(
        try_with(strict.port, secret),
        Cause::ProxyAuth,
        "does not accept",
    );
    assert!(!format!("{:?}", try_with(strict.port, secret)).contains("hunter2"));
    let closed = Server::proxy(403, 0);
    fails(
        try_with(closed.port, None),
        Cause::ProxyRefused,
        "w.example.test:443",
    );
    fails(
        try_with(closed_port(), None),
        Cause::ProxyConnect,
        "the proxy `127.0.0.1`",
    );
    let odd = Server::listen(|_, mut tcp, _| {
        let _ = tcp.write_all(b"SSH-2.0-x\r\n");
        let _ = tcp.read(&mut [0; 1000]);
    });
    fails(
        try_with(odd.port, None),
        Cause::ProxyRefused,
        "like a proxy",
    );
}
