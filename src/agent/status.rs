//! `ODSIngestion.status` and its like: what other tools look at to learn whether data goes out
//! (protocol.md 3.2).

use crate::base::files::{Look, write_atomic};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An unchanged status is written again after this time, so that its age tells something.
const REFRESH: Duration = Duration::from_secs(60);

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The service took it.
    Sent,
    /// It will be tried again.
    Retry,
}

/// One status file, shared by the outputs of one form.
pub struct StatusFile {
    path: PathBuf,
    operation: &'static str,
    last: Mutex<Option<(Outcome, Instant)>>,
}

impl StatusFile {
    /// For `folder`/OPERATION.status; written at the first attempt.
    pub fn new(folder: &Path, operation: &'static str) -> Self {
        StatusFile {
            path: folder.join(format!("{operation}.status")),
            operation,
            last: Mutex::new(None),
        }
    }

    /// Notes an attempt; best effort.
    pub fn note(&self, outcome: Outcome) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|(o, at)| o == outcome && at.elapsed() < REFRESH) {
            return;
        }
        *last = Some((outcome, Instant::now()));
        let (success, message) = match outcome {
            Outcome::Sent => ("true", "Sending success"),
            Outcome::Retry => ("false", "Retryable exception"),
        };
        let text = format!(
            "{{ \"operation\": \"{}\", \"success\": \"{success}\", \"message\": \"{message}\" }}",
            self.operation
        );
        if let Err(error) = write_atomic(&self.path, text.as_bytes(), Look::mode(0o664)) {
            log::debug!("{error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_the_original_says() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ODSIngestion.status");
        let status = StatusFile::new(dir.path(), "ODSIngestion");
        assert!(!path.exists());
        status.note(Outcome::Retry);
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            r#"{ "operation": "ODSIngestion", "success": "false", "message": "Retryable exception" }"#
        );
        status.note(Outcome::Sent);
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            r#"{ "operation": "ODSIngestion", "success": "true", "message": "Sending success" }"#
        );
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o664);
    }
}
