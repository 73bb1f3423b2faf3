//! protocol.md 2.2, as the service sees it.

use crate::stage::*;
use omsagent::base::ids::AgentGuid;
use omsagent::hub::Agents;
use std::time::Duration;

fn certificates(stage: &Stage) -> String {
    stage.value("SELECT count(*) AS n, sum(pending) AS pending FROM certificates")
}

/// An agent that has onboarded with a certificate valid for so many days.
fn onboarded(stage: &Stage, days: u64) -> Agent {
    let agent = stage.certified(&AgentGuid::random(), -60, days);
    assert_eq!(stage.onboard(&agent).status, 200);
    agent
}

#[test]
fn a_certificate_that_ends_soon_is_renewed() {
    let stage = Stage::new();
    let old = onboarded(&stage, 20);
    assert!(stage.asks(&old));
    let new = stage.certified(&old.guid, 0, 365);
    assert_eq!(stage.heartbeat(&new).status, 403, "not sent yet");
    assert_eq!(stage.renew(&old, &new), (200, String::new()));
    assert_eq!(certificates(&stage), r#"{"n":2,"pending":1}"#);
    // Until the new one is used both are good, and the agent is asked again.
    assert!(stage.asks(&old));
    assert_eq!(stage.upload(&old, &[], envelope(1).as_bytes()).status, 200);
    assert!(!stage.asks(&new));
    assert_eq!(certificates(&stage), r#"{"n":1,"pending":0}"#);
    let gone = (403, "UnknownCertificate".to_owned());
    assert_eq!(stage.heartbeat(&old).verdict(), gone);
    assert_eq!(stage.renew(&old, &new), gone);
    assert!(!stage.asks(&new));
    // The answer to the request may have been lost: sending it again does no harm.
    assert_eq!(stage.renew(&new, &new).0, 200);
    assert_eq!(certificates(&stage), r#"{"n":1,"pending":0}"#);
}

#[test]
fn the_first_request_of_any_kind_confirms() {
    let stage = Stage::new();
    for what in ["upload", "telemetry", "renew", "nonsense"] {
        let old = onboarded(&stage, 365);
        let new = stage.certified(&old.guid, 0, 365);
        assert_eq!(stage.renew(&old, &new).0, 200);
        let status = match what {
            "upload" => stage.upload(&new, &[], envelope(1).as_bytes()).status,
            "telemetry" | "nonsense" => {
                let request = post(&stage.host("oms"), TELEMETRY, &[], b"nonsense");
                exchange(&mut stage.connect(Some(&new)), &request).status
            }
            _ => stage.renew(&new, &stage.certified(&old.guid, 0, 365)).0,
        };
        assert!([200, 400].contains(&status), "{what} {status}");
        assert_eq!(stage.heartbeat(&old).status, 403, "{what}");
        assert!(!stage.asks(&new), "{what}");
    }
}

#[test]
fn a_second_renewal_replaces_the_pending_one() {
    let stage = Stage::new();
    let old = onboarded(&stage, 20);
    let lost = stage.certified(&old.guid, 0, 365);
    let new = stage.certified(&old.guid, 0, 365);
    assert_eq!(stage.renew(&old, &lost).0, 200);
    assert_eq!(stage.renew(&old, &new).0, 200);
    assert_eq!(certificates(&stage), r#"{"n":2,"pending":1}"#);
    assert_eq!(stage.heartbeat(&lost).status, 403);
    assert_eq!(stage.heartbeat(&old).status, 200);
    assert!(!stage.asks(&new));
}

#[test]
fn onboarding_again_takes_back_what_is_pending() {
    let stage = Stage::new();
    let old = onboarded(&stage, 20);
    let new = stage.certified(&old.guid, 0, 365);
    assert_eq!(stage.renew(&old, &new).0, 200);
    assert_eq!(stage.onboard(&old).status, 200);
    assert_eq!(certificates(&stage), r#"{"n":1,"pending":0}"#);
    assert_eq!(stage.heartbeat(&new).status, 403);
    assert_eq!(stage.heartbeat(&old).status, 200);
}

#[test]
fn the_owner_may_ask() {
    let stage = Stage::new();
    let (one, two) = (onboarded(&stage, 365), onboarded(&stage, 365));
    assert!(!stage.asks(&one) && !stage.asks(&two));
    let mut agents = Agents::open(&stage.folder).unwrap();
    agents.renew(&stage.ws, Some(&one.guid)).unwrap();
    assert!(stage.asks(&one) && !stage.asks(&two));
    assert!(stage.asks(&one), "until it is done");
    let new = stage.certified(&one.guid, 0, 365);
    assert_eq!(stage.renew(&one, &new).0, 200);
    assert!(!stage.asks(&new));
    assert!(!stage.asks(&new));
    assert_eq!(agents.renew(&stage.ws, None).unwrap(), 2);
    assert!(stage.asks(&new) && stage.asks(&two));
}

#[test]
fn how_early_is_an_option() {
    let day = Duration::from_secs(86_400);
    let stage = Stage::with(|o| o.renew_before = 100 * day);
    assert!(stage.asks(&onboarded(&stage, 99)));
    assert!(!stage.asks(&onboarded(&stage, 101)));
    let never = Stage::with(|o| o.renew_before = Duration::ZERO);
    assert!(!never.asks(&onboarded(&never, 1)));
    // One that has ended still tells who it is; it is time for another.
    let ended = never.certified(&AgentGuid::random(), -90_000, 1);
    assert_eq!(never.onboard(&ended).status, 200);
    assert!(never.asks(&ended));
    let new = never.certified(&ended.guid, 0, 1);
    assert_eq!(never.renew(&ended, &new).0, 200);
    assert!(!never.asks(&new));
}

#[test]
fn only_an_agents_own_certificate_of_now_is_taken() {
    let stage = Stage::new();
    let (agent, other) = (onboarded(&stage, 20), onboarded(&stage, 20));
    let guid = &agent.guid;
    let refused = |new: &Agent| {
        let (status, reason) = stage.renew(&agent, new);
        assert_eq!(status, 403, "{reason}");
        reason
    };
    assert_eq!(refused(&other), "CertificateSubjectMismatch");
    assert_eq!(
        refused(&Agent::named(guid.clone())),
        "CertificateSubjectMismatch"
    );
    let elsewhere = "01234567-89ab-cdef-0123-456789abcdef";
    let foreign = Agent::certified(elsewhere, guid, 0, 365);
    assert_eq!(refused(&foreign), "CertificateSubjectMismatch");
    let ended = stage.certified(guid, -86_500, 1);
    assert_eq!(refused(&ended), "CertificateExpired");
    let early = stage.certified(guid, 1200, 365);
    assert_eq!(refused(&early), "CertificateNotYetValid");
    let mut broken = stage.certified(guid, 0, 365);
    broken.certificate.truncate(100);
    assert_eq!(refused(&broken), "InvalidCertificate");
    assert_eq!(certificates(&stage), r#"{"n":2,"pending":0}"#);
    // A clock that is a little ahead is no reason.
    assert_eq!(stage.renew(&agent, &stage.certified(guid, 600, 365)).0, 200);
}

#[test]
fn strangers_and_nonsense_are_refused() {
    let stage = Stage::new();
    let agent = onboarded(&stage, 20);
    let new = stage.certified(&agent.guid, 0, 365);
    let unknown = stage.renew(&new, &new);
    assert_eq!(unknown, (403, "UnknownCertificate".to_owned()));
    let request = post(&stage.host("oms"), RENEW, &[], b"<a/>");
    let anonymous = exchange(&mut stage.connect(None), &request).verdict();
    assert_eq!(anonymous, (403, "MissingCertificate".to_owned()));
    let send = |path: &str, body: &[u8]| {
        let request = post(&stage.host("oms"), path, &[], body);
        exchange(&mut stage.connect(Some(&agent)), &request).verdict()
    };
    for nonsense in [
        &b""[..],
        b"<a/>",
        b"\0\xff",
        b"{}",
        b"<CertificateUpdateRequest/>",
        b"<CertificateUpdateRequest><NewCertificate/></CertificateUpdateRequest>",
    ] {
        assert_eq!(send(RENEW, nonsense), (400, "InvalidRequest".to_owned()));
    }
    let text =
        b"<CertificateUpdateRequest><NewCertificate>!</NewCertificate></CertificateUpdateRequest>";
    let invalid = (403, "InvalidCertificate".to_owned());
    assert_eq!(send(RENEW, text), invalid);
    assert_eq!(send(&RENEW.to_lowercase(), text), invalid);
    assert_eq!(send(RENEW, &[b' '; 64 * 1024]).0, 400);
    assert_eq!(send(RENEW, &[b' '; 64 * 1024 + 1]).0, 413);
    let get = format!(
        "GET {RENEW} HTTP/1.1\r\nHost: {}\r\n\r\n",
        stage.host("oms")
    );
    let answer = exchange(&mut stage.connect(Some(&agent)), get.as_bytes());
    assert_eq!(answer.status, 405);
    assert_eq!(certificates(&stage), r#"{"n":1,"pending":0}"#);
}
