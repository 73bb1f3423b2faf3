//! The network half of onboarding and of the topology heartbeat: a request is formed, sent and
//! its answer interpreted. Nothing is written to the host here.

use crate::base::ids::{AgentGuid, WorkspaceId};
use crate::base::secret::Secret;
use crate::host::layout::Layout;
use crate::settings::omsadmin::{self, OmsAdmin};
use crate::settings::onboarding::is_tld;
use crate::settings::proxy;
use crate::wire::date::{Clock, Skew};
use crate::wire::http::{Client, Options, Proxy, Response};
use crate::wire::identity::ClientIdentity;
use crate::wire::metadata::{self, MachineIds};
use crate::wire::topology::{
    self, CertificateUpdateRequest, Telemetry, TopologyRequest, TopologyResponse,
};
use crate::wire::{signature, upload};
use std::path::PathBuf;
use std::time::Duration;
use zeroize::Zeroizing;

mod cause;
mod error;
#[cfg(test)]
mod tests;

pub use cause::OnboardCause;
pub use error::{HeartbeatError, OnboardError, RenewError};

/// For the TCP and TLS handshake (protocol.md 2.1).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// For the answer (protocol.md 2.1).
pub const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Shortest workspace key, decoded, that is not taken for a copying mistake. A usual one has
/// 64 bytes (protocol.md 1.1).
pub const MIN_KEY_BYTES: usize = 16;

/// Printed as a warning when the answer lacks what should be saved (protocol.md 1.7).
pub const ENDPOINTS_WARNING: &str =
    "During onboarding request, certificate update and DSC endpoints may not have been saved.";

/// Said when what answered did not want to know who this host is.
const NOT_ASKED: &str = "what answers did not ask for this host's certificate: if a proxy or \
    firewall opens the connection (TLS inspection), the service cannot know this host by it, and \
    will refuse its data; let that leave the service's names alone";

/// What the original's library said a body was (protocol.md 1.3); services expect it.
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

/// All that is needed to introduce this host to a workspace.
#[derive(Debug, Clone)]
pub struct OnboardRequest {
    /// Which workspace.
    pub workspace: WorkspaceId,
    /// Its shared key, base64.
    pub key: Secret,
    /// Top-level domain, perhaps with a port.
    pub tld: String,
    /// This agent.
    pub guid: AgentGuid,
    /// The certificate by which the service will know it.
    pub identity: ClientIdentity,
    /// CAs trusted beside the system's roots.
    pub ca_file: Option<PathBuf>,
    /// Proxy, or direct.
    pub proxy: Option<Proxy>,
    /// Where the host's facts are read.
    pub layout: Layout,
    /// Of the agent, e.g. `2.0.0-1`.
    pub agent_version: String,
    /// Kept in omsadmin.conf; empty when there is none.
    pub azure_resource_id: String,
    /// The time that is signed.
    pub clock: Clock,
}

/// What the service said to a host it took in.
#[derive(Debug, Clone)]
pub struct OnboardAnswer {
    /// Where a new certificate is sent, if said.
    pub certificate_update_endpoint: Option<String>,
    /// Where omsconfig pulls from, if said.
    pub dsc_endpoint: Option<String>,
    /// How far the clock is off, when notably: worth a warning even on success.
    pub skew: Option<Skew>,
    /// For the log, one line each.
    pub warnings: Vec<String>,
}

impl OnboardAnswer {
    /// The omsadmin.conf of the workspace that was just onboarded to.
    pub fn omsadmin(&self, request: &OnboardRequest, machine: &MachineIds) -> OmsAdmin {
        let endpoint = |url: &Option<String>| url.clone().unwrap_or_default();
        OmsAdmin {
            workspace_id: request.workspace.to_string(),
            agent_guid: request.guid.to_string(),
            log_facility: omsadmin::LOG_FACILITY.to_owned(),
            certificate_update_endpoint: endpoint(&self.certificate_update_endpoint),
            url_tld: request.tld.clone(),
            dsc_endpoint: endpoint(&self.dsc_endpoint),
            oms_endpoint: upload::ods_url(&request.workspace, &request.tld),
            azure_resource_id: request.azure_resource_id.clone(),
            omscloud_id: machine.cloud_id.clone(),
            uuid: Some(machine.uuid.clone()),
            ..OmsAdmin::default()
        }
    }
}

/// The key's bytes, or why it is no key (exit code 3): to be asked before anything is changed.
pub fn check_key(key: &Secret) -> Result<Zeroizing<Vec<u8>>, OnboardError> {
    let bytes = signature::decode_key(key).map_err(|error| match error {
        signature::KeyError::Empty => OnboardError::MissingKey,
        other => OnboardError::BadKey(other.to_string()),
    })?;
    if bytes.len() < MIN_KEY_BYTES {
        return Err(OnboardError::BadKey(format!(
            "the shared key stands for {} bytes, a workspace's for 64: copy it whole",
            bytes.len()
        )));
    }
    Ok(bytes)
}

/// The proxy that was given, or why it is none (exit code 4): to be asked before anything is
/// changed, too.
pub fn check_proxy(line: &Secret) -> Result<Proxy, OnboardError> {
    proxy::parse(line.expose()).map_err(|why| {
        let place = "the proxy given".to_owned();
        proxy::Unusable { place, why }.into()
    })
}

/// Introduces this host to the workspace (conversation A, protocol.md 1.3 to 1.9).
pub fn onboard(request: &OnboardRequest) -> Result<OnboardAnswer, OnboardError> {
    let key = check_key(&request.key)?;
    if !is_tld(&request.tld) {
        let shown = request.tld.chars().filter(|c| !c.is_control()).take(100);
        return Err(OnboardError::BadDomain(shown.collect()));
    }
    let mut warnings = Vec::new();
    let os = metadata::operating_system(&request.layout, Telemetry::default());
    let os = os.unwrap_or_else(|error| {
        warnings.push(format!("the operating system is not told: {error:#}"));
        None
    });
    let body = TopologyRequest {
        fqdn: metadata::fqdn(&request.layout),
        entity_id: request.guid.clone(),
        certificate_base64: request.identity.base64_body("\n"),
        os,
    }
    .to_xml();
    let date = signature::date(&request.clock.now());
    let hash = signature::content_hash(body.as_bytes());
    let authorization = signature::authorization(&request.workspace, &key, &date, &hash);
    let headers = [
        ("x-ms-Date", date.as_str()),
        ("x-ms-version", "August, 2014"),
        ("x-ms-SHA256_Content", &hash),
        ("Authorization", &authorization),
        ("Accept-Language", "en-US"),
        FORM,
    ];
    let client = Client::new(Options {
        identity: Some(request.identity.clone()),
        ca_file: request.ca_file.clone(),
        proxy: request.proxy.clone(),
        user_agent: upload::user_agent(&request.agent_version),
        connect_timeout: CONNECT_TIMEOUT,
        read_timeout: READ_TIMEOUT,
    })?;
    let url = upload::oms_url(&request.workspace, &request.tld);
    let response = client.post(&url, &headers, body.as_bytes())?;
    let skew = notable_skew(&response, &request.clock);
    match response.status {
        200 => {
            warnings.extend(client.remark());
            if !client.was_asked_for_certificate() {
                warnings.push(NOT_ASKED.to_owned());
            }
            Ok(accepted(&response, skew, warnings))
        }
        403 => Err(OnboardError::Refused {
            reason: topology::reason(&response.body).unwrap_or_default(),
            skew,
        }),
        status => Err(OnboardError::Status(status)),
    }
}

/// The body of an onboarding as it may be shown: the certificate masked.
pub fn shown(request: &OnboardRequest) -> String {
    let os = metadata::operating_system(&request.layout, Telemetry::default());
    TopologyRequest {
        fqdn: metadata::fqdn(&request.layout),
        entity_id: request.guid.clone(),
        certificate_base64: "*".repeat(64),
        os: os.unwrap_or_default(),
    }
    .to_xml()
}

fn accepted(response: &Response, skew: Option<Skew>, mut warnings: Vec<String>) -> OnboardAnswer {
    let answer = TopologyResponse::parse(&response.body).unwrap_or_else(|error| {
        warnings.push(format!("the service's answer cannot be read: {error}"));
        TopologyResponse::default()
    });
    let mut endpoint = |url: Option<String>| {
        let url = url.filter(|url| {
            let good = is_plain_url(url);
            if !good {
                warnings.push("the service's answer holds an endpoint that is no URL".into());
            }
            good
        });
        url.filter(|url| !url.is_empty())
    };
    let certificate_update_endpoint = endpoint(answer.certificate_update_endpoint);
    let dsc_endpoint = endpoint(answer.dsc_endpoint);
    if certificate_update_endpoint.is_none() {
        warnings.push(ENDPOINTS_WARNING.to_owned());
    }
    OnboardAnswer {
        certificate_update_endpoint,
        dsc_endpoint,
        skew,
        warnings,
    }
}

/// https, and nothing that could break out of a line of omsadmin.conf or be run when a shell
/// sources it.
fn is_plain_url(url: &str) -> bool {
    url.starts_with("https://")
        && url
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b"\"\\`$;&|<>".contains(&b))
}

fn notable_skew(response: &Response, clock: &Clock) -> Option<Skew> {
    Skew::measure(response.header("date")?, &clock.now()).filter(|skew| skew.is_notable())
}

/// What a running agent says of itself.
#[derive(Debug, Clone)]
pub struct HeartbeatRequest<'a> {
    /// Which workspace.
    pub workspace: &'a WorkspaceId,
    /// Top-level domain, perhaps with a port.
    pub tld: &'a str,
    /// This agent.
    pub guid: &'a AgentGuid,
    /// The certificate; the same that `client` presents.
    pub identity: &'a ClientIdentity,
    /// Where the host's facts are read.
    pub layout: &'a Layout,
    /// Use of the agent's process.
    pub telemetry: Telemetry,
    /// The time that is sent.
    pub clock: &'a Clock,
}

/// Sends a topology heartbeat (conversation B, protocol.md 2.1): the certificate alone says who
/// we are, nothing is signed. What to do with the answer is the caller's.
pub fn heartbeat(
    client: &Client,
    request: &HeartbeatRequest<'_>,
) -> Result<TopologyResponse, HeartbeatError> {
    let body = TopologyRequest {
        fqdn: metadata::fqdn(request.layout),
        entity_id: request.guid.clone(),
        certificate_base64: request.identity.base64_body(" "),
        os: metadata::operating_system(request.layout, request.telemetry).unwrap_or_default(),
    }
    .to_xml();
    let date = signature::date(&request.clock.now_utc());
    let headers = [
        ("x-ms-Date", date.as_str()),
        ("Accept-Language", "en-US"),
        FORM,
    ];
    let url = upload::oms_url(request.workspace, request.tld);
    let response = client.post(&url, &headers, body.as_bytes())?;
    if response.status != 200 {
        return Err(HeartbeatError::Status {
            status: response.status,
            reason: topology::reason(&response.body),
            skew: notable_skew(&response, request.clock),
        });
    }
    Ok(TopologyResponse::parse(&response.body)?)
}

/// Tells the service how the agent is (conversation D, protocol.md 2.3). Nothing of a good answer is
/// looked at.
pub fn telemetry(
    client: &Client,
    workspace: &WorkspaceId,
    tld: &str,
    body: &[u8],
) -> Result<(), HeartbeatError> {
    let date = signature::date(&Clock::System.now_utc());
    let headers = [
        ("x-ms-Date", date.as_str()),
        ("Accept-Language", "en-US"),
        FORM,
    ];
    let url = upload::telemetry_url(workspace, tld);
    let response = client.post(&url, &headers, body)?;
    match response.status {
        200 => Ok(()),
        status => Err(HeartbeatError::Status {
            status,
            reason: topology::reason(&response.body),
            skew: None,
        }),
    }
}

/// Where a new certificate is sent: what the service said, else its usual place (protocol.md 0.1).
pub fn renewal_url(admin: &OmsAdmin, workspace: &WorkspaceId) -> String {
    let said = &admin.certificate_update_endpoint;
    if is_plain_url(said) {
        return said.clone();
    }
    upload::renewal_url(workspace, &admin.url_tld)
}

/// Offers the service a new certificate (conversation C, protocol.md 2.2). `client` presents the old
/// one. Nothing of a good answer is looked at.
pub fn renew(client: &Client, url: &str, new: &ClientIdentity) -> Result<(), RenewError> {
    let body = CertificateUpdateRequest {
        certificate_base64: new.base64_body(" "),
    }
    .compose();
    let response = client.post(url, &[FORM], body.as_bytes())?;
    match response.status {
        200 => Ok(()),
        status => Err(RenewError::Status {
            status,
            reason: topology::reason(&response.body),
        }),
    }
}
