//! Network: `/proc/net/dev` (protocol.md 4.7).

use super::sight::{Probe, Sight};
use super::value::{Instance, Value};
use anyhow::Result;

/// Most interfaces that are looked at.
pub const LIMIT: usize = 4096;
/// `/sys/class/net/NAME/flags`, as in `<linux/if.h>`.
const UP: u64 = 0x1;
const LOOPBACK: u64 = 0x8;

/// One line of it, totals since the start of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The interface.
    pub name: String,
    received: [u64; 3],
    sent: [u64; 3],
    collisions: u64,
}

/// Reads `/proc/net/dev`: bytes, packets and errors of each direction, and collisions.
pub fn parse(text: &str) -> Vec<Line> {
    let line = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers
            .split_whitespace()
            .map_while(|n| n.parse().ok())
            .collect();
        let [rb, rp, re, _, _, _, _, _, tb, tp, te, _, _, colls, ..] = numbers[..] else {
            return None;
        };
        Some(Line {
            name: name.trim().to_owned(),
            received: [rb, rp, re],
            sent: [tb, tp, te],
            collisions: colls,
        })
    };
    text.lines().filter_map(line).take(LIMIT).collect()
}

impl Line {
    /// In the order of 4.9.
    pub fn values(&self) -> Instance {
        let ([rb, rp, re], [tb, tp, te]) = (self.received, self.sent);
        let numbers = [
            tb,
            rb,
            tp,
            rp,
            tb.saturating_add(rb),
            re,
            te,
            self.collisions,
        ];
        Instance {
            name: self.name.clone(),
            values: numbers.map(Value::Number).to_vec(),
        }
    }
}

/// Interfaces that run, or did since we look.
#[derive(Debug, Default)]
pub struct Network {
    ran: Vec<String>,
}

impl Probe for Network {
    fn look(&mut self, sight: &mut Sight<'_>) -> Result<Vec<Instance>> {
        let lines = parse(&sight.text("/proc/net/dev")?);
        // Names come and go with containers.
        self.ran
            .retain(|name| lines.iter().any(|l| l.name == *name));
        let mut found = Vec::new();
        for line in lines {
            let known = self.ran.contains(&line.name);
            if !known && runs(sight, &line.name) {
                self.ran.push(line.name.clone());
            } else if !known {
                continue;
            }
            found.push(line.values());
        }
        Ok(found)
    }
}

/// Is it up and running, and no loopback?
fn runs(sight: &Sight<'_>, name: &str) -> bool {
    if name.contains('/') || name.starts_with('.') {
        return false;
    }
    let folder = format!("/sys/class/net/{name}");
    let Ok(flags) = sight.text(&format!("{folder}/flags")) else {
        // Without /sys: what has sent something runs.
        return name != "lo";
    };
    let flags = flags.trim().trim_start_matches("0x");
    let flags = u64::from_str_radix(flags, 16).unwrap_or(0);
    let state = sight.text(&format!("{folder}/operstate"));
    let running = state.is_ok_and(|s| matches!(s.trim(), "up" | "unknown"));
    flags & UP != 0 && flags & LOOPBACK == 0 && running
}

#[cfg(test)]
mod tests {
    use super::super::sight::tests::Scene;
    use super::*;

    const DEV: &str = "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed\n    lo: 1077 617 0 0 0 0 0 0 1077 617 0 0 0 0 0 0\n  eth0:1115185765 57885 3 0 0 0 0 0 3801674 42885 2 0 0 7 0 0\n eth1: 5 1 0 0 0 0 0 0 6 1 0 0 0 0 0 0\n  bad: 1 2\n";

    #[test]
    fn totals_since_the_start_in_the_order_that_is_sent() {
        let lines = parse(DEV);
        assert_eq!(lines.len(), 3);
        let found = lines[1].values();
        let texts: Vec<_> = found.values.iter().filter_map(|v| v.text()).collect();
        let wanted = [
            "3801674",
            "1115185765",
            "42885",
            "57885",
            "1118987439",
            "3",
            "2",
            "7",
        ];
        assert_eq!(
            (found.name.as_str(), texts),
            ("eth0", wanted.map(str::to_owned).to_vec())
        );
        let many = |n: usize| {
            let line = |i| format!("e{i}: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n");
            parse(&(0..n).map(line).collect::<String>()).len()
        };
        assert_eq!((many(LIMIT), many(LIMIT + 1)), (LIMIT, LIMIT));
    }

    #[test]
    fn an_interface_that_ran_once_stays() {
        let scene = Scene::new();
        scene.write("/proc/net/dev", DEV);
        for (name, flags, state) in [
            ("lo", "0x9\n", "unknown\n"),
            ("eth0", "0x1003\n", "up\n"),
            ("eth1", "0x1002\n", "down\n"),
        ] {
            scene.write(&format!("/sys/class/net/{name}/flags"), flags);
            scene.write(&format!("/sys/class/net/{name}/operstate"), state);
        }
        let mut network = Network::default();
        let mut names = || -> Vec<String> {
            let found = scene.look(&mut network).unwrap();
            found.into_iter().map(|i| i.name).collect()
        };
        assert_eq!(names(), ["eth0"]);
        scene.write("/sys/class/net/eth0/operstate", "down\n");
        scene.write("/sys/class/net/eth1/flags", "0x1003\n");
        scene.write("/sys/class/net/eth1/operstate", "unknown\n");
        assert_eq!(names(), ["eth0", "eth1"]);
        scene.write("/proc/net/dev", "lo: 1 2\n");
        assert!(names().is_empty());
        scene.write("/proc/net/dev", DEV);
        assert_eq!(names(), ["eth1"], "it is another one now");
    }
}
