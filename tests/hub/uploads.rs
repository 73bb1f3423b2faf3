//! protocol.md 3.1 and 3.2, as the service sees them.

use crate::stage::*;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use std::io::Write;

fn zlib(data: &[u8]) -> Vec<u8> {
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
    packed.write_all(data).unwrap();
    packed.finish().unwrap()
}

#[test]
fn every_encoding_is_understood() {
    let stage = Stage::new();
    let agent = stage.agent();
    let body = envelope(3);
    let mut raw = DeflateEncoder::new(Vec::new(), Compression::default());
    raw.write_all(body.as_bytes()).unwrap();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(body.as_bytes()).unwrap();
    let deflate = ("Content-Encoding", "deflate");
    for (encoding, body) in [
        (None, body.clone().into_bytes()),
        (Some(deflate), zlib(body.as_bytes())),
        (Some(deflate), raw.finish().unwrap()),
        (Some(("Content-Encoding", "gzip")), gzip.finish().unwrap()),
    ] {
        let answer = stage.upload(&agent, encoding.as_slice(), &body);
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{encoding:?}");
        assert!(answer.head.contains("\r\nDate: "));
    }
    assert_eq!(stage.items(), r#"{"n":12}"#);
    let row = stage.value("SELECT * FROM Syslog LIMIT 1");
    let expected = format!(
        concat!(
            r#"{{"TimeGenerated":"2031-08-09T10:11:12.345Z","EventTime":"2031-08-09T10:11:12.000Z","#,
            r#""Computer":"web01","HostIP":"10.0.0.7","Facility":"authpriv","SeverityLevel":"info","#,
            r#""ProcessName":"sshd","ProcessID":812,"SyslogMessage":"line 0","WorkspaceId":"{}","#,
            r#""SourceComputerId":"{}"}}"#
        ),
        stage.ws, agent.guid
    );
    assert_eq!(row, expected);
}

#[test]
fn heartbeats_show_in_their_view() {
    let stage = Stage::new();
    let agent = stage.agent();
    let body = r#"{"DataType":"HEALTH_ASSESSMENT_BLOB","IPName":"LogManagement","DataItems":[
        {"Timestamp":"2031-08-09T10:11:12.345Z","Computer":"db02","OSType":"Linux","OSName":"Debian",
         "OSMajorVersion":"12","Category":"Agent","SCAgentChannel":"Direct",
         "ComputerPrivateIps":"[\"10.0.0.4\"]","Version":"2.0.0-1"}]}"#;
    assert_eq!(stage.upload(&agent, &[], body.as_bytes()).status, 200);
    let row = stage.value(
        "SELECT TimeGenerated, Computer, OSType, OSName, OSMajorVersion, OSMinorVersion, Version,
         ComputerPrivateIPs FROM Heartbeat",
    );
    assert_eq!(
        row,
        concat!(
            r#"{"TimeGenerated":"2031-08-09T10:11:12.345Z","Computer":"db02","OSType":"Linux","#,
            r#""OSName":"Debian","OSMajorVersion":"12","OSMinorVersion":null,"Version":"2.0.0-1","#,
            r#""ComputerPrivateIPs":"[\"10.0.0.4\"]"}"#
        )
    );
}

#[test]
fn several_uploads_and_chunks_share_a_connection() {
    let stage = Stage::new();
    let agent = stage.agent();
    let mut connection = stage.connect(Some(&agent));
    let json = [("Content-Type", "application/json; charset=utf-8")];
    let request = post(&stage.host("ods"), UPLOAD, &json, envelope(1).as_bytes());
    for _ in 0..3 {
        assert_eq!(exchange(&mut connection, &request).status, 200);
    }
    let body = envelope(2);
    let (one, two) = body.split_at(100);
    let chunked = format!(
        "POST {UPLOAD} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n",
        stage.host("ods"),
        one.len(),
        two.len()
    );
    let both = [chunked.as_bytes(), &request].concat(); // pipelined
    assert_eq!(exchange(&mut connection, &both).status, 200);
    assert_eq!(answer(&mut connection).status, 200);
    assert_eq!(stage.items(), r#"{"n":6}"#);
}

#[test]
fn strangers_may_not_upload() {
    let stage = Stage::new();
    let stranger = Agent::new();
    let answer = stage.upload(&stranger, &[], envelope(1).as_bytes());
    assert_eq!(answer.status, 403);
    assert!(
        answer.text().contains("UnknownCertificate"),
        "{}",
        answer.text()
    );
    let json = [("Content-Type", "application/json")];
    let request = post(&stage.host("ods"), UPLOAD, &json, envelope(1).as_bytes());
    let answer = exchange(&mut stage.connect(None), &request);
    assert_eq!(answer.status, 403);
    assert!(
        answer.text().contains("MissingCertificate"),
        "{}",
        answer.text()
    );
    assert_eq!(stage.items(), r#"{"n":0}"#);
}

#[test]
fn a_client_that_asks_first_is_told_first() {
    let stage = Stage::new();
    let agent = stage.agent();
    let body = envelope(1);
    let head = format!(
        "POST {UPLOAD} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        stage.host("ods"),
        body.len()
    );
    let mut connection = stage.connect(Some(&agent));
    assert_eq!(exchange(&mut connection, head.as_bytes()).status, 100);
    assert_eq!(exchange(&mut connection, body.as_bytes()).status, 200);
    let mut connection = stage.connect(Some(&Agent::new()));
    assert_eq!(exchange(&mut connection, head.as_bytes()).status, 403);
}

#[test]
fn bodies_that_are_no_uploads_are_refused() {
    let stage = Stage::new();
    let agent = stage.agent();
    let deflate = ("Content-Encoding", "deflate");
    let br = ("Content-Encoding", "br");
    let cut = zlib(envelope(5).as_bytes());
    let cut = &cut[..cut.len() - 3];
    for (status, headers, body) in [
        (400, vec![], &b"{}"[..]),
        (400, vec![], b"not json"),
        (400, vec![], b""),
        (
            400,
            vec![],
            b"{\"DataType\":\"T\",\"IPName\":\"P\",\"DataItems\":[\"\xff\"]}",
        ),
        (400, vec![deflate], b"not deflated"),
        (400, vec![deflate], cut),
        (415, vec![br], b"{}"),
    ] {
        let answer = stage.upload(&agent, &headers, body);
        assert_eq!(answer.status, status, "{}", answer.text());
        let text = answer.text();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(
            json["Error"].is_string() && json["Message"].is_string(),
            "{text}"
        );
    }
    let text = [("Content-Type", "text/plain")];
    let request = post(&stage.host("ods"), UPLOAD, &text, b"{}");
    assert_eq!(
        exchange(&mut stage.connect(Some(&agent)), &request).status,
        415
    );
    let custom = format!("{UPLOAD}?api-version=2016-04-01");
    for (headers, body) in [
        (&[][..], "[{}]"),
        (&[("Log-Type", "1App")][..], "[{}]"),
        (&[("Log-Type", "App")][..], "[1]"),
    ] {
        let mut all = vec![("Content-Type", "application/json")];
        all.extend(headers);
        let request = post(&stage.host("ods"), &custom, &all, body.as_bytes());
        let answer = exchange(&mut stage.connect(Some(&agent)), &request);
        assert_eq!(answer.status, 400, "{headers:?} {body}");
    }
    assert_eq!(stage.items(), r#"{"n":0}"#);
}

#[test]
fn a_bomb_is_refused() {
    let stage = Stage::new();
    let agent = stage.agent();
    let head = r#"{"DataType":"T","IPName":"P","DataItems":[{"a":""#;
    let fits = 64 * 1024 * 1024 - head.len() - 4;
    let packed = |n: usize| zlib(format!("{head}{}\"}}]}}", " ".repeat(n)).as_bytes());
    let deflate = [("Content-Encoding", "deflate")];
    assert!(packed(fits).len() < 100_000);
    assert_eq!(stage.upload(&agent, &deflate, &packed(fits)).status, 200);
    assert_eq!(
        stage.upload(&agent, &deflate, &packed(fits + 1)).status,
        413
    );
    assert_eq!(stage.items(), r#"{"n":1}"#);
}

#[test]
fn an_oversized_body_is_refused_before_it_is_read() {
    let stage = Stage::new();
    let agent = stage.agent();
    let limit = 32 * 1024 * 1024;
    let head = |path: &str, service: &str, length: usize| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n",
            stage.host(service)
        )
    };
    let verdict = |head: String| {
        let answer = exchange(&mut stage.connect(Some(&agent)), head.as_bytes());
        (answer.status, answer.text())
    };
    let (status, text) = verdict(head(UPLOAD, "ods", limit + 1));
    assert_eq!(status, 413, "{text}");
    assert!(text.contains(&limit.to_string()), "{text}");
    assert_eq!(verdict(head(TOPOLOGY, "oms", 65 * 1024)).0, 413);
    // And one that is just as large as allowed is read.
    let body = envelope(1);
    let body = format!("{body}{}", " ".repeat(limit - body.len()));
    assert_eq!(stage.upload(&agent, &[], body.as_bytes()).status, 200);
}

#[test]
fn a_repeated_request_is_stored_once() {
    let stage = Stage::new();
    let agent = stage.agent();
    let id = [("X-Request-ID", "6a8a2a2e-0000-4000-8000-000000000001")];
    for _ in 0..2 {
        assert_eq!(
            stage.upload(&agent, &id, envelope(2).as_bytes()).status,
            200
        );
    }
    assert_eq!(stage.items(), r#"{"n":2}"#);
    assert_eq!(
        stage.upload(&agent, &id, envelope(3).as_bytes()).status,
        200
    );
    let retry = [
        ("X-Request-ID", "6a8a2a2e-0000-4000-8000-000000000002"),
        ("x-ms-client-request-retry-count", "2"),
        ("x-ms-client-version", "2.0.0-1"),
    ];
    assert_eq!(
        stage.upload(&agent, &retry, envelope(2).as_bytes()).status,
        200
    );
    assert_eq!(stage.items(), r#"{"n":7}"#);
    let noted = stage.value(
        "SELECT request_id, retry_count, client_version, items FROM uploads ORDER BY id DESC LIMIT 1",
    );
    assert_eq!(
        noted,
        r#"{"request_id":"6a8a2a2e-0000-4000-8000-000000000002","retry_count":2,"client_version":"2.0.0-1","items":2}"#
    );
}

#[test]
fn counters_show_in_their_view_one_by_one() {
    let stage = Stage::new();
    let agent = stage.agent();
    // Texts as from OMI, numbers as from collectd (protocol.md 3.7), and an instance with none.
    let body = r#"{"DataType":"LINUX_PERF_BLOB","IPName":"LogManagement","DataItems":[
        {"Timestamp":"2031-08-09T10:11:12.345Z","Host":"db02","ObjectName":"Physical Disk",
         "InstanceName":"sda","Collections":[{"CounterName":"Avg. Disk sec/Read","Value":"1e-05"},
         {"CounterName":"Physical Disk Bytes/sec","Value":"87"}]},
        {"Host":"db02","ObjectName":"ps_state","InstanceName":"_Total",
         "Collections":[{"CounterName":"running.value","Value":2.5}]},
        {"Host":"db02","ObjectName":"Memory","InstanceName":"Memory","Collections":[]}]}"#;
    assert_eq!(stage.upload(&agent, &[], body.as_bytes()).status, 200);
    let rows = stage.value("SELECT count(*) AS n, sum(CounterValue) AS v FROM Perf");
    assert_eq!(rows, r#"{"n":3,"v":89.50001}"#);
    let row = stage.value("SELECT * FROM Perf ORDER BY CounterName LIMIT 1");
    let expected = format!(
        concat!(
            r#"{{"TimeGenerated":"2031-08-09T10:11:12.345Z","Computer":"db02","#,
            r#""ObjectName":"Physical Disk","InstanceName":"sda","#,
            r#""CounterName":"Avg. Disk sec/Read","CounterValue":0.00001,"WorkspaceId":"{}","#,
            r#""SourceComputerId":"{}"}}"#
        ),
        stage.ws, agent.guid
    );
    assert_eq!(row, expected);
}

#[test]
fn custom_json_is_filed_by_its_log_type() {
    let stage = Stage::new();
    let agent = stage.agent();
    let custom = format!("{UPLOAD}?api-version=2016-04-01");
    let headers = [
        ("Content-Type", "application/json"),
        ("Log-Type", "App"),
        ("Content-Encoding", "deflate"),
    ];
    let body = zlib(br#"[{"b":1.50,"a":"x"},{"Computer":"db02"}]"#);
    let request = post(&stage.host("ods"), &custom, &headers, &body);
    let answer = exchange(&mut stage.connect(Some(&agent)), &request);
    assert_eq!(answer.status, 200);
    let rows = stage.value("SELECT data_type, ip_name, item FROM items ORDER BY id LIMIT 1");
    assert_eq!(
        rows,
        r#"{"data_type":"App_CL","ip_name":"CustomJSON","item":"{\"b\":1.50,\"a\":\"x\"}"}"#
    );
    let named = stage.value("SELECT count(*) AS n FROM items WHERE computer = 'db02'");
    assert_eq!(named, r#"{"n":1}"#);
}
