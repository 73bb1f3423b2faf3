//! The file with our process id.

use crate::base::files;
use anyhow::Result;
use std::path::{Path, PathBuf};

/// Removed at the end if it is still ours.
pub struct PidFile {
    path: PathBuf,
    text: String,
}

impl PidFile {
    /// Writes it.
    pub fn write(path: &Path) -> Result<PidFile> {
        let text = format!("{}\n", std::process::id());
        files::write_atomic(path, text.as_bytes(), files::Look::mode(0o644))?;
        Ok(PidFile {
            path: path.to_owned(),
            text,
        })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Ok(Some(text)) = files::read_text(&self.path, 64)
            && text == self.text
        {
            let _ = files::remove(&self.path);
        }
    }
}
