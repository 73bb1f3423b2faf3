//! What the hub keeps: agents, their certificates, and what they upload. One connection writes,
//! one reads, each behind a lock; other processes may read and add workspaces meanwhile.

use super::{Folder, now, schema, workspaces};
use crate::base::ids::{AgentGuid, WorkspaceId};
use crate::wire::topology::TopologyRequest;
use anyhow::Result;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, named_params};
use std::sync::{Mutex, MutexGuard, PoisonError};
use zeroize::Zeroizing;

/// An agent that has onboarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Agent {
    pub(super) workspace: WorkspaceId,
    pub(super) guid: AgentGuid,
    /// Its host's full name.
    pub(super) computer: String,
}

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

    /// The shared key of a workspace; `None` for one that is not known.
    pub(super) fn key(&self, id: &WorkspaceId) -> Result<Option<Zeroizing<Vec<u8>>>> {
        if !workspaces::known(&held(&self.reader), id)? {
            return Ok(None);
        }
        workspaces::key(&self.folder, id).map(Some)
    }

    /// The agent a certificate was registered for.
    pub(super) fn agent(&self, ws: &WorkspaceId, thumbprint: &str) -> Result<Option<Agent>> {
        let found: Option<(String, String)> = held(&self.reader)
            .query_row(
                "SELECT a.guid, a.computer FROM certificates c
                 JOIN agents a ON a.workspace = c.workspace AND a.guid = c.agent_guid
                 WHERE c.workspace = ?1 AND c.thumbprint = ?2",
                (ws.as_str(), thumbprint),
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        let Some((guid, computer)) = found else {
            return Ok(None);
        };
        Ok(Some(Agent {
            workspace: ws.clone(),
            guid: guid.parse()?,
            computer,
        }))
    }

    /// Registers an agent and its certificate. Its earlier certificates are no longer valid.
    pub(super) fn register(
        &self,
        ws: &WorkspaceId,
        request: &TopologyRequest,
        thumbprint: &str,
    ) -> Result<()> {
        let now = now();
        let mut db = held(&self.writer);
        let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        put_agent(&change, ws, request, &now)?;
        let guid = request.entity_id.as_str();
        change.execute(
            "DELETE FROM certificates WHERE workspace = ?1 AND agent_guid = ?2",
            (ws.as_str(), guid),
        )?;
        change.execute(
            "INSERT INTO certificates (workspace, thumbprint, agent_guid, added_at)
             VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET agent_guid = excluded.agent_guid",
            (ws.as_str(), thumbprint, guid, &now),
        )?;
        change.commit()?;
        Ok(())
    }

    /// Notes a topology heartbeat.
    pub(super) fn seen(&self, ws: &WorkspaceId, request: &TopologyRequest) -> Result<()> {
        put_agent(&held(&self.writer), ws, request, &now())?;
        Ok(())
    }

    /// Stores an upload whole or not at all.
    pub(super) fn put(&self, upload: &Upload<'_>) -> Result<Stored> {
        let now = now();
        let ws = upload.agent.workspace.as_str();
        let guid = upload.agent.guid.as_str();
        let mut db = held(&self.writer);
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
            "UPDATE agents SET last_seen_at = ?3 WHERE workspace = ?1 AND guid = ?2",
            (ws, guid, &now),
        )?;
        change.commit()?;
        Ok(Stored::Now)
    }
}

/// Adds an agent or brings what is known of it up to date. What a request leaves out is kept.
fn put_agent(
    db: &Connection,
    ws: &WorkspaceId,
    request: &TopologyRequest,
    now: &str,
) -> rusqlite::Result<usize> {
    let os = request.os.as_ref();
    db.execute(
        "INSERT INTO agents (workspace, guid, computer, os_name, os_version, os_manufacturer,
             onboarded_at, last_seen_at)
         VALUES (:ws, :guid, :computer, :name, :version, :manufacturer, :now, :now)
         ON CONFLICT DO UPDATE SET
             computer = excluded.computer,
             os_name = coalesce(excluded.os_name, os_name),
             os_version = coalesce(excluded.os_version, os_version),
             os_manufacturer = coalesce(excluded.os_manufacturer, os_manufacturer),
             last_seen_at = excluded.last_seen_at",
        named_params! {
            ":ws": ws.as_str().to_ascii_lowercase(),
            ":guid": request.entity_id.as_str().to_ascii_lowercase(),
            ":computer": request.fqdn,
            ":name": os.map(|os| &os.name),
            ":version": os.map(|os| &os.version),
            ":manufacturer": os.map(|os| &os.manufacturer),
            ":now": now,
        },
    )
}

/// A statement that failed half-way was rolled back when its transaction was dropped, so a lock
/// left by a thread that died guards nothing broken.
fn held(db: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    db.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::{NewWorkspace, Workspaces};
    use super::*;

    fn store() -> (tempfile::TempDir, Store, WorkspaceId) {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::make(&temp.path().join("hub")).unwrap();
        let mut all = Workspaces::open(&folder).unwrap();
        let (ws, _) = all.add(NewWorkspace::default()).unwrap();
        (temp, Store::open(&folder).unwrap(), ws)
    }

    fn request(fqdn: &str) -> TopologyRequest {
        TopologyRequest {
            fqdn: fqdn.into(),
            entity_id: "0B6C1F3E-1111-4222-8333-444455556666".parse().unwrap(),
            certificate_base64: String::new(),
            os: None,
        }
    }

    #[test]
    fn a_new_certificate_replaces_the_old_one() {
        let (_temp, store, ws) = store();
        store.register(&ws, &request("one"), "t1").unwrap();
        assert_eq!(store.agent(&ws, "t1").unwrap().unwrap().computer, "one");
        store.register(&ws, &request("two"), "t2").unwrap();
        assert_eq!(store.agent(&ws, "t1").unwrap(), None);
        assert_eq!(store.agent(&ws, "t2").unwrap().unwrap().computer, "two");
        store.register(&ws, &request("two"), "t2").unwrap();
        let elsewhere = "01234567-89ab-cdef-0123-456789abcdef".parse().unwrap();
        assert_eq!(store.agent(&elsewhere, "t2").unwrap(), None);
    }

    #[test]
    fn a_workspace_that_is_not_there_has_no_key_and_no_agents() {
        let (_temp, store, ws) = store();
        let other = "01234567-89ab-cdef-0123-456789abcdef".parse().unwrap();
        assert!(store.key(&other).unwrap().is_none());
        assert!(store.key(&ws).unwrap().is_some());
        assert!(store.register(&other, &request("one"), "t").is_err());
    }

    #[test]
    fn a_repeated_request_is_stored_once() {
        let (_temp, store, ws) = store();
        store.register(&ws, &request("one"), "t").unwrap();
        let agent = store.agent(&ws, "t").unwrap().unwrap();
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
            held(&store.reader)
                .query_row(sql, [computer], |row| row.get(0))
                .unwrap()
        };
        assert_eq!((count("one"), count("other")), (5, 5));
    }
}
