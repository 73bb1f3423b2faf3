//! The door `omsagent run`.

use crate::agent::journal::Journal;
use crate::agent::run::{self, Request};
use crate::base::ids::WorkspaceName;
use crate::host::layout::{Layout, STATUS_SOCKET};
use crate::wire::tls::{CA_FILE_VARIABLE, choose_ca_file};
use anyhow::{Context, Result, bail};
use log::LevelFilter;
use std::path::{Path, PathBuf};

/// What was typed. The short forms are those of the original's service files.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// omsagent.conf [default: that of --workspace]
    #[arg(
        short,
        long,
        value_name = "FILE",
        required_unless_present = "workspace"
    )]
    config: Option<PathBuf>,
    /// Write the process id there [default with --workspace: its run folder]
    #[arg(short = 'd', long = "daemon", value_name = "PIDFILE")]
    pid_file: Option<PathBuf>,
    /// Append log lines there [default: standard error]
    #[arg(short = 'o', long = "log", value_name = "FILE")]
    log: Option<PathBuf>,
    /// Accepted: there is one process, the service manager restarts it
    #[arg(long)]
    no_supervisor: bool,
    /// Use the files of this workspace
    #[arg(long, value_name = "ID")]
    workspace: Option<WorkspaceName>,
    /// More in the log
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Only warnings and errors in the log
    #[arg(short, long, conflicts_with = "verbose")]
    quiet: bool,
    /// Certificates to trust beside the system's, PEM [default: OMSAGENT_CA_FILE, then the one
    /// left by onboarding]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Files are below this folder
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
}

/// Runs it; the number is the exit code.
pub fn run(args: Args) -> Result<u8> {
    let request = request(&args)?;
    let journal = match &args.log {
        Some(path) => Journal::to_file(path)
            .with_context(|| format!("cannot open the log `{}`", path.display()))?,
        None => Journal::to_stderr(),
    };
    journal.install(match (args.quiet, args.verbose) {
        (true, _) => LevelFilter::Warn,
        (_, 0) => LevelFilter::Info,
        _ => LevelFilter::Debug,
    });
    match run::run(&request) {
        Ok(()) => Ok(0),
        Err(error) if args.log.is_some() => {
            log::error!("{error:#}");
            log::logger().flush();
            Err(error) // for whoever started us by hand
        }
        Err(error) => Err(error),
    }
}

fn request(args: &Args) -> Result<Request> {
    let layout = Layout::new(&args.root);
    let workspace = args.workspace.as_ref().map(|id| layout.workspace(id));
    let config = match (&args.config, &workspace) {
        (Some(path), _) => path.clone(),
        (None, Some(ws)) => ws.omsagent_conf(),
        (None, None) => bail!("name the configuration: `-c omsagent.conf` or `--workspace ID`"),
    };
    let pid_file = args.pid_file.clone();
    let pid_file = pid_file.or_else(|| workspace.as_ref().map(|ws| ws.pid_file()));
    let log_folder = args
        .log
        .as_deref()
        .and_then(Path::parent)
        .map(Path::to_owned);
    let var = |folder: &str, known: Option<PathBuf>| {
        // Beside the folder of the log or the pid file, as VAR/<WS> is laid out.
        let beside = |path: &PathBuf| Some(path.parent()?.parent()?.join(folder));
        known
            .or_else(|| args.log.as_ref().and_then(beside))
            .or_else(|| args.pid_file.as_ref().and_then(beside))
            .unwrap_or_else(|| layout.var().join(folder))
    };
    let variable = std::env::var_os(CA_FILE_VARIABLE).map(PathBuf::from);
    Ok(Request {
        // Beside the pid file, where `omsagent status` looks for it.
        window: pid_file
            .as_ref()
            .and_then(|path| Some(path.parent()?.join(STATUS_SOCKET))),
        state: var("state", workspace.as_ref().map(|ws| ws.state())),
        status: match log_folder {
            Some(folder) => folder,
            None => var("log", workspace.as_ref().map(|ws| ws.log())),
        },
        ca_file: choose_ca_file(args.ca_file.clone(), variable, &layout.ca_file()),
        config,
        pid_file,
        layout,
    })
}
