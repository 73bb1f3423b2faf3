//! The sockets that messages come in by.

use crate::agent::config::{Listen, Syslog};
use log::{info, warn};
use std::io::{Error, ErrorKind, Read, Result};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

mod kept;

pub use kept::{Asked, Kept, prepare, remove_names};

use kept::take;

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
pub(super) mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    pub(in crate::agent) fn source(listen: Listen, datagrams: Option<&Path>) -> Syslog {
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
}
