//! Who listens where: the kernel's tables of sockets, and whose they are (proc(5)).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// UDP or TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Datagrams.
    Udp,
    /// Streams.
    Tcp,
}

impl Protocol {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Udp => "udp",
            Protocol::Tcp => "tcp",
        }
    }
}

/// A socket that takes something in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listening {
    /// UDP or TCP.
    pub protocol: Protocol,
    /// Where.
    pub address: SocketAddr,
    /// The kernel's number of it.
    pub inode: u64,
    /// Whose it is.
    pub uid: u32,
}

/// All of this network namespace; readable by anybody.
pub fn listening() -> Vec<Listening> {
    let tables = [
        ("/proc/net/udp", Protocol::Udp),
        ("/proc/net/udp6", Protocol::Udp),
        ("/proc/net/tcp", Protocol::Tcp),
        ("/proc/net/tcp6", Protocol::Tcp),
    ];
    let mut found = Vec::new();
    for (path, protocol) in tables {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        found.extend(text.lines().skip(1).filter_map(|line| row(line, protocol)));
    }
    found
}

fn row(line: &str, protocol: Protocol) -> Option<Listening> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    // 0A: a listening stream; 07: a datagram socket without a peer.
    let wanted = match protocol {
        Protocol::Tcp => "0A",
        Protocol::Udp => "07",
    };
    if *fields.get(3)? != wanted {
        return None;
    }
    Some(Listening {
        protocol,
        address: address(fields.get(1)?)?,
        uid: fields.get(7)?.parse().ok()?,
        inode: fields.get(9)?.parse().ok()?,
    })
}

/// `0100007F:6288`: words in the machine's order, the port as it is read.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let word = |i: usize| u32::from_str_radix(host.get(i * 8..i * 8 + 8)?, 16).ok();
    let ip = match host.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?.to_ne_bytes())),
        32 => {
            let mut octets = [0; 16];
            for i in 0..4 {
                octets[i * 4..i * 4 + 4].copy_from_slice(&word(i)?.to_ne_bytes());
            }
            IpAddr::from(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// The sockets that a process holds; empty when we may not look.
pub fn of_process(pid: u32) -> Vec<u64> {
    let Ok(fds) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    fds.filter_map(|fd| inode(&std::fs::read_link(fd.ok()?.path()).ok()?.to_string_lossy()))
        .collect()
}

/// Which process holds which socket, as far as we may look.
pub fn owners() -> HashMap<u64, u32> {
    let mut owners = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        for inode in pid.map(of_process).unwrap_or_default() {
            owners.insert(inode, pid.unwrap_or_default());
        }
    }
    owners
}

fn inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_tables() {
        if cfg!(target_endian = "big") {
            return;
        }
        let udp = "  12: 0100007F:6288 00000000:0000 07 00000000:00000000 00:00000000 00000000   997        0 4711 2 0 0";
        let seen = row(udp, Protocol::Udp).unwrap();
        assert_eq!(seen.address.to_string(), "127.0.0.1:25224");
        assert_eq!((seen.uid, seen.inode), (997, 4711));
        let tcp6 = "   0: 00000000000000000000000001000000:6288 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 99 1 0 100 0 0 10 0";
        let seen = row(tcp6, Protocol::Tcp).unwrap();
        assert_eq!(seen.address.to_string(), "[::1]:25224");
        let connected = udp.replace(" 07 ", " 01 ");
        assert_eq!(row(&connected, Protocol::Udp), None);
        assert_eq!(inode("socket:[31]"), Some(31));
        assert_eq!(inode("pipe:[31]"), None);
    }

    #[test]
    fn our_own_socket_is_found() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let here = socket.local_addr().unwrap();
        let row = listening().into_iter().find(|l| l.address == here).unwrap();
        assert_eq!(owners().get(&row.inode), Some(&std::process::id()));
    }
}
