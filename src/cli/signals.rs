//! Ctrl-C and SIGTERM: before anything is changed they end us, tidily; while a plan runs the
//! current step ends, then all of it is taken back.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

static PLANS: AtomicBool = AtomicBool::new(false);
static WATCH: Once = Once::new();

/// From here on those signals interrupt the running plan instead of killing us half-way.
pub fn interrupt_plans() {
    PLANS.store(true, Ordering::SeqCst);
    watch(|| ());
}

/// From here on those signals end us after `tidy`, until [`interrupt_plans`]. The first call of
/// either decides about `tidy`.
pub fn watch(tidy: impl Fn() + Send + 'static) {
    WATCH.call_once(|| {
        let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else {
            return; // without handlers a signal ends us; the next run mends what it left
        };
        std::thread::spawn(move || {
            for signal in signals.forever() {
                if PLANS.load(Ordering::SeqCst) {
                    crate::plan::interrupt();
                } else {
                    tidy();
                    std::process::exit(128 + signal);
                }
            }
        });
    });
}
