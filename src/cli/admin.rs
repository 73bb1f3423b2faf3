//! `omsadmin.sh`: the words of bundle.md 1.6, in their fixed order of work (bundle.md 6.1).

use crate::base::files;
use crate::base::secret::{Secret, shown_word};
use crate::cli::bundle::args::{OnboardingArgs, read_key};
use crate::cli::bundle::settle_onboarding;
use crate::cli::report::Console;
use crate::cli::signals;
use crate::host::Host;
use crate::host::layout::Layout;
use crate::install::deploy;
use crate::install::recovery::{self, Purpose};
use crate::settings::onboarding::OnboardingFile;
use crate::workspace::{self, OnboardingRequest, listing, removal};
use crate::{err, out};
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

#[derive(Default)]
struct Words {
    id: Option<String>,
    key: Option<Secret>,
    domain: Option<String>,
    proxy: Option<Secret>,
    azure_resource: Option<String>,
    marker: Option<String>,
    ca_file: Option<PathBuf>,
    remove: Option<String>,
    remove_all: bool,
    list: bool,
    verbose: bool,
    onboarding: bool,
}

enum Early {
    Help,
    Refused(u8, String),
}

/// Runs omsadmin.sh with the words after its name.
pub fn run(words: &[OsString]) -> u8 {
    if !may_run() {
        out!("error\tThis script must be run as root or as the omsagent user.");
        return 1;
    }
    let parsed = match parse(words) {
        Ok(parsed) => parsed,
        Err(Early::Help) => {
            out!("{}", usage());
            return 0;
        }
        Err(Early::Refused(code, text)) => {
            err!("{text}");
            out!("{}", usage());
            return code;
        }
    };
    let host = Host::detect(Layout::new("/"));
    let asks_nothing = !parsed.onboarding
        && parsed.proxy.is_none()
        && !parsed.list
        && parsed.remove.is_none()
        && !parsed.remove_all
        && parsed.azure_resource.is_none()
        && parsed.marker.is_none();
    if asks_nothing {
        if !host.layout.onboarding_file().exists() {
            out!("{}", usage());
            return 2;
        }
        let ca_file = parsed.ca_file;
        return locked(&host, |host| onboard_from_file(host, ca_file));
    }
    perform(&host, parsed)
}

fn perform(host: &Host, words: Words) -> u8 {
    if let Some(line) = words.proxy.as_ref().filter(|_| !words.onboarding) {
        let code = locked(host, |host| save_proxy(host, line));
        if code != 0 {
            return code;
        }
    }
    if words.onboarding {
        let (Some(id), Some(key)) = (words.id, words.key) else {
            out!("error\tMissing Workspace ID or Shared Key information for onboarding");
            return 3;
        };
        if words.verbose {
            out!("Workspace ID:  {id}");
            out!("Shared key:    {}", key.masked());
        }
        let args = OnboardingArgs {
            id,
            key,
            domain: words.domain,
            proxy: words.proxy,
            azure_resource: words.azure_resource,
            marker: words.marker,
            ca_file: words.ca_file,
        };
        let code = match settle_onboarding(args) {
            Ok(request) => locked(host, |host| onboard(host, request)),
            Err((code, text)) => {
                err!("{text}");
                code
            }
        };
        if code != 0 {
            return code;
        }
    }
    if words.list {
        for line in listing::lines(host) {
            out!("{line}");
        }
    }
    if let Some(id) = &words.remove {
        let code = locked(host, |host| remove(host, id));
        if code != 0 {
            return code;
        }
    }
    if words.remove_all {
        return locked(host, |host| {
            removal::traces(&host.layout)
                .iter()
                .map(|id| remove(host, id.as_str()))
                .max()
                .unwrap_or(0)
        });
    }
    0
}

fn locked(host: &Host, work: impl FnOnce(&Host) -> u8) -> u8 {
    match recovery::enter(host, Purpose::Change, &mut Console) {
        Ok(_lock) => work(host),
        Err(e) => {
            err!("error\t{e:#}");
            30
        }
    }
}

/// Onboards with what /etc/omsagent-onboard.conf says; the file goes when that succeeded
/// (bundle.md 3). The caller holds the host's lock. `ca_file` counts when the file names none.
pub fn onboard_from_file(host: &Host, ca_file: Option<PathBuf>) -> u8 {
    let path = host.layout.onboarding_file();
    out!("Reading onboarding params from: {}", path.display());
    // It decides to whom this host talks, and is read by root.
    if nix::unistd::geteuid().is_root() && path.exists() && !files::only_root_can_change(&path) {
        err!(
            "error\tonboarding file `{0}` is not trusted: not only root can change it; check it, then: chown root:root {0}; chmod 600 {0}",
            path.display()
        );
        return 2;
    }
    let file = match OnboardingFile::load(&path) {
        Ok(Some(file)) => file,
        Ok(None) => {
            err!("error\tonboarding file `{}` does not exist", path.display());
            return 2;
        }
        Err(e) => {
            err!("error\t{e:#}");
            return 2;
        }
    };
    for text in &file.warnings {
        err!("warning\t{text}");
    }
    let (Some(id), Some(key)) = (file.workspace_id, file.shared_key) else {
        out!("error\tMissing Workspace ID or Shared Key information for onboarding");
        return 3;
    };
    let args = OnboardingArgs {
        id,
        key,
        domain: file.url_tld,
        proxy: file.proxy,
        azure_resource: file.azure_resource_id,
        marker: file.multi_homing_marker,
        ca_file: file.ca_file.or(ca_file),
    };
    let code = match settle_onboarding(args) {
        Ok(request) => onboard(host, request),
        Err((code, text)) => {
            err!("{text}");
            code
        }
    };
    if code == 0
        && let Err(e) = files::remove(&path)
    {
        err!("warning\t{e:#}");
    }
    code
}

fn onboard(host: &Host, request: OnboardingRequest) -> u8 {
    signals::interrupt_plans();
    match deploy::onboard(host, request, &mut Console) {
        Ok(_) => 0,
        Err(broken) => {
            out!("error\t{broken}");
            for line in &broken.left_behind {
                err!("error\tnot taken back: {line}");
            }
            workspace::exit_code(&broken.source)
        }
    }
}

fn save_proxy(host: &Host, line: &Secret) -> u8 {
    let parsed = crate::settings::proxy::parse(line.expose()).map_err(anyhow::Error::from);
    let saved = parsed.and_then(|_| {
        let owner = workspace::onboarding::service_owner(host)?;
        let look = files::Look::owned(0o600, owner);
        files::write_atomic(&host.layout.proxy_conf(), line.expose().as_bytes(), look)
    });
    match saved {
        Ok(()) => {
            let path = host.layout.proxy_conf();
            out!("info\tCreated proxy configuration: {}", path.display());
            0
        }
        Err(e) => {
            out!("error\t{e:#}");
            4
        }
    }
}

fn remove(host: &Host, id: &str) -> u8 {
    let known = id
        .parse()
        .ok()
        .filter(|id| removal::traces(&host.layout).contains(id));
    let Some(id) = known else {
        out!("error\tWorkspace {id} doesn't exist");
        return 0;
    };
    match removal::remove(host, &id, &mut Console) {
        Ok(()) => 0,
        Err(e) => {
            out!("error\t{e:#}");
            30
        }
    }
}

fn may_run() -> bool {
    let uid = nix::unistd::geteuid();
    uid.is_root()
        || nix::unistd::User::from_name("omsagent")
            .ok()
            .flatten()
            .is_some_and(|user| user.uid == uid)
}

/// getopts: short options cluster; the value is the rest of the word or the next word. Our own
/// long options stand alone.
fn parse(words: &[OsString]) -> Result<Words, Early> {
    let mut seen = Words::default();
    let mut rest = words.iter().map(|w| w.to_string_lossy().into_owned());
    let mut stray = Vec::new();
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
            }
            "--help" => return Err(Early::Help),
            "-" => stray.push(word),
            _ if word.starts_with("--") => {
                return Err(Early::Refused(
                    0,
                    format!("Illegal option {}", shown_word(&word)),
                ));
            }
            _ if !word.starts_with('-') => stray.push(word),
            _ => short(&word, &mut next, &mut seen)?,
        }
    }
    if let Some(word) = stray.first() {
        return Err(Early::Refused(
            2,
            format!("Parsing error: '{}' is unparsed", shown_word(word)),
        ));
    }
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
    Ok(seen)
}

fn short(
    word: &str,
    next: &mut dyn FnMut(&str) -> Result<String, Early>,
    seen: &mut Words,
) -> Result<(), Early> {
    let letters = word[1..].char_indices();
    for (at, letter) in letters {
        let mut value = || {
            let glued = &word[1 + at + letter.len_utf8()..];
            if glued.is_empty() {
                next(&format!("-{letter}"))
            } else {
                Ok(glued.to_owned())
            }
        };
        match letter {
            'h' | '?' => return Err(Early::Help),
            'v' => seen.verbose = true,
            'l' => seen.list = true,
            'X' => seen.remove_all = true,
            'w' | 's' | 'd' | 'p' | 'a' | 'm' | 'x' => {
                let value = value()?;
                take(letter, value, seen)?;
                return Ok(());
            }
            _ => {
                return Err(Early::Refused(0, format!("Illegal option -{letter}")));
            }
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

fn usage() -> &'static str {
    "Maintenance tool for omsagent.

Onboarding:
  omsadmin.sh -w <workspace id> -s <workspace key> [-d <top level domain>]
              [-p <proxy>] [-a <Azure resource id>] [-m <marker>] [-v]
  -s - reads the key from standard input; --shared-key-file FILE from a file;
  the environment variable OMSAGENT_SHARED_KEY works too
  --ca-file FILE trusts the CA certificates in FILE beside the system's
  Without any option, /etc/omsagent-onboard.conf is used and then removed

List workspaces:               omsadmin.sh -l
Remove a workspace:            omsadmin.sh -x <workspace id>
Remove all workspaces:         omsadmin.sh -X
Save a proxy for all:          omsadmin.sh -p [http://][user:password@]host:port
Show this text:                omsadmin.sh -h"
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
        let words = parsed(&["-vw", "id", "-skey", "-d", "dom", "-l"]).unwrap();
        assert_eq!(words.id.as_deref(), Some("id"));
        assert_eq!(words.key.unwrap().expose(), "key");
        assert_eq!(words.domain.as_deref(), Some("dom"));
        assert!(words.verbose && words.list && words.onboarding);
    }

    #[test]
    fn outcomes_of_bundle_md_1_6() {
        assert_eq!(parsed(&["-Z"]).err(), Some(0));
        assert_eq!(parsed(&["-w"]).err(), Some(0));
        assert_eq!(parsed(&["-?"]).err(), Some(100));
        assert_eq!(parsed(&["stray"]).err(), Some(2));
    }

    #[test]
    fn a_value_with_blanks_stays_whole() {
        let words = parsed(&["-w", "x", "-s", "y", "-m", "two words"]).unwrap();
        assert_eq!(words.marker.as_deref(), Some("two words"));
    }
}
