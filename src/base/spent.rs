//! Where the time of this process went: what other programs and the network took is not ours to
//! make faster.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

static BEGAN: OnceLock<Instant> = OnceLock::new();
static TOOLS: AtomicU64 = AtomicU64::new(0);
static NETWORK: AtomicU64 = AtomicU64::new(0);

/// What is waited for.
#[derive(Debug, Clone, Copy)]
pub enum On {
    /// Another program, from its start to its end.
    Tools,
    /// A service, from the look-up of its name to its answer.
    Network,
}

/// The process has begun.
pub fn begin() {
    let _ = BEGAN.set(Instant::now());
}

/// Counts from now until it is dropped.
pub struct Waiting {
    on: On,
    since: Instant,
}

/// Waits on something.
pub fn waiting(on: On) -> Waiting {
    let since = Instant::now();
    Waiting { on, since }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let sum = match self.on {
            On::Tools => &TOOLS,
            On::Network => &NETWORK,
        };
        let passed = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        sum.fetch_add(passed, Ordering::Relaxed);
    }
}

/// Milliseconds since the process began, and those of them spent waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Spent {
    /// All.
    pub all: u64,
    /// Other programs: dpkg, rpm, systemctl, ...
    pub tools: u64,
    /// The network.
    pub network: u64,
}

/// So far.
pub fn so_far() -> Spent {
    let all = BEGAN.get().map_or(Duration::ZERO, Instant::elapsed);
    let ms = |sum: &AtomicU64| sum.load(Ordering::Relaxed) / 1000;
    Spent {
        all: u64::try_from(all.as_millis()).unwrap_or(u64::MAX),
        tools: ms(&TOOLS),
        network: ms(&NETWORK),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_part_of_all() {
        begin();
        let before = so_far();
        {
            let _network = waiting(On::Network);
            std::thread::sleep(Duration::from_millis(5));
        }
        let now = so_far();
        assert!(now.network >= before.network + 5 && now.all >= 5);
    }
}
