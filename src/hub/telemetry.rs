//! What agents tell of themselves (protocol.md 2.3): checked, stored as it came.

use super::access::{Refusal, xml};
use super::http::Response;
use super::printable;
use super::roster::Agent;
use super::routes::{Peer, Place, Service};
use serde_json::{Map, Value};

/// Largest report, bytes. One of twenty sources and five long errors has below 20 KiB.
pub(super) const BODY_LIMIT: usize = 256 << 10;

/// Most sources and most errors of one report.
const LIST_LIMIT: usize = 1000;

/// Longest text but for errors' messages, bytes.
const TEXT_LIMIT: usize = 1024;

/// Longest message of an error, bytes.
const MESSAGE_LIMIT: usize = 16 << 10;

const TEXTS: [&str; 7] = [
    "OSType",
    "OSDistro",
    "OSVersion",
    "ProcessorArchitecture",
    "Region",
    "ResourceId",
    "ConfigMgrEnabled",
];

const QOS_TEXTS: [&str; 4] = ["Source", "Message", "OperationSuccess", "Operation"];

const QOS_NUMBERS: [&str; 11] = [
    "BatchCount",
    "MinBatchEventCount",
    "MaxBatchEventCount",
    "AvgBatchEventCount",
    "MinEventSize",
    "MaxEventSize",
    "AvgEventSize",
    "MinLocalLatencyInMs",
    "MaxLocalLatencyInMs",
    "AvgLocalLatencyInMs",
    "NetworkLatencyInMs",
];

/// Answers `AgentTelemetry`.
pub(super) fn answer(
    service: &Service,
    place: &Place,
    agent: &Agent,
    peer: &Peer,
    version: Option<&str>,
    body: &[u8],
) -> Response {
    let stored = parse(body)
        .map_err(Refusal::invalid)
        .and_then(|(report, counts)| {
            let put = service.store.put_telemetry(agent, version, report);
            put.map(|()| counts).map_err(Refusal::internal)
        });
    match stored {
        Ok((sources, errors)) => {
            log::info!(
                "telemetry workspace={} agent={} computer={} sources={sources} errors={errors}",
                agent.workspace,
                agent.guid,
                printable(&agent.computer)
            );
            xml(200, String::new())
        }
        Err(refusal) => refusal.answer(place, peer),
    }
}

/// The report as text, and how many sources and errors it tells of.
fn parse(body: &[u8]) -> Result<(&str, (usize, usize)), String> {
    let text = std::str::from_utf8(body).map_err(|_| "the body is not UTF-8")?;
    let report: Value = serde_json::from_slice(text.as_bytes()).map_err(|e| e.to_string())?;
    let report = report.as_object().ok_or("the body is not a JSON object")?;
    for name in TEXTS {
        check_text(report, name, TEXT_LIMIT)?;
    }
    let usage = report.get("AgentResourceUsage").and_then(Value::as_object);
    let usage = usage.ok_or("`AgentResourceUsage` must be an object")?;
    for name in usage.keys() {
        // `Max...` are left out when nothing was measured: none is needed.
        check_number(usage, name)?;
    }
    let sources = list(report, "AgentQoS")?;
    for source in sources {
        let source = source.as_object().ok_or("`AgentQoS` must hold objects")?;
        for name in QOS_TEXTS {
            check_text(source, name, TEXT_LIMIT)?;
        }
        for name in QOS_NUMBERS {
            check_number(source, name)?;
        }
    }
    let errors = list(report, "AgentError")?;
    for error in errors {
        let error = error.as_object().ok_or("`AgentError` must hold objects")?;
        check_text(error, "Message", MESSAGE_LIMIT)?;
        check_number(error, "Count")?;
        if error.contains_key("ErrorCode") {
            check_number(error, "ErrorCode")?;
        }
        if error.contains_key("Source") {
            check_text(error, "Source", TEXT_LIMIT)?;
        }
    }
    Ok((text.trim(), (sources.len(), errors.len())))
}

fn list<'a>(report: &'a Map<String, Value>, name: &str) -> Result<&'a [Value], String> {
    match report.get(name).and_then(Value::as_array) {
        Some(list) if list.len() <= LIST_LIMIT => Ok(list),
        Some(_) => Err(format!("`{name}` has more than {LIST_LIMIT} entries")),
        None => Err(format!("`{name}` must be a list")),
    }
}

fn check_text(of: &Map<String, Value>, name: &str, limit: usize) -> Result<(), String> {
    match of.get(name).and_then(Value::as_str) {
        Some(text) if text.len() <= limit => Ok(()),
        Some(_) => Err(format!("`{name}` is longer than {limit} bytes")),
        None => Err(format!("`{name}` must be a text")),
    }
}

fn check_number(of: &Map<String, Value>, name: &str) -> Result<(), String> {
    match of.get(name).and_then(Value::as_i64) {
        Some(_) => Ok(()),
        None => Err(format!("`{}` must be a whole number", printable(name))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report() -> Value {
        let mut source: Value = json!({
            "Source": "LINUX_SYSLOGS_BLOB.LOGMANAGEMENT", "Message": "",
            "OperationSuccess": "true", "Operation": "SendBatch",
        });
        for name in QOS_NUMBERS {
            source[name] = json!(7);
        }
        json!({
            "OSType": "Linux", "OSDistro": "Debian", "OSVersion": "12",
            "ProcessorArchitecture": "x86_64\n", "Region": "OnPremise", "ResourceId": "",
            "ConfigMgrEnabled": "true",
            "AgentResourceUsage": {"OMSMaxMemory": 104_512, "OMSAvgUserTime": 0},
            "AgentQoS": [source],
            "AgentError": [
                {"Message": "no answer", "Count": 3},
                {"Message": "", "Count": 1, "ErrorCode": -7, "Source": "s"},
            ],
        })
    }

    fn verdict(report: &Value) -> Result<(usize, usize), String> {
        parse(report.to_string().as_bytes()).map(|(_, counts)| counts)
    }

    #[test]
    fn good_reports_are_taken_as_they_came() {
        assert_eq!(verdict(&report()), Ok((1, 2)));
        let body = format!(" {}\n", report());
        assert_eq!(parse(body.as_bytes()).unwrap().0, body.trim());
        let mut empty = report();
        for (name, value) in [
            ("AgentQoS", json!([])),
            ("AgentError", json!([])),
            ("AgentResourceUsage", json!({})),
            ("Unknown", json!([[1]])),
        ] {
            empty[name] = value;
        }
        assert_eq!(verdict(&empty), Ok((0, 0)));
    }

    #[test]
    fn every_key_has_its_type() {
        let whole = report();
        let keys: Vec<&String> = whole.as_object().unwrap().keys().collect();
        assert_eq!(keys.len(), 10);
        for key in keys {
            for wrong in [Value::Null, json!(1.5), json!([1]), json!({"a": "b"})] {
                let mut report = whole.clone();
                report[key] = wrong;
                let error = verdict(&report).unwrap_err();
                assert!(error.contains('`'), "{key}: {error}");
            }
            let mut report = whole.clone();
            report.as_object_mut().unwrap().remove(key);
            assert!(verdict(&report).unwrap_err().contains(key));
        }
        for (list, key, wrong) in [
            ("AgentQoS", "Source", json!(1)),
            ("AgentQoS", "BatchCount", json!("1")),
            ("AgentQoS", "NetworkLatencyInMs", json!(0.5)),
            ("AgentError", "Message", Value::Null),
            ("AgentError", "Count", json!("1")),
            ("AgentError", "Count", json!(u64::MAX)),
            ("AgentError", "ErrorCode", json!("x")),
            ("AgentError", "Source", json!(1)),
        ] {
            let mut report = whole.clone();
            report[list][0][key] = wrong;
            assert!(verdict(&report).unwrap_err().contains(key), "{key}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for nonsense in [
            &b""[..],
            b"null",
            b"[]",
            b"{}",
            b"not json",
            b"\xff",
            b"{\"OSType\":",
            b"<xml/>",
            &b"[".repeat(100_000),
            b"{\"OSType\":1e999}",
        ] {
            assert!(parse(nonsense).is_err());
        }
    }

    #[test]
    fn limits_hold_at_the_edge() {
        let with = |name: &str, value: Value| {
            let mut report = report();
            report[name] = value;
            verdict(&report)
        };
        assert!(with("Region", json!("x".repeat(TEXT_LIMIT))).is_ok());
        assert!(with("Region", json!("x".repeat(TEXT_LIMIT + 1))).is_err());
        let errors = |n: usize, length: usize| {
            let error = json!({"Message": "x".repeat(length), "Count": 1});
            with("AgentError", Value::Array(vec![error; n]))
        };
        assert_eq!(errors(LIST_LIMIT, 1), Ok((1, LIST_LIMIT)));
        assert!(errors(LIST_LIMIT + 1, 1).is_err());
        assert!(errors(1, MESSAGE_LIMIT).is_ok());
        assert!(errors(1, MESSAGE_LIMIT + 1).is_err());
    }
}
