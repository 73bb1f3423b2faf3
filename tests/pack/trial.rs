//! A bundle to be tried, the shells to try it in, and the two ways it may end.

use crate::tools::{have, must, omsagent};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Says how it was called and ends with 7. It refuses to run below a folder called `noexec`.
const RUNNER: &str = r#"#!/bin/sh
case $0 in */noexec/*) exit 126 ;; esac
if [ "$1" = --stub-probe ]; then echo omsb-probe-ok; exit 0; fi
IFS= read -r line <&8
echo "self=$OMSB_SELF"
echo "name=${0##*/}"
echo "beside=$([ "$OMSB_RUNDIR/omsbundle" = "$0" ] && echo yes)"
echo "fd8=$line"
echo "pid=$$"
echo "umask=$(umask)"
for arg; do echo "arg=$arg"; done
exit 7
"#;

/// Words that a careless script would split, expand or lose.
pub const WORDS: [&str; 8] = ["--upgrade", "-w", "a b", "", "*", "$HOME", "--", "-s"];

/// Shells that must be there, then others that are tried where they are.
const SHELLS: [&[&str]; 10] = [
    &["dash"],
    &["bash"],
    &["busybox", "sh"],
    &["bash", "--posix"],
    &["dash", "-eu"],
    &["mksh"],
    &["zsh"],
    &["ksh93"],
    &["yash"],
    &["posh"],
];

pub fn shells() -> impl Iterator<Item = &'static [&'static str]> {
    SHELLS.into_iter().enumerate().filter_map(|(i, shell)| {
        let there = if i < 5 {
            have(shell[0])
        } else {
            omsagent::base::command::find(shell[0]).is_some()
        };
        there.then_some(shell)
    })
}

/// A folder with a bundle called `b.sh` around `runner`, for this machine.
pub struct Trial {
    pub dir: tempfile::TempDir,
    pub bundle: PathBuf,
}

impl Trial {
    pub fn new(runner: &Path) -> Trial {
        Trial::of(runner, std::env::consts::ARCH)
    }

    pub fn of(runner: &Path, arch: &str) -> Trial {
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join("b.sh");
        let runner = format!("{arch}={}", runner.display());
        let document = dir.path().join("text");
        std::fs::write(&document, vec![b'x'; 10_000]).unwrap();
        let (out, document) = (bundle.to_str().unwrap(), document.to_str().unwrap());
        let args = [
            "pack",
            "build",
            "--runner",
            &runner,
            "--licence",
            document,
            "--out",
            out,
        ];
        must(omsagent(), &args);
        std::fs::create_dir(dir.path().join("tmp")).unwrap();
        Trial { dir, bundle }
    }

    pub fn telling() -> Trial {
        let dir = tempfile::tempdir().unwrap();
        let runner = dir.path().join("runner");
        std::fs::write(&runner, RUNNER).unwrap();
        Trial::new(&runner)
    }

    pub fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.bundle).unwrap()
    }

    /// Another file beside the bundle, executable.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .current_dir(self.dir.path())
            .env("OMSB_TMPDIR", self.dir.path().join("tmp"))
            .stdin(Stdio::null());
        command
    }

    /// Runs `words` and takes away what the runner, which does not, would.
    pub fn run(&self, words: &[&str]) -> Output {
        let done = self.command(words).output().unwrap();
        for left in std::fs::read_dir(self.dir.path().join("tmp")).unwrap() {
            std::fs::remove_dir_all(left.unwrap().path()).unwrap();
        }
        done
    }
}

pub fn out(done: &Output) -> String {
    String::from_utf8_lossy(&done.stdout).into_owned()
}

pub fn err(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

/// The runner was reached, with everything it needs.
pub fn reached(done: &Output, typed: &str, words: &[&str]) {
    let said = out(done);
    assert_eq!(done.status.code(), Some(7), "{said}{}", err(done));
    for line in [
        format!("self={typed}"),
        "name=omsbundle".into(),
        "beside=yes".into(),
        "fd8=#!/bin/sh".into(),
        "umask=0022".into(),
    ] {
        let same = said.replace("umask=022\n", "umask=0022\n");
        assert!(same.lines().any(|l| l == line), "{line}\n{said}");
    }
    let got: Vec<&str> = said
        .lines()
        .filter_map(|l| l.strip_prefix("arg="))
        .collect();
    assert_eq!(got, words, "{said}");
    assert_eq!(err(done), "");
}

/// The runner was not reached, and the exit code says so.
pub fn refused(done: &Output, code: i32, message: &str, case: &str) {
    assert!(!out(done).contains("self="), "{case}: {}", out(done));
    assert_eq!(done.status.code(), Some(code), "{case}: {}", err(done));
    assert!(err(done).contains(message), "{case}: {}", err(done));
}
