//! The client against a real TLS server on 127.0.0.1: every cause, and what must not be lost.

use super::rig::{Authority, Reply, Server, answer};
use super::*;
use crate::base::secret::Secret;
use std::io::{Read, Write};

mod proxies;

const YEARS: (i32, i32) = (2020, 2120);

/// An authority, its CA file, and options that trust it.
struct Bench {
    authority: Authority,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Bench {
            authority: Authority::new("Test Root"),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn options(&self) -> Options {
        Options {
            identity: None,
            ca_file: Some(self.authority.ca_file(self.dir.path())),
            proxy: None,
            user_agent: "LinuxMonitoringAgent/2.0.0-1".into(),
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(10),
        }
    }

    fn client(&self) -> Client {
        Client::new(self.options()).unwrap()
    }

    fn server(&self, reply: impl Fn(&rig::Seen) -> Reply + Send + Sync + 'static) -> Server {
        let names = ["127.0.0.1", "localhost", "*.oms.example.test"];
        Server::start(self.authority.issue(&names, YEARS), reply)
    }
}

const NONE: &[(&str, &str)] = &[];

fn url(server: &Server) -> String {
    format!("https://127.0.0.1:{}/x", server.port)
}

fn proxy(port: u16, credentials: Option<(&str, &str)>) -> Proxy {
    Proxy {
        scheme: crate::settings::proxy::Scheme::Http,
        host: "127.0.0.1".into(),
        port,
        credentials: credentials.map(|(u, p)| (u.to_owned(), Secret::new(p))),
    }
}

/// A port on which nothing listens.
fn closed_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[track_caller]
fn fails(result: Result<Response, HttpError>, cause: Cause, needle: &str) {
    let error = result.expect_err("no answer was expected");
    assert_eq!(error.cause, cause, "{error}");
    assert!(error.detail.contains(needle), "{error}");
    assert!(!error.detail.contains('\n'), "{error}");
}

#[test]
fn a_post_arrives_whole_with_the_client_certificate() {
    let bench = Bench::new();
    let server = bench.server(|_| answer(200, "X-Thing: a\r\n", "hello"));
    let now = jiff::Timestamp::now();
    let ws = "11111111-2222-3333-4444-555555555555".parse().unwrap();
    let guid = crate::base::ids::AgentGuid::random();
    let identity = ClientIdentity::generate(&ws, &guid, now).unwrap();
    let mut options = bench.options();
    options.identity = Some(identity.clone());
    let client = Client::new(options).unwrap();
    let body = vec![b'z'; 300_000];
    let headers = [("X-Own", "1")];
    let response = client.post(&url(&server), &headers, &body).unwrap();
    assert_eq!(response.status, 200);
    assert_eq!(response.body, b"hello");
    assert_eq!(response.header("x-thing"), Some("a"));
    let seen = server.seen();
    assert_eq!(seen[0].body, body);
    assert_eq!(seen[0].certificate, Some(identity.cert_der().unwrap()));
    let agent = "\r\nUser-Agent: LinuxMonitoringAgent/2.0.0-1\r\n";
    assert!(
        seen[0]
            .head
            .starts_with("POST /x HTTP/1.1\r\nHost: 127.0.0.1:")
    );
    assert!(seen[0].head.contains(agent) && seen[0].head.contains("\r\nX-Own: 1\r\n"));
}

#[test]
fn one_connection_serves_many_requests() {
    let bench = Bench::new();
    let server = bench.server(|_| answer(200, "", "ok"));
    let client = bench.client();
    for _ in 0..5 {
        client.post(&url(&server), NONE, b"1").unwrap();
    }
    assert_eq!(client.get(&url(&server), NONE).unwrap().body, b"ok");
    let connections: Vec<usize> = server.seen().iter().map(|s| s.connection).collect();
    assert_eq!(connections, [0; 6]);
}

#[test]
fn a_connection_closed_while_idle_is_replaced() {
    let bench = Bench::new();
    let server = bench.server(|_| match answer(200, "", "ok") {
        Reply::Say(text) => Reply::SayAndClose(text),
        other => other,
    });
    let client = bench.client();
    for _ in 0..3 {
        assert_eq!(client.post(&url(&server), NONE, b"1").unwrap().status, 200);
    }
    let connections: Vec<usize> = server.seen().iter().map(|s| s.connection).collect();
    assert_eq!(connections, [0, 1, 2]);
}

#[test]
fn a_new_identity_or_another_server_gets_another_connection() {
    let bench = Bench::new();
    let (one, two) = (
        bench.server(|_| answer(200, "", "1")),
        bench.server(|_| answer(200, "", "2")),
    );
    let client = bench.client();
    for _ in 0..2 {
        assert_eq!(client.get(&url(&one), NONE).unwrap().body, b"1");
        assert_eq!(client.get(&url(&two), NONE).unwrap().body, b"2");
    }
}

#[test]
fn an_untrusted_authority_is_named() {
    let bench = Bench::new();
    let server = bench.server(|_| answer(200, "", ""));
    let stranger = Bench::new();
    let other = Authority::new("Another Root");
    let mut options = stranger.options();
    options.ca_file = Some(other.ca_file(stranger.dir.path()));
    let client = Client::new(options).unwrap();
    let result = client.post(&url(&server), NONE, b"secret");
    fails(result, Cause::TlsUntrusted, "issued by \"CN=Test Root\"");
    assert!(server.seen().is_empty(), "nothing may be sent");
}

#[test]
fn an_authority_of_the_same_name_is_not_the_same() {
    let bench = Bench::new();
    let server = bench.server(|_| answer(200, "", ""));
    let impostor = Bench::new(); // also "Test Root", with its own key
    let result = impostor.client().post(&url(&server), NONE, b"");
    fails(result, Cause::TlsUntrusted, "CN=Test Root");
}

#[test]
fn without_a_ca_file_a_private_authority_is_not_trusted() {
    let bench = Bench::new();
    let server = bench.server(|_| answer(200, "", ""));
    let mut options = bench.options();
    options.ca_file = None;
    let result = Client::new(options).unwrap().post(&url(&server), NONE, b"");
    fails(result, Cause::TlsUntrusted, "does not trust");
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let bench = Bench::new();
    let names = ["a.oms.example.test", "b.oms.example.test"];
    let server = Server::start(bench.authority.issue(&names, YEARS), |_| {
        answer(200, "", "")
    });
    let result = bench.client().post(&url(&server), NONE, b"");
    fails(
        result,
        Cause::TlsName,
        "a.oms.example.test, b.oms.example.test",
    );
}

#[test]
fn a_certificate_out_of_its_time_is_refused() {
    let bench = Bench::new();
    for (years, words) in [
        ((2019, 2020), "expired on 2020-01-01"),
        ((2110, 2120), "not valid before 2110-01-01"),
    ] {
        let pair = bench.authority.issue(&["127.0.0.1"], years);
        let server = Server::start(pair, |_| answer(200, "", ""));
        let result = bench.client().post(&url(&server), NONE, b"");
        fails(result, Cause::TlsTime, words);
    }
}

#[test]
fn a_server_that_refuses_our_certificate_is_told_apart() {
    // A server that trusts only its own clients; ours shows none.
    let bench = Bench::new();
    let pair = bench.authority.issue(&["127.0.0.1"], YEARS);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    let authority = std::fs::read(bench.authority.ca_file(bench.dir.path())).unwrap();
    use rustls::pki_types::pem::PemObject;
    roots
        .add(rustls::pki_types::CertificateDer::from_pem_slice(&authority).unwrap())
        .unwrap();
    let builder = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        Arc::clone(&provider),
    );
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(builder.build().unwrap())
        .with_single_cert(pair.chain, pair.key)
        .unwrap();
    let config = Arc::new(config);
    let server = Server::listen(move |_, tcp, _| {
        let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = rustls::StreamOwned::new(session, tcp);
        let _ = stream.read(&mut [0; 100]);
        let _ = stream.flush();
    });
    let result = bench.client().post(&url(&server), NONE, b"x");
    fails(
        result,
        Cause::Tls,
        "does not accept this host's client certificate",
    );
}

#[test]
fn what_does_not_speak_tls_is_told_apart() {
    let bench = Bench::new();
    let server = Server::listen(|_, mut tcp, _| {
        let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = tcp.read(&mut [0; 1000]);
    });
    let result = bench.client().post(&url(&server), NONE, b"");
    fails(result, Cause::NotTls, "does not speak TLS");
}

#[test]
fn a_handshake_broken_off_is_a_connect_failure() {
    let bench = Bench::new();
    let server = Server::listen(|_, mut tcp, _| {
        let _ = tcp.read(&mut [0; 10]);
    });
    let result = bench.client().post(&url(&server), NONE, b"");
    fails(result, Cause::Connect, "broke off the TLS handshake");
}

#[test]
fn a_closed_port_is_a_connect_failure() {
    let bench = Bench::new();
    let port = closed_port();
    let result = bench
        .client()
        .post(&format!("https://127.0.0.1:{port}/"), NONE, b"");
    fails(result, Cause::Connect, "connection refused");
}

#[test]
fn a_name_that_does_not_exist() {
    let bench = Bench::new();
    let result = bench
        .client()
        .post("https://hub.no-such-zone.invalid/x", NONE, b"");
    fails(result, Cause::Dns, "hub.no-such-zone.invalid");
    let mut options = bench.options();
    options.proxy = Some(Proxy {
        host: "proxy.no-such-zone.invalid".into(),
        ..proxy(1, None)
    });
    let result = Client::new(options)
        .unwrap()
        .post("https://a.example/", NONE, b"");
    fails(result, Cause::ProxyDns, "of the proxy");
}

#[test]
fn silence_ends_at_the_deadline() {
    let bench = Bench::new();
    let mut options = bench.options();
    options.connect_timeout = Duration::from_millis(300);
    options.read_timeout = Duration::from_millis(300);
    let client = Client::new(options).unwrap();
    let silent = bench.server(|_| Reply::Silence(Duration::from_secs(5)));
    let begun = Instant::now();
    fails(
        client.post(&url(&silent), NONE, b""),
        Cause::Timeout,
        "300 ms",
    );
    let mute = Server::listen(|_, _tcp, _| std::thread::sleep(Duration::from_secs(5)));
    fails(
        client.post(&url(&mute), NONE, b""),
        Cause::Timeout,
        "handshake",
    );
    assert!(begun.elapsed() < Duration::from_secs(4));
}

#[test]
fn an_answer_that_drips_does_not_hold_us() {
    let bench = Bench::new();
    let mut options = bench.options();
    options.read_timeout = Duration::from_millis(400);
    let pair = bench.authority.issue(&["127.0.0.1"], YEARS);
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(pair.chain, pair.key)
    .unwrap();
    let config = Arc::new(config);
    let server = Server::listen(move |_, tcp, _| {
        let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = rustls::StreamOwned::new(session, tcp);
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".repeat(3) {
            if stream.write_all(&[byte]).and(stream.flush()).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let begun = Instant::now();
    let result = Client::new(options).unwrap().post(&url(&server), NONE, b"");
    fails(result, Cause::Timeout, "did not answer");
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_cut_answer_is_no_answer() {
    let bench = Bench::new();
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    let server = bench.server(move |_| Reply::SayAndClose(cut.into()));
    let result = bench.client().post(&url(&server), NONE, b"");
    fails(result, Cause::Protocol, "cut off after 43 bytes");
}

#[test]
fn too_large_an_answer_is_no_answer() {
    let bench = Bench::new();
    let server = bench.server(|request| {
        if request.head.contains("body") {
            answer(200, "", &"x".repeat((1 << 20) + 1))
        } else {
            answer(200, &format!("A: {}\r\n", "x".repeat(64 << 10)), "")
        }
    });
    let client = bench.client();
    let result = client.post(&url(&server), &[("What", "body")], b"");
    fails(result, Cause::Protocol, "1 MiB");
    let result = client.post(&url(&server), &[("What", "head")], b"");
    fails(result, Cause::Protocol, "64 KiB");
}

#[test]
fn chunks_and_interim_answers_are_read() {
    let bench = Bench::new();
    let server = bench.server(|_| {
        let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 No\r\n\
            Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        Reply::Say(text.into())
    });
    let client = bench.client();
    for _ in 0..2 {
        let response = client.post(&url(&server), NONE, b"").unwrap();
        assert_eq!(
            (response.status, response.body.as_slice()),
            (403, &b"hello"[..])
        );
    }
    assert_eq!(server.seen()[1].connection, 0);
}

#[test]
fn an_unusable_identity_or_ca_file_is_ours_to_mend() {
    let bench = Bench::new();
    let mut options = bench.options();
    options.ca_file = Some(bench.dir.path().join("none.pem"));
    let error = Client::new(options).err().unwrap();
    assert_eq!(error.cause, Cause::Local);
    assert!(error.detail.contains("none.pem"), "{error}");
    let ws = "11111111-2222-3333-4444-555555555555".parse().unwrap();
    let guid = crate::base::ids::AgentGuid::random();
    let make = || ClientIdentity::generate(&ws, &guid, jiff::Timestamp::now()).unwrap();
    let mut options = bench.options();
    options.identity = Some(ClientIdentity {
        key_pem: make().key_pem,
        ..make()
    });
    let error = Client::new(options).err().unwrap();
    assert_eq!(error.cause, Cause::Local);
    assert!(error.detail.contains("client certificate"), "{error}");
    assert!(!error.detail.contains("BEGIN"), "{error}");
}
