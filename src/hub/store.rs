//! What the hub keeps of what agents send. One connection writes, one reads, each behind a lock;
//! other processes may read and change workspaces meanwhile. Who the agents are is `roster`'s.

use super::keys::{self, Keys};
use super::roster::Agent;
use super::{Folder, now, schema, workspaces};
use crate::base::ids::WorkspaceId;
use anyhow::Result;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, named_params};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One accepted body, about to be stored.
#[derive(Debug)]
pub(super) struct Upload<'a> {
    pub(super) agent: &'a Agent,
    /// `X-Request-ID`: new for each attempt of the original; the same when a proxy repeats one.
    pub(super) request_id: Option<&'a str>,
    /// `x-ms-client-request-retry-count`.
    pub(super) retry_count: Option<i64>,
    /// `x-ms-client-version`.
    pub(super) client_version: Option<&'a str>,
    /// Size of the body as it came, bytes.
    pub(super) body_bytes: usize,
    /// SHA-256 of the body as it came, base64.
    pub(super) body_sha256: String,
    pub(super) data_type: &'a str,
    pub(super) ip_name: &'a str,
    /// Computer and JSON text of each item.
    pub(super) items: Vec<(Option<String>, &'a str)>,
}

/// What became of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    /// The same request was stored before; nothing was done.
    Before,
    /// All its items are in.
    Now,
}

/// The database of a serving hub.
pub(super) struct Store {
    folder: Folder,
    reader: Mutex<Connection>,
    writer: Mutex<Connection>,
}

impl Store {
    pub(super) fn open(folder: &Folder) -> Result<Self> {
        let writer = schema::open(&folder.database())?;
        Ok(Store {
            folder: folder.clone(),
            reader: Mutex::new(schema::open_read_only(&folder.database())?),
            writer: Mutex::new(writer),
        })
    }

    /// For looking up.
    pub(super) fn reader(&self) -> MutexGuard<'_, Connection> {
        held(&self.reader)
    }

    /// For changing.
    pub(super) fn writer(&self) -> MutexGuard<'_, Connection> {
        held(&self.writer)
    }

    /// For changes that a power cut must not take back once they were acknowledged: an agent that
    /// threw its old certificate away would be a stranger.
    pub(super) fn durable_writer(&self) -> Result<Durable<'_>> {
        let db = self.writer();
        db.pragma_update(None, "synchronous", "FULL")?;
        Ok(Durable(db))
    }

    /// The shared keys of a workspace; `None` for one that is not known.
    pub(super) fn keys(&self, id: &WorkspaceId) -> Result<Option<Keys>> {
        if !workspaces::known(&self.reader(), id)? {
            return Ok(None);
        }
        keys::read(&self.folder, id).map(Some)
    }

    /// Stores an upload whole or not at all.
    pub(super) fn put(&self, upload: &Upload<'_>) -> Result<Stored> {
        let now = now();
        let ws = upload.agent.workspace.as_str();
        let guid = upload.agent.guid.as_str();
        let mut db = self.writer();
        let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if let Some(request_id) = upload.request_id
            && change
                .query_row(
                    "SELECT 1 FROM uploads WHERE request_id = ?1 AND workspace = ?2
                     AND agent_guid = ?3 AND body_sha256 = ?4",
                    (request_id, ws, guid, &upload.body_sha256),
                    |_| Ok(()),
                )
                .optional()?
                .is_some()
        {
            return Ok(Stored::Before);
        }
        change.execute(
            "INSERT INTO uploads (received_at, workspace, agent_guid, request_id, retry_count,
                 client_version, body_bytes, body_sha256, items)
             VALUES (:now, :ws, :guid, :request_id, :retry_count, :version, :bytes, :hash, :items)",
            named_params! {
                ":now": now,
                ":ws": ws,
                ":guid": guid,
                ":request_id": upload.request_id,
                ":retry_count": upload.retry_count,
                ":version": upload.client_version,
                ":bytes": i64::try_from(upload.body_bytes)?,
                ":hash": upload.body_sha256,
                ":items": i64::try_from(upload.items.len())?,
            },
        )?;
        let id = change.last_insert_rowid();
        {
            let mut insert = change.prepare(
                "INSERT INTO items (upload, received_at, workspace, agent_guid, computer,
                     data_type, ip_name, item)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?;
            for (computer, item) in &upload.items {
                let computer = computer.as_deref().unwrap_or(&upload.agent.computer);
                insert.execute((
                    id,
                    &now,
                    ws,
                    guid,
                    computer,
                    upload.data_type,
                    upload.ip_name,
                    item,
                ))?;
            }
        }
        change.execute(
            "UPDATE agents SET last_seen_at = ?3, last_upload_at = ?3,
                 version = coalesce(?4, version)
             WHERE workspace = ?1 AND guid = ?2",
            (ws, guid, &now, upload.client_version),
        )?;
        change.commit()?;
        Ok(Stored::Now)
    }

    /// Stores a telemetry report, JSON, as it came.
    pub(super) fn put_telemetry(
        &self,
        agent: &Agent,
        version: Option<&str>,
        report: &str,
    ) -> Result<()> {
        let now = now();
        let (ws, guid) = (agent.workspace.as_str(), agent.guid.as_str());
        let mut db = self.writer();
        let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        change.execute(
            "INSERT INTO telemetry (received_at, workspace, agent_guid, computer, report)
             VALUES (?1, ?2, ?3, ?4, ?5)",
            (&now, ws, guid, &agent.computer, report),
        )?;
        change.execute(
            "UPDATE agents SET last_seen_at = ?3, version = coalesce(?4, version)
             WHERE workspace = ?1 AND guid = ?2",
            (ws, guid, &now, version),
        )?;
        change.commit()?;
        Ok(())
    }
}

/// [`Store::writer`], with every commit on the disk before it returns.
pub(super) struct Durable<'a>(MutexGuard<'a, Connection>);

impl std::ops::Deref for Durable<'_> {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl std::ops::DerefMut for Durable<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

impl Drop for Durable<'_> {
    fn drop(&mut self) {
        // If it failed, commits would only be slower.
        let _ = self.0.pragma_update(None, "synchronous", "NORMAL");
    }
}

/// A statement that failed half-way was rolled back when its transaction was dropped, so a lock
/// left by a thread that died guards nothing broken.
fn held(db: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    db.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::roster::tests::{certificate, request, store};
    use super::*;

    #[test]
    fn a_workspace_that_is_not_there_has_no_keys() {
        let (_temp, store, ws) = store();
        let other = "01234567-89ab-cdef-0123-456789abcdef".parse().unwrap();
        assert!(store.keys(&other).unwrap().is_none());
        assert!(store.keys(&ws).unwrap().is_some());
    }

    #[test]
    fn durable_changes_wait_for_the_disk_and_others_do_not() {
        let (_temp, store, ws) = store();
        let level = |db: &Connection| -> i64 {
            db.pragma_query_value(None, "synchronous", |row| row.get(0))
                .unwrap()
        };
        assert_eq!(level(&store.writer()), 1);
        assert_eq!(level(&store.durable_writer().unwrap()), 2);
        assert_eq!(level(&store.writer()), 1);
        let registered = store.register(&ws, &request("one"), &certificate(&ws, 300), None);
        registered.unwrap().unwrap();
        assert_eq!(level(&store.writer()), 1);
    }

    #[test]
    fn a_repeated_request_is_stored_once() {
        let (_temp, store, ws) = store();
        let known = certificate(&ws, 300);
        let registered = store.register(&ws, &request("one"), &known, None);
        registered.unwrap().unwrap();
        let agent = store.agent(&ws, &known).unwrap().unwrap();
        let upload = |id, hash: &str| {
            let upload = Upload {
                agent: &agent,
                request_id: id,
                retry_count: Some(0),
                client_version: None,
                body_bytes: 1,
                body_sha256: hash.into(),
                data_type: "T",
                ip_name: "P",
                items: vec![(None, "{}"), (Some("other".into()), "{}")],
            };
            store.put(&upload).unwrap()
        };
        assert_eq!(upload(Some("a"), "h"), Stored::Now);
        assert_eq!(upload(Some("a"), "h"), Stored::Before);
        assert_eq!(upload(Some("a"), "another body"), Stored::Now);
        assert_eq!(upload(Some("b"), "h"), Stored::Now);
        assert_eq!(upload(None, "h"), Stored::Now);
        assert_eq!(upload(None, "h"), Stored::Now);
        let count = |computer: &str| -> i64 {
            let sql = "SELECT count(*) FROM items WHERE computer = ?1";
            store
                .reader()
                .query_row(sql, [computer], |row| row.get(0))
                .unwrap()
        };
        assert_eq!((count("one"), count("other")), (5, 5));
    }
}
