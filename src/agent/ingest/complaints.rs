//! Lines that were not understood: some are shown, all are counted.

use crate::agent::syslog;
use log::warn;
use std::time::{Duration, Instant};

/// Lines that are shown, per minute; more are counted.
const SHOWN: u32 = 5;

/// What was seen of them.
#[derive(Default)]
pub(super) struct Complaints {
    minute: Option<Instant>,
    shown: u32,
    hidden: u64,
}

impl Complaints {
    /// One more; `line` is shown unless there were many.
    pub(super) fn not_understood(&mut self, line: &[u8], reason: syslog::NoMatch, now: Instant) {
        let over = |since: Instant| now.saturating_duration_since(since) > Duration::from_secs(60);
        if self.minute.is_none_or(over) {
            self.summary();
            self.minute = Some(now);
            self.shown = 0;
        }
        if self.shown >= SHOWN {
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

    /// Says how many were not shown.
    pub(super) fn summary(&mut self) {
        if self.hidden > 0 {
            warn!(
                "pattern not match: {} more messages were dropped",
                self.hidden
            );
            self.hidden = 0;
        }
    }
}
