//! Signals as bytes on a socket, so that one `poll` waits for them and for the clock.

use crate::agent::window::Window;
use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What the process is told.
pub struct Signals {
    terminate: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    reader: UnixStream,
    writer: UnixStream,
}

impl Signals {
    /// Listens from now on. What came while a predecessor handed over to us is not lost: it had
    /// blocked them ([`block`]).
    pub fn listen() -> Result<Signals> {
        let what = "cannot listen for signals";
        let (reader, writer) = UnixStream::pair().context(what)?;
        reader.set_nonblocking(true).context(what)?;
        writer.set_nonblocking(true).context(what)?;
        let terminate = Arc::new(AtomicBool::new(false));
        let reload = Arc::new(AtomicBool::new(false));
        for (signal, flag) in [
            (SIGTERM, &terminate),
            (SIGINT, &terminate),
            (SIGHUP, &reload),
        ] {
            signal_hook::flag::register(signal, Arc::clone(flag)).context(what)?;
            let wake = writer.try_clone().context(what)?;
            signal_hook::low_level::pipe::register(signal, wake).context(what)?;
        }
        ours().thread_unblock().context(what)?;
        Ok(Signals {
            terminate,
            reload,
            reader,
            writer,
        })
    }

    /// SIGTERM or SIGINT came.
    pub fn to_end(&self) -> bool {
        self.terminate.load(Ordering::SeqCst)
    }

    /// SIGHUP came since this was last asked.
    pub fn to_reload(&self) -> bool {
        self.reload.swap(false, Ordering::SeqCst)
    }

    /// A byte written here ends [`Signals::wait`].
    pub fn waker(&self) -> std::io::Result<UnixStream> {
        self.writer.try_clone()
    }

    /// Until a signal, somebody at the window, or `until`.
    pub fn wait(&self, until: Option<Instant>, window: Option<&Window>) {
        let timeout = match until {
            None => PollTimeout::NONE,
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            }
        };
        let fds = [Some(self.reader.as_fd()), window.map(|w| w.as_fd())];
        let fds = fds.into_iter().flatten();
        let mut fds: Vec<PollFd<'_>> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        if poll(&mut fds, timeout).is_ok() {
            let mut bytes = [0; 64];
            while let Ok(1..) = (&self.reader).read(&mut bytes) {}
        }
    }
}

/// Keeps them from this thread: they wait, also for the program that this process becomes.
pub fn block() -> nix::Result<()> {
    ours().thread_block()
}

fn ours() -> SigSet {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        set.add(signal);
    }
    set
}
