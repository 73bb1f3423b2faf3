//! The hub as a process of its own, and agents that are onboarded to it.

use crate::stage::{Agent, Stage, binary, eventually};
use crate::with_hub::{DOMAIN, tunnel};
use jiff::{SignedDuration, Timestamp};
use omsagent::base::ids::{AgentGuid, WorkspaceId};
use omsagent::base::secret::Secret;
use omsagent::host::layout::Layout;
use omsagent::hub::{Agents, Folder, NewWorkspace, Reader, Workspaces};
use omsagent::settings::proxy::Scheme;
use omsagent::wire::date::Clock;
use omsagent::wire::http::Proxy;
use omsagent::wire::identity::ClientIdentity;
use omsagent::workspace::exchange::{OnboardRequest, onboard};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

pub struct Hub {
    pub temp: tempfile::TempDir,
    pub ws: WorkspaceId,
    key: Secret,
    pub folder: Folder,
    proxy: SocketAddr,
    child: Child,
}

/// Who an agent is.
pub struct Member {
    pub guid: AgentGuid,
    pub identity: ClientIdentity,
}

impl Member {
    /// With a certificate that has so many days left.
    pub fn new(hub: &Hub, days_left: i64) -> Member {
        let guid = AgentGuid::random();
        let made = Timestamp::now() - SignedDuration::from_hours(24 * (365 - days_left));
        let identity = ClientIdentity::generate(&hub.ws, &guid, made).unwrap();
        Member { guid, identity }
    }
}

impl Hub {
    pub fn start() -> Hub {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::make(&temp.path().join("hub")).unwrap();
        let (ws, key) = Workspaces::open(&folder)
            .unwrap()
            .add(NewWorkspace::default())
            .unwrap();
        let mut child = Command::new(binary())
            .args([
                "hub",
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--domain",
                DOMAIN,
            ])
            .arg("--data")
            .arg(temp.path().join("hub"))
            .arg("--faults")
            .arg(temp.path().join("faults"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let address = said
            .lines()
            .map_while(Result::ok)
            .find_map(|line| Some(line.strip_prefix("listening on ")?.parse().unwrap()));
        Hub {
            proxy: tunnel(address.unwrap()),
            temp,
            ws,
            key,
            folder,
            child,
        }
    }

    /// What goes wrong from now on.
    pub fn faults(&self, text: &str) {
        let path: PathBuf = self.temp.path().join("faults");
        std::fs::write(path, text).unwrap();
    }

    /// A stage that is onboarded as `member`; its agent has one interval for topology heartbeats.
    pub fn stage(&self, member: &Member, interval: &str) -> Stage {
        let stage = Stage::new();
        let ca = self.folder.authority_certificate();
        let proxy = Proxy {
            scheme: Scheme::Http,
            host: self.proxy.ip().to_string(),
            port: self.proxy.port(),
            credentials: None,
        };
        std::fs::write(stage.path("conf/proxy.conf"), self.proxy.to_string()).unwrap();
        let request = OnboardRequest {
            workspace: self.ws.clone(),
            key: self.key.clone(),
            tld: DOMAIN.into(),
            guid: member.guid.clone(),
            identity: member.identity.clone(),
            ca_file: Some(ca.clone()),
            proxy: Some(proxy),
            layout: Layout::new("/"),
            agent_version: "2.0.0-1".into(),
            azure_resource_id: String::new(),
            clock: Clock::System,
        };
        onboard(&request).unwrap();
        let (ws, guid) = (&self.ws, &member.guid);
        let admin = format!(
            "WORKSPACE_ID={ws}\nAGENT_GUID={guid}\nURL_TLD={DOMAIN}\n\
             OMS_ENDPOINT=https://{ws}.ods.{DOMAIN}/OperationalData.svc/PostJsonDataItems\n"
        );
        std::fs::write(stage.path("conf/omsadmin.conf"), admin).unwrap();
        std::fs::copy(ca, stage.path("ca.pem")).unwrap();
        let identity = &member.identity;
        std::fs::write(stage.path("certs/oms.crt"), &identity.cert_pem).unwrap();
        std::fs::write(stage.path("certs/oms.key"), identity.key_pem.expose()).unwrap();
        let interval = format!(
            "run_interval {interval}\n  proxy_path {}",
            stage.text("conf/proxy.conf")
        );
        stage.change("omsagent.d/heartbeat.conf", "run_interval 20m", &interval);
        let proxy = format!(
            "type agent_telemetry\n  proxy_path {}",
            stage.text("conf/proxy.conf")
        );
        stage.change("omsagent.d/telemetry.conf", "type agent_telemetry", &proxy);
        stage
    }

    pub fn agents(&self) -> Agents {
        Agents::open(&self.folder).unwrap()
    }

    /// The rows of a question.
    pub fn count(&self, sql: &str) -> usize {
        let reader = Reader::open(&self.folder).unwrap();
        reader.query(sql).unwrap().rows.len()
    }

    /// Is this certificate the one that the hub takes from `member`?
    pub fn knows(&self, member: &Member, pair: &ClientIdentity) -> bool {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(pair.cert_der().unwrap());
        let print: String = digest.iter().map(|b| format!("{b:02x}")).collect();
        self.count(&format!(
            "SELECT * FROM certificates WHERE thumbprint = '{print}' AND agent_guid = '{}' AND pending = 0",
            member.guid
        )) == 1
    }

    /// Sends a line that nobody else sends; it arrives.
    pub fn takes_a_line_from(&self, agent: &Agent) {
        let n = self.send_a_line_by(agent);
        eventually("a line at the hub", || self.has_line(n));
    }

    pub fn send_a_line_by(&self, agent: &Agent) -> u32 {
        static NEXT: AtomicU32 = AtomicU32::new(100_000);
        let n = NEXT.fetch_add(1, Ordering::SeqCst);
        agent.datagram(&crate::stage::numbered(n));
        n
    }

    pub fn has_line(&self, n: u32) -> bool {
        self.count(&format!(
            "SELECT * FROM Syslog WHERE SyslogMessage = 'number={n:06}'"
        )) > 0
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
