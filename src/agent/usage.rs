//! What our process uses, for the topology heartbeat and for telemetry (protocol.md 1.6, 2.3).

use crate::wire::topology::Telemetry;
use std::time::{Duration, Instant};

/// What our process has used.
pub struct Usage {
    at: Instant,
    user: Duration,
    system: Duration,
}

impl Usage {
    /// Until now.
    pub fn now() -> Usage {
        use nix::sys::resource::{UsageWho, getrusage};
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok();
        let time = |t: nix::sys::time::TimeVal| {
            let micros = t.tv_sec().max(0) as u64 * 1_000_000 + t.tv_usec().max(0) as u64;
            Duration::from_micros(micros)
        };
        Usage {
            at: Instant::now(),
            user: usage.map(|u| time(u.user_time())).unwrap_or_default(),
            system: usage.map(|u| time(u.system_time())).unwrap_or_default(),
        }
    }

    /// Since an earlier look.
    pub fn since(&self, before: &Usage) -> Telemetry {
        let elapsed = self.at.duration_since(before.at).as_secs_f64().max(0.001);
        let percent = |now: Duration, then: Duration| {
            Some((now.saturating_sub(then).as_secs_f64() * 100.0 / elapsed).round() as u64)
        };
        let used = kibibytes("/proc/self/status", "VmRSS:");
        let total = kibibytes("/proc/meminfo", "MemTotal:").filter(|t| *t > 0);
        Telemetry {
            percent_user_time: percent(self.user, before.user),
            percent_privileged_time: percent(self.system, before.system),
            used_memory: used,
            percent_used_memory: used.zip(total).map(|(u, t)| u * 100 / t),
        }
    }
}

fn kibibytes(file: &str, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_use_is_told() {
        let before = Usage::now();
        let telemetry = Usage::now().since(&before);
        assert!(telemetry.used_memory.unwrap() > 1000, "KiB");
        assert!(telemetry.percent_used_memory.unwrap() <= 100);
        assert!(telemetry.percent_user_time.is_some());
    }
}
