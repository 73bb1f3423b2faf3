//! An upgrade whose agents were not looked at yet: noted before the new package comes, forgotten
//! when the health check has spoken or the old package is back. A run that is killed in between
//! leaves the note, and the next one makes up for the check.

use super::health;
use super::release;
use crate::base::files::{self, Look, Owner};
use crate::base::ids::WorkspaceId;
use crate::host::Host;
use crate::host::layout::Layout;
use crate::host::packages::Known;
use crate::plan::keep::same;
use crate::workspace;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Largest note.
const LIMIT: usize = 64 << 10;

/// The note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unconfirmed {
    schema: u32,
    /// The version before.
    pub from: String,
    /// The version that is to be looked at.
    pub to: String,
    /// The workspaces whose agents ran.
    running: Vec<String>,
}

fn path(layout: &Layout) -> PathBuf {
    layout.records().join("unconfirmed.json")
}

impl Unconfirmed {
    /// Of an upgrade to this release.
    pub fn new(from: &str, running: &[WorkspaceId]) -> Self {
        Unconfirmed {
            schema: 1,
            from: from.to_owned(),
            to: release::version(),
            running: running.iter().map(|id| id.as_str().to_owned()).collect(),
        }
    }

    /// Writes it down.
    pub fn save(&self, layout: &Layout) -> Result<()> {
        let text = serde_json::to_vec(self)?;
        files::write_atomic(&path(layout), &text, Look::owned(0o600, Owner::ROOT))
    }

    /// The note of this host, as long as it tells of what is there: the version that it names, or
    /// one whose installation was cut short. One that cannot be read counts as none.
    pub fn load(layout: &Layout, installed: Option<&str>, known: Known) -> Option<Self> {
        let text = files::read_text_no_follow(&path(layout), LIMIT).ok()??;
        let note: Unconfirmed = serde_json::from_slice(text.as_bytes()).ok()?;
        let tells = match installed {
            Some(installed) => same(installed, &note.to),
            None => matches!(known, Known::Present | Known::Broken),
        };
        tells.then_some(note)
    }

    /// Those that ran, and still are workspaces of this host.
    pub fn running(&self, layout: &Layout) -> Vec<WorkspaceId> {
        let mut ids = workspace::all(layout);
        ids.retain(|id| self.running.iter().any(|name| name == id.as_str()));
        ids
    }

    /// Those of `note`, and those that run now.
    pub fn all_running(note: Option<&Self>, host: &Host) -> Vec<WorkspaceId> {
        let mut ids = health::running(host);
        for id in note
            .map(|note| note.running(&host.layout))
            .unwrap_or_default()
        {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids
    }
}

/// The check has spoken, or there is nothing to look at.
pub fn forget(layout: &Layout) -> Result<()> {
    files::remove(&path(layout)).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_of_use_for_what_is_there_only() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        std::fs::create_dir_all(layout.records()).unwrap();
        let load = |installed, known| Unconfirmed::load(&layout, installed, known);
        assert_eq!(load(Some("1"), Known::Present), None);
        let id: WorkspaceId = "11111111-2222-3333-4444-555555555555".parse().unwrap();
        let note = Unconfirmed::new("1.0.0-1", std::slice::from_ref(&id));
        note.save(&layout).unwrap();
        let now = release::version();
        assert_eq!(load(Some(&now), Known::Present), Some(note.clone()));
        // Cut short by a kill, or another version by now, or gone.
        assert_eq!(load(None, Known::Broken), Some(note.clone()));
        assert_eq!(load(None, Known::Present), Some(note.clone()));
        assert_eq!(load(Some("1.0.0-1"), Known::Present), None);
        assert_eq!(load(None, Known::Leftovers), None);
        // A workspace that is gone is not looked at.
        assert!(note.running(&layout).is_empty());
        std::fs::create_dir_all(layout.workspace(&id).conf()).unwrap();
        std::fs::write(layout.workspace(&id).omsadmin_conf(), "").unwrap();
        assert_eq!(note.running(&layout), [id]);
        forget(&layout).unwrap();
        forget(&layout).unwrap();
        assert_eq!(load(Some(&now), Known::Present), None);
        std::fs::write(path(&layout), "{").unwrap();
        assert_eq!(load(Some(&now), Known::Present), None);
    }
}
