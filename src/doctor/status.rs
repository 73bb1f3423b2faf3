//! How every workspace of this host stands, in one quick look (docs/status.md). Nothing is changed
//! and nothing is asked over the network; what this user may not see is `null`, and `unknown` says
//! why.

use super::asking::{self, Silent};
use super::sockets::{self, Listening};
use super::{process, retirement};
use crate::agent::figures::{ClockFigures, InputFigures, OutputFigures, Snapshot};
use crate::base::files;
use crate::base::ids::WorkspaceName;
use crate::base::order;
use crate::host::layout::WorkspacePaths;
use crate::host::unit_state::{self, UnitState};
use crate::host::{Host, services, unit};
use crate::settings::omsadmin::{self, OmsAdmin};
use crate::settings::proxy;
use crate::wire::certificate::Facts;
use crate::wire::identity::PEM_LIMIT;
use crate::workspace::{self, listing};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// Counts up when a field changes its meaning or goes; new fields may come without that.
pub const SCHEMA: u32 = 1;

/// An agent that is well answers in a millisecond.
const PATIENCE: Duration = Duration::from_millis(700);

/// Everything.
#[derive(Debug, Serialize)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Of this program.
    pub version: String,
    /// When this was seen, RFC 3339, as every time here.
    pub time: String,
    /// This host's name.
    pub host: String,
    /// False: somebody with more rights would see more.
    pub complete: bool,
    /// The primary one first.
    pub workspaces: Vec<WorkspaceStatus>,
}

/// One workspace.
#[derive(Debug, Serialize)]
pub struct WorkspaceStatus {
    /// Its id.
    pub id: String,
    /// `primary`, `secondary` or `other`.
    pub role: &'static str,
    /// Text of a secondary one's marker.
    pub marker: Option<String>,
    /// Key, certificate and settings are there.
    pub onboarded: Option<bool>,
    /// A unit is there.
    pub registered: bool,
    /// It is started at boot.
    pub enabled: bool,
    /// The agent runs.
    pub running: bool,
    /// The service manager's word; without one `running` or `stopped`.
    pub state: String,
    /// The agent's process.
    pub process: Option<ProcessStatus>,
    /// Where data goes.
    pub endpoint: Option<String>,
    /// What stands in between, `host:port`.
    pub proxy: Option<String>,
    /// The client certificate.
    pub certificate: Option<CertificateStatus>,
    /// When the service last took a heartbeat.
    pub heartbeat_accepted: Option<String>,
    /// When it last answered a topology heartbeat.
    pub topology_accepted: Option<String>,
    /// Why the last one failed.
    pub topology_problem: Option<String>,
    /// This host's clock beside the service's.
    pub clock: Option<ClockFigures>,
    /// Sources, since the agent's start.
    pub inputs: Vec<InputFigures>,
    /// Destinations, since the agent's start.
    pub outputs: Vec<OutputFigures>,
    /// Where the agent listens.
    pub listening: Vec<SocketStatus>,
    /// Services that end.
    pub notices: Vec<String>,
    /// What could not be learned, and why.
    pub unknown: Vec<String>,
}

/// A process.
#[derive(Debug, Serialize)]
pub struct ProcessStatus {
    /// Its number.
    pub pid: u32,
    /// How long it has run.
    pub uptime_seconds: u64,
    /// Resident memory.
    pub rss_kib: u64,
    /// Processor time since its start.
    pub cpu_seconds: f64,
    /// The same, of the time it ran.
    pub cpu_percent: f64,
}

/// A certificate.
#[derive(Debug, Serialize)]
pub struct CertificateStatus {
    /// First moment of validity: when it was made, so when it was last renewed.
    pub issued: String,
    /// Last moment of validity.
    pub expires: String,
    /// Days until then; negative: since then.
    pub days_left: i64,
    /// A new pair was made, and the service has not confirmed it yet.
    pub renewal_pending: bool,
    /// Why it is not renewed, though it should be.
    pub renewal_problem: Option<String>,
}

/// A socket.
#[derive(Debug, Serialize)]
pub struct SocketStatus {
    /// `udp` or `tcp`.
    pub protocol: &'static str,
    /// Address and port.
    pub address: String,
}

/// Looks at every workspace of this host.
pub fn look(host: &Host) -> Status {
    let mut ids = workspace::everything(&host.layout);
    let primary: Option<WorkspaceName> = workspace::primary(&host.layout).map(Into::into);
    order::by_key(&mut ids, |id| primary.as_ref() != Some(id));
    let sockets: Vec<PathBuf> = ids
        .iter()
        .map(|id| host.layout.workspace(id).status_socket())
        .collect();
    let asked = std::thread::spawn(move || asking::ask(&sockets, PATIENCE));
    let names: Vec<String> = ids.iter().map(unit::name).collect();
    let units = unit_state::of(host, &names);
    let trouble = units.as_ref().err().map(|e| format!("{e:#}"));
    let units = units.unwrap_or_default();
    let listening = sockets::listening();
    let answers = asked.join().unwrap_or_default();
    let mut answers = answers.into_iter();
    let workspaces: Vec<WorkspaceStatus> = ids
        .iter()
        .map(|id| {
            let unit = units.iter().find(|u| u.name == unit::name(id));
            let answer = answers.next().unwrap_or(Err(Silent::Stuck));
            let mut seen = one(host, id, unit, answer, &listening);
            seen.unknown.extend(trouble.clone());
            seen
        })
        .collect();
    Status {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        time: shown(Timestamp::now()),
        host: host.os.hostname.clone(),
        complete: workspaces.iter().all(|w| w.unknown.is_empty()),
        workspaces,
    }
}

fn one(
    host: &Host,
    id: &WorkspaceName,
    unit: Option<&UnitState>,
    answer: Result<Snapshot, Silent>,
    listening: &[Listening],
) -> WorkspaceStatus {
    let paths = host.layout.workspace(id);
    let mut unknown = Vec::new();
    let pid = match unit {
        Some(unit) => unit.pid,
        None => answer
            .as_ref()
            .ok()
            .map(|a| a.pid)
            .filter(|pid| process::look(*pid).is_some())
            .or_else(|| process::agent_of(&paths.omsagent_conf())),
    };
    let process = pid.and_then(process::look);
    let running = unit.map_or(process.is_some(), |u| {
        matches!(u.active.as_str(), "active" | "reloading")
    });
    let state = match unit {
        Some(unit) => unit.active.clone(),
        None if running => "running".to_owned(),
        None => "stopped".to_owned(),
    };
    let figures = match answer {
        Ok(figures) => figures,
        Err(_) if !running => Snapshot::default(),
        Err(why) => {
            unknown.push(format!("figures of the agent: {why}"));
            Snapshot::default()
        }
    };
    // The folder is the service account's: 0750.
    let may_read = std::fs::read_dir(paths.conf()).is_ok();
    let admin = match may_read {
        true => settings(&paths.omsadmin_conf(), &mut unknown),
        false if !paths.etc.exists() => None,
        false => {
            unknown.push(format!(
                "settings: `{}` cannot be read",
                paths.conf().display()
            ));
            None
        }
    };
    let name = crate::host::unit::name(id);
    let endpoint = admin.map(|a| a.oms_endpoint).filter(|url| !url.is_empty());
    let (role, marker) = match listing::role(host, id) {
        listing::Role::Primary => ("primary", None),
        listing::Role::Marked(text) if id.id().is_none() => ("pseudo", Some(text)),
        _ if id.id().is_none() => ("pseudo", None),
        listing::Role::Marked(text) => ("secondary", Some(text)),
        listing::Role::Other => ("other", None),
    };
    let endpoint_host = endpoint.as_deref().map(host_of).unwrap_or_default();
    WorkspaceStatus {
        id: id.to_string(),
        role,
        marker,
        onboarded: may_read.then(|| match id.id() {
            Some(_) => workspace::is_onboarded(&host.layout, id),
            None => paths.omsagent_conf().exists(),
        }),
        registered: match unit {
            Some(unit) => unit.load == "loaded",
            None => matches!(services::placed_text(host, &name), Ok(Some(_))),
        },
        enabled: match unit {
            Some(unit) => unit.file == "enabled",
            None => services::is_enabled(host, &name).unwrap_or(false),
        },
        running,
        state,
        process: process.map(|p| ProcessStatus {
            pid: p.pid,
            uptime_seconds: p.age.as_secs(),
            rss_kib: p.rss_kib,
            cpu_seconds: hundredths(p.cpu.as_secs_f64()),
            cpu_percent: hundredths(p.cpu.as_secs_f64() * 100.0 / p.age.as_secs_f64().max(1.0)),
        }),
        notices: retirement::notices(&endpoint_host),
        proxy: proxy_of(host, &mut unknown),
        certificate: match may_read {
            true => certificate(&paths, figures.renewal_problem, &mut unknown),
            false => None,
        },
        heartbeat_accepted: figures.heartbeat_accepted,
        topology_accepted: figures.topology_accepted,
        topology_problem: figures.topology_problem,
        clock: figures.clock,
        inputs: figures.inputs,
        outputs: figures.outputs,
        listening: process
            .map(|p| listeners(host, id, &p, listening, &mut unknown))
            .unwrap_or_default(),
        endpoint,
        unknown,
    }
}

/// The sockets of the agent's process; whoever may not look into it gets those on the workspace's
/// port, if he may know that.
fn listeners(
    host: &Host,
    id: &WorkspaceName,
    process: &process::Process,
    listening: &[Listening],
    unknown: &mut Vec<String>,
) -> Vec<SocketStatus> {
    let held = sockets::of_process(process.pid);
    let port = workspace::port::configured(&host.layout, id);
    if held.is_empty() && port.is_none() {
        unknown.push("where the agent listens: only root may look".to_owned());
    }
    let ours = |l: &&Listening| match held.is_empty() {
        true => Some(l.address.port()) == port && l.uid == process.uid,
        false => held.contains(&l.inode),
    };
    listening
        .iter()
        .filter(ours)
        .map(|l| SocketStatus {
            protocol: l.protocol.name(),
            address: l.address.to_string(),
        })
        .collect()
}

fn settings(path: &std::path::Path, unknown: &mut Vec<String>) -> Option<OmsAdmin> {
    match files::read_text_no_follow(path, omsadmin::LIMIT) {
        Ok(text) => text.map(|text| OmsAdmin::parse(&text)),
        Err(error) => {
            unknown.push(format!("settings: {error:#}"));
            None
        }
    }
}

/// `host:port`, never the user or the password.
fn proxy_of(host: &Host, unknown: &mut Vec<String>) -> Option<String> {
    match proxy::load(&host.layout.proxy_conf()) {
        Ok(proxy) => proxy.map(|p| format!("{}:{}", p.host, p.port)),
        Err(error) => {
            unknown.push(format!("proxy: {error}"));
            None
        }
    }
}

fn certificate(
    paths: &WorkspacePaths,
    renewal_problem: Option<String>,
    unknown: &mut Vec<String>,
) -> Option<CertificateStatus> {
    let path = &paths.cert();
    let read = || -> anyhow::Result<Option<Facts>> {
        let Some(pem) = files::read_no_follow(path, PEM_LIMIT)? else {
            return Ok(None);
        };
        let der = CertificateDer::from_pem_slice(&pem)
            .map_err(|_| anyhow::anyhow!("`{}` is not PEM", path.display()))?;
        Ok(Some(Facts::read(&der)?))
    };
    match read() {
        Ok(facts) => facts.map(|facts| {
            let left = facts.not_after.duration_since(Timestamp::now());
            CertificateStatus {
                issued: shown(facts.not_before),
                renewal_pending: workspace::renewal::is_begun(&paths.certs()),
                renewal_problem,
                expires: shown(facts.not_after),
                days_left: left.as_secs().div_euclid(86_400),
            }
        }),
        Err(error) => {
            unknown.push(format!("certificate: {error:#}"));
            None
        }
    }
}

/// The host of an https URL.
pub fn host_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host.to_owned(),
        _ => authority.to_owned(),
    }
}

fn shown(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn hundredths(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::figures::{Mark, Upload};
    use crate::host::layout::Layout;

    const FIXTURE: &str = include_str!("../../tests/data/status.fixture");
    const ID: &str = "11111111-2222-3333-4444-555555555555";

    /// One of everything.
    fn full() -> Status {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let id: crate::base::ids::WorkspaceId = ID.parse().unwrap();
        let paths = layout.workspace(&id);
        std::fs::create_dir_all(paths.conf()).unwrap();
        std::fs::create_dir_all(paths.certs()).unwrap();
        let text = "OMS_ENDPOINT=https://w.ods.opinsights.azure.com:443/x\nAGENT_GUID=g\n";
        std::fs::write(paths.omsadmin_conf(), text).unwrap();
        std::fs::write(paths.marker(), "mine").unwrap();
        std::fs::write(layout.proxy_conf(), "http://u:secret@p.test:3128").unwrap();
        let guid = crate::base::ids::AgentGuid::random();
        let now = Timestamp::now();
        let pair = crate::wire::identity::ClientIdentity::generate(&id, &guid, now).unwrap();
        std::fs::write(paths.cert(), &pair.cert_pem).unwrap();
        std::fs::write(paths.key(), pair.key_pem.expose()).unwrap();
        let figures = Snapshot {
            pid: std::process::id(),
            inputs: vec![InputFigures::default()],
            outputs: vec![OutputFigures {
                queue_age_seconds: Some(1.5),
                last_upload: Some(Upload {
                    code: Some(200),
                    ..Upload::default()
                }),
                last_accepted: Some("t".into()),
                problem: Some("p".into()),
                ..OutputFigures::default()
            }],
            heartbeat_accepted: Some("t".into()),
            topology_accepted: Some("t".into()),
            topology_problem: Some("p".into()),
            renewal_problem: Some("p".into()),
            clock: Some(ClockFigures::default()),
            mark: Some(Mark::default()),
            ..Snapshot::default()
        };
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host = Host::detect(layout);
        let mut one = one(&host, &id, None, Ok(figures), &sockets::listening());
        drop(socket);
        assert_eq!(one.marker.as_deref(), Some("mine"));
        assert_eq!(one.proxy.as_deref(), Some("p.test:3128"));
        assert_eq!(one.onboarded, Some(true));
        assert_eq!(one.certificate.as_ref().unwrap().days_left, 364);
        assert_eq!(one.notices.len(), 1);
        assert!(one.running && !one.listening.is_empty());
        one.unknown.push("x".into());
        Status {
            schema: SCHEMA,
            version: "v".into(),
            time: shown(now),
            host: "h".into(),
            complete: false,
            workspaces: vec![one],
        }
    }

    /// Others read these fields: adding one is adding a line, anything else is a new schema.
    #[test]
    fn the_form_is_frozen() {
        let value = serde_json::to_value(full()).unwrap();
        let text = value.to_string();
        assert!(
            !text.contains("secret") && !text.contains("PRIVATE"),
            "{text}"
        );
        let seen = crate::base::form::fields(&value);
        let mut frozen: Vec<&str> = FIXTURE.lines().collect();
        frozen.sort_unstable();
        assert_eq!(seen, frozen);
    }

    #[test]
    fn an_agent_that_does_not_answer_leaves_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::detect(Layout::new(dir.path()));
        let id: WorkspaceName = ID.parse().unwrap();
        std::fs::create_dir_all(host.layout.workspace(&id).conf()).unwrap();
        let unit = UnitState {
            active: "active".into(),
            pid: Some(std::process::id()),
            ..UnitState::default()
        };
        let seen = one(&host, &id, Some(&unit), Err(Silent::Stuck), &[]);
        assert!(seen.running && seen.onboarded == Some(false));
        assert!(seen.unknown[0].contains("does not answer"), "{seen:?}");
    }

    #[test]
    fn hosts_of_urls() {
        assert_eq!(host_of("https://a.test/x?y"), "a.test");
        assert_eq!(host_of("https://a.test:8443/x"), "a.test");
        assert_eq!(host_of(""), "");
    }
}
