//! The way to the service: names, routes, proxy, TLS, clock, and whether it knows this host.
//!
//! Each endpoint is asked in a thread of its own. The system's resolver has no deadline, so a
//! thread that has none either is left behind.

use crate::base::files;
use crate::doctor::endpoints::{self, Endpoint, Role};
use crate::doctor::finding::Finding;
use crate::doctor::patient::{Patient, Ward};
use crate::doctor::status::host_of;
use crate::settings::omsadmin::{self, OmsAdmin};
use crate::settings::proxy::{self, Proxy};
use crate::wire::date::{Clock, Skew};
use crate::wire::http::{Cause, Client, HttpError, Options};
use crate::wire::identity::ClientIdentity;
use crate::wire::topology::Telemetry;
use crate::wire::upload::user_agent;
use crate::workspace;
use crate::workspace::exchange::{HeartbeatError, HeartbeatRequest, heartbeat};
use jiff::Zoned;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// For one connection, and for one answer.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(5);
/// For everything.
const ALL: Duration = Duration::from_secs(11);

/// What is the same for all endpoints.
#[derive(Clone)]
struct Way {
    proxy: Option<Proxy>,
    ca_file: Option<PathBuf>,
}

impl Way {
    fn of(patient: &Patient) -> Way {
        let layout = &patient.host.layout;
        // An unusable one is another check's finding.
        Way {
            proxy: proxy::load(&layout.proxy_conf()).ok().flatten(),
            ca_file: Some(layout.ca_file()).filter(|p| p.exists()),
        }
    }

    fn client(&self, identity: Option<ClientIdentity>) -> Result<Client, HttpError> {
        Client::new(Options {
            identity,
            ca_file: self.ca_file.clone(),
            proxy: self.proxy.clone(),
            user_agent: user_agent(env!("CARGO_PKG_VERSION")),
            connect_timeout: CONNECT,
            read_timeout: ANSWER,
        })
    }
}

type Job = Box<dyn FnOnce() -> Vec<Finding> + Send>;

/// Every endpoint of the role, and of each workspace.
pub fn reach(patient: &Patient, found: &mut Vec<Finding>) {
    let way = Way::of(patient);
    let mut jobs: Vec<(String, Job)> = Vec::new();
    let mut add = |endpoint: Endpoint, ward: Option<&Ward>| {
        let id = ward.map(|w| w.id.clone());
        let (way, url) = (way.clone(), endpoint.url.clone());
        let job: Job = Box::new(move || {
            let mut found = probe(&way, &endpoint);
            if let Some(id) = &id {
                found = found.into_iter().map(|f| f.of(id)).collect();
            }
            found
        });
        jobs.push((url, job));
    };
    let ids: Vec<_> = patient.workspaces.iter().map(|w| w.id.clone()).collect();
    for endpoint in endpoints::of_role(patient.role, &ids) {
        add(endpoint, None);
    }
    if patient.role == Role::Agent {
        let mut seen: Vec<String> = Vec::new();
        for (ward, admin) in settings(patient) {
            for endpoint in endpoints::of_workspace(&ward.id, &admin) {
                let host = host_of(&endpoint.url);
                if !seen.contains(&host) {
                    seen.push(host);
                    add(endpoint, Some(ward));
                }
            }
        }
        for (ward, admin) in settings(patient) {
            let asked = introduce(patient, ward, admin, &way);
            jobs.extend(asked.map(|job| (format!("workspace {}", ward.id), job)));
        }
    }
    found.extend(all_at_once(jobs));
}

fn settings(patient: &Patient) -> impl Iterator<Item = (&Ward, OmsAdmin)> {
    patient.onboarded().filter_map(|ward| {
        let path = patient.host.layout.workspace(&ward.id).omsadmin_conf();
        let text = files::read_text_no_follow(&path, omsadmin::LIMIT).ok()??;
        Some((ward, OmsAdmin::parse(&text)))
    })
}

fn all_at_once(jobs: Vec<(String, Job)>) -> Vec<Finding> {
    let deadline = Instant::now() + ALL;
    let (tell, told) = mpsc::channel();
    let mut waiting: Vec<String> = Vec::new();
    for (n, (name, job)) in jobs.into_iter().enumerate() {
        let tell = tell.clone();
        waiting.push(name);
        std::thread::spawn(move || tell.send((n, job())));
    }
    drop(tell);
    let mut answers: Vec<Option<Vec<Finding>>> = waiting.iter().map(|_| None).collect();
    while let Ok((n, found)) = told.recv_timeout(deadline.saturating_duration_since(Instant::now()))
    {
        answers[n] = Some(found);
    }
    let late = |name: &String| {
        vec![
            Finding::new("endpoint-silent", format!("{name} was not reached in time"))
                .seen(format!(
                    "no result within {} s: mostly a name server that does not answer",
                    ALL.as_secs()
                ))
                .mend("check the name servers in /etc/resolv.conf and the way to them"),
        ]
    };
    let pairs = answers.into_iter().zip(&waiting);
    pairs
        .flat_map(|(answer, name)| answer.unwrap_or_else(|| late(name)))
        .collect()
}

/// One endpoint: connected, TLS, any HTTP answer; its clock.
fn probe(way: &Way, endpoint: &Endpoint) -> Vec<Finding> {
    let host = host_of(&endpoint.url);
    let mut found = Vec::new();
    let client = match way.client(None) {
        Ok(client) => client,
        Err(error) => return vec![of_error(&error, &host, way)],
    };
    let none: [(&str, &str); 0] = [];
    match client.get(&endpoint.url, &none) {
        Ok(answer) => {
            let skew = answer
                .header("date")
                .and_then(|d| Skew::measure(d, &Zoned::now()));
            found.extend(skew.and_then(off));
        }
        Err(error) => found.push(of_error(&error, &host, way)),
    }
    if endpoint.plain_too && way.proxy.is_none() && found.is_empty() && !opens(&host, 80) {
        found.push(
            Finding::new(
                "endpoint-closed",
                format!("{host} port 80 cannot be reached"),
            )
            .seen("port 443 can")
            .mend("open port 80 to it, too"),
        );
    }
    found
}

fn opens(host: &str, port: u16) -> bool {
    let addresses = (host, port).to_socket_addrs().into_iter().flatten();
    addresses
        .take(2)
        .any(|a| TcpStream::connect_timeout(&a, Duration::from_secs(2)).is_ok())
}

fn off(skew: Skew) -> Option<Finding> {
    skew.is_notable().then(|| {
        Finding::new("clock-off", "the clock of this host is wrong")
            .seen(format!("it is {skew}"))
            .mend("set it, and have it kept: timedatectl set-ntp true, or chrony")
    })
}

/// The service is asked with this host's certificate, as the agent asks it.
fn introduce(patient: &Patient, ward: &Ward, admin: OmsAdmin, way: &Way) -> Option<Job> {
    let layout = patient.host.layout.clone();
    let guid = admin.guid()?;
    // As root, in a folder of the service account: no link may lead elsewhere.
    let pair = workspace::pair(&layout, &ward.id);
    let plain = |p: &Path| std::fs::symlink_metadata(p).is_ok_and(|m| m.is_file());
    let folder = pair.cert.parent().filter(|dir| pair.key.starts_with(dir))?;
    if !plain(&pair.cert) || !plain(&pair.key) || admin.url_tld.is_empty() {
        return None;
    }
    let identity = ClientIdentity::load(folder).ok()??;
    if !identity.fits().unwrap_or(false) {
        return None;
    }
    let (id, way) = (ward.id.clone(), way.clone());
    Some(Box::new(move || {
        let Ok(client) = way.client(Some(identity.clone())) else {
            return Vec::new();
        };
        let request = HeartbeatRequest {
            workspace: &id,
            tld: &admin.url_tld,
            guid: &guid,
            identity: &identity,
            layout: &layout,
            telemetry: Telemetry::default(),
            clock: &Clock::System,
        };
        let why = match heartbeat(&client, &request) {
            // What keeps it from being reached is the endpoint's own finding.
            Ok(_) | Err(HeartbeatError::Transport(_)) => return Vec::new(),
            Err(why) => why,
        };
        let odd = match &why {
            HeartbeatError::Status { status, .. } => *status >= 500,
            _ => true,
        };
        let (id_of, mend) = match odd {
            true => (
                "endpoint-odd-answer",
                "the service, or something before it, has a fault: try again later",
            ),
            false => ("service-refuses", "onboard again: omsadmin.sh -w ID -s KEY"),
        };
        let what = "the service does not accept this host's heartbeat";
        vec![
            Finding::new(id_of, what)
                .seen(why.to_string())
                .of(&id)
                .mend(mend),
        ]
    }))
}

/// One cause, one finding.
fn of_error(error: &HttpError, host: &str, way: &Way) -> Finding {
    let proxy = way.proxy.as_ref().map(|p| format!("{}:{}", p.host, p.port));
    let proxy = proxy.unwrap_or_default();
    let routed = has_default_route();
    let (id, what, mend) = match error.cause {
        Cause::Dns => (
            "dns-fails",
            format!("the name {host} does not resolve"),
            "check /etc/resolv.conf and /etc/hosts; without DNS to the outside, set a proxy: omsadmin.sh -p",
        ),
        Cause::ProxyDns => (
            "proxy-dns",
            format!("the name of the proxy {proxy} does not resolve"),
            "correct it: omsadmin.sh -p [user:password@]host:port",
        ),
        Cause::ProxyConnect => (
            "proxy-unreachable",
            format!("the proxy {proxy} cannot be reached"),
            "start it, or set another: omsadmin.sh -p [user:password@]host:port",
        ),
        Cause::ProxyTls => (
            "proxy-tls",
            format!("no TLS with the proxy {proxy}"),
            "its authority goes to ca.pem (omsadmin.sh --ca-file); or write it with http://: omsadmin.sh -p",
        ),
        Cause::ProxyAuth => (
            "proxy-auth",
            format!("the proxy {proxy} wants other credentials"),
            "omsadmin.sh -p user:password@host:port",
        ),
        Cause::ProxyRefused => (
            "proxy-refuses",
            format!("the proxy {proxy} does not let us to {host}"),
            "let it allow CONNECT to that name, port 443",
        ),
        Cause::Connect if !routed && error.detail.contains("no route") => (
            "route-missing",
            format!("there is no route to {host}"),
            "no default route (ip route): bring the network up, or set a proxy: omsadmin.sh -p",
        ),
        Cause::Connect => (
            "endpoint-closed",
            format!("{host} cannot be connected to"),
            "see that the service runs, and that firewalls let this host to it, port 443",
        ),
        Cause::Timeout => (
            "endpoint-silent",
            format!("{host} does not answer"),
            "a firewall drops the connection: open port 443 to it, or set a proxy: omsadmin.sh -p",
        ),
        Cause::TlsUntrusted => (
            "tls-untrusted",
            format!("the certificate of {host} is not trusted"),
            "the issuer is named: a device that inspects TLS must let this name pass; your own authority goes to ca.pem (omsadmin.sh --ca-file)",
        ),
        Cause::TlsName => (
            "tls-name",
            format!("the certificate of {host} is for another name"),
            "something else answers there: check /etc/hosts, DNS and proxy",
        ),
        Cause::TlsTime => (
            "tls-time",
            format!("the certificate of {host} is not valid now"),
            "correct the clock of this host, or have the certificate renewed",
        ),
        Cause::TlsOld => (
            "tls-old",
            format!("{host} does not speak TLS 1.2"),
            "TLS 1.2 or newer must be let through, and spoken by whatever inspects",
        ),
        Cause::Tls | Cause::NotTls => (
            "tls-failed",
            format!("TLS with {host} fails"),
            "what answers there may not be the service: check DNS, proxy and firewalls",
        ),
        Cause::Protocol => (
            "endpoint-odd-answer",
            format!("{host} does not answer as a web service"),
            "check DNS, proxy and firewalls: something else answers",
        ),
        Cause::Local => (
            "network-local",
            format!("{host} cannot be asked"),
            "correct what the reason names",
        ),
    };
    Finding::new(id, what).seen(error.to_string()).mend(mend)
}

/// By the kernel's tables, for either family.
fn has_default_route() -> bool {
    let v4 = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let v6 = std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    let by_v4 = v4
        .lines()
        .any(|l| l.split_whitespace().nth(1) == Some("00000000"));
    let is_v6 = |l: &str| {
        let mut fields = l.split_whitespace();
        let to = fields.next().is_some_and(|f| f.bytes().all(|b| b == b'0'));
        to && fields.next() == Some("00") && !l.trim_end().ends_with(" lo")
    };
    by_v4 || v6.lines().any(is_v6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    #[test]
    fn a_clock_is_told_of_when_it_matters() {
        assert!(off(Skew(SignedDuration::from_secs(200))).is_none());
        let finding = off(Skew(SignedDuration::from_mins(-20))).unwrap();
        assert!(finding.evidence.contains("20 minutes behind"));
    }

    #[test]
    fn what_does_not_end_in_time_is_a_finding_of_its_own() {
        let quick: Job = Box::new(|| vec![Finding::new("dns-fails", "a")]);
        let found = all_at_once(vec![("one".into(), quick)]);
        assert_eq!(found[0].id, "dns-fails");
    }
}
