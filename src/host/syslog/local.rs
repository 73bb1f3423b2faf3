//! One message to the host's syslog daemon, by its own socket (RFC 3164 section 4.1, without the
//! host's name, as programs of the same host write it). No program is started for it.

use jiff::Zoned;
use std::io::{self, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::time::Duration;

/// Where the daemon, or systemd's journal before it, listens.
pub const SOCKET: &str = "/dev/log";

/// A daemon that does not read may hold us for so long, for each message.
const PATIENCE: Duration = Duration::from_millis(200);

/// Longest text that is sent: daemons cut what is longer.
const LIMIT: usize = 2048;

/// Sends `text` with a facility's and a severity's number. The error says that nobody took it.
pub fn send(
    socket: &Path,
    facility: u8,
    severity: u8,
    tag: &str,
    text: &str,
    now: &Zoned,
) -> io::Result<()> {
    let line = line(facility, severity, tag, text, now);
    let datagram = UnixDatagram::unbound()?;
    datagram.set_write_timeout(Some(PATIENCE))?;
    match datagram.send_to(line.as_bytes(), socket) {
        Ok(_) => Ok(()),
        // Some daemons are configured to a stream there; messages in it end with a zero byte.
        Err(e) if e.raw_os_error() == Some(nix::libc::EPROTOTYPE) => {
            let mut stream = UnixStream::connect(socket)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.write_all(format!("{line}\0").as_bytes())
        }
        Err(e) => Err(e),
    }
}

fn line(facility: u8, severity: u8, tag: &str, text: &str, now: &Zoned) -> String {
    let priority = u32::from(facility) * 8 + u32::from(severity);
    let stamp = now.strftime("%b %e %H:%M:%S");
    let mut line = format!("<{priority}>{stamp} {tag}: ");
    for c in text.chars() {
        if line.len() >= LIMIT {
            break;
        }
        line.push(if c.is_control() { ' ' } else { c });
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn now() -> Zoned {
        "2031-02-03T04:05:06+01:00[+01:00]".parse().unwrap()
    }

    #[test]
    fn datagram_stream_and_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("log");
        assert!(send(&socket, 16, 6, "omsagent", "x", &now()).is_err());
        let daemon = UnixDatagram::bind(&socket).unwrap();
        send(&socket, 16, 6, "omsagent", "[INFO] a\tb\n", &now()).unwrap();
        let mut got = [0; 4096];
        let n = daemon.recv(&mut got).unwrap();
        assert_eq!(&got[..n], b"<134>Feb  3 04:05:06 omsagent: [INFO] a b ");
        drop(daemon);
        std::fs::remove_file(&socket).unwrap();
        let daemon = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        send(&socket, 23, 3, "t", &"ä".repeat(LIMIT), &now()).unwrap();
        let mut got = Vec::new();
        let mut stream = daemon.accept().unwrap().0;
        stream.read_to_end(&mut got).unwrap();
        assert!(got.starts_with(b"<187>Feb  3 04:05:06 t: ") && got.ends_with(b"\0"));
        assert!(got.len() <= LIMIT + 4);
    }

    #[test]
    fn a_daemon_that_does_not_read_holds_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("log");
        let _daemon = UnixDatagram::bind(&socket).unwrap();
        let begun = std::time::Instant::now();
        let mut sent = 0;
        while send(&socket, 16, 6, "t", "x", &now()).is_ok() {
            sent += 1;
            assert!(sent < 100_000, "the queue has no end");
        }
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
