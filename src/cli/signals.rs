//! Ctrl-C and SIGTERM while a plan runs: the current step ends, then all of it is taken back.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// From here on those signals interrupt the running plan instead of killing us half-way.
pub fn interrupt_plans() {
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else {
        return; // without handlers a signal ends us; the next run finds the journal
    };
    std::thread::spawn(move || {
        for _ in signals.forever() {
            crate::plan::interrupt();
        }
    });
}
