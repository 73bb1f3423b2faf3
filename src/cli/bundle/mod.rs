//! The bundle's door: what runs when the stub has put this binary beside itself.

mod answers;
pub mod args;
mod image;
mod immediate;
pub(in crate::cli) mod interactive;
mod json;
pub mod log;
mod manner;
mod preflight;
pub mod progress;
mod removal;
mod runner;
mod session;
mod shown;

use crate::base::ids::NotAGuid;
use crate::bundle::{Bundle, BundleError, RUNNER_NAME, Trust, signature};
use crate::cli::admin;
use crate::cli::copies;
use crate::cli::report::{self, Console};
use crate::cli::signals;
use crate::cli::verify;
use crate::host::Host;
use crate::host::layout::Layout;
use crate::install::companions::{self, Delivery};
use crate::install::deploy::{self, DeployError, Order};
use crate::install::first_boot;
use crate::install::kits;
use crate::install::means;
use crate::install::recovery::{self, Purpose};
use crate::install::release;
use crate::plan::keep::{Keep, same};
use crate::plan::lock::{self, HostLock};
use crate::plan::{Report, State};
use crate::workspace::OnboardingRequest;
use crate::workspace::exchange::{self, OnboardError};
use crate::{err, out};
use args::{Mode, OnboardingArgs, Request};
use image::Place;
use runner::RunnerFolder;
use session::{Session, Stage};
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The descriptor on which the stub leaves the bundle open.
const BUNDLE_FD: &str = "/proc/self/fd/8";

/// Exit code of `--detailed-exitcode` when the host was changed.
pub const CHANGED: u8 = 100;
/// Exit code when a person said no.
pub const DECLINED: u8 = 1;

/// How a run ends: the code, and whether the status line is due.
struct End {
    code: u8,
    trailer: bool,
}

impl End {
    fn new(code: u8) -> End {
        End {
            code,
            trailer: true,
        }
    }

    /// Without the status line.
    fn silent(code: u8) -> End {
        End {
            code,
            trailer: false,
        }
    }
}

/// Runs the bundle with the words after its name.
pub fn run(words: &[OsString]) -> u8 {
    let runner = RunnerFolder::find();
    let again = RunnerFolder::find();
    signals::watch(move || again.tidy());
    let argv0 = std::env::var("OMSB_SELF").unwrap_or_else(|_| RUNNER_NAME.into());
    let host = Host::detect(Layout::new("/"));
    Session::hold(words, host, |session, stage, words| {
        conduct(stage, &argv0, &runner, session, words)
    })
}

fn conduct(
    stage: &mut Stage,
    argv0: &str,
    runner: &RunnerFolder,
    session: &mut Session,
    words: &[OsString],
) -> End {
    let version = release::dotted();
    let mut stdin = std::io::stdin();
    let mut now = immediate::OnThisHost { argv0 };
    let around = session.surroundings(argv0, &version, &mut stdin, &mut now);
    match args::parse(words, around) {
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
        Ok(request) => match open_bundle() {
            Ok(bundle) => work(stage, request, Rc::new(bundle), runner, session),
            Err(text) => {
                err!("{argv0}: {text}");
                End::new(2)
            }
        },
    }
}

fn open_bundle() -> Result<Bundle, String> {
    let file = File::open(BUNDLE_FD).map_err(|e| {
        format!("cannot read the bundle: {e}; start it as `sh omsagent-....universal.x64.sh`")
    })?;
    let bundle = Bundle::open(file)
        .and_then(|bundle| trust(&bundle).map(|_| bundle))
        .map_err(|e| format!("{e}; download it again"))?;
    let (own, release) = (release::version(), &bundle.header().release);
    if !same(&own, release) {
        return Err(format!(
            "the bundle is of release {release}, the program in it of {own}: it was not built whole"
        ));
    }
    Ok(bundle)
}

/// Who made it: a release takes only what its own key has signed.
fn trust(bundle: &Bundle) -> Result<Trust, BundleError> {
    bundle.trust(signature::built_in()?.as_ref())
}

fn work(
    stage: &mut Stage,
    mut request: Request,
    bundle: Rc<Bundle>,
    runner: &RunnerFolder,
    session: &mut Session,
) -> End {
    if let Some(time) = request.lock_timeout {
        lock::be_patient(time);
    }
    session.facts.mode = Some(request.mode);
    session.facts.dry_run = request.dry_run;
    match image::enter(&mut stage.host, &request) {
        Ok(place) => stage.place = place,
        Err(e) => {
            err!("error\t{e:#}; nothing was changed");
            return End::new(2);
        }
    }
    let host = &stage.host;
    if session.wants_facts() {
        session.facts.look_at(host, &bundle);
    }
    let deploys = matches!(request.mode, Mode::Install | Mode::Upgrade);
    // Those two wait for the check of the whole bundle.
    let waits = deploys && !request.nothing_to_do;
    if request.opsmgr
        && !request.dry_run
        && !waits
        && let Err(text) = immediate::mark_opsmgr()
    {
        err!("error\t{text}");
        return End::silent(1);
    }
    if request.nothing_to_do {
        return End::new(0);
    }
    // The other modes have no use for it (bundle.md 3).
    let mut onboarding = request.onboarding.take().filter(|_| deploys);
    if let (Some(args), Some(_)) = (&mut onboarding, &stage.place) {
        args.ca_file = None; // read already, outside
    }
    let settled = match onboarding.map(settle_onboarding).transpose() {
        Ok(settled) => settled,
        Err((code, text)) => {
            err!("{text}");
            return End::new(code);
        }
    };
    if let Some(asked) = &settled {
        copies::begin(&[Some(&asked.key), asked.proxy.as_ref()]);
    }
    session.facts.asked = settled.as_ref().map(|s| s.id.as_str().to_owned());
    let code = match request.mode {
        Mode::Remove | Mode::Purge => removal::take_away(host, &request, runner, session),
        Mode::Extract => return shown::lay_out(&bundle, session),
        Mode::VersionCheck => {
            let scratch = match scratch(&mut stage.place, runner) {
                Ok(scratch) => scratch,
                Err(code) => return End::new(code),
            };
            return shown::compare(&stage.host, &bundle, &scratch, request.force);
        }
        Mode::Install | Mode::Upgrade => {
            let (means, line) = match means::choose(host, request.portable) {
                Ok(chosen) => chosen,
                Err(e) => return End::new(fail(&e)),
            };
            match line.as_deref().map(|l| (l, l.starts_with("warning"))) {
                Some((line, true)) => err!("{line}"),
                Some((line, false)) => out!("{line}"),
                None => {}
            }
            let scratch = match scratch(&mut stage.place, runner) {
                Ok(scratch) => scratch,
                Err(code) => return End::new(code),
            };
            let (onboarding, first_boot) = match (settled, &stage.place) {
                (Some(request), Some(place)) => match place.first_boot(request) {
                    Ok(first_boot) => (None, Some(first_boot)),
                    Err(e) => {
                        err!("error\t{e:#}");
                        return End::new(2);
                    }
                },
                (settled, _) => (settled, None),
            };
            let order = Order {
                means,
                fresh: request.mode == Mode::Install,
                force: request.force,
                no_digest: request.no_digest,
                kits: kits::How {
                    upgrade: request.mode == Mode::Upgrade,
                    force: request.force,
                    restart_deps: request.restart_deps,
                    no_digest: request.no_digest,
                    skip_docker: request.skip_docker,
                },
                onboarding,
                first_boot,
            };
            put_in_place(
                &stage.host,
                bundle,
                runner,
                &scratch,
                order,
                request.opsmgr,
                session,
            )
        }
    };
    End::new(code)
}

/// A private folder for package files: the stub's, or one inside the image.
fn scratch(place: &mut Option<Place>, runner: &RunnerFolder) -> Result<PathBuf, u8> {
    let Some(place) = place else {
        return Ok(runner.path().to_owned());
    };
    place.make_scratch().map(Path::to_owned).map_err(|e| {
        err!("error\t{e:#}");
        30
    })
}

/// Words to types; exit code 3 of protocol.md 1.9 before anything is changed.
pub fn settle_onboarding(args: OnboardingArgs) -> Result<OnboardingRequest, (u8, String)> {
    let refused = |e: OnboardError| (e.exit_code(), format!("error\t{e}"));
    let id = args.id.parse();
    let id = id.map_err(|e: NotAGuid| refused(OnboardError::BadId(e.to_string())))?;
    // The very check that the exchange makes, before anything is changed.
    exchange::check_key(&args.key).map_err(refused)?;
    if let Some(line) = &args.proxy {
        exchange::check_proxy(line).map_err(refused)?;
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
        verbose: false,
    })
}

fn put_in_place(
    host: &Host,
    bundle: Rc<Bundle>,
    runner: &RunnerFolder,
    scratch: &Path,
    order: Order,
    opsmgr: bool,
    session: &mut Session,
) -> u8 {
    out!("Extracting OMS agent install bundle...");
    let verified = bundle.verify(&mut |done, all| {
        report::with(|record| record.bar.at(done, all, "verify the bundle"));
    });
    if let Err(e) = verified {
        err!("error\t{e}; nothing was changed; download it again");
        return 2;
    }
    if let Some(line) = trust(&bundle).ok().as_ref().and_then(verify::doubt) {
        err!("{line}");
    }
    let dry_run = session.facts.dry_run;
    // What a killed run left could be in the way of its own cure, and takes up space.
    let lock = match dry_run {
        true => None,
        false => match enter(host) {
            Ok(lock) => Some(lock),
            Err(code) => return code,
        },
    };
    if let Some(code) = preflight::tell(host, &bundle, scratch, &order) {
        return code;
    }
    if dry_run || session.wants_plan() {
        let packages = match deploy::preview(host, &bundle, scratch, &order) {
            Ok(lines) => lines,
            Err(e) => return fail(&e),
        };
        let marker = opsmgr.then(immediate::marking_of_opsmgr);
        let file = by_file(host, &order).map(|what| (what, true));
        session.plan(marker.into_iter().chain(packages).chain(file));
        if kits::fit(host, order.means) {
            session.plan_kits(kits::outline(host, &bundle, order.kits));
        }
    }
    if dry_run {
        session.show_plan();
        return 0;
    }
    let _lock = if session.asks() {
        drop(lock); // nobody waits for a person's answer
        if let Some(code) = session.confirm() {
            return code;
        }
        match enter(host) {
            Ok(lock) => Some(lock),
            Err(code) => return code,
        }
    } else {
        lock
    };
    signals::interrupt_plans();
    if !host.image {
        runner.sweep_others();
    }
    if opsmgr && let Err(text) = immediate::mark_opsmgr() {
        err!("error\t{text}");
        return 1;
    }
    let onboards = order.onboarding.is_some();
    let by_file = by_file(host, &order);
    let runs_kits = kits::fit(host, order.means);
    if let Ok(plan) = deploy::package_plan(host, &bundle, scratch, &order)
        && plan.preview().is_ok_and(|steps| {
            steps
                .iter()
                .any(|(step, pending)| !pending && step.contains(" package "))
        })
    {
        out!(
            "Skipping package upgrade since existing version is >= than version already installed."
        );
    }
    let how = order.kits;
    let delivery = Delivery {
        host,
        bundle: &bundle,
        scratch,
        force: order.force,
        no_digest: order.no_digest,
    };
    let lines = match order.means.manager() {
        Some(manager) => companions::left_alone(&delivery, manager).unwrap_or_default(),
        None => companions::left_out(&bundle),
    };
    for line in lines {
        out!("{line}");
    }
    let at_first_boot = order.first_boot.is_some();
    let code = match deploy::deploy(host, bundle.clone(), scratch, order, &mut Console) {
        // The package's own script leaves it to us, so that its failure has an exit code.
        Ok(_) if by_file.is_some() && host.layout.onboarding_file().exists() => {
            let code = admin::onboard_from_file(host, None, false);
            match by_file {
                _ if code != 0 => err!("{}", not_onboarded()),
                Some(what) => Console.one_step(&what, State::Done),
                None => {}
            }
            code
        }
        Ok(changed) => {
            if !changed {
                Console.line("Nothing to do: this host is as asked for.");
            }
            if at_first_boot {
                Console.line(&first_boot::who_onboards(host));
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
    };
    match code {
        0 if runs_kits => kits::run_all(host, &bundle, scratch, how, &mut Console),
        code => code,
    }
}

/// The step that a file asks for which somebody has put there: onboarding, unless the command line
/// asks for that itself.
fn by_file(host: &Host, order: &Order) -> Option<String> {
    let path = host.layout.onboarding_file();
    let is_used = order.onboarding.is_none() && host.is_live() && path.exists();
    is_used.then(|| format!("onboard as {} says, and delete it", path.display()))
}

/// Takes the host's lock and mends what a run that was killed left.
fn enter(host: &Host) -> Result<HostLock, u8> {
    let lock = recovery::enter(host, Purpose::Change, &mut Console).map_err(|e| {
        err!("error\t{e:#}");
        30
    })?;
    Keep::of(&host.layout).trim();
    Ok(lock)
}

fn not_onboarded() -> &'static str {
    "error\tThe package is installed, the workspace is NOT onboarded; mend the cause, then: omsadmin.sh -w ID -s KEY"
}

fn fail(error: &DeployError) -> u8 {
    match error {
        DeployError::AlreadyInstalled | DeployError::NoPackageManager(_) => err!("{error}"),
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
