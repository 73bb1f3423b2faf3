//! `omsagent hub` as a program.

use crate::curl::*;
use crate::stage::{DOMAIN, TOPOLOGY, UPLOAD, envelope};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn curl_and_openssl_onboard_and_upload() {
    let place = Place::new();
    let mut serving = Serving::start(&place, &[]);
    let (ws, key) = place.add_workspace();
    let agent = CurlAgent::new(&place, &serving, &ws);
    let (status, body) = agent.onboard("AAECAwQFBgcICQoLDA0ODw==");
    assert_eq!(status, 403);
    assert!(
        body.contains("<Reason>InvalidWorkspaceKey</Reason>"),
        "{body}"
    );
    assert_eq!(agent.upload(&envelope(1)), 403);
    let (status, body) = agent.onboard(&key);
    assert_eq!(status, 200, "{body}");
    assert!(
        body.contains("RenewCertificate</CertificateUpdateEndpoint>"),
        "{body}"
    );
    let heartbeat = place.path("topology.xml");
    assert_eq!(agent.post("oms", TOPOLOGY, &[], &heartbeat).0, 200);
    assert_eq!(agent.upload(&envelope(2)), 200);
    // Larger than what curl sends unasked: it waits for `100 Continue`.
    assert_eq!(agent.upload(&envelope(20_000)), 200);
    let counted = place.query("SELECT count(*) AS n, min(Computer) AS c FROM Syslog");
    assert_eq!(counted, serde_json::json!([{ "n": 20_002, "c": "web01" }]));
    serving.signal("-TERM");
    assert_eq!(serving.end(), Some(0), "{}", serving.log());
    let log = serving.log();
    for event in [
        "onboarded workspace=",
        "reason=InvalidWorkspaceKey",
        "items=20000",
        "stopped",
    ] {
        assert!(log.contains(event), "{event}: {log}");
    }
    assert!(!log.contains(&key[..20]));
}

#[test]
fn a_restart_keeps_authority_and_data() {
    let place = Place::new();
    let mut serving = Serving::start(&place, &[]);
    let (ws, key) = place.add_workspace();
    let mut agent = CurlAgent::new(&place, &serving, &ws);
    assert_eq!(agent.onboard(&key).0, 200);
    assert_eq!(agent.upload(&envelope(3)), 200);
    let ca = std::fs::read(&agent.ca_file).unwrap();
    // Two servers would renew each other's certificates and locks.
    let args = [
        "serve",
        "--data",
        &place.data(),
        "--listen",
        "127.0.0.1:0",
        "--domain",
        DOMAIN,
    ];
    let second = failed(&mut hub(&args));
    assert!(
        text(&second.stderr).contains("another hub"),
        "{}",
        text(&second.stderr)
    );
    serving.signal("-INT");
    assert_eq!(serving.end(), Some(0));
    let serving = Serving::start(&place, &[]);
    agent.port = serving.port;
    assert_eq!(
        std::fs::read(serving.ca_file.as_ref().unwrap()).unwrap(),
        ca
    );
    assert_eq!(agent.upload(&envelope(4)), 200);
    assert_eq!(
        place.query("SELECT count(*) AS n FROM items"),
        serde_json::json!([{ "n": 7 }])
    );
}

#[test]
fn a_killed_hub_has_what_it_acknowledged() {
    let place = Place::new();
    let mut serving = Serving::start(&place, &[]);
    let (ws, key) = place.add_workspace();
    let agent = CurlAgent::new(&place, &serving, &ws);
    assert_eq!(agent.onboard(&key).0, 200);
    let body = place.path("items.json");
    std::fs::write(&body, envelope(50)).unwrap();
    // curl posts again and again and notes each acknowledgement, until the hub is gone.
    let host = format!("{ws}.ods.{DOMAIN}");
    let acknowledged = place.path("acknowledged");
    let mut posting = Command::new("bash")
        .args([
            "-c",
            r#"while curl --silent --fail --cacert "$CA" --cert "$DIR/oms.crt" --key "$DIR/oms.key" \
               --resolve "$HOST:$PORT:127.0.0.1" --data-binary "@$DIR/items.json" \
               --header 'Content-Type: application/json' "https://$HOST:$PORT$WHAT"
               do echo ok >>"$DIR/acknowledged"; done"#,
        ])
        .env("CA", &agent.ca_file)
        .env("DIR", place.temp.path())
        .env("HOST", &host)
        .env("PORT", serving.port.to_string())
        .env("WHAT", UPLOAD)
        .spawn()
        .unwrap();
    let count = || std::fs::read_to_string(&acknowledged).map_or(0, |t| t.lines().count());
    let begun = Instant::now();
    while count() < 20 && begun.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(5));
    }
    serving.signal("-KILL");
    serving.end();
    posting.wait().unwrap();
    let acknowledged = count();
    assert!(acknowledged >= 20);
    let stored = place.query("SELECT count(*) AS n FROM items")[0]["n"]
        .as_u64()
        .unwrap();
    assert_eq!(stored % 50, 0, "an upload is stored whole or not at all");
    let uploads = usize::try_from(stored).unwrap() / 50;
    // The last one may have been stored and not acknowledged.
    assert!(
        uploads == acknowledged || uploads == acknowledged + 1,
        "{uploads} {acknowledged}"
    );
    let sound = place.query("PRAGMA integrity_check");
    assert_eq!(sound[0]["integrity_check"], "ok");
    let _again = Serving::start(&place, &[]);
}

#[test]
fn queries_cannot_write_and_never_show_a_key() {
    let place = Place::new();
    let data = place.data();
    let (ws, key) = place.add_workspace();
    let before = place.query("SELECT * FROM workspaces");
    let insert = "INSERT INTO workspaces (id, name, created_at) VALUES ('a', 'b', 'c')";
    let refused = failed(&mut hub(&["query", "--data", &data, insert]));
    assert!(text(&refused.stderr).contains("only statements that read"));
    assert_eq!(place.query("SELECT * FROM workspaces"), before);
    let nonsense = failed(&mut hub(&["query", "--data", &data, "SELEKT 1"]));
    assert!(text(&nonsense.stderr).contains("syntax error"));
    for shown in [
        before.to_string(),
        done(&mut hub(&["workspace", "list", "--data", &data])),
        done(&mut hub(&["workspace", "list", "--data", &data, "--json"])),
        text(&std::fs::read(place.path("hub/hub.db")).unwrap()),
    ] {
        assert!(shown.contains(&ws), "{shown}");
        assert!(!shown.contains(&key), "{shown}");
    }
    let missing = failed(&mut hub(&["query", "--data", "/nonexistent", "SELECT 1"]));
    assert!(text(&missing.stderr).contains("not a hub's data folder"));
}

#[test]
fn workspaces_take_given_ids_and_keys() {
    let place = Place::new();
    let data = place.data();
    let id = "01234567-89ab-cdef-0123-456789abcdef";
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let add = [
        "workspace",
        "add",
        "--data",
        &data,
        "--id",
        id,
        "--shared-key-file",
        "-",
    ];
    let mut child = hub(&add)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{key}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        text(&output.stdout),
        format!("workspace-id: {id}\nshared-key: {key}\n")
    );
    let file = place.path("key");
    std::fs::write(&file, "not base64 at all").unwrap();
    let file = file.display().to_string();
    let bad = [
        "workspace",
        "add",
        "--data",
        &data,
        "--shared-key-file",
        &file,
    ];
    let refused = text(&failed(&mut hub(&bad)).stderr);
    assert!(
        refused.contains("not base64") && !refused.contains("at all"),
        "{refused}"
    );
    let again = ["workspace", "add", "--data", &data, "--id", id];
    assert!(text(&failed(&mut hub(&again)).stderr).contains("already"));
    let listed = done(&mut hub(&["workspace", "list", "--data", &data, "--json"]));
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["agents"], 0);
}

#[test]
fn tail_follows_and_readiness_is_told() {
    use std::os::unix::net::UnixDatagram;
    let place = Place::new();
    let notified = UnixDatagram::bind(place.path("notify")).unwrap();
    notified
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let (ws, key) = place.add_workspace();
    let args = [
        "--data",
        &place.data(),
        "--listen",
        "127.0.0.1:0",
        "--domain",
        DOMAIN,
    ];
    let mut child = hub(&["serve"])
        .args(args)
        .env("NOTIFY_SOCKET", place.path("notify"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut buffer = [0u8; 100];
    let n = notified.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..n], b"READY=1");
    child.kill().unwrap();
    child.wait().unwrap();
    let serving = Serving::start(&place, &[]);
    let agent = CurlAgent::new(&place, &serving, &ws);
    assert_eq!(agent.onboard(&key).0, 200);
    assert_eq!(agent.upload(&envelope(3)), 200);
    let tail = done(&mut hub(&["tail", "--data", &place.data(), "-n", "2"]));
    assert!(tail.lines().count() == 2 && tail.contains("line 1") && tail.contains("line 2"));
    let follow = [
        "tail",
        "--data",
        &place.data(),
        "-n",
        "0",
        "--follow",
        "--type",
        "t",
    ];
    let mut follower = hub(&follow).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(agent.upload(&envelope(1)), 200);
    let body = r#"{"DataType":"T","IPName":"P","DataItems":[{"Computer":"x","n":1}]}"#;
    assert_eq!(agent.upload(body), 200);
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    assert!(
        line.ends_with(r#"  x  T  {"Computer":"x","n":1}"#),
        "{line}"
    );
    drop(lines); // nobody reads any more: it ends by itself
    let begun = Instant::now();
    while follower.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_certificate_from_outside_is_shown() {
    let place = Place::new();
    shell(
        r#"openssl req -x509 -newkey rsa:2048 -nodes -keyout "$DIR/s.key" -out "$DIR/s.crt" -days 2 \
           -subj "/CN=outside" -addext "subjectAltName=IP:127.0.0.1" 2>/dev/null"#,
        &[("DIR", &place.path("").display().to_string())],
    );
    let (cert, key) = (place.path("s.crt"), place.path("s.key"));
    let files = [
        "--cert",
        cert.to_str().unwrap(),
        "--key",
        key.to_str().unwrap(),
    ];
    let serving = Serving::start(&place, &files);
    assert_eq!(serving.ca_file, None);
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--cacert"])
        .arg(&cert);
    curl.arg(format!("https://127.0.0.1:{}/healthz", serving.port));
    assert_eq!(done(&mut curl), "omsagent hub: ok\n");
}
