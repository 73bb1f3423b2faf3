//! Running other programs: no shell, a fixed PATH and locale, a deadline, bounded output.

use crate::base::spent::{self, On};
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command as StdCommand, Stdio};
use std::time::{Duration, Instant};

/// Where programs are looked for: bundle.md 1.1, "Environment it fixes".
pub const PATH: &str = "/sbin:/bin:/usr/sbin:/usr/bin";

/// Most output that is kept of a child's stdout and stderr together.
const OUTPUT_LIMIT: usize = 4 << 20;

/// How a child ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Exit status; 128 + the signal's number when a signal ended it, as a shell would say.
    pub code: i32,
    /// Standard output and error as they came, at most 4 MiB, invalid UTF-8 replaced.
    pub output: String,
}

impl Outcome {
    /// Exit status 0.
    pub fn ok(&self) -> bool {
        self.code == 0
    }

    /// The last line that is not blank: what a person needs of a failed tool.
    pub fn last_line(&self) -> &str {
        self.output
            .lines()
            .rev()
            .map(str::trim)
            .find(|l| !l.is_empty())
            .unwrap_or("(no output)")
    }
}

/// Why a child could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Not in [`PATH`].
    #[error("`{0}` is not installed (looked in {PATH})")]
    Missing(String),
    /// The system refused to start it.
    #[error("cannot run `{program}`: {source}")]
    Start {
        /// What was to run.
        program: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It did not end in time and was killed.
    #[error("`{program}` did not end within {seconds} s and was stopped")]
    TimedOut {
        /// What ran.
        program: String,
        /// The deadline.
        seconds: u64,
    },
}

/// A program with its arguments, about to be run.
#[derive(Debug)]
pub struct Command {
    program: String,
    args: Vec<OsString>,
    env: Vec<(String, OsString)>,
    timeout: Duration,
    stdin: Option<Vec<u8>>,
    apart: bool,
    dir: PathBuf,
}

impl Command {
    /// `program` is a bare name looked up in [`PATH`], or an absolute path.
    pub fn new(program: &str) -> Self {
        Command {
            program: program.to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            timeout: Duration::from_secs(120),
            stdin: None,
            apart: false,
            dir: PathBuf::from("/"),
        }
    }

    /// The folder it begins in (`/` when not said).
    pub fn dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.dir = path.into();
        self
    }

    /// In a process group of its own: a Ctrl-C at the terminal is ours to answer, the child is not
    /// cut short by it. When its time is over, all of the group goes.
    pub fn apart(mut self) -> Self {
        self.apart = true;
        self
    }

    /// One argument. Never a secret: argv is visible to every user of the host.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Several arguments.
    pub fn args<I, S>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.args
            .extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// One environment variable on top of PATH and LC_ALL (nothing else is passed on).
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// How long it may take (120 s when not said).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What the child reads from its standard input (nothing when not said).
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// The command as a person would type it, for plans and messages.
    pub fn display(&self) -> String {
        let mut text = self.program.clone();
        for arg in &self.args {
            text.push(' ');
            text.push_str(&arg.to_string_lossy());
        }
        text
    }

    /// Runs it and keeps its output.
    pub fn run(self) -> Result<Outcome, CommandError> {
        self.run_with(|_| {})
    }

    /// Runs it, hands each piece of output on as it comes, and keeps it too.
    pub fn run_with(self, mut each: impl FnMut(&[u8])) -> Result<Outcome, CommandError> {
        let path =
            find(&self.program).ok_or_else(|| CommandError::Missing(self.program.clone()))?;
        let _waiting = spent::waiting(On::Tools);
        let start = |source| CommandError::Start {
            program: self.program.clone(),
            source,
        };
        let (mut reader, writer) = std::io::pipe().map_err(start)?;
        let mut command = StdCommand::new(path);
        command
            .args(&self.args)
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .current_dir(&self.dir)
            .stdin(if self.stdin.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(writer.try_clone().map_err(start)?)
            .stderr(writer);
        if self.apart {
            command.process_group(0);
        }
        let mut child = command.spawn().map_err(start)?;
        drop(command); // its ends of the pipe: reading ends when the child's do
        if let (Some(bytes), Some(mut pipe)) = (self.stdin.clone(), child.stdin.take()) {
            std::thread::spawn(move || {
                let _ = std::io::Write::write_all(&mut pipe, &bytes);
            });
        }
        // Read without waiting: what a child wrote before its end is in the pipe when its end is
        // seen, however busy the machine is.
        rustix::fs::fcntl_setfl(&reader, rustix::fs::OFlags::NONBLOCK)
            .map_err(|e| start(e.into()))?;
        let deadline = Instant::now() + self.timeout;
        let mut kept = Vec::new();
        let mut buffer = [0u8; 8192];
        // False when there is nothing more for now.
        let mut take = || match reader.read(&mut buffer) {
            Ok(n @ 1..) => {
                each(&buffer[..n]);
                let room = OUTPUT_LIMIT.saturating_sub(kept.len());
                kept.extend_from_slice(&buffer[..n.min(room)]);
                true
            }
            Err(e) => e.kind() == std::io::ErrorKind::Interrupted,
            Ok(_) => false,
        };
        // A grandchild (a daemon started by a service script) may hold the pipe open for ever:
        // the child's own end decides, not the end of its output.
        let status = loop {
            if let Some(status) = child.try_wait().map_err(start)? {
                // A chatty grandchild's words have no end.
                let enough = Instant::now() + Duration::from_secs(1);
                while take() && Instant::now() < enough {}
                break status;
            }
            if Instant::now() >= deadline {
                if self.apart {
                    end_group(child.id());
                }
                let _ = child.kill();
                let _ = child.wait();
                return Err(CommandError::TimedOut {
                    program: self.program,
                    seconds: self.timeout.as_secs(),
                });
            }
            if !take() {
                std::thread::sleep(Duration::from_millis(2));
            }
        };
        use std::os::unix::process::ExitStatusExt;
        Ok(Outcome {
            code: status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            output: String::from_utf8_lossy(&kept).into_owned(),
        })
    }
}

/// Ends a child that leads its group, with the scripts that it runs. It is not waited for yet, so
/// its number is its own still.
fn end_group(leader: u32) {
    if let Some(group) = i32::try_from(leader).ok().filter(|pid| *pid > 1) {
        let group = nix::unistd::Pid::from_raw(group);
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
    }
}

/// The full path of a program: itself when absolute, else the first hit in [`PATH`].
pub fn find(program: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let usable = |p: &PathBuf| {
        std::fs::metadata(p).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|p| p.is_absolute() && usable(p));
    }
    PATH.split(':')
        .map(|dir| PathBuf::from(dir).join(program))
        .find(usable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_output_come_back() {
        let done = Command::new("sh")
            .args(["-c", "echo one; echo two >&2; exit 7"])
            .run()
            .unwrap();
        assert_eq!(done.code, 7);
        assert!(done.output.contains("one") && done.output.contains("two"));
        assert_eq!(done.last_line(), "two");
    }

    #[test]
    fn environment_is_not_passed_on() {
        let done = Command::new("env").run().unwrap();
        assert!(!done.output.contains("CARGO"), "{}", done.output);
        assert!(done.output.contains("LC_ALL=C"));
    }

    #[test]
    fn missing_program_is_named() {
        let error = Command::new("no-such-program-here").run().unwrap_err();
        assert!(error.to_string().contains("no-such-program-here"));
    }

    #[test]
    fn a_hanging_child_is_stopped() {
        let error = Command::new("sleep")
            .arg("30")
            .timeout(Duration::from_millis(100))
            .run()
            .unwrap_err();
        assert!(matches!(error, CommandError::TimedOut { .. }));
    }

    #[test]
    fn one_that_is_apart_is_not_in_our_group_and_ends_with_its_children() {
        let group = |command: Command| {
            let said = command
                .args(["-d", " ", "-f", "5", "/proc/self/stat"])
                .run();
            said.unwrap().output.trim().parse::<i32>().unwrap()
        };
        let own = nix::unistd::getpgrp().as_raw();
        assert_eq!(group(Command::new("cut")), own);
        assert_ne!(group(Command::new("cut").apart()), own);
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let script = format!("sleep 60 & echo $! >{}; wait", pid.display());
        let command = Command::new("sh").args(["-c", &script]).apart();
        let error = command.timeout(Duration::from_millis(500)).run();
        assert!(matches!(error, Err(CommandError::TimedOut { .. })));
        let pid = std::fs::read_to_string(pid).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        let gone = || std::fs::read_to_string(&stat).map_or(true, |text| text.contains(") Z "));
        assert!((0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            gone()
        }));
    }

    #[test]
    fn a_daemon_left_behind_does_not_hold_us() {
        let begun = Instant::now();
        let done = Command::new("sh")
            .args(["-c", "sleep 3 & echo started"])
            .run()
            .unwrap();
        assert!(done.ok() && done.output.contains("started"));
        assert!(begun.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn the_last_words_are_never_lost() {
        // More than a pipe holds, and nothing at all, many times over.
        for _ in 0..20 {
            let done = Command::new("sh").args(["-c", "echo word"]).run().unwrap();
            assert_eq!(done.output, "word\n");
        }
        let big = Command::new("sh")
            .args([
                "-c",
                "head -c 300000 /dev/zero | tr '\\0' x; echo; echo end",
            ])
            .run()
            .unwrap();
        assert_eq!((big.output.len(), big.last_line()), (300_005, "end"));
    }

    #[test]
    fn a_chatty_daemon_left_behind_does_not_hold_us() {
        let begun = Instant::now();
        let chat = "(for i in $(seq 200); do echo on; sleep 0.05; done) & echo started";
        let done = Command::new("sh").args(["-c", chat]).run().unwrap();
        assert!(done.ok() && done.output.contains("started"));
        assert!(begun.elapsed() < Duration::from_secs(4));
    }

    #[test]
    fn stdin_is_fed() {
        let done = Command::new("cat").stdin("hello").run().unwrap();
        assert_eq!(done.output, "hello");
    }
}
