//! New certificates for known agents (protocol.md 2.2): when to ask for one, and taking it in.

use super::access::{Refusal, xml};
use super::certificates::ClientCertificate;
use super::clock::Clock;
use super::http::Response;
use super::roster::{Agent, Offered};
use super::routes::{Peer, Place, Service};
use crate::wire::certificate::Facts;
use crate::wire::topology::CertificateUpdateRequest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::time::Duration;

/// What agents of today and of an older generation say of their unit (protocol.md 1.6).
const UNITS: [&str; 2] = ["Linux Monitoring Agent", "Microsoft Monitoring Agent"];

/// Whether the answer to a topology heartbeat shall ask for a new certificate: when the owner wants
/// one, and when the one in use ends soon. Never in answer to the first request made with a new
/// one, or a client that obeys would go round in a circle.
pub(super) fn is_due(agent: &Agent, peer: &Peer, clock: Clock, before: Duration) -> bool {
    let ends = peer.certificate.as_ref().and_then(|c| c.ends);
    let left = ends.map(|ends| ends.duration_since(clock.now()));
    let soon = left.is_some_and(|left| left.as_secs() < before.as_secs().cast_signed());
    !agent.renewed && (agent.renewal_asked || soon)
}

/// Answers `RenewCertificate`.
pub(super) fn answer(
    service: &Service,
    place: &Place,
    agent: &Agent,
    peer: &Peer,
    clock: Clock,
    body: &[u8],
) -> Response {
    match take(service, agent, clock, body) {
        Ok((certificate, offered)) => {
            log::info!(
                "new certificate workspace={} agent={} certificate={} {} peer={}",
                agent.workspace,
                agent.guid,
                certificate.thumbprint,
                match offered {
                    Offered::Known => "(in use already)",
                    _ => "(pending)",
                },
                peer.address
            );
            xml(200, String::new())
        }
        Err(refusal) => refusal.answer(place, peer),
    }
}

fn take(
    service: &Service,
    agent: &Agent,
    clock: Clock,
    body: &[u8],
) -> Result<(ClientCertificate, Offered), Refusal> {
    let request =
        CertificateUpdateRequest::parse(body).map_err(|e| Refusal::invalid(e.to_string()))?;
    let der = STANDARD
        .decode(&request.certificate_base64)
        .map_err(|_| Refusal::forbidden("InvalidCertificate", "it is not base64"))?;
    check(&der, agent, clock, service.max_skew)?;
    let certificate = ClientCertificate::new(der);
    match service.store.offer(agent, &certificate) {
        Ok(Offered::Others) => {
            let detail = "it is another agent's";
            Err(Refusal::forbidden("CertificateMismatch", detail))
        }
        Ok(offered) => Ok((certificate, offered)),
        Err(error) => Err(Refusal::internal(error)),
    }
}

/// Whether a certificate is one for this agent, and of now. The agent's clock may differ from
/// ours by `skew`.
fn check(der: &[u8], agent: &Agent, clock: Clock, skew: Duration) -> Result<(), Refusal> {
    let readable = ClientCertificate::is_certificate(der);
    let facts = Facts::read(der).ok().filter(|_| readable);
    let facts =
        facts.ok_or_else(|| Refusal::forbidden("InvalidCertificate", "it is not a certificate"))?;
    let names: Vec<&str> = facts.subject.common_names().collect();
    let expected = [agent.workspace.as_str(), agent.guid.as_str()];
    let named = names.len() == expected.len()
        && names
            .iter()
            .zip(expected)
            .all(|(name, expected)| name.eq_ignore_ascii_case(expected));
    if !named || !facts.subject.values("OU").any(|ou| UNITS.contains(&ou)) {
        let [ws, guid] = expected;
        let detail = format!(
            "its subject is `{}`, not CN={ws}, CN={guid}, OU={}, ...",
            facts.subject, UNITS[0]
        );
        return Err(Refusal::forbidden("CertificateSubjectMismatch", detail));
    }
    let now = clock.now();
    if facts.not_after <= now {
        let detail = format!("it ended at {}", facts.not_after);
        return Err(Refusal::forbidden("CertificateExpired", detail));
    }
    if facts.not_before.duration_since(now).as_secs() > skew.as_secs().cast_signed() {
        let detail = format!("it begins at {}", facts.not_before);
        return Err(Refusal::forbidden("CertificateNotYetValid", detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::roster::tests::der;
    use super::*;

    const WS: &str = "01234567-89ab-cdef-0123-456789abcdef";
    const GUID: &str = "0b6c1f3e-1111-4222-8333-444455556666";
    const DAY: u64 = 86_400;

    fn agent(renewed: bool, renewal_asked: bool) -> Agent {
        Agent {
            workspace: WS.parse().unwrap(),
            guid: GUID.parse().unwrap(),
            computer: "one".into(),
            renewed,
            renewal_asked,
        }
    }

    #[test]
    fn only_certificates_for_the_agent_and_of_now_are_taken() {
        let verdict = |names: &[&str], ou: &str, from: i64, days: u64| {
            let der = der(names, ou, from, days);
            let agent = agent(false, false);
            let checked = check(&der, &agent, Clock::default(), Duration::from_secs(900));
            checked.map_err(|r| r.reason).err().unwrap_or("good")
        };
        let unit = UNITS[0];
        let upper = WS.to_uppercase();
        assert_eq!(verdict(&[WS, GUID], unit, 0, 365), "good");
        assert_eq!(verdict(&[&upper, GUID], UNITS[1], 800, 1), "good");
        for (names, ou) in [
            (&[GUID, WS][..], unit),
            (&[WS], unit),
            (&[], unit),
            (&[WS, WS], unit),
            (&[WS, GUID], "Another Agent"),
        ] {
            assert_eq!(verdict(names, ou, 0, 365), "CertificateSubjectMismatch");
        }
        assert_eq!(verdict(&[WS, GUID], unit, -86_402, 1), "CertificateExpired");
        assert_eq!(verdict(&[WS, GUID], unit, -86_390, 1), "good");
        assert_eq!(verdict(&[WS, GUID], unit, 990, 1), "CertificateNotYetValid");
        let garbage = check(b"0", &agent(false, false), Clock::default(), Duration::ZERO);
        assert_eq!(garbage.unwrap_err().reason, "InvalidCertificate");
    }

    #[test]
    fn a_new_one_is_asked_for_in_time_and_when_the_owner_wants() {
        let due = |days: u64, clock: Clock, agent: &Agent, before: u64| {
            let certificate = ClientCertificate::new(der(&[WS, GUID], UNITS[0], 0, days));
            let peer = Peer {
                address: "127.0.0.1:1".parse().unwrap(),
                certificate: Some(certificate),
            };
            is_due(agent, &peer, clock, Duration::from_secs(before * DAY))
        };
        let (usual, today) = (agent(false, false), Clock::default());
        assert!(due(30, today, &usual, 30), "a moment less than 30 days");
        assert!(!due(31, today, &usual, 30));
        assert!(due(31, Clock::ahead(86_400), &usual, 30));
        assert!(!due(1, today, &usual, 0));
        assert!(due(1, Clock::ahead(90_000), &usual, 0), "ended");
        assert!(due(365, today, &agent(false, true), 30));
        assert!(!due(1, today, &agent(true, true), 30), "just renewed");
    }
}
