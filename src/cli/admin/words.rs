//! The words of omsadmin.sh, read as its getopts did (bundle.md 1.6): short options cluster, the
//! first word that is no option ends them. Our own long options stand alone.

use crate::base::secret::{Secret, shown_word};
use crate::cli::bundle::args::read_key;
use crate::cli::grammar::{Grammar, Section};
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What was typed.
#[derive(Default)]
pub struct Words {
    /// `-w`
    pub id: Option<String>,
    /// `-s`, `--shared-key-file` or `OMSAGENT_SHARED_KEY`
    pub key: Option<Secret>,
    /// `-d`
    pub domain: Option<String>,
    /// `-p`; may hold a password
    pub proxy: Option<Secret>,
    /// `-u`
    pub proxy_user: Option<String>,
    /// `-a`
    pub azure_resource: Option<String>,
    /// `-m`
    pub marker: Option<String>,
    /// `--ca-file` or `OMSAGENT_CA_FILE`
    pub ca_file: Option<PathBuf>,
    /// `-x`
    pub remove: Option<String>,
    /// `-X`
    pub remove_all: bool,
    /// `-l`
    pub list: bool,
    /// `-U`
    pub update: bool,
    /// `-R`
    pub rebuild: bool,
    /// `-o`
    pub ask_port: bool,
    /// `-v`
    pub verbose: bool,
    /// `-w`, `-s` or `-d` was given.
    pub onboarding: bool,
    /// Two or more words that are no options: said and left alone (R19).
    pub stray: Vec<String>,
    /// Anything but `-v` and where to trust.
    asked: bool,
}

impl Words {
    /// Nothing, or only `-v`: the onboarding file is meant.
    pub fn asks_nothing(&self) -> bool {
        !self.asked
    }

    /// Does it only look? Then any of the two callers may.
    pub fn only_looks(&self) -> bool {
        let changes = self.onboarding
            || self.proxy.is_some()
            || self.proxy_user.is_some()
            || self.update
            || self.rebuild
            || self.remove.is_some()
            || self.remove_all;
        self.asked && !changes
    }
}

/// An end before any work.
#[derive(Debug)]
pub enum Early {
    /// `-h`
    Help,
    /// The exit code, and a line; the usage follows.
    Refused(u8, String),
}

/// Reads the words after the tool's name.
pub fn parse(words: &[OsString]) -> Result<Words, Early> {
    let mut seen = Words::default();
    let mut rest = words.iter().map(|w| w.to_string_lossy().into_owned());
    while let Some(word) = rest.next() {
        let mut next = |option: &str| {
            rest.next()
                .ok_or_else(|| Early::Refused(0, format!("No arg for {option} option")))
        };
        match word.as_str() {
            "--ca-file" => seen.ca_file = Some(next("--ca-file")?.into()),
            "--shared-key-file" => {
                let path = PathBuf::from(next("--shared-key-file")?);
                seen.key = Some(key_from_file(&path)?);
                seen.onboarding = true;
                seen.asked = true;
            }
            "--help" => return Err(Early::Help),
            "--" => seen.stray.extend(rest.by_ref()),
            _ if word.starts_with("--") => {
                let shown = shown_word(&word);
                return Err(Early::Refused(0, format!("Illegal option {shown}")));
            }
            _ if word == "-" || !word.starts_with('-') => {
                seen.stray.push(word);
                seen.stray.extend(rest.by_ref());
            }
            _ => short(&word, &mut next, &mut seen)?,
        }
    }
    if let [word] = seen.stray.as_slice() {
        let shown = shown_word(word);
        return Err(Early::Refused(
            2,
            format!("Parsing error: '{shown}' is unparsed"),
        ));
    }
    seen.asked |= !seen.stray.is_empty();
    from_environment(&mut seen);
    Ok(seen)
}

fn from_environment(seen: &mut Words) {
    if seen.id.is_some() && seen.key.is_none() {
        let variable = std::env::var("OMSAGENT_SHARED_KEY").ok();
        seen.key = variable
            .filter(|v| !v.is_empty())
            .map(|v| Secret::new(v.trim()));
    }
    if seen.ca_file.is_none() {
        let variable = std::env::var_os("OMSAGENT_CA_FILE");
        seen.ca_file = variable.filter(|v| !v.is_empty()).map(PathBuf::from);
    }
}

fn short(
    word: &str,
    next: &mut dyn FnMut(&str) -> Result<String, Early>,
    seen: &mut Words,
) -> Result<(), Early> {
    for (at, letter) in word[1..].char_indices() {
        seen.asked |= letter != 'v';
        match letter {
            'h' | '?' => return Err(Early::Help),
            'v' => seen.verbose = true,
            'l' => seen.list = true,
            'U' => seen.update = true,
            'R' => seen.rebuild = true,
            'o' => seen.ask_port = true,
            'X' => seen.remove_all = true,
            'w' | 's' | 'd' | 'p' | 'u' | 'a' | 'm' | 'x' => {
                let glued = &word[1 + at + letter.len_utf8()..];
                let value = match glued {
                    "" => next(&format!("-{letter}"))?,
                    glued => glued.to_owned(),
                };
                return take(letter, value, seen);
            }
            _ => return Err(Early::Refused(0, format!("Illegal option -{letter}"))),
        }
    }
    Ok(())
}

fn take(letter: char, value: String, seen: &mut Words) -> Result<(), Early> {
    let value = Some(value).filter(|v| !v.is_empty());
    seen.onboarding |= matches!(letter, 'w' | 's' | 'd');
    match letter {
        'w' => seen.id = value,
        's' => {
            seen.key = match value.as_deref() {
                Some("-") => Some(key_from(&mut std::io::stdin(), "standard input")?),
                _ => value.map(Secret::new),
            }
        }
        'd' => seen.domain = value,
        'p' => seen.proxy = value.map(Secret::new),
        'u' => seen.proxy_user = value,
        'a' => seen.azure_resource = value,
        'm' => seen.marker = value,
        _ => seen.remove = value,
    }
    Ok(())
}

fn key_from(reader: &mut dyn Read, from: &str) -> Result<Secret, Early> {
    read_key(reader, from).map_err(|text| Early::Refused(2, format!("error\t{text}")))
}

fn key_from_file(path: &Path) -> Result<Secret, Early> {
    let from = format!("`{}`", path.display());
    let cannot = |e| {
        let text = format!("error\tcannot read the shared key from {from}: {e}");
        Early::Refused(2, text)
    };
    let mut file = std::fs::File::open(path).map_err(cannot)?;
    key_from(&mut file, &from)
}

/// Its command line as a table (bundle.md 1.6).
pub const GRAMMAR: Grammar = Grammar {
    name: "omsadmin.sh",
    about: "Onboard, list and remove workspaces",
    synopsis: &[
        "omsadmin.sh -w ID -s KEY [-d DOMAIN] [-p PROXY] [-u USER] [-a RESOURCE] [-m MARKER] [-v]",
        "omsadmin.sh [-v]",
        "omsadmin.sh -l | -x ID | -X | -p PROXY [-u USER] | -U | -R | -o | -h",
    ],
    sections: &[
        Section {
            title: "Onboarding (without any option, /etc/omsagent-onboard.conf is used and then removed)",
            rows: &[
                (
                    "-w ID",
                    "Workspace id; `scom` for Operations Manager, `LAD` for the diagnostics extension",
                ),
                (
                    "-s KEY",
                    "Shared key of the workspace; `-` reads it from standard input",
                ),
                (
                    "--shared-key-file FILE",
                    "Read the shared key from a file, so that `ps` does not show it; the environment variable OMSAGENT_SHARED_KEY serves as well",
                ),
                (
                    "-d DOMAIN",
                    "Top level domain of the service (default opinsights.azure.com)",
                ),
                ("-p PROXY", "Proxy: [http[s]://][user:password@]host:port"),
                ("-u USER", "The proxy's user; its password is asked for"),
                ("-a RESOURCE", "Azure resource id of this host"),
                (
                    "-m MARKER",
                    "Make it a secondary workspace; without, it becomes the primary one",
                ),
                (
                    "--ca-file FILE",
                    "Trust the CA certificates in this PEM file beside the system's (environment variable OMSAGENT_CA_FILE)",
                ),
                ("-v", "Say more"),
            ],
        },
        Section {
            title: "Workspaces that are there",
            rows: &[
                ("-l", "List them"),
                ("-x ID", "Remove one"),
                ("-X", "Remove all"),
            ],
        },
        Section {
            title: "Other work",
            rows: &[
                (
                    "-p PROXY [-u USER]",
                    "Save a proxy for all workspaces; with -u its password is asked for",
                ),
                ("-U", "Renew the shipped settings"),
                ("-R", "Put folders right"),
                ("-o", "Does OMI listen on 1270? Exit status 0: yes, 1: no"),
                ("-h, --help", "Show this text"),
            ],
        },
    ],
};

/// What `-h` prints.
pub fn usage() -> String {
    format!(
        "Maintenance tool for omsagent.\n\n{}\n\n{}",
        GRAMMAR.usage(),
        GRAMMAR.table()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Words, u8> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        parse(&words).map_err(|e| match e {
            Early::Help => 100,
            Early::Refused(code, _) => code,
        })
    }

    #[test]
    fn options_cluster_as_getopts_has_it() {
        let words = parsed(&["-vw", "id", "-skey", "-d", "dom", "-lUR"]).unwrap();
        assert_eq!(words.id.as_deref(), Some("id"));
        assert_eq!(words.key.unwrap().expose(), "key");
        assert_eq!(words.domain.as_deref(), Some("dom"));
        assert!(words.verbose && words.list && words.onboarding && words.update && words.rebuild);
    }

    #[test]
    fn outcomes_of_bundle_md_1_6() {
        for (typed, outcome) in [
            (&["-Z"][..], 0),
            (&["-w"], 0),
            (&["--bogus"], 0),
            (&["-?"], 100),
            (&["-h"], 100),
            (&["-lh"], 100),
            (&["stray"], 2),
            (&["-l", "stray"], 2),
            (&["-l", "--", "stray"], 2),
            (&["-"], 2),
        ] {
            assert_eq!(parsed(typed).err(), Some(outcome), "{typed:?}");
        }
    }

    #[test]
    fn the_first_word_that_is_no_option_ends_them() {
        let words = parsed(&["-l", "one", "-X"]).unwrap();
        assert!(words.list && !words.remove_all);
        assert_eq!(words.stray, ["one", "-X"]);
    }

    #[test]
    fn only_v_is_nothing_and_a_lone_marker_is_something() {
        assert!(parsed(&[]).unwrap().asks_nothing());
        assert!(parsed(&["-v"]).unwrap().asks_nothing());
        for lone in [&["-m", "x"][..], &["-a", "x"], &["-l"], &["-o"]] {
            let words = parsed(lone).unwrap();
            assert!(!words.asks_nothing() && words.only_looks(), "{lone:?}");
        }
        for change in [
            &["-p", "x"][..],
            &["-X"],
            &["-U"],
            &["-w", "x"],
            &["-u", "x"],
        ] {
            assert!(!parsed(change).unwrap().only_looks(), "{change:?}");
        }
    }

    #[test]
    fn every_option_is_in_the_table_and_none_besides() {
        use crate::cli::grammar::Words as Row;
        let rows = GRAMMAR.rows().flat_map(|(row, _)| Row::of(row).spellings);
        let shown: Vec<&str> = rows.collect();
        let letters = ('a'..='z')
            .chain('A'..='Z')
            .map(|letter| format!("-{letter}"));
        let long = ["--ca-file", "--shared-key-file", "--help", "--list"];
        for word in letters.chain(long.map(str::to_owned)) {
            let words = [&word, "/dev/null"].map(OsString::from);
            let read = parse(&words);
            let illegal = matches!(&read, Err(Early::Refused(0, t)) if t.starts_with("Illegal"));
            assert_eq!(illegal, !shown.contains(&word.as_str()), "{word}");
        }
    }

    #[test]
    fn a_value_with_blanks_stays_whole() {
        let words = parsed(&["-w", "x", "-s", "y", "-m", "two words"]).unwrap();
        assert_eq!(words.marker.as_deref(), Some("two words"));
    }
}
