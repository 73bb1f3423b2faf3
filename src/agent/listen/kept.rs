//! Sockets that outlive their configuration: those that a reload goes on with (docs/agent.md).

use super::{ListenError, Listener, Sockets, bind_one};
use crate::agent::config::{Listen, Syslog};
use serde::{Deserialize, Serialize};
use std::io::Result;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

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
    pub(super) fn address(&self) -> SocketAddr {
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
    pub(super) fn asks(&self) -> Vec<Asked> {
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
pub(super) fn take(kept: &mut Vec<Kept>, asked: &Asked) -> Option<OwnedFd> {
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

#[cfg(test)]
mod tests {
    use super::super::bind;
    use super::super::tests::source;
    use super::*;
    use std::net::TcpStream;
    use std::os::unix::net::UnixStream;

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
