//! Steps that any plan can use: folders, files, links. Steps about accounts, services and
//! syslog stand with the plans that need them.

use super::backup::Backups;
use super::undo::Undo;
use super::{Report, Step};
use crate::base::files::{self, Look};
use anyhow::Result;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Most that is compared of a file that is there; ours are far smaller.
const LIMIT: usize = 4 << 20;

/// Makes a folder, or brings an existing one to the wanted mode and owner.
pub struct MakeDir {
    path: PathBuf,
    look: Look,
    whole: bool,
}

impl MakeDir {
    /// `path` with `look`.
    pub fn new(path: impl Into<PathBuf>, look: Look) -> Self {
        MakeDir {
            path: path.into(),
            look,
            whole: false,
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

    fn before(&self, _: &mut Backups) -> Result<Undo> {
        Undo::folder(&self.path, self.whole)
    }

    fn apply(&mut self, _: &mut dyn Report) -> Result<()> {
        files::make_dir(&self.path, self.look)
    }
}

/// Puts a file in place, or removes it when the content is `None`. Its content is
/// wiped when the step is dropped: some are keys.
pub struct WriteFile {
    path: PathBuf,
    content: Option<Zeroizing<Vec<u8>>>,
    look: Look,
    keep_existing: bool,
}

impl WriteFile {
    /// `path` with this content and look.
    pub fn new(path: impl Into<PathBuf>, content: impl Into<Vec<u8>>, look: Look) -> Self {
        WriteFile {
            path: path.into(),
            content: Some(Zeroizing::new(content.into())),
            look,
            keep_existing: false,
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
        let there = files::read_no_follow(&self.path, LIMIT)?.map(Zeroizing::new);
        Ok(match (&self.content, there) {
            (None, there) => there.is_none(),
            (Some(want), Some(have)) => *want == have && has_look(&self.path, self.look),
            (Some(_), None) => false,
        })
    }

    fn before(&self, backups: &mut Backups) -> Result<Undo> {
        backups.snapshot(&self.path)
    }

    fn apply(&mut self, _: &mut dyn Report) -> Result<()> {
        match &self.content {
            Some(bytes) => files::write_atomic(&self.path, bytes, self.look),
            None => files::remove(&self.path).map(|_| ()),
        }
    }
}

/// Points a link at a target.
pub struct MakeLink {
    link: PathBuf,
    target: PathBuf,
}

impl MakeLink {
    /// `link` -> `target`.
    pub fn new(link: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        MakeLink {
            link: link.into(),
            target: target.into(),
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

    fn before(&self, _: &mut Backups) -> Result<Undo> {
        Ok(Undo::link(&self.link))
    }

    fn apply(&mut self, _: &mut dyn Report) -> Result<()> {
        files::make_link(&self.link, &self.target)
    }
}

/// Gives a file or folder another name. A link at the old place is what somebody put there instead:
/// it stays.
pub struct MovePath {
    from: PathBuf,
    to: PathBuf,
}

impl MovePath {
    /// `from` -> `to`, on one file system. At `to` there is nothing, or an empty folder.
    pub fn new(from: impl Into<PathBuf>, to: impl Into<PathBuf>) -> Self {
        MovePath {
            from: from.into(),
            to: to.into(),
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

    fn before(&self, _: &mut Backups) -> Result<Undo> {
        Ok(Undo::Moved {
            from: self.from.clone(),
            to: self.to.clone(),
        })
    }

    fn apply(&mut self, _: &mut dyn Report) -> Result<()> {
        files::move_to(&self.from, &self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{applied, host_at};
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn cycle(step: &mut dyn Step, root: &Path) {
        assert!(!step.satisfied().unwrap());
        let done = applied(step, &root.join("records"));
        done.result.as_ref().unwrap();
        assert!(step.satisfied().unwrap());
        done.take_back(&host_at(root));
        assert!(!step.satisfied().unwrap());
    }

    #[test]
    fn each_step_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let at = |n: &str| dir.path().join(n);
        std::fs::write(at("old"), "old").unwrap();
        std::fs::set_permissions(at("old"), PermissionsExt::from_mode(0o604)).unwrap();
        let root = dir.path();
        cycle(&mut MakeDir::new(at("d"), Look::mode(0o750)), root);
        cycle(&mut WriteFile::new(at("f"), "x", Look::mode(0o640)), root);
        let mut step = WriteFile::new(at("old"), "new", Look::mode(0o640));
        cycle(&mut step, root);
        cycle(
            &mut WriteFile::new(at("old"), "old", Look::mode(0o640)),
            root,
        );
        cycle(&mut WriteFile::remove(at("old")), root);
        cycle(&mut MakeLink::new(at("l"), at("old")), root);
        std::os::unix::fs::symlink("/elsewhere", at("m")).unwrap();
        cycle(&mut MakeLink::new(at("m"), at("old")), root);
        assert_eq!(
            std::fs::read_link(at("m")).unwrap(),
            Path::new("/elsewhere")
        );
        cycle(&mut MovePath::new(at("old"), at("moved")), root);
        assert_eq!(std::fs::read(at("old")).unwrap(), b"old");
        let mode = std::fs::metadata(at("old")).unwrap().mode() & 0o7777;
        assert_eq!(mode, 0o604);
        assert_eq!(std::fs::read_dir(at("records")).unwrap().count(), 0);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
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
        let report = &mut super::super::testing::Kept::default();
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
        let (host, records) = (host_at(dir.path()), dir.path().join("records"));
        let path = dir.path().join("d");
        let done = applied(&mut MakeDir::ours(&path, Look::mode(0o750)), &records);
        std::fs::write(path.join("log"), "x").unwrap();
        done.take_back(&host);
        assert!(!path.exists());
        // One that was there stays, with what is in it, and gets its mode back.
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o705)).unwrap();
        std::fs::write(path.join("log"), "x").unwrap();
        let done = applied(&mut MakeDir::ours(&path, Look::mode(0o711)), &records);
        done.take_back(&host);
        assert!(path.join("log").exists());
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o705);
        // A file of that name is an error before anything is touched.
        let step = MakeDir::new(path.join("log"), Look::mode(0o711));
        assert!(step.before(&mut Backups::of(&records, "run")).is_err());
        assert!(path.join("log").is_file());
    }
}
