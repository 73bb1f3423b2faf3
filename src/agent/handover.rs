//! One process, a new configuration: the agent becomes itself anew (execve) and keeps its number and
//! its sockets. They travel as messages in a socket that is the new program's standard input, so
//! the kernel goes on collecting what arrives meanwhile; what was read of half a line goes with
//! them.

use crate::agent::ingest::Connection;
use crate::agent::listen::{Asked, Kept, Stream};
use crate::agent::syslog::framing::Framing;
use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::MemfdFlags;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// Says that standard input is our predecessor's legacy; its value is the process's number.
const VARIABLE: &str = "OMSAGENT_HANDOVER";
/// Descriptors in one message: the kernel takes 253.
const AT_ONCE: usize = 200;
/// Largest list that is read back: 256 half lines of 64 KiB, as base64.
const LIST_LIMIT: u64 = 32 << 20;

/// What is handed over.
#[derive(Default)]
pub struct Legacy {
    /// Listening sockets.
    pub sockets: Vec<Kept>,
    /// Connections, each with what its source was told to listen on.
    pub connections: Vec<(Asked, Connection)>,
    /// Notes about the configuration that were told already.
    pub told: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct List {
    sockets: Vec<Entry>,
    told: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    kind: Kind,
    asked: Asked,
}

#[derive(Serialize, Deserialize)]
enum Kind {
    Listening,
    /// What its framing holds, base64, and what it skips.
    Connection(String, Option<usize>),
}

impl Legacy {
    /// What our predecessor in this process left; `None` at an ordinary start.
    pub fn take() -> Option<Result<Legacy>> {
        let marked = std::env::var(VARIABLE).ok()?;
        (marked == std::process::id().to_string()).then(|| {
            let stdin = std::io::stdin().as_fd().try_clone_to_owned()?;
            let null = File::open("/dev/null")?;
            nix::unistd::dup2_stdin(&null)?;
            receive(&UnixStream::from(stdin)).context("cannot take over the sockets")
        })
    }

    /// Becomes the program anew. Comes back only with an error.
    pub fn pass_on(self) -> Result<std::convert::Infallible> {
        let (ours, theirs) = UnixStream::pair().context("cannot make a socket pair")?;
        self.send(&ours).context("cannot hand over the sockets")?;
        drop(ours);
        nix::unistd::dup2_stdin(&theirs).context("cannot hand over the sockets")?;
        let mut words = std::env::args_os();
        let name = words.next().unwrap_or_else(|| "omsagent".into());
        let program = program();
        let error = Command::new(&program)
            .arg0(name)
            .args(words)
            .env(VARIABLE, std::process::id().to_string())
            .exec();
        Err(error).with_context(|| format!("cannot start `{}` anew", program.display()))
    }

    fn send(self, to: &UnixStream) -> Result<()> {
        let mut list = List {
            sockets: Vec::new(),
            told: self.told,
        };
        let mut sockets: Vec<OwnedFd> = Vec::new();
        for kept in self.sockets {
            list.sockets.push(Entry {
                kind: Kind::Listening,
                asked: kept.asked,
            });
            sockets.push(kept.socket);
        }
        for (asked, connection) in self.connections {
            let (held, skip) = connection.framing.into_parts();
            list.sockets.push(Entry {
                kind: Kind::Connection(STANDARD.encode(held), skip),
                asked,
            });
            sockets.push(match connection.stream {
                Stream::Tcp(stream) => stream.into(),
                Stream::Unix(stream) => stream.into(),
            });
        }
        let memory = rustix::fs::memfd_create("omsagent-handover", MemfdFlags::CLOEXEC)?;
        let mut memory = File::from(memory);
        memory.write_all(&serde_json::to_vec(&list)?)?;
        memory.rewind()?;
        let all: Vec<BorrowedFd<'_>> = std::iter::once(memory.as_fd())
            .chain(sockets.iter().map(AsFd::as_fd))
            .collect();
        for some in all.chunks(AT_ONCE) {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(some)) {
                bail!("too many sockets for one message");
            }
            let byte = [IoSlice::new(b"s")];
            rustix::net::sendmsg(to, &byte, &mut control, SendFlags::NOSIGNAL)?;
        }
        Ok(())
    }
}

fn receive(from: &UnixStream) -> Result<Legacy> {
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    loop {
        let mut byte = [0; 1];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [IoSliceMut::new(&mut byte)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let heard = rustix::net::recvmsg(from, &mut bytes, &mut control, flags)?;
        if heard.bytes == 0 {
            break;
        }
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                descriptors.extend(some);
            }
        }
    }
    let mut descriptors = descriptors.into_iter();
    let list = File::from(descriptors.next().context("nothing was handed over")?);
    let mut text = Vec::new();
    list.take(LIST_LIMIT).read_to_end(&mut text)?;
    let list: List = serde_json::from_slice(&text)?;
    if list.sockets.len() != descriptors.len() {
        bail!(
            "{} sockets came instead of {}",
            descriptors.len(),
            list.sockets.len()
        );
    }
    let mut legacy = Legacy {
        told: list.told,
        ..Legacy::default()
    };
    for (Entry { kind, asked }, socket) in list.sockets.into_iter().zip(descriptors) {
        match kind {
            Kind::Listening => legacy.sockets.push(Kept { asked, socket }),
            Kind::Connection(held, skip) => {
                let framing = Framing::from_parts(STANDARD.decode(held)?, skip);
                let stream = match asked {
                    Asked::Streams(_) | Asked::Datagrams(_) => Stream::Unix(socket.into()),
                    Asked::Tcp(_) | Asked::Udp(_) => Stream::Tcp(socket.into()),
                };
                let connection = Connection::new(stream, framing);
                legacy.connections.push((asked, connection));
            }
        }
    }
    Ok(legacy)
}

/// Ourselves, by name: of a program that was replaced on the disk, the new one.
fn program() -> PathBuf {
    let own = PathBuf::from("/proc/self/exe");
    let Ok(path) = std::fs::read_link(&own) else {
        return own;
    };
    let name = path.to_string_lossy();
    let path = PathBuf::from(name.strip_suffix(GONE).unwrap_or(&name));
    if path.is_file() { path } else { own }
}

/// What the kernel adds to the name of a file that is gone.
const GONE: &str = " (deleted)";

/// Is the program on the disk another one than the one that runs?
pub fn is_replaced() -> bool {
    let name = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    let name = name.to_string_lossy();
    name.strip_suffix(GONE)
        .is_some_and(|path| PathBuf::from(path).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};

    #[test]
    fn sockets_and_half_lines_arrive() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = udp.local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Asked::Tcp(address);
        let mut legacy = Legacy {
            sockets: vec![Kept {
                asked: Asked::Udp(at),
                socket: udp.into(),
            }],
            told: vec!["once".into()],
            ..Legacy::default()
        };
        let mut far = Vec::new();
        for n in 0..AT_ONCE {
            far.push(TcpStream::connect(address).unwrap());
            let (stream, _) = listener.accept().unwrap();
            let mut framing = Framing::default();
            framing.take(format!("<1>half {n}").as_bytes(), |_| panic!("not whole"));
            let connection = Connection::new(Stream::Tcp(stream), framing);
            legacy.connections.push((asked.clone(), connection));
        }
        let (ours, theirs) = UnixStream::pair().unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(b"meanwhile", at).unwrap();
        legacy.send(&ours).unwrap();
        drop(ours);
        let got = receive(&theirs).unwrap();
        assert_eq!(got.told, ["once"]);
        let udp = UdpSocket::from(got.sockets.into_iter().next().unwrap().socket);
        let mut buffer = [0; 100];
        let n = udp.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..n], b"meanwhile");
        assert_eq!(got.connections.len(), AT_ONCE);
        for (n, (to, mut connection)) in got.connections.into_iter().enumerate() {
            assert_eq!(to, asked);
            let mut whole = Vec::new();
            connection
                .framing
                .take(b" line\n", |line| whole.extend_from_slice(line));
            assert_eq!(whole, format!("<1>half {n} line").as_bytes());
        }
    }

    #[test]
    fn what_is_no_legacy_is_an_error() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (&ours).write_all(b"x").unwrap();
        drop(ours);
        assert!(receive(&theirs).is_err());
    }
}
