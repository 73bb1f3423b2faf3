//! Printing that survives a closed pipe: with `panic = "abort"`, `println!` into `head` would
//! end in a core dump.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where something is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Sees everything that is shown, just before it is.
static TAP: OnceLock<fn(Stream, &[u8])> = OnceLock::new();
/// The same, beside it.
static COPY: OnceLock<fn(Stream, &[u8])> = OnceLock::new();
static OUT_IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// Passes everything that is shown from here on to `tap`, too. Only the first one counts.
pub fn tap(tap: fn(Stream, &[u8])) {
    let _ = TAP.set(tap);
}

/// Passes it to `copy`, too; beside what [`tap`] was given. Only the first one counts.
pub fn copy(copy: fn(Stream, &[u8])) {
    let _ = COPY.set(copy);
}

/// From here on standard output is a machine's: what a person reads goes to standard error.
pub fn keep_stdout_free() {
    OUT_IS_TAKEN.store(true, Ordering::Relaxed);
}

/// One line to standard output; a closed pipe is ignored.
pub fn line(text: &str) {
    bytes(format!("{text}\n").as_bytes());
}

/// Bytes to standard output as they are; a closed pipe is ignored.
pub fn bytes(bytes: &[u8]) {
    show(Stream::Out, bytes);
}

/// One line to standard error; a closed pipe is ignored.
pub fn err_line(text: &str) {
    show(Stream::Err, format!("{text}\n").as_bytes());
}

/// One line to standard output, past [`keep_stdout_free`]: for the machine.
pub fn machine_line(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{text}");
    let _ = stdout.flush();
}

fn show(stream: Stream, bytes: &[u8]) {
    for tap in [&TAP, &COPY].into_iter().filter_map(OnceLock::get) {
        tap(stream, bytes);
    }
    if stream == Stream::Err || OUT_IS_TAKEN.load(Ordering::Relaxed) {
        let _ = std::io::stderr().lock().write_all(bytes);
        return;
    }
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(bytes);
    let _ = stdout.flush();
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
