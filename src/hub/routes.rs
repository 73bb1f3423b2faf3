//! Whom a request is for and what it wants, decided from its head alone, so that an unwanted body
//! is never read.

use super::access::{self, Refusal};
use super::certificates::ClientCertificate;
use super::faults::{Fault, Faults};
use super::http::{self, Head, Response};
use super::roster::Agent;
use super::store::Store;
use super::{blobs, ingest, onboarding, renewal, telemetry};
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

/// What a request is, by its path and headers alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Whether the hub is up.
    Health,
    /// Signed with the shared key (protocol.md 1).
    Onboard,
    /// A topology heartbeat (2.1).
    Heartbeat,
    /// A new certificate (2.2).
    Renew,
    /// What an agent tells of itself (2.3).
    Telemetry,
    /// Data items (3).
    Upload,
    /// Where lines of a custom log may be written (3.10, step 1).
    BlobPlace,
    /// Some of them, by token (3.10, steps 2 and 3).
    BlobPut,
    /// That they are there (3.10, step 4).
    BlobNotice,
}

impl Purpose {
    fn of(head: &Head) -> Option<Self> {
        // The original's own URLs differ in case (`.Svc`, `.svc`).
        Some(match head.path.to_ascii_lowercase().as_str() {
            "/" | "/healthz" => Purpose::Health,
            "/agentservice.svc/linuxagenttopologyrequest" => match head.header("authorization") {
                Some(_) => Purpose::Onboard,
                None => Purpose::Heartbeat,
            },
            "/configurationservice.svc/renewcertificate" => Purpose::Renew,
            "/agentservice.svc/agenttelemetry" => Purpose::Telemetry,
            "/operationaldata.svc/postjsondataitems" => Purpose::Upload,
            "/containerservice.svc/getblobuploaduri" => Purpose::BlobPlace,
            "/containerservice.svc/postblobuploadnotification" => Purpose::BlobNotice,
            path if path.starts_with(blobs::FOLDER) => Purpose::BlobPut,
            _ => return None,
        })
    }
}

/// What an admitted request wants.
#[derive(Debug)]
pub(super) enum Route {
    /// Whether the hub is up.
    Health,
    /// Onboarding or a topology heartbeat.
    Topology(Place),
    /// A new certificate of a known agent.
    Renew(Place, Agent),
    /// A known agent's report of itself.
    Telemetry(Place, Agent),
    /// Data items of a known agent.
    Upload(Agent),
    /// A known agent wants to write lines.
    BlobPlace(Place, Agent),
    /// Somebody with a token writes some.
    BlobPut(blobs::Target),
    /// A known agent has written some.
    BlobNotice(Agent),
}

impl Route {
    /// Largest body that is read, bytes, before it is unpacked.
    pub(super) fn body_limit(&self) -> usize {
        match self {
            Route::Health => 0,
            Route::Topology(_) | Route::Renew(..) => topology::BODY_LIMIT,
            Route::Telemetry(..) => telemetry::BODY_LIMIT,
            Route::Upload(_) | Route::BlobPut(_) => ingest::BODY_LIMIT,
            Route::BlobPlace(..) | Route::BlobNotice(_) => blobs::REQUEST_LIMIT,
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
    /// Lower case.
    pub(super) domain: String,
    pub(super) max_skew: Duration,
    /// How long before the end of a certificate a new one is asked for.
    pub(super) renew_before: Duration,
    pub(super) faults: Faults,
}

impl Service {
    /// What shall go wrong with a request; nothing, usually.
    pub(super) fn fault(&self, head: &Head) -> (Fault, Option<Response>) {
        let purpose = Purpose::of(head).filter(|purpose| *purpose != Purpose::Health);
        let Some(purpose) = purpose else {
            return (Fault::default(), None);
        };
        let place = Place::parse(head.header("host").unwrap_or_default(), &self.domain);
        let fault = self
            .faults
            .pick(purpose, place.as_ref().map(|p| &p.workspace), head);
        let refusal = fault.refusal(purpose);
        (fault, refusal)
    }

    /// Decides by the head of a request what it wants, or refuses it.
    pub(super) fn admit(&self, head: &Head, peer: &Peer) -> Result<Route, Response> {
        match Purpose::of(head) {
            Some(Purpose::Health) => match head.method.as_str() {
                "GET" | "HEAD" => Ok(Route::Health),
                _ => Err(not_allowed("GET, HEAD")),
            },
            Some(Purpose::Onboard | Purpose::Heartbeat) => {
                let place = self.place(head, "oms")?;
                Ok(Route::Topology(place))
            }
            Some(Purpose::Renew) => {
                let place = self.place(head, "oms")?;
                let agent = self.known(&place, peer)?;
                Ok(Route::Renew(place, agent))
            }
            Some(Purpose::Telemetry) => {
                let place = self.place(head, "oms")?;
                let agent = self.known(&place, peer)?;
                Ok(Route::Telemetry(place, agent))
            }
            Some(Purpose::Upload) => {
                let place = self.place(head, "ods")?;
                ingest::admit(&self.store, &place, head, peer).map(Route::Upload)
            }
            Some(Purpose::BlobPlace) => {
                let place = self.place(head, "ods")?;
                let agent = self.known(&place, peer)?;
                Ok(Route::BlobPlace(place, agent))
            }
            Some(Purpose::BlobNotice) => {
                let place = self.place(head, "ods")?;
                Ok(Route::BlobNotice(self.known(&place, peer)?))
            }
            Some(Purpose::BlobPut) => {
                if head.method != "PUT" {
                    return Err(not_allowed("PUT"));
                }
                blobs::admit(&self.store, head, peer).map(Route::BlobPut)
            }
            None => Err(Response::text(404, "there is nothing of this name here\n")),
        }
    }

    /// Does what an admitted request wants. `grow` reserves memory for unpacking.
    pub(super) fn answer(
        &self,
        route: Route,
        head: &Head,
        peer: &Peer,
        fault: &Fault,
        body: Vec<u8>,
        grow: &mut dyn FnMut(usize) -> bool,
    ) -> Response {
        match route {
            Route::Health => Response::text(200, "omsagent hub: ok\n"),
            Route::Topology(place) => onboarding::answer(self, &place, head, peer, fault, &body),
            Route::Renew(place, agent) => {
                renewal::answer(self, &place, &agent, peer, fault.clock(), &body)
            }
            Route::Telemetry(place, agent) => {
                let version = head.client_version();
                telemetry::answer(self, &place, &agent, peer, version, &body)
            }
            Route::Upload(agent) => ingest::answer(&self.store, &agent, head, body, grow),
            Route::BlobPlace(place, agent) => blobs::place(&self.store, &place, &agent, &body),
            Route::BlobPut(target) => blobs::put(&self.store, &target, head, &body),
            Route::BlobNotice(agent) => blobs::notice(&self.store, &agent, head, &body),
        }
    }

    /// The agent at the other end.
    fn known(&self, place: &Place, peer: &Peer) -> Result<Agent, Response> {
        let refused = |refusal: Refusal| refusal.answer(place, peer);
        match access::agent(&self.store, place, peer) {
            Ok(Ok(agent)) => Ok(agent),
            Ok(Err(denied)) => Err(refused(denied.into())),
            Err(error) => {
                log::error!("cannot look up an agent: {error:#}");
                Err(http::no_room())
            }
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
