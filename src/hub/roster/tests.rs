use super::super::{Folder, NewWorkspace, Workspaces};
use super::*;
use std::time::Duration;

const GUID: &str = "0B6C1F3E-1111-4222-8333-444455556666";

pub(in crate::hub) fn store() -> (tempfile::TempDir, Store, WorkspaceId) {
    let temp = tempfile::tempdir().unwrap();
    let folder = Folder::make(&temp.path().join("hub")).unwrap();
    let mut all = Workspaces::open(&folder).unwrap();
    let (ws, _) = all.add(NewWorkspace::default()).unwrap();
    (temp, Store::open(&folder).unwrap(), ws)
}

pub(in crate::hub) fn request(fqdn: &str) -> TopologyRequest {
    TopologyRequest {
        fqdn: fqdn.into(),
        entity_id: GUID.parse().unwrap(),
        certificate_base64: String::new(),
        os: None,
    }
}

/// A new certificate as the agent `GUID` makes them, valid from an hour ago for so many days.
pub(in crate::hub) fn certificate(ws: &WorkspaceId, days: u64) -> ClientCertificate {
    ClientCertificate::new(der(
        &[ws.as_str(), GUID],
        "Linux Monitoring Agent",
        -3600,
        days,
    ))
}

/// A certificate with these common names, valid from so many seconds from now for so many days.
pub(in crate::hub) fn der(names: &[&str], ou: &str, from: i64, days: u64) -> Vec<u8> {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let kinds = [
        rcgen::DnType::CommonName,
        rcgen::DnType::CustomDnType(vec![2, 5, 4, 3]),
    ];
    for (kind, name) in kinds.into_iter().zip(names) {
        params.distinguished_name.push(kind, *name);
    }
    let unit = rcgen::DnType::OrganizationalUnitName;
    params.distinguished_name.push(unit, ou);
    let start = jiff::Timestamp::now().as_second() + from;
    let start = Duration::from_secs(u64::try_from(start).unwrap());
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + start;
    params.not_after = params.not_before + Duration::from_secs(days * 86_400);
    params.self_signed(&key).unwrap().der().to_vec()
}

/// A store with the agent `GUID`, and its certificate.
fn onboarded() -> (tempfile::TempDir, Store, WorkspaceId, ClientCertificate) {
    let (temp, store, ws) = store();
    let first = certificate(&ws, 300);
    let registered = store.register(&ws, &request("one"), &first, Some("2.0.0-1"));
    registered.unwrap().unwrap();
    (temp, store, ws, first)
}

fn number(store: &Store, sql: &str) -> i64 {
    store.reader().query_row(sql, (), |row| row.get(0)).unwrap()
}

#[test]
fn onboarding_again_replaces_the_certificate() {
    let (_temp, store, ws, first) = onboarded();
    assert_eq!(store.agent(&ws, &first).unwrap().unwrap().computer, "one");
    let second = certificate(&ws, 300);
    let registered = store.register(&ws, &request("two"), &second, None);
    registered.unwrap().unwrap();
    let unknown = Err(Denied::UnknownCertificate);
    assert_eq!(store.agent(&ws, &first).unwrap(), unknown);
    let agent = store.agent(&ws, &second).unwrap().unwrap();
    assert_eq!(
        (&*agent.computer, agent.renewed, agent.renewal_asked),
        ("two", false, false)
    );
    let registered = store.register(&ws, &request("two"), &second, None);
    registered.unwrap().unwrap();
    assert_eq!(number(&store, "SELECT count(*) FROM certificates"), 1);
    let kept = "SELECT count(*) FROM agents WHERE version = '2.0.0-1'";
    assert_eq!(number(&store, kept), 1, "a request without a version");
}

#[test]
fn a_workspace_that_is_not_there_has_no_agents() {
    let (_temp, store, ws, first) = onboarded();
    let other: WorkspaceId = "01234567-89ab-cdef-0123-456789abcdef".parse().unwrap();
    let unknown = Err(Denied::UnknownWorkspace);
    assert_eq!(store.agent(&other, &first).unwrap(), unknown);
    let request = request("one");
    assert!(store.register(&other, &request, &first, None).is_err());
    assert!(store.agent(&ws, &first).unwrap().is_ok());
}

#[test]
fn a_renewed_certificate_counts_from_its_first_use() {
    let (_temp, store, ws, old) = onboarded();
    let agent = store.agent(&ws, &old).unwrap().unwrap();
    let (lost, new) = (certificate(&ws, 365), certificate(&ws, 365));
    assert_eq!(store.offer(&agent, &lost).unwrap(), Offered::Pending);
    assert_eq!(store.offer(&agent, &lost).unwrap(), Offered::Pending);
    assert_eq!(store.offer(&agent, &new).unwrap(), Offered::Pending);
    assert_eq!(number(&store, "SELECT count(*) FROM certificates"), 2);
    let unknown = Err(Denied::UnknownCertificate);
    assert_eq!(store.agent(&ws, &lost).unwrap(), unknown, "replaced");
    assert!(
        !store.agent(&ws, &old).unwrap().unwrap().renewed,
        "still good"
    );
    let ask = "UPDATE agents SET renewal_asked_at = 'now'";
    store.writer().execute(ask, ()).unwrap();
    assert!(store.agent(&ws, &old).unwrap().unwrap().renewal_asked);
    let first = store.agent(&ws, &new).unwrap().unwrap();
    assert_eq!((first.renewed, first.renewal_asked), (true, false));
    let next = store.agent(&ws, &new).unwrap().unwrap();
    assert_eq!((next.renewed, next.renewal_asked), (false, false));
    assert_eq!(store.agent(&ws, &old).unwrap(), unknown, "dropped");
    assert_eq!(number(&store, "SELECT sum(pending) FROM certificates"), 0);
    assert_eq!(store.offer(&next, &new).unwrap(), Offered::Known);
    assert_eq!(number(&store, "SELECT count(*) FROM certificates"), 1);
}

#[test]
fn many_first_requests_at_once_are_one_first_request() {
    let (_temp, store, ws, old) = onboarded();
    let agent = store.agent(&ws, &old).unwrap().unwrap();
    let new = certificate(&ws, 365);
    store.offer(&agent, &new).unwrap();
    let together = std::sync::Barrier::new(8);
    let renewed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    together.wait();
                    usize::from(store.agent(&ws, &new).unwrap().unwrap().renewed)
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(renewed, 1);
}

#[test]
fn a_certificate_of_another_agent_is_not_taken_over() {
    let (_temp, store, ws, first) = onboarded();
    let mut other = request("two");
    other.entity_id = AgentGuid::random();
    let second = certificate(&ws, 300);
    let registered = store.register(&ws, &other, &second, None);
    registered.unwrap().unwrap();
    let agent = store.agent(&ws, &first).unwrap().unwrap();
    assert_eq!(store.offer(&agent, &second).unwrap(), Offered::Others);
    assert_eq!(store.agent(&ws, &second).unwrap().unwrap().computer, "two");
}

#[test]
fn the_end_of_a_certificate_is_noted_when_it_was_not() {
    let (_temp, store, ws, first) = onboarded();
    let noted = "SELECT count(*) FROM certificates WHERE not_after LIKE '20%Z'";
    assert_eq!(number(&store, noted), 1);
    let forget = "UPDATE certificates SET not_after = NULL"; // as of schema version 1
    store.writer().execute(forget, ()).unwrap();
    store.agent(&ws, &first).unwrap().unwrap();
    assert_eq!(number(&store, noted), 1);
}

#[test]
fn who_is_disabled_stays_out_and_nothing_becomes_of_the_pending_one() {
    let (_temp, store, ws, old) = onboarded();
    let agent = store.agent(&ws, &old).unwrap().unwrap();
    let new = certificate(&ws, 365);
    store.offer(&agent, &new).unwrap();
    for (table, denied) in [
        ("agents", Denied::AgentDisabled),
        ("workspaces", Denied::WorkspaceDisabled),
    ] {
        let set = |value: &str| {
            let sql = format!("UPDATE {table} SET disabled_at = {value}");
            store.writer().execute(&sql, ()).unwrap();
        };
        set("'now'");
        assert_eq!(store.agent(&ws, &old).unwrap(), Err(denied));
        assert_eq!(store.agent(&ws, &new).unwrap(), Err(denied));
        let registered = store.register(&ws, &request("one"), &old, None);
        assert_eq!(registered.unwrap(), Err(denied));
        set("NULL");
        assert_eq!(number(&store, "SELECT sum(pending) FROM certificates"), 1);
    }
    assert!(store.agent(&ws, &new).unwrap().unwrap().renewed);
}

#[test]
fn a_removed_agent_does_not_come_back_by_a_heartbeat() {
    let (_temp, store, ws, _) = onboarded();
    for table in ["certificates", "agents"] {
        let sql = format!("DELETE FROM {table}");
        store.writer().execute(&sql, ()).unwrap();
    }
    store.seen(&ws, &request("one"), None).unwrap();
    assert_eq!(number(&store, "SELECT count(*) FROM agents"), 0);
}
