//! One connection from its handshake to its end: a thread each, every wait with a deadline.

use super::certificates::ClientCertificate;
use super::http::{Framing, Head, HttpError, Inbox, Response};
use super::routes::Peer;
use super::server::Shared;
use rustls::{ServerConnection, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How often a waiting connection looks whether the server stops or has others waiting.
const SLICE: Duration = Duration::from_millis(250);

/// What is still read, after an answer to a request whose body was not wanted.
const LINGER: (Duration, usize) = (Duration::from_secs(5), 64 << 20);

type Stream = StreamOwned<ServerConnection, Deadlined>;

/// A socket that gives up at a point in time, however the bytes trickle.
struct Deadlined {
    tcp: TcpStream,
    until: Instant,
}

impl Deadlined {
    fn left(&self) -> std::io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        // A socket's time-out of zero would mean none at all.
        if left < Duration::from_millis(1) {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(left)
    }
}

/// A socket says "would block" when its time-out passes.
fn named(error: std::io::Error) -> std::io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
        _ => error,
    }
}

impl Read for Deadlined {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.tcp.set_read_timeout(Some(self.left()?))?;
        self.tcp.read(buffer).map_err(named)
    }
}

impl Write for Deadlined {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.tcp.set_write_timeout(Some(self.left()?))?;
        self.tcp.write(buffer).map_err(named)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Serves a connection until either side ends it.
pub(super) fn serve(tcp: TcpStream, address: SocketAddr, shared: &Shared) {
    let _ = tcp.set_nodelay(true);
    let mut socket = Deadlined {
        tcp,
        until: Instant::now() + shared.deadlines.handshake,
    };
    let mut tls = match ServerConnection::new(shared.tls.clone()) {
        Ok(tls) => tls,
        Err(error) => return log::error!("cannot begin TLS peer={address}: {error}"),
    };
    while tls.is_handshaking() {
        if let Err(error) = tls.complete_io(&mut socket) {
            return log::info!("no TLS handshake peer={address}: {error}");
        }
    }
    let certificate = tls
        .peer_certificates()
        .and_then(|chain| chain.first())
        .map(|der| ClientCertificate::new(der.to_vec()));
    let peer = Peer {
        address,
        certificate,
    };
    let mut inbox = Inbox::new(StreamOwned::new(tls, socket));
    let mut patience = shared.deadlines.head;
    while wait(&mut inbox, patience, shared) && exchange(&mut inbox, &peer, shared) {
        patience = shared.deadlines.idle;
    }
}

/// Waits for the first bytes of a request; false when the connection shall end.
fn wait(inbox: &mut Inbox<Stream>, patience: Duration, shared: &Shared) -> bool {
    let until = Instant::now() + patience;
    while inbox.is_empty() {
        let now = Instant::now();
        inbox.stream().sock.until = until.min(now + SLICE);
        match inbox.fill() {
            Ok(()) => break,
            Err(HttpError::Timeout) if now < until && !shared.wants_idle_gone() => {}
            Err(_) => {
                close(inbox.stream());
                return false;
            }
        }
    }
    true
}

/// One request and its answer; false when the connection has ended.
fn exchange(inbox: &mut Inbox<Stream>, peer: &Peer, shared: &Shared) -> bool {
    inbox.stream().sock.until = Instant::now() + shared.deadlines.head;
    let head = match inbox.head() {
        Ok(head) => head,
        Err(error) => return give_up(inbox.stream(), error, peer, shared),
    };
    let (fault, refusal) = shared.service.fault(&head);
    if !hold_back(fault.delay(), shared) || fault.closes_before() {
        return false; // and no word of TLS either
    }
    let admitted = match refusal {
        Some(response) => Err(response),
        None => shared.service.admit(&head, peer),
    };
    let route = match admitted.map_err(|response| response.by(fault.clock())) {
        Ok(route) => route,
        Err(response) if head.framing == Framing::Length(0) => {
            return reply(inbox.stream(), &head, &response, shared);
        }
        Err(response) => {
            // The body was not wanted: nothing after it can be understood.
            send(inbox.stream(), &response.to_bytes(true, false), shared);
            linger(inbox.stream());
            return false;
        }
    };
    if head.expects_continue && !send(inbox.stream(), b"HTTP/1.1 100 Continue\r\n\r\n", shared) {
        return false;
    }
    inbox.stream().sock.until = Instant::now() + shared.deadlines.body;
    let mut memory = shared.memory.reservation();
    let limit = route.body_limit();
    let body = match inbox.body(head.framing, limit, &mut |n| memory.grow(n)) {
        Ok(body) => body,
        Err(error) => return give_up(inbox.stream(), error, peer, shared),
    };
    let response = shared
        .service
        .answer(route, &head, peer, &fault, body, &mut |n| memory.grow(n))
        .by(fault.clock());
    drop(memory);
    if fault.closes_after() {
        return false;
    }
    reply(inbox.stream(), &head, &response, shared)
}

/// Lets a request wait on purpose; false when the server stops meanwhile.
fn hold_back(delay: Duration, shared: &Shared) -> bool {
    let until = Instant::now() + delay;
    while Instant::now() < until {
        if shared.stops() {
            return false;
        }
        std::thread::sleep(until.saturating_duration_since(Instant::now()).min(SLICE));
    }
    true
}

/// Sends an answer; false when it was the connection's last.
fn reply(stream: &mut Stream, head: &Head, response: &Response, shared: &Shared) -> bool {
    let last = !head.keep_alive || shared.wants_idle_gone();
    let sent = send(
        stream,
        &response.to_bytes(last, head.method == "HEAD"),
        shared,
    );
    if last && sent {
        close(stream);
    }
    sent && !last
}

/// Answers a request that could not be read, as far as it can be answered. Always false.
fn give_up(stream: &mut Stream, error: HttpError, peer: &Peer, shared: &Shared) -> bool {
    let response = match error {
        HttpError::Closed => {
            log::info!("request cut off peer={}", peer.address);
            return false;
        }
        HttpError::Timeout => Response::text(408, "the request did not come in time\n"),
        HttpError::Refused(response) => response,
    };
    let why = String::from_utf8_lossy(&response.body)
        .trim_end()
        .to_owned();
    log::warn!(
        "refused peer={} status={} reason={why:?}",
        peer.address,
        response.status
    );
    send(stream, &response.to_bytes(true, false), shared);
    linger(stream);
    false
}

fn send(stream: &mut Stream, bytes: &[u8], shared: &Shared) -> bool {
    stream.sock.until = Instant::now() + shared.deadlines.write;
    stream
        .write_all(bytes)
        .and_then(|()| stream.flush())
        .is_ok()
}

/// Ends a connection in good order.
fn close(stream: &mut Stream) {
    stream.sock.until = Instant::now() + Duration::from_secs(1);
    stream.conn.send_close_notify();
    let _ = stream.flush();
}

/// Ends a connection on which the client is still sending: closing at once would reset it, and the
/// client might lose the answer that says why.
fn linger(stream: &mut Stream) {
    close(stream);
    let socket = &mut stream.sock;
    let _ = socket.tcp.shutdown(Shutdown::Write);
    let (patience, mut left) = LINGER;
    socket.until = Instant::now() + patience;
    let mut piece = [0u8; 16 << 10];
    while let Ok(n @ 1..) = socket.read(&mut piece) {
        left = left.saturating_sub(n);
        if left == 0 {
            break;
        }
    }
}
