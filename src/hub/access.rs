//! Who may come in without the shared key: who has the certificate of an agent that is known.

use super::http::Response;
use super::printable;
use super::roster::Agent;
use super::routes::{Peer, Place};
use super::store::Store;
use crate::wire::topology::error_body;

/// Why somebody may not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denied {
    /// The TLS connection has no client certificate.
    #[error("a client certificate is needed")]
    MissingCertificate,
    /// The workspace was never here, or was removed.
    #[error("there is no such workspace")]
    UnknownWorkspace,
    /// Its owner closed the workspace.
    #[error("the workspace is disabled")]
    WorkspaceDisabled,
    /// Not the certificate of an agent of the workspace, or no longer.
    #[error("the client certificate is not that of an onboarded agent")]
    UnknownCertificate,
    /// The hub's owner shut the agent out.
    #[error("the agent is disabled")]
    AgentDisabled,
}

impl Denied {
    /// The text of `<Reason>`.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Denied::MissingCertificate => "MissingCertificate",
            Denied::UnknownWorkspace => "UnknownWorkspace",
            Denied::WorkspaceDisabled => "WorkspaceDisabled",
            Denied::UnknownCertificate => "UnknownCertificate",
            Denied::AgentDisabled => "AgentDisabled",
        }
    }
}

/// Why a request was refused: the text of `<Reason>`, and more for the hub's own log.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) reason: &'static str,
    pub(super) detail: String,
}

impl Refusal {
    /// With status 403.
    pub(super) fn forbidden(reason: &'static str, detail: impl Into<String>) -> Self {
        Refusal {
            status: 403,
            reason,
            detail: detail.into(),
        }
    }

    /// With status 400.
    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Refusal {
            status: 400,
            reason: "InvalidRequest",
            detail: detail.into(),
        }
    }

    /// The hub's own fault; the client is told no more than that.
    pub(super) fn internal(error: anyhow::Error) -> Self {
        Refusal {
            status: 500,
            reason: "InternalError",
            detail: format!("{error:#}"),
        }
    }

    /// The answer of the agent services, and a line in the log.
    pub(super) fn answer(&self, place: &Place, peer: &Peer) -> Response {
        log::warn!(
            "refused workspace={} peer={} status={} reason={} {}",
            place.workspace,
            peer.address,
            self.status,
            self.reason,
            printable(&self.detail)
        );
        xml(self.status, error_body(self.reason))
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        Refusal::forbidden(denied.reason(), denied.to_string())
    }
}

/// An XML answer.
pub(super) fn xml(status: u16, body: String) -> Response {
    Response::new(status, "application/xml; charset=utf-8", body)
}

/// The agent at the other end.
pub(super) fn agent(
    store: &Store,
    place: &Place,
    peer: &Peer,
) -> anyhow::Result<Result<Agent, Denied>> {
    let Some(certificate) = &peer.certificate else {
        return Ok(Err(Denied::MissingCertificate));
    };
    let known = store.agent(&place.workspace, certificate)?;
    if let Ok(agent) = &known
        && agent.renewed
    {
        log::info!(
            "certificate renewed workspace={} agent={} certificate={} peer={}",
            agent.workspace,
            agent.guid,
            certificate.thumbprint,
            peer.address
        );
    }
    Ok(known)
}
