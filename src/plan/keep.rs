//! The package files that this host was given, kept so that an upgrade can be taken back: the
//! version that is there and the one before it. `packages/` of [`product::records`] holds the
//! files and one record per run that changed a package; root's alone (0700).

mod back;

pub use back::{go_back, take_back};

use crate::base::files::{self, Look, Owner};
use crate::base::order;
use crate::bundle::{Bundle, Entry};
use crate::host::layout::Layout;
use crate::host::packages::PackageManager;
use crate::package::version::Version;
use crate::plan::Report;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Most that all kept files take together. What is needed to take back the last upgrade comes
/// first, then what is new; a file that does not fit is not kept.
const CAP: u64 = 256 << 20;
/// What stays free beside a file that is kept.
const RESERVE: u64 = 16 << 20;
/// Largest record, and most of them.
const RECORD_LIMIT: usize = 256 << 10;
const RECORDS: usize = 1000;
/// A file that is not complete yet.
const UNFINISHED: &str = ".unfinished";

/// What a run did to one package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The package.
    pub name: String,
    /// The version the run put in place.
    pub version: String,
    /// The version before; none: it was not installed.
    pub before: Option<String>,
    /// `deb` or `rpm`.
    pub kind: String,
    /// The kept file of `version`.
    pub file: String,
    /// Of its bytes.
    pub sha256: String,
}

/// What made a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum After {
    /// The bundle installed or upgraded.
    Install,
    /// `omsagent rollback` went back: there is nothing earlier.
    Rollback,
}

/// One run that changed packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    schema: u32,
    /// When it began.
    pub time: String,
    /// What it was.
    pub after: After,
    /// What it changed, in the order in which it did.
    pub packages: Vec<Kept>,
}

/// The folder of kept packages. Clones speak of the same run.
#[derive(Debug, Clone)]
pub struct Keep {
    folder: PathBuf,
    run: Rc<Cell<Option<u64>>>,
}

/// A package file that dpkg or rpm can read. One that is not kept goes with this value.
pub struct Delivered {
    path: PathBuf,
    kept: bool,
}

impl Delivered {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Delivered {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A package whose file is taken out of the bundle.
pub struct Coming<'a> {
    /// The package.
    pub name: &'a str,
    /// Who installs it.
    pub manager: PackageManager,
    /// The installed version.
    pub before: Option<&'a str>,
    /// Where the file goes when it cannot be kept.
    pub scratch: &'a Path,
}

/// Where the files are.
pub fn folder(layout: &Layout) -> PathBuf {
    layout.records().join("packages")
}

impl Keep {
    /// The folder of this host, for one run.
    pub fn of(layout: &Layout) -> Keep {
        Keep {
            folder: folder(layout),
            run: Rc::default(),
        }
    }

    /// This run goes on with one that began at `since` (RFC 3339) and was cut short: its record
    /// becomes this one's, so that the way back leads to before both.
    pub fn go_on(&self, since: &str) {
        let time = |text: &str| text.parse::<jiff::Timestamp>().ok();
        let newest = self.generations().into_iter().next();
        if let Some((number, generation)) = newest
            && generation.after == After::Install
            && let (Some(made), Some(since)) = (time(&generation.time), time(since))
            && made >= since
        {
            self.run.set(Some(number));
        }
    }

    /// Takes a package out of the bundle: into the folder, with a record, before anything is
    /// installed; where that cannot be, into `scratch`, and a line says what that means.
    pub fn deliver(
        &self,
        bundle: &Bundle,
        entry: &Entry,
        coming: &Coming<'_>,
        report: &mut dyn Report,
    ) -> Result<Delivered> {
        let version = entry.version.as_deref().unwrap_or_default();
        if let Some(before) = coming.before
            && !same(before, version)
            && self.find(coming.name, before, coming.manager).is_none()
        {
            report.line(&format!(
                "No package file of {} {before} is kept on this host: there will be no way back to it.",
                coming.name
            ));
        }
        match self.take_in(bundle, entry, coming, version) {
            Ok(path) => Ok(Delivered { path, kept: true }),
            Err(e) => {
                report.warn(&format!(
                    "the package file of {} {version} is not kept, so there will be no way back to it: {e:#}",
                    coming.name
                ));
                let path = coming.scratch.join(&entry.name);
                bundle.extract(entry, &path, 0o644)?;
                Ok(Delivered { path, kept: false })
            }
        }
    }

    fn take_in(
        &self,
        bundle: &Bundle,
        entry: &Entry,
        coming: &Coming<'_>,
        version: &str,
    ) -> Result<PathBuf> {
        let private = Look::owned(0o700, Owner::ROOT);
        if let Some(records) = self.folder.parent() {
            files::make_dir(records, private)?;
        }
        files::make_dir(&self.folder, private)?;
        let file = format!("{}-{}", &entry.sha256.as_str()[..12], entry.name);
        let path = self.folder.join(&file);
        if digest(&path).is_ok_and(|sum| sum == entry.sha256.as_str()) {
            self.note(coming, version, &file, entry.sha256.as_str())?;
            return Ok(path);
        }
        self.make_room(entry, coming.name)?;
        let unfinished = self.folder.join(format!("{file}{UNFINISHED}"));
        let _ = files::remove(&unfinished)?;
        bundle.extract(entry, &unfinished, 0o600)?;
        let settled = File::open(&unfinished)
            .and_then(|f| f.sync_all())
            .and_then(|()| std::fs::rename(&unfinished, &path));
        if let Err(e) = settled {
            let _ = std::fs::remove_file(&unfinished);
            return Err(e).with_context(|| format!("cannot write `{}`", path.display()));
        }
        files::sync_dir(&self.folder);
        self.note(coming, version, &file, entry.sha256.as_str())?;
        Ok(path)
    }

    /// Writes down what this run is about to install.
    fn note(&self, coming: &Coming<'_>, version: &str, file: &str, sha256: &str) -> Result<()> {
        let kept = Kept {
            name: coming.name.to_owned(),
            version: version.to_owned(),
            before: coming.before.map(str::to_owned),
            kind: coming.manager.suffix().to_owned(),
            file: file.to_owned(),
            sha256: sha256.to_owned(),
        };
        // The same version once more: what was before it stays what it was.
        if coming.before.is_some_and(|before| same(before, version)) {
            for (number, mut generation) in self.generations() {
                if let Some(there) = generation
                    .packages
                    .iter_mut()
                    .find(|k| k.name == kept.name && same(&k.version, version))
                {
                    *there = Kept {
                        before: there.before.clone(),
                        ..kept
                    };
                    return self.write(number, &generation);
                }
            }
        }
        let (mut number, mut generation) = self.own();
        let there = generation.packages.iter().find(|k| k.name == kept.name);
        let kept = match there {
            Some(there) if same(&there.version, version) => Kept {
                before: there.before.clone(),
                ..kept
            },
            // Another bundle goes on: a failure of its own leads back to what this one left.
            Some(_) => {
                self.run.set(None);
                (number, generation) = self.own();
                kept
            }
            None => kept,
        };
        generation.packages.retain(|k| k.name != kept.name);
        generation.packages.push(kept);
        self.write(number, &generation)
    }

    /// The record of this run, a new one unless there is one.
    fn own(&self) -> (u64, Generation) {
        let all = self.generations();
        let next = all.first().map_or(1, |(number, _)| number + 1);
        let number = self.run.get().unwrap_or(next);
        self.run.set(Some(number));
        let there = all.into_iter().find(|(n, _)| *n == number);
        (
            number,
            there.map_or_else(|| Generation::new(After::Install), |(_, g)| g),
        )
    }

    fn write(&self, number: u64, generation: &Generation) -> Result<()> {
        let mut text = serde_json::to_string_pretty(generation)?;
        text.push('\n');
        files::write_atomic(
            &self.record(number),
            text.as_bytes(),
            Look::owned(0o600, Owner::ROOT),
        )
    }

    fn record(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:08}.json"))
    }

    /// All records, the newest first. One that cannot be read counts as none.
    pub fn generations(&self) -> Vec<(u64, Generation)> {
        let Ok(entries) = std::fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let mut found: Vec<(u64, Generation)> = entries
            .filter_map(|entry| {
                let name = entry.ok()?.file_name().into_string().ok()?;
                let number = name.strip_suffix(".json")?.parse().ok()?;
                let text = files::read_text_no_follow(&self.folder.join(&name), RECORD_LIMIT);
                Some((number, serde_json::from_slice(text.ok()??.as_bytes()).ok()?))
            })
            .take(RECORDS)
            .collect();
        order::by_key(&mut found, |(number, _)| std::cmp::Reverse(*number));
        found
    }

    /// The kept file of that version, if it is there (its bytes are not looked at yet).
    pub fn find(&self, name: &str, version: &str, manager: PackageManager) -> Option<Kept> {
        self.generations()
            .into_iter()
            .flat_map(|(_, generation)| generation.packages)
            .find(|k| {
                k.name == name
                    && same(&k.version, version)
                    && k.kind == manager.suffix()
                    && is_plain(&k.file)
                    && self.folder.join(&k.file).is_file()
            })
    }

    /// The file's path, after a look at its bytes.
    pub fn checked(&self, kept: &Kept) -> Result<PathBuf> {
        let path = self.folder.join(&kept.file);
        if digest(&path)? != kept.sha256 {
            bail!(
                "the kept package file `{}` is not what was kept: its SHA-256 differs",
                path.display()
            );
        }
        Ok(path)
    }

    /// Takes the newest note of a package back, when it tells of another version than `there`: that
    /// one was not installed after all.
    pub fn forget(&self, name: &str, there: Option<&str>) {
        let Some((number, mut generation)) = self.generations().into_iter().next() else {
            return;
        };
        let stays = |kept: &Kept| {
            kept.name != name || there.is_some_and(|there| same(&kept.version, there))
        };
        if generation.packages.iter().all(stays) {
            return;
        }
        generation.packages.retain(stays);
        let _ = if generation.packages.is_empty() {
            files::remove(&self.record(number)).map(|_| ())
        } else {
            self.write(number, &generation)
        };
        self.trim();
        files::remove_dir_if_empty(&self.folder);
    }

    /// After `omsagent rollback`: these are there now, with nothing before them.
    pub fn went_back(&self, packages: Vec<Kept>) -> Result<()> {
        let all = self.generations();
        let number = all.first().map_or(1, |(number, _)| number + 1);
        let generation = Generation {
            packages,
            ..Generation::new(After::Rollback)
        };
        self.write(number, &generation)?;
        self.trim();
        Ok(())
    }

    /// Of each package the newest kept file and the one before it; the others go.
    fn wanted(&self) -> Vec<String> {
        let all = self.generations();
        let mut names: Vec<&str> = Vec::new();
        let mut wanted = Vec::new();
        for kept in all.iter().flat_map(|(_, g)| &g.packages) {
            if names.contains(&kept.name.as_str()) {
                continue;
            }
            names.push(&kept.name);
            wanted.push(kept.file.clone());
            let before = kept.before.as_deref().unwrap_or_default();
            let earlier = all.iter().flat_map(|(_, g)| &g.packages);
            wanted.extend(
                earlier
                    .filter(|k| k.name == kept.name && same(&k.version, before))
                    .map(|k| k.file.clone())
                    .take(1),
            );
        }
        wanted
    }

    /// Deletes what no way back needs: older files, records of which nothing is left, what a
    /// killed run did not finish.
    pub fn trim(&self) {
        let wanted = self.wanted();
        let all = self.generations();
        // Nobody goes back past it, also when no file of it is left.
        let fence = all.iter().find(|(_, g)| g.after == After::Rollback);
        let fence = fence.map(|(number, _)| *number);
        for (number, generation) in all {
            if Some(number) != fence
                && !generation.packages.iter().any(|k| wanted.contains(&k.file))
            {
                let _ = files::remove(&self.record(number));
            }
        }
        files::sweep_unfinished(&self.folder);
        for name in self.names() {
            if !name.ends_with(".json") && !wanted.contains(&name) {
                let _ = files::remove(&self.folder.join(name));
            }
        }
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten();
        entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect()
    }

    /// Would so many bytes of new files be kept, with so much free there?
    pub fn takes(bytes: u64, free: u64) -> bool {
        bytes <= CAP && bytes + RESERVE <= free
    }

    /// Room for one more file, below the cap and on the disk. Older files go for it, the installed
    /// version's and what this run took in do not.
    fn make_room(&self, entry: &Entry, name: &str) -> Result<()> {
        self.trim();
        let need = entry.size + RESERVE;
        if self.used() + entry.size <= CAP && free(&self.folder)? >= need {
            return Ok(());
        }
        // What stood before the installed version was of use until now.
        let own = self.run.get();
        let newest = self.generations().into_iter().find_map(|(number, g)| {
            let kept = g.packages.into_iter().find(|k| k.name == name)?;
            (Some(number) != own).then_some(kept)
        });
        if let Some(newest) = newest
            && let Some(before) = &newest.before
        {
            for (_, generation) in self.generations() {
                for kept in generation
                    .packages
                    .iter()
                    .filter(|k| k.name == name && same(&k.version, before) && k.file != newest.file)
                {
                    files::remove(&self.folder.join(&kept.file))?;
                }
            }
        }
        let (used, free) = (self.used(), free(&self.folder)?);
        if used + entry.size > CAP {
            bail!(
                "kept packages take {} MB at most, {} MB are used and {} MB needed",
                CAP >> 20,
                used >> 20,
                entry.size.div_ceil(1 << 20)
            );
        }
        if free < need {
            bail!(
                "`{}` has {} MB free and needs {} MB",
                self.folder.display(),
                free >> 20,
                need.div_ceil(1 << 20)
            );
        }
        Ok(())
    }

    fn used(&self) -> u64 {
        let sizes = self.names().into_iter().filter_map(|name| {
            let meta = std::fs::symlink_metadata(self.folder.join(name)).ok()?;
            meta.is_file().then_some(meta.len())
        });
        sizes.sum()
    }
}

impl Generation {
    fn new(after: After) -> Generation {
        Generation {
            schema: 1,
            time: jiff::Timestamp::now().to_string(),
            after,
            packages: Vec::new(),
        }
    }
}

/// Do two texts name the same version? dpkg, rpm and the bundle differ in dash and dot.
pub fn same(a: &str, b: &str) -> bool {
    a == b || matches!((Version::parse(a), Version::parse(b)), (Ok(a), Ok(b)) if a == b)
}

/// A file name, not a path: a record could say anything.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains('/')
}

fn digest(path: &Path) -> Result<String> {
    let what = || format!("cannot read `{}`", path.display());
    let mut file = File::open(path).with_context(what)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0u8; 256 << 10];
    loop {
        let n = file.read(&mut piece).with_context(what)?;
        if n == 0 {
            break;
        }
        hash.update(&piece[..n]);
    }
    let hex = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Ok(hex)
}

fn free(folder: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(folder)
        .with_context(|| format!("cannot ask for the free space of `{}`", folder.display()))?;
    Ok(stat.f_bavail * stat.f_frsize)
}

#[cfg(test)]
#[path = "keep/tests.rs"]
pub(crate) mod testing;
