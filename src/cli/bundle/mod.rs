//! The bundle's door: what runs when the stub has put this binary beside itself.

pub mod args;

use crate::bundle::{Bundle, BundleError, RUNNER_NAME, Trust, signature};
use crate::cli::admin;
use crate::cli::report::Console;
use crate::cli::signals;
use crate::cli::verify;
use crate::host::Host;
use crate::host::layout::Layout;
use crate::install::deploy::{self, DeployError, Order};
use crate::install::extract;
use crate::install::release;
use crate::install::withdraw::{self, Depth};
use crate::plan::{Report, lock};
use crate::workspace::{OnboardingRequest, exchange};
use crate::{err, out};
use args::{Mode, OnboardingArgs, Request, Stop, Surroundings};
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// The descriptor on which the stub leaves the bundle open.
const BUNDLE_FD: &str = "/proc/self/fd/8";
/// How long another change of the host is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(120);

/// How a run ends: the code, and whether the status line is due.
struct End {
    code: u8,
    trailer: bool,
}

/// Runs the bundle with the words after its name.
pub fn run(words: &[OsString]) -> u8 {
    let runner = RunnerFolder::find();
    let again = RunnerFolder::find();
    signals::watch(move || again.tidy());
    let argv0 = std::env::var("OMSB_SELF").unwrap_or_else(|_| RUNNER_NAME.into());
    // Asked first, whatever the words say (bundle.md 1.2).
    let host = Host::detect(Layout::new("/"));
    if host.packages.is_none() {
        err!("{}", DeployError::NoPackageManager);
        return end_line(66);
    }
    let end = match parse(words, &argv0) {
        Err(stop) => {
            if let Some(text) = &stop.out {
                out!("{text}");
            }
            if let Some(text) = &stop.err {
                err!("{text}");
            }
            End {
                code: stop.code,
                trailer: stop.trailer,
            }
        }
        Ok((request, echoes)) => {
            for line in echoes {
                out!("{line}");
            }
            match open_bundle() {
                Ok(bundle) => work(&host, request, Rc::new(bundle), &runner),
                Err(text) => {
                    err!("{argv0}: {text}");
                    End {
                        code: 2,
                        trailer: true,
                    }
                }
            }
        }
    };
    if end.trailer {
        return end_line(end.code);
    }
    end.code
}

/// The line that automation waits for (bundle.md 1.4).
fn end_line(code: u8) -> u8 {
    out!("OMS agent shell bundle exiting with status code {code}");
    code
}

fn parse(words: &[OsString], argv0: &str) -> Result<(Request, Vec<String>), Box<Stop>> {
    let around = Surroundings {
        argv0,
        version: &release::dotted(),
        root: nix::unistd::geteuid().is_root(),
        key_variable: std::env::var("OMSAGENT_SHARED_KEY").ok(),
        ca_variable: std::env::var_os("OMSAGENT_CA_FILE"),
        stdin: &mut std::io::stdin(),
    };
    args::parse(words, around)
}

fn open_bundle() -> Result<Bundle, String> {
    let file = File::open(BUNDLE_FD).map_err(|e| {
        format!("cannot read the bundle: {e}; start it as `sh omsagent-....universal.x64.sh`")
    })?;
    Bundle::open(file)
        .and_then(|bundle| trust(&bundle).map(|_| bundle))
        .map_err(|e| format!("{e}; download it again"))
}

/// Who made it: a release takes only what its own key has signed.
fn trust(bundle: &Bundle) -> Result<Trust, BundleError> {
    bundle.trust(signature::built_in()?.as_ref())
}

fn work(host: &Host, request: Request, bundle: Rc<Bundle>, runner: &RunnerFolder) -> End {
    let end = |code| End {
        code,
        trailer: true,
    };
    if request.nothing_to_do {
        return end(0);
    }
    // The other modes have no use for it (bundle.md 3).
    let deploys = matches!(request.mode, Mode::Install | Mode::Upgrade);
    let onboarding = request.onboarding.filter(|_| deploys);
    let settled = match onboarding.map(settle_onboarding).transpose() {
        Ok(settled) => settled,
        Err((code, text)) => {
            err!("{text}");
            return end(code);
        }
    };
    match request.mode {
        Mode::Remove | Mode::Purge => end(take_away(host, request.mode, request.dry_run)),
        Mode::Extract | Mode::VersionCheck => {
            out!("Extracting OMS agent install bundle...");
            end(look_inside(host, &bundle, request.mode))
        }
        Mode::Install | Mode::Upgrade => {
            let order = Order {
                fresh: request.mode == Mode::Install,
                force: request.force,
                no_digest: request.no_digest,
                onboarding: settled,
            };
            end(put_in_place(host, bundle, runner, order, request.dry_run))
        }
    }
}

/// Words to types; exit code 3 of protocol.md 1.9 before anything is changed.
pub fn settle_onboarding(args: OnboardingArgs) -> Result<OnboardingRequest, (u8, String)> {
    let id = args.id.parse().map_err(|e| {
        let text = format!("error\tThe Workspace ID is not valid: {e}");
        (3, text)
    })?;
    // The very check that the exchange makes, before anything is changed.
    exchange::check_key(&args.key).map_err(|e| (e.exit_code(), format!("error\t{e}")))?;
    if let Some(line) = &args.proxy {
        crate::settings::proxy::parse(line.expose())
            .map_err(|e| (4, format!("error\tThe proxy setting is not valid: {e}")))?;
    }
    let ca_file = match args.ca_file {
        None => None,
        Some(path) => Some(std::fs::canonicalize(&path).map_err(|e| {
            let text = format!("error\tcannot read CA file `{}`: {e}", path.display());
            (2, text)
        })?),
    };
    Ok(OnboardingRequest {
        id,
        key: args.key,
        domain: args
            .domain
            .unwrap_or_else(|| crate::settings::onboarding::DEFAULT_TLD.into()),
        proxy: args.proxy,
        azure_resource: args.azure_resource,
        marker: args.marker,
        ca_file,
    })
}

fn take_away(host: &Host, mode: Mode, dry_run: bool) -> u8 {
    let depth = match mode {
        Mode::Purge => Depth::Purge,
        _ => Depth::Remove,
    };
    if dry_run {
        out!("Would remove package omsagent and undo what it changed on this host");
        if depth == Depth::Purge {
            out!("Would delete every workspace's settings, keys, queues and logs");
        }
        return 0;
    }
    let done = lock::take(&host.layout, LOCK_PATIENCE)
        .and_then(|_lock| withdraw::withdraw(host, depth, &mut Console));
    match done {
        Ok(()) => 0,
        Err(e) => {
            err!("error\t{e:#}");
            17
        }
    }
}

fn look_inside(host: &Host, bundle: &Bundle, mode: Mode) -> u8 {
    let done = match mode {
        Mode::Extract => std::env::current_dir()
            .map_err(Into::into)
            .and_then(|cwd| extract::extract(bundle, &cwd, std::process::id()).map(|_| ())),
        _ => deploy::version_rows(host).map(|rows| rows.iter().for_each(|row| out!("{row}"))),
    };
    match done {
        Ok(()) => 0,
        Err(e) => {
            out!("Failed: could not extract the install bundle.");
            err!("error\t{e:#}");
            2
        }
    }
}

fn put_in_place(
    host: &Host,
    bundle: Rc<Bundle>,
    runner: &RunnerFolder,
    order: Order,
    dry_run: bool,
) -> u8 {
    out!("Extracting OMS agent install bundle...");
    if let Err(e) = bundle.verify(&mut |_, _| {}) {
        err!("error\t{e}; nothing was changed; download it again");
        return 2;
    }
    if let Some(line) = trust(&bundle).ok().as_ref().and_then(verify::doubt) {
        err!("{line}");
    }
    if dry_run {
        return match deploy::preview(host, &bundle, runner.path(), &order) {
            Ok(lines) => {
                for (line, pending) in lines {
                    out!("{} {line}", if pending { "would" } else { "     (done)" });
                }
                0
            }
            Err(e) => fail(&e),
        };
    }
    let _lock = match lock::take(&host.layout, LOCK_PATIENCE) {
        Ok(lock) => lock,
        Err(e) => {
            err!("error\t{e:#}");
            return 30;
        }
    };
    signals::interrupt_plans();
    let onboards = order.onboarding.is_some();
    if let Ok(plan) = deploy::package_plan(host, &bundle, runner.path(), &order)
        && plan
            .preview()
            .is_ok_and(|steps| steps.last().is_some_and(|(_, pending)| !pending))
    {
        out!(
            "Skipping package upgrade since existing version is >= than version already installed."
        );
    }
    match deploy::deploy(host, bundle, runner.path(), order, &mut Console) {
        // The package's own script leaves it to us, so that its failure has an exit code.
        Ok(_) if !onboards && host.layout.onboarding_file().exists() => {
            let code = admin::onboard_from_file(host, None);
            if code != 0 {
                err!("{}", not_onboarded());
            }
            code
        }
        Ok(changed) => {
            if !changed {
                Console.line("Nothing to do: this host is as asked for.");
            }
            0
        }
        Err(e) => {
            if let DeployError::Onboarding { .. } = e
                && onboards
            {
                let code = fail(&e);
                err!("{}", not_onboarded());
                return code;
            }
            fail(&e)
        }
    }
}

fn not_onboarded() -> &'static str {
    "error\tThe package is installed, the workspace is NOT onboarded; mend the cause, then: omsadmin.sh -w ID -s KEY"
}

fn fail(error: &DeployError) -> u8 {
    match error {
        DeployError::AlreadyInstalled | DeployError::NoPackageManager => err!("{error}"),
        DeployError::WrongKind { .. } => out!("{error}"),
        DeployError::Onboarding { broken } => {
            err!("error\t{error}");
            for line in &broken.left_behind {
                err!("error\tnot taken back: {line}");
            }
        }
        _ => err!("error\t{error}"),
    }
    error.exit_code()
}

/// The private folder that the stub made for us; gone when we are.
struct RunnerFolder(PathBuf);

impl RunnerFolder {
    /// Where this very program lies: the environment is not asked.
    fn find() -> Self {
        let own = std::fs::read_link("/proc/self/exe").unwrap_or_default();
        RunnerFolder(own.parent().map(Path::to_owned).unwrap_or_default())
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl RunnerFolder {
    /// Takes away what the stub and we put there, and the folder if that was all. Somebody who
    /// runs the program by hand keeps the folder it lies in.
    fn tidy(&self) {
        let stub_says = std::env::var_os("OMSB_RUNDIR").map(PathBuf::from);
        if self.0.as_os_str().is_empty() || stub_says.as_ref() != Some(&self.0) {
            return;
        }
        let _ = std::fs::remove_file(self.0.join(RUNNER_NAME));
        for suffix in ["deb", "rpm"] {
            let name = format!("{}.{suffix}", release::base_name());
            let _ = std::fs::remove_file(self.0.join(name));
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}

impl Drop for RunnerFolder {
    fn drop(&mut self) {
        self.tidy();
    }
}
