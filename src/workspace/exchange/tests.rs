//! Onboarding against a TLS server on 127.0.0.1, through a proxy that knows its name.

use super::*;
use crate::wire::http::Cause;
use crate::wire::http::rig::{Authority, Reply, Seen, Server, answer};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const WS: &str = "11111111-2222-3333-4444-555555555555";
const GUID: &str = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee";
const KEY: [u8; 64] = [7; 64];
const OK: &str = "<?xml version=\"1.0\"?><LinuxAgentTopologyResponse queryInterval=\"PT1H\">\
    <CertificateUpdateEndpoint updateCertificate=\"false\">https://w.oms.example.test/C</CertificateUpdateEndpoint>\
    <DscConfiguration><Endpoint>https://h.example/Accounts/w/Nodes(AgentId='g')</Endpoint></DscConfiguration>\
    </LinuxAgentTopologyResponse>";

struct Scene {
    server: Server,
    relay: Server,
    request: OnboardRequest,
    dir: tempfile::TempDir,
}

/// One for all tests: making a key takes time.
fn identity(ws: &WorkspaceId, guid: &AgentGuid) -> ClientIdentity {
    static MADE: std::sync::OnceLock<ClientIdentity> = std::sync::OnceLock::new();
    let now = jiff::Timestamp::now();
    MADE.get_or_init(|| ClientIdentity::generate(ws, guid, now).unwrap())
        .clone()
}

/// A service that answers every request with `reply`, and a request that reaches it.
fn scene(reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new("Test Root");
    let pair = authority.issue(&["*.oms.example.test"], (2020, 2120));
    let server = Server::start(pair, reply);
    let relay = Server::proxy(200, server.port);
    let (ws, guid): (WorkspaceId, AgentGuid) = (WS.parse().unwrap(), GUID.parse().unwrap());
    std::fs::create_dir_all(dir.path().join("etc")).unwrap();
    let os_release = "ID=ubuntu\nVERSION_ID=\"22.04\"\n";
    std::fs::write(dir.path().join("etc/os-release"), os_release).unwrap();
    let request = OnboardRequest {
        identity: identity(&ws, &guid),
        workspace: ws,
        key: Secret::new(STANDARD.encode(KEY)),
        tld: "example.test:8443".into(),
        guid,
        ca_file: Some(authority.ca_file(dir.path())),
        proxy: Some(Proxy {
            scheme: Default::default(),
            host: "127.0.0.1".into(),
            port: relay.port,
            credentials: None,
        }),
        layout: Layout::new(dir.path()),
        agent_version: "2.0.0-1".into(),
        azure_resource_id: "/subscriptions/x".into(),
        clock: Clock::System,
    };
    Scene {
        server,
        relay,
        request,
        dir,
    }
}

fn says(status: u16, headers: &'static str, body: &'static str) -> Scene {
    scene(move |_| answer(status, headers, body))
}

#[track_caller]
fn fails(request: &OnboardRequest, code: u8, start: &str, needle: &str) -> String {
    let error = onboard(request).expect_err("must fail");
    let text = error.to_string();
    assert_eq!(error.exit_code(), code, "{text}");
    assert!(text.starts_with(start), "{text}");
    assert!(text.contains(needle), "{text}");
    let named = format!(". [{}]", error.cause().name());
    assert!(!text.contains('\n') && text.ends_with(&named), "{text}");
    assert!(!text.contains("  ") && !text.contains(".."), "{text}");
    assert!(!text.contains(request.key.expose()) || request.key.expose().is_empty());
    text
}

#[test]
fn a_host_is_taken_in() {
    let scene = says(200, "", OK);
    let answer = onboard(&scene.request).unwrap();
    assert!(
        answer.warnings.is_empty() && answer.skew.is_none(),
        "{answer:?}"
    );
    let seen = &scene.server.seen()[0];
    assert_eq!(scene.server.seen().len(), 1);
    assert_eq!(
        seen.certificate,
        Some(scene.request.identity.cert_der().unwrap())
    );
    let header = |name: &str| {
        let line = seen.head.lines().find_map(|l| l.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} in {}", seen.head))
            .to_owned()
    };
    let path = "POST /AgentService.svc/LinuxAgentTopologyRequest HTTP/1.1\r\n";
    assert!(seen.head.starts_with(path));
    assert_eq!(header("Host: "), format!("{WS}.oms.example.test:8443"));
    assert_eq!(header("x-ms-version: "), "August, 2014");
    assert_eq!(header("User-Agent: "), "LinuxMonitoringAgent/2.0.0-1");
    assert_eq!(header("Accept-Language: "), "en-US");
    // The signature as a service checks it, from what it received alone.
    let date = header("x-ms-Date: ");
    let hash = signature::content_hash(&seen.body);
    assert_eq!(header("x-ms-SHA256_Content: "), hash);
    let authorization = header("Authorization: ");
    let (ws, hmac) = signature::parse_authorization(&authorization).unwrap();
    assert_eq!(ws.as_str(), WS);
    assert!(signature::verify(hmac, &KEY, &date, &hash));
    assert!(signature::parse_date(&date).is_some());
    let body = TopologyRequest::parse(&seen.body).unwrap();
    assert_eq!(body.entity_id.as_str(), GUID);
    let sent = STANDARD.decode(&body.certificate_base64).unwrap();
    assert_eq!(Some(sent), seen.certificate);
    let os = body.os.unwrap();
    assert_eq!((os.name.as_str(), os.version.as_str()), ("Ubuntu", "22.04"));
    // What will be written.
    let conf = answer.omsadmin(&scene.request, &MachineIds::default());
    assert!(conf.is_onboarded());
    assert_eq!(
        conf.oms_endpoint,
        format!("https://{WS}.ods.example.test:8443/OperationalData.svc/PostJsonDataItems")
    );
    let text = conf.to_text().unwrap();
    assert!(text.contains("\nDSC_ENDPOINT=https://h.example/Accounts/w/Nodes\\(AgentId='g'\\)\n"));
    assert!(text.contains("\nAZURE_RESOURCE_ID=/subscriptions/x\n"));
}

#[test]
fn an_answer_without_endpoints_is_a_success_with_a_warning() {
    for body in [
        "",
        "<html>",
        "<LinuxAgentTopologyResponse/>",
        "<LinuxAgentTopologyResponse><CertificateUpdateEndpoint>https://a&#10;B=c</CertificateUpdateEndpoint></LinuxAgentTopologyResponse>",
        "<LinuxAgentTopologyResponse><CertificateUpdateEndpoint>https://a$(id)</CertificateUpdateEndpoint></LinuxAgentTopologyResponse>",
        "<LinuxAgentTopologyResponse><CertificateUpdateEndpoint>http://a</CertificateUpdateEndpoint></LinuxAgentTopologyResponse>",
    ] {
        let scene = says(200, "", body);
        let answer = onboard(&scene.request).unwrap();
        assert_eq!(answer.certificate_update_endpoint, None, "{body}");
        assert_eq!(answer.warnings.last().unwrap(), ENDPOINTS_WARNING, "{body}");
    }
}

#[test]
fn a_wrong_key_is_code_5() {
    let scene = says(
        403,
        "",
        "<Error><Reason>InvalidAuthorization</Reason></Error>",
    );
    fails(
        &scene.request,
        5,
        "Error onboarding. HTTP code 403, Reason: InvalidAuthorization. Check the Workspace ID, \
         Workspace Key and that the time of the system is correct.",
        " Cause: the key is not one of this workspace's",
    );
}

#[test]
fn a_wrong_clock_is_measured() {
    let skewed = "<Error><Reason>ClockSkew</Reason></Error>";
    let date = "Date: Sun, 06 Nov 2044 08:49:37 GMT\r\n";
    let start = "Error onboarding. HTTP code 403, Reason: ClockSkew. Check the Workspace ID, ";
    let mut scene = says(403, date, skewed);
    let local = |time: &str| Clock::Fixed(time.parse().unwrap());
    scene.request.clock = local("2044-11-06T10:09:37+01:00[+01:00]");
    let words = "Cause: the clock of this host is 20 minutes ahead of the service's";
    fails(&scene.request, 5, start, words);
    scene.request.clock = local("2044-11-06T05:49:37+00:00[+00:00]");
    fails(&scene.request, 5, start, "is 3 hours behind the service's");
    let scene = says(403, "", skewed);
    fails(
        &scene.request,
        5,
        start,
        "finds the clock of this host wrong",
    );
    let mut scene = says(200, date, OK);
    scene.request.clock = local("2044-11-06T08:40:00+00:00[+00:00]");
    let skew = onboard(&scene.request).unwrap().skew.unwrap();
    assert_eq!(skew.to_string(), "10 minutes behind the service's");
}

#[test]
fn any_other_status_is_code_6() {
    for status in [201, 302, 404, 500, 503] {
        let scene = says(status, "", "");
        let start = format!("Error onboarding. HTTP code {status}");
        fails(&scene.request, 6, &start, " Cause: ");
    }
}

#[test]
fn an_unknown_host_is_code_7() {
    let mut scene = says(200, "", "");
    scene.request.proxy = None;
    scene.request.tld = "no-such-zone.invalid".into();
    let text = fails(
        &scene.request,
        7,
        "Error resolving host during the onboarding request. Check the correctness of the \
         workspace ID and the internet connectivity, or add a proxy.",
        &format!("Cause: the name `{WS}.oms.no-such-zone.invalid` does not resolve"),
    );
    assert!(!text.contains("HTTP") && !text.contains("code"), "{text}");
}

#[test]
fn a_proxy_s_fault_is_code_4() {
    let through = "Error connecting to OMS service through proxy: curl returned ";
    let mut scene = says(200, "", OK);
    let mut with = |host: &str, port, start: &str, needle: &str| {
        scene.request.proxy = Some(Proxy {
            scheme: Default::default(),
            host: host.into(),
            port,
            credentials: Some(("u".into(), Secret::new("hunter2"))),
        });
        let text = fails(&scene.request, 4, start, needle);
        assert!(!text.contains("hunter2"), "{text}");
    };
    with(
        "proxy.no-such-zone.invalid",
        1,
        "Proxy could not be resolved during the onboarding request: curl returned 5. Verify the \
         proxy.",
        "proxy.no-such-zone.invalid",
    );
    let strict = Server::proxy(407, 0);
    let start = format!("{through}56. Verify the proxy.");
    with(
        "127.0.0.1",
        strict.port,
        &start,
        "does not accept the user and password",
    );
    let port = strict.port;
    drop(strict);
    let start = format!("{through}7. Verify the proxy.");
    std::thread::sleep(Duration::from_millis(100));
    with("127.0.0.1", port, &start, "cannot connect to the proxy");
}

#[test]
fn other_failures_are_code_8() {
    let start = |number| {
        format!(
            "Error during the onboarding request: curl returned {number}. Check the internet \
             connectivity and the correctness of the workspace ID and shared key or run \
             omsadmin.sh with '-v'. Cause: "
        )
    };
    let mut scene = says(200, "", OK);
    let other = Authority::new("Another Root");
    scene.request.ca_file = Some(other.ca_file(scene.dir.path()));
    let text = fails(&scene.request, 8, &start(60), "pass it with --ca-file.");
    let cause = format!(
        "the certificate of `{WS}.oms.example.test` was issued by \"CN=Test Root\", which this \
         host does not trust: "
    );
    assert!(text.contains(&cause), "{text}");
    assert_eq!(scene.relay.seen().len(), 1);
    scene.request.ca_file = Some(scene.dir.path().join("none.pem"));
    fails(
        &scene.request,
        8,
        &start(58),
        "none.pem`: it does not exist",
    );
    let scene = scene_that_closes();
    fails(
        &scene.request,
        8,
        &start(56),
        "closed the connection without an answer",
    );
}

fn scene_that_closes() -> Scene {
    scene(|_| Reply::SayAndClose(String::new()))
}

#[test]
fn a_bad_key_or_domain_is_code_3_and_sends_nothing() {
    let mut scene = says(200, "", OK);
    for key in ["", " \n ", "hunter2!", "AAAA", "AAAAA", "c2hvcnQ="] {
        scene.request.key = Secret::new(key);
        let error = onboard(&scene.request).unwrap_err();
        assert_eq!(error.exit_code(), 3, "{key:?}: {error}");
        let shown = !key.trim().is_empty() && error.to_string().contains(key);
        assert!(!shown, "{error}");
    }
    scene.request.key = Secret::new(STANDARD.encode([1; MIN_KEY_BYTES - 1]));
    assert_eq!(onboard(&scene.request).unwrap_err().exit_code(), 3);
    scene.request.tld = "https://example.test".into();
    scene.request.key = Secret::new(STANDARD.encode([1; MIN_KEY_BYTES]));
    let error = onboard(&scene.request).unwrap_err();
    assert!(matches!(error, OnboardError::BadDomain(_)));
    assert_eq!(error.exit_code(), 3);
    assert!(scene.relay.seen().is_empty());
    scene.request.tld = "example.test:8443".into();
    let mut folded = STANDARD.encode(KEY);
    folded.insert_str(40, "\r\n ");
    scene.request.key = Secret::new(folded);
    assert!(onboard(&scene.request).is_ok(), "white space is ignored");
}

#[test]
fn a_heartbeat_is_not_signed() {
    let scene = scene(|request| {
        if request.connection == 0 {
            answer(200, "", OK)
        } else {
            answer(
                403,
                "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
                "<Reason>Who</Reason>",
            )
        }
    });
    let options = || Options {
        identity: Some(scene.request.identity.clone()),
        ca_file: scene.request.ca_file.clone(),
        proxy: scene.request.proxy.clone(),
        user_agent: upload::user_agent("2.0.0-1"),
        connect_timeout: CONNECT_TIMEOUT,
        read_timeout: READ_TIMEOUT,
    };
    let request = HeartbeatRequest {
        workspace: &scene.request.workspace,
        tld: &scene.request.tld,
        guid: &scene.request.guid,
        identity: &scene.request.identity,
        layout: &scene.request.layout,
        telemetry: Telemetry {
            used_memory: Some(7000),
            ..Telemetry::default()
        },
        clock: &scene.request.clock,
    };
    let client = Client::new(options()).unwrap();
    let response = heartbeat(&client, &request).unwrap();
    assert_eq!(response.query_interval, Some(Duration::from_secs(3600)));
    let seen = &scene.server.seen()[0];
    let date = seen
        .head
        .lines()
        .find_map(|l| l.strip_prefix("x-ms-Date: "));
    assert!(date.unwrap().ends_with("+00:00"), "{}", seen.head);
    for absent in ["Authorization", "SHA256", "x-ms-version"] {
        assert!(!seen.head.contains(absent), "{}", seen.head);
    }
    assert!(seen.certificate.is_some());
    let text = String::from_utf8(seen.body.clone()).unwrap();
    assert!(text.contains("UsedMemory=\"7000\""), "{text}");
    let error = heartbeat(&Client::new(options()).unwrap(), &request).unwrap_err();
    assert_eq!(error.code(), 7);
    let text = error.to_string();
    assert!(
        text.contains("403 (Who); the clock") && text.contains("ahead"),
        "{text}"
    );
    let mut options = options();
    options.ca_file = None;
    let error = heartbeat(&Client::new(options).unwrap(), &request).unwrap_err();
    assert_eq!(error.code(), 8);
    assert!(matches!(error, HeartbeatError::Transport(e) if e.cause == Cause::TlsUntrusted));
}
