//! The agents of a hub as its owner sees and handles them.

use super::workspaces::must_be_known;
use super::{Folder, now, schema};
use crate::base::ids::{AgentGuid, WorkspaceId};
use anyhow::{Context, Result, bail};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

/// An agent as it is listed. Times are UTC.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct KnownAgent {
    /// Where it belongs.
    pub workspace: String,
    /// Its id.
    pub guid: String,
    /// Its host's full name.
    pub computer: String,
    /// What its host runs.
    pub os_name: Option<String>,
    /// Of the operating system.
    pub os_version: Option<String>,
    /// Of the agent.
    pub version: Option<String>,
    /// First onboarding.
    pub onboarded_at: String,
    /// Last request of any kind.
    pub last_seen_at: String,
    /// Last accepted data items.
    pub last_upload_at: Option<String>,
    /// SHA-256 of the certificate in use.
    pub certificate: Option<String>,
    /// The end of the certificate in use.
    pub certificate_ends_at: Option<String>,
    /// Since when the hub's owner waits for a new certificate.
    pub renewal_asked_at: Option<String>,
    /// Since when a new certificate waits for its first use.
    pub renewal_pending_at: Option<String>,
    /// Since when it is shut out.
    pub disabled_at: Option<String>,
}

/// The agents of one data folder.
pub struct Agents {
    db: Connection,
}

impl Agents {
    /// Opens the folder's database.
    pub fn open(folder: &Folder) -> Result<Self> {
        Ok(Agents {
            db: schema::open(&folder.database())?,
        })
    }

    /// All agents, or those of one workspace, by workspace and computer.
    pub fn list(folder: &Folder, workspace: Option<&WorkspaceId>) -> Result<Vec<KnownAgent>> {
        let db = schema::open_read_only(&folder.database())?;
        if let Some(ws) = workspace {
            must_be_known(&db, ws)?;
        }
        let mut statement = db.prepare(
            "SELECT a.workspace, a.guid, a.computer, a.os_name, a.os_version, a.version,
                 a.onboarded_at, a.last_seen_at, a.last_upload_at,
                 c.thumbprint, c.not_after, a.renewal_asked_at, p.added_at, a.disabled_at
             FROM agents a
             LEFT JOIN certificates c
                 ON c.workspace = a.workspace AND c.agent_guid = a.guid AND c.pending = 0
             LEFT JOIN certificates p
                 ON p.workspace = a.workspace AND p.agent_guid = a.guid AND p.pending = 1
             WHERE ?1 IS NULL OR a.workspace = ?1
             ORDER BY a.workspace, a.computer, a.guid",
        )?;
        let rows = statement.query_map([workspace.map(WorkspaceId::as_str)], |row| {
            Ok(KnownAgent {
                workspace: row.get(0)?,
                guid: row.get(1)?,
                computer: row.get(2)?,
                os_name: row.get(3)?,
                os_version: row.get(4)?,
                version: row.get(5)?,
                onboarded_at: row.get(6)?,
                last_seen_at: row.get(7)?,
                last_upload_at: row.get(8)?,
                certificate: row.get(9)?,
                certificate_ends_at: row.get(10)?,
                renewal_asked_at: row.get(11)?,
                renewal_pending_at: row.get(12)?,
                disabled_at: row.get(13)?,
            })
        })?;
        rows.collect::<Result<_, _>>()
            .context("cannot list the agents")
    }

    /// Asks one agent of a workspace, or all, for a new certificate at the next topology
    /// heartbeat. How many are asked now.
    pub fn renew(&mut self, ws: &WorkspaceId, agent: Option<&AgentGuid>) -> Result<usize> {
        let change = self.change()?;
        must_be_known(&change, ws)?;
        if let Some(guid) = agent {
            must_be_there(&change, ws, guid)?;
        }
        let asked = change.execute(
            "UPDATE agents SET renewal_asked_at = coalesce(renewal_asked_at, ?3)
             WHERE workspace = ?1 AND (?2 IS NULL OR guid = ?2)",
            (ws.as_str(), agent.map(AgentGuid::as_str), now()),
        )?;
        change.commit()?;
        Ok(asked)
    }

    /// Shuts an agent out, or lets it in again; false when it was so already.
    pub fn disable(&mut self, ws: &WorkspaceId, guid: &AgentGuid, disabled: bool) -> Result<bool> {
        let change = self.change()?;
        must_be_there(&change, ws, guid)?;
        let changed = change.execute(
            "UPDATE agents SET disabled_at = ?3
             WHERE workspace = ?1 AND guid = ?2 AND (disabled_at IS NULL) <> (?3 IS NULL)",
            (ws.as_str(), guid.as_str(), disabled.then(now)),
        )?;
        change.commit()?;
        Ok(changed > 0)
    }

    /// Forgets an agent: its certificate is worth nothing from now on. With the shared key it can
    /// onboard again. What it sent stays.
    pub fn remove(&mut self, ws: &WorkspaceId, guid: &AgentGuid) -> Result<()> {
        let change = self.change()?;
        must_be_there(&change, ws, guid)?;
        let agent = (ws.as_str(), guid.as_str());
        change.execute(
            "DELETE FROM certificates WHERE workspace = ?1 AND agent_guid = ?2",
            agent,
        )?;
        change.execute(
            "DELETE FROM agents WHERE workspace = ?1 AND guid = ?2",
            agent,
        )?;
        change.commit().context("cannot remove the agent")?;
        Ok(())
    }

    fn change(&mut self) -> Result<Transaction<'_>> {
        self.db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .context("cannot change the database")
    }
}

fn must_be_there(db: &Connection, ws: &WorkspaceId, guid: &AgentGuid) -> Result<()> {
    must_be_known(db, ws)?;
    let found = db
        .query_row(
            "SELECT 1 FROM agents WHERE workspace = ?1 AND guid = ?2",
            (ws.as_str(), guid.as_str()),
            |_| Ok(()),
        )
        .optional()?;
    if found.is_none() {
        bail!("workspace {ws} has no agent {guid}: `hub agents` shows those there are");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::roster::tests::{certificate, request};
    use super::super::store::Store;
    use super::super::{NewWorkspace, Workspaces};
    use super::*;

    fn folder() -> (tempfile::TempDir, Folder, WorkspaceId, AgentGuid) {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::make(&temp.path().join("hub")).unwrap();
        let mut all = Workspaces::open(&folder).unwrap();
        let (ws, _) = all.add(NewWorkspace::default()).unwrap();
        let store = Store::open(&folder).unwrap();
        let request = request("one");
        let registered = store.register(&ws, &request, &certificate(&ws, 300), Some("2.0"));
        registered.unwrap().unwrap();
        (temp, folder, ws, request.entity_id)
    }

    fn only(folder: &Folder) -> KnownAgent {
        let mut all = Agents::list(folder, None).unwrap();
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    #[test]
    fn an_agent_is_listed_with_what_is_known() {
        let (_temp, folder, ws, guid) = folder();
        let agent = only(&folder);
        assert_eq!(agent.workspace, ws.as_str());
        assert!(agent.guid.eq_ignore_ascii_case(guid.as_str()));
        assert_eq!(
            (&*agent.computer, agent.version.as_deref()),
            ("one", Some("2.0"))
        );
        assert!(agent.certificate_ends_at.unwrap().starts_with("20"));
        assert_eq!(agent.last_upload_at, None);
        assert_eq!(Agents::list(&folder, Some(&ws)).unwrap().len(), 1);
        let (other, _) = Workspaces::open(&folder)
            .unwrap()
            .add(NewWorkspace::default())
            .unwrap();
        assert!(Agents::list(&folder, Some(&other)).unwrap().is_empty());
        let unknown = "01234567-89ab-cdef-0123-456789abcdef".parse().unwrap();
        let error = Agents::list(&folder, Some(&unknown)).unwrap_err();
        assert!(error.to_string().contains("no workspace"), "{error}");
    }

    #[test]
    fn renewals_are_asked_for_and_pending_ones_shown() {
        let (_temp, folder, ws, guid) = folder();
        let mut agents = Agents::open(&folder).unwrap();
        let unknown = AgentGuid::random();
        assert!(agents.renew(&ws, Some(&unknown)).is_err());
        assert_eq!(only(&folder).renewal_asked_at, None);
        assert_eq!(agents.renew(&ws, Some(&guid)).unwrap(), 1);
        let asked = only(&folder).renewal_asked_at.unwrap();
        assert_eq!(agents.renew(&ws, None).unwrap(), 1);
        assert_eq!(
            only(&folder).renewal_asked_at,
            Some(asked),
            "since the first"
        );
        let store = Store::open(&folder).unwrap();
        let first = certificate(&ws, 300);
        let registered = store.register(&ws, &request("one"), &first, None);
        registered.unwrap().unwrap();
        let agent = store.agent(&ws, &first).unwrap().unwrap();
        store.offer(&agent, &certificate(&ws, 365)).unwrap();
        let listed = only(&folder);
        assert!(listed.renewal_pending_at.is_some());
        assert_eq!(listed.certificate, Some(first.thumbprint));
    }

    #[test]
    fn agents_are_disabled_enabled_and_removed() {
        let (_temp, folder, ws, guid) = folder();
        let mut agents = Agents::open(&folder).unwrap();
        for (to, changed) in [(false, false), (true, true), (true, false), (false, true)] {
            assert_eq!(agents.disable(&ws, &guid, to).unwrap(), changed);
            assert_eq!(only(&folder).disabled_at.is_some(), to);
        }
        let unknown = AgentGuid::random();
        assert!(agents.disable(&ws, &unknown, true).is_err());
        assert!(agents.remove(&ws, &unknown).is_err());
        agents.remove(&ws, &guid).unwrap();
        assert!(Agents::list(&folder, None).unwrap().is_empty());
        assert!(agents.remove(&ws, &guid).is_err());
    }
}
