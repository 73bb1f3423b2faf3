//! Custom logs: lines that an agent appends to a blob, block by block, and then gives notice of
//! (protocol.md 3.10). Notice makes them rows; a block that is in no list, or of which no notice came,
//! makes none.

use super::http::{self, Head, Response};
use super::roster::Agent;
use super::routes::{Peer, Place};
use super::store::{Store, Upload};
use super::{now, printable};
use crate::wire::signature::content_hash;
use anyhow::{Context, Result, bail};
use rusqlite::{OptionalExtension, TransactionBehavior};
use serde::Deserialize;

/// Where blobs are; lower case.
pub(super) const FOLDER: &str = "/blobs/";

/// Largest request for a place and largest notice, bytes.
pub(super) const REQUEST_LIMIT: usize = 64 << 10;

/// Longest `DataTypeId`, `Suffix`, id of a block or path of a file, bytes.
const NAME_LIMIT: usize = 1024;

/// Most blocks of one blob.
const BLOCKS_LIMIT: usize = 50_000;

/// A token is good for so long, seconds, whatever was asked for.
const EXPIRY_LIMIT: u64 = 3600;

/// Rows that are stored at once.
const ROWS: usize = 10_000;

/// Blocks of which no notice came are kept so long, seconds.
const KEPT: i64 = 2 * 86_400;

/// A blob that somebody has the token of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    blob: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wish {
    data_type_id: String,
    #[serde(default)]
    expiry_duration: String,
    suffix: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Notice {
    data_items: Vec<Part>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Part {
    blob_url: String,
    start_offset: u64,
    file_size: u64,
}

/// Step 1: where to write.
pub(super) fn place(store: &Store, place: &Place, agent: &Agent, body: &[u8]) -> Response {
    let wish: Wish = match serde_json::from_slice(body) {
        Ok(wish) => wish,
        Err(error) => return refused(agent, 400, &error.to_string()),
    };
    let sane =
        |text: &str| (1..=NAME_LIMIT).contains(&text.len()) && !text.chars().any(char::is_control);
    if !sane(&wish.data_type_id) || !sane(&wish.suffix) {
        return refused(agent, 400, "DataTypeId or Suffix cannot be used");
    }
    match open(store, agent, &wish) {
        Ok((blob, token, blocks, size)) => {
            let answer = serde_json::json!({
                "Uri": format!("https://{}{FOLDER}{blob}?sig={token}", place.authority),
                "CommittedBlockList": blocks,
                "Size": size,
            });
            Response::new(200, "application/json", answer.to_string())
        }
        Err(error) => failed(&error),
    }
}

fn open(store: &Store, agent: &Agent, wish: &Wish) -> Result<(i64, String, Vec<String>, i64)> {
    let (ws, guid) = (agent.workspace.as_str(), agent.guid.as_str());
    let token = format!(
        "{}{}",
        uuid::Uuid::new_v4().simple(),
        uuid::Uuid::new_v4().simple()
    );
    let seconds = jiff::Timestamp::now().as_second();
    let expires = seconds + i64::try_from(expiry(&wish.expiry_duration))?;
    let mut db = store.writer();
    let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let blob: i64 = change.query_row(
        "INSERT INTO blobs (workspace, agent_guid, data_type, suffix, token, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET token = excluded.token, expires_at = excluded.expires_at
         RETURNING id",
        (ws, guid, &wish.data_type_id, &wish.suffix, &token, expires),
        |row| row.get(0),
    )?;
    // What was written and never listed, or listed and never told of.
    change.execute(
        "DELETE FROM blob_blocks WHERE place IS NULL AND blob IN
             (SELECT id FROM blobs WHERE expires_at < ?1)",
        [seconds - KEPT],
    )?;
    change.execute(
        "UPDATE blob_blocks SET body = NULL WHERE body IS NOT NULL AND blob IN
             (SELECT id FROM blobs WHERE expires_at < ?1)",
        [seconds - KEPT],
    )?;
    let blocks = listed(&change, blob)?;
    change.commit()?;
    let size = blocks.iter().map(|b| b.size).sum();
    let ids = blocks.into_iter().map(|b| b.id).collect();
    Ok((blob, token, ids, size))
}

struct Block {
    id: String,
    size: i64,
}

fn listed(db: &rusqlite::Connection, blob: i64) -> Result<Vec<Block>> {
    let mut statement = db.prepare(
        "SELECT block, size FROM blob_blocks WHERE blob = ?1 AND place IS NOT NULL ORDER BY place",
    )?;
    let blocks = statement.query_map([blob], |row| {
        Ok(Block {
            id: row.get(0)?,
            size: row.get(1)?,
        })
    })?;
    Ok(blocks.collect::<Result<_, _>>()?)
}

/// `hh:mm:ss` as seconds; ten minutes when it says nothing.
fn expiry(text: &str) -> u64 {
    let parts: Vec<Option<u64>> = text.split(':').map(|p| p.parse().ok()).collect();
    let seconds = match parts[..] {
        [Some(hours), Some(minutes), Some(seconds)] => hours
            .saturating_mul(3600)
            .saturating_add(minutes.saturating_mul(60))
            .saturating_add(seconds),
        _ => 600,
    };
    seconds.clamp(1, EXPIRY_LIMIT)
}

/// Whether the bearer of the token may write. The token is all there is to know of it.
pub(super) fn admit(store: &Store, head: &Head, peer: &Peer) -> Result<Target, Response> {
    let blob = head.path.get(FOLDER.len()..).and_then(|id| id.parse().ok());
    let token = value(&head.query, "sig");
    let (Some(blob), Some(token)) = (blob, token) else {
        return Err(Response::text(404, "there is no such blob\n"));
    };
    let now = jiff::Timestamp::now().as_second();
    let found = store.reader().query_row(
        "SELECT token, expires_at, EXISTS (SELECT 1 FROM workspaces w WHERE w.id = blobs.workspace
             AND w.disabled_at IS NULL) FROM blobs WHERE id = ?1",
        [blob],
        |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, bool>(2)?,
            ))
        },
    );
    match found.optional() {
        Ok(Some((wanted, expires, open))) if same(&wanted, token) && expires >= now && open => {
            Ok(Target { blob })
        }
        Ok(_) => {
            log::warn!("refused block peer={} blob={blob}", peer.address);
            Err(Response::text(403, "the token is not good, or no longer\n"))
        }
        Err(error) => Err(failed(&error.into())),
    }
}

/// Takes as long whatever is different.
fn same(a: &str, b: &str) -> bool {
    content_hash(a.as_bytes()) == content_hash(b.as_bytes())
}

/// The value of a key of a query.
fn value<'q>(query: &'q str, key: &str) -> Option<&'q str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
}

/// Steps 2 and 3: a block, or the list of blocks.
pub(super) fn put(store: &Store, target: &Target, head: &Head, body: &[u8]) -> Response {
    let done = match value(&head.query, "comp") {
        Some("block") => {
            let id = value(&head.query, "blockid").unwrap_or_default();
            let id = id
                .replace("%3D", "=")
                .replace("%2B", "+")
                .replace("%2F", "/");
            if id.is_empty() || id.len() > NAME_LIMIT {
                return Response::text(400, "blockid cannot be used\n");
            }
            write_block(store, target, &id, body).map(|()| None)
        }
        Some("blocklist") => list_blocks(store, target, head, body).map(Some),
        _ => return Response::text(400, "comp must be block or blocklist\n"),
    };
    match done {
        Ok(None) => Response::empty(201),
        Ok(Some(Ok(etag))) => Response::empty(201).with("ETag", &format!("\"{etag}\"")),
        Ok(Some(Err(why))) => Response::text(400, &format!("{why}\n")),
        Err(error) => failed(&error),
    }
}

fn write_block(store: &Store, target: &Target, id: &str, body: &[u8]) -> Result<()> {
    let size = i64::try_from(body.len())?;
    // A block that is in the list already is what it is.
    store.writer().execute(
        "INSERT INTO blob_blocks (blob, block, received_at, size, body) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET size = excluded.size, body = excluded.body WHERE place IS NULL",
        (target.blob, id, now(), size, body),
    )?;
    Ok(())
}

/// The tag of the new content, or why there is none.
fn list_blocks(
    store: &Store,
    target: &Target,
    head: &Head,
    body: &[u8],
) -> Result<Result<String, String>> {
    let text = String::from_utf8_lossy(body);
    let ids = match block_ids(&text) {
        Ok(ids) => ids,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let short = |name: &str| {
        let value = head.header(name).map(decoded);
        value.filter(|v| !v.is_empty() && v.len() <= NAME_LIMIT)
    };
    let mut db = store.writer();
    let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    change.execute(
        "UPDATE blob_blocks SET place = NULL WHERE blob = ?1",
        [target.blob],
    )?;
    {
        let mut set =
            change.prepare("UPDATE blob_blocks SET place = ?3 WHERE blob = ?1 AND block = ?2")?;
        for (place, id) in ids.iter().enumerate() {
            if set.execute((target.blob, id, i64::try_from(place)?))? == 0 {
                return Ok(Err(format!("there is no block {}", printable(id))));
            }
        }
    }
    change.execute(
        "UPDATE blobs SET computer = coalesce(?2, computer), file_path = coalesce(?3, file_path)
         WHERE id = ?1",
        (
            target.blob,
            short("x-ms-meta-computername"),
            short("x-ms-meta-filepath"),
        ),
    )?;
    change.commit()?;
    Ok(Ok(format!("0x{:X}{:08X}", target.blob, ids.len())))
}

fn block_ids(text: &str) -> Result<Vec<String>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let document = roxmltree::Document::parse(text).context("the list is no XML")?;
    if document.root_element().tag_name().name() != "BlockList" {
        bail!("the list is no BlockList");
    }
    let mut ids = Vec::new();
    for node in document
        .root_element()
        .children()
        .filter(|n| n.is_element())
    {
        if ids.len() == BLOCKS_LIMIT {
            bail!("more than {BLOCKS_LIMIT} blocks");
        }
        ids.push(node.text().unwrap_or_default().trim().to_owned());
    }
    Ok(ids)
}

/// `%XX` as the byte it stands for.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|d| std::str::from_utf8(d).ok());
        let byte = digits.and_then(|d| u8::from_str_radix(d, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            _ => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Step 4: the bytes from `StartOffset` to `FileSize` become rows.
pub(super) fn notice(store: &Store, agent: &Agent, head: &Head, body: &[u8]) -> Response {
    let notice: Notice = match serde_json::from_slice(body) {
        Ok(notice) => notice,
        Err(error) => return refused(agent, 400, &error.to_string()),
    };
    for part in &notice.data_items {
        match take(store, agent, head, part) {
            Ok(Some(rows)) => log::info!(
                "custom log workspace={} agent={} rows={rows}",
                agent.workspace,
                agent.guid
            ),
            Ok(None) => return refused(agent, 400, "there is no such blob, or not so much in it"),
            Err(error) => return failed(&error),
        }
    }
    Response::empty(200)
}

/// How many rows it made; `None`: it is not what the agent says.
fn take(store: &Store, agent: &Agent, head: &Head, part: &Part) -> Result<Option<usize>> {
    let (ws, guid) = (agent.workspace.as_str(), agent.guid.as_str());
    let id = part.blob_url.split('?').next().unwrap_or_default();
    let Some(blob) = id.rsplit('/').next().and_then(|id| id.parse::<i64>().ok()) else {
        return Ok(None);
    };
    let found = store
        .reader()
        .query_row(
            "SELECT data_type, computer, file_path FROM blobs
             WHERE id = ?1 AND workspace = ?2 AND agent_guid = ?3",
            (blob, ws, guid),
            |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, Option<String>>(1)?,
                    row.get::<_, Option<String>>(2)?,
                ))
            },
        )
        .optional()?;
    let Some((data_type, computer, file_path)) = found else {
        return Ok(None);
    };
    let Some(bytes) = range(store, blob, part.start_offset, part.file_size)? else {
        return Ok(None);
    };
    let computer = computer.unwrap_or_else(|| agent.computer.clone());
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.split('\n').map(|l| l.strip_suffix('\r').unwrap_or(l));
    let lines: Vec<&str> = lines.filter(|l| !l.is_empty()).collect();
    let table = table(&data_type);
    for lines in lines.chunks(ROWS) {
        let row = |line: &&str| {
            serde_json::json!({ "RawData": line, "Computer": computer, "FilePath": file_path })
                .to_string()
        };
        let rows: Vec<String> = lines.iter().map(row).collect();
        let upload = Upload {
            agent,
            request_id: None,
            retry_count: None,
            client_version: head.client_version(),
            body_bytes: lines.iter().map(|l| l.len() + 2).sum(),
            body_sha256: content_hash(lines.concat().as_bytes()),
            data_type: table,
            ip_name: "CustomLog",
            items: rows
                .iter()
                .map(|r| (Some(computer.clone()), r.as_str()))
                .collect(),
        };
        store.put(&upload)?;
    }
    // They are rows now.
    store.writer().execute(
        "UPDATE blob_blocks SET body = NULL WHERE blob = ?1 AND place IS NOT NULL",
        [blob],
    )?;
    Ok(Some(lines.len()))
}

/// The bytes of a blob from one offset to another; `None` when it has not so many, or has forgotten
/// them.
fn range(store: &Store, blob: i64, from: u64, to: u64) -> Result<Option<Vec<u8>>> {
    let db = store.reader();
    let mut statement = db.prepare(
        "SELECT size, body FROM blob_blocks WHERE blob = ?1 AND place IS NOT NULL ORDER BY place",
    )?;
    let mut blocks = statement.query([blob])?;
    let (mut at, mut bytes) = (0_u64, Vec::new());
    while let Some(row) = blocks.next()? {
        let size = u64::try_from(row.get::<_, i64>(0)?)?;
        let (begin, end) = (from.max(at), to.min(at + size));
        if begin < end {
            let Some(body) = row.get::<_, Option<Vec<u8>>>(1)? else {
                return Ok(None);
            };
            let part = usize::try_from(begin - at)?..usize::try_from(end - at)?;
            bytes.extend_from_slice(body.get(part).unwrap_or_default());
        }
        at += size;
    }
    Ok((at >= to && from <= to).then_some(bytes))
}

/// `CUSTOM_LOG_BLOB.App_CL_<workspace>` is the table `App_CL`.
fn table(data_type: &str) -> &str {
    let name = data_type.rsplit('.').next().unwrap_or(data_type);
    match name.rsplit_once('_') {
        Some((name, id)) if id.parse::<crate::base::ids::WorkspaceId>().is_ok() => name,
        _ => name,
    }
}

fn refused(agent: &Agent, status: u16, why: &str) -> Response {
    log::warn!(
        "refused custom log workspace={} agent={} status={status} reason={}",
        agent.workspace,
        agent.guid,
        printable(why)
    );
    Response::text(status, &format!("{}\n", printable(why)))
}

fn failed(error: &anyhow::Error) -> Response {
    log::error!("cannot store a custom log: {error:#}");
    http::no_room()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_times() {
        let ws = "01234567-89ab-cdef-0123-456789abcdef";
        assert_eq!(table(&format!("CUSTOM_LOG_BLOB.App_CL_{ws}")), "App_CL");
        assert_eq!(table("CUSTOM_LOG_BLOB.App_CL"), "App_CL");
        assert_eq!(table("OTHER"), "OTHER");
        for (text, seconds) in [
            ("00:10:00", 600),
            ("", 600),
            ("00:00:00", 1),
            ("01:00:01", 3600),
            ("99999999999999999999:0:0", 600),
            ("18446744073709551615:18446744073709551615:0", 3600),
        ] {
            assert_eq!(expiry(text), seconds, "{text}");
        }
    }

    #[test]
    fn lists_of_blocks() {
        let text = "\u{feff}<BlockList><Committed>YQ==</Committed><Uncommitted>Yg==\n</Uncommitted></BlockList>";
        assert_eq!(block_ids(text).unwrap(), ["YQ==", "Yg=="]);
        let many = |n: usize| format!("<BlockList>{}</BlockList>", "<Latest>x</Latest>".repeat(n));
        assert_eq!(block_ids(&many(BLOCKS_LIMIT)).unwrap().len(), BLOCKS_LIMIT);
        assert!(block_ids(&many(BLOCKS_LIMIT + 1)).is_err());
        for bad in ["", "<a/>", "<BlockList>"] {
            assert!(block_ids(bad).is_err(), "{bad}");
        }
        assert_eq!(decoded("/a%20b%C3%A9%2"), "/a b\u{e9}%2");
        assert_eq!(value("sig=a&comp=block", "comp"), Some("block"));
    }
}
