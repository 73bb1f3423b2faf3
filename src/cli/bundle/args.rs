//! The bundle's command line: one pass, left to right, with the outcomes that automation knows
//! (bundle.md 1.2-1.4). Not clap: the order of words decides what happens.

use crate::base::files;
use crate::base::secret::{Secret, shown_word};
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What the bundle was asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `--install`
    Install,
    /// `--upgrade`: installs too when nothing is there.
    Upgrade,
    /// `--remove`
    Remove,
    /// `--purge`
    Purge,
    /// `--extract`
    Extract,
    /// `--version-check`
    VersionCheck,
}

impl Mode {
    /// The word in the root message (bundle.md 1.4).
    pub fn word(self) -> &'static str {
        match self {
            Mode::Install => "install",
            Mode::Upgrade => "upgrade",
            Mode::Remove => "remove",
            Mode::Purge => "purge",
            Mode::Extract => "extract",
            Mode::VersionCheck => "version-check",
        }
    }
}

/// `-w -s -d -p -a -m --ca-file`, as typed.
#[derive(Debug, Clone)]
pub struct OnboardingArgs {
    /// `-w`
    pub id: String,
    /// `-s`, `--shared-key-file` or `OMSAGENT_SHARED_KEY`
    pub key: Secret,
    /// `-d`
    pub domain: Option<String>,
    /// `-p`; may hold a password
    pub proxy: Option<Secret>,
    /// `-a`
    pub azure_resource: Option<String>,
    /// `-m`
    pub marker: Option<String>,
    /// `--ca-file`
    pub ca_file: Option<PathBuf>,
}

/// A command line that asks for work.
#[derive(Debug)]
pub struct Request {
    /// The mode.
    pub mode: Mode,
    /// `--version-check` after `--remove`/`--purge`, or a part of the bundle was written to a file:
    /// nothing else is done (bundle.md 1.2).
    pub nothing_to_do: bool,
    /// `--force`
    pub force: bool,
    /// `--noDigest`
    pub no_digest: bool,
    /// `--restart-deps`: passed on to kits.
    pub restart_deps: bool,
    /// `--skip-docker-provider-install`
    pub skip_docker: bool,
    /// `--dry-run`
    pub dry_run: bool,
    /// `--portable`
    pub portable: bool,
    /// `--root`
    pub root: Option<PathBuf>,
    /// Present when both id and key were given.
    pub onboarding: Option<OnboardingArgs>,
}

/// A command line that ends here.
#[derive(Debug, PartialEq, Eq)]
pub struct Stop {
    /// Exit code.
    pub code: u8,
    /// Text for standard output.
    pub out: Option<String>,
    /// Text for standard error.
    pub err: Option<String>,
    /// Does the status line follow (bundle.md 1.4)?
    pub trailer: bool,
}

/// One of the two halves of the bundle's file: `cat script binary` is the bundle again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// The shell text at the beginning.
    Script,
    /// Everything behind it.
    Binary,
}

/// What words do at once, before those after them are looked at (bundle.md 1.2, "immediate").
pub trait Immediate {
    /// A line on standard output.
    fn line(&mut self, text: &str);
    /// `--debug`
    fn debug(&mut self);
    /// `--source-references`: a `repository: commit` each.
    fn sources(&mut self) -> Result<Vec<String>, String>;
    /// `--extract-script`, `--extract-binary`
    fn write_half(&mut self, half: Half, to: &Path) -> Result<(), String>;
    /// `--enable-opsmgr`: the marker that opens the Operations Manager port.
    fn mark_opsmgr(&mut self) -> Result<(), String>;
}

/// What the parser may look at beside the words.
pub struct Surroundings<'a> {
    /// The bundle's name as the caller typed it.
    pub argv0: &'a str,
    /// `a.b.c.d`
    pub version: &'a str,
    /// Effective uid 0?
    pub root: bool,
    /// `OMSAGENT_SHARED_KEY`
    pub key_variable: Option<String>,
    /// `OMSAGENT_CA_FILE`
    pub ca_variable: Option<OsString>,
    /// Standard input, for `-s -`.
    pub stdin: &'a mut dyn Read,
    /// What is done at once.
    pub now: &'a mut dyn Immediate,
}

/// A shared key is 88 characters; this is generous.
const KEY_LIMIT: usize = 4096;

fn stop(code: u8, err: String) -> Stop {
    Stop {
        code,
        out: None,
        err: Some(err),
        trailer: true,
    }
}

fn needs_root(word: &str) -> Stop {
    Stop {
        trailer: false,
        ..stop(
            5,
            format!("Must have root privileges to be able to perform {word} operation"),
        )
    }
}

/// A failure before "stop on error" is switched off: 1, without the status line (bundle.md 1.3).
fn failed_at_once(text: String) -> Stop {
    Stop {
        trailer: false,
        ..stop(1, format!("error\t{text}"))
    }
}

#[derive(Default)]
struct Seen {
    mode: Option<Mode>,
    no_install: bool,
    force: bool,
    no_digest: bool,
    restart_deps: bool,
    skip_docker: bool,
    dry_run: bool,
    portable: bool,
    root: Option<PathBuf>,
    id: Option<String>,
    key: Option<Secret>,
    domain: Option<String>,
    proxy: Option<Secret>,
    azure_resource: Option<String>,
    marker: Option<String>,
    ca_file: Option<PathBuf>,
}

/// Reads the words after the program's name.
pub fn parse(words: &[OsString], around: Surroundings<'_>) -> Result<Request, Box<Stop>> {
    let mut seen = Seen::default();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let text = word.to_string_lossy();
        let mut path_value = || -> Result<PathBuf, Stop> {
            match rest.next() {
                Some(v) => Ok(PathBuf::from(v)),
                None => Err(Stop {
                    trailer: false,
                    ..stop(
                        2,
                        format!("Option '{text}' needs a value; use --help for usage"),
                    )
                }),
            }
        };
        let mut value = || path_value().map(|v| v.to_string_lossy().into_owned());
        // An empty value counts as not given (bundle.md 1.2, "Argument forms").
        let given = |v: String| Some(v).filter(|v| !v.is_empty());
        match text.as_ref() {
            "--install" => set_mode(&mut seen, Mode::Install, &around)?,
            "--upgrade" => set_mode(&mut seen, Mode::Upgrade, &around)?,
            "--remove" => set_mode(&mut seen, Mode::Remove, &around)?,
            "--purge" => set_mode(&mut seen, Mode::Purge, &around)?,
            "--extract" => set_mode(&mut seen, Mode::Extract, &around)?,
            // No conflict check: it silently overrides a mode given before it.
            "--version-check" => seen.mode = Some(Mode::VersionCheck),
            "--version" => {
                return Err(Box::new(Stop {
                    code: 0,
                    out: Some(format!("Version: {}", around.version)),
                    err: None,
                    trailer: false,
                }));
            }
            "--help" | "-h" | "-?" => {
                return Err(Box::new(stop(0, usage(around.argv0))));
            }
            "--force" => seen.force = true,
            "--dry-run" => seen.dry_run = true,
            "--portable" => seen.portable = true,
            "--root" => seen.root = Some(path_value()?).filter(|p| !p.as_os_str().is_empty()),
            "--source-references" => {
                let lines = around.now.sources().map_err(|text| stop(2, text))?;
                return Err(Box::new(Stop {
                    code: 0,
                    out: Some(lines.join("\n")).filter(|text| !text.is_empty()),
                    err: None,
                    trailer: true,
                }));
            }
            "--debug" => around.now.debug(),
            "--enable-opsmgr" => around.now.mark_opsmgr().map_err(failed_at_once)?,
            "--extract-script" | "--extract-binary" => {
                let half = match text.as_ref() {
                    "--extract-script" => Half::Script,
                    _ => Half::Binary,
                };
                let path = path_value()?;
                around.now.write_half(half, &path).map_err(failed_at_once)?;
                seen.no_install = true;
            }
            "--restart-deps" => seen.restart_deps = true,
            "--noDigest" => {
                seen.no_digest = true;
                around
                    .now
                    .line("Provided noDigest flag in cmdline: rpm will not check package digests");
            }
            "--skip-docker-provider-install" => {
                seen.skip_docker = true;
                around
                    .now
                    .line("Provided skip-docker-provider-install option");
            }
            "-w" | "--id" => seen.id = given(value()?),
            "-s" | "--shared" => {
                let key = Secret::new(value()?);
                seen.key = match key.expose() {
                    "" => None,
                    "-" => Some(key_from(around.stdin, "standard input")?),
                    _ => Some(key),
                };
            }
            "--shared-key-file" => {
                let path = path_value()?;
                let bytes = files::read(&path, KEY_LIMIT)
                    .map_err(|e| stop(2, format!("{e:#}")))?
                    .map(zeroize::Zeroizing::new)
                    .ok_or_else(|| {
                        stop(
                            2,
                            format!("shared key file `{}` does not exist", path.display()),
                        )
                    })?;
                let mut slice = bytes.as_slice();
                seen.key = Some(key_from(&mut slice, &format!("`{}`", path.display()))?);
            }
            "-d" | "--domain" => seen.domain = given(value()?),
            "-p" | "--proxy" => seen.proxy = given(value()?).map(Secret::new),
            "-a" | "--azure-resource" => seen.azure_resource = given(value()?),
            "-m" | "--multi-homing-marker" => seen.marker = given(value()?),
            "--ca-file" => {
                let path = path_value()?;
                seen.ca_file = Some(path).filter(|p| !p.as_os_str().is_empty());
            }
            _ => {
                return Err(Box::new(stop(
                    2,
                    format!(
                        "Unknown argument: '{}'\nUse -h or --help for usage",
                        shown_word(&text)
                    ),
                )));
            }
        }
    }
    settle(seen, &around)
}

fn set_mode(seen: &mut Seen, mode: Mode, around: &Surroundings<'_>) -> Result<(), Box<Stop>> {
    if seen.mode.is_some() {
        return Err(Box::new(stop(
            2,
            format!("{}: Conflicting qualifiers, exiting", around.argv0),
        )));
    }
    if mode != Mode::Extract && !around.root {
        return Err(Box::new(needs_root(mode.word())));
    }
    seen.no_install |= matches!(mode, Mode::Remove | Mode::Purge);
    seen.mode = Some(mode);
    Ok(())
}

fn key_from(reader: &mut dyn Read, from: &str) -> Result<Secret, Stop> {
    read_key(reader, from).map_err(|text| stop(2, text))
}

/// A shared key from a file or from standard input, without the line end. The error is a line for
/// a person.
pub fn read_key(reader: &mut dyn Read, from: &str) -> Result<Secret, String> {
    // Of its final size: growing would leave copies behind.
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(KEY_LIMIT + 1));
    let cannot = |why: &str| format!("cannot read the shared key from {from}: {why}");
    reader
        .take(KEY_LIMIT as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| cannot(&e.to_string()))?;
    if bytes.len() > KEY_LIMIT {
        return Err(cannot(&format!("larger than {KEY_LIMIT} bytes")));
    }
    match std::str::from_utf8(&bytes).map(str::trim) {
        Err(_) => Err(cannot("not text")),
        Ok("") => Err(format!("no shared key in {from}")),
        Ok(key) => Ok(Secret::new(key)),
    }
}

fn settle(mut seen: Seen, around: &Surroundings<'_>) -> Result<Request, Box<Stop>> {
    let Some(mode) = seen.mode else {
        return Err(Box::new(stop(
            3,
            format!(
                "{}: No options specified, specify --help for help",
                around.argv0
            ),
        )));
    };
    if seen.root.is_some() {
        if mode == Mode::Extract {
            return Err(Box::new(stop(
                2,
                "--root has no meaning with --extract".into(),
            )));
        }
        if !around.root {
            return Err(Box::new(needs_root("--root")));
        }
    }
    // The variable completes an id; alone it asks for nothing.
    if seen.id.is_some() && seen.key.is_none() {
        let variable = around.key_variable.clone().filter(|v| !v.is_empty());
        seen.key = variable.map(|v| Secret::new(v.trim()));
    }
    let onboarding = match (seen.id, seen.key) {
        (Some(id), Some(key)) => {
            if !around.root {
                return Err(Box::new(needs_root("onboard")));
            }
            let variable = around.ca_variable.clone().filter(|v| !v.is_empty());
            Some(OnboardingArgs {
                id,
                key,
                domain: seen.domain,
                proxy: seen.proxy,
                azure_resource: seen.azure_resource,
                marker: seen.marker,
                ca_file: seen.ca_file.or(variable.map(PathBuf::from)),
            })
        }
        (None, None) if seen.domain.is_none() => None,
        _ => {
            let text = "Must specify both workspace ID (--id) and key (--shared) to onboard";
            return Err(Box::new(Stop {
                trailer: false,
                ..stop(2, text.into())
            }));
        }
    };
    Ok(Request {
        mode,
        nothing_to_do: seen.no_install && !matches!(mode, Mode::Remove | Mode::Purge),
        force: seen.force,
        no_digest: seen.no_digest,
        restart_deps: seen.restart_deps,
        skip_docker: seen.skip_docker,
        dry_run: seen.dry_run,
        portable: seen.portable,
        root: seen.root,
        onboarding,
    })
}

/// The help text; on standard error, as the original's.
pub fn usage(argv0: &str) -> String {
    format!(
        "usage: {argv0} MODE [OPTIONS]

Modes (one of them):
  --install                  Install the packages
  --upgrade                  Install or upgrade the packages
  --remove                   Remove the packages; workspace settings and keys stay
  --purge                    Remove the packages and every file of theirs
  --extract                  Write the packages to ./omsbundle.<pid>/ and stop
  --version-check            Show installed and bundled versions
  --version                  Show the version of this bundle
  --source-references        Show from which commits this bundle was made
  --help, -h, -?             Show this text

Onboarding (with --install or --upgrade):
  -w, --id ID                Workspace id
  -s, --shared KEY           Shared key of the workspace; `-` reads it from standard input
      --shared-key-file F    Read the shared key from a file: it does not show in `ps` then
                             (so does the environment variable OMSAGENT_SHARED_KEY)
  -d, --domain DOMAIN        Domain of the service (default opinsights.azure.com)
  -p, --proxy CONF           Proxy: [protocol://][user:password@]host[:port]
  -a, --azure-resource ID    Azure resource id of this host
  -m, --multi-homing-marker TEXT
                             Onboard as a secondary workspace
      --ca-file F            Trust the CA certificates in this PEM file too
                             (environment variable OMSAGENT_CA_FILE)

Other options:
  --force                    Install even when the installed version is the same or newer, and
                             replace or remove an omi or scx that others use
  --dry-run                  Show what would be done, change nothing
  --portable                 Lay the files down without dpkg or rpm, listed in a receipt (done
                             without being asked where there is neither)
  --root DIR                 Work on the image in this folder: nothing is started, and what -w and
                             -s say is onboarded at its first boot
  --noDigest                 Do not let rpm check package digests
  --enable-opsmgr            Let Operations Manager reach this host (port 1270)
  --skip-docker-provider-install
                             Leave out the kit `docker`
  --restart-deps             Passed on to the kits
  --extract-script FILE      Write the shell text at the beginning of this file to FILE
  --extract-binary FILE      Write everything behind it to FILE
  --debug                    Say on standard error what is run from where

For programs and for people:
  --json                     One JSON object on standard output, everything else on standard error
  --detailed-exitcode        100 instead of 0 when the host was changed
  --answers FILE             Take options from a TOML file, per host if need be
  --log FILE                 Write every line to this file, too
  --progress auto|always|never
                             Show how far the run is (auto: on a terminal)
  --interactive              Ask for what is missing, show the plan, ask whether to go on
  --yes                      Do not ask (--purge asks on a terminal, never in a script)
  --explain CODE             What an exit code means and what to do

Examples:
  sudo sh {argv0} --upgrade -w ID -s KEY
  sudo sh {argv0} --upgrade -w ID --shared-key-file /root/key -d example.org --ca-file ca.pem
  sudo sh {argv0} --purge"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes what was done.
    #[derive(Default)]
    struct Notes(Vec<String>);

    impl Immediate for Notes {
        fn line(&mut self, text: &str) {
            self.0.push(text.to_owned());
        }
        fn debug(&mut self) {
            self.0.push("debug".into());
        }
        fn sources(&mut self) -> Result<Vec<String>, String> {
            Ok(vec!["one: 1".into(), "two: 2".into()])
        }
        fn write_half(&mut self, half: Half, to: &Path) -> Result<(), String> {
            self.0.push(format!("{half:?} {}", to.display()));
            Ok(())
        }
        fn mark_opsmgr(&mut self) -> Result<(), String> {
            Err("cannot".into())
        }
    }

    fn run(root: bool, words: &[&str]) -> Result<Request, Stop> {
        noted(root, words).0
    }

    fn noted(root: bool, words: &[&str]) -> (Result<Request, Stop>, Vec<String>) {
        let mut notes = Notes::default();
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let mut stdin = "from-stdin\n".as_bytes();
        let around = Surroundings {
            argv0: "./b.sh",
            version: "2.0.0.1",
            root,
            key_variable: None,
            ca_variable: None,
            stdin: &mut stdin,
            now: &mut notes,
        };
        (parse(&words, around).map_err(|s| *s), notes.0)
    }

    fn code(root: bool, words: &[&str]) -> u8 {
        run(root, words).map_or_else(|s| s.code, |_| 0)
    }

    #[test]
    fn outcomes_of_bundle_md_1_2() {
        for (root, words, want) in [
            (true, &[][..], 3),
            (true, &["--force"], 3),
            (true, &["--bogus"], 2),
            (true, &["--install=yes"], 2),
            (true, &["--install", "--upgrade"], 2),
            (true, &["--install", "--install"], 2),
            (false, &["--install"], 5),
            (false, &["--upgrade"], 5),
            (false, &["--remove"], 5),
            (false, &["--purge"], 5),
            (false, &["--extract"], 0),
            (false, &["--version-check"], 0),
            (false, &["--install", "--help"], 5),
            (false, &["--help", "--install"], 0),
            (false, &["-?"], 0),
            (true, &["--version-check", "--install"], 2),
            (true, &["--install", "--version-check"], 0),
            (true, &["--install", "-w", "x"], 2),
            (true, &["--install", "-s", "x"], 2),
            (true, &["--install", "-d", "x"], 2),
            (true, &["--install", "-w", "", "-s", ""], 0),
            (true, &["--install", "-p", "x"], 0),
            (true, &["--install", "-w", "x", "-s"], 2),
            (false, &["--extract", "-w", "x", "-s", "y"], 5),
            (true, &["-w", "x", "-s", "y"], 3),
            (true, &["--extract", "--ca-file"], 2),
            (true, &["--install", "--root"], 2),
            (true, &["--extract", "--root", "/image"], 2),
            (false, &["--version-check", "--root", "/image"], 5),
            (true, &["--purge", "--root", "/image", "--portable"], 0),
            (false, &["--source-references", "--bogus"], 0),
            (false, &["--bogus", "--source-references"], 2),
            (false, &["--enable-opsmgr", "--version"], 1),
            (false, &["--version", "--enable-opsmgr"], 0),
            (false, &["--extract-script", "f"], 3),
            (false, &["--extract-binary"], 2),
            (false, &["--extract-binary", "f", "--extract"], 0),
            (
                true,
                &["--upgrade", "--shared-key-file", "/no/such", "-w", "x"],
                2,
            ),
        ] {
            assert_eq!(code(root, words), want, "root={root} {words:?}");
        }
    }

    #[test]
    fn version_and_root_come_without_the_status_line() {
        let version = run(false, &["--version"]).unwrap_err();
        assert_eq!(version.out.as_deref(), Some("Version: 2.0.0.1"));
        assert!(!version.trailer);
        assert!(!run(false, &["--purge"]).unwrap_err().trailer);
        assert!(!run(true, &["--upgrade", "-w", "x"]).unwrap_err().trailer);
        assert!(run(true, &["--nonsense"]).unwrap_err().trailer);
    }

    #[test]
    fn a_key_has_a_limit() {
        let key = |n: usize| read_key(&mut vec![b'k'; n].as_slice(), "here");
        assert_eq!(key(KEY_LIMIT).unwrap().expose().len(), KEY_LIMIT);
        assert!(key(KEY_LIMIT + 1).unwrap_err().contains("larger"));
        assert!(read_key(&mut "\n".as_bytes(), "here").is_err());
        assert!(read_key(&mut [0xffu8].as_slice(), "here").is_err());
    }

    #[test]
    fn a_key_in_the_wrong_place_is_not_echoed() {
        let key = "Mzz0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTA=";
        for word in [format!("-s{key}"), format!("--shared={key}"), key.into()] {
            let stopped = run(true, &["--upgrade", &word]).unwrap_err();
            let text = stopped.err.unwrap();
            assert!(text.starts_with("Unknown argument: '"), "{text}");
            assert!(!text.contains(&key[4..]), "{text}");
        }
    }

    #[test]
    fn some_words_act_at_once() {
        let (stopped, notes) = noted(
            false,
            &["--noDigest", "--debug", "--extract-script", "s", "--bogus"],
        );
        assert_eq!(stopped.unwrap_err().code, 2);
        assert!(notes[0].starts_with("Provided noDigest flag in cmdline"));
        assert_eq!(notes[1..], ["debug", "Script s"]);
        let (stopped, notes) = noted(false, &["--bogus", "--debug"]);
        assert!(stopped.is_err() && notes.is_empty());
        let sources = run(false, &["--source-references"]).unwrap_err();
        assert_eq!(sources.out.as_deref(), Some("one: 1\ntwo: 2"));
        assert!(sources.trailer);
        assert!(!run(false, &["--enable-opsmgr"]).unwrap_err().trailer);
        // Nothing else is extracted, installed or upgraded; a removal is a removal.
        for (mode, nothing) in [("--extract", true), ("--upgrade", true), ("--purge", false)] {
            let request = run(true, &["--extract-script", "f", mode]).unwrap();
            assert_eq!(request.nothing_to_do, nothing, "{mode}");
        }
    }

    #[test]
    fn version_check_overrides_what_came_before() {
        let request = run(true, &["--purge", "--version-check"]).unwrap();
        assert!(request.nothing_to_do && request.mode == Mode::VersionCheck);
        let request = run(true, &["--upgrade", "--version-check"]).unwrap();
        assert!(!request.nothing_to_do);
    }

    #[test]
    fn the_key_can_come_from_four_places() {
        let key = |words: &[&str]| {
            let request = run(true, words).unwrap();
            request.onboarding.unwrap().key.expose().to_owned()
        };
        assert_eq!(key(&["--upgrade", "-w", "x", "-s", "k"]), "k");
        assert_eq!(key(&["--upgrade", "-w", "x", "-s", "-"]), "from-stdin");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "in-a-file\r\n").unwrap();
        let path = file.path().to_str().unwrap();
        assert_eq!(
            key(&["--upgrade", "-w", "x", "--shared-key-file", path]),
            "in-a-file"
        );
        let words = ["--upgrade", "-w", "x"].map(OsString::from);
        let around = Surroundings {
            argv0: "b",
            version: "1",
            root: true,
            key_variable: Some("in-env".into()),
            ca_variable: None,
            stdin: &mut std::io::empty(),
            now: &mut Notes::default(),
        };
        let request = parse(&words, around).unwrap();
        assert_eq!(request.onboarding.unwrap().key.expose(), "in-env");
    }
}
