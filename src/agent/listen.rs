//! The sockets that messages come in by.

use crate::agent::config::{Listen, Syslog};
use log::{info, warn};
use serde::{Deserialize, Serialize};
use std::io::{Error, ErrorKind, Read, Result};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Asked of the kernel for datagrams that wait; it gives at most `net.core.rmem_max`.
const DATAGRAM_BUFFER: usize = 8 << 20;
/// Free ports tried when the configuration says port 0.
const TRIES: usize = 16;
/// For the service account and its group: who may write the configuration may send.
const SOCKET_MODE: u32 = 0o660;

/// Datagrams wait that long in the kernel without loss.
const REST: std::time::Duration = std::time::Duration::from_millis(20);

/// After an `accept` that gave nothing. Out of file descriptors or memory the socket stays readable:
/// without a rest its thread would do nothing but ask again.
pub fn rest_after(error: &Error) {
    use nix::libc::{EMFILE, ENFILE, ENOBUFS, ENOMEM};
    if let Some(EMFILE | ENFILE | ENOBUFS | ENOMEM) = error.raw_os_error() {
        std::thread::sleep(REST);
    }
}

/// Bound sockets, each with the number of its source.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Datagrams that are lost when nobody takes them.
    pub udp: Vec<(UdpSocket, usize)>,
    /// Datagrams whose senders wait.
    pub local: Vec<(LocalDatagrams, usize)>,
    /// Streams.
    pub streams: Vec<(Listener, usize)>,
}

/// A listener for streams.
#[derive(Debug)]
pub enum Listener {
    /// At a port.
    Tcp(TcpListener),
    /// At a name in the file system.
    Unix(UnixListener, SocketFile),
}

/// An accepted stream.
#[derive(Debug)]
pub enum Stream {
    /// From a port.
    Tcp(TcpStream),
    /// From a name in the file system.
    Unix(UnixStream),
}

/// A socket for datagrams at a name in the file system.
#[derive(Debug)]
pub struct LocalDatagrams {
    socket: UnixDatagram,
    file: SocketFile,
}

/// The name of a socket in the file system, which goes with it.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// The next stream; it does not block.
    pub fn accept(&self) -> Result<Stream> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                let keep = nix::sys::socket::sockopt::KeepAlive;
                let _ = nix::sys::socket::setsockopt(&stream, keep, &true);
                Ok(Stream::Tcp(stream))
            }
            Listener::Unix(listener, _) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                Ok(Stream::Unix(stream))
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}

impl LocalDatagrams {
    /// One datagram.
    pub fn recv(&self, buffer: &mut [u8]) -> Result<usize> {
        self.socket.recv(buffer)
    }
}

impl AsFd for LocalDatagrams {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What a listening socket is there for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asked {
    /// Datagrams at this address; the port may be 0.
    Udp(SocketAddr),
    /// Streams at this address; the port may be 0.
    Tcp(SocketAddr),
    /// Datagrams at a name in the file system.
    Datagrams(PathBuf),
    /// Streams at a name in the file system.
    Streams(PathBuf),
}

impl Asked {
    /// The name in the file system.
    fn path(&self) -> Option<&Path> {
        match self {
            Asked::Datagrams(path) | Asked::Streams(path) => Some(path),
            Asked::Udp(_) | Asked::Tcp(_) => None,
        }
    }

    /// Could both not be there at once?
    fn clashes(&self, other: &Asked) -> bool {
        let port = |asked: &Asked| match asked {
            Asked::Udp(address) | Asked::Tcp(address) => Some(address.port()),
            _ => None,
        };
        let same_port = port(self).is_some_and(|p| p != 0 && port(other) == Some(p));
        same_port || self.path().is_some_and(|p| other.path() == Some(p))
    }
}

/// A bound socket that outlives its configuration.
#[derive(Debug)]
pub struct Kept {
    /// What its source asked for.
    pub asked: Asked,
    /// The socket.
    pub socket: OwnedFd,
}

impl Syslog {
    fn address(&self) -> SocketAddr {
        SocketAddr::new(self.bind, self.port)
    }

    /// Where its streams come from.
    pub fn streams(&self) -> Asked {
        match &self.listen {
            Listen::Unix(path) => Asked::Streams(path.clone()),
            Listen::Udp | Listen::Tcp => Asked::Tcp(self.address()),
        }
    }

    /// Every socket that it wants.
    fn asks(&self) -> Vec<Asked> {
        let udp = (self.listen == Listen::Udp).then(|| Asked::Udp(self.address()));
        let local = self.datagrams.clone().map(Asked::Datagrams);
        let all = [udp, Some(self.streams()), local];
        all.into_iter().flatten().collect()
    }
}

impl Sockets {
    /// The same sockets once more, with what their sources asked for.
    pub fn copies(&self, sources: &[Syslog]) -> Result<Vec<Kept>> {
        let mut copies = Vec::new();
        let mut copy = |socket: BorrowedFd<'_>, asked: Option<Asked>| -> Result<()> {
            if let Some(asked) = asked {
                let socket = socket.try_clone_to_owned()?;
                copies.push(Kept { asked, socket });
            }
            Ok(())
        };
        for (socket, number) in &self.udp {
            let source = sources.get(*number);
            copy(socket.as_fd(), source.map(|s| Asked::Udp(s.address())))?;
        }
        for (socket, number) in &self.local {
            let path = sources.get(*number).and_then(|s| s.datagrams.clone());
            copy(socket.as_fd(), path.map(Asked::Datagrams))?;
        }
        for (socket, number) in &self.streams {
            copy(socket.as_fd(), sources.get(*number).map(Syslog::streams))?;
        }
        Ok(copies)
    }

    /// Their names in the file system stay when they go: somebody else has the sockets, too.
    pub fn leave_names(self) {
        for (socket, _) in self.local {
            std::mem::forget(socket.file);
        }
        for (listener, _) in self.streams {
            if let Listener::Unix(_, file) = listener {
                std::mem::forget(file);
            }
        }
    }
}

/// Takes away the names in the file system of those in `gone` that are not in `stay`.
pub fn remove_names(gone: &[Kept], stay: &[Kept]) {
    let paths = gone.iter().filter_map(|k| k.asked.path());
    for path in paths.filter(|p| stay.iter().all(|s| s.asked.path() != Some(p))) {
        let _ = std::fs::remove_file(path);
    }
}

/// Takes the one that was asked for out of `kept`.
fn take(kept: &mut Vec<Kept>, asked: &Asked) -> Option<OwnedFd> {
    let at = kept.iter().position(|k| k.asked == *asked)?;
    Some(kept.swap_remove(at).socket)
}

/// The sockets that `sources` will have: of `kept` those they go on with, and new ones, bound now
/// so that a port that is taken is known in time. A source that moves to another address on a port
/// of ours gets its socket when the old one is gone.
pub fn prepare(
    sources: &[Syslog],
    mut kept: Vec<Kept>,
) -> std::result::Result<Vec<Kept>, ListenError> {
    let mut ready = Vec::new();
    for asked in sources.iter().flat_map(Syslog::asks) {
        let socket = take(&mut kept, &asked);
        ready.extend(socket.map(|socket| Kept { asked, socket }));
    }
    let on_the_way = |source: &Syslog| {
        let asks = source.asks();
        kept.iter()
            .any(|k| asks.iter().any(|asked| asked.clashes(&k.asked)))
    };
    let mut made: Vec<Kept> = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        if on_the_way(source) {
            continue;
        }
        // Whatever it has already it has from `ready`.
        let own = |k: &Kept| source.asks().contains(&k.asked);
        let copy = |k: &Kept| {
            let socket = k.socket.try_clone().ok()?;
            let asked = k.asked.clone();
            Some(Kept { asked, socket })
        };
        let have: Vec<Kept> = ready.iter().filter(|k| own(k)).filter_map(copy).collect();
        let had: Vec<Asked> = have.iter().map(|k| k.asked.clone()).collect();
        let mut sockets = Sockets::default();
        if let Err(error) = bind_one(number, source, have, &mut sockets) {
            sockets.leave_names();
            remove_names(&made, &[]);
            return Err(error);
        }
        let copies = sockets.copies(sources).unwrap_or_default();
        sockets.leave_names();
        made.extend(copies.into_iter().filter(|k| !had.contains(&k.asked)));
    }
    ready.extend(made);
    Ok(ready)
}

/// Why a source cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Someone else has the port.
    #[error(
        "{place}: port {port} ({protocol}) on {address} is in use by another program: `ss -{letter}lnp 'sport = :{port}'` names it; stop it, or choose another `port` here and in the syslog daemon's configuration"
    )]
    Busy {
        /// File and line of the source.
        place: String,
        /// UDP or TCP.
        protocol: &'static str,
        /// For `ss`.
        letter: char,
        /// The address.
        address: String,
        /// The port.
        port: u16,
    },
    /// Anything else.
    #[error("{place}: cannot listen on {address} ({protocol}): {reason}")]
    Other {
        /// File and line of the source.
        place: String,
        /// UDP, TCP or unix.
        protocol: &'static str,
        /// Address and port, or the name in the file system.
        address: String,
        /// What the system says.
        reason: String,
    },
}

/// Binds every source. A source that asks for UDP also listens on TCP at the same port, where
/// that is free; one that names a socket beside its port takes datagrams there, where it can.
///
/// Sockets that were kept from before are used where they fit.
pub fn bind(sources: &[Syslog], mut kept: Vec<Kept>) -> std::result::Result<Sockets, ListenError> {
    let mut sockets = Sockets::default();
    for (number, source) in sources.iter().enumerate() {
        let asks = source.asks();
        let own = |asked: &Asked| {
            let socket = take(&mut kept, asked)?;
            let asked = asked.clone();
            Some(Kept { asked, socket })
        };
        let have = asks.iter().filter_map(own).collect();
        let before = (
            sockets.udp.len(),
            sockets.local.len(),
            sockets.streams.len(),
        );
        bind_one(number, source, have, &mut sockets)?;
        tell(source, &sockets, before);
    }
    Ok(sockets)
}

fn bind_one(
    number: usize,
    source: &Syslog,
    mut have: Vec<Kept>,
    sockets: &mut Sockets,
) -> std::result::Result<(), ListenError> {
    match &source.listen {
        Listen::Unix(path) => {
            let listener = match take(&mut have, &source.streams()) {
                Some(socket) => Listener::Unix(socket.into(), SocketFile(path.clone())),
                None => local_stream(path).map_err(|e| local_failed(source, path, &e))?,
            };
            sockets.streams.push((listener, number));
        }
        Listen::Udp | Listen::Tcp => {
            let udp = take(&mut have, &Asked::Udp(source.address())).map(UdpSocket::from);
            let tcp = take(&mut have, &Asked::Tcp(source.address())).map(TcpListener::from);
            let (udp, tcp) = complete(source, udp, tcp)?;
            sockets.udp.extend(udp.map(|s| (s, number)));
            let tcp = tcp.map(|s| (Listener::Tcp(s), number));
            sockets.streams.extend(tcp);
        }
    }
    if let Some(path) = &source.datagrams {
        let socket = match take(&mut have, &Asked::Datagrams(path.clone())) {
            Some(socket) => Ok(LocalDatagrams {
                socket: socket.into(),
                file: SocketFile(path.clone()),
            }),
            None => local_datagrams(path),
        };
        match socket {
            Ok(socket) => sockets.local.push((socket, number)),
            Err(error) => warn!("{}; the port works", local_failed(source, path, &error)),
        }
    }
    Ok(())
}

/// What a source at a port has, and what it lacks of it.
fn complete(
    source: &Syslog,
    udp: Option<UdpSocket>,
    tcp: Option<TcpListener>,
) -> std::result::Result<Bound, ListenError> {
    let at = |port| SocketAddr::new(source.bind, port);
    match (udp, tcp) {
        (None, None) => bind_port(source),
        (None, Some(tcp)) if source.listen == Listen::Udp => {
            let port = tcp.local_addr().map_or(source.port, |a| a.port());
            let udp = datagrams(at(port)).map_err(|e| failed(source, "UDP", e))?;
            Ok((Some(udp), Some(tcp)))
        }
        (Some(udp), None) => {
            let port = udp.local_addr().map_or(source.port, |a| a.port());
            Ok((Some(udp), stream(at(port)).ok()))
        }
        both => Ok(both),
    }
}

/// Says where the source listens, by what was added to `sockets`.
fn tell(source: &Syslog, sockets: &Sockets, before: (usize, usize, usize)) {
    let udp = sockets.udp.get(before.0).map(|(s, _)| s);
    let tcp = sockets.streams.get(before.2).map(|(l, _)| l);
    let tcp_address = match tcp {
        Some(Listener::Tcp(listener)) => Some(listener.local_addr()),
        _ => None,
    };
    let address = udp.map(UdpSocket::local_addr).or(tcp_address);
    if let Some(Ok(address)) = address {
        let kinds = match (udp, tcp) {
            (Some(_), Some(_)) => "udp, tcp",
            (Some(_), None) => "udp",
            _ => "tcp",
        };
        info!("listening for syslog on {address} ({kinds})");
    }
    if let Listen::Unix(path) = &source.listen {
        info!("listening for syslog on {} (streams)", path.display());
    }
    if let (Some(path), true) = (&source.datagrams, sockets.local.len() > before.1) {
        info!("listening for syslog on {} (datagrams)", path.display());
    }
}

type Bound = (Option<UdpSocket>, Option<TcpListener>);

fn bind_port(source: &Syslog) -> std::result::Result<Bound, ListenError> {
    let at = |port| SocketAddr::new(source.bind, port);
    if source.listen == Listen::Tcp {
        let listener = stream(at(source.port)).map_err(|e| failed(source, "TCP", e))?;
        return Ok((None, Some(listener)));
    }
    for last in (0..TRIES).map(|i| i + 1 == TRIES) {
        let socket = datagrams(at(source.port)).map_err(|e| failed(source, "UDP", e))?;
        let port = socket.local_addr().map_or(source.port, |a| a.port());
        match stream(at(port)) {
            Ok(listener) => return Ok((Some(socket), Some(listener))),
            // A free UDP port whose TCP port is taken: another one.
            Err(_) if source.port == 0 && !last => {}
            Err(error) => {
                warn!(
                    "{}; UDP works",
                    failed(source, "TCP", error).to_string().trim_end()
                );
                return Ok((Some(socket), None));
            }
        }
    }
    Ok((None, None))
}

fn datagrams(address: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    // Best effort: the default holds some hundred lines.
    let _ =
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBuf, &DATAGRAM_BUFFER);
    Ok(socket)
}

fn stream(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn local_datagrams(path: &Path) -> Result<LocalDatagrams> {
    make_room(path, |path| {
        UnixDatagram::unbound()
            .and_then(|s| s.connect(path))
            .is_ok()
    })?;
    let socket = UnixDatagram::bind(path)?;
    let file = SocketFile(path.to_owned());
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    socket.set_nonblocking(true)?;
    Ok(LocalDatagrams { socket, file })
}

fn local_stream(path: &Path) -> Result<Listener> {
    make_room(path, |path| UnixStream::connect(path).is_ok())?;
    let listener = UnixListener::bind(path)?;
    let file = SocketFile(path.to_owned());
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    listener.set_nonblocking(true)?;
    Ok(Listener::Unix(listener, file))
}

/// Takes away what an earlier run left; nothing else, and no socket that somebody listens on.
fn make_room(path: &Path, is_in_use: impl Fn(&Path) -> bool) -> Result<()> {
    let meta = match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if !meta.file_type().is_socket() {
        return Err(Error::other("something that is no socket has this name"));
    }
    if is_in_use(path) {
        return Err(Error::other("another program listens there"));
    }
    std::fs::remove_file(path)
}

fn local_failed(source: &Syslog, path: &Path, error: &Error) -> ListenError {
    ListenError::Other {
        place: source.place.clone(),
        protocol: "unix",
        address: path.display().to_string(),
        reason: error.to_string(),
    }
}

fn failed(source: &Syslog, protocol: &'static str, error: Error) -> ListenError {
    match error.kind() {
        ErrorKind::AddrInUse => ListenError::Busy {
            place: source.place.clone(),
            protocol,
            letter: if protocol == "UDP" { 'u' } else { 't' },
            address: source.bind.to_string(),
            port: source.port,
        },
        _ => ListenError::Other {
            place: source.place.clone(),
            protocol,
            address: SocketAddr::new(source.bind, source.port).to_string(),
            reason: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn source(listen: Listen, datagrams: Option<&Path>) -> Syslog {
        Syslog {
            bind: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            listen,
            datagrams: datagrams.map(Path::to_owned),
            tag: "oms.syslog".into(),
            default_priority: None,
            place: "t.conf:1".into(),
        }
    }

    #[test]
    fn sockets_in_the_file_system_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let sources = [
            source(Listen::Udp, Some(&one)),
            source(Listen::Unix(two.clone()), None),
        ];
        // What a killed agent left.
        drop(UnixDatagram::bind(&one).unwrap());
        drop(UnixListener::bind(&two).unwrap());
        let sockets = bind(&sources, Vec::new()).unwrap();
        assert_eq!(
            (
                sockets.udp.len(),
                sockets.local.len(),
                sockets.streams.len()
            ),
            (1, 1, 2)
        );
        for path in [&one, &two] {
            let mode = std::fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, SOCKET_MODE);
        }
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to(b"<13>x", &one).unwrap();
        let mut buffer = [0; 64];
        assert_eq!(sockets.local[0].0.recv(&mut buffer).unwrap(), 5);
        assert!(UnixStream::connect(&two).is_ok());
        assert!(sockets.streams[1].0.accept().is_ok());
        // A second agent: an addition is a warning, all there is an error.
        assert_eq!(bind(&sources[..1], Vec::new()).unwrap().local.len(), 0);
        let told = bind(&sources[1..], Vec::new()).unwrap_err().to_string();
        assert!(told.contains("another program listens there"), "{told}");
        assert!(one.exists() && two.exists());
        drop(sockets);
        assert!(!one.exists() && !two.exists());
        std::fs::write(&two, "mine").unwrap();
        let told = bind(&sources[1..], Vec::new()).unwrap_err().to_string();
        assert!(told.contains("no socket"), "{told}");
        assert_eq!(std::fs::read(&two).unwrap(), b"mine");
    }

    #[test]
    fn sockets_outlive_their_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let before = [
            source(Listen::Udp, Some(&path("one"))),
            source(Listen::Unix(path("two")), None),
            source(Listen::Unix(path("gone")), None),
        ];
        let sockets = bind(&before, Vec::new()).unwrap();
        let udp = sockets.udp[0].0.local_addr().unwrap();
        let held = sockets.copies(&before).unwrap();
        assert_eq!(held.len(), 5);
        // UDP gives way to TCP at the same port, one name stays, one goes, one is new.
        let after = [
            source(Listen::Tcp, Some(&path("one"))),
            source(Listen::Unix(path("two")), None),
            source(Listen::Unix(path("new")), None),
        ];
        let ready = prepare(&after, sockets.copies(&before).unwrap()).unwrap();
        sockets.leave_names();
        remove_names(&held, &ready);
        drop(held);
        let names = |wanted: [&str; 4]| wanted.map(|name| path(name).exists());
        assert_eq!(
            names(["one", "two", "gone", "new"]),
            [true, true, false, true]
        );
        let sockets = bind(&after, ready).unwrap();
        assert_eq!(
            (
                sockets.udp.len(),
                sockets.local.len(),
                sockets.streams.len()
            ),
            (0, 1, 3)
        );
        assert!(TcpStream::connect(udp).is_ok(), "the same port");
        assert!(UnixStream::connect(path("two")).is_ok());
        // And back: UDP joins TCP at its port.
        let ready = prepare(&before[..1], sockets.copies(&after).unwrap()).unwrap();
        sockets.leave_names();
        let sockets = bind(&before[..1], ready).unwrap();
        assert_eq!(sockets.udp[0].0.local_addr().unwrap(), udp);
        drop(sockets);
        assert!(!path("one").exists());
        // One that cannot be had leaves nothing of the others.
        std::fs::write(path("file"), "mine").unwrap();
        let broken = [
            source(Listen::Unix(path("fresh")), None),
            source(Listen::Unix(path("file")), None),
        ];
        assert!(prepare(&broken, Vec::new()).is_err());
        assert!(!path("fresh").exists() && path("file").exists());
    }
}
