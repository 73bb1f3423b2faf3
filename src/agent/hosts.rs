//! Names and addresses of this host and of the hosts that messages come from.
//!
//! The thread that reads messages never waits for a name server: an unknown name is asked for in
//! another thread, and until the answer is there the item says `Unknown IP`.

use crate::base::order;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// What an item says when no address is known (protocol.md 3.5).
pub const UNKNOWN: &str = "Unknown IP";
/// How long an answer is used before it is asked for again.
const FRESH: Duration = Duration::from_secs(300);
/// Names remembered; beyond it all are forgotten at once.
const NAME_LIMIT: usize = 1024;
/// Questions waiting for the name server.
const ASKED_LIMIT: usize = 64;
/// Longest name that is asked for (RFC 1035).
const NAME_LENGTH: usize = 253;

/// Where the container edition keeps the name of its host.
const CONTAINER_HOST: &str = "/var/opt/microsoft/docker-cimprov/state/containerhostname";

/// The name that goes into `Computer`: protocol.md 0.2, "Host name".
pub fn computer() -> String {
    let container = crate::base::files::read_text(Path::new(CONTAINER_HOST), 4096);
    if let Ok(Some(text)) = container
        && !text.trim().is_empty()
    {
        return text.trim().to_owned();
    }
    let kernel = nix::unistd::gethostname().unwrap_or_default();
    let kernel = kernel.to_string_lossy();
    kernel.split('.').next().unwrap_or_default().to_owned()
}

/// Addresses of interfaces that are up, IPv4 first, loopback and link-local left out.
pub fn own_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    let mut found: Vec<IpAddr> = interfaces
        .filter(|i| i.flags.contains(nix::net::if_::InterfaceFlags::IFF_UP))
        .filter_map(|i| {
            let address = i.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .filter(|address| match address {
            IpAddr::V4(a) => !a.is_loopback() && !a.is_link_local(),
            IpAddr::V6(a) => !a.is_loopback() && !a.is_unicast_link_local(),
        })
        .collect();
    order::by_key(&mut found, IpAddr::is_ipv6); // stable: interfaces keep their order
    found.dedup();
    found
}

/// RFC 1918 addresses, then those of `fc00::/7`.
pub fn private(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let private = |address: &&IpAddr| match address {
        IpAddr::V4(a) => Ipv4Addr::is_private(a),
        IpAddr::V6(a) => Ipv6Addr::is_unique_local(a),
    };
    let mut found: Vec<IpAddr> = addresses.iter().filter(private).copied().collect();
    order::by_key(&mut found, IpAddr::is_ipv6);
    found
}

/// Addresses of the hosts messages come from.
pub struct Addresses {
    own_names: Vec<String>,
    known: HashMap<Vec<u8>, Known>,
    asking: Option<Asking>,
}

struct Known {
    address: String,
    since: Instant,
}

struct Asking {
    questions: SyncSender<String>,
    answers: Receiver<(String, Option<IpAddr>)>,
}

impl Default for Addresses {
    fn default() -> Self {
        let kernel = nix::unistd::gethostname().unwrap_or_default();
        let kernel = kernel.to_string_lossy().into_owned();
        let short = kernel.split('.').next().unwrap_or_default().to_owned();
        Addresses {
            own_names: vec!["localhost".to_owned(), short, kernel],
            known: HashMap::new(),
            asking: None,
        }
    }
}

impl Addresses {
    /// What stands in `HostIP` for a message of `host`. Never waits.
    pub fn of(&mut self, host: &[u8], now: Instant) -> &str {
        let fresh = self
            .known
            .get(host)
            .is_some_and(|k| now.saturating_duration_since(k.since) < FRESH);
        if !fresh {
            self.learn(host, now);
        }
        self.known.get(host).map_or(UNKNOWN, |k| &k.address)
    }

    /// Takes in answers that have come; cheap when there are none.
    pub fn take_answers(&mut self, now: Instant) {
        let Some(asking) = &self.asking else { return };
        while let Ok((name, address)) = asking.answers.try_recv() {
            let address = address.map_or(UNKNOWN.to_owned(), |a| a.to_string());
            let since = now;
            self.known
                .insert(name.into_bytes(), Known { address, since });
        }
    }

    fn learn(&mut self, host: &[u8], now: Instant) {
        if self.known.len() >= NAME_LIMIT {
            self.known.clear();
        }
        let name = String::from_utf8_lossy(host);
        let own = host.is_empty() || self.own_names.iter().any(|n| n.eq_ignore_ascii_case(&name));
        let address = if own {
            let own = own_addresses();
            let first = own.first().copied();
            Some(first.unwrap_or(Ipv4Addr::LOCALHOST.into()).to_string())
        } else if let Ok(literal) = name.parse::<IpAddr>() {
            Some(literal.to_string())
        } else {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            if name.len() <= NAME_LENGTH && name.chars().all(plain) {
                self.ask(name.into_owned());
            }
            None
        };
        // An older answer stays until the new one is there.
        let old = self.known.remove(host).map(|k| k.address);
        let known = Known {
            address: address.or(old).unwrap_or_else(|| UNKNOWN.to_owned()),
            since: now,
        };
        self.known.insert(host.to_vec(), known);
    }

    fn ask(&mut self, name: String) {
        if self.asking.is_none() {
            self.asking = start();
        }
        let Some(asking) = &self.asking else { return };
        // With too many questions open this one is not asked: again in five minutes.
        if let Err(TrySendError::Disconnected(_)) = asking.questions.try_send(name) {
            self.asking = None;
        }
    }
}

/// The thread that asks; it ends with the sender of its questions.
fn start() -> Option<Asking> {
    let (questions, asked) = sync_channel::<String>(ASKED_LIMIT);
    let (answer, answers) = sync_channel(ASKED_LIMIT);
    let thread = std::thread::Builder::new()
        .name("resolver".into())
        .stack_size(256 << 10);
    let started = thread.spawn(move || {
        while let Ok(name) = asked.recv() {
            let found = (name.as_str(), 0).to_socket_addrs().ok();
            let mut found: Vec<IpAddr> = found.into_iter().flatten().map(|a| a.ip()).collect();
            order::by_key(&mut found, IpAddr::is_ipv6);
            if answer.send((name, found.first().copied())).is_err() {
                return;
            }
        }
    });
    started.ok().map(|_| Asking { questions, answers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_copied_and_own_names_are_ours() {
        let mut addresses = Addresses::default();
        let now = Instant::now();
        assert_eq!(addresses.of(b"10.1.2.3", now), "10.1.2.3");
        assert_eq!(addresses.of(b"fe80::1", now), "fe80::1");
        let own = addresses.of(b"LOCALHOST", now).to_owned();
        assert!(own.parse::<IpAddr>().is_ok());
        let kernel = nix::unistd::gethostname().unwrap();
        assert_eq!(addresses.of(kernel.to_string_lossy().as_bytes(), now), own);
        assert_eq!(addresses.of(b"bad name \xff", now), UNKNOWN);
        assert!(
            addresses.asking.is_none(),
            "nothing of this needs a name server"
        );
    }

    #[test]
    fn a_name_is_asked_for_elsewhere_and_answered_later() {
        let mut addresses = Addresses::default();
        addresses.own_names.clear();
        let now = Instant::now();
        assert_eq!(addresses.of(b"localhost", now), UNKNOWN);
        let deadline = now + Duration::from_secs(10);
        while addresses.of(b"localhost", now) == UNKNOWN && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
            addresses.take_answers(now);
        }
        let got: IpAddr = addresses.of(b"localhost", now).parse().unwrap();
        assert!(got.is_loopback());
    }

    #[test]
    fn the_memory_for_names_is_bounded() {
        let mut addresses = Addresses::default();
        let now = Instant::now();
        for i in 0..3 * NAME_LIMIT {
            addresses.of(format!("10.0.{}.{}", i / 256, i % 256).as_bytes(), now);
            assert!(addresses.known.len() <= NAME_LIMIT);
        }
    }

    #[test]
    fn private_addresses() {
        let all: Vec<IpAddr> = [
            "fd00::1",
            "8.8.8.8",
            "10.0.0.4",
            "172.16.0.1",
            "2001:db8::1",
        ]
        .map(|a| a.parse().unwrap())
        .to_vec();
        let wanted: Vec<IpAddr> = ["10.0.0.4", "172.16.0.1", "fd00::1"]
            .map(|a| a.parse().unwrap())
            .to_vec();
        assert_eq!(private(&all), wanted);
    }
}
