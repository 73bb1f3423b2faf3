//! Listening: a bounded number of connections, a bounded memory, an orderly end.

use super::certificates::{Source, server_config};
use super::faults::Faults;
use super::routes::Service;
use super::store::Store;
use super::{Folder, connection};
use anyhow::{Context, Result, bail};
use nix::fcntl::Flock;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the listener looks whether it shall stop, ms.
const TICK: u16 = 200;

/// Memory for the bodies of all requests together, bytes.
const MEMORY: usize = 512 << 20;

/// Stack of a connection's thread, bytes.
const STACK: usize = 1 << 20;

/// How a hub serves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The part of the host names after `<workspace>.oms.` and `<workspace>.ods.`.
    pub domain: String,
    /// Certificate chain and key, PEM; `None`: the hub's own authority issues one.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// How far an onboarding agent's clock may be off, either way (protocol.md 1.4).
    pub max_skew: Duration,
    /// How long before the end of its certificate an agent is asked for a new one.
    pub renew_before: Duration,
    /// What shall go wrong, for tests (docs/hub.md); looked at again while serving.
    pub faults: Option<PathBuf>,
    /// Connections served at a time; others wait to be accepted.
    pub max_connections: usize,
    /// How long to wait for what.
    pub deadlines: Deadlines,
}

impl Options {
    /// The usual: 15 minutes of skew, new certificates 30 days before the end, 256 connections.
    pub fn new(listen: SocketAddr, domain: &str) -> Self {
        Options {
            listen,
            domain: domain.to_owned(),
            certificate: None,
            max_skew: Duration::from_secs(15 * 60),
            renew_before: Duration::from_secs(30 * 86_400),
            faults: None,
            max_connections: 256,
            deadlines: Deadlines::default(),
        }
    }
}

/// How long to wait for what. Each covers the whole of it, not a single read.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// The TLS handshake.
    pub handshake: Duration,
    /// A request's line and headers; the first of a connection too.
    pub head: Duration,
    /// A request's body.
    pub body: Duration,
    /// The next request of a connection.
    pub idle: Duration,
    /// Sending an answer.
    pub write: Duration,
    /// Requests under way when the server stops.
    pub stop: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(15),
            body: Duration::from_secs(120),
            idle: Duration::from_secs(60),
            write: Duration::from_secs(30),
            stop: Duration::from_secs(10),
        }
    }
}

/// Tells a running server to end; cheap to clone and to give to a signal handler.
#[derive(Debug, Clone, Default)]
pub struct Stop(pub Arc<AtomicBool>);

impl Stop {
    /// No new connections from now on; [`Server::run`] returns when those there are done.
    pub fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What all connections of a server share.
pub(super) struct Shared {
    pub(super) tls: Arc<rustls::ServerConfig>,
    pub(super) service: Service,
    pub(super) deadlines: Deadlines,
    pub(super) memory: Memory,
    stop: Stop,
    slots: Slots,
}

impl Shared {
    /// Whether the server ends.
    pub(super) fn stops(&self) -> bool {
        self.stop.asked()
    }

    /// Whether connections with nothing to do shall make room.
    pub(super) fn wants_idle_gone(&self) -> bool {
        self.stops() || self.slots.is_full()
    }
}

/// A hub that listens.
pub struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
    ca_file: Option<PathBuf>,
    _lock: Flock<File>,
}

impl Server {
    /// Opens the folder, prepares TLS and begins to listen.
    pub fn bind(folder: &Folder, options: Options, stop: Stop) -> Result<Self> {
        check_domain(&options.domain)?;
        let lock = folder.lock()?;
        let service = Service {
            store: Store::open(folder)?,
            domain: options.domain.to_ascii_lowercase(),
            max_skew: options.max_skew,
            renew_before: options.renew_before,
            faults: Faults::open(options.faults)?,
        };
        let (source, ca_file) = match options.certificate {
            Some((certificate, key)) => (Source::Files { certificate, key }, None),
            None => {
                let source = Source::Own {
                    folder: folder.clone(),
                    domain: options.domain.clone(),
                    addresses: addresses(options.listen.ip()),
                };
                (source, Some(folder.authority_certificate()))
            }
        };
        let tls = server_config(source)?;
        let listener = TcpListener::bind(options.listen)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .with_context(|| format!("cannot listen on {}", options.listen))?;
        Ok(Server {
            listener,
            shared: Arc::new(Shared {
                tls,
                service,
                deadlines: options.deadlines,
                memory: Memory(Arc::new(Mutex::new(MEMORY))),
                stop,
                slots: Slots::new(options.max_connections.max(1)),
            }),
            ca_file,
            _lock: lock,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// What agents have to be told to trust; `None` when the certificate came from outside.
    pub fn ca_file(&self) -> Option<&std::path::Path> {
        self.ca_file.as_deref()
    }

    /// Serves until told to stop, then until the requests under way are answered.
    pub fn run(self) -> Result<()> {
        let shared = &self.shared;
        while !shared.stop.asked() {
            if !shared
                .slots
                .wait_for_room(Duration::from_millis(TICK.into()))
            {
                continue;
            }
            let mut wanted = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
            match poll(&mut wanted, PollTimeout::from(TICK)) {
                Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
                Ok(_) => {}
                Err(errno) => bail!("cannot wait for connections: {errno}"),
            }
            match self.listener.accept() {
                Ok((tcp, address)) => begin(tcp, address, shared),
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    // Out of file descriptors or memory: others will end and free some.
                    log::error!("cannot accept a connection: {error}");
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
        drop(self.listener);
        let left = shared.slots.wait_for_none(shared.deadlines.stop);
        if left > 0 {
            log::warn!("stopping with {left} connections still open");
        }
        Ok(())
    }
}

fn begin(tcp: std::net::TcpStream, address: SocketAddr, shared: &Arc<Shared>) {
    if let Err(error) = tcp.set_nonblocking(false) {
        return log::error!("cannot use a connection peer={address}: {error}");
    }
    shared.slots.enter();
    let slot = Slot(shared.clone());
    let begun = std::thread::Builder::new()
        .name("connection".into())
        .stack_size(STACK)
        .spawn(move || {
            connection::serve(tcp, address, &slot.0);
        });
    if let Err(error) = begun {
        log::error!("cannot start a thread peer={address}: {error}");
    }
}

fn is_passing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted | WouldBlock
    )
}

/// The addresses the hub's own certificate names beside the domain, for checks from the same host.
fn addresses(listen: IpAddr) -> Vec<IpAddr> {
    let mut addresses = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    if !listen.is_unspecified() && !addresses.contains(&listen) {
        addresses.push(listen);
    }
    addresses
}

fn check_domain(domain: &str) -> Result<()> {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    // `<36 characters>.oms.` goes before it.
    if domain.len() > 200 || !domain.split('.').all(label) {
        bail!("`{domain}` is not a domain name such as `example.org`");
    }
    Ok(())
}

/// Counts connections.
struct Slots {
    most: usize,
    taken: Mutex<usize>,
    freed: Condvar,
}

impl Slots {
    fn new(most: usize) -> Self {
        Slots {
            most,
            taken: Mutex::new(0),
            freed: Condvar::new(),
        }
    }

    fn taken(&self) -> MutexGuard<'_, usize> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_full(&self) -> bool {
        *self.taken() >= self.most
    }

    fn enter(&self) {
        *self.taken() += 1;
    }

    fn leave(&self) {
        *self.taken() -= 1;
        self.freed.notify_all();
    }

    fn wait_for_room(&self, patience: Duration) -> bool {
        let full = |taken: &mut usize| *taken >= self.most;
        let waited = self.freed.wait_timeout_while(self.taken(), patience, full);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// How many are left when all have gone or patience has.
    fn wait_for_none(&self, patience: Duration) -> usize {
        let until = Instant::now() + patience;
        let mut taken = self.taken();
        while *taken > 0 && Instant::now() < until {
            let slice = Duration::from_millis(100);
            let waited = self.freed.wait_timeout(taken, slice);
            taken = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *taken
    }
}

/// A connection's place, given back when its thread ends, however it does.
struct Slot(Arc<Shared>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.slots.leave();
    }
}

/// Memory for bodies, shared by all connections, so that many large ones cannot exhaust the host.
pub(super) struct Memory(Arc<Mutex<usize>>);

impl Memory {
    pub(super) fn reservation(&self) -> Reservation {
        Reservation {
            free: self.0.clone(),
            taken: 0,
        }
    }
}

/// What one request has taken of [`Memory`]; given back when dropped.
pub(super) struct Reservation {
    free: Arc<Mutex<usize>>,
    taken: usize,
}

impl Reservation {
    /// Takes `more` bytes; false when there are not so many left.
    pub(super) fn grow(&mut self, more: usize) -> bool {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(rest) = free.checked_sub(more) else {
            return false;
        };
        *free = rest;
        self.taken += more;
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) += self.taken;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back() {
        let memory = Memory(Arc::new(Mutex::new(10)));
        let mut one = memory.reservation();
        let mut two = memory.reservation();
        assert!(one.grow(6) && two.grow(4));
        assert!(!two.grow(1));
        drop(one);
        assert!(two.grow(6) && !two.grow(1));
        drop(two);
        assert_eq!(*memory.0.lock().unwrap(), 10);
    }

    #[test]
    fn domains() {
        for good in ["hub.test", "example", "a-b.c1.example.org"] {
            assert!(check_domain(good).is_ok(), "{good}");
        }
        let long = "a.".repeat(100) + "a";
        for bad in [
            "",
            ".",
            "a..b",
            "-a.b",
            "a b",
            "*.a",
            "a/b",
            "münchen.de",
            &long,
        ] {
            assert!(check_domain(bad).is_err(), "{bad}");
        }
    }
}
