//! Who has a local port: the kernel's tables and the processes' descriptors, below /proc.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The tables, and the state in which a socket waits for somebody (TCP: listening; UDP: any).
const TABLES: [(&str, Option<&str>); 4] = [
    ("/proc/net/tcp", Some("0A")),
    ("/proc/net/tcp6", Some("0A")),
    ("/proc/net/udp", None),
    ("/proc/net/udp6", None),
];

/// A process that has a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its program.
    pub program: PathBuf,
}

/// Is the port in use, and by whom? `None`: free. An empty list: by somebody out of our sight.
pub fn holders(port: u16) -> Option<Vec<Holder>> {
    let inodes: BTreeSet<u64> = TABLES
        .iter()
        .filter_map(|(table, state)| Some((std::fs::read_to_string(table).ok()?, *state)))
        .flat_map(|(text, state)| inodes(&text, port, state))
        .collect();
    (!inodes.is_empty()).then(|| owners(&inodes))
}

/// Inodes of the sockets at that local port in one table.
fn inodes(table: &str, port: u16, state: Option<&str>) -> Vec<u64> {
    let rows = table.lines().skip(1).filter_map(|line| {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let (local, now, inode) = (cells.get(1)?, cells.get(3)?, cells.get(9)?);
        let local = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
        let fits = local == port && state.is_none_or(|state| state == *now);
        inode.parse().ok().filter(|_| fits)
    });
    rows.collect()
}

fn owners(inodes: &BTreeSet<u64>) -> Vec<Holder> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    for entry in entries.filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let files = std::fs::read_dir(entry.path().join("fd"));
        let has = files
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .any(|fd| {
                let target = std::fs::read_link(fd.path()).unwrap_or_default();
                let name = target.as_os_str().as_bytes();
                let inode = name
                    .strip_prefix(b"socket:[")
                    .and_then(|n| n.strip_suffix(b"]"));
                let inode = inode.and_then(|n| std::str::from_utf8(n).ok()?.parse().ok());
                inode.is_some_and(|inode: u64| inodes.contains(&inode))
            });
        if has {
            let program = std::fs::read_link(entry.path().join("exe")).unwrap_or_default();
            found.push(Holder { pid, program });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_behind_a_port_is_found() {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = udp.local_addr().unwrap().port();
        let found = holders(port).unwrap();
        let own = found.iter().find(|h| h.pid == std::process::id()).unwrap();
        assert_eq!(own.program, std::env::current_exe().unwrap());
        drop(udp);
        assert_eq!(holders(port), None);
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(holders(tcp.local_addr().unwrap().port()).is_some());
    }

    #[test]
    fn a_table_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:6288 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 x\n   \
                     1: 0100007F:6288 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 x\n";
        assert_eq!(inodes(table, 25224, Some("0A")), [4711]);
        assert_eq!(inodes(table, 25224, None), [4711, 4712]);
        assert!(inodes(table, 25225, None).is_empty());
    }
}
