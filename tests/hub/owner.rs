//! What the owner of a hub does while it serves: keys, agents, workspaces, faults.

use crate::curl::*;
use crate::stage::{RENEW, TELEMETRY, TOPOLOGY, envelope};
use std::process::Stdio;

/// A serving hub with one workspace.
fn begin(place: &Place, more: &[&str]) -> (Serving, String, String) {
    let serving = Serving::start(place, more);
    let (ws, key) = place.add_workspace();
    (serving, ws, key)
}

/// Runs `hub WORDS... --data DIR MORE...`.
fn own(place: &Place, words: &[&str], more: &[&str]) -> String {
    let data = place.data();
    done(hub(words).args(["--data", &data]).args(more))
}

/// As [`own`], failing; what it says.
fn refused(place: &Place, words: &[&str], more: &[&str]) -> String {
    let data = place.data();
    text(&failed(hub(words).args(["--data", &data]).args(more)).stderr)
}

fn agents(place: &Place) -> serde_json::Value {
    serde_json::from_str(&own(place, &["agents"], &["--json"])).unwrap()
}

#[test]
fn openssl_and_curl_renew_a_certificate() {
    let place = Place::new();
    let (serving, ws, key) = begin(&place, &["--renew-before", "300"]);
    let agent = CurlAgent::new(&place, &serving, &ws);
    assert_eq!(agent.onboard(&key).0, 200);
    let heartbeat = place.path("topology.xml");
    let asked = |yes: &str| {
        let (status, body) = agent.post("oms", TOPOLOGY, &[], &heartbeat);
        assert_eq!(status, 200, "{body}");
        let said = format!(r#"<CertificateUpdateEndpoint updateCertificate="{yes}">https://{ws}."#);
        assert!(body.contains(&said), "{body}");
    };
    asked("false"); // 365 days
    let renew = ["agents", "renew"];
    let told = own(&place, &renew, &["--workspace", &ws, "--agent", GUID]);
    assert!(told.contains(": 1"), "{told}");
    asked("true");
    let body = place.path("renew.xml");
    shell(
        r#"openssl req -x509 -newkey rsa:2048 -nodes -keyout "$DIR/new.key" -out "$DIR/new.crt" \
             -days 365 -subj "/CN=$WS/CN=$GUID/OU=Linux Monitoring Agent/O=Microsoft" 2>/dev/null
           printf '<?xml version="1.0"?>\n<CertificateUpdateRequest xmlns="http://schemas.microsoft.com/WorkloadMonitoring/HealthServiceProtocol/2014/09/"><NewCertificate>%s</NewCertificate></CertificateUpdateRequest>' \
             "$(grep -v -- ----- "$DIR/new.crt" | tr '\n' ' ')" >"$BODY""#,
        &[
            ("DIR", &place.path("").display().to_string()),
            ("WS", &ws),
            ("GUID", GUID),
            ("BODY", &body.display().to_string()),
        ],
    );
    assert_eq!(agent.post("oms", RENEW, &[], &body).0, 200);
    let listed = agents(&place);
    assert!(listed[0]["renewal_pending_at"].is_string(), "{listed}");
    let table = own(&place, &["agents"], &["--workspace", &ws]);
    assert!(table.contains("pending"), "{table}");
    for name in ["crt", "key"] {
        let old = place.path(&format!("old.{name}"));
        let (current, new) = (format!("oms.{name}"), format!("new.{name}"));
        std::fs::rename(place.path(&current), old).unwrap();
        std::fs::rename(place.path(&new), place.path(&current)).unwrap();
    }
    asked("false");
    assert_eq!(agent.upload(&envelope(1)), 200);
    let listed = agents(&place);
    assert!(listed[0]["renewal_pending_at"].is_null(), "{listed}");
    assert!(listed[0]["renewal_asked_at"].is_null(), "{listed}");
    for name in ["crt", "key"] {
        let name = |of: &str| place.path(&format!("{of}.{name}"));
        std::fs::rename(name("old"), name("oms")).unwrap();
    }
    assert_eq!(agent.upload(&envelope(1)), 403);
    let log = serving.log();
    for event in [
        "new certificate workspace=",
        "certificate renewed workspace=",
    ] {
        assert!(log.contains(event), "{event}: {log}");
    }
}

#[test]
fn agents_are_listed() {
    let place = Place::new();
    let (serving, ws, key) = begin(&place, &[]);
    assert_eq!(agents(&place), serde_json::json!([]));
    let agent = CurlAgent::new(&place, &serving, &ws);
    assert_eq!(agent.onboard(&key).0, 200);
    let listed = agents(&place);
    let one = &listed[0];
    assert_eq!(one["workspace"], ws);
    assert_eq!(one["guid"], GUID);
    assert_eq!(one["computer"], "web01");
    assert!(one["version"].is_null() && one["last_upload_at"].is_null());
    let heartbeat = place.path("topology.xml");
    let version = ["User-Agent: LinuxMonitoringAgent/1.19.0-0"];
    assert_eq!(agent.post("oms", TOPOLOGY, &version, &heartbeat).0, 200);
    assert_eq!(agent.upload(&envelope(1)), 200);
    let one = &agents(&place)[0];
    assert_eq!(one["version"], "1.19.0-0");
    for time in ["last_upload_at", "last_seen_at", "onboarded_at"] {
        let text = one[time].as_str().unwrap();
        assert!(text.parse::<jiff::Timestamp>().is_ok(), "{time} {text}");
    }
    let ends: jiff::Timestamp = one["certificate_ends_at"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let days = ends.duration_since(jiff::Timestamp::now()).as_hours() / 24;
    assert!((364..=365).contains(&days), "{days}");
    let table = own(&place, &["agents"], &[]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[0].starts_with("Computer  Agent"), "{table}");
    assert!(lines[2].starts_with("web01     0b6c1f3e"), "{table}");
    let other = "01234567-89ab-cdef-0123-456789abcdef";
    let unknown = refused(&place, &["agents"], &["--workspace", other]);
    assert!(unknown.contains("there is no workspace"), "{unknown}");
    // The command line is checked: 2, and nothing is done.
    for wrong in [
        &["agents"][..],
        &["agents", "renew"],
        &["agents", "disable"],
    ] {
        let code = hub(wrong).stderr(Stdio::null()).status().unwrap().code();
        assert_eq!(code, Some(2), "{wrong:?}");
    }
}

#[test]
fn agents_are_shut_out_and_forgotten() {
    let place = Place::new();
    let (serving, ws, key) = begin(&place, &[]);
    let agent = CurlAgent::new(&place, &serving, &ws);
    assert_eq!(agent.onboard(&key).0, 200);
    let one = ["--workspace", &*ws, "--agent", GUID];
    let say = |verb: &str| own(&place, &["agents", verb], &one);
    assert!(say("disable").ends_with("is disabled\n"));
    assert!(say("disable").ends_with("is disabled already\n"));
    assert_eq!(agent.upload(&envelope(1)), 403);
    let (status, body) = agent.onboard(&key);
    assert_eq!(status, 403);
    assert!(body.contains("<Reason>AgentDisabled</Reason>"), "{body}");
    assert!(own(&place, &["agents"], &[]).contains("disabled"));
    assert!(say("enable").ends_with("is enabled\n"));
    assert_eq!(agent.upload(&envelope(2)), 200);
    assert!(say("remove").contains("is kept"));
    assert_eq!(agent.upload(&envelope(1)), 403);
    assert_eq!(agents(&place), serde_json::json!([]));
    let count = place.query("SELECT count(*) AS n FROM Syslog");
    assert_eq!(count, serde_json::json!([{ "n": 2 }]));
    let gone = refused(&place, &["agents", "remove"], &one);
    assert!(gone.contains("has no agent"), "{gone}");
    assert_eq!(agent.onboard(&key).0, 200);
}

#[test]
fn keys_are_rotated_without_a_pause() {
    let place = Place::new();
    let (mut serving, ws, first) = begin(&place, &[]);
    let agent = CurlAgent::new(&place, &serving, &ws);
    let of = ["--id", &*ws];
    let keys = || own(&place, &["workspace", "show-keys"], &of);
    assert_eq!(keys(), format!("primary-key: {first}\n"));
    let rotate = |which: &str| {
        let more = [&of[..], &[which]].concat();
        own(&place, &["workspace", "rotate-key"], &more)
    };
    let printed = rotate("--secondary");
    let second = value_of(&printed, "secondary-key: ").to_owned();
    assert_eq!(
        keys(),
        format!("primary-key: {first}\nsecondary-key: {second}\n")
    );
    assert_eq!(
        (agent.onboard(&first).0, agent.onboard(&second).0),
        (200, 200)
    );
    let printed = rotate("--primary");
    let third = value_of(&printed, "primary-key: ").to_owned();
    assert_eq!(agent.onboard(&first).0, 403);
    assert_eq!(
        (agent.onboard(&second).0, agent.onboard(&third).0),
        (200, 200)
    );
    let printed = own(&place, &["workspace", "rotate-key"], &of);
    let fourth = value_of(&printed, "primary-key: ").to_owned();
    assert_eq!(
        (agent.onboard(&third).0, agent.onboard(&fourth).0),
        (403, 200)
    );
    // Nobody who onboarded notices.
    assert_eq!(agent.upload(&envelope(1)), 200);
    let both = [&of[..], &["--primary", "--secondary"]].concat();
    let data = place.data();
    let mut both_at_once = hub(&["workspace", "rotate-key", "--data", &data]);
    let code = both_at_once.args(both).stderr(Stdio::null()).status();
    assert_eq!(code.unwrap().code(), Some(2));
    let other = ["--id", "01234567-89ab-cdef-0123-456789abcdef"];
    for verb in ["show-keys", "rotate-key", "remove", "disable"] {
        let unknown = refused(&place, &["workspace", verb], &other);
        assert!(unknown.contains("there is no workspace"), "{unknown}");
    }
    serving.signal("-TERM");
    assert_eq!(serving.end(), Some(0));
    let log = serving.log();
    assert!(
        log.contains("key=primary") && log.contains("key=secondary"),
        "{log}"
    );
    let files: Vec<_> = ["hub.db", "hub.db-wal", "../serve.log"]
        .iter()
        .filter_map(|name| std::fs::read(place.path("hub").join(name)).ok())
        .map(|bytes| text(&bytes))
        .collect();
    let listed = own(&place, &["workspace", "list"], &["--json"]);
    for shown in files.iter().chain([&listed]) {
        for key in [&first, &second, &third, &fourth] {
            assert!(!shown.contains(&key[..20]));
        }
    }
    for entry in std::fs::read_dir(place.path("hub/keys")).unwrap() {
        use std::os::unix::fs::PermissionsExt;
        let meta = entry.unwrap().metadata().unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn workspaces_are_closed_and_removed() {
    let place = Place::new();
    let (serving, ws, key) = begin(&place, &[]);
    let (other, other_key) = place.add_workspace();
    let agent = CurlAgent::new(&place, &serving, &ws);
    assert_eq!(agent.onboard(&key).0, 200);
    assert_eq!(agent.upload(&envelope(3)), 200);
    let of = ["--id", &*ws];
    let say = |verb: &str| own(&place, &["workspace", verb], &of);
    let head = |line: &str| own(&place, &["workspace", "list"], &[]).starts_with(line);
    let usual =
        "Id                                    Name  Agents  LastSeen                  Created\n";
    assert!(head(usual));
    assert!(say("disable").ends_with("is disabled\n"));
    assert!(!head(usual));
    let (status, body) = agent.onboard(&key);
    assert_eq!(status, 403);
    assert!(
        body.contains("<Reason>WorkspaceDisabled</Reason>"),
        "{body}"
    );
    assert_eq!(agent.upload(&envelope(1)), 403);
    let listed = own(&place, &["workspace", "list"], &["--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert!(listed[0]["disabled_at"].is_string() && listed[1]["disabled_at"].is_null());
    assert!(say("enable").ends_with("is enabled\n"));
    assert_eq!(agent.upload(&envelope(1)), 200);
    let count = || place.query("SELECT count(*) AS n FROM Syslog")[0]["n"].clone();
    let told = say("remove");
    assert!(
        told.contains("1 agents; 4 items and reports of theirs are kept"),
        "{told}"
    );
    assert_eq!(count(), 4);
    assert_eq!(agent.upload(&envelope(1)), 403);
    // The id may be used again: another key, and the old agents are strangers.
    let again = own(&place, &["workspace", "add"], &of);
    assert_ne!(value_of(&again, "shared-key: "), key);
    assert_eq!(agent.onboard(&key).0, 403);
    let delete = [&of[..], &["--delete-data"]].concat();
    let told = own(&place, &["workspace", "remove"], &delete);
    assert!(
        told.contains("0 agents; 4 items and reports of theirs are deleted"),
        "{told}"
    );
    assert_eq!(count(), 0);
    // The other one has seen nothing of it.
    let agent = CurlAgent::new(&place, &serving, &other);
    assert_eq!(agent.onboard(&other_key).0, 200);
    assert_eq!(agent.upload(&envelope(1)), 200);
}

#[test]
fn faults_come_from_a_file_and_go() {
    let place = Place::new();
    let file = place.path("faults.toml");
    let option = ["--faults", file.to_str().unwrap()];
    std::fs::write(&file, "[[fault]]\non = 'sometimes'\n").unwrap();
    let data = place.data();
    let serve = [
        "serve",
        "--data",
        &data,
        "--listen",
        "127.0.0.1:0",
        "--domain",
        "a.test",
    ];
    let wrong = text(&failed(hub(&serve).args(option)).stderr);
    assert!(
        wrong.contains("faults.toml") && wrong.contains("sometimes"),
        "{wrong}"
    );
    std::fs::write(&file, "[[fault]]\non = 'telemetry'\nstatus = 503\n").unwrap();
    let (serving, ws, key) = begin(&place, &option);
    let agent = CurlAgent::new(&place, &serving, &ws);
    assert_eq!(agent.onboard(&key).0, 200);
    let body = place.path("telemetry.json");
    std::fs::write(
        &body,
        r#"{"OSType":"Linux","OSDistro":"D","OSVersion":"12","ProcessorArchitecture":"x86_64",
            "Region":"OnPremise","ResourceId":"","ConfigMgrEnabled":"true","AgentResourceUsage":{},
            "AgentQoS":[],"AgentError":[]}"#,
    )
    .unwrap();
    let telemetry = || agent.post("oms", TELEMETRY, &[], &body).0;
    assert_eq!(telemetry(), 503);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(telemetry(), 200);
    assert!(
        serving
            .log()
            .contains("fault 1 applied time=1 to=Telemetry")
    );
}
