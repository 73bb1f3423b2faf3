//! The tables and views of `hub.db`, and how an older one becomes a current one.

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;

/// `PRAGMA user_version` of a database this program writes.
const VERSION: i64 = 1;

/// From version 0 (an empty file) to version 1.
const VERSION_1: &str = "
CREATE TABLE workspaces (
    id          TEXT PRIMARY KEY COLLATE NOCASE,
    name        TEXT,
    created_at  TEXT NOT NULL
);
CREATE TABLE agents (
    workspace       TEXT NOT NULL COLLATE NOCASE REFERENCES workspaces (id),
    guid            TEXT NOT NULL COLLATE NOCASE,
    computer        TEXT NOT NULL,
    os_name         TEXT,
    os_version      TEXT,
    os_manufacturer TEXT,
    onboarded_at    TEXT NOT NULL,
    last_seen_at    TEXT NOT NULL,
    PRIMARY KEY (workspace, guid)
);
CREATE TABLE certificates (
    workspace   TEXT NOT NULL COLLATE NOCASE,
    thumbprint  TEXT NOT NULL,
    agent_guid  TEXT NOT NULL COLLATE NOCASE,
    added_at    TEXT NOT NULL,
    PRIMARY KEY (workspace, thumbprint),
    FOREIGN KEY (workspace, agent_guid) REFERENCES agents (workspace, guid)
);
CREATE INDEX certificates_by_agent ON certificates (workspace, agent_guid);
CREATE TABLE uploads (
    id             INTEGER PRIMARY KEY,
    received_at    TEXT NOT NULL,
    workspace      TEXT NOT NULL COLLATE NOCASE,
    agent_guid     TEXT NOT NULL COLLATE NOCASE,
    request_id     TEXT,
    retry_count    INTEGER,
    client_version TEXT,
    body_bytes     INTEGER NOT NULL,
    body_sha256    TEXT NOT NULL,
    items          INTEGER NOT NULL
);
CREATE INDEX uploads_by_request ON uploads (request_id);
CREATE TABLE items (
    id          INTEGER PRIMARY KEY,
    upload      INTEGER NOT NULL REFERENCES uploads (id),
    received_at TEXT NOT NULL,
    workspace   TEXT NOT NULL COLLATE NOCASE,
    agent_guid  TEXT NOT NULL COLLATE NOCASE,
    computer    TEXT NOT NULL,
    data_type   TEXT NOT NULL COLLATE NOCASE,
    ip_name     TEXT NOT NULL COLLATE NOCASE,
    item        TEXT NOT NULL
);
CREATE INDEX items_by_type ON items (data_type, id);
CREATE VIEW Syslog AS SELECT
    coalesce(item ->> '$.Timestamp', received_at)  AS TimeGenerated,
    item ->> '$.EventTime'                         AS EventTime,
    computer                                       AS Computer,
    item ->> '$.HostIP'                            AS HostIP,
    item ->> '$.Facility'                          AS Facility,
    item ->> '$.Severity'                          AS SeverityLevel,
    item ->> '$.ident'                             AS ProcessName,
    CAST(item ->> '$.ProcessId' AS INTEGER)        AS ProcessID,
    item ->> '$.Message'                           AS SyslogMessage,
    workspace                                      AS WorkspaceId,
    agent_guid                                     AS SourceComputerId
FROM items WHERE data_type = 'LINUX_SYSLOGS_BLOB';
CREATE VIEW Heartbeat AS SELECT
    coalesce(item ->> '$.Timestamp', received_at)  AS TimeGenerated,
    computer                                       AS Computer,
    item ->> '$.OSType'                            AS OSType,
    item ->> '$.OSName'                            AS OSName,
    item ->> '$.OSMajorVersion'                    AS OSMajorVersion,
    item ->> '$.OSMinorVersion'                    AS OSMinorVersion,
    item ->> '$.Version'                           AS Version,
    item ->> '$.Category'                          AS Category,
    item ->> '$.SCAgentChannel'                    AS SCAgentChannel,
    item ->> '$.ComputerPrivateIps'                AS ComputerPrivateIPs,
    workspace                                      AS WorkspaceId,
    agent_guid                                     AS SourceComputerId
FROM items WHERE data_type = 'HEALTH_ASSESSMENT_BLOB';
PRAGMA user_version = 1;
";

/// How long a statement waits for another process that writes.
const BUSY: Duration = Duration::from_secs(10);

/// Opens `path` for reading and writing and brings it to the current version.
pub(super) fn open(path: &Path) -> Result<Connection> {
    let what = || format!("cannot open the database `{}`", path.display());
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags).with_context(what)?;
    db.busy_timeout(BUSY).with_context(what)?;
    db.pragma_update(None, "journal_mode", "WAL")
        .with_context(what)?;
    // What was acknowledged survives the process, killed or not. A power cut may take the last
    // moments with it, never the file's soundness; docs/hub.md says so.
    db.pragma_update(None, "synchronous", "NORMAL")
        .with_context(what)?;
    db.pragma_update(None, "foreign_keys", true)
        .with_context(what)?;
    let change = db
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .with_context(what)?;
    if version(&change).with_context(what)? == 0 {
        change.execute_batch(VERSION_1).with_context(what)?;
    }
    check(&change, path)?;
    change.commit().with_context(what)?;
    Ok(db)
}

/// Opens `path` so that nothing can be written through it.
pub(super) fn open_read_only(path: &Path) -> Result<Connection> {
    let what = || format!("cannot open the database `{}`", path.display());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).with_context(what)?;
    db.busy_timeout(BUSY).with_context(what)?;
    db.pragma_update(None, "query_only", true)
        .with_context(what)?;
    check(&db, path)?;
    Ok(db)
}

fn version(db: &Connection) -> rusqlite::Result<i64> {
    db.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn check(db: &Connection, path: &Path) -> Result<()> {
    match version(db).with_context(|| format!("cannot read `{}`", path.display()))? {
        VERSION => Ok(()),
        0 => bail!(
            "`{}` is still empty: add a workspace or start the hub first",
            path.display()
        ),
        newer => bail!(
            "`{}` has schema version {newer}, this program knows {VERSION}: use the newer omsagent",
            path.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_database_is_not_touched() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("hub.db");
        std::fs::write(&path, "").unwrap();
        assert!(
            open_read_only(&path)
                .unwrap_err()
                .to_string()
                .contains("empty")
        );
        let db = open(&path).unwrap();
        open_read_only(&path).unwrap();
        db.pragma_update(None, "user_version", 2).unwrap();
        assert!(open(&path).unwrap_err().to_string().contains("version 2"));
        assert!(
            open_read_only(&path)
                .unwrap_err()
                .to_string()
                .contains("version 2")
        );
    }

    #[test]
    fn what_is_no_database_is_an_error() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("hub.db");
        std::fs::write(&path, "x".repeat(5000)).unwrap();
        assert!(open(&path).is_err());
        assert!(open_read_only(&path).is_err());
    }
}
