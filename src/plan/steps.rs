//! Steps that any plan can use: folders, files, links. Steps about accounts, services and
//! syslog stand with the plans that need them.

use super::{Report, Step};
use crate::base::files::{self, Look, Owner};
use anyhow::{Context, Result, bail};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Most that is kept of a replaced file for undo; ours are far smaller.
const BACKUP_LIMIT: usize = 4 << 20;

/// Makes a folder, or brings an existing one to the wanted mode and owner.
pub struct MakeDir {
    path: PathBuf,
    look: Look,
    whole: bool,
    before: Option<Before>,
}

enum Before {
    Absent,
    Dir { mode: u32, owner: Owner },
}

impl MakeDir {
    /// `path` with `look`.
    pub fn new(path: impl Into<PathBuf>, look: Look) -> Self {
        MakeDir {
            path: path.into(),
            look,
            whole: false,
            before: None,
        }
    }

    /// A folder that is ours alone: when it was not there before, undo takes it away with all
    /// that was put there since.
    pub fn ours(path: impl Into<PathBuf>, look: Look) -> Self {
        MakeDir {
            whole: true,
            ..MakeDir::new(path, look)
        }
    }
}

fn has_look(path: &Path, look: Look) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|m| {
        !m.is_symlink()
            && m.mode() & 0o7777 == look.mode
            && look
                .owner
                .is_none_or(|o| o.uid == m.uid() && o.gid == m.gid())
    })
}

impl Step for MakeDir {
    fn describe(&self) -> String {
        format!(
            "make folder {} ({:04o})",
            self.path.display(),
            self.look.mode
        )
    }

    fn satisfied(&self) -> Result<bool> {
        Ok(self.path.is_dir() && has_look(&self.path, self.look))
    }

    fn apply(&mut self, _: &mut dyn Report) -> Result<()> {
        self.before = Some(match std::fs::symlink_metadata(&self.path) {
            Ok(m) if !m.is_dir() => {
                bail!("`{}` is in the way: not a folder", self.path.display())
            }
            Ok(m) => Before::Dir {
                mode: m.mode() & 0o7777,
                owner: Owner {
                    uid: m.uid(),
                    gid: m.gid(),
                },
            },
            Err(_) => Before::Absent,
        });
        files::make_dir(&self.path, self.look)
    }

    fn undo(&mut self, _: &mut dyn Report) -> Result<()> {
        match self.before.take() {
            Some(Before::Absent) if self.whole => files::remove_tree(&self.path).map(|_| ()),
            Some(Before::Absent) => {
                files::remove_dir_if_empty(&self.path);
                Ok(())
            }
            Some(Before::Dir { mode, owner }) => {
                files::make_dir(&self.path, Look::owned(mode, owner))
            }
            None => Ok(()),
        }
    }
}

/// Puts a file in place, or removes it when the content is `None`. Its content, and what it
/// replaces, are wiped when the step is dropped: some are keys.
pub struct WriteFile {
    path: PathBuf,
    content: Option<Zeroizing<Vec<u8>>>,
    look: Look,
    keep_existing: bool,
    before: Option<Option<(Zeroizing<Vec<u8>>, Look)>>,
}

impl WriteFile {
    /// `path` with this content and look.
    pub fn new(path: impl Into<PathBuf>, content: impl Into<Vec<u8>>, look: Look) -> Self {
        WriteFile {
            path: path.into(),
            content: Some(Zeroizing::new(content.into())),
            look,
            keep_existing: false,
            before: None,
        }
    }

    /// A file that an administrator may edit: written only when it is not there.
    pub fn if_absent(path: impl Into<PathBuf>, content: impl Into<Vec<u8>>, look: Look) -> Self {
        WriteFile {
            keep_existing: true,
            ..WriteFile::new(path, content, look)
        }
    }

    /// Takes the file away.
    pub fn remove(path: impl Into<PathBuf>) -> Self {
        WriteFile {
            path: path.into(),
            content: None,
            look: Look::mode(0o600),
            keep_existing: false,
            before: None,
        }
    }
}

impl Step for WriteFile {
    fn describe(&self) -> String {
        match self.content {
            Some(_) => format!("write {} ({:04o})", self.path.display(), self.look.mode),
            None => format!("remove {}", self.path.display()),
        }
    }

    fn satisfied(&self) -> Result<bool> {
        // Whatever is there is the administrator's, a link too.
        if self.keep_existing && std::fs::symlink_metadata(&self.path).is_ok() {
            return Ok(true);
        }
        let there = files::read_no_follow(&self.path, BACKUP_LIMIT)?.map(Zeroizing::new);
        Ok(match (&self.content, there) {
            (None, there) => there.is_none(),
            (Some(want), Some(have)) => *want == have && has_look(&self.path, self.look),
            (Some(_), None) => false,
        })
    }

    fn apply(&mut self, _: &mut dyn Report) -> Result<()> {
        let before = match files::read_no_follow(&self.path, BACKUP_LIMIT)? {
            None => None,
            Some(bytes) => {
                let m = std::fs::symlink_metadata(&self.path)
                    .with_context(|| format!("cannot read `{}`", self.path.display()))?;
                let owner = Owner {
                    uid: m.uid(),
                    gid: m.gid(),
                };
                Some((Zeroizing::new(bytes), Look::owned(m.mode() & 0o7777, owner)))
            }
        };
        self.before = Some(before);
        match &self.content {
            Some(bytes) => files::write_atomic(&self.path, bytes, self.look),
            None => files::remove(&self.path).map(|_| ()),
        }
    }

    fn undo(&mut self, _: &mut dyn Report) -> Result<()> {
        match self.before.take() {
            Some(Some((bytes, look))) => files::write_atomic(&self.path, &bytes, look),
            Some(None) => files::remove(&self.path).map(|_| ()),
            None => Ok(()),
        }
    }
}

/// Points a link at a target.
pub struct MakeLink {
    link: PathBuf,
    target: PathBuf,
    before: Option<Option<PathBuf>>,
}

impl MakeLink {
    /// `link` -> `target`.
    pub fn new(link: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        MakeLink {
            link: link.into(),
            target: target.into(),
            before: None,
        }
    }
}

impl Step for MakeLink {
    fn describe(&self) -> String {
        format!("link {} -> {}", self.link.display(), self.target.display())
    }

    fn satisfied(&self) -> Result<bool> {
        Ok(std::fs::read_link(&self.link).is_ok_and(|t| t == self.target))
    }

    fn apply(&mut self, _: &mut dyn Report) -> Result<()> {
        self.before = Some(std::fs::read_link(&self.link).ok());
        files::make_link(&self.link, &self.target)
    }

    fn undo(&mut self, _: &mut dyn Report) -> Result<()> {
        match self.before.take() {
            Some(Some(target)) => files::make_link(&self.link, &target),
            Some(None) => files::remove(&self.link).map(|_| ()),
            None => Ok(()),
        }
    }
}

/// Gives a file or folder another name. A link at the old place is what somebody put there instead:
/// it stays.
pub struct MovePath {
    from: PathBuf,
    to: PathBuf,
    moved: bool,
}

impl MovePath {
    /// `from` -> `to`, on one file system. At `to` there is nothing, or an empty folder.
    pub fn new(from: impl Into<PathBuf>, to: impl Into<PathBuf>) -> Self {
        MovePath {
            from: from.into(),
            to: to.into(),
            moved: false,
        }
    }
}

impl Step for MovePath {
    fn describe(&self) -> String {
        format!("move {} to {}", self.from.display(), self.to.display())
    }

    fn satisfied(&self) -> Result<bool> {
        Ok(std::fs::symlink_metadata(&self.from).map_or(true, |m| m.is_symlink()))
    }

    fn apply(&mut self, _: &mut dyn Report) -> Result<()> {
        files::move_to(&self.from, &self.to)?;
        self.moved = true;
        Ok(())
    }

    fn undo(&mut self, _: &mut dyn Report) -> Result<()> {
        if !self.moved {
            return Ok(());
        }
        files::move_to(&self.to, &self.from)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Kept;
    use super::*;

    fn cycle(step: &mut dyn Step) {
        let report = &mut Kept::default();
        assert!(!step.satisfied().unwrap());
        step.apply(report).unwrap();
        assert!(step.satisfied().unwrap());
        step.undo(report).unwrap();
        assert!(!step.satisfied().unwrap());
    }

    #[test]
    fn each_step_takes_itself_back() {
        let dir = tempfile::tempdir().unwrap();
        let at = |n: &str| dir.path().join(n);
        std::fs::write(at("old"), "old").unwrap();
        cycle(&mut MakeDir::new(at("d"), Look::mode(0o750)));
        cycle(&mut WriteFile::new(at("f"), "x", Look::mode(0o640)));
        cycle(&mut WriteFile::new(at("old"), "new", Look::mode(0o640)));
        cycle(&mut WriteFile::remove(at("old")));
        cycle(&mut MakeLink::new(at("l"), at("old")));
        cycle(&mut MovePath::new(at("old"), at("moved")));
        assert_eq!(std::fs::read(at("old")).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_edited_file_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "edited").unwrap();
        let step = WriteFile::if_absent(dir.path().join("f"), "ours", Look::mode(0o644));
        assert!(step.satisfied().unwrap());
        std::os::unix::fs::symlink("/elsewhere", dir.path().join("l")).unwrap();
        let step = WriteFile::if_absent(dir.path().join("l"), "ours", Look::mode(0o644));
        assert!(step.satisfied().unwrap(), "a link of the administrator's");
    }

    #[test]
    fn a_move_replaces_an_empty_folder_only() {
        let dir = tempfile::tempdir().unwrap();
        let report = &mut Kept::default();
        let at = |n: &str| dir.path().join(n);
        std::fs::create_dir_all(at("from/below")).unwrap();
        std::fs::create_dir_all(at("full/other")).unwrap();
        std::fs::create_dir(at("empty")).unwrap();
        assert!(MovePath::new(at("from"), at("full")).apply(report).is_err());
        let mut step = MovePath::new(at("from"), at("empty"));
        step.apply(report).unwrap();
        assert!(at("empty/below").is_dir() && step.satisfied().unwrap());
        std::os::unix::fs::symlink("/etc", at("from")).unwrap();
        assert!(MovePath::new(at("from"), at("new")).satisfied().unwrap());
    }

    #[test]
    fn a_folder_of_ours_goes_with_what_came_into_it() {
        let dir = tempfile::tempdir().unwrap();
        let report = &mut Kept::default();
        let path = dir.path().join("d");
        let mut step = MakeDir::ours(&path, Look::mode(0o750));
        step.apply(report).unwrap();
        std::fs::write(path.join("log"), "x").unwrap();
        step.undo(report).unwrap();
        assert!(!path.exists());
        // One that was there stays, with what is in it.
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("log"), "x").unwrap();
        let mut step = MakeDir::ours(&path, Look::mode(0o711));
        step.apply(report).unwrap();
        step.undo(report).unwrap();
        assert!(path.join("log").exists());
        // A file of that name is an error, and not touched.
        let mut step = MakeDir::new(path.join("log"), Look::mode(0o711));
        assert!(step.apply(report).is_err());
        step.undo(report).unwrap();
    }
}
