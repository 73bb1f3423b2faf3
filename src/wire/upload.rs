//! Where data goes and what is said beside it (protocol.md 0.1, 3.1).

use crate::base::ids::WorkspaceId;
use std::io::Write;

/// Where unchanged configurations point: the public cloud (protocol.md 0).
pub use crate::settings::onboarding::DEFAULT_TLD;

/// The UUID that is sent when the one configured is malformed (protocol.md 1.8).
const ZERO_UUID: &str = "00000000-0000-0000-0000-000000000000";

/// The topology service: `https://<ws>.oms.<tld>/AgentService.svc/LinuxAgentTopologyRequest`.
/// `tld` may carry a port (`example.test:8443`).
pub fn oms_url(ws: &WorkspaceId, tld: &str) -> String {
    format!("https://{ws}.oms.{tld}/AgentService.svc/LinuxAgentTopologyRequest")
}

/// The data service: `https://<ws>.ods.<tld>/OperationalData.svc/PostJsonDataItems`.
pub fn ods_url(ws: &WorkspaceId, tld: &str) -> String {
    format!("https://{ws}.ods.{tld}/OperationalData.svc/PostJsonDataItems")
}

/// The diagnostics service, unless `DIAGNOSTIC_ENDPOINT` names another (protocol.md 1.8).
pub fn diagnostics_url(ws: &WorkspaceId, tld: &str) -> String {
    format!("https://{ws}.ods.{tld}/DiagnosticsDataService.svc/PostJsonDataItems")
}

/// The telemetry service (protocol.md 2.3).
pub fn telemetry_url(ws: &WorkspaceId, tld: &str) -> String {
    format!("https://{ws}.oms.{tld}/AgentService.svc/AgentTelemetry")
}

/// The usual place of the service for new certificates (protocol.md 0.1).
pub fn renewal_url(ws: &WorkspaceId, tld: &str) -> String {
    format!("https://{ws}.oms.{tld}/ConfigurationService.Svc/RenewCertificate")
}

/// `LinuxMonitoringAgent/<version>`.
pub fn user_agent(version: &str) -> String {
    format!("LinuxMonitoringAgent/{version}")
}

/// What the headers of all uploads are made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentHeaders {
    /// Of the agent, e.g. `2.0.0-1`.
    pub version: String,
    /// Azure resource id; empty when unknown.
    pub resource_id: String,
    /// Azure region; empty means `OnPremise`.
    pub region: String,
    /// Chassis asset tag of an Azure host; empty elsewhere.
    pub cloud_id: String,
    /// `None` when omsadmin.conf has no such key: then no header is sent.
    pub uuid: Option<String>,
}

impl AgentHeaders {
    /// The headers of one attempt, `User-Agent` included, with an X-Request-ID of its own.
    /// `attempt` counts from 0. Names and values in the order of protocol.md 3.1.
    pub fn for_attempt(&self, attempt: u32, compressed: bool) -> Vec<(&'static str, String)> {
        let mut headers = vec![("x-ms-client-request-retry-count", attempt.to_string())];
        self.of_host(&mut headers);
        let mut if_known = |name, value: &str| {
            if !value.is_empty() {
                headers.push((name, value.to_owned()));
            }
        };
        if_known("Content-Type", "application/json");
        if compressed {
            if_known("Content-Encoding", "deflate");
        }
        if_known("User-Agent", &user_agent(&self.version));
        if_known("x-ms-app", "LinuxMonitoringAgent");
        if_known("x-ms-client-version", &self.version);
        if_known("x-ms-client-platform", "Linux");
        headers
    }

    /// The headers of a PUT into a blob, with an X-Request-ID of its own (protocol.md 3.10, step 2).
    pub fn for_blob(&self, computer: &str, zone: &str) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            ("x-ms-meta-TimeZoneid", zone.to_owned()),
            ("x-ms-meta-ComputerName", computer.to_owned()),
        ];
        self.of_host(&mut headers);
        headers.push(("Content-Type", "application/octet-stream".into()));
        headers.push(("User-Agent", user_agent(&self.version)));
        headers.push(("x-ms-version", "2016-05-31".into()));
        headers
    }

    /// What is said of the host, and the request's id.
    fn of_host(&self, headers: &mut Vec<(&'static str, String)>) {
        let mut if_known = |name, value: &str| {
            if !value.is_empty() {
                headers.push((name, value.to_owned()));
            }
        };
        let region = match self.region.as_str() {
            "" => "OnPremise",
            region => region,
        };
        if_known("x-ms-AzureResourceId", &self.resource_id);
        if_known("x-ms-AzureRegion", region);
        if_known("x-ms-OMSCloudId", &self.cloud_id);
        if let Some(uuid) = &self.uuid {
            let well_formed = uuid.parse::<WorkspaceId>().is_ok(); // any GUID's form
            let uuid = if well_formed { uuid } else { ZERO_UUID };
            if_known("x-ms-UUID", uuid);
        }
        if_known("X-Request-ID", &uuid::Uuid::new_v4().to_string());
    }
}

/// Another service of the same host: `path` in place of the endpoint's own.
pub fn beside(endpoint: &str, path: &str) -> String {
    let authority = endpoint.find("://").map_or(0, |at| at + 3);
    let end = endpoint[authority..].find(['/', '?']);
    let end = end.map_or(endpoint.len(), |n| authority + n);
    format!("{}{path}", &endpoint[..end])
}

/// A body for `Content-Encoding: deflate`, which means zlib (RFC 1950), level 6.
pub fn deflate(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let room = Vec::with_capacity(body.len() / 4 + 64);
    let mut encoder = flate2::write::ZlibEncoder::new(room, flate2::Compression::new(6));
    encoder.write_all(body)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn ws() -> WorkspaceId {
        "11111111-2222-3333-4444-555555555555".parse().unwrap()
    }

    fn value<'a>(headers: &'a [(&'static str, String)], name: &str) -> Option<&'a str> {
        let found: Vec<_> = headers.iter().filter(|(n, _)| *n == name).collect();
        assert!(found.len() < 2, "{name} twice");
        found.first().map(|(_, v)| v.as_str())
    }

    #[test]
    fn urls_keep_a_port() {
        let id = ws();
        assert_eq!(
            oms_url(&id, "example.test:8443"),
            format!(
                "https://{id}.oms.example.test:8443/AgentService.svc/LinuxAgentTopologyRequest"
            )
        );
        assert_eq!(
            ods_url(&id, DEFAULT_TLD),
            format!("https://{id}.ods.opinsights.azure.com/OperationalData.svc/PostJsonDataItems")
        );
    }

    #[test]
    fn other_services_are_beside_the_endpoint() {
        let wanted = "https://w.ods.example.test:8443/ContainerService.svc/X";
        for endpoint in [
            "https://w.ods.example.test:8443/OperationalData.svc/PostJsonDataItems",
            "https://w.ods.example.test:8443",
            "https://w.ods.example.test:8443?x=/y",
        ] {
            assert_eq!(beside(endpoint, "/ContainerService.svc/X"), wanted);
        }
    }

    #[test]
    fn headers_of_a_blob() {
        let agent = AgentHeaders {
            version: "2.0.0-1".into(),
            ..AgentHeaders::default()
        };
        let headers = agent.for_blob("web01", "UTC");
        assert_eq!(value(&headers, "x-ms-meta-ComputerName"), Some("web01"));
        assert_eq!(value(&headers, "x-ms-meta-TimeZoneid"), Some("UTC"));
        assert_eq!(value(&headers, "x-ms-AzureRegion"), Some("OnPremise"));
        assert_eq!(value(&headers, "x-ms-version"), Some("2016-05-31"));
        assert!(value(&headers, "X-Request-ID").is_some());
        assert_eq!(value(&headers, "x-ms-client-request-retry-count"), None);
    }

    #[test]
    fn headers_that_are_always_there() {
        let bare = AgentHeaders {
            version: "2.0.0-1".into(),
            ..AgentHeaders::default()
        };
        let headers = bare.for_attempt(0, false);
        let names: Vec<_> = headers.iter().map(|(n, _)| *n).collect();
        assert_eq!(
            names,
            [
                "x-ms-client-request-retry-count",
                "x-ms-AzureRegion",
                "X-Request-ID",
                "Content-Type",
                "User-Agent",
                "x-ms-app",
                "x-ms-client-version",
                "x-ms-client-platform",
            ]
        );
        assert_eq!(value(&headers, "x-ms-AzureRegion"), Some("OnPremise"));
        assert_eq!(
            value(&headers, "User-Agent"),
            Some("LinuxMonitoringAgent/2.0.0-1")
        );
        let again = bare.for_attempt(3, true);
        assert_eq!(value(&again, "x-ms-client-request-retry-count"), Some("3"));
        assert_eq!(value(&again, "Content-Encoding"), Some("deflate"));
        assert_ne!(
            value(&again, "X-Request-ID"),
            value(&headers, "X-Request-ID")
        );
    }

    #[test]
    fn headers_of_what_is_known() {
        let mut all = AgentHeaders {
            version: "1".into(),
            resource_id: "/subscriptions/x".into(),
            region: "westeurope".into(),
            cloud_id: "7783".into(),
            uuid: Some("AAAAAAAA-2222-3333-4444-555555555555".into()),
        };
        let headers = all.for_attempt(0, true);
        assert_eq!(
            value(&headers, "x-ms-AzureResourceId"),
            Some("/subscriptions/x")
        );
        assert_eq!(value(&headers, "x-ms-AzureRegion"), Some("westeurope"));
        assert_eq!(value(&headers, "x-ms-OMSCloudId"), Some("7783"));
        assert_eq!(value(&headers, "x-ms-UUID"), all.uuid.as_deref());
        all.uuid = Some("rubbish".into());
        assert_eq!(
            value(&all.for_attempt(0, true), "x-ms-UUID"),
            Some(ZERO_UUID)
        );
    }

    #[test]
    fn deflate_is_zlib() {
        let text = b"the same words again and again ".repeat(100);
        let packed = deflate(&text).unwrap();
        assert!(packed.len() < text.len() / 10);
        assert_eq!(packed[0] & 0x0f, 8, "RFC 1950: method deflate");
        assert_eq!(
            u16::from_be_bytes([packed[0], packed[1]]) % 31,
            0,
            "its check bits"
        );
        let mut back = Vec::new();
        flate2::read::ZlibDecoder::new(&packed[..])
            .read_to_end(&mut back)
            .unwrap();
        assert_eq!(back, text);
    }
}
