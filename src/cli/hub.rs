//! The door `omsagent hub`.

mod agents;
mod workspace;

use crate::hub::{Folder, Options, Reader, Rows, Server, Stop, StoredItem};
use crate::{err, out};
use anyhow::{Context, Result};
use clap::Subcommand;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve agents until stopped by SIGTERM or SIGINT
    Serve(ServeArgs),
    /// Workspaces and their keys; a serving hub need not be restarted
    #[command(subcommand)]
    Workspace(workspace::Verb),
    /// List agents; ask them for new certificates, shut them out, forget them
    Agents(agents::Args),
    /// Run an SQL statement that reads (views: Syslog, Heartbeat, ...; see docs/hub.md)
    Query {
        /// The hub's data folder
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// The statement
        sql: String,
        /// A JSON list of objects in place of a table
        #[arg(long)]
        json: bool,
    },
    /// Print the newest items
    Tail(TailArgs),
}

#[derive(Debug, clap::Args)]
struct ServeArgs {
    /// The hub's data folder, made when it is not there
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where to listen, e.g. 0.0.0.0:443 or [::]:443; port 0 picks a free one
    #[arg(long, value_name = "ADDR:PORT")]
    listen: SocketAddr,
    /// Agents come as <workspace>.oms.DOMAIN and <workspace>.ods.DOMAIN
    #[arg(long, value_name = "DOMAIN")]
    domain: String,
    /// Server certificate and what leads to its root, PEM [default: issued by the hub's own CA]
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Private key of --cert, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// How far the clock of an onboarding agent may be off
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    max_skew: u64,
    /// Ask an agent for a new certificate so long before the end of its own
    #[arg(long, value_name = "DAYS", default_value_t = 30,
          value_parser = clap::value_parser!(u16).range(0..=300))]
    renew_before: u16,
    /// Requests that shall go wrong, TOML, for tests of agents (see docs/hub.md)
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
    /// Connections served at a time; more wait
    #[arg(long, value_name = "N", default_value_t = 256,
          value_parser = clap::value_parser!(u16).range(1..=10_000))]
    max_connections: u16,
}

#[derive(Debug, clap::Args)]
struct TailArgs {
    /// The hub's data folder
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Go on printing what comes, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Only items of this DataType, e.g. LINUX_SYSLOGS_BLOB
    #[arg(long = "type", value_name = "T")]
    data_type: Option<String>,
    /// How many to begin with
    #[arg(short = 'n', value_name = "N", default_value_t = 10)]
    count: usize,
}

/// Runs it; the number is the exit code.
pub fn run(args: Args) -> Result<u8> {
    match args.verb {
        Verb::Serve(args) => serve(args)?,
        Verb::Workspace(verb) => workspace::run(verb)?,
        Verb::Agents(args) => agents::run(args)?,
        Verb::Query { data, sql, json } => {
            let rows = Reader::open(&Folder::open(&data)?)?.query(&sql)?;
            match json {
                true => print_json(&rows.to_json()),
                false => print_table(&rows),
            }
        }
        Verb::Tail(args) => tail(&args)?,
    }
    Ok(0)
}

fn serve(args: ServeArgs) -> Result<()> {
    log_to_stderr();
    let stop = Stop::default();
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, stop.0.clone()).context("cannot handle signals")?;
    }
    let folder = Folder::make(&args.data)?;
    let mut options = Options::new(args.listen, &args.domain);
    options.certificate = args.cert.zip(args.key);
    options.max_skew = Duration::from_secs(args.max_skew);
    options.renew_before = Duration::from_secs(u64::from(args.renew_before) * 86_400);
    options.faults = args.faults;
    options.max_connections = args.max_connections.into();
    let server = Server::bind(&folder, options, stop)?;
    if let Some(ca_file) = server.ca_file() {
        out!("ca-file: {}", ca_file.display());
    }
    out!("listening on {}", server.address()?);
    notify("READY=1");
    server.run()?;
    notify("STOPPING=1");
    log::info!("stopped");
    Ok(())
}

fn tail(args: &TailArgs) -> Result<()> {
    let reader = Reader::open(&Folder::open(&args.data)?)?;
    let data_type = args.data_type.as_deref();
    let newest = reader.newest(args.count, data_type)?;
    // With no items yet, or none wanted, following still begins at the end.
    let mut last = match newest.last() {
        Some(item) => item.id,
        None => reader.newest(1, None)?.last().map_or(0, |item| item.id),
    };
    newest.iter().for_each(print_item);
    if !args.follow {
        return Ok(());
    }
    while stdout_is_open() {
        let new = reader.after(last, data_type)?;
        new.iter().for_each(print_item);
        match new.last() {
            Some(item) => last = item.id,
            None => std::thread::sleep(Duration::from_millis(500)),
        }
    }
    Ok(())
}

/// An item is JSON, which has no raw control characters; names are checked when they are stored,
/// but for computers.
fn print_item(item: &StoredItem) {
    let computer: String = item.computer.chars().filter(|c| !c.is_control()).collect();
    out!(
        "{}  {computer}  {}  {}",
        item.received_at,
        item.data_type,
        one_line(&item.item)
    );
}

/// JSON allows line breaks between its parts, and nowhere else: blanks serve as well.
fn one_line(json: &str) -> String {
    json.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Whether anybody still reads: `| head` ends a follow.
fn stdout_is_open() -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let stdout = std::io::stdout();
    let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    let _ = poll(&mut fds, PollTimeout::ZERO);
    let closed = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
    !fds[0]
        .revents()
        .is_some_and(|events| events.intersects(closed))
}

fn print_table(rows: &Rows) {
    crate::hub::aligned(rows)
        .iter()
        .for_each(|line| out!("{line}"));
}

fn print_json(objects: &[String]) {
    out!("[");
    for (i, object) in objects.iter().enumerate() {
        let comma = if i + 1 < objects.len() { "," } else { "" };
        out!("{object}{comma}");
    }
    out!("]");
}

/// Tells systemd, when it started us with `Type=notify`.
fn notify(state: &str) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&path),
    };
    let sent = address
        .and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = sent {
        log::warn!("cannot notify the service manager: {error}");
    }
}

fn log_to_stderr() {
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(log::LevelFilter::Info);
    }
}

/// One line an event: time, level, message.
struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("omsagent") || metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ");
            let level = record.level().as_str().to_ascii_lowercase();
            err!("{now} {level:<5} {}", record.args());
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_with_line_breaks_stay_on_one_line() {
        assert_eq!(one_line("{\n\t\"a\": 1\r\n}"), "{  \"a\": 1  }");
    }
}
