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
mod session;

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
use crate::install::departure;
use crate::install::deploy::{self, DeployError, Order};
use crate::install::extract;
use crate::install::first_boot;
use crate::install::kits;
use crate::install::means;
use crate::install::recovery::{self, Purpose};
use crate::install::release;
use crate::install::withdraw::Depth;
use crate::plan::{Report, State, lock};
use crate::workspace::OnboardingRequest;
use crate::workspace::exchange::{self, OnboardError};
use crate::{err, out};
use args::{Mode, OnboardingArgs, Request};
use image::Place;
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
    Bundle::open(file)
        .and_then(|bundle| trust(&bundle).map(|_| bundle))
        .map_err(|e| format!("{e}; download it again"))
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
    if request.nothing_to_do {
        return End::new(0);
    }
    // The other modes have no use for it (bundle.md 3).
    let deploys = matches!(request.mode, Mode::Install | Mode::Upgrade);
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
        Mode::Remove | Mode::Purge => take_away(host, &request, session),
        Mode::Extract | Mode::VersionCheck => {
            out!("Extracting OMS agent install bundle...");
            let scratch = match scratch(&mut stage.place, runner) {
                Ok(scratch) => scratch,
                Err(code) => return End::new(code),
            };
            look_inside(&stage.host, &bundle, &scratch, request.mode, session)
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
            put_in_place(&stage.host, bundle, &scratch, order, session)
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

fn take_away(host: &Host, request: &Request, session: &mut Session) -> u8 {
    let depth = match request.mode {
        Mode::Purge => Depth::Purge,
        _ => Depth::Remove,
    };
    let mut plan = vec!["remove package omsagent and undo what it changed on this host"];
    if depth == Depth::Purge {
        plan.push("delete every workspace's settings, keys, queues and logs");
    }
    let before = Traces::of(host);
    session.plan(plan.iter().map(|what| {
        let pending = before.package.is_some() || (depth == Depth::Purge && before.any());
        ((*what).to_owned(), pending)
    }));
    if session.facts.dry_run {
        for what in plan {
            out!("Would {what}");
        }
        return 0;
    }
    let refused = match depth {
        Depth::Purge => session.confirm().or_else(|| session.confirm_purge()),
        Depth::Remove => session.confirm(),
    };
    if let Some(code) = refused {
        return code;
    }
    let what = plan.join("; ");
    Console.step(0, 1, &what, State::Pending);
    let done = recovery::enter(host, Purpose::Remove, &mut Console)
        .and_then(|_lock| departure::withdraw_all(host, depth, request.force, &mut Console));
    let same = Traces::of(host) == before;
    let (code, state) = match done {
        Ok(()) if same => (0, State::AlreadySatisfied),
        Ok(()) => (0, State::Done),
        Err(e) => {
            err!("error\t{e:#}");
            (
                companions::code_of(&e).unwrap_or(17),
                if same { State::Undone } else { State::Failed },
            )
        }
    };
    Console.step(0, 1, &what, state);
    code
}

/// Packages that a removal may take away beside ours (bundle.md 2.5).
const COMPANIONS: [&str; 4] = ["omi", "scx", "omsconfig", "auoms"];

/// What of the product is on a host: two of them tell whether a removal changed anything.
#[derive(PartialEq, Eq)]
struct Traces {
    package: Option<String>,
    companions: Vec<Option<String>>,
    places: Vec<bool>,
}

impl Traces {
    fn of(host: &Host) -> Traces {
        let layout = &host.layout;
        let places = [
            layout.etc(),
            layout.var(),
            layout.opt(),
            layout.records(),
            layout.onboarding_file(),
        ];
        let ask = |name: &str| means::installed_version(host, name).ok().flatten();
        Traces {
            package: ask(release::PACKAGE),
            companions: COMPANIONS.map(ask).into(),
            places: places.iter().map(|p| p.exists()).collect(),
        }
    }

    fn any(&self) -> bool {
        self.package.is_some()
            || self.places.contains(&true)
            || self.companions.iter().any(Option::is_some)
    }
}

fn look_inside(
    host: &Host,
    bundle: &Bundle,
    scratch: &Path,
    mode: Mode,
    session: &mut Session,
) -> u8 {
    let done = match mode {
        Mode::Extract => std::env::current_dir()
            .map_err(Into::into)
            .and_then(|cwd| extract::extract(bundle, &cwd, std::process::id()))
            .map(|folder| session.facts.extracted = Some(folder)),
        _ => companions::version_rows(host, bundle).map(|rows| {
            let kits = match host.image {
                false => kits::version_rows(bundle, scratch),
                true => Vec::new(),
            };
            rows.iter().chain(&kits).for_each(|row| out!("{row}"));
        }),
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
    scratch: &Path,
    order: Order,
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
    if let Some(code) = preflight::tell(host, &bundle, scratch, &order) {
        return code;
    }
    if dry_run || session.wants_plan() {
        match deploy::preview(host, &bundle, scratch, &order) {
            Ok(lines) => session.plan(lines),
            Err(e) => return fail(&e),
        }
    }
    if dry_run {
        for step in &session.facts.plan {
            let mark = if step.pending { "would" } else { "     (done)" };
            out!("{mark} {}", step.what);
        }
        return 0;
    }
    if let Some(code) = session.confirm() {
        return code;
    }
    let _lock = match recovery::enter(host, Purpose::Change, &mut Console) {
        Ok(lock) => lock,
        Err(e) => {
            err!("error\t{e:#}");
            return 30;
        }
    };
    signals::interrupt_plans();
    let onboards = order.onboarding.is_some();
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
        Ok(_) if !onboards && host.is_live() && host.layout.onboarding_file().exists() => {
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
        // They are other people's programs, and may start what they install.
        0 if host.image => 0,
        0 => kits::run_all(host, &bundle, scratch, how, &mut Console),
        code => code,
    }
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
