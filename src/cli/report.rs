//! What a running plan says, on the console.

use crate::plan::Report;
use crate::{err, out};
use std::io::Write;

/// Lines to standard output, warnings to standard error, tool output as it comes.
pub struct Console;

impl Report for Console {
    fn line(&mut self, text: &str) {
        out!("{text}");
    }

    fn warn(&mut self, text: &str) {
        err!("warning\t{text}");
    }

    fn tool_output(&mut self, bytes: &[u8]) {
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(bytes);
        let _ = stdout.flush();
    }
}
