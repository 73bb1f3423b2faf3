//! Who the agents are: registered by onboarding, known by their certificates since. A renewed
//! certificate is *pending* beside the old one until the first request is made with it.

use super::access::Denied;
use super::certificates::ClientCertificate;
use super::store::Store;
use super::{now, timestamp, workspaces};
use crate::base::ids::{AgentGuid, WorkspaceId};
use crate::wire::topology::TopologyRequest;
use anyhow::Result;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, named_params};

/// An agent that has onboarded and may come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Agent {
    pub(super) workspace: WorkspaceId,
    pub(super) guid: AgentGuid,
    /// Its host's full name.
    pub(super) computer: String,
    /// This request is the first made with a renewed certificate.
    pub(super) renewed: bool,
    /// The hub's owner asked for a new certificate, which has not been used yet.
    pub(super) renewal_asked: bool,
}

/// What became of a new certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offered {
    /// It is the agent's own already.
    Known,
    /// It belongs to another agent of the workspace.
    Others,
    /// It is the agent's only pending one.
    Pending,
}

/// What a certificate was registered as.
struct Found {
    guid: String,
    computer: String,
    pending: bool,
    without_end: bool,
    renewal_asked: bool,
    disabled: Option<Denied>,
}

impl Store {
    /// The agent a certificate belongs to. If the certificate was pending, it is the agent's only
    /// one from now on.
    pub(super) fn agent(
        &self,
        ws: &WorkspaceId,
        certificate: &ClientCertificate,
    ) -> Result<Result<Agent, Denied>> {
        let mut found = {
            let db = self.reader();
            match find(&db, ws, certificate)? {
                Some(found) => found,
                None if workspaces::known(&db, ws)? => return Ok(Err(Denied::UnknownCertificate)),
                None => return Ok(Err(Denied::UnknownWorkspace)),
            }
        };
        let mut renewed = false;
        if found.disabled.is_none() && (found.pending || found.without_end) {
            let mut db = self.durable_writer()?;
            let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            // Again, as another connection may have changed it meanwhile.
            match find(&change, ws, certificate)? {
                Some(again) => found = again,
                None => return Ok(Err(Denied::UnknownCertificate)),
            }
            if found.pending && found.disabled.is_none() {
                make_only(&change, ws, &found.guid, certificate)?;
                (renewed, found.renewal_asked) = (true, false);
            }
            change.execute(
                "UPDATE certificates SET not_after = ?3 WHERE workspace = ?1 AND thumbprint = ?2",
                (ws.as_str(), &certificate.thumbprint, ends(certificate)),
            )?;
            change.commit()?;
        }
        if let Some(denied) = found.disabled {
            return Ok(Err(denied));
        }
        Ok(Ok(Agent {
            workspace: ws.clone(),
            guid: found.guid.parse()?,
            computer: found.computer,
            renewed,
            renewal_asked: found.renewal_asked,
        }))
    }

    /// Registers an agent and its certificate. Its earlier certificates are no longer valid.
    pub(super) fn register(
        &self,
        ws: &WorkspaceId,
        request: &TopologyRequest,
        certificate: &ClientCertificate,
        version: Option<&str>,
    ) -> Result<Result<(), Denied>> {
        let (now, guid) = (now(), request.entity_id.as_str());
        let mut db = self.durable_writer()?;
        let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let disabled = |sql: &str, params: &[&str]| -> Result<bool> {
            let found: Option<bool> = change
                .query_row(sql, rusqlite::params_from_iter(params), |row| row.get(0))
                .optional()?;
            Ok(found.unwrap_or(false))
        };
        let sql = "SELECT disabled_at IS NOT NULL FROM workspaces WHERE id = ?1";
        if disabled(sql, &[ws.as_str()])? {
            return Ok(Err(Denied::WorkspaceDisabled));
        }
        let sql = "SELECT disabled_at IS NOT NULL FROM agents WHERE workspace = ?1 AND guid = ?2";
        if disabled(sql, &[ws.as_str(), guid])? {
            return Ok(Err(Denied::AgentDisabled));
        }
        let update = "INSERT INTO agents (workspace, guid, computer, os_name, os_version,
                 os_manufacturer, version, onboarded_at, last_seen_at)
             VALUES (:ws, :guid, :computer, :os_name, :os_version, :os_manufacturer, :version,
                 :now, :now)
             ON CONFLICT DO UPDATE SET
                 computer = excluded.computer,
                 os_name = coalesce(excluded.os_name, os_name),
                 os_version = coalesce(excluded.os_version, os_version),
                 os_manufacturer = coalesce(excluded.os_manufacturer, os_manufacturer),
                 version = coalesce(excluded.version, version),
                 last_seen_at = excluded.last_seen_at,
                 renewal_asked_at = NULL";
        note(&change, update, ws, request, version, &now)?;
        change.execute(
            "DELETE FROM certificates WHERE workspace = ?1 AND agent_guid = ?2",
            (ws.as_str(), guid),
        )?;
        change.execute(
            "INSERT INTO certificates (workspace, thumbprint, agent_guid, added_at, not_after)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET agent_guid = excluded.agent_guid, pending = 0",
            (
                ws.as_str(),
                &certificate.thumbprint,
                guid,
                &now,
                ends(certificate),
            ),
        )?;
        change.commit()?;
        Ok(Ok(()))
    }

    /// Notes a topology heartbeat. What it leaves out is kept.
    pub(super) fn seen(
        &self,
        ws: &WorkspaceId,
        request: &TopologyRequest,
        version: Option<&str>,
    ) -> Result<()> {
        let update = "UPDATE agents SET
                 computer = :computer,
                 os_name = coalesce(:os_name, os_name),
                 os_version = coalesce(:os_version, os_version),
                 os_manufacturer = coalesce(:os_manufacturer, os_manufacturer),
                 version = coalesce(:version, version),
                 last_seen_at = :now
             WHERE workspace = :ws AND guid = :guid";
        note(&self.writer(), update, ws, request, version, &now())?;
        Ok(())
    }

    /// Takes a new certificate of an agent in, beside the one it has; in place of one that is
    /// pending still.
    pub(super) fn offer(&self, agent: &Agent, new: &ClientCertificate) -> Result<Offered> {
        let (ws, guid) = (agent.workspace.as_str(), agent.guid.as_str());
        let now = now();
        let mut db = self.durable_writer()?;
        let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let offered = match find(&change, &agent.workspace, new)? {
            Some(found) if !found.guid.eq_ignore_ascii_case(guid) => return Ok(Offered::Others),
            Some(found) if !found.pending => Offered::Known,
            _ => {
                change.execute(
                    "DELETE FROM certificates
                     WHERE workspace = ?1 AND agent_guid = ?2 AND pending = 1",
                    (ws, guid),
                )?;
                change.execute(
                    "INSERT INTO certificates
                         (workspace, thumbprint, agent_guid, added_at, not_after, pending)
                     VALUES (?1, ?2, ?3, ?4, ?5, 1)",
                    (ws, &new.thumbprint, guid, &now, ends(new)),
                )?;
                Offered::Pending
            }
        };
        change.execute(
            "UPDATE agents SET last_seen_at = ?3 WHERE workspace = ?1 AND guid = ?2",
            (ws, guid, &now),
        )?;
        change.commit()?;
        Ok(offered)
    }
}

fn find(
    db: &Connection,
    ws: &WorkspaceId,
    certificate: &ClientCertificate,
) -> rusqlite::Result<Option<Found>> {
    db.query_row(
        "SELECT a.guid, a.computer, c.pending, c.not_after IS NULL,
             a.renewal_asked_at IS NOT NULL, a.disabled_at IS NOT NULL, w.disabled_at IS NOT NULL
         FROM certificates c
         JOIN agents a ON a.workspace = c.workspace AND a.guid = c.agent_guid
         JOIN workspaces w ON w.id = c.workspace
         WHERE c.workspace = ?1 AND c.thumbprint = ?2",
        (ws.as_str(), &certificate.thumbprint),
        |row| {
            Ok(Found {
                guid: row.get(0)?,
                computer: row.get(1)?,
                pending: row.get(2)?,
                without_end: row.get::<_, bool>(3)? && certificate.ends.is_some(),
                renewal_asked: row.get(4)?,
                disabled: match (row.get(5)?, row.get(6)?) {
                    (_, true) => Some(Denied::WorkspaceDisabled),
                    (true, false) => Some(Denied::AgentDisabled),
                    (false, false) => None,
                },
            })
        },
    )
    .optional()
}

fn make_only(
    change: &Transaction<'_>,
    ws: &WorkspaceId,
    guid: &str,
    certificate: &ClientCertificate,
) -> rusqlite::Result<()> {
    let ws = ws.as_str();
    change.execute(
        "DELETE FROM certificates
         WHERE workspace = ?1 AND agent_guid = ?2 AND thumbprint <> ?3",
        (ws, guid, &certificate.thumbprint),
    )?;
    change.execute(
        "UPDATE certificates SET pending = 0 WHERE workspace = ?1 AND thumbprint = ?2",
        (ws, &certificate.thumbprint),
    )?;
    change.execute(
        "UPDATE agents SET renewal_asked_at = NULL WHERE workspace = ?1 AND guid = ?2",
        (ws, guid),
    )?;
    Ok(())
}

fn ends(certificate: &ClientCertificate) -> Option<String> {
    certificate.ends.map(timestamp)
}

/// Runs a statement that notes what an agent says of itself.
fn note(
    db: &Connection,
    sql: &str,
    ws: &WorkspaceId,
    request: &TopologyRequest,
    version: Option<&str>,
    now: &str,
) -> rusqlite::Result<usize> {
    let os = request.os.as_ref();
    db.execute(
        sql,
        named_params! {
            ":ws": ws.as_str().to_ascii_lowercase(),
            ":guid": request.entity_id.as_str().to_ascii_lowercase(),
            ":computer": request.fqdn,
            ":os_name": os.map(|os| &os.name),
            ":os_version": os.map(|os| &os.version),
            ":os_manufacturer": os.map(|os| &os.manufacturer),
            ":version": version,
            ":now": now,
        },
    )
}

#[cfg(test)]
pub(super) mod tests;
