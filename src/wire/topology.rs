//! The topology request and its answer, as XML (protocol.md 1.6, 1.7, 1.9), and the request for
//! a new certificate (2.2).

mod renewal;

pub use renewal::CertificateUpdateRequest;

use crate::base::ids::AgentGuid;
use roxmltree::{Document, Node, ParsingOptions};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

/// Largest request or answer that is parsed, in bytes.
pub const BODY_LIMIT: usize = 64 << 10;

/// Most XML nodes of a document that is parsed.
const NODES_LIMIT: u32 = 2000;

/// Longest text taken over from a document, in bytes; the certificate has the whole body.
const TEXT_LIMIT: usize = 1024;

const NAMESPACES: &str = concat!(
    r#"xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" "#,
    r#"xmlns:xsd="http://www.w3.org/2001/XMLSchema" "#,
    r#"xmlns="http://schemas.microsoft.com/WorkloadMonitoring/HealthServiceProtocol/2014/09/""#
);

/// Why a document is not a topology request or answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// More than [`BODY_LIMIT`] bytes.
    #[error("the document is larger than {BODY_LIMIT} bytes")]
    TooLarge,
    /// Not XML, or more of it than is sane.
    #[error("the document is not well-formed XML: {0}")]
    NotXml(String),
    /// Another root element.
    #[error("the document is a `{0}`, not an `{1}`")]
    OtherRoot(String, &'static str),
    /// An element that must be there is not, or is empty.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// An element's text is not what it must be.
    #[error("`{0}` is not valid: {1}")]
    Invalid(&'static str, String),
    /// `OperatingSystem` without Name, Manufacturer or Version: a service answers 403.
    #[error("`OperatingSystem` lacks `{0}`")]
    IncompleteOperatingSystem(&'static str),
}

/// What an agent says of itself when it onboards and at each topology heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyRequest {
    /// Full host name; white space is taken out when parsed, since the original leaves line ends in.
    pub fqdn: String,
    /// The agent GUID.
    pub entity_id: AgentGuid,
    /// The client certificate's DER as base64; white space is taken out when parsed.
    pub certificate_base64: String,
    /// Left out whole when name, manufacturer or version is unknown.
    pub os: Option<OperatingSystem>,
}

/// The element `OperatingSystem`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OperatingSystem {
    /// `OSName`.
    pub name: String,
    /// `OSManufacturer`.
    pub manufacturer: String,
    /// `OSVersion`.
    pub version: String,
    /// Whether the agent runs in a container.
    pub in_container: bool,
    /// Tag of the container image.
    pub in_container_version: Option<String>,
    /// `Some` only in a container.
    pub is_aks_environment: Option<bool>,
    /// Kubelet version.
    pub k8s_version: Option<String>,
    /// Use of the running agent process; all `None` when it does not run.
    pub telemetry: Telemetry,
}

/// Attributes of the element `Telemetry`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Telemetry {
    /// Percent of one processor, user mode.
    pub percent_user_time: Option<u64>,
    /// Percent of one processor, kernel mode.
    pub percent_privileged_time: Option<u64>,
    /// Resident memory, KiB.
    pub used_memory: Option<u64>,
    /// Percent of the host's memory.
    pub percent_used_memory: Option<u64>,
}

impl TopologyRequest {
    /// The body to send and to hash, in the original's order of elements.
    pub fn to_xml(&self) -> String {
        let mut xml = format!("<?xml version=\"1.0\"?>\n<AgentTopologyRequest {NAMESPACES}>");
        element(&mut xml, "FullyQualfiedDomainName", &self.fqdn);
        element(&mut xml, "EntityTypeId", self.entity_id.as_str());
        element(
            &mut xml,
            "AuthenticationCertificate",
            &self.certificate_base64,
        );
        if let Some(os) = &self.os {
            os.write(&mut xml);
        }
        xml.push_str("</AgentTopologyRequest>");
        xml
    }

    /// Reads what an agent sent, in any order and layout.
    pub fn parse(body: &[u8]) -> Result<Self, TopologyError> {
        let text = text_of(body)?;
        let document = document(&text)?;
        let root = root(&document, "AgentTopologyRequest")?;
        let entity = squeezed(root, "EntityTypeId")?;
        let certificate = squeezed(root, "AuthenticationCertificate")?;
        Ok(TopologyRequest {
            fqdn: limited(
                "FullyQualfiedDomainName",
                squeezed(root, "FullyQualfiedDomainName")?,
            )?,
            entity_id: entity
                .parse()
                .map_err(|e| TopologyError::Invalid("EntityTypeId", format!("{e}")))?,
            certificate_base64: certificate,
            os: child(root, "OperatingSystem")
                .map(OperatingSystem::read)
                .transpose()?,
        })
    }
}

impl OperatingSystem {
    fn write(&self, xml: &mut String) {
        let spelled = |yes: bool| if yes { "True" } else { "False" };
        xml.push_str("<OperatingSystem>");
        element(xml, "InContainer", spelled(self.in_container));
        if let Some(version) = &self.in_container_version {
            element(xml, "InContainerVersion", version);
        }
        if let Some(aks) = self.is_aks_environment {
            element(xml, "IsAKSEnvironment", spelled(aks));
        }
        if let Some(version) = &self.k8s_version {
            element(xml, "K8SVersion", version);
        }
        xml.push_str("<Telemetry");
        for (name, value) in self.telemetry.attributes() {
            if let Some(value) = value {
                let _ = write!(xml, " {name}=\"{value}\"");
            }
        }
        xml.push_str("></Telemetry>");
        element(xml, "ProcessorArchitecture", "x64");
        element(xml, "Name", &self.name);
        element(xml, "Version", &self.version);
        element(xml, "Manufacturer", &self.manufacturer);
        xml.push_str("</OperatingSystem>");
    }

    fn read(node: Node<'_, '_>) -> Result<Self, TopologyError> {
        let required = |name: &'static str| match text(node, name) {
            Some(text) => limited(name, text),
            None => Err(TopologyError::IncompleteOperatingSystem(name)),
        };
        let optional = |name: &'static str| text(node, name).map(|t| limited(name, t)).transpose();
        let is_true = |text: String| text.eq_ignore_ascii_case("true");
        let telemetry = child(node, "Telemetry");
        let number = |name: &str| telemetry.and_then(|t| t.attribute(name)?.trim().parse().ok());
        Ok(OperatingSystem {
            name: required("Name")?,
            manufacturer: required("Manufacturer")?,
            version: required("Version")?,
            in_container: optional("InContainer")?.is_some_and(is_true),
            in_container_version: optional("InContainerVersion")?,
            is_aks_environment: optional("IsAKSEnvironment")?.map(is_true),
            k8s_version: optional("K8SVersion")?,
            telemetry: Telemetry {
                percent_user_time: number("PercentUserTime"),
                percent_privileged_time: number("PercentPrivilegedTime"),
                used_memory: number("UsedMemory"),
                percent_used_memory: number("PercentUsedMemory"),
            },
        })
    }
}

impl Telemetry {
    fn attributes(&self) -> [(&'static str, Option<u64>); 4] {
        [
            ("PercentUserTime", self.percent_user_time),
            ("PercentPrivilegedTime", self.percent_privileged_time),
            ("UsedMemory", self.used_memory),
            ("PercentUsedMemory", self.percent_used_memory),
        ]
    }
}

/// What the service answers with status 200.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopologyResponse {
    /// Time between topology heartbeats; adopted when within 60 s and 604 800 s (protocol.md 2.1).
    pub query_interval: Option<Duration>,
    /// Time between telemetry reports; adopted when within 60 s and 3600 s.
    pub telemetry_interval: Option<Duration>,
    /// A GUID no agent looks at.
    pub id: String,
    /// Where a new certificate is sent.
    pub certificate_update_endpoint: Option<String>,
    /// Whether to make and send a new certificate at once.
    pub update_certificate: bool,
    /// Where omsconfig pulls from.
    pub dsc_endpoint: Option<String>,
}

impl TopologyResponse {
    /// One line, attributes before text: original agents extract by pattern (protocol.md 1.7).
    pub fn to_xml(&self) -> String {
        let mut xml =
            String::from(r#"<?xml version="1.0" encoding="utf-8"?><LinuxAgentTopologyResponse"#);
        for (name, interval) in [
            ("queryInterval", self.query_interval),
            ("telemetryReportInterval", self.telemetry_interval),
        ] {
            if let Some(interval) = interval {
                let _ = write!(xml, " {name}=\"{}\"", iso8601(interval));
            }
        }
        let _ = write!(xml, " id=\"{}\" {NAMESPACES}>", escape(&self.id));
        if let Some(url) = &self.certificate_update_endpoint {
            let _ = write!(
                xml,
                "<CertificateUpdateEndpoint updateCertificate=\"{}\">{}</CertificateUpdateEndpoint>",
                self.update_certificate,
                escape(url)
            );
        }
        if let Some(url) = &self.dsc_endpoint {
            let _ = write!(
                xml,
                "<DscConfiguration><Endpoint>{}</Endpoint><NodeConfigurationName>\
                 MicrosoftOperationsManagementLinuxConfiguration.common\
                 </NodeConfigurationName></DscConfiguration>",
                escape(url)
            );
        }
        xml.push_str("</LinuxAgentTopologyResponse>");
        xml
    }

    /// Reads any layout of the answer; what is missing is `None`.
    pub fn parse(body: &[u8]) -> Result<Self, TopologyError> {
        let text_ = text_of(body)?;
        let document = document(&text_)?;
        let root = root(&document, "LinuxAgentTopologyResponse")?;
        let interval = |name: &str| root.attribute(name).and_then(parse_iso8601);
        let update = child(root, "CertificateUpdateEndpoint");
        let url =
            |name: &'static str, text: Option<String>| text.map(|t| limited(name, t)).transpose();
        Ok(TopologyResponse {
            query_interval: interval("queryInterval"),
            telemetry_interval: interval("telemetryReportInterval"),
            id: limited("id", root.attribute("id").unwrap_or_default().to_owned())?,
            certificate_update_endpoint: url(
                "CertificateUpdateEndpoint",
                text(root, "CertificateUpdateEndpoint"),
            )?,
            update_certificate: update
                .and_then(|u| u.attribute("updateCertificate"))
                .is_some_and(|v| v.trim().eq_ignore_ascii_case("true")),
            dsc_endpoint: url(
                "DscConfiguration",
                child(root, "DscConfiguration").and_then(|dsc| text(dsc, "Endpoint")),
            )?,
        })
    }
}

/// The text of `<Reason>` in the body of a refusal, fit for a terminal: at most 200 characters,
/// no control characters. `None` when there is none or it is blank.
pub fn reason(body: &[u8]) -> Option<String> {
    let text = text_of(body).ok()?;
    let (_, after) = text.split_once("<Reason>")?;
    let (reason, _) = after.split_once("</Reason>")?;
    let plain = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
        ("&amp;", "&"),
    ]
    .iter()
    .fold(reason.trim().to_owned(), |t, (from, to)| {
        t.replace(from, to)
    });
    let plain: String = plain
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect();
    Some(plain).filter(|p| !p.is_empty())
}

/// The body of a refusal (protocol.md 1.9).
pub fn error_body(reason: &str) -> String {
    format!(
        "<Error xmlns=\"http://schemas.microsoft.com/WorkloadMonitoring/HealthServiceProtocol/2014/09/\">\
         <Reason>{}</Reason></Error>",
        escape(reason)
    )
}

/// `text` for XML content and for attributes in double quotes. Apostrophes stay: original agents
/// take URLs out by pattern and would keep `&apos;` in them. Characters that XML 1.0 has no way to
/// write become U+FFFD.
fn escape(text: &str) -> Cow<'_, str> {
    let special = |c: char| matches!(c, '&' | '<' | '>' | '"') || !is_xml(c);
    if !text.contains(special) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if is_xml(c) => escaped.push(c),
            _ => escaped.push('\u{fffd}'),
        }
    }
    Cow::Owned(escaped)
}

fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..)
}

fn element(xml: &mut String, name: &str, text: &str) {
    let _ = write!(xml, "<{name}>{}</{name}>", escape(text));
}

fn text_of(body: &[u8]) -> Result<Cow<'_, str>, TopologyError> {
    if body.len() > BODY_LIMIT {
        return Err(TopologyError::TooLarge);
    }
    Ok(String::from_utf8_lossy(body))
}

fn document(text: &str) -> Result<Document<'_>, TopologyError> {
    let options = ParsingOptions {
        nodes_limit: NODES_LIMIT,
        ..ParsingOptions::default() // no DTD: no entities to explode
    };
    let text = text.trim_start_matches('\u{feff}').trim();
    Document::parse_with_options(text, options).map_err(|e| TopologyError::NotXml(e.to_string()))
}

fn root<'a>(document: &'a Document<'_>, name: &'static str) -> Result<Node<'a, 'a>, TopologyError> {
    let root = document.root_element();
    let found = root.tag_name().name();
    if found != name {
        let found = found.chars().take(64).collect();
        return Err(TopologyError::OtherRoot(found, name));
    }
    Ok(root)
}

fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children()
        .find(|n| n.is_element() && n.tag_name().name() == name)
}

/// The trimmed text of a child element; `None` when there is no such child or it is blank.
fn text(node: Node<'_, '_>, name: &str) -> Option<String> {
    let child = child(node, name)?;
    let texts = child.children().filter(|n| n.is_text());
    let text: String = texts.filter_map(|n| n.text()).collect();
    Some(text.trim().to_owned()).filter(|t| !t.is_empty())
}

/// As [`text`], with all white space taken out, and required.
fn squeezed(node: Node<'_, '_>, name: &'static str) -> Result<String, TopologyError> {
    let text = text(node, name).ok_or(TopologyError::Missing(name))?;
    Ok(text.split_whitespace().collect())
}

fn limited(name: &'static str, text: String) -> Result<String, TopologyError> {
    if text.len() > TEXT_LIMIT {
        return Err(TopologyError::Invalid(
            name,
            format!("longer than {TEXT_LIMIT} bytes"),
        ));
    }
    Ok(text)
}

/// An ISO-8601 duration in the largest unit that fits: `PT1H`, `PT20M`, `PT90S`.
fn iso8601(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        s if s > 0 && s.is_multiple_of(3600) => format!("PT{}H", s / 3600),
        s if s > 0 && s.is_multiple_of(60) => format!("PT{}M", s / 60),
        s => format!("PT{s}S"),
    }
}

/// Days count as 24 hours; months and years have no fixed length and are refused.
fn parse_iso8601(text: &str) -> Option<Duration> {
    if text.len() > 64 {
        return None;
    }
    let span: jiff::Span = text.trim().parse().ok()?;
    let relative = jiff::SpanRelativeTo::days_are_24_hours();
    span.to_duration(relative).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests;
