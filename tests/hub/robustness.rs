//! Clients that are slow, broken, hostile or many.

use crate::stage::*;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn healthy(stage: &Stage) {
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = exchange(&mut stage.connect(None), request.as_bytes());
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "omsagent hub: ok\n")
    );
}

/// Whether the other side has ended the connection.
fn is_over(connection: &mut Connection) -> bool {
    let mut byte = [0u8];
    !matches!(connection.read(&mut byte), Ok(1))
}

#[test]
fn simple_requests() {
    let stage = Stage::new();
    let status = |text: &str| exchange(&mut stage.connect(None), text.as_bytes()).status;
    healthy(&stage);
    assert_eq!(status("GET / HTTP/1.0\r\n\r\n"), 200);
    assert_eq!(status("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n"), 404);
    assert_eq!(status("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n"), 405);
    let host = stage.host("oms");
    assert_eq!(
        status(&format!("GET {TOPOLOGY} HTTP/1.1\r\nHost: {host}\r\n\r\n")),
        405
    );
    let ods = stage.host("ods");
    assert_eq!(
        status(&format!("POST {TOPOLOGY} HTTP/1.1\r\nHost: {ods}\r\n\r\n")),
        404
    );
    assert_eq!(
        status(&format!(
            "POST {TOPOLOGY} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )),
        404
    );
    let mut connection = stage.connect(None);
    connection
        .write_all(b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut all = String::new();
    connection.read_to_string(&mut all).unwrap();
    assert!(
        all.starts_with("HTTP/1.1 200 OK\r\n") && all.ends_with("\r\n\r\n"),
        "{all}"
    );
}

#[test]
fn both_versions_of_tls_carry_the_certificate() {
    let stage = Stage::new();
    let agent = stage.agent();
    let json = [("Content-Type", "application/json")];
    let request = post(&stage.host("ods"), UPLOAD, &json, envelope(1).as_bytes());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut connection = stage.connect_by(Some(&agent), &[version]);
        assert_eq!(exchange(&mut connection, &request).status, 200);
    }
}

#[test]
fn a_certificate_without_its_key_is_worth_nothing() {
    let stage = Stage::new();
    let mut agent = stage.agent();
    agent.key = Agent::new().key; // certificates are public, keys are not
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut connection = stage.connect_by(Some(&agent), &[version]);
        let _ = connection.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let _ = connection.flush();
        let read = connection.read(&mut [0u8; 100]);
        assert!(read.is_err(), "{version:?}: {read:?}");
    }
    healthy(&stage);
}

#[test]
fn garbage_is_answered_and_shut_out() {
    let stage = Stage::new();
    for garbage in [
        "\u{0}\u{1}\u{2}\r\n\r\n".to_owned(),
        "hello\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\n: x\r\n\r\n".to_owned(),
        format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(70_000)),
    ] {
        let mut connection = stage.connect(None);
        let answer = exchange(&mut connection, garbage.as_bytes());
        assert!([400, 431].contains(&answer.status), "{}", answer.head);
        assert!(is_over(&mut connection));
    }
    // Plain HTTP, and nothing at all.
    let mut plain = TcpStream::connect(stage.address).unwrap();
    plain
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let mut rest = Vec::new();
    let _ = plain.read_to_end(&mut rest);
    assert!(!rest.starts_with(b"HTTP"));
    drop(TcpStream::connect(stage.address).unwrap());
    healthy(&stage);
}

#[test]
fn a_body_cut_short_leaves_nothing_behind() {
    let stage = Stage::new();
    let agent = stage.agent();
    let json = [("Content-Type", "application/json")];
    let request = post(&stage.host("ods"), UPLOAD, &json, envelope(5).as_bytes());
    for keep in [request.len() - 1, request.len() / 2, 30] {
        let mut connection = stage.connect(Some(&agent));
        connection.write_all(&request[..keep]).unwrap();
        connection.flush().unwrap();
        drop(connection);
    }
    healthy(&stage);
    assert_eq!(stage.items(), r#"{"n":0}"#);
}

#[test]
fn slow_senders_are_cut_off_however_they_trickle() {
    let short = Duration::from_millis(600);
    let stage = Stage::with(|o| {
        o.deadlines.handshake = short;
        o.deadlines.head = short;
        o.deadlines.body = short;
        o.deadlines.idle = short;
    });
    let agent = stage.agent();
    let begun = Instant::now();
    let json = [("Content-Type", "application/json")];
    let request = post(&stage.host("ods"), UPLOAD, &json, envelope(50).as_bytes());
    let head = request.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let trickle = |already: usize| {
        let mut connection = stage.connect(Some(&agent));
        connection.write_all(&request[..already]).unwrap();
        for byte in &request[already..already + 20] {
            if connection
                .write_all(&[*byte])
                .and_then(|()| connection.flush())
                .is_err()
            {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        answer(&mut connection).status
    };
    assert_eq!(trickle(5), 408);
    assert_eq!(trickle(head), 408);
    // A connection that never says anything is closed without a word.
    assert!(is_over(&mut stage.connect(None)));
    let mut silent = TcpStream::connect(stage.address).unwrap();
    silent
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    assert!(matches!(silent.read(&mut [0u8; 1]), Ok(0) | Err(_)));
    assert!(begun.elapsed() < Duration::from_secs(15));
    assert_eq!(stage.items(), r#"{"n":0}"#);
}

#[test]
fn two_hundred_at_once() {
    let stage = Stage::new();
    let agent = stage.agent();
    let together = std::sync::Barrier::new(200);
    std::thread::scope(|scope| {
        for _ in 0..200 {
            scope.spawn(|| {
                let mut connection = stage.connect(Some(&agent));
                let json = [("Content-Type", "application/json")];
                let request = post(&stage.host("ods"), UPLOAD, &json, envelope(3).as_bytes());
                connection.conn.complete_io(&mut connection.sock).unwrap();
                together.wait();
                assert_eq!(exchange(&mut connection, &request).status, 200);
            });
        }
    });
    assert_eq!(stage.items(), r#"{"n":600}"#);
    healthy(&stage);
}

#[test]
fn more_than_there_are_places_wait_their_turn() {
    let stage = Stage::with(|o| o.max_connections = 3);
    let agent = stage.agent();
    // Idle ones, who would keep their places for a minute.
    let idle: Vec<Connection> = (0..3)
        .map(|_| {
            let mut connection = stage.connect(None);
            let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
            assert_eq!(exchange(&mut connection, request).status, 200);
            connection
        })
        .collect();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let answer = stage.upload(&agent, &[], envelope(1).as_bytes());
                assert_eq!(answer.status, 200);
            });
        }
    });
    assert_eq!(stage.items(), r#"{"n":20}"#);
    assert!(begun.elapsed() < Duration::from_secs(20));
    drop(idle);
}

#[test]
fn stopping_finishes_what_was_begun() {
    let mut stage = Stage::new();
    let agent = stage.agent();
    let json = [("Content-Type", "application/json")];
    let request = post(&stage.host("ods"), UPLOAD, &json, envelope(2).as_bytes());
    let (first, second) = request.split_at(request.len() / 2);
    let mut busy = stage.connect(Some(&agent));
    busy.write_all(first).unwrap();
    busy.flush().unwrap();
    let mut idle = stage.connect(None);
    let get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(exchange(&mut idle, get).status, 200);
    std::thread::sleep(Duration::from_millis(100));
    stage.stop();
    assert!(is_over(&mut idle));
    std::thread::sleep(Duration::from_millis(500));
    assert!(TcpStream::connect(stage.address).is_err());
    let answer = exchange(&mut busy, second);
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("Connection: close"));
    stage.join();
    assert_eq!(stage.items(), r#"{"n":2}"#);
}
