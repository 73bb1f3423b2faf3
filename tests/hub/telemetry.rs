//! protocol.md 2.3, as the service sees it.

use crate::stage::*;
use serde_json::{Value, json};

fn report() -> Value {
    json!({
        "OSType": "Linux", "OSDistro": "Debian", "OSVersion": "12",
        "ProcessorArchitecture": "x86_64\n", "Region": "OnPremise", "ResourceId": "",
        "ConfigMgrEnabled": "true",
        "AgentResourceUsage": {
            "OMSMaxMemory": 104_512, "OMSMaxPercentMemory": 2, "OMSAvgMemory": 90_000,
            "OMSAvgUserTime": 1
        },
        "AgentQoS": [{
            "Source": "LINUX_SYSLOGS_BLOB.LOGMANAGEMENT", "Message": "",
            "OperationSuccess": "true", "BatchCount": 2, "Operation": "SendBatch",
            "MinBatchEventCount": 1, "MaxBatchEventCount": 9, "AvgBatchEventCount": 5,
            "MinEventSize": 100, "MaxEventSize": 300, "AvgEventSize": 200,
            "MinLocalLatencyInMs": -3, "MaxLocalLatencyInMs": 12, "AvgLocalLatencyInMs": 4,
            "NetworkLatencyInMs": 70
        }],
        "AgentError": [{"Message": "no answer", "Count": 3}]
    })
}

fn send(stage: &Stage, agent: &Agent, body: &[u8]) -> (u16, String) {
    // The original's content type is that of a form (protocol.md 2.1, 2.3).
    let headers = [
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("User-Agent", "LinuxMonitoringAgent/2.0.0-1"),
    ];
    let request = post(&stage.host("oms"), TELEMETRY, &headers, body);
    exchange(&mut stage.connect(Some(agent)), &request).verdict()
}

#[test]
fn reports_are_stored_and_shown() {
    let stage = Stage::new();
    let agent = stage.agent();
    let body = report().to_string();
    assert_eq!(send(&stage, &agent, body.as_bytes()).0, 200);
    assert_eq!(send(&stage, &agent, body.as_bytes()).0, 200);
    let shown = stage.value(
        "SELECT DISTINCT Computer, OSDistro, ProcessorArchitecture, Region, OMSMaxMemory,
         OMSAvgUserTime, OMSMaxUserTime, SourceComputerId FROM AgentTelemetry",
    );
    let expected = format!(
        concat!(
            r#"{{"Computer":"web01.example.org","OSDistro":"Debian","#,
            r#""ProcessorArchitecture":"x86_64","Region":"OnPremise","OMSMaxMemory":104512,"#,
            r#""OMSAvgUserTime":1,"OMSMaxUserTime":null,"SourceComputerId":"{}"}}"#
        ),
        agent.guid
    );
    assert_eq!(shown, expected);
    let qos = "SELECT Source, BatchCount, MinLocalLatencyInMs FROM AgentQoS LIMIT 1";
    assert_eq!(
        stage.value(qos),
        r#"{"Source":"LINUX_SYSLOGS_BLOB.LOGMANAGEMENT","BatchCount":2,"MinLocalLatencyInMs":-3}"#
    );
    let errors = "SELECT Message, sum(Count) AS n FROM AgentError";
    assert_eq!(stage.value(errors), r#"{"Message":"no answer","n":6}"#);
    let kept = stage.value("SELECT report FROM telemetry LIMIT 1");
    let kept: Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(kept["report"], body);
    let version = stage.value("SELECT version FROM agents");
    assert_eq!(version, r#"{"version":"2.0.0-1"}"#);
}

#[test]
fn nonsense_is_refused() {
    let stage = Stage::new();
    let agent = stage.agent();
    let mut wrong = report();
    wrong["AgentQoS"][0]["BatchCount"] = json!("two");
    let invalid = (400, "InvalidRequest".to_owned());
    for body in [
        &b""[..],
        b"{}",
        b"[]",
        b"not json",
        b"\0\xff\xfe",
        b"<xml/>",
        &b"[".repeat(200_000),
        wrong.to_string().as_bytes(),
    ] {
        assert_eq!(send(&stage, &agent, body), invalid);
    }
    let limit = 256 * 1024;
    let mut body = report().to_string().into_bytes();
    body.resize(limit, b' ');
    assert_eq!(send(&stage, &agent, &body).0, 200);
    body.push(b' ');
    assert_eq!(send(&stage, &agent, &body).0, 413);
    let stored = stage.value("SELECT count(*) AS n FROM telemetry");
    assert_eq!(stored, r#"{"n":1}"#);
}

#[test]
fn strangers_tell_nothing() {
    let stage = Stage::new();
    let body = report().to_string();
    let stranger = send(&stage, &Agent::new(), body.as_bytes());
    assert_eq!(stranger, (403, "UnknownCertificate".to_owned()));
    let request = post(&stage.host("oms"), TELEMETRY, &[], body.as_bytes());
    let anonymous = exchange(&mut stage.connect(None), &request).verdict();
    assert_eq!(anonymous, (403, "MissingCertificate".to_owned()));
    let agent = stage.agent();
    let request = post(&stage.host("ods"), TELEMETRY, &[], body.as_bytes());
    let elsewhere = exchange(&mut stage.connect(Some(&agent)), &request);
    assert_eq!(elsewhere.status, 404);
    let stored = stage.value("SELECT count(*) AS n FROM telemetry");
    assert_eq!(stored, r#"{"n":0}"#);
}
