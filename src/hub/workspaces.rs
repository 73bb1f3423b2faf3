//! The workspaces of a hub: made and listed by its owner, looked up at each onboarding.
//!
//! Shared keys are not in the database but in files of their own (`keys/<workspace>`, 0600):
//! no query, however general, shows one, and a copy of the database holds none.

use super::{Folder, now, schema};
use crate::base::files;
use crate::base::ids::WorkspaceId;
use crate::base::secret::Secret;
use crate::wire::signature;
use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rusqlite::{Connection, OptionalExtension};
use zeroize::Zeroizing;

/// Bytes of a new shared key, as the original service's have.
const KEY_BYTES: usize = 64;

/// Fewest bytes a given shared key may have.
const KEY_BYTES_MIN: usize = 16;

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
        let key = new.key.map_or_else(random_key, accepted_key)?;
        let change = self
            .db
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        if known(&change, &id)? {
            bail!("workspace {id} is there already");
        }
        // The key first: a workspace without a key could not be onboarded to, while the file
        // alone means nothing. A crash between the two leaves such a file, to be replaced.
        files::write_atomic(
            &key_file(&self.folder, &id),
            key.expose().as_bytes(),
            self.folder.look(0o600),
        )?;
        change.execute(
            "INSERT INTO workspaces (id, name, created_at) VALUES (?1, ?2, ?3)",
            (id.as_str().to_ascii_lowercase(), name, now()),
        )?;
        change.commit().context("cannot store the workspace")?;
        Ok((id, key))
    }

    /// All workspaces, oldest first. Keys are not shown.
    pub fn list(folder: &Folder) -> Result<Vec<Workspace>> {
        let db = schema::open_read_only(&folder.database())?;
        let mut statement = db.prepare(
            "SELECT w.id, w.name, w.created_at, count(a.guid), max(a.last_seen_at)
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

/// The bytes of a workspace's shared key.
pub(super) fn key(folder: &Folder, id: &WorkspaceId) -> Result<Zeroizing<Vec<u8>>> {
    let path = key_file(folder, id);
    let text = files::read_text(&path, signature::KEY_TEXT_LIMIT)?
        .with_context(|| format!("`{}` is missing", path.display()))?;
    signature::decode_key(&Secret::new(text)).with_context(|| format!("in `{}`", path.display()))
}

fn key_file(folder: &Folder, id: &WorkspaceId) -> std::path::PathBuf {
    folder.keys().join(id.as_str().to_ascii_lowercase())
}

fn random_key() -> Result<Secret> {
    use rustls::crypto::ring;
    let mut bytes = Zeroizing::new([0u8; KEY_BYTES]);
    if ring::default_provider()
        .secure_random
        .fill(&mut *bytes)
        .is_err()
    {
        bail!("the system has no random numbers for a key");
    }
    Ok(Secret::new(STANDARD.encode(*bytes)))
}

fn accepted_key(key: Secret) -> Result<Secret> {
    let bytes = signature::decode_key(&key)?;
    if bytes.len() < KEY_BYTES_MIN {
        bail!("the shared key has fewer than {KEY_BYTES_MIN} bytes, which can be guessed");
    }
    Ok(Secret::new(STANDARD.encode(&*bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn folder() -> (tempfile::TempDir, Folder) {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::make(&temp.path().join("hub")).unwrap();
        (temp, folder)
    }

    #[test]
    fn a_random_workspace_has_a_key_of_64_bytes() {
        let (_temp, folder) = folder();
        let mut all = Workspaces::open(&folder).unwrap();
        let (one, shown) = all.add(NewWorkspace::default()).unwrap();
        let (two, other) = all.add(NewWorkspace::default()).unwrap();
        assert_ne!(one, two);
        assert_ne!(shown.expose(), other.expose());
        let bytes = key(&folder, &one).unwrap();
        assert_eq!(bytes.len(), 64);
        assert_eq!(signature::decode_key(&shown).unwrap(), bytes);
        assert!(known(&all.db, &one).unwrap());
        let mode = std::fs::metadata(key_file(&folder, &one))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
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
        assert_eq!(*key(&folder, &lower).unwrap(), vec![7u8; 16]);
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
}
