//! The socket on which the agent tells its figures: whoever may open it (mode 0660, in a folder of
//! the service account) gets one JSON object, and the connection is closed. Nothing is read from
//! the other side.

use crate::agent::figures::Snapshot;
use crate::agent::listen::rest_after;
use log::{debug, warn};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Askers served at one wake-up; the rest get their turn at the next.
const AT_ONCE: usize = 16;

/// The socket; its file goes with it.
pub struct Window {
    listener: UnixListener,
    path: PathBuf,
}

impl Window {
    /// Opens it at `path`, in place of what an earlier run left. An agent that cannot is still an
    /// agent: `None`, and a line in the log.
    pub fn open(path: &Path) -> Option<Window> {
        let opened = || -> std::io::Result<UnixListener> {
            match std::fs::remove_file(path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let listener = UnixListener::bind(path)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        match opened() {
            Ok(listener) => Some(Window {
                listener,
                path: path.to_owned(),
            }),
            Err(error) => {
                warn!(
                    "cannot open the socket `{}`: {error}; `omsagent status` will know less",
                    path.display()
                );
                None
            }
        }
    }

    /// Answers everybody who has asked. Never waits: an answer fits into the socket's buffer.
    pub fn serve(&self, snapshot: impl Fn() -> Snapshot) {
        for _ in 0..AT_ONCE {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) => return rest_after(&error),
            };
            let told = stream
                .set_nonblocking(true)
                .and_then(|()| serde_json::to_vec(&snapshot()).map_err(Into::into))
                .and_then(|json| stream.write_all(&json));
            if let Err(error) = told {
                debug!("somebody asked for figures and did not take them: {error}");
            }
        }
    }
}

impl AsFd for Window {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn whoever_connects_is_told_and_a_stale_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        drop(UnixListener::bind(&path).unwrap()); // leaves its file behind
        let window = Window::open(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let mut asker = UnixStream::connect(&path).unwrap();
        let silent = UnixStream::connect(&path).unwrap();
        window.serve(|| Snapshot {
            pid: 7,
            ..Snapshot::default()
        });
        let mut json = String::new();
        asker.read_to_string(&mut json).unwrap();
        let seen: Snapshot = serde_json::from_str(&json).unwrap();
        assert_eq!(seen.pid, 7);
        drop(silent);
        drop(window);
        assert!(!path.exists());
    }
}
