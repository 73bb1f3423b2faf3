//! Agent and hub together: onboarded, then logs and heartbeats into the hub's database.

use crate::stage::{Stage as Workspace, eventually};
use omsagent::base::ids::AgentGuid;
use omsagent::host::layout::Layout;
use omsagent::hub::{Folder, NewWorkspace, Options, Reader, Server, Stop, Workspaces};
use omsagent::wire::date::Clock;
use omsagent::wire::http::Proxy;
use omsagent::wire::identity::ClientIdentity;
use omsagent::workspace::exchange::{OnboardRequest, onboard};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

pub const DOMAIN: &str = "hub.test";

/// A proxy that leads every CONNECT to the hub, so that no name needs to resolve.
pub fn tunnel(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut reader = BufReader::new(client.try_clone().unwrap());
                let mut line = String::new();
                while reader.read_line(&mut line).unwrap_or(0) > 2 {
                    line.clear();
                }
                let server = TcpStream::connect(to).unwrap();
                let _ = (&client).write_all(b"HTTP/1.1 200 X\r\n\r\n");
                let (mut up, mut down) = (server.try_clone().unwrap(), client);
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut reader, &mut up);
                    let _ = up.shutdown(std::net::Shutdown::Write);
                });
                let _ = std::io::copy(&mut &server, &mut down);
                let _ = down.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    address
}

#[test]
fn onboarded_to_a_real_hub_logs_and_heartbeats_arrive() {
    let temp = tempfile::tempdir().unwrap();
    let folder = Folder::make(&temp.path().join("hub")).unwrap();
    let (ws, key) = Workspaces::open(&folder)
        .unwrap()
        .add(NewWorkspace::default())
        .unwrap();
    let stop = Stop::default();
    let options = Options::new("127.0.0.1:0".parse().unwrap(), DOMAIN);
    let server = Server::bind(&folder, options, stop.clone()).unwrap();
    let proxy = tunnel(server.address().unwrap());
    let hub = std::thread::spawn(move || server.run().unwrap());

    let stage = Workspace::new();
    let guid = AgentGuid::random();
    let identity = ClientIdentity::generate(&ws, &guid, jiff::Timestamp::now()).unwrap();
    let ca = folder.authority_certificate();
    let request = OnboardRequest {
        workspace: ws.clone(),
        key,
        tld: DOMAIN.into(),
        guid: guid.clone(),
        identity: identity.clone(),
        ca_file: Some(ca.clone()),
        proxy: Some(Proxy {
            scheme: Default::default(),
            host: proxy.ip().to_string(),
            port: proxy.port(),
            credentials: None,
        }),
        layout: Layout::new("/"),
        agent_version: "2.0.0-1".into(),
        azure_resource_id: String::new(),
        clock: Clock::System,
    };
    let answer = onboard(&request).unwrap();
    std::fs::write(stage.path("certs/oms.crt"), &identity.cert_pem).unwrap();
    std::fs::write(stage.path("certs/oms.key"), identity.key_pem.expose()).unwrap();
    std::fs::write(stage.path("conf/proxy.conf"), proxy.to_string()).unwrap();
    std::fs::copy(ca, stage.path("ca.pem")).unwrap();
    let admin = format!(
        "WORKSPACE_ID={ws}\nAGENT_GUID={guid}\nURL_TLD={DOMAIN}\nDSC_ENDPOINT=old\n\
         OMS_ENDPOINT=https://{ws}.ods.{DOMAIN}/OperationalData.svc/PostJsonDataItems\n"
    );
    std::fs::write(stage.path("conf/omsadmin.conf"), admin).unwrap();
    // A topology heartbeat in a second, through the same proxy.
    let path = format!(
        "run_interval 1s\n  proxy_path {}",
        stage.text("conf/proxy.conf")
    );
    stage.change("omsagent.d/heartbeat.conf", "run_interval 20m", &path);

    let agent = stage.start();
    agent.datagram("<86>Aug  9 10:11:12 127.0.0.9 sshd[812]: Accepted publickey");
    agent.lines(0..500);
    let count = |sql: &str| {
        let reader = Reader::open(&folder).unwrap();
        let rows = reader.query(sql).unwrap();
        rows.rows.len()
    };
    eventually("all log lines", || count("SELECT * FROM Syslog") >= 501);
    eventually("a heartbeat", || count("SELECT * FROM Heartbeat") >= 1);
    assert_eq!(count("SELECT * FROM Syslog"), 501);
    eventually("the topology heartbeat", || {
        stage
            .log()
            .contains("topology heartbeats each 1200 s from now on")
    });
    if let Some(dsc) = answer.dsc_endpoint {
        let admin = omsagent::settings::omsadmin::OmsAdmin::load(&stage.path("conf/omsadmin.conf"));
        assert_eq!(admin.unwrap().unwrap().dsc_endpoint, dsc);
    }
    let (status, took) = agent.stop();
    assert!(status.success() && took < Duration::from_secs(2));
    stop.now();
    hub.join().unwrap();
}
