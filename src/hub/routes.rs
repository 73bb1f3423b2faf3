//! Whom a request is for and what it wants, decided from its head alone, so that an unwanted body
//! is never read.

use super::certificates::ClientCertificate;
use super::http::{Head, Response};
use super::store::{Agent, Store};
use super::{ingest, onboarding};
use crate::base::ids::WorkspaceId;
use crate::wire::topology;
use std::net::SocketAddr;
use std::time::Duration;

/// Who is at the other end.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// What it presented in the TLS handshake.
    pub(super) certificate: Option<ClientCertificate>,
}

/// What an admitted request wants.
#[derive(Debug)]
pub(super) enum Route {
    /// Whether the hub is up.
    Health,
    /// Onboarding or a topology heartbeat (protocol.md 1, 2.1).
    Topology(Place),
    /// Data items of a known agent (protocol.md 3).
    Upload(Agent),
}

impl Route {
    /// Largest body that is read, bytes, before it is unpacked.
    pub(super) fn body_limit(&self) -> usize {
        match self {
            Route::Health => 0,
            Route::Topology(_) => topology::BODY_LIMIT,
            Route::Upload(_) => ingest::BODY_LIMIT,
        }
    }
}

/// The host name of a request, taken apart: `<workspace>.<service>.<domain>[:port]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) workspace: WorkspaceId,
    /// `oms` or `ods`, lower case.
    service: String,
    /// Host and port as the client wrote them, for links back.
    pub(super) authority: String,
}

/// What answers requests.
pub(super) struct Service {
    pub(super) store: Store,
    pub(super) domain: String,
    pub(super) max_skew: Duration,
}

impl Service {
    pub(super) fn new(store: Store, domain: &str, max_skew: Duration) -> Self {
        Service {
            store,
            domain: domain.to_ascii_lowercase(),
            max_skew,
        }
    }

    /// Decides by the head of a request what it wants, or refuses it.
    pub(super) fn admit(&self, head: &Head, peer: &Peer) -> Result<Route, Response> {
        // The original's own URLs differ in case (`.Svc`, `.svc`).
        match head.path.to_ascii_lowercase().as_str() {
            "/" | "/healthz" => match head.method.as_str() {
                "GET" | "HEAD" => Ok(Route::Health),
                _ => Err(not_allowed("GET, HEAD")),
            },
            "/agentservice.svc/linuxagenttopologyrequest" => {
                let place = self.place(head, "oms")?;
                Ok(Route::Topology(place))
            }
            "/operationaldata.svc/postjsondataitems" => {
                let place = self.place(head, "ods")?;
                ingest::admit(&self.store, &place, head, peer).map(Route::Upload)
            }
            _ => Err(Response::text(404, "there is nothing of this name here\n")),
        }
    }

    /// Does what an admitted request wants. `grow` reserves memory for unpacking.
    pub(super) fn answer(
        &self,
        route: Route,
        head: &Head,
        peer: &Peer,
        body: Vec<u8>,
        grow: &mut dyn FnMut(usize) -> bool,
    ) -> Response {
        match route {
            Route::Health => Response::text(200, "omsagent hub: ok\n"),
            Route::Topology(place) => onboarding::answer(self, &place, head, peer, &body),
            Route::Upload(agent) => ingest::answer(&self.store, &agent, head, body, grow),
        }
    }

    /// The workspace a POST is for.
    fn place(&self, head: &Head, service: &str) -> Result<Place, Response> {
        if head.method != "POST" {
            return Err(not_allowed("POST"));
        }
        let host = head.header("host").unwrap_or_default();
        let place = Place::parse(host, &self.domain).filter(|place| place.service == service);
        place.ok_or_else(|| {
            let expected = format!("<workspace id>.{service}.{}", self.domain);
            Response::text(404, &format!("the host name must be {expected}\n"))
        })
    }
}

impl Place {
    fn parse(host: &str, domain: &str) -> Option<Self> {
        let lower = host.to_ascii_lowercase();
        let name = match lower.rsplit_once(':') {
            Some((name, port)) if port.parse::<u16>().is_ok() => name,
            Some(_) => return None,
            None => &lower,
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let first = name.strip_suffix(domain)?.strip_suffix('.')?;
        let (workspace, service) = first.split_once('.')?;
        Some(Place {
            workspace: workspace.parse().ok()?,
            service: service.to_owned(),
            authority: host.to_owned(),
        })
    }
}

fn not_allowed(allow: &str) -> Response {
    Response::text(405, &format!("only {allow} is understood here\n")).with("Allow", allow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workspaces_are_found_in_host_names() {
        let ws = "01234567-89ab-cdef-0123-456789abcdef";
        let place = |host: &str| Place::parse(host, "hub.test");
        for host in [
            format!("{ws}.oms.hub.test"),
            format!("{}.OMS.Hub.Test:8443", ws.to_uppercase()),
            format!("{ws}.oms.hub.test.:443"),
        ] {
            let found = place(&host).unwrap();
            assert_eq!(found.workspace.as_str(), ws);
            assert_eq!((found.service.as_str(), found.authority), ("oms", host));
        }
        assert_eq!(place(&format!("{ws}.ods.hub.test")).unwrap().service, "ods");
        for host in [
            "",
            "hub.test",
            "oms.hub.test",
            "127.0.0.1:443",
            "[::1]:443",
            "x.oms.hub.test",
            &format!("{ws}.oms.hub.testing"),
            &format!("{ws}.omshub.test"),
            &format!("{ws}.oms.hub.test:http"),
            &format!("{ws}.oms.hub.test:99999"),
        ] {
            assert_eq!(place(host), None, "{host}");
        }
    }
}
