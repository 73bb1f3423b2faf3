//! What omsadmin.sh does: in the fixed order of bundle.md 6.1; what fails ends the run.

use super::proxy;
use super::words::Words;
use crate::base::files;
use crate::base::ids::WorkspaceName;
use crate::base::secret::{Secret, shown_word};
use crate::cli::bundle::args::OnboardingArgs;
use crate::cli::bundle::settle_onboarding;
use crate::cli::copies;
use crate::cli::report::Console;
use crate::cli::signals;
use crate::cli::syslog::warn_of_doubles;
use crate::host::Host;
use crate::install::recovery::{self, Purpose};
use crate::install::{deploy, release};
use crate::plan::Plan;
use crate::plan::journal::{CutShort, Journal, Run};
use crate::settings::onboarding::{DEFAULT_TLD, OnboardingFile, is_tld};
use crate::workspace::{self, OnboardingRequest, listing, port, pseudo, refresh, removal};
use crate::{err, out};
use anyhow::Result;
use std::path::PathBuf;

/// -o ends the run; else onboarding, -l, -U, -R, -x, -X.
pub fn perform(host: &Host, words: Words) -> u8 {
    if words.stray.len() > 1 {
        let all: Vec<String> = words
            .stray
            .iter()
            .map(|w| shown_word(w).to_string())
            .collect();
        err!(
            "omsadmin.sh: unexpected words are left out: {}",
            all.join(" ")
        );
    }
    let proxy = match proxy::line(&words) {
        Ok(line) => line,
        Err(code) => return code,
    };
    let pseudo = matches!(words.id.as_deref(), Some("scom" | "LAD"));
    if let Some(line) = proxy.as_ref().filter(|_| !words.onboarding || pseudo) {
        let code = locked(host, |host| proxy::save(host, line));
        if code != 0 {
            return code;
        }
    }
    if words.ask_port {
        return port_answer(host);
    }
    let Words {
        list,
        update,
        rebuild,
        remove,
        remove_all,
        ..
    } = &words;
    let (list, update, rebuild, remove_all) = (*list, *update, *rebuild, *remove_all);
    let remove = remove.clone();
    let steps: [(bool, Box<dyn FnOnce() -> u8 + '_>); 6] = [
        (
            words.onboarding,
            Box::new(move || onboard_as_typed(host, words, proxy)),
        ),
        (list, Box::new(|| tell(host))),
        (
            update,
            Box::new(|| run_parts(host, "renew settings (-U)", refresh::update)),
        ),
        (
            rebuild,
            Box::new(|| run_parts(host, "put folders right (-R)", refresh::rebuild)),
        ),
        (
            remove.is_some(),
            Box::new(|| remove_one(host, remove.as_deref().unwrap_or_default())),
        ),
        (
            remove_all,
            Box::new(|| {
                locked(host, |host| {
                    remove_these(host, &removal::traces(&host.layout))
                })
            }),
        ),
    ];
    for (_, step) in steps.into_iter().filter(|(asked, _)| *asked) {
        let code = step();
        if code != 0 {
            return code;
        }
    }
    0
}

fn tell(host: &Host) -> u8 {
    for line in listing::lines(host) {
        out!("{line}");
    }
    0
}

/// 0 open, 1 closed, 2 cannot tell; nothing is printed on success (bundle.md 6.10).
fn port_answer(host: &Host) -> u8 {
    match pseudo::is_port_open(host) {
        Ok(Some(open)) => u8::from(!open),
        Ok(None) => {
            let path = pseudo::omiserver_conf(host);
            err!(
                "error\t`{}` does not exist: OMI is not installed",
                path.display()
            );
            2
        }
        Err(e) => {
            err!("error\t{e:#}");
            2
        }
    }
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

fn onboard_as_typed(host: &Host, words: Words, proxy: Option<Secret>) -> u8 {
    match words.id.as_deref() {
        Some("scom") => return locked(host, onboard_scom),
        Some("LAD") => {
            let (domain, resource) = (words.domain, words.azure_resource);
            return locked(host, |host| onboard_lad(host, domain, resource));
        }
        _ => {}
    }
    let (Some(id), Some(key)) = (words.id, words.key) else {
        out!("error\tMissing Workspace ID or Shared Key information for onboarding");
        return 3;
    };
    let args = OnboardingArgs {
        id,
        key,
        domain: words.domain,
        proxy,
        azure_resource: words.azure_resource,
        marker: words.marker,
        ca_file: words.ca_file,
    };
    match settle(args, words.verbose) {
        Ok(request) => locked(host, |host| onboard(host, request)),
        Err(code) => code,
    }
}

/// What was given, checked; with `-v` it is shown, the key masked (bundle.md 6.3).
fn settle(args: OnboardingArgs, verbose: bool) -> std::result::Result<OnboardingRequest, u8> {
    if verbose {
        let plain = |text: &str| text.replace(char::is_control, "?");
        out!("Workspace ID:  {}", plain(&args.id));
        out!("Shared key:    {}", args.key.masked());
        let domain = args.domain.as_deref().unwrap_or(DEFAULT_TLD);
        out!("Domain:        {}", plain(domain));
    }
    match settle_onboarding(args) {
        Ok(request) => Ok(OnboardingRequest { verbose, ..request }),
        Err((code, text)) => {
            out!("{text}");
            Err(code)
        }
    }
}

/// Onboards with what /etc/omsagent-onboard.conf says; the file goes when that succeeded
/// (bundle.md 3). The caller holds the host's lock. `ca_file` counts when the file names none.
pub fn onboard_from_file(host: &Host, ca_file: Option<PathBuf>, verbose: bool) -> u8 {
    copies::begin(&[]);
    let path = host.layout.onboarding_file();
    out!("Reading onboarding params from: {}", path.display());
    // It decides to whom this host talks, and is read by root.
    if nix::unistd::geteuid().is_root() && path.exists() && !files::only_root_can_change(&path) {
        out!(
            "error\tonboarding file `{0}` is not trusted: not only root can change it; check it, then: chown root:root {0}; chmod 600 {0}",
            path.display()
        );
        return 2;
    }
    let file = match OnboardingFile::load(&path) {
        Ok(Some(file)) => file,
        Ok(None) => {
            out!("error\tonboarding file `{}` does not exist", path.display());
            return 2;
        }
        Err(e) => {
            out!("error\t{e:#}");
            return 2;
        }
    };
    for text in &file.warnings {
        out!("warning\t{text}");
    }
    let code = onboard_what_it_says(host, file, ca_file, verbose);
    if code == 0
        && let Err(e) = files::remove(&path)
    {
        err!("warning\t{e:#}");
    }
    code
}

fn onboard_what_it_says(
    host: &Host,
    file: OnboardingFile,
    ca_file: Option<PathBuf>,
    verbose: bool,
) -> u8 {
    match file.workspace_id.as_deref() {
        Some("scom") => return onboard_scom(host),
        Some("LAD") => return onboard_lad(host, file.url_tld, file.azure_resource_id),
        _ => {}
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
    match settle(args, verbose) {
        Ok(request) => onboard(host, request),
        Err(code) => code,
    }
}

fn onboard(host: &Host, request: OnboardingRequest) -> u8 {
    signals::interrupt_plans();
    let id = request.id.clone();
    match deploy::onboard(host, request, &mut Console) {
        Ok(_) => {
            if let Some(port) = port::configured(&host.layout, &id) {
                warn_of_doubles(host, port);
            }
            0
        }
        Err(broken) => {
            out!("error\t{broken}");
            for line in &broken.left_behind {
                err!("error\tnot taken back: {line}");
            }
            workspace::exit_code(&broken.source)
        }
    }
}

fn onboard_scom(host: &Host) -> u8 {
    out!("info\tOnboarding SCOM");
    let made = match pseudo::scom(host, &mut Console) {
        Ok(made) => made,
        // A certificate that cannot be made (bundle.md 1.6).
        Err(e) => {
            out!("error\t{e:#}");
            return 1;
        }
    };
    let code = finish_plan(host, "onboard scom", made.plan);
    match code {
        0 if made.restart_omi => pseudo::restart_omi(host, &mut Console),
        code => code,
    }
}

fn onboard_lad(host: &Host, domain: Option<String>, azure_resource: Option<String>) -> u8 {
    out!("info\tOnboarding LAD");
    let domain = domain.unwrap_or_else(|| DEFAULT_TLD.into());
    if !is_tld(&domain) {
        out!("error\tThe domain is not valid: correct the value of -d");
        return 3;
    }
    match pseudo::lad(host, &domain, azure_resource.as_deref()) {
        Ok(plan) => finish_plan(host, "onboard LAD", plan),
        Err(e) => {
            out!("error\t{e:#}");
            30
        }
    }
}

/// Each part as a plan of its own; the code of the last one that failed (bundle.md 6.8).
fn run_parts(
    host: &Host,
    what: &str,
    make: fn(&Host, &mut dyn crate::plan::Report) -> Result<refresh::Parts>,
) -> u8 {
    let failed = |e: anyhow::Error| {
        out!("error\t{e:#}");
        30
    };
    locked(host, |host| match make(host, &mut Console) {
        Ok(parts) => parts.into_iter().fold(0, |code, part| {
            let done = part.map_or_else(failed, |plan| finish_plan(host, what, plan));
            if done == 0 { code } else { done }
        }),
        Err(e) => failed(e),
    })
}

fn finish_plan(host: &Host, what: &str, plan: Plan) -> u8 {
    signals::interrupt_plans();
    let about = Run {
        what: what.to_owned(),
        version: release::version(),
        cut_short: CutShort::TakeBack,
    };
    let mut journal = Journal::at(&host.layout.records(), about);
    match plan.run(host, &mut journal, &mut Console) {
        Ok(_) => 0,
        Err(broken) => {
            out!("error\t{broken}");
            for line in &broken.left_behind {
                err!("error\tnot taken back: {line}");
            }
            30
        }
    }
}

/// `-x`: only what is a workspace, and of which anything is left, is removed. Another word is
/// told, and no error (bundle.md 6.5).
fn remove_one(host: &Host, typed: &str) -> u8 {
    match workspace::typed(&host.layout, typed) {
        Ok(name) if removal::traces(&host.layout).contains(&name) => {
            locked(host, |host| remove_these(host, &[name]))
        }
        Ok(name) => {
            out!("error\tWorkspace {name} doesn't exist");
            out!("info\tCleanup the folders");
            0
        }
        Err(_) => {
            out!("error\tWorkspace {} doesn't exist", shown_word(typed));
            0
        }
    }
}

fn remove_these(host: &Host, names: &[WorkspaceName]) -> u8 {
    match removal::remove(host, names, &mut Console) {
        Ok(()) => 0,
        Err(e) => {
            out!("error\t{e:#}");
            30
        }
    }
}
