//! Asking running agents for their figures, all at once, with one deadline.

use crate::agent::figures::Snapshot;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Larger than any answer of ours.
const LIMIT: u64 = 256 << 10;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Silent {
    /// No socket: it does not run, or is an older one.
    #[error("it has no status socket")]
    Absent,
    /// Only root and the service account may ask.
    #[error("only root may ask it")]
    Forbidden,
    /// Nobody listens on the socket any more.
    #[error("nobody answers on its status socket")]
    Refused,
    /// It did not answer in time.
    #[error("it does not answer on its status socket in time")]
    Stuck,
    /// It said something else than figures.
    #[error("its answer cannot be read")]
    Unreadable,
}

/// The answers of the agents behind these sockets, in this order; nobody is waited for longer than
/// `patience`.
pub fn ask(sockets: &[PathBuf], patience: Duration) -> Vec<Result<Snapshot, Silent>> {
    let deadline = Instant::now() + patience;
    let (tell, told) = mpsc::channel();
    for (number, path) in sockets.iter().enumerate() {
        let (tell, path) = (tell.clone(), path.clone());
        // A full backlog would hold the connecting thread for ever: it is left behind then.
        std::thread::spawn(move || {
            // Nobody listens any more when it comes too late.
            let _ = tell.send((number, ask_one(&path, patience)));
        });
    }
    drop(tell);
    let mut answers = vec![Err(Silent::Stuck); sockets.len()];
    for _ in sockets {
        let left = deadline.saturating_duration_since(Instant::now());
        match told.recv_timeout(left) {
            Ok((number, answer)) => answers[number] = answer,
            Err(_) => break,
        }
    }
    answers
}

fn ask_one(path: &Path, patience: Duration) -> Result<Snapshot, Silent> {
    use std::io::ErrorKind as K;
    let why = |e: std::io::Error| match e.kind() {
        K::NotFound | K::NotADirectory => Silent::Absent,
        K::PermissionDenied => Silent::Forbidden,
        K::ConnectionRefused => Silent::Refused,
        _ => Silent::Stuck,
    };
    let stream = UnixStream::connect(path).map_err(why)?;
    stream.set_read_timeout(Some(patience)).map_err(why)?;
    let mut json = Vec::new();
    stream.take(LIMIT).read_to_end(&mut json).map_err(why)?;
    serde_json::from_slice(&json).map_err(|_| Silent::Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::window::Window;
    use std::os::unix::net::UnixListener;

    #[test]
    fn who_answers_who_does_not_and_how_long_that_takes() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let window = Window::open(&at("good")).unwrap();
        let _stuck = UnixListener::bind(at("stuck")).unwrap();
        drop(UnixListener::bind(at("dead")).unwrap());
        let server = std::thread::spawn(move || {
            let until = Instant::now() + Duration::from_secs(5);
            let asked = std::sync::atomic::AtomicBool::new(false);
            while Instant::now() < until && !asked.load(std::sync::atomic::Ordering::SeqCst) {
                window.serve(|| {
                    asked.store(true, std::sync::atomic::Ordering::SeqCst);
                    Snapshot {
                        pid: 9,
                        ..Snapshot::default()
                    }
                });
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let begun = Instant::now();
        let sockets = ["good", "stuck", "dead", "none"].map(at);
        let answers = ask(&sockets, Duration::from_millis(1500));
        assert_eq!(answers[0].as_ref().unwrap().pid, 9);
        assert_eq!(answers[1], Err(Silent::Stuck));
        assert_eq!(answers[2], Err(Silent::Refused));
        assert_eq!(answers[3], Err(Silent::Absent));
        assert!(begun.elapsed() < Duration::from_secs(4));
        server.join().unwrap();
    }
}
