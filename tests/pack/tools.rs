//! The programs these tests need, and the binary they test.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The time all packages here carry.
pub const TIME: &str = "1700000000";

/// Is the program there? When not: loudly skipped, and a failure where `CI` is set.
pub fn have(program: &str) -> bool {
    let found = omsagent::base::command::find(program).is_some();
    if !found {
        eprintln!("### NOT TESTED: `{program}` is not installed");
        assert!(
            std::env::var_os("CI").is_none_or(|v| v != "true"),
            "`{program}` must be installed where CI=true"
        );
    }
    found
}

/// Runs a program to its end, with nothing on its standard input.
pub fn run(program: impl AsRef<Path>, args: &[&str]) -> Output {
    Command::new(program.as_ref())
        .args(args)
        .stdin(Stdio::null())
        .env("LC_ALL", "C")
        .env("SOURCE_DATE_EPOCH", TIME)
        .output()
        .unwrap_or_else(|e| panic!("{}: {e}", program.as_ref().display()))
}

/// As [`run`], when it must succeed; its standard output.
pub fn must(program: impl AsRef<Path>, args: &[&str]) -> String {
    let done = run(program.as_ref(), args);
    assert!(
        done.status.success(),
        "{} {args:?}: {}\n{}\n{}",
        program.as_ref().display(),
        done.status,
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// The binary under test.
pub fn omsagent() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_omsagent"))
}

/// A program to be packed that is small and does nothing, without libraries where a C compiler
/// can make it so.
pub fn nothing(dir: &Path) -> PathBuf {
    let path = dir.join("nothing");
    if omsagent::base::command::find("cc").is_some() {
        let source = dir.join("nothing.c");
        std::fs::write(&source, "int main(void) { return 0; }\n").unwrap();
        let args = ["-static", "-s", "-o"];
        let done = Command::new("cc")
            .args(args)
            .arg(&path)
            .arg(&source)
            .status();
        if done.is_ok_and(|s| s.success()) {
            return path;
        }
    }
    std::fs::copy("/bin/true", &path).unwrap();
    path
}
