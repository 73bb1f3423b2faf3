//! `--answers FILE`: words for the parser out of the file, for this host (docs/answers.md).

use super::manner;
use crate::base::files;
use crate::base::secret::Secret;
use crate::settings::rollout::{KEYS, Kind, Rollout, Settings, Value};
use std::ffi::OsString;
use std::path::Path;

/// Largest answers file.
const LIMIT: usize = 256 << 10;

/// What the file adds to a command line.
#[derive(Debug, Default)]
pub struct Answers {
    /// Words that belong before those that were typed.
    pub words: Vec<OsString>,
    /// The key out of the environment variable the file names; instead of `OMSAGENT_SHARED_KEY`.
    pub key: Option<Secret>,
}

/// Reads the file for the host called `name`. `typed` are the words of the command line: what
/// they say is not said twice. The error is for a person.
pub fn read(
    path: &Path,
    name: &str,
    typed: &[OsString],
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Answers, String> {
    let shown = path.display();
    let text = files::read_text(path, LIMIT)
        .map_err(|e| format!("{e:#}"))?
        .ok_or_else(|| format!("answers file `{shown}` does not exist"))?;
    let rollout =
        Rollout::parse(&text).map_err(|e| format!("answers file `{shown}` is not right:\n{e}"))?;
    // As it was named: a link's own folder, not its target's.
    let folder = path.parent().unwrap_or(Path::new(""));
    answers(&rollout.for_host(name), folder, typed, variable)
        .map_err(|e| format!("answers file `{shown}`: {e}"))
}

fn answers(
    settings: &Settings,
    folder: &Path,
    typed: &[OsString],
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Answers, String> {
    let mut answers = Answers::default();
    let typed_key = manner::has(typed, &["-s", "--shared", "--shared-key-file"]);
    for (key, option, kind) in KEYS {
        let text = match settings.get(key) {
            None | Some(Value::Flag(false)) => continue,
            Some(Value::Flag(true)) => {
                answers.words.push(option.into());
                continue;
            }
            Some(Value::Text(text)) => text,
        };
        let out_of = |name: &str| {
            variable(name)
                .filter(|v| !v.is_empty())
                .ok_or_else(|| format!("`{key}` names ${name}, which is not set"))
        };
        match (*key, kind) {
            ("mode", _) => {
                if !manner::has_mode(typed) {
                    answers.words.push(format!("--{text}").into());
                }
            }
            ("shared_key_file", _) if typed_key => {}
            ("shared_key_env", _) => {
                if !typed_key {
                    answers.key = Some(Secret::new(out_of(text)?.trim()));
                }
            }
            (_, Kind::Path) => {
                answers.words.push(option.into());
                answers.words.push(folder.join(text).into());
            }
            (_, Kind::Variable) => {
                answers.words.push(option.into());
                answers.words.push(out_of(text)?.trim().into());
            }
            _ => {
                answers.words.push(option.into());
                answers.words.push(text.into());
            }
        }
    }
    Ok(answers)
}

/// The host's own name, as patterns are compared with.
pub fn host_name() -> String {
    nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(file: &str, typed: &[&str]) -> Result<Vec<String>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.toml");
        std::fs::write(&path, file).unwrap();
        let typed: Vec<OsString> = typed.iter().map(OsString::from).collect();
        let variable = |name: &str| (name == "SET").then(|| "  value\n".to_owned());
        let answers = read(&path, "host", &typed, variable)?;
        let mut words: Vec<String> = answers
            .words
            .iter()
            .map(|w| {
                w.to_string_lossy()
                    .replace(dir.path().to_str().unwrap(), "DIR")
            })
            .collect();
        words.extend(answers.key.map(|k| format!("key={}", k.expose())));
        Ok(words)
    }

    #[test]
    fn keys_become_words() {
        let file = "mode = \"upgrade\"\nid = \"11111111-2222-3333-4444-555555555555\"\nshared_key_file = \"k\"\nca_file = \"/abs\"\nforce = true\ndry_run = false";
        let id = "--id 11111111-2222-3333-4444-555555555555";
        let want = format!("--upgrade {id} --shared-key-file DIR/k --ca-file /abs --force");
        assert_eq!(words(file, &[]).unwrap().join(" "), want);
        let typed = words(file, &["--purge", "-s", "k"]).unwrap();
        assert_eq!(typed.join(" "), format!("{id} --ca-file /abs --force"));
    }

    #[test]
    fn every_flag_is_a_key() {
        let file = "mode = \"upgrade\"\nenable_opsmgr = true\nextract_script = \"s\"\n\
                    extract_binary = \"/b\"\ndebug = true\ninteractive = true";
        let words = words(file, &[]).unwrap();
        let want = "--upgrade --enable-opsmgr --extract-script DIR/s --extract-binary /b --debug \
                    --interactive";
        assert_eq!(words.join(" "), want);
        // All that the help names, but for the words that end a run at once and their own.
        let not = [
            "--version",
            "--help",
            "--source-references",
            "--answers",
            "--explain",
        ];
        let usage = crate::cli::bundle::args::usage("b");
        let named = usage.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        let options: Vec<&str> = named
            .filter(|w| w.starts_with("--") && w.len() > 2)
            .collect();
        assert!(options.len() > 30, "{options:?}");
        for option in options {
            let mode = option.strip_prefix("--").unwrap_or_default();
            let known = KEYS.iter().any(|(_, key, kind)| {
                *key == option || matches!(kind, Kind::Word(words) if words.contains(&mode))
            });
            let secret = option == "--shared"; // never in a file
            assert!(
                known || secret || not.contains(&option),
                "{option} has no key"
            );
        }
    }

    #[test]
    fn a_variable_must_be_set_when_it_is_needed() {
        let file = "shared_key_env = \"SET\"\nproxy_env = \"SET\"";
        assert_eq!(words(file, &[]).unwrap(), ["--proxy", "value", "key=value"]);
        let unset = "shared_key_env = \"UNSET\"";
        assert!(words(unset, &[]).unwrap_err().contains("$UNSET"));
        assert!(words(unset, &["-s", "k"]).unwrap().is_empty());
    }

    #[test]
    fn what_the_parser_would_refuse_is_refused_with_its_place() {
        let most = crate::plan::lock::LONGEST;
        let time = |n: u64| words(&format!("force = true\nlock_timeout = {n}"), &[]);
        let want = [
            "--force".to_owned(),
            "--lock-timeout".into(),
            most.to_string(),
        ];
        assert_eq!(time(most).unwrap(), want);
        let said = time(most + 1).unwrap_err();
        assert!(
            said.contains("line 2, column 16: `lock_timeout` must be"),
            "{said}"
        );
        let said = words("id = \"nonsense\"", &[]).unwrap_err();
        assert!(said.contains("line 1, column 6: `id` must be"), "{said}");
    }

    #[test]
    fn a_wrong_file_is_named() {
        let said = words("mod = 1", &[]).unwrap_err();
        assert!(
            said.contains("a.toml") && said.contains("line 1, column 1"),
            "{said}"
        );
        let none = read(Path::new("/no/such"), "h", &[], |_| None).unwrap_err();
        assert!(none.contains("does not exist"));
    }
}
