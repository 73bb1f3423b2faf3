//! Which of the host's messages a workspace gets: its own choice, or the default (issue: facility
//! and severity selection).

use crate::base::files::{self, Look, Owner};
use crate::base::ids::WorkspaceName;
use crate::host::layout::Layout;
use crate::host::syslog::Selection;
use anyhow::{Context, Result};

/// Larger than any choice.
const LIMIT: usize = 4096;

/// The workspace's choice. The pseudo-workspaces have none: others write their rules.
pub fn selection(layout: &Layout, name: &WorkspaceName) -> Result<Selection> {
    if name.id().is_none() {
        return Ok(Selection::none());
    }
    let path = layout.workspace(name).syslog_selection();
    // The folder is the service account's: only names of facilities come out of it.
    match files::read_text_no_follow(&path, LIMIT)? {
        Some(text) if !text.trim().is_empty() => text
            .parse()
            .with_context(|| format!("cannot use `{}`", path.display())),
        _ => Ok(Selection::default()),
    }
}

/// Remembers a choice; `None` forgets it.
pub fn choose(layout: &Layout, name: &WorkspaceName, chosen: Option<&Selection>) -> Result<()> {
    let path = layout.workspace(name).syslog_selection();
    match chosen {
        Some(selection) => {
            let look = Look::owned(0o644, Owner::ROOT);
            files::write_atomic(&path, format!("{selection}\n").as_bytes(), look)
        }
        None => files::remove(&path).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_kept_and_forgotten_and_rubbish_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let name: WorkspaceName = "11111111-2222-3333-4444-555555555555".parse().unwrap();
        let path = layout.workspace(&name).syslog_selection();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        assert_eq!(selection(&layout, &name).unwrap(), Selection::default());
        let chosen: Selection = "kern.err".parse().unwrap();
        std::fs::write(&path, format!("{chosen}\n")).unwrap();
        assert_eq!(selection(&layout, &name).unwrap(), chosen);
        choose(&layout, &name, None).unwrap();
        assert_eq!(selection(&layout, &name).unwrap(), Selection::default());
        std::fs::write(&path, "*.* /etc/shadow\n").unwrap();
        let told = format!("{:#}", selection(&layout, &name).unwrap_err());
        assert!(told.contains("syslog.selection"), "{told}");
        assert_eq!(
            selection(&layout, &WorkspaceName::lad()).unwrap(),
            Selection::none()
        );
    }
}
