//! Lines that a parser did not take, in the log: a few of them, and how many more.

use log::warn;
use std::fmt::Display;
use std::time::{Duration, Instant};

/// Lines that are shown, per minute; more are counted.
const COMPLAINTS: u32 = 5;

/// Lines that were not understood: some are shown, all are counted.
#[derive(Default)]
pub struct Complaints {
    minute: Option<Instant>,
    shown: u32,
    hidden: u64,
}

impl Complaints {
    /// One more. `reason` is for people.
    pub fn not_understood(&mut self, line: &[u8], reason: &dyn Display, now: Instant) {
        let over = |since: Instant| now.saturating_duration_since(since) > Duration::from_secs(60);
        if self.minute.is_none_or(over) {
            self.summary();
            self.minute = Some(now);
            self.shown = 0;
        }
        if self.shown >= COMPLAINTS {
            self.hidden += 1;
            return;
        }
        self.shown += 1;
        let text = String::from_utf8_lossy(&line[..line.len().min(200)]);
        let text: String = text
            .chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .collect();
        warn!("pattern not match: \"{text}\" ({reason}); the message is dropped");
    }

    /// Tells how many were not shown.
    pub fn summary(&mut self) {
        if self.hidden > 0 {
            warn!(
                "pattern not match: {} more messages were dropped",
                self.hidden
            );
            self.hidden = 0;
        }
    }
}
