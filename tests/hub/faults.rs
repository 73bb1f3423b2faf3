//! Requests that go wrong on purpose (docs/hub.md).

use crate::stage::*;
use omsagent::wire::topology::TopologyResponse;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A hub whose faults can be changed.
struct Faulty {
    stage: Stage,
    file: PathBuf,
    _temp: tempfile::TempDir,
}

impl Faulty {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("faults.toml");
        Faulty {
            stage: Stage::with(|o| o.faults = Some(file.clone())),
            file,
            _temp: temp,
        }
    }

    fn now(&self, text: &str) {
        let next = self.file.with_extension("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, &self.file).unwrap();
    }

    fn upload(&self, agent: &Agent) -> Answer {
        self.stage.upload(agent, &[], envelope(1).as_bytes())
    }

    /// What comes back when the connection is dropped: nothing.
    fn dropped(&self, agent: &Agent) -> bool {
        let json = [("Content-Type", "application/json")];
        let body = envelope(1);
        let request = post(&self.stage.host("ods"), UPLOAD, &json, body.as_bytes());
        let mut connection = self.stage.connect(Some(agent));
        let _ = connection.write_all(&request);
        let _ = connection.flush();
        !matches!(connection.read(&mut [0u8; 1]), Ok(1))
    }
}

#[test]
fn a_status_is_answered_so_many_times_and_nothing_is_done() {
    let hub = Faulty::new();
    let agent = hub.stage.agent();
    hub.now("[[fault]]\non = 'upload'\ntimes = 3\nstatus = 503\nretry_after = 5\n");
    for _ in 0..3 {
        let answer = hub.upload(&agent);
        assert_eq!(answer.status, 503);
        assert!(answer.head.contains("\r\nRetry-After: 5\r\n"));
    }
    assert_eq!(hub.stage.items(), r#"{"n":0}"#);
    assert_eq!(hub.upload(&agent).status, 200);
    assert_eq!(hub.stage.items(), r#"{"n":1}"#);
}

#[test]
fn reasons_are_told_in_the_form_of_the_service() {
    let hub = Faulty::new();
    let agent = hub.stage.agent();
    hub.now("[[fault]]\non = 'any'\nreason = 'ClockSkew'\n");
    let skew = (403, "ClockSkew".to_owned());
    assert_eq!(hub.stage.onboard(&agent).verdict(), skew);
    assert_eq!(hub.stage.heartbeat(&agent).verdict(), skew);
    let new = hub.stage.certified(&agent.guid, 0, 365);
    assert_eq!(hub.stage.renew(&agent, &new), skew);
    let upload = hub.upload(&agent);
    let text = upload.text();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((upload.status, &json["Error"]), (403, &"ClockSkew".into()));
    let request = post(&hub.stage.host("oms"), TELEMETRY, &[], b"{}");
    let telemetry = exchange(&mut hub.stage.connect(Some(&agent)), &request);
    assert_eq!(telemetry.verdict(), skew);
    // Whoever waits for the hub is not misled.
    let health = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let health = exchange(&mut hub.stage.connect(None), health);
    assert_eq!(health.status, 200);
    hub.now("");
    assert_eq!(hub.stage.heartbeat(&agent).status, 200);
}

#[test]
fn a_fault_may_be_for_one_workspace() {
    let mut hub = Faulty::new();
    let agent = hub.stage.agent();
    let mut all = omsagent::hub::Workspaces::open(&hub.stage.folder).unwrap();
    let (other, key) = all.add(omsagent::hub::NewWorkspace::default()).unwrap();
    hub.now(&format!(
        "[[fault]]\non = 'upload'\nworkspace = '{other}'\nstatus = 500\n"
    ));
    assert_eq!(hub.upload(&agent).status, 200);
    (hub.stage.ws, hub.stage.key) = (other, key);
    let agent = hub.stage.agent();
    assert_eq!(hub.upload(&agent).status, 500);
}

#[test]
fn connections_are_dropped_before_and_after_the_work() {
    let hub = Faulty::new();
    let agent = hub.stage.agent();
    hub.now("[[fault]]\non = 'upload'\ntimes = 1\nclose = 'before'\n");
    assert!(hub.dropped(&agent));
    assert_eq!(hub.stage.items(), r#"{"n":0}"#);
    hub.now("[[fault]]\non = 'upload'\ntimes = 1\nclose = 'after'\n");
    assert!(hub.dropped(&agent));
    assert_eq!(hub.stage.items(), r#"{"n":1}"#);
    assert_eq!(hub.upload(&agent).status, 200);
    assert_eq!(hub.stage.items(), r#"{"n":2}"#);
    // A renewal whose answer is lost has happened.
    hub.now("[[fault]]\non = 'renew'\nclose = 'after'\n");
    let new = hub.stage.certified(&agent.guid, 0, 365);
    let body = omsagent::wire::topology::CertificateUpdateRequest {
        certificate_base64: new.topology().certificate_base64,
    };
    let request = post(
        &hub.stage.host("oms"),
        RENEW,
        &[],
        body.compose().as_bytes(),
    );
    let mut connection = hub.stage.connect(Some(&agent));
    connection.write_all(&request).unwrap();
    connection.flush().unwrap();
    assert!(!matches!(connection.read(&mut [0u8; 1]), Ok(1)));
    assert_eq!(hub.stage.heartbeat(&new).status, 200);
    assert_eq!(hub.stage.heartbeat(&agent).status, 403);
}

#[test]
fn answers_are_late() {
    let hub = Faulty::new();
    let agent = hub.stage.agent();
    hub.now("[[fault]]\non = 'heartbeat'\ndelay_ms = 700\n");
    let begun = Instant::now();
    assert_eq!(hub.stage.heartbeat(&agent).status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(700));
    let begun = Instant::now();
    assert_eq!(hub.upload(&agent).status, 200);
    assert!(begun.elapsed() < Duration::from_millis(700));
    // A hub that stops does not wait.
    hub.now("[[fault]]\non = 'heartbeat'\ndelay_ms = 600000\n");
    let body = agent.topology().to_xml();
    let request = post(&hub.stage.host("oms"), TOPOLOGY, &[], body.as_bytes());
    let mut connection = hub.stage.connect(Some(&agent));
    connection.write_all(&request).unwrap();
    connection.flush().unwrap();
    let (begun, mut stage) = (Instant::now(), hub.stage);
    std::thread::sleep(Duration::from_millis(300));
    stage.stop();
    stage.join();
    assert!(begun.elapsed() < Duration::from_secs(8));
}

/// How far the `Date` of an answer is ahead, minutes.
fn ahead(answer: &Answer) -> f64 {
    let date = answer.head.lines().find_map(|l| l.strip_prefix("Date: "));
    let date = jiff::fmt::rfc2822::parse(date.unwrap()).unwrap();
    (date.timestamp().as_second() - jiff::Timestamp::now().as_second()) as f64 / 60.0
}

#[test]
fn the_hubs_clock_is_wrong() {
    let hub = Faulty::new();
    let agent = Agent::new();
    for minutes in [20, -20] {
        let seconds = minutes * 60;
        hub.now(&format!(
            "[[fault]]\non = 'any'\nclock_offset = {seconds}\n"
        ));
        let answer = hub.stage.onboard(&agent);
        assert_eq!(answer.verdict(), (403, "ClockSkew".to_owned()));
        assert!((ahead(&answer) - f64::from(minutes)).abs() < 0.2);
    }
    hub.now("[[fault]]\non = 'any'\nclock_offset = 840\n");
    let answer = hub.stage.onboard(&agent);
    assert_eq!(answer.status, 200);
    assert!((ahead(&answer) - 14.0).abs() < 0.2);
    assert!((ahead(&hub.stage.heartbeat(&agent)) - 14.0).abs() < 0.2);
    hub.now("[[fault]]\non = 'any'\nclock_offset = 1200\nstatus = 503\n");
    let answer = hub.upload(&agent);
    assert_eq!(answer.status, 503);
    assert!((ahead(&answer) - 20.0).abs() < 0.2);
    hub.now("");
    assert!(ahead(&hub.stage.heartbeat(&agent)).abs() < 0.2);
}

#[test]
fn topology_answers_say_something_else() {
    let hub = Faulty::new();
    let agent = hub.stage.agent();
    hub.now(
        "[[fault]]\non = 'heartbeat'\ntimes = 1\nupdate_certificate = true\nquery_interval = 60\n\
         telemetry_interval = 61\n\
         [[fault]]\non = 'onboard'\nquery_interval = 30\n",
    );
    let response = |answer: Answer| TopologyResponse::parse(&answer.body).unwrap();
    let seconds = |n| Some(Duration::from_secs(n));
    let first = response(hub.stage.heartbeat(&agent));
    assert!(first.update_certificate);
    let intervals = (first.query_interval, first.telemetry_interval);
    assert_eq!(intervals, (seconds(60), seconds(61)));
    let second = response(hub.stage.heartbeat(&agent));
    assert!(!second.update_certificate);
    let intervals = (second.query_interval, second.telemetry_interval);
    assert_eq!(intervals, (seconds(1200), seconds(300)));
    let onboarded = response(hub.stage.onboard(&agent));
    let intervals = (onboarded.query_interval, onboarded.telemetry_interval);
    assert_eq!(intervals, (seconds(30), seconds(300)));
}
