//! A hub on 127.0.0.1, agents for it, and raw HTTP.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use omsagent::base::ids::{AgentGuid, WorkspaceId};
use omsagent::base::secret::Secret;
use omsagent::hub::{Folder, NewWorkspace, Options, Reader, Server, Stop, Workspaces};
use omsagent::wire::signature;
use omsagent::wire::topology::{CertificateUpdateRequest, TopologyRequest, TopologyResponse};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

pub const DOMAIN: &str = "hub.test";
pub const TOPOLOGY: &str = "/AgentService.svc/LinuxAgentTopologyRequest";
pub const RENEW: &str = "/ConfigurationService.Svc/RenewCertificate";
pub const TELEMETRY: &str = "/AgentService.svc/AgentTelemetry";
pub const UPLOAD: &str = "/OperationalData.svc/PostJsonDataItems";

pub type Connection = StreamOwned<ClientConnection, TcpStream>;

/// A hub in this process with one workspace; stopped when dropped.
pub struct Stage {
    pub address: SocketAddr,
    pub folder: Folder,
    pub ws: WorkspaceId,
    pub key: Secret,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
    _temp: tempfile::TempDir,
}

impl Stage {
    pub fn new() -> Self {
        Stage::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Options)) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::make(&temp.path().join("hub")).unwrap();
        let mut all = Workspaces::open(&folder).unwrap();
        let (ws, key) = all.add(NewWorkspace::default()).unwrap();
        let mut options = Options::new("127.0.0.1:0".parse().unwrap(), DOMAIN);
        change(&mut options);
        let stop = Stop::default();
        let server = Server::bind(&folder, options, stop.clone()).unwrap();
        Stage {
            address: server.address().unwrap(),
            folder,
            ws,
            key,
            stop,
            thread: Some(std::thread::spawn(move || server.run().unwrap())),
            _temp: temp,
        }
    }

    pub fn stop(&self) {
        self.stop.now();
    }

    /// Waits until the stopped server has ended.
    pub fn join(&mut self) {
        self.thread.take().unwrap().join().unwrap();
    }

    pub fn connect(&self, agent: Option<&Agent>) -> Connection {
        self.connect_by(agent, rustls::ALL_VERSIONS)
    }

    pub fn connect_by(
        &self,
        agent: Option<&Agent>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Connection {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(self.folder.authority_certificate()).unwrap();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match agent {
            Some(agent) => {
                let key = PrivateKeyDer::try_from(agent.key.clone()).unwrap();
                let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
                let chain = vec![CertificateDer::from(agent.certificate.clone())];
                // Not `with_client_auth_cert`, which would notice a key that does not fit.
                let pair = Arc::new(CertifiedKey::new(chain, key));
                config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)))
            }
            None => config.with_no_client_auth(),
        };
        let name = ServerName::try_from(self.host("oms")).unwrap();
        let tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let tcp = TcpStream::connect(self.address).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        StreamOwned::new(tls, tcp)
    }

    pub fn host(&self, service: &str) -> String {
        format!("{}.{service}.{DOMAIN}", self.ws)
    }

    /// Onboards an agent; the answer's status and reason.
    pub fn onboard(&self, agent: &Agent) -> Answer {
        let body = agent.topology().to_xml();
        let request = self.signed(&Signing::of(self), body.as_bytes());
        exchange(&mut self.connect(Some(agent)), &request)
    }

    /// A new agent that has onboarded.
    pub fn agent(&self) -> Agent {
        let agent = Agent::new();
        let answer = self.onboard(&agent);
        assert_eq!(answer.status, 200, "{}", answer.text());
        agent
    }

    /// The bytes of an onboarding request.
    pub fn signed(&self, signing: &Signing, body: &[u8]) -> Vec<u8> {
        let key = signature::decode_key(&signing.key).unwrap();
        let hash = signature::content_hash(body);
        let authorization = signature::authorization(&signing.ws, &key, &signing.date, &hash);
        let mut headers = vec![
            ("x-ms-Date", signing.date.as_str()),
            ("x-ms-version", "August, 2014"),
            ("x-ms-SHA256_Content", &hash),
            ("Authorization", &authorization),
        ];
        headers.retain(|(name, _)| Some(*name) != signing.without);
        post(&self.host("oms"), TOPOLOGY, &headers, body)
    }

    /// Uploads a body; `headers` beside the content type.
    pub fn upload(&self, agent: &Agent, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut all = vec![("Content-Type", "application/json")];
        all.extend(headers);
        let request = post(&self.host("ods"), UPLOAD, &all, body);
        exchange(&mut self.connect(Some(agent)), &request)
    }

    /// A topology heartbeat.
    pub fn heartbeat(&self, agent: &Agent) -> Answer {
        let body = agent.topology().to_xml();
        let request = post(&self.host("oms"), TOPOLOGY, &[], body.as_bytes());
        exchange(&mut self.connect(Some(agent)), &request)
    }

    /// Whether the answer to a topology heartbeat asks for a new certificate.
    pub fn asks(&self, agent: &Agent) -> bool {
        let answer = self.heartbeat(agent);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let response = TopologyResponse::parse(&answer.body).unwrap();
        response.update_certificate
    }

    /// Sends a new certificate, with the old one.
    pub fn renew(&self, old: &Agent, new: &Agent) -> (u16, String) {
        let request = CertificateUpdateRequest {
            certificate_base64: new.topology().certificate_base64,
        };
        let body = request.compose();
        let request = post(&self.host("oms"), RENEW, &[], body.as_bytes());
        exchange(&mut self.connect(Some(old)), &request).verdict()
    }

    /// A certificate as agents make them, valid from so many seconds from now for so many days.
    pub fn certified(&self, guid: &AgentGuid, from: i64, days: u64) -> Agent {
        Agent::certified(self.ws.as_str(), guid, from, days)
    }

    /// The only value of a query.
    pub fn value(&self, sql: &str) -> String {
        let rows = Reader::open(&self.folder).unwrap().query(sql).unwrap();
        rows.to_json().join("\n")
    }

    pub fn items(&self) -> String {
        self.value("SELECT count(*) AS n FROM items")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.now();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// With what an onboarding request is signed.
pub struct Signing {
    pub ws: WorkspaceId,
    pub key: Secret,
    pub date: String,
    /// A header to leave out.
    pub without: Option<&'static str>,
}

impl Signing {
    pub fn of(stage: &Stage) -> Self {
        Signing {
            ws: stage.ws.clone(),
            key: stage.key.clone(),
            date: signature::date(&jiff::Zoned::now()),
            without: None,
        }
    }
}

/// An agent's GUID and certificate.
pub struct Agent {
    pub guid: AgentGuid,
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
}

impl Agent {
    pub fn new() -> Self {
        Agent::named(AgentGuid::random())
    }

    pub fn named(guid: AgentGuid) -> Self {
        let made = rcgen::generate_simple_self_signed(vec![]).unwrap();
        Agent {
            guid,
            certificate: made.cert.der().to_vec(),
            key: made.signing_key.serialize_der(),
        }
    }

    /// With a certificate whose subject is that of protocol.md 1.6.
    pub fn certified(ws: &str, guid: &AgentGuid, from: i64, days: u64) -> Self {
        use rcgen::DnType;
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, ws);
        name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), guid.as_str());
        name.push(DnType::OrganizationalUnitName, "Linux Monitoring Agent");
        name.push(DnType::OrganizationName, "Microsoft");
        let start = u64::try_from(jiff::Timestamp::now().as_second() + from).unwrap();
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(start);
        params.not_after = params.not_before + Duration::from_secs(days * 86_400);
        let certificate = params.self_signed(&key).unwrap();
        Agent {
            guid: guid.clone(),
            certificate: certificate.der().to_vec(),
            key: key.serialize_der(),
        }
    }

    pub fn topology(&self) -> TopologyRequest {
        TopologyRequest {
            fqdn: "web01.example.org".into(),
            entity_id: self.guid.clone(),
            certificate_base64: STANDARD.encode(&self.certificate),
            os: None,
        }
    }
}

/// An answer as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Status and `<Reason>`.
    pub fn verdict(&self) -> (u16, String) {
        let reason = omsagent::wire::topology::reason(&self.body);
        (self.status, reason.unwrap_or_default())
    }
}

pub fn post(host: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    [text.as_bytes(), body].concat()
}

/// Sends a request as it is and reads one answer.
pub fn exchange(connection: &mut Connection, request: &[u8]) -> Answer {
    // A server that refuses may stop reading before all is sent.
    let _ = connection.write_all(request);
    let _ = connection.flush();
    answer(connection)
}

/// Reads one answer.
pub fn answer(connection: &mut Connection) -> Answer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0u8];
        connection.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let status = head[9..12].parse().unwrap();
    let length = head
        .lines()
        .find_map(|l| l.strip_prefix("Content-Length: "))
        .map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0u8; length];
    connection.read_exact(&mut body).unwrap();
    Answer { status, head, body }
}

/// An envelope with `n` syslog items.
pub fn envelope(n: usize) -> String {
    let items: Vec<String> = (0..n)
        .map(|i| {
            format!(
                r#"{{"ident":"sshd","Timestamp":"2031-08-09T10:11:12.345Z","EventTime":"2031-08-09T10:11:12.000Z","Host":"web01","HostIP":"10.0.0.7","Message":"line {i}","ProcessId":"812","Facility":"authpriv","Severity":"info"}}"#
            )
        })
        .collect();
    format!(
        r#"{{"DataType":"LINUX_SYSLOGS_BLOB","IPName":"LOGMANAGEMENT","DataItems":[{}]}}"#,
        items.join(",")
    )
}
