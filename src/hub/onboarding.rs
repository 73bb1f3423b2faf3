//! Onboarding and the topology heartbeat (protocol.md 1.3-1.7, 2.1).

use super::certificates::ClientCertificate;
use super::http::{Head, Response};
use super::printable;
use super::routes::{Peer, Place, Service};
use crate::wire::signature;
use crate::wire::topology::{TopologyError, TopologyRequest, TopologyResponse, error_body};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use std::time::Duration;

/// Time between topology heartbeats that agents are told, and between telemetry reports: the
/// original's own defaults (protocol.md 2.1).
const INTERVALS: (Duration, Duration) = (Duration::from_secs(1200), Duration::from_secs(300));

/// Why a request was refused: the text of `<Reason>`, and more for the hub's own log.
struct Refusal {
    status: u16,
    reason: &'static str,
    detail: String,
}

/// A refusal with status 403.
fn forbidden(reason: &'static str, detail: impl Into<String>) -> Refusal {
    Refusal {
        status: 403,
        reason,
        detail: detail.into(),
    }
}

/// Answers `LinuxAgentTopologyRequest`.
pub(super) fn answer(
    service: &Service,
    place: &Place,
    head: &Head,
    peer: &Peer,
    body: &[u8],
) -> Response {
    let done = match head.header("authorization") {
        Some(authorization) => onboard(service, place, head, peer, body, authorization),
        None => heartbeat(service, place, peer, body),
    };
    match done {
        Ok(request) => Response::new(
            200,
            "application/xml; charset=utf-8",
            response(place, &request),
        ),
        Err(refusal) => {
            log::warn!(
                "refused workspace={} peer={} status={} reason={} {}",
                place.workspace,
                peer.address,
                refusal.status,
                refusal.reason,
                printable(&refusal.detail)
            );
            let body = error_body(refusal.reason);
            Response::new(refusal.status, "application/xml; charset=utf-8", body)
        }
    }
}

/// Conversation A: signed with the shared key. The order of checks is that of protocol.md 1.5.
fn onboard(
    service: &Service,
    place: &Place,
    head: &Head,
    peer: &Peer,
    body: &[u8],
    authorization: &str,
) -> Result<TopologyRequest, Refusal> {
    let required = |name: &str| {
        head.header(name)
            .ok_or_else(|| forbidden("MissingHeader", name))
    };
    let date = required("x-ms-Date")?;
    let hash = required("x-ms-SHA256_Content")?;
    required("x-ms-version")?;
    let (ws, hmac) = signature::parse_authorization(authorization)
        .ok_or_else(|| forbidden("InvalidAuthorization", "not `<workspace>; <hmac>`"))?;
    if !ws.as_str().eq_ignore_ascii_case(place.workspace.as_str()) {
        return Err(forbidden("WorkspaceMismatch", format!("signed for {ws}")));
    }
    let key = service.store.key(&ws).map_err(internal)?;
    let key = key.ok_or_else(|| forbidden("UnknownWorkspace", ""))?;
    let instant = signature::parse_date(date).ok_or_else(|| forbidden("InvalidDate", date))?;
    let skew = Timestamp::now().duration_since(instant);
    if skew.unsigned_abs() > service.max_skew {
        let detail = format!("clock is off by {} s", skew.as_secs());
        return Err(forbidden("ClockSkew", detail));
    }
    if signature::content_hash(body) != hash {
        return Err(forbidden("InvalidContentHash", ""));
    }
    if !signature::verify(hmac, &key, date, hash) {
        return Err(forbidden("InvalidWorkspaceKey", ""));
    }
    let request = parse(body)?;
    let certificate = STANDARD
        .decode(&request.certificate_base64)
        .ok()
        .filter(|der| ClientCertificate::is_certificate(der))
        .map(ClientCertificate::new)
        .ok_or_else(|| forbidden("InvalidCertificate", "in the body"))?;
    if peer
        .certificate
        .as_ref()
        .is_some_and(|presented| *presented != certificate)
    {
        let detail = "the body's certificate is not the connection's";
        return Err(forbidden("CertificateMismatch", detail));
    }
    service
        .store
        .register(&place.workspace, &request, &certificate.thumbprint)
        .map_err(internal)?;
    log::info!(
        "onboarded workspace={} agent={} computer={} certificate={} peer={}",
        place.workspace,
        request.entity_id,
        printable(&request.fqdn),
        certificate.thumbprint,
        peer.address
    );
    Ok(request)
}

/// Conversation B: the client certificate is all that authenticates.
fn heartbeat(
    service: &Service,
    place: &Place,
    peer: &Peer,
    body: &[u8],
) -> Result<TopologyRequest, Refusal> {
    let Some(certificate) = &peer.certificate else {
        let detail = "neither an Authorization header nor a client certificate";
        return Err(forbidden("MissingHeader", detail));
    };
    let agent = service
        .store
        .agent(&place.workspace, &certificate.thumbprint)
        .map_err(internal)?
        .ok_or_else(|| forbidden("UnknownCertificate", &*certificate.thumbprint))?;
    let request = parse(body)?;
    let (claimed, known) = (request.entity_id.as_str(), agent.guid.as_str());
    if !claimed.eq_ignore_ascii_case(known) {
        let detail = format!("agent {known} says it is {claimed}");
        return Err(forbidden("CertificateMismatch", detail));
    }
    service
        .store
        .seen(&place.workspace, &request)
        .map_err(internal)?;
    log::info!(
        "topology heartbeat workspace={} agent={known} computer={}",
        place.workspace,
        printable(&request.fqdn)
    );
    Ok(request)
}

fn parse(body: &[u8]) -> Result<TopologyRequest, Refusal> {
    TopologyRequest::parse(body).map_err(|error| match error {
        TopologyError::IncompleteOperatingSystem(_) => {
            forbidden("IncompleteOperatingSystem", error.to_string())
        }
        _ => Refusal {
            status: 400,
            reason: "InvalidRequest",
            detail: error.to_string(),
        },
    })
}

fn internal(error: anyhow::Error) -> Refusal {
    Refusal {
        status: 500,
        reason: "InternalError",
        detail: format!("{error:#}"),
    }
}

fn response(place: &Place, request: &TopologyRequest) -> String {
    let (authority, ws) = (&place.authority, &place.workspace);
    let guid = &request.entity_id;
    TopologyResponse {
        query_interval: Some(INTERVALS.0),
        telemetry_interval: Some(INTERVALS.1),
        id: guid.to_string(),
        certificate_update_endpoint: Some(format!(
            "https://{authority}/ConfigurationService.Svc/RenewCertificate"
        )),
        update_certificate: false,
        // Nothing answers there yet, but original agents warn when it is missing (1.7).
        dsc_endpoint: Some(format!(
            "https://{authority}/Accounts/{ws}/Nodes(AgentId='{guid}')"
        )),
    }
    .to_xml()
}
