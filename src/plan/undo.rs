//! How a change is taken back: data, written down before the change is made, so that a run that
//! fails and a later one that finds it cut short do the very same.

use super::Report;
use super::backup::{Backups, Kept};
use super::keep::{self, Keep};
use super::process::Process;
use crate::base::files::{self, Look, Owner};
use crate::host::packages::Leaving;
use crate::host::{Host, accounts, services, sudoers};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What there is to do to be as before. It holds names, numbers and modes, never what is in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undo {
    /// Nothing: the step leaves no trace, or one that is not taken back.
    Nothing,
    /// Several, the last one first.
    All(Vec<Undo>),
    /// A folder.
    Folder {
        /// Where.
        path: PathBuf,
        /// Its mode and owner; `None`: it was not there.
        before: Option<Mode>,
        /// When it was not there: does it go with all that is in it now, or only if it is empty?
        whole: bool,
    },
    /// A file: put back from the kept one, or removed.
    File {
        /// Where.
        path: PathBuf,
        /// The kept one; `None`: there was nothing.
        before: Option<Kept>,
    },
    /// A link: pointed where it pointed, or removed.
    Link {
        /// Where.
        path: PathBuf,
        /// Its target; `None`: there was nothing.
        before: Option<PathBuf>,
    },
    /// Something that got another name: it gets its old one back, unless that is taken again.
    Moved {
        /// Its old name.
        from: PathBuf,
        /// Its new one.
        to: PathBuf,
    },
    /// The owner of a file that stays.
    Owner {
        /// Where.
        path: PathBuf,
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
    /// A group that was not there.
    NoGroup(String),
    /// A user that was not there.
    NoUser(String),
    /// No sudo rules of ours in any file.
    NoSudoRules,
    /// The unit of a service.
    Unit {
        /// Its name.
        name: String,
        /// As it was; `None`: there was no unit.
        before: Option<UnitBefore>,
    },
    /// An agent that ran: when another process, or none, is there now, it is started again.
    Running {
        /// Its unit.
        name: String,
        /// The process.
        process: Process,
    },
    /// Configuration files of the syslog daemon, which is restarted when they change.
    Syslog(Vec<Undo>),
    /// A package of the host's package manager. Taken back by the run that installed it; one that
    /// was cut short is left to the package manager, and to the next installation.
    Package {
        /// Its name.
        name: String,
        /// Version that was there.
        version: Option<String>,
        /// Settings of an earlier installation were there: it is removed, not purged.
        keeps_settings: bool,
    },
}

/// Permission bits and owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mode {
    /// Permission bits.
    pub mode: u32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Mode {
    fn of(meta: &std::fs::Metadata) -> Mode {
        Mode {
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
        }
    }

    fn look(self) -> Look {
        let (uid, gid) = (self.uid, self.gid);
        Look::owned(self.mode, Owner { uid, gid })
    }
}

/// A unit that was there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitBefore {
    /// Its file ([`Undo::File`]).
    pub file: Box<Undo>,
    /// Started at boot.
    pub enabled: bool,
    /// Running.
    pub active: bool,
}

impl Undo {
    /// How to bring the folder at `path` back to what it is now.
    pub fn folder(path: &Path, whole: bool) -> Result<Undo> {
        let before = match std::fs::symlink_metadata(path) {
            Ok(m) if !m.is_dir() => bail!("`{}` is in the way: not a folder", path.display()),
            Ok(m) => Some(Mode::of(&m)),
            Err(_) => None,
        };
        Ok(Undo::Folder {
            path: path.to_owned(),
            before,
            whole,
        })
    }

    /// How to bring the link at `path` back to what it is now.
    pub fn link(path: &Path) -> Undo {
        let path = path.to_owned();
        let before = std::fs::read_link(&path).ok();
        Undo::Link { path, before }
    }

    /// How to give the file at `path` back to its owner of now.
    pub fn owner(path: &Path) -> Undo {
        match std::fs::symlink_metadata(path) {
            Err(_) => Undo::Nothing,
            Ok(meta) => Undo::Owner {
                path: path.to_owned(),
                uid: meta.uid(),
                gid: meta.gid(),
            },
        }
    }

    /// Is it, or does it hold, a package?
    pub fn has_package(&self) -> bool {
        match self {
            Undo::Package { .. } => true,
            Undo::All(several) => several.iter().any(Undo::has_package),
            _ => false,
        }
    }
}

/// Who takes something back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The run itself, after a failure.
    Failed,
    /// A later one: what was half done cannot be told from what was not done, so daemons are
    /// told again in any case, and packages are left to their manager.
    CutShort,
}

/// What taking back needs.
pub struct Reverter<'a> {
    /// The host that was changed.
    pub host: &'a Host,
    /// What was kept of its files.
    pub backups: &'a Backups,
    /// Who does it.
    pub when: When,
    /// Who is told.
    pub report: &'a mut dyn Report,
}

impl Reverter<'_> {
    /// Takes one change back. A change that was made in part, not at all, or that was taken back
    /// already, is as welcome: afterwards the host is as before. Goes on over failures within
    /// several changes and returns the first.
    pub fn revert(&mut self, undo: &Undo) -> Result<()> {
        let host = self.host;
        match undo {
            Undo::Nothing => Ok(()),
            Undo::All(several) => self.several(several).map(drop),
            Undo::Folder { .. } | Undo::File { .. } | Undo::Link { .. } | Undo::Moved { .. } => {
                self.put_back(undo).map(drop)
            }
            Undo::Owner { path, uid, gid } => {
                let (uid, gid) = (*uid, *gid);
                files::chown_file(path, Owner { uid, gid })
            }
            Undo::NoGroup(name) => Ok(accounts::remove_group(host, name).map(drop)?),
            Undo::NoUser(name) => Ok(accounts::remove_user(host, name).map(drop)?),
            Undo::NoSudoRules => sudoers::remove(host).map(drop),
            Undo::Unit { name, before: None } => Ok(services::remove_unit(host, name).map(drop)?),
            Undo::Unit {
                name,
                before: Some(before),
            } => self.unit(name, before),
            Undo::Running { name, process } => {
                if services::main_pid(host, name)? != Some(process.pid) || !process.is_alive() {
                    let _ = services::restart(host, name)?;
                }
                Ok(())
            }
            Undo::Syslog(several) => {
                let changed = self.several(several)?;
                if changed || self.when == When::CutShort {
                    let _ = services::restart_syslog(host)?;
                }
                Ok(())
            }
            Undo::Package {
                name,
                version,
                keeps_settings,
            } => self.package(name, version.as_deref(), *keeps_settings),
        }
    }

    /// True when anything was changed.
    fn several(&mut self, several: &[Undo]) -> Result<bool> {
        let (mut changed, mut failure) = (false, None);
        for undo in several.iter().rev() {
            match self.put_back(undo) {
                Ok(change) => changed |= change,
                Err(e) => failure = failure.or(Some(e)),
            }
        }
        failure.map_or(Ok(changed), Err)
    }

    /// True when anything had to be done; always, for what cannot tell.
    fn put_back(&mut self, undo: &Undo) -> Result<bool> {
        match undo {
            Undo::Folder {
                path,
                before,
                whole,
            } => match before {
                // A parent that went with all below it is not made again.
                Some(_) if !path.exists() => Ok(false),
                Some(before) => files::make_dir(path, before.look()).map(|()| true),
                None if *whole => files::remove_tree(path),
                None => Ok(files::remove_dir_if_empty(path)),
            },
            Undo::File { path, before: None } | Undo::Link { path, before: None } => {
                match path.symlink_metadata() {
                    Ok(m) if m.is_dir() => Ok(false),
                    _ => files::remove(path),
                }
            }
            Undo::File {
                path,
                before: Some(kept),
            } => {
                let bytes = self.backups.body(kept)?;
                let there = path.symlink_metadata().ok().filter(|m| m.is_file());
                let looks = there.is_some_and(|m| {
                    let now = Mode::of(&m);
                    (now.mode, now.uid, now.gid) == (kept.mode, kept.uid, kept.gid)
                });
                // One that cannot be read, or is a link, is not what was there.
                let now = files::read_no_follow(path, bytes.len() + 1).ok().flatten();
                if looks && now.as_deref() == Some(bytes.as_slice()) {
                    return Ok(false);
                }
                files::write_atomic(path, &bytes, kept.look()).map(|()| true)
            }
            Undo::Link {
                path,
                before: Some(target),
            } => {
                if std::fs::read_link(path).is_ok_and(|now| now == *target) {
                    return Ok(false);
                }
                if path.symlink_metadata().is_ok_and(|m| m.is_file()) {
                    files::remove(path)?;
                }
                files::make_link(path, target).map(|()| true)
            }
            Undo::Moved { from, to } => {
                if from.symlink_metadata().is_ok() || to.symlink_metadata().is_err() {
                    return Ok(false);
                }
                files::move_to(to, from).map(|()| true)
            }
            other => self.revert(other).map(|()| true),
        }
    }

    fn unit(&mut self, name: &str, before: &UnitBefore) -> Result<()> {
        let host = self.host;
        if self.put_back(&before.file)? || self.when == When::CutShort {
            services::reload(host)?;
        }
        if before.enabled {
            let _ = services::enable(host, name)?;
        } else {
            let _ = services::disable(host, name)?;
        }
        // One that ran is [`Undo::Running`]'s, once its files are back.
        if !before.active {
            let _ = services::stop(host, name)?;
        }
        Ok(())
    }

    fn package(&mut self, name: &str, version: Option<&str>, keeps_settings: bool) -> Result<()> {
        if self.when == When::CutShort {
            return Ok(());
        }
        let manager = self.host.packages.context("no package manager")?;
        let keep = Keep::of(&self.host.layout);
        let leaving = match keeps_settings {
            true => Leaving::Remove,
            false => Leaving::Purge,
        };
        keep::take_back(&keep, manager, name, version, leaving, self.report)
    }
}
