//! Custom logs, request by request (protocol.md 3.10).

use crate::stage::*;
use serde_json::{Value, json};

const PLACE: &str = "/ContainerService.svc/GetBlobUploadUri";
const NOTICE: &str = "/ContainerService.svc/PostBlobUploadNotification";
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// Asks where to write: path with query, blocks that are there, their size.
fn place(stage: &Stage, agent: &Agent, suffix: &str) -> (String, Value, u64) {
    let wish = json!({
        "ContainerType": "CustomLog",
        "DataTypeId": format!("CUSTOM_LOG_BLOB.App_CL_{}", stage.ws),
        "ExpiryDuration": "00:10:00",
        "Suffix": suffix,
    });
    let request = post(
        &stage.host("ods"),
        PLACE,
        &[JSON],
        wish.to_string().as_bytes(),
    );
    let answer = exchange(&mut stage.connect(Some(agent)), &request);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let said: Value = serde_json::from_slice(&answer.body).unwrap();
    let uri = said["Uri"].as_str().unwrap();
    let path = uri
        .strip_prefix(&format!("https://{}", stage.host("ods")))
        .unwrap();
    let size = said["Size"].as_u64().unwrap();
    (path.to_owned(), said["CommittedBlockList"].clone(), size)
}

fn put(stage: &Stage, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let request = post(&stage.host("ods"), path, headers, body);
    let request = [b"PUT", &request[4..]].concat();
    exchange(&mut stage.connect(None), &request)
}

fn notice(stage: &Stage, agent: &Agent, path: &str, from: u64, to: u64) -> u16 {
    let url = path.split('?').next().unwrap();
    let body = json!({
        "DataType": "BLOB_UPLOAD_NOTIFICATION",
        "IPName": "",
        "DataItems": [{ "BlobUrl": format!("https://x{url}"), "OriginalDataTypeId": "x",
            "StartOffset": from, "FileSize": to, "Etag": "" }],
    });
    let request = post(
        &stage.host("ods"),
        NOTICE,
        &[JSON],
        body.to_string().as_bytes(),
    );
    exchange(&mut stage.connect(Some(agent)), &request).status
}

fn list(committed: &[&str], new: &[&str]) -> String {
    let element = |name: &str, id: &&str| format!("<{name}>{id}\n</{name}>");
    let all = committed.iter().map(|id| element("Committed", id));
    let all = all.chain(new.iter().map(|id| element("Uncommitted", id)));
    format!("<BlockList>{}</BlockList>", all.collect::<String>())
}

#[test]
fn lines_become_rows_when_notice_is_given() {
    let stage = Stage::new();
    let agent = stage.agent();
    let (path, blocks, size) = place(&stage, &agent, "App/x.log");
    assert_eq!((blocks, size), (json!([]), 0));
    let block = |id: &str| format!("{path}&comp=block&blockid={id}");
    assert_eq!(
        put(&stage, &block("YQ=="), &[], b"one\r\n\xfftwo\r\n").status,
        201
    );
    let meta = [
        ("x-ms-meta-ComputerName", "web01"),
        ("x-ms-meta-FilePath", "/var/log/a%C3%A9.log"),
    ];
    let listed = format!("{path}&comp=blocklist");
    let answer = put(&stage, &listed, &meta, list(&[], &["YQ=="]).as_bytes());
    assert_eq!(answer.status, 201);
    assert!(
        answer.head.to_ascii_lowercase().contains("\r\netag: \"0x"),
        "{}",
        answer.head
    );
    assert_eq!(stage.items(), r#"{"n":0}"#, "not yet");
    assert_eq!(notice(&stage, &agent, &path, 0, 11), 200);
    let rows = stage.value("SELECT Computer, Type, RawData, FilePath FROM CustomLog");
    let row = |line: &str| {
        format!(
            r#"{{"Computer":"web01","Type":"App_CL","RawData":"{line}","FilePath":"/var/log/aé.log"}}"#
        )
    };
    assert_eq!(rows, format!("{}\n{}", row("one"), row("\u{fffd}two")));
    // The next block of the same day goes behind it; a block that is in no list does not count.
    let (path, blocks, size) = place(&stage, &agent, "App/x.log");
    assert_eq!((blocks, size), (json!(["YQ=="]), 11));
    let block = |id: &str| format!("{path}&comp=block&blockid={id}");
    assert_eq!(put(&stage, &block("Yg=="), &[], b"lost\r\n").status, 201);
    assert_eq!(put(&stage, &block("Yw=="), &[], b"three\r\n").status, 201);
    let listed = format!("{path}&comp=blocklist");
    assert_eq!(
        put(&stage, &listed, &[], list(&["YQ=="], &["Yw=="]).as_bytes()).status,
        201
    );
    assert_eq!(notice(&stage, &agent, &path, 11, 18), 200);
    assert_eq!(stage.items(), r#"{"n":3}"#);
    let (_, blocks, size) = place(&stage, &agent, "App/x.log");
    assert_eq!((blocks, size), (json!(["YQ==", "Yw=="]), 18));
    let (_, blocks, _) = place(&stage, &agent, "App/other.log");
    assert_eq!(blocks, json!([]));
}

#[test]
fn what_is_not_as_it_should_be_is_refused() {
    let stage = Stage::new();
    let (agent, other) = (stage.agent(), stage.agent());
    let (path, _, _) = place(&stage, &agent, "App/x.log");
    let wrong = path.replace("sig=", "sig=0");
    let block = format!("{wrong}&comp=block&blockid=YQ==");
    assert_eq!(put(&stage, &block, &[], b"x").status, 403);
    let none = path.split('?').next().unwrap();
    assert_eq!(
        put(&stage, &format!("{none}?comp=block&blockid=a"), &[], b"x").status,
        404
    );
    assert_eq!(put(&stage, &path, &[], b"x").status, 400);
    assert_eq!(
        put(&stage, &format!("{path}&comp=block&blockid="), &[], b"x").status,
        400
    );
    let listed = format!("{path}&comp=blocklist");
    assert_eq!(
        put(&stage, &listed, &[], list(&[], &["YQ=="]).as_bytes()).status,
        400
    );
    assert_eq!(put(&stage, &listed, &[], b"rubbish").status, 400);
    assert_eq!(
        notice(&stage, &agent, &path, 0, 1),
        400,
        "more than there is"
    );
    assert_eq!(notice(&stage, &other, &path, 0, 0), 400, "another agent's");
    let request = post(&stage.host("ods"), PLACE, &[JSON], b"{}");
    assert_eq!(
        exchange(&mut stage.connect(Some(&agent)), &request).status,
        400
    );
    assert_eq!(exchange(&mut stage.connect(None), &request).status, 403);
    assert_eq!(stage.items(), r#"{"n":0}"#);
}
