//! Ctrl-C and SIGTERM: before anything is changed they end us, tidily; while a plan runs the
//! current step ends, then all of it is taken back.

use nix::sys::termios::{self, SetArg, Termios};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError};

static PLANS: AtomicBool = AtomicBool::new(false);
static WATCH: Once = Once::new();
static TERMINAL: Mutex<Option<Termios>> = Mutex::new(None);
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Work folders made after [`watch`] was called go with us too. Named as seen from outside of an
/// image: the thread that answers signals is there.
pub fn also_remove(folder: PathBuf) {
    let mut folders = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
    folders.push(folder);
}

/// How the terminal was before it was told to hide what is typed. While it is set, a signal that
/// ends us sets the terminal back first.
pub fn terminal_was(before: Option<Termios>) {
    *TERMINAL.lock().unwrap_or_else(PoisonError::into_inner) = before;
}

fn restore_terminal() {
    let before = TERMINAL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(before) = before.as_ref() {
        let _ = termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, before);
    }
}

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
                    restore_terminal();
                    tidy();
                    for folder in FOLDERS
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .iter()
                    {
                        let _ = crate::base::files::remove_tree(folder);
                    }
                    std::process::exit(128 + signal);
                }
            }
        });
    });
}
