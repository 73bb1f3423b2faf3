//! Keeps what Azure says this machine is (protocol.md 2.4): asked at the start, again each minute
//! after a success, and after failures less and less, until it is given up.

use crate::agent::output::Control;
use crate::wire::azure::{Metadata, Place};
use log::{debug, info};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// After a success.
const AGAIN: Duration = Duration::from_secs(60);
/// After the first, second, third failure in a row; then nothing is asked any more.
const AFTER_FAILURES: [Duration; 3] = [
    Duration::from_secs(120),
    Duration::from_secs(240),
    Duration::from_secs(360),
];

/// Where this machine is, as far as is known; shared by all who say it.
#[derive(Debug, Clone, Default)]
pub struct Whereabouts(Arc<Mutex<Place>>);

impl Whereabouts {
    /// Now.
    pub fn get(&self) -> Place {
        let place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        place.clone()
    }

    /// True when that is news.
    fn set(&self, place: Place) -> bool {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let news = *now != place;
        *now = place;
        news
    }
}

/// Asks until told to stop, or until there is nobody to ask. `changed` is called when the answer is
/// another than before.
pub fn follow(
    metadata: &Metadata,
    whereabouts: &Whereabouts,
    control: &Control,
    changed: &dyn Fn(),
) {
    let mut failures = 0;
    loop {
        let wait = match metadata.ask() {
            Ok(place) => {
                failures = 0;
                if whereabouts.set(place.clone()) {
                    info!(
                        "this machine is `{}` in region `{}`",
                        place.resource_id, place.region
                    );
                    changed();
                }
                AGAIN
            }
            Err(error) => {
                debug!("{error:#}");
                let Some(wait) = AFTER_FAILURES.get(failures) else {
                    return;
                };
                failures += 1;
                *wait
            }
        };
        let due = Instant::now() + wait;
        while let Some(left) = due.checked_duration_since(Instant::now()) {
            if control.stopping() {
                return;
            }
            std::thread::park_timeout(left);
        }
    }
}
