//! Onboarding and the topology heartbeat (protocol.md 1.3-1.7, 2.1).

use super::access::{self, Denied, Refusal, xml};
use super::certificates::ClientCertificate;
use super::faults::Fault;
use super::http::{Head, Response};
use super::routes::{Peer, Place, Service};
use super::{printable, renewal};
use crate::wire::signature;
use crate::wire::topology::{TopologyError, TopologyRequest, TopologyResponse};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::time::Duration;

/// Time between topology heartbeats that agents are told, and between telemetry reports: the
/// original's own defaults (protocol.md 2.1).
const INTERVALS: (Duration, Duration) = (Duration::from_secs(1200), Duration::from_secs(300));

/// Answers `LinuxAgentTopologyRequest`.
pub(super) fn answer(
    service: &Service,
    place: &Place,
    head: &Head,
    peer: &Peer,
    fault: &Fault,
    body: &[u8],
) -> Response {
    let done = match head.header("authorization") {
        Some(authorization) => onboard(service, place, head, peer, fault, body, authorization)
            .map(|request| (request, false)),
        None => heartbeat(service, place, head, peer, fault, body),
    };
    match done {
        Ok((request, renew)) => xml(200, response(place, &request, renew, fault)),
        Err(refusal) => refusal.answer(place, peer),
    }
}

/// Conversation A: signed with the shared key. The order of checks is that of protocol.md 1.5.
fn onboard(
    service: &Service,
    place: &Place,
    head: &Head,
    peer: &Peer,
    fault: &Fault,
    body: &[u8],
    authorization: &str,
) -> Result<TopologyRequest, Refusal> {
    let required = |name: &str| {
        head.header(name)
            .ok_or_else(|| Refusal::forbidden("MissingHeader", name))
    };
    let date = required("x-ms-Date")?;
    let hash = required("x-ms-SHA256_Content")?;
    required("x-ms-version")?;
    let (ws, hmac) = signature::parse_authorization(authorization)
        .ok_or_else(|| Refusal::forbidden("InvalidAuthorization", "not `<workspace>; <hmac>`"))?;
    if !ws.as_str().eq_ignore_ascii_case(place.workspace.as_str()) {
        return Err(Refusal::forbidden(
            "WorkspaceMismatch",
            format!("signed for {ws}"),
        ));
    }
    let keys = service.store.keys(&ws).map_err(Refusal::internal)?;
    let keys = keys.ok_or(Denied::UnknownWorkspace)?;
    let instant =
        signature::parse_date(date).ok_or_else(|| Refusal::forbidden("InvalidDate", date))?;
    let skew = instant.duration_since(fault.clock().now());
    if skew.unsigned_abs() > service.max_skew {
        let detail = format!("its clock is off by {} s", skew.as_secs());
        return Err(Refusal::forbidden("ClockSkew", detail));
    }
    if signature::content_hash(body) != hash {
        return Err(Refusal::forbidden("InvalidContentHash", ""));
    }
    let signer = keys.signer(hmac, date, hash);
    let signer = signer.ok_or_else(|| Refusal::forbidden("InvalidWorkspaceKey", ""))?;
    let request = parse(body)?;
    let certificate = STANDARD
        .decode(&request.certificate_base64)
        .ok()
        .filter(|der| ClientCertificate::is_certificate(der))
        .map(ClientCertificate::new)
        .ok_or_else(|| Refusal::forbidden("InvalidCertificate", "in the body"))?;
    if peer
        .certificate
        .as_ref()
        .is_some_and(|presented| *presented != certificate)
    {
        let detail = "the body's certificate is not the connection's";
        return Err(Refusal::forbidden("CertificateMismatch", detail));
    }
    service
        .store
        .register(
            &place.workspace,
            &request,
            &certificate,
            head.client_version(),
        )
        .map_err(Refusal::internal)??;
    log::info!(
        "onboarded workspace={} agent={} computer={} certificate={} key={signer} peer={}",
        place.workspace,
        request.entity_id,
        printable(&request.fqdn),
        certificate.thumbprint,
        peer.address
    );
    Ok(request)
}

/// Conversation B: the client certificate is all that authenticates. True: the agent shall send
/// a new one.
fn heartbeat(
    service: &Service,
    place: &Place,
    head: &Head,
    peer: &Peer,
    fault: &Fault,
    body: &[u8],
) -> Result<(TopologyRequest, bool), Refusal> {
    let known = access::agent(&service.store, place, peer).map_err(Refusal::internal)?;
    let agent = known.map_err(|denied| match denied {
        Denied::MissingCertificate => {
            let detail = "neither an Authorization header nor a client certificate";
            Refusal::forbidden("MissingHeader", detail)
        }
        denied => denied.into(),
    })?;
    let request = parse(body)?;
    let (claimed, known) = (request.entity_id.as_str(), agent.guid.as_str());
    if !claimed.eq_ignore_ascii_case(known) {
        let detail = format!("agent {known} says it is {claimed}");
        return Err(Refusal::forbidden("CertificateMismatch", detail));
    }
    service
        .store
        .seen(&place.workspace, &request, head.client_version())
        .map_err(Refusal::internal)?;
    let due = renewal::is_due(&agent, peer, fault.clock(), service.renew_before);
    let renew = fault.update_certificate(due);
    log::info!(
        "topology heartbeat workspace={} agent={known} computer={}{}",
        place.workspace,
        printable(&request.fqdn),
        if renew {
            " (a new certificate is asked for)"
        } else {
            ""
        }
    );
    Ok((request, renew))
}

fn parse(body: &[u8]) -> Result<TopologyRequest, Refusal> {
    TopologyRequest::parse(body).map_err(|error| match error {
        TopologyError::IncompleteOperatingSystem(_) => {
            Refusal::forbidden("IncompleteOperatingSystem", error.to_string())
        }
        _ => Refusal::invalid(error.to_string()),
    })
}

fn response(place: &Place, request: &TopologyRequest, renew: bool, fault: &Fault) -> String {
    let (authority, ws) = (&place.authority, &place.workspace);
    let guid = &request.entity_id;
    let (query, telemetry) = fault.intervals(INTERVALS);
    TopologyResponse {
        query_interval: Some(query),
        telemetry_interval: Some(telemetry),
        id: guid.to_string(),
        certificate_update_endpoint: Some(format!(
            "https://{authority}/ConfigurationService.Svc/RenewCertificate"
        )),
        update_certificate: renew,
        // Nothing answers there yet, but original agents warn when it is missing (1.7).
        dsc_endpoint: Some(format!(
            "https://{authority}/Accounts/{ws}/Nodes(AgentId='{guid}')"
        )),
    }
    .to_xml()
}
