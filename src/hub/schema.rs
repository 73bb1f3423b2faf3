//! The tables and views of `hub.db`, and how an older one becomes a current one.

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;

/// `PRAGMA user_version` of a database this program writes.
const VERSION: i64 = 4;

/// What makes each version of the one before it; the first of an empty file.
const STEPS: [&str; VERSION as usize] = [VERSION_1, VERSION_2, VERSION_3, VERSION_4];

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

/// Additions only: a hub of version 1 that still serves goes on working.
const VERSION_2: &str = "
ALTER TABLE workspaces ADD COLUMN disabled_at TEXT;
ALTER TABLE agents ADD COLUMN version TEXT;
ALTER TABLE agents ADD COLUMN last_upload_at TEXT;
ALTER TABLE agents ADD COLUMN renewal_asked_at TEXT;
ALTER TABLE agents ADD COLUMN disabled_at TEXT;
UPDATE agents SET last_upload_at = u.received_at, version = u.client_version
FROM (SELECT workspace, agent_guid, received_at, client_version, max(id) FROM uploads
      GROUP BY workspace, agent_guid) u
WHERE u.workspace = agents.workspace AND u.agent_guid = agents.guid;
ALTER TABLE certificates ADD COLUMN not_after TEXT;
ALTER TABLE certificates ADD COLUMN pending INTEGER NOT NULL DEFAULT 0;
CREATE TABLE telemetry (
    id          INTEGER PRIMARY KEY,
    received_at TEXT NOT NULL,
    workspace   TEXT NOT NULL COLLATE NOCASE,
    agent_guid  TEXT NOT NULL COLLATE NOCASE,
    computer    TEXT NOT NULL,
    report      TEXT NOT NULL
);
CREATE VIEW AgentTelemetry AS SELECT
    received_at                                            AS TimeGenerated,
    computer                                               AS Computer,
    report ->> '$.OSType'                                  AS OSType,
    report ->> '$.OSDistro'                                AS OSDistro,
    report ->> '$.OSVersion'                               AS OSVersion,
    trim(report ->> '$.ProcessorArchitecture', ' ' || char(9, 10, 13)) AS ProcessorArchitecture,
    report ->> '$.Region'                                  AS Region,
    report ->> '$.ResourceId'                              AS ResourceId,
    report ->> '$.ConfigMgrEnabled'                        AS ConfigMgrEnabled,
    report ->> '$.AgentResourceUsage.OMSMaxMemory'         AS OMSMaxMemory,
    report ->> '$.AgentResourceUsage.OMSAvgMemory'         AS OMSAvgMemory,
    report ->> '$.AgentResourceUsage.OMSMaxPercentMemory'  AS OMSMaxPercentMemory,
    report ->> '$.AgentResourceUsage.OMSAvgPercentMemory'  AS OMSAvgPercentMemory,
    report ->> '$.AgentResourceUsage.OMSMaxUserTime'       AS OMSMaxUserTime,
    report ->> '$.AgentResourceUsage.OMSAvgUserTime'       AS OMSAvgUserTime,
    report ->> '$.AgentResourceUsage.OMSMaxSystemTime'     AS OMSMaxSystemTime,
    report ->> '$.AgentResourceUsage.OMSAvgSystemTime'     AS OMSAvgSystemTime,
    workspace                                              AS WorkspaceId,
    agent_guid                                             AS SourceComputerId
FROM telemetry;
CREATE VIEW AgentQoS AS SELECT
    t.received_at                           AS TimeGenerated,
    t.computer                              AS Computer,
    q.value ->> '$.Source'                  AS Source,
    q.value ->> '$.Operation'               AS Operation,
    q.value ->> '$.OperationSuccess'        AS OperationSuccess,
    q.value ->> '$.BatchCount'              AS BatchCount,
    q.value ->> '$.MinBatchEventCount'      AS MinBatchEventCount,
    q.value ->> '$.MaxBatchEventCount'      AS MaxBatchEventCount,
    q.value ->> '$.AvgBatchEventCount'      AS AvgBatchEventCount,
    q.value ->> '$.MinEventSize'            AS MinEventSize,
    q.value ->> '$.MaxEventSize'            AS MaxEventSize,
    q.value ->> '$.AvgEventSize'            AS AvgEventSize,
    q.value ->> '$.MinLocalLatencyInMs'     AS MinLocalLatencyInMs,
    q.value ->> '$.MaxLocalLatencyInMs'     AS MaxLocalLatencyInMs,
    q.value ->> '$.AvgLocalLatencyInMs'     AS AvgLocalLatencyInMs,
    q.value ->> '$.NetworkLatencyInMs'      AS NetworkLatencyInMs,
    t.workspace                             AS WorkspaceId,
    t.agent_guid                            AS SourceComputerId
FROM telemetry t, json_each(t.report, '$.AgentQoS') q;
CREATE VIEW AgentError AS SELECT
    t.received_at              AS TimeGenerated,
    t.computer                 AS Computer,
    e.value ->> '$.Message'    AS Message,
    e.value ->> '$.Count'      AS Count,
    e.value ->> '$.ErrorCode'  AS ErrorCode,
    e.value ->> '$.Source'     AS Source,
    t.workspace                AS WorkspaceId,
    t.agent_guid               AS SourceComputerId
FROM telemetry t, json_each(t.report, '$.AgentError') e;
CREATE VIEW Operation AS SELECT
    coalesce(item ->> '$.Timestamp', received_at)  AS TimeGenerated,
    computer                                       AS Computer,
    item ->> '$.OperationStatus'                   AS OperationStatus,
    item ->> '$.Category'                          AS OperationCategory,
    item ->> '$.Solution'                          AS Solution,
    item ->> '$.Detail'                            AS Detail,
    item ->> '$.HelpLink'                          AS HelpLink,
    workspace                                      AS WorkspaceId,
    agent_guid                                     AS SourceComputerId
FROM items WHERE data_type = 'OPERATION_BLOB';
PRAGMA user_version = 2;
";

/// A row for each counter of an item.
const VERSION_3: &str = "
CREATE VIEW Perf AS SELECT
    coalesce(i.item ->> '$.Timestamp', i.received_at)  AS TimeGenerated,
    i.computer                                         AS Computer,
    i.item ->> '$.ObjectName'                          AS ObjectName,
    i.item ->> '$.InstanceName'                        AS InstanceName,
    c.value ->> '$.CounterName'                        AS CounterName,
    CAST(c.value ->> '$.Value' AS NUMERIC)             AS CounterValue,
    i.workspace                                        AS WorkspaceId,
    i.agent_guid                                       AS SourceComputerId
FROM items i, json_each(i.item, '$.Collections') c WHERE i.data_type = 'LINUX_PERF_BLOB';
PRAGMA user_version = 3;
";

/// Additions only, as before.
const VERSION_4: &str = "
CREATE TABLE blobs (
    id          INTEGER PRIMARY KEY,
    workspace   TEXT NOT NULL COLLATE NOCASE,
    agent_guid  TEXT NOT NULL COLLATE NOCASE,
    data_type   TEXT NOT NULL,
    suffix      TEXT NOT NULL,
    token       TEXT NOT NULL,
    expires_at  INTEGER NOT NULL,
    computer    TEXT,
    file_path   TEXT,
    UNIQUE (workspace, agent_guid, data_type, suffix)
);
CREATE TABLE blob_blocks (
    blob        INTEGER NOT NULL REFERENCES blobs (id),
    block       TEXT NOT NULL,
    received_at TEXT NOT NULL,
    size        INTEGER NOT NULL,
    place       INTEGER,
    body        BLOB,
    PRIMARY KEY (blob, block)
);
CREATE VIEW CustomLog AS SELECT
    received_at                AS TimeGenerated,
    computer                   AS Computer,
    data_type                  AS Type,
    item ->> '$.RawData'       AS RawData,
    item ->> '$.FilePath'      AS FilePath,
    workspace                  AS WorkspaceId,
    agent_guid                 AS SourceComputerId
FROM items WHERE ip_name = 'CustomLog';
PRAGMA user_version = 4;
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
    let found = usize::try_from(version(&change).with_context(what)?).unwrap_or(usize::MAX);
    for step in STEPS.iter().skip(found) {
        change.execute_batch(step).with_context(what)?;
    }
    check(&change, path)?;
    change.commit().with_context(what)?;
    Ok(db)
}

/// Opens `path` so that nothing can be written through it. An older database is brought to the
/// current version first.
pub(super) fn open_read_only(path: &Path) -> Result<Connection> {
    let what = || format!("cannot open the database `{}`", path.display());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).with_context(what)?;
    db.busy_timeout(BUSY).with_context(what)?;
    db.pragma_update(None, "query_only", true)
        .with_context(what)?;
    if (1..VERSION).contains(&version(&db).with_context(what)?) {
        drop(open(path)?);
    }
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

    /// A database as the program before this one left it.
    fn of_version_1(path: &Path) {
        let db = Connection::open(path).unwrap();
        db.pragma_update(None, "journal_mode", "WAL").unwrap();
        db.execute_batch(VERSION_1).unwrap();
        db.execute_batch(
            "INSERT INTO workspaces VALUES ('ws', 'old', 't0');
             INSERT INTO agents VALUES ('ws', 'g1', 'one', 'Debian', '12', 'D', 't1', 't2');
             INSERT INTO agents VALUES ('ws', 'g2', 'two', NULL, NULL, NULL, 't1', 't1');
             INSERT INTO certificates VALUES ('ws', 'thumb', 'g1', 't1');
             INSERT INTO uploads (received_at, workspace, agent_guid, client_version, body_bytes,
                 body_sha256, items)
             VALUES ('t3', 'ws', 'G1', '1.0', 1, 'h', 1), ('t4', 'WS', 'g1', '2.0', 1, 'h', 1);
             INSERT INTO items VALUES (1, 1, 't3', 'ws', 'g1', 'one', 'OPERATION_BLOB', 'P',
                 '{\"Detail\":\"full\"}');",
        )
        .unwrap();
    }

    fn one(db: &Connection, sql: &str) -> String {
        db.query_row(sql, (), |row| row.get(0)).unwrap()
    }

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
        db.pragma_update(None, "user_version", VERSION + 1).unwrap();
        let version = format!("version {}", VERSION + 1);
        assert!(open(&path).unwrap_err().to_string().contains(&version));
        assert!(
            open_read_only(&path)
                .unwrap_err()
                .to_string()
                .contains(&version)
        );
        db.pragma_update(None, "user_version", -1).unwrap();
        assert!(open(&path).is_err());
    }

    #[test]
    fn an_older_database_is_brought_up_to_date_and_keeps_what_it_holds() {
        for reads in [false, true] {
            let temp = tempfile::tempdir().unwrap();
            let path = temp.path().join("hub.db");
            of_version_1(&path);
            let db = match reads {
                true => open_read_only(&path).unwrap(),
                false => open(&path).unwrap(),
            };
            assert_eq!(version(&db).unwrap(), VERSION);
            let known = "SELECT w.name || computer || os_name || last_seen_at || last_upload_at
                 || version || thumbprint || pending || coalesce(not_after, '-')
                 FROM agents a JOIN certificates c ON c.agent_guid = a.guid
                 JOIN workspaces w ON w.id = a.workspace";
            assert_eq!(one(&db, known), "oldoneDebiant2t42.0thumb0-");
            let unheard = "SELECT coalesce(last_upload_at, '-') FROM agents WHERE guid = 'g2'";
            assert_eq!(one(&db, unheard), "-");
            assert_eq!(one(&db, "SELECT Detail FROM Operation"), "full");
            assert_eq!(one(&db, "PRAGMA integrity_check"), "ok");
            open(&path).unwrap(); // and once more changes nothing
        }
    }

    #[test]
    fn a_program_of_version_1_goes_on_with_a_database_of_today() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("hub.db");
        of_version_1(&path);
        let old = Connection::open(&path).unwrap();
        open(&path).unwrap();
        // The statements that program writes with.
        old.execute_batch(
            "INSERT INTO agents (workspace, guid, computer, os_name, os_version, os_manufacturer,
                 onboarded_at, last_seen_at)
             VALUES ('ws', 'g3', 'three', NULL, NULL, NULL, 't5', 't5');
             INSERT INTO certificates (workspace, thumbprint, agent_guid, added_at)
             VALUES ('ws', 'thumb3', 'g3', 't5');
             INSERT INTO workspaces (id, name, created_at) VALUES ('ws2', NULL, 't5');",
        )
        .unwrap();
        let pending = "SELECT CAST(pending AS TEXT) FROM certificates WHERE agent_guid = 'g3'";
        assert_eq!(one(&old, pending), "0");
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
