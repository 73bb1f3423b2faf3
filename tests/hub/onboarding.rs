//! protocol.md 1.3-1.9 and 2.1, as the service sees them.

use crate::stage::*;
use omsagent::base::secret::Secret;
use omsagent::wire::signature;
use omsagent::wire::topology::{OperatingSystem, TopologyResponse};
use std::time::Duration;

/// The verdict on a request that is good but for its signing.
fn verdict(stage: &Stage, change: impl FnOnce(&mut Signing)) -> (u16, String) {
    let agent = Agent::new();
    let mut signing = Signing::of(stage);
    change(&mut signing);
    let request = stage.signed(&signing, agent.topology().to_xml().as_bytes());
    exchange(&mut stage.connect(Some(&agent)), &request).verdict()
}

fn forbidden(reason: &str) -> (u16, String) {
    (403, reason.to_owned())
}

fn heartbeat(stage: &Stage, agent: &Agent) -> (u16, String) {
    stage.heartbeat(agent).verdict()
}

#[test]
fn an_agent_onboards_and_sends_heartbeats() {
    let stage = Stage::new();
    let agent = Agent::new();
    assert_eq!(heartbeat(&stage, &agent), forbidden("UnknownCertificate"));
    let answer = stage.onboard(&agent);
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("\r\nDate: "), "{}", answer.head);
    let response = TopologyResponse::parse(&answer.body).unwrap();
    assert_eq!(response.query_interval, Some(Duration::from_secs(1200)));
    let (oms, guid) = (stage.host("oms"), &agent.guid);
    assert_eq!(
        response.certificate_update_endpoint.unwrap(),
        format!("https://{oms}/ConfigurationService.Svc/RenewCertificate")
    );
    assert_eq!(
        response.dsc_endpoint.unwrap(),
        format!(
            "https://{oms}/Accounts/{}/Nodes(AgentId='{guid}')",
            stage.ws
        )
    );
    assert!(!response.update_certificate);
    assert_eq!(heartbeat(&stage, &agent).0, 200);
    let known = stage.value("SELECT guid, computer FROM agents");
    assert_eq!(
        known,
        format!(r#"{{"guid":"{guid}","computer":"web01.example.org"}}"#)
    );
}

#[test]
fn heartbeats_bring_what_is_known_up_to_date() {
    let stage = Stage::new();
    let agent = stage.agent();
    let seen = || stage.value("SELECT last_seen_at FROM agents");
    let before = seen();
    std::thread::sleep(Duration::from_millis(5));
    let mut topology = agent.topology();
    topology.fqdn = "renamed".into();
    topology.os = Some(OperatingSystem {
        name: "Debian".into(),
        manufacturer: "D".into(),
        version: "12".into(),
        ..OperatingSystem::default()
    });
    let body = topology.to_xml();
    let request = post(&stage.host("oms"), TOPOLOGY, &[], body.as_bytes());
    assert_eq!(
        exchange(&mut stage.connect(Some(&agent)), &request).status,
        200
    );
    assert_ne!(seen(), before);
    assert_eq!(heartbeat(&stage, &agent).0, 200);
    let os = stage.value("SELECT os_name, os_version FROM agents");
    assert_eq!(os, r#"{"os_name":"Debian","os_version":"12"}"#);
}

#[test]
fn a_wrong_key_is_refused() {
    let stage = Stage::new();
    let wrong = verdict(&stage, |s| s.key = Secret::new("AAECAwQFBgcICQoLDA0ODw=="));
    assert_eq!(wrong, forbidden("InvalidWorkspaceKey"));
}

#[test]
fn one_changed_byte_is_refused() {
    let stage = Stage::new();
    let agent = Agent::new();
    let body = agent.topology().to_xml();
    let signing = Signing::of(&stage);
    let request = stage.signed(&signing, body.as_bytes());
    let at = request.windows(5).position(|w| w == b"web01").unwrap();
    let mut body_changed = request.clone();
    body_changed[at] = b'v';
    let verdict = exchange(&mut stage.connect(Some(&agent)), &body_changed).verdict();
    assert_eq!(verdict, forbidden("InvalidContentHash"));
    let text = String::from_utf8(request).unwrap();
    let last = signing.date.len() - "+00:00".len() - 1;
    let mut date = signing.date.clone();
    let digit = if date.as_bytes()[last] == b'0' {
        "1"
    } else {
        "0"
    };
    date.replace_range(last..=last, digit); // a nanosecond
    let date_changed = text.replace(&signing.date, &date);
    let verdict = exchange(&mut stage.connect(Some(&agent)), date_changed.as_bytes()).verdict();
    assert_eq!(verdict, forbidden("InvalidWorkspaceKey"));
    assert_eq!(
        stage.value("SELECT count(*) AS n FROM agents"),
        r#"{"n":0}"#
    );
}

#[test]
fn clocks_may_be_off_by_a_quarter_of_an_hour() {
    let stage = Stage::new();
    let at = |minutes: i64| {
        verdict(&stage, |s| {
            let then = jiff::Zoned::now() + jiff::SignedDuration::from_mins(minutes);
            s.date = signature::date(&then);
        })
    };
    assert_eq!(at(14).0, 200);
    assert_eq!(at(-14).0, 200);
    assert_eq!(at(16), forbidden("ClockSkew"));
    assert_eq!(at(-16), forbidden("ClockSkew"));
    let text = |text: &str| verdict(&stage, |s| s.date = text.to_owned());
    assert_eq!(text("yesterday"), forbidden("InvalidDate"));
    let strict = Stage::with(|o| o.max_skew = Duration::from_secs(30));
    let late = |s: &mut Signing| {
        let then = jiff::Zoned::now() - jiff::SignedDuration::from_mins(1);
        s.date = signature::date(&then);
    };
    assert_eq!(verdict(&strict, late), forbidden("ClockSkew"));
}

#[test]
fn a_workspace_must_be_known_and_the_hosts() {
    let mut stage = Stage::new();
    let other = "01234567-89ab-cdef-0123-456789abcdef";
    let mismatch = verdict(&stage, |s| s.ws = other.parse().unwrap());
    assert_eq!(mismatch, forbidden("WorkspaceMismatch"));
    stage.ws = other.parse().unwrap(); // host and header agree, the hub does not know it
    let unknown = verdict(&stage, |_| {});
    assert_eq!(unknown, forbidden("UnknownWorkspace"));
}

#[test]
fn upper_case_workspaces_are_the_same() {
    let mut stage = Stage::new();
    stage.ws = stage.ws.as_str().to_uppercase().parse().unwrap();
    let agent = Agent::named(Agent::new().guid.as_str().to_uppercase().parse().unwrap());
    assert_eq!(stage.onboard(&agent).status, 200);
    assert_eq!(heartbeat(&stage, &agent).0, 200);
}

#[test]
fn headers_that_are_signed_must_be_there() {
    let stage = Stage::new();
    for name in ["x-ms-Date", "x-ms-SHA256_Content", "x-ms-version"] {
        let verdict = verdict(&stage, |s| s.without = Some(name));
        assert_eq!(verdict, forbidden("MissingHeader"), "{name}");
    }
    // Without Authorization it is a heartbeat, of an agent nobody knows.
    let bare = verdict(&stage, |s| s.without = Some("Authorization"));
    assert_eq!(bare, forbidden("UnknownCertificate"));
    let body = Agent::new().topology().to_xml();
    let request = post(&stage.host("oms"), TOPOLOGY, &[], body.as_bytes());
    let anonymous = exchange(&mut stage.connect(None), &request).verdict();
    assert_eq!(anonymous, forbidden("MissingHeader"));
}

#[test]
fn bodies_are_checked_after_the_signature() {
    let stage = Stage::new();
    let agent = Agent::new();
    let verdict = |body: &str| {
        let request = stage.signed(&Signing::of(&stage), body.as_bytes());
        exchange(&mut stage.connect(Some(&agent)), &request).verdict()
    };
    let mut topology = agent.topology();
    topology.os = Some(OperatingSystem {
        name: "Debian".into(),
        manufacturer: "D".into(),
        ..OperatingSystem::default()
    });
    let incomplete = verdict(&topology.to_xml());
    assert_eq!(incomplete, forbidden("IncompleteOperatingSystem"));
    assert_eq!(verdict("<a/>"), (400, "InvalidRequest".to_owned()));
    assert_eq!(verdict(""), (400, "InvalidRequest".to_owned()));
    topology = agent.topology();
    topology.certificate_base64 = "aGVsbG8=".into();
    assert_eq!(verdict(&topology.to_xml()), forbidden("InvalidCertificate"));
    topology.certificate_base64 = Agent::new().topology().certificate_base64;
    assert_eq!(
        verdict(&topology.to_xml()),
        forbidden("CertificateMismatch")
    );
}

#[test]
fn onboarding_again_makes_the_old_certificate_worthless() {
    let stage = Stage::new();
    let old = stage.agent();
    let new = Agent::named(old.guid.clone());
    assert_eq!(stage.onboard(&new).status, 200);
    assert_eq!(heartbeat(&stage, &new).0, 200);
    assert_eq!(heartbeat(&stage, &old), forbidden("UnknownCertificate"));
    let upload = stage.upload(&old, &[], envelope(1).as_bytes());
    assert_eq!(upload.status, 403);
}

#[test]
fn an_agent_cannot_speak_for_another() {
    let stage = Stage::new();
    let mut one = stage.agent();
    one.guid = stage.agent().guid;
    assert_eq!(heartbeat(&stage, &one), forbidden("CertificateMismatch"));
}

#[test]
fn a_workspace_added_while_serving_is_known_at_once() {
    let mut stage = Stage::new();
    let mut all = omsagent::hub::Workspaces::open(&stage.folder).unwrap();
    let (ws, key) = all.add(omsagent::hub::NewWorkspace::default()).unwrap();
    let (first, _) = (stage.ws.clone(), stage.agent());
    stage.ws = ws;
    stage.key = key;
    let agent = stage.agent();
    assert_eq!(heartbeat(&stage, &agent).0, 200);
    stage.ws = first; // the certificate is good in its own workspace only
    assert_eq!(heartbeat(&stage, &agent), forbidden("UnknownCertificate"));
}

#[test]
fn either_key_of_a_workspace_lets_agents_in() {
    use omsagent::hub::{Which, Workspaces};
    let mut stage = Stage::new();
    let mut all = Workspaces::open(&stage.folder).unwrap();
    let (ws, first) = (stage.ws.clone(), stage.key.clone());
    let second = all.rotate_key(&ws, Which::Secondary, None).unwrap();
    let old = stage.agent();
    stage.key = second.clone();
    stage.agent();
    let third = all.rotate_key(&ws, Which::Primary, None).unwrap();
    stage.agent();
    stage.key = third;
    stage.agent();
    stage.key = first;
    let refused = stage.onboard(&Agent::new()).verdict();
    assert_eq!(refused, forbidden("InvalidWorkspaceKey"));
    assert_eq!(heartbeat(&stage, &old).0, 200, "known by its certificate");
}

#[test]
fn who_is_disabled_is_told_so() {
    use omsagent::hub::{Agents, Workspaces};
    let stage = Stage::new();
    let (agent, other) = (stage.agent(), stage.agent());
    let verdicts = || {
        [
            stage.onboard(&agent).verdict(),
            heartbeat(&stage, &agent),
            stage.renew(&agent, &stage.certified(&agent.guid, 0, 365)),
        ]
    };
    let mut agents = Agents::open(&stage.folder).unwrap();
    agents.disable(&stage.ws, &agent.guid, true).unwrap();
    assert_eq!(verdicts(), [(); 3].map(|()| forbidden("AgentDisabled")));
    let upload = stage.upload(&agent, &[], envelope(1).as_bytes());
    assert_eq!(upload.status, 403);
    assert!(upload.text().contains("AgentDisabled"), "{}", upload.text());
    assert_eq!(heartbeat(&stage, &other).0, 200);
    agents.disable(&stage.ws, &agent.guid, false).unwrap();
    assert_eq!(heartbeat(&stage, &agent).0, 200);
    let mut all = Workspaces::open(&stage.folder).unwrap();
    all.disable(&stage.ws, true).unwrap();
    assert_eq!(verdicts(), [(); 3].map(|()| forbidden("WorkspaceDisabled")));
    // Who does not have the key learns nothing of it.
    let wrong = verdict(&stage, |s| s.key = Secret::new("AAECAwQFBgcICQoLDA0ODw=="));
    assert_eq!(wrong, forbidden("InvalidWorkspaceKey"));
    all.disable(&stage.ws, false).unwrap();
    assert_eq!(stage.onboard(&agent).status, 200);
    agents.remove(&stage.ws, &agent.guid).unwrap();
    assert_eq!(heartbeat(&stage, &agent), forbidden("UnknownCertificate"));
    assert_eq!(stage.onboard(&agent).status, 200);
    all.remove(&stage.ws, false).unwrap();
    assert_eq!(heartbeat(&stage, &agent), forbidden("UnknownWorkspace"));
    assert_eq!(
        stage.onboard(&agent).verdict(),
        forbidden("UnknownWorkspace")
    );
}

#[test]
fn the_version_of_an_agent_is_noted() {
    let stage = Stage::new();
    let agent = stage.agent();
    let version = || stage.value("SELECT version FROM agents");
    assert_eq!(version(), r#"{"version":null}"#);
    let body = agent.topology().to_xml();
    let headers = [("User-Agent", "LinuxMonitoringAgent/2.0.0-1")];
    let request = post(&stage.host("oms"), TOPOLOGY, &headers, body.as_bytes());
    let answer = exchange(&mut stage.connect(Some(&agent)), &request);
    assert_eq!(answer.status, 200);
    assert_eq!(version(), r#"{"version":"2.0.0-1"}"#);
    let headers = [("x-ms-client-version", "2.0.1-1")];
    stage.upload(&agent, &headers, envelope(1).as_bytes());
    assert_eq!(version(), r#"{"version":"2.0.1-1"}"#);
}
