//! The bundle's command line: one pass, left to right, with the outcomes that automation knows
//! (bundle.md 1.2-1.4). Not clap: the order of words decides what happens.

mod key;
mod usage;

pub use key::read_key;
pub use usage::{GRAMMAR, usage};

use crate::base::files;
use crate::base::secret::{Secret, shown_word};
use crate::plan::lock;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    /// `--lock-timeout`: how long locks are waited for.
    pub lock_timeout: Option<Duration>,
    /// `--portable`
    pub portable: bool,
    /// `--enable-opsmgr`
    pub opsmgr: bool,
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
    /// `--enable-opsmgr` of a command line that ends without any work: the marker that opens the
    /// Operations Manager port.
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
    lock_timeout: Option<Duration>,
    portable: bool,
    opsmgr: bool,
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
pub fn parse(words: &[OsString], mut around: Surroundings<'_>) -> Result<Request, Box<Stop>> {
    let mut seen = Seen::default();
    let ended = read(words, &mut seen, &mut around);
    let opsmgr = seen.opsmgr;
    let ended = ended.and_then(|()| settle(seen, &around));
    // A word behind the one that ended the reading counts, too: nothing is changed by mistake.
    let elsewhere = words.iter().any(|w| w == "--root" || w == "--dry-run");
    if ended.is_err() && opsmgr && !elsewhere {
        around.now.mark_opsmgr().map_err(failed_at_once)?;
    }
    ended
}

fn read(
    words: &[OsString],
    seen: &mut Seen,
    around: &mut Surroundings<'_>,
) -> Result<(), Box<Stop>> {
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
            "--install" => set_mode(seen, Mode::Install, around)?,
            "--upgrade" => set_mode(seen, Mode::Upgrade, around)?,
            "--remove" => set_mode(seen, Mode::Remove, around)?,
            "--purge" => set_mode(seen, Mode::Purge, around)?,
            "--extract" => set_mode(seen, Mode::Extract, around)?,
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
            "--lock-timeout" => {
                let time = lock::parse_patience(&value()?);
                seen.lock_timeout = Some(time.ok_or_else(|| {
                    let most = lock::LONGEST;
                    stop(
                        2,
                        format!("Option '--lock-timeout' takes seconds, 0 to {most}"),
                    )
                })?);
            }
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
            // The marker is somebody's work, where there is any: inside the image, after the check of
            // the bundle, and not at all in a dry run.
            "--enable-opsmgr" if around.root => seen.opsmgr = true,
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
                let bytes = files::read(&path, key::LIMIT)
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
    Ok(())
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
        lock_timeout: seen.lock_timeout,
        portable: seen.portable,
        opsmgr: seen.opsmgr,
        root: seen.root,
        onboarding,
    })
}

#[cfg(test)]
mod tests;
