//! The items that say this host is alive, in time.

use crate::agent::config::{Route, Settings};
use crate::agent::figures::{self, Figures};
use crate::agent::heartbeat::{self, Facts};
use crate::agent::hosts;
use crate::agent::queue::Queue;
use crate::agent::queue::frame::Frame;
use crate::host::layout::Layout;
use log::warn;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The heartbeats, each with its next time. The first one goes out at once: a new workspace shows
/// its first sign of life in seconds (the original waits for one interval).
pub struct Beats {
    facts: Facts,
    due: Vec<Beat>,
}

struct Beat {
    interval: Option<Duration>,
    output: usize,
    next: Option<Instant>,
}

impl Beats {
    /// Those of the configuration; all are due.
    pub fn new(settings: &Settings, layout: &Layout) -> Beats {
        let beat = |h: &crate::agent::config::Heartbeat| match settings.route(&h.tag) {
            Some(Route::Output(output)) => Some(Beat {
                interval: h.interval,
                output,
                next: Some(Instant::now()),
            }),
            _ => None,
        };
        Beats {
            facts: Facts::gather(layout),
            due: settings.heartbeats.iter().filter_map(beat).collect(),
        }
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Instant> {
        self.due.iter().filter_map(|b| b.next).min()
    }

    /// Puts those that are due into their queues; true when there were any.
    pub fn send(&mut self, now: Instant, queues: &[Arc<Queue>], figures: &Figures) -> bool {
        let mut any = false;
        for beat in &mut self.due {
            if beat.next.is_none_or(|next| next > now) {
                continue;
            }
            any = true;
            beat.next = beat
                .interval
                .map(|i| now + i.max(Duration::from_millis(100)));
            let wall = SystemTime::now().duration_since(UNIX_EPOCH);
            let wall = wall.map_or(0, |d| d.as_millis() as i64);
            let mut frame = Frame::new(&heartbeat::KIND);
            let own = hosts::own_addresses();
            frame.push(figures::HEARTBEAT, |out| self.facts.push(out, wall, &own));
            figures.made_heartbeat();
            if let Err(error) = queues[beat.output].append(&mut frame) {
                warn!("a heartbeat is lost: cannot write to its queue: {error}");
            }
        }
        any
    }
}
