//! Tells the service manager how we are (sd_notify: datagrams to `$NOTIFY_SOCKET`).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the service manager, if one started us.
#[derive(Debug)]
pub struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// Looks at the environment.
    pub fn from_environment() -> Notify {
        let address = std::env::var_os("NOTIFY_SOCKET").and_then(|name| {
            match name.as_bytes().strip_prefix(b"@") {
                Some(hidden) => SocketAddr::from_abstract_name(hidden).ok(),
                None => SocketAddr::from_pathname(&name).ok(),
            }
        });
        let usec = std::env::var("WATCHDOG_USEC").ok();
        let usec = usec.and_then(|u| u.parse::<u64>().ok()).filter(|&u| u > 0);
        let pid = std::env::var("WATCHDOG_PID").ok();
        let ours = pid.is_none_or(|p| p == std::process::id().to_string());
        Notify {
            to: address.and_then(|a| Some((UnixDatagram::unbound().ok()?, a))),
            watchdog: usec.filter(|_| ours).map(Duration::from_micros),
        }
    }

    /// How often to say [`Notify::alive`]: a quarter of what is asked for, since a sync of the queues
    /// may take a while.
    pub fn interval(&self) -> Option<Duration> {
        self.watchdog.map(|w| w / 4)
    }

    /// We serve.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// We read our configuration; [`Notify::ready`] follows.
    pub fn reloading(&self) {
        let clock = nix::time::ClockId::CLOCK_MONOTONIC;
        let now = nix::time::clock_gettime(clock).map_or(Duration::ZERO, Duration::from);
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
    }

    /// We are on our way out.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// We are not stuck.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, text: &str) {
        if let Some((socket, address)) = &self.to {
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }
}
