//! Questions to a person at a terminal: what `--interactive` finds missing, and whether to go on.
//! Nothing here is reached when standard input is not a terminal.

use super::json::Planned;
use super::manner;
use crate::base::ids::WorkspaceId;
use crate::base::secret::Secret;
use crate::cli::signals;
use nix::sys::termios::{self, LocalFlags, SetArg};
use std::ffi::OsString;
use std::io::{BufRead, IsTerminal, Write};
use zeroize::Zeroizing;

/// Is there somebody who could answer?
pub fn somebody_is_there() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Longest answer that is read.
const LIMIT: u64 = 4096;

/// Where questions go to and answers come from.
pub trait Person {
    /// An answer without its line end; `None` when there will be no more.
    fn ask(&mut self, question: &str) -> Option<String>;
    /// The same, not shown while it is typed.
    fn ask_secret(&mut self, question: &str) -> Option<Secret>;
    /// A line to read.
    fn tell(&mut self, text: &str);
}

/// Whoever sits at the terminal. The questions are on standard error: standard output may be
/// somebody else's.
pub struct AtTerminal;

impl Person for AtTerminal {
    fn ask(&mut self, question: &str) -> Option<String> {
        let _ = write!(std::io::stderr().lock(), "{question} ");
        read_line().map(|line| line.trim().to_owned())
    }

    fn ask_secret(&mut self, question: &str) -> Option<Secret> {
        let _ = write!(std::io::stderr().lock(), "{question} ");
        let line = {
            let _quiet = NoEcho::begin();
            read_line()
        };
        self.tell("");
        line.map(|line| Secret::new(line.trim()))
    }

    fn tell(&mut self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }
}

fn read_line() -> Option<Zeroizing<String>> {
    // Of its final size: growing would leave copies of a key behind.
    let mut line = Zeroizing::new(String::with_capacity(LIMIT as usize));
    let read = std::io::Read::take(std::io::stdin().lock(), LIMIT).read_line(&mut line);
    read.ok().filter(|n| *n > 0).map(|_| line)
}

/// The terminal does not show what is typed until this is dropped.
struct NoEcho(Option<termios::Termios>);

impl NoEcho {
    fn begin() -> NoEcho {
        let stdin = std::io::stdin();
        let before = termios::tcgetattr(&stdin).ok();
        if let Some(before) = &before {
            signals::terminal_was(Some(before.clone()));
            let mut quiet = before.clone();
            quiet.local_flags.remove(LocalFlags::ECHO);
            let _ = termios::tcsetattr(&stdin, SetArg::TCSANOW, &quiet);
        }
        NoEcho(before)
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, before);
            signals::terminal_was(None);
        }
    }
}

/// Completes `words`; the key comes apart from them. `None`: the person left.
pub fn complete(
    person: &mut dyn Person,
    words: &mut Vec<OsString>,
    has_key: bool,
) -> Option<Option<Secret>> {
    if !manner::has_mode(words) {
        let mode = choose_mode(person)?;
        words.push(format!("--{mode}").into());
    }
    if !manner::has(words, &["--install", "--upgrade"]) {
        return Some(None);
    }
    if !manner::has(words, &["-w", "--id"]) {
        let Some(id) = ask_id(person)? else {
            return Some(None);
        };
        words.extend(["--id".into(), id.as_str().into()]);
        if !manner::has(words, &["-d", "--domain"]) {
            let domain = person.ask("Domain of the service (empty: opinsights.azure.com):")?;
            if !domain.is_empty() {
                words.extend(["--domain".into(), domain.into()]);
            }
        }
    }
    if has_key || manner::has(words, &["-s", "--shared", "--shared-key-file"]) {
        return Some(None);
    }
    loop {
        let key = person.ask_secret("Shared key of the workspace (not shown):")?;
        match crate::wire::signature::decode_key(&key) {
            Ok(_) => return Some(Some(key)),
            Err(e) => person.tell(&format!("That is no shared key: {e}.")),
        }
    }
}

fn choose_mode(person: &mut dyn Person) -> Option<&'static str> {
    loop {
        let answer =
            person.ask("What shall be done? upgrade (install or upgrade), remove, purge:")?;
        match answer.to_lowercase().as_str() {
            "upgrade" | "install" | "u" | "i" | "" => return Some("upgrade"),
            "remove" | "r" => return Some("remove"),
            "purge" | "p" => return Some("purge"),
            _ => person.tell("Type upgrade, remove or purge."),
        }
    }
}

fn ask_id(person: &mut dyn Person) -> Option<Option<WorkspaceId>> {
    loop {
        let answer = person.ask("Workspace id (empty: do not onboard):")?;
        if answer.is_empty() {
            return Some(None);
        }
        match answer.parse() {
            Ok(id) => return Some(Some(id)),
            Err(e) => person.tell(&format!("That is no workspace id: {e}.")),
        }
    }
}

/// Shows what would be done and asks whether to. No answer is a no.
pub fn go_on(person: &mut dyn Person, plan: &[Planned]) -> bool {
    for step in plan {
        let mark = if step.pending { "will" } else { "  (done)" };
        person.tell(&format!("{mark} {}", step.what));
    }
    yes(person, "Go on? [y/N]")
}

/// Asks before everything is deleted. No answer is a no.
pub fn really_purge(person: &mut dyn Person) -> bool {
    person
        .tell("--purge deletes the package and every workspace's settings, keys, queues and logs.");
    yes(person, "Go on? [y/N]")
}

fn yes(person: &mut dyn Person, question: &str) -> bool {
    let answer = person.ask(question).unwrap_or_default().to_lowercase();
    matches!(answer.as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives the answers it was given, and keeps what it was told.
    struct Scripted(Vec<&'static str>, Vec<String>);

    impl Person for Scripted {
        fn ask(&mut self, question: &str) -> Option<String> {
            self.1.push(question.into());
            (!self.0.is_empty()).then(|| self.0.remove(0).into())
        }
        fn ask_secret(&mut self, question: &str) -> Option<Secret> {
            self.ask(question).map(Secret::new)
        }
        fn tell(&mut self, text: &str) {
            self.1.push(text.into());
        }
    }

    const ID: &str = "f8ef8ef0-6a2c-4f5c-8f0e-1f8e2d9c0b11";
    const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

    fn completed(typed: &[&str], answers: &[&'static str]) -> Option<(String, Option<String>)> {
        let mut words: Vec<OsString> = typed.iter().map(OsString::from).collect();
        let mut person = Scripted(answers.to_vec(), Vec::new());
        let key = complete(&mut person, &mut words, false)?;
        assert!(person.0.is_empty(), "not asked for: {:?}", person.0);
        let words: Vec<String> = words.iter().map(|w| w.to_string_lossy().into()).collect();
        Some((words.join(" "), key.map(|k| k.expose().into())))
    }

    #[test]
    fn only_what_is_missing_is_asked_for() {
        let all = completed(
            &[],
            &["what?", "u", "no-guid", ID, "hub.example", "no key!", KEY],
        );
        let (words, key) = all.unwrap();
        assert_eq!(words, format!("--upgrade --id {ID} --domain hub.example"));
        assert_eq!(key.as_deref(), Some(KEY));
        let bare = completed(&["--install"], &[""]).unwrap();
        assert_eq!(bare, ("--install".into(), None));
        let full = ["--upgrade", "-w", ID, "-s", "k"];
        assert_eq!(completed(&full, &[]).unwrap().1, None);
        assert_eq!(completed(&["--purge"], &[]).unwrap().0, "--purge");
        assert_eq!(
            completed(&["--upgrade", "-w", ID], &[KEY])
                .unwrap()
                .1
                .unwrap(),
            KEY
        );
    }

    #[test]
    fn whoever_leaves_changes_nothing() {
        assert!(completed(&[], &[]).is_none());
        assert!(completed(&["--upgrade"], &[ID, ""]).is_none());
        for (answer, want) in [
            ("y", true),
            ("YES", true),
            ("", false),
            ("no", false),
            ("x", false),
        ] {
            assert_eq!(go_on(&mut Scripted(vec![answer], Vec::new()), &[]), want);
            assert_eq!(really_purge(&mut Scripted(vec![answer], Vec::new())), want);
        }
        assert!(!go_on(&mut Scripted(Vec::new(), Vec::new()), &[]));
    }
}
