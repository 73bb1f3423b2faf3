//! Printing that survives a closed pipe: with `panic = "abort"`, `println!` into `head` would
//! end in a core dump.

use std::io::Write;

/// One line to standard output; a closed pipe is ignored.
pub fn line(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{text}");
    let _ = stdout.flush();
}

/// One line to standard error; a closed pipe is ignored.
pub fn err_line(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// `println!` without its panic.
#[macro_export]
macro_rules! out {
    ($($arg:tt)*) => { $crate::base::out::line(&format!($($arg)*)) };
}

/// `eprintln!` without its panic.
#[macro_export]
macro_rules! err {
    ($($arg:tt)*) => { $crate::base::out::err_line(&format!($($arg)*)) };
}
