//! The workspaces of a hub: made, changed and listed by its owner, looked up at each onboarding.

use super::{Folder, Which, keys, now, schema};
use crate::base::ids::WorkspaceId;
use crate::base::secret::Secret;
use anyhow::{Context, Result, bail};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

/// Longest name of a workspace, in bytes.
const NAME_LIMIT: usize = 256;

/// What [`Workspaces::add`] shall make; what is `None` is chosen.
#[derive(Debug, Default)]
pub struct NewWorkspace {
    /// Its id; random when not given.
    pub id: Option<WorkspaceId>,
    /// Its shared key, base64; 64 random bytes when not given.
    pub key: Option<Secret>,
    /// A name for people.
    pub name: Option<String>,
}

/// A workspace as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Workspace {
    /// Its id.
    pub id: String,
    /// A name for people.
    pub name: Option<String>,
    /// When it was added, UTC.
    pub created_at: String,
    /// How many agents have onboarded.
    pub agents: i64,
    /// When one of them was last heard of, UTC.
    pub last_seen_at: Option<String>,
    /// Since when it takes nothing, UTC.
    pub disabled_at: Option<String>,
}

/// What [`Workspaces::remove`] removed and what it kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// Agents that were known; their certificates are worth nothing from now on.
    pub agents: usize,
    /// What had arrived: items and telemetry reports.
    pub data: usize,
}

/// The workspaces of one data folder.
pub struct Workspaces {
    folder: Folder,
    db: Connection,
}

impl Workspaces {
    /// Opens the folder's database, making it when it is new.
    pub fn open(folder: &Folder) -> Result<Self> {
        Ok(Workspaces {
            folder: folder.clone(),
            db: schema::open(&folder.database())?,
        })
    }

    /// Adds a workspace; a hub that serves from the folder knows it at once.
    pub fn add(&mut self, new: NewWorkspace) -> Result<(WorkspaceId, Secret)> {
        let id = match new.id {
            Some(id) => id,
            None => uuid::Uuid::new_v4().hyphenated().to_string().parse()?,
        };
        let name = new.name.as_deref().map(str::trim).filter(|n| !n.is_empty());
        if name.is_some_and(|n| n.len() > NAME_LIMIT || n.chars().any(char::is_control)) {
            bail!("a workspace's name has at most {NAME_LIMIT} bytes and no control characters");
        }
        let key = keys::given_or_random(new.key)?;
        let folder = self.folder.clone();
        let change = self.change()?;
        if known(&change, &id)? {
            bail!("workspace {id} is there already");
        }
        // The key first: a workspace without a key could not be onboarded to, while the file
        // alone means nothing. A crash between the two leaves such a file, to be replaced.
        keys::remove(&folder, &id)?;
        keys::write(&folder, &id, Which::Primary, &key)?;
        change.execute(
            "INSERT INTO workspaces (id, name, created_at) VALUES (?1, ?2, ?3)",
            (id.as_str().to_ascii_lowercase(), name, now()),
        )?;
        change.commit().context("cannot store the workspace")?;
        Ok((id, key))
    }

    /// Replaces one of a workspace's keys, or makes its secondary one. Agents that have onboarded
    /// are known by their certificates and notice nothing.
    pub fn rotate_key(
        &mut self,
        id: &WorkspaceId,
        which: Which,
        key: Option<Secret>,
    ) -> Result<Secret> {
        let key = keys::given_or_random(key)?;
        let folder = self.folder.clone();
        let change = self.change()?;
        must_be_known(&change, id)?;
        keys::write(&folder, id, which, &key)?;
        change.commit()?;
        Ok(key)
    }

    /// The keys of a workspace, base64: the primary one, and the secondary one if there is one.
    pub fn keys(folder: &Folder, id: &WorkspaceId) -> Result<Vec<(Which, Secret)>> {
        must_be_known(&schema::open_read_only(&folder.database())?, id)?;
        keys::texts(folder, id)
    }

    /// Lets a workspace take nothing any more, or again; false when it was so already.
    pub fn disable(&mut self, id: &WorkspaceId, disabled: bool) -> Result<bool> {
        let change = self.change()?;
        must_be_known(&change, id)?;
        let changed = change.execute(
            "UPDATE workspaces SET disabled_at = ?2
             WHERE id = ?1 AND (disabled_at IS NULL) <> (?2 IS NULL)",
            (id.as_str(), disabled.then(now)),
        )?;
        change.commit()?;
        Ok(changed > 0)
    }

    /// Removes a workspace, its keys and its agents. What had arrived stays, and can be asked for,
    /// unless `data` goes too.
    pub fn remove(&mut self, id: &WorkspaceId, data: bool) -> Result<Removed> {
        let folder = self.folder.clone();
        let change = self.change()?;
        must_be_known(&change, id)?;
        let (ws, mut counted) = (id.as_str(), 0);
        for table in ["items", "telemetry", "uploads"] {
            let count = match data {
                true => {
                    change.execute(&format!("DELETE FROM {table} WHERE workspace = ?1"), [ws])?
                }
                false => change.query_row(
                    &format!("SELECT count(*) FROM {table} WHERE workspace = ?1"),
                    [ws],
                    |row| {
                        row.get::<_, i64>(0)
                            .map(|n| usize::try_from(n).unwrap_or(0))
                    },
                )?,
            };
            counted += if table == "uploads" { 0 } else { count };
        }
        change.execute(
            "DELETE FROM blob_blocks WHERE blob IN (SELECT id FROM blobs WHERE workspace = ?1)",
            [ws],
        )?;
        change.execute("DELETE FROM blobs WHERE workspace = ?1", [ws])?;
        change.execute("DELETE FROM certificates WHERE workspace = ?1", [ws])?;
        let agents = change.execute("DELETE FROM agents WHERE workspace = ?1", [ws])?;
        change.execute("DELETE FROM workspaces WHERE id = ?1", [ws])?;
        // Before the commit: what a crash leaves then can be removed again.
        keys::remove(&folder, id)?;
        change.commit().context("cannot remove the workspace")?;
        Ok(Removed {
            agents,
            data: counted,
        })
    }

    fn change(&mut self) -> Result<Transaction<'_>> {
        self.db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .context("cannot change the database")
    }

    /// All workspaces, oldest first. Keys are not shown.
    pub fn list(folder: &Folder) -> Result<Vec<Workspace>> {
        let db = schema::open_read_only(&folder.database())?;
        let mut statement = db.prepare(
            "SELECT w.id, w.name, w.created_at, count(a.guid), max(a.last_seen_at),
                 w.disabled_at
             FROM workspaces w LEFT JOIN agents a ON a.workspace = w.id
             GROUP BY w.id ORDER BY w.created_at, w.id",
        )?;
        let rows = statement.query_map((), |row| {
            Ok(Workspace {
                id: row.get(0)?,
                name: row.get(1)?,
                created_at: row.get(2)?,
                agents: row.get(3)?,
                last_seen_at: row.get(4)?,
                disabled_at: row.get(5)?,
            })
        })?;
        rows.collect::<Result<_, _>>()
            .context("cannot list the workspaces")
    }
}

/// Whether there is such a workspace.
pub(super) fn known(db: &Connection, id: &WorkspaceId) -> rusqlite::Result<bool> {
    db.query_row(
        "SELECT 1 FROM workspaces WHERE id = ?1",
        [id.as_str()],
        |_| Ok(()),
    )
    .optional()
    .map(|found| found.is_some())
}

/// As [`known`], as an error that says what to do.
pub(super) fn must_be_known(db: &Connection, id: &WorkspaceId) -> Result<()> {
    if !known(db, id)? {
        bail!("there is no workspace {id}: `hub workspace list` shows those there are");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::signature;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    fn folder() -> (tempfile::TempDir, Folder) {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::make(&temp.path().join("hub")).unwrap();
        (temp, folder)
    }

    fn texts(folder: &Folder, id: &WorkspaceId) -> Vec<(Which, String)> {
        let keys = Workspaces::keys(folder, id).unwrap().into_iter();
        keys.map(|(which, key)| (which, key.expose().to_owned()))
            .collect()
    }

    #[test]
    fn a_random_workspace_has_a_key_of_64_bytes() {
        let (_temp, folder) = folder();
        let mut all = Workspaces::open(&folder).unwrap();
        let (one, shown) = all.add(NewWorkspace::default()).unwrap();
        let (two, other) = all.add(NewWorkspace::default()).unwrap();
        assert_ne!(one, two);
        assert_ne!(shown.expose(), other.expose());
        assert_eq!(signature::decode_key(&shown).unwrap().len(), 64);
        let stored = texts(&folder, &one);
        assert_eq!(stored, [(Which::Primary, shown.expose().to_owned())]);
        assert!(known(&all.db, &one).unwrap());
    }

    #[test]
    fn given_ones_are_kept_in_either_case_and_not_replaced() {
        let (_temp, folder) = folder();
        let mut all = Workspaces::open(&folder).unwrap();
        let new = |id: &str, key: &str| NewWorkspace {
            id: Some(id.parse().unwrap()),
            key: Some(Secret::new(key)),
            name: Some(" mine ".into()),
        };
        let id = "ABCDEF01-89ab-cdef-0123-456789abcdef";
        let text = STANDARD.encode([7u8; 16]);
        all.add(new(id, &format!("{text}\n"))).unwrap();
        let again = all.add(new(&id.to_lowercase(), &STANDARD.encode([8u8; 32])));
        assert!(again.unwrap_err().to_string().contains("already"));
        let lower: WorkspaceId = id.to_lowercase().parse().unwrap();
        assert_eq!(texts(&folder, &lower), [(Which::Primary, text)]);
        let listed = Workspaces::list(&folder).unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].name.as_deref(), Some("mine"));
        assert_eq!((listed[0].agents, &listed[0].last_seen_at), (0, &None));
    }

    #[test]
    fn weak_and_broken_keys_are_refused() {
        let (_temp, folder) = folder();
        let mut all = Workspaces::open(&folder).unwrap();
        for bad in ["", "!", &STANDARD.encode([7u8; 15])] {
            let new = NewWorkspace {
                key: Some(Secret::new(bad)),
                ..NewWorkspace::default()
            };
            assert!(all.add(new).is_err(), "{bad}");
        }
        assert!(Workspaces::list(&folder).unwrap().is_empty());
    }

    #[test]
    fn each_key_is_replaced_alone() {
        let (_temp, folder) = folder();
        let mut all = Workspaces::open(&folder).unwrap();
        let (ws, first) = all.add(NewWorkspace::default()).unwrap();
        let second = all.rotate_key(&ws, Which::Secondary, None).unwrap();
        let pair = |primary: &Secret, secondary: &Secret| {
            [(Which::Primary, primary), (Which::Secondary, secondary)]
                .map(|(which, key)| (which, key.expose().to_owned()))
        };
        assert_eq!(texts(&folder, &ws), pair(&first, &second));
        let given = Secret::new(STANDARD.encode([9u8; 32]));
        let third = all.rotate_key(&ws, Which::Primary, Some(given)).unwrap();
        assert_eq!(texts(&folder, &ws), pair(&third, &second));
        let weak = Some(Secret::new("AAAA"));
        assert!(all.rotate_key(&ws, Which::Primary, weak).is_err());
        assert_eq!(texts(&folder, &ws), pair(&third, &second));
        let other = "01234567-89ab-cdef-0123-456789abcdef".parse().unwrap();
        assert!(all.rotate_key(&other, Which::Primary, None).is_err());
        assert!(Workspaces::keys(&folder, &other).is_err());
        assert_eq!(std::fs::read_dir(folder.keys()).unwrap().count(), 2);
    }

    #[test]
    fn a_removed_workspace_leaves_no_key_and_another_its_own() {
        let (_temp, folder) = folder();
        let mut all = Workspaces::open(&folder).unwrap();
        let (one, _) = all.add(NewWorkspace::default()).unwrap();
        let (two, _) = all.add(NewWorkspace::default()).unwrap();
        all.rotate_key(&one, Which::Secondary, None).unwrap();
        let upper: WorkspaceId = one.as_str().to_ascii_uppercase().parse().unwrap();
        assert_eq!(
            all.remove(&upper, false).unwrap(),
            Removed { agents: 0, data: 0 }
        );
        assert!(all.remove(&one, false).is_err());
        assert!(!known(&all.db, &one).unwrap() && known(&all.db, &two).unwrap());
        assert_eq!(std::fs::read_dir(folder.keys()).unwrap().count(), 1);
        // A key that a crash left is no key of a workspace of the same id.
        keys::write(&folder, &one, Which::Secondary, &Secret::new("AAAA")).unwrap();
        let again = NewWorkspace {
            id: Some(one.clone()),
            ..NewWorkspace::default()
        };
        all.add(again).unwrap();
        assert_eq!(texts(&folder, &one).len(), 1);
    }

    #[test]
    fn disabling_is_noted_once() {
        let (_temp, folder) = folder();
        let mut all = Workspaces::open(&folder).unwrap();
        let (ws, _) = all.add(NewWorkspace::default()).unwrap();
        let disabled = || Workspaces::list(&folder).unwrap()[0].disabled_at.is_some();
        for (to, changed) in [(false, false), (true, true), (true, false), (false, true)] {
            assert_eq!(all.disable(&ws, to).unwrap(), changed);
            assert_eq!(disabled(), to);
        }
    }
}
