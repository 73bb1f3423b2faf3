//! The options about how a run speaks: taken out of the command line, wherever they stand, before
//! the older grammar of [`super::args`] reads the rest.

use super::progress::When;
use std::ffi::OsString;
use std::path::PathBuf;

/// Options of [`super::args`] that take the next word as their value.
const VALUED: &[&str] = &[
    "-w",
    "--id",
    "-s",
    "--shared",
    "--shared-key-file",
    "-d",
    "--domain",
    "-p",
    "--proxy",
    "-a",
    "--azure-resource",
    "-m",
    "--multi-homing-marker",
    "--ca-file",
    "--root",
    "--extract-script",
    "--extract-binary",
    "--lock-timeout",
];

const MODES: &[&str] = &[
    "--install",
    "--upgrade",
    "--remove",
    "--purge",
    "--extract",
    "--version-check",
    "--version",
    "--help",
    "-h",
    "-?",
];

/// How a run speaks.
#[derive(Debug, Default, Clone)]
pub struct Manner {
    /// `--json`
    pub json: bool,
    /// `--progress`
    pub progress: Option<When>,
    /// `--log`
    pub log: Option<PathBuf>,
    /// `--detailed-exitcode`
    pub detailed_exitcode: bool,
    /// `--answers`
    pub answers: Option<PathBuf>,
    /// `--explain`
    pub explain: Option<String>,
    /// `--interactive`
    pub interactive: bool,
    /// `--yes`
    pub yes: bool,
}

impl Manner {
    /// What is said here, and where nothing is said, there.
    pub fn over(self, there: Manner) -> Manner {
        Manner {
            json: self.json || there.json,
            progress: self.progress.or(there.progress),
            log: self.log.or(there.log),
            detailed_exitcode: self.detailed_exitcode || there.detailed_exitcode,
            answers: self.answers,
            explain: self.explain,
            interactive: self.interactive || there.interactive,
            yes: self.yes || there.yes,
        }
    }
}

/// Parts the words: the manner, what is left for the parser, and a line for a person when one of
/// ours is not right. That is told in the manner that was asked for, so all words are read first.
pub fn part(words: &[OsString]) -> (Manner, Vec<OsString>, Option<String>) {
    let mut manner = Manner::default();
    let mut rest = Vec::new();
    let mut problem = None;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        let mut value = || {
            let value = words.next().filter(|v| !v.is_empty());
            if value.is_none() && problem.is_none() {
                problem = Some(format!(
                    "Option '{text}' needs a value; use --help for usage"
                ));
            }
            value
        };
        match text.as_ref() {
            "--json" => manner.json = true,
            "--detailed-exitcode" => manner.detailed_exitcode = true,
            "--interactive" => manner.interactive = true,
            "--yes" => manner.yes = true,
            "--log" => manner.log = value().map(PathBuf::from).or(manner.log),
            "--answers" => manner.answers = value().map(PathBuf::from).or(manner.answers),
            "--explain" => {
                let code = value().map(|v| v.to_string_lossy().into_owned());
                manner.explain = code.or(manner.explain);
            }
            "--progress" => {
                if let Some(word) = value() {
                    manner.progress = When::parse(&word.to_string_lossy());
                    if manner.progress.is_none() && problem.is_none() {
                        let text = "Option '--progress' takes auto, always or never";
                        problem = Some(text.to_owned());
                    }
                }
            }
            other => {
                rest.push(word.clone());
                if VALUED.contains(&other) {
                    rest.extend(words.next().cloned());
                }
            }
        }
    }
    (manner, rest, problem)
}

/// Does one of `options` stand among the words, not as another's value?
pub fn has(words: &[OsString], options: &[&str]) -> bool {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        if options.contains(&text.as_ref()) {
            return true;
        }
        if VALUED.contains(&text.as_ref()) {
            words.next();
        }
    }
    false
}

/// Does any of the modes, or a question that ends the run?
pub fn has_mode(words: &[OsString]) -> bool {
    has(words, MODES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parted(words: &[&str]) -> (Manner, Vec<String>, Option<String>) {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let (manner, rest, problem) = part(&words);
        let rest = rest.iter().map(|w| w.to_string_lossy().into_owned());
        (manner, rest.collect(), problem)
    }

    #[test]
    fn ours_are_taken_wherever_they_stand_and_values_stay_values() {
        let (manner, rest, problem) = parted(&[
            "--json",
            "--upgrade",
            "-m",
            "--yes",
            "--log",
            "/l",
            "-w",
            "x",
            "--progress",
            "never",
        ]);
        assert!(manner.json && !manner.yes && problem.is_none());
        assert_eq!(manner.log, Some("/l".into()));
        assert_eq!(manner.progress, Some(When::Never));
        assert_eq!(rest, ["--upgrade", "-m", "--yes", "-w", "x"]);
    }

    #[test]
    fn a_missing_or_wrong_value_is_told_in_the_manner_asked_for() {
        for words in [
            &["--log"][..],
            &["--progress", "loud"],
            &["--answers", ""],
            &["--explain"],
        ] {
            let (manner, _, problem) = parted(&[words, &["--json"]].concat());
            // `--log --json` takes the word as its value, as every other option does.
            assert!(manner.json || problem.is_none(), "{words:?}");
            assert!(parted(words).2.is_some(), "{words:?}");
        }
    }

    #[test]
    fn every_valued_option_is_one_of_the_parsers() {
        for option in VALUED {
            let around = super::super::args::Surroundings {
                argv0: "b",
                version: "1",
                root: true,
                key_variable: None,
                ca_variable: None,
                stdin: &mut std::io::empty(),
                now: &mut super::super::immediate::OnThisHost { argv0: "b" },
            };
            let stopped = super::super::args::parse(&[OsString::from(option)], around);
            let text = stopped.unwrap_err().err.unwrap();
            assert!(text.contains("needs a value"), "{option}: {text}");
        }
    }

    #[test]
    fn a_mode_as_a_value_is_none() {
        let has = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            has_mode(&words)
        };
        assert!(has(&["-w", "x", "--purge"]));
        assert!(!has(&["-m", "--purge"]));
    }
}
