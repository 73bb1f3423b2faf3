//! What a package will put on a host, gathered from a manifest: checked, sorted, in memory.

use super::manifest::{BINARY, CHANGELOG, Manifest};
use super::{Format, changes, gzip};
use crate::base::files;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::Path;

/// Largest file that is packed.
const FILE_LIMIT: usize = 1 << 30;
/// Longest path on the host: what a plain tar header holds with `./` in front and `/` behind.
const PATH_LIMIT: usize = 97;
/// Deepest and widest folder tree that is taken in.
const TREE_DEPTH: usize = 8;
const ITEM_LIMIT: usize = 10_000;

/// Folders of the system that no package of ours may own: dpkg would remove an empty one.
const NEVER_OURS: [&str; 3] = ["/opt", "/etc/opt", "/var/opt"];

/// What an item is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Dir,
    /// A file with its bytes.
    File {
        /// All of it.
        bytes: Vec<u8>,
        /// People edit it.
        conffile: bool,
        /// Documentation.
        doc: bool,
    },
    /// A symbolic link with what it says.
    Link(String),
}

/// One thing on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner's name.
    pub owner: String,
    /// Group's name.
    pub group: String,
}

/// Items by absolute path, in the order of their bytes.
#[derive(Debug, Clone)]
pub struct Contents {
    /// All of them.
    pub items: BTreeMap<String, Item>,
}

impl Contents {
    /// Reads every file that `manifest` names for `format`; `binary` is the program.
    pub fn gather(manifest: &Manifest, format: Format, binary: &Path) -> Result<Contents> {
        let mut contents = Contents {
            items: BTreeMap::new(),
        };
        for dir in manifest.dir.iter().filter(|d| d.formats.contains(&format)) {
            let item = item(Kind::Dir, dir.mode, &dir.owner, &dir.group);
            contents.add(&dir.path, item)?;
        }
        for file in manifest.file.iter().filter(|f| f.formats.contains(&format)) {
            let mut bytes = match file.source.as_str() {
                BINARY => read(binary)?,
                CHANGELOG => {
                    changes::debian(&manifest.change, &manifest.name, &manifest.maintainer)?
                        .into_bytes()
                }
                source if source.starts_with('@') => {
                    let made = manifest.supplied(source);
                    made.with_context(|| format!("nobody makes `{source}`"))?
                        .to_vec()
                }
                source => read(&manifest.source(source))?,
            };
            if file.gzip {
                bytes = gzip(&bytes)?;
            }
            if file.gzip != file.path.ends_with(".gz") {
                bail!(
                    "`{}`: `gzip = true` goes with a path in .gz, and only with one",
                    file.path
                );
            }
            let kind = Kind::File {
                bytes,
                conffile: file.conffile,
                doc: file.doc,
            };
            contents.add(&file.path, item(kind, file.mode, &file.owner, &file.group))?;
        }
        for tree in &manifest.tree {
            let looks = (tree.mode, tree.conffile);
            contents.add_tree(&manifest.source(&tree.source), &tree.path, looks, 0)?;
        }
        for link in &manifest.link {
            if link.target.is_empty() || link.target.len() > 99 || !plain(&link.target) {
                bail!("`{}`: unusable link target `{}`", link.path, link.target);
            }
            let kind = Kind::Link(link.target.clone());
            contents.add(&link.path, item(kind, 0o777, "root", "root"))?;
        }
        Ok(contents)
    }

    /// Adds the parents that are not listed, as dpkg wants them, but for those the system owns.
    pub fn with_parents(mut self) -> Contents {
        let paths: Vec<String> = self.items.keys().cloned().collect();
        for path in paths {
            let mut parent = path.as_str();
            while let Some((above, _)) = parent.rsplit_once('/').filter(|(p, _)| !p.is_empty()) {
                if !NEVER_OURS.contains(&above) {
                    let folder = || item(Kind::Dir, 0o755, "root", "root");
                    self.items.entry(above.to_owned()).or_insert_with(folder);
                }
                parent = above;
            }
        }
        self
    }

    /// Bytes of all files and links.
    pub fn size(&self) -> u64 {
        self.items.values().map(Item::size).sum()
    }

    fn add(&mut self, path: &str, item: Item) -> Result<()> {
        let normal = path.len() > 1
            && path.len() <= PATH_LIMIT
            && plain(path)
            && path.strip_prefix('/').is_some_and(|rest| {
                rest.split('/')
                    .all(|part| !part.is_empty() && part != "." && part != "..")
            });
        if !normal {
            bail!("`{path}`: want an absolute plain path of at most {PATH_LIMIT} bytes");
        }
        if NEVER_OURS.contains(&path) {
            bail!("`{path}` is the system's: a package that lists it may remove it");
        }
        if item.mode & !0o7777 != 0 || (item.mode & 0o022 != 0 && item.kind.is_solid()) {
            bail!(
                "`{path}`: mode {:o} is none, or lets others write",
                item.mode
            );
        }
        for name in [&item.owner, &item.group] {
            if name.is_empty() || name.len() > 31 || !plain(name) || name.contains('/') {
                bail!("`{path}`: unusable account name `{name}`");
            }
        }
        if self.items.len() >= ITEM_LIMIT {
            bail!("more than {ITEM_LIMIT} files and folders");
        }
        if self.items.insert(path.to_owned(), item).is_some() {
            bail!("`{path}` is listed twice");
        }
        Ok(())
    }

    fn add_tree(
        &mut self,
        source: &Path,
        path: &str,
        looks: (u32, bool),
        depth: usize,
    ) -> Result<()> {
        let what = || format!("cannot read folder `{}`", source.display());
        if depth > TREE_DEPTH {
            bail!(
                "`{}`: more than {TREE_DEPTH} folders deep",
                source.display()
            );
        }
        if !self.items.contains_key(path) {
            self.add(path, item(Kind::Dir, 0o755, "root", "root"))?;
        }
        for entry in std::fs::read_dir(source).with_context(what)? {
            let entry = entry.with_context(what)?;
            let name = entry.file_name();
            let name = name.to_str().with_context(what)?;
            let (below, to) = (entry.path(), format!("{path}/{name}"));
            let kind = entry.file_type().with_context(what)?;
            if kind.is_dir() {
                self.add_tree(&below, &to, looks, depth + 1)?;
            } else if kind.is_file() {
                let kind = Kind::File {
                    bytes: read(&below)?,
                    conffile: looks.1,
                    doc: false,
                };
                self.add(&to, item(kind, looks.0, "root", "root"))?;
            } else {
                bail!("`{}`: neither a file nor a folder", below.display());
            }
        }
        Ok(())
    }
}

impl Item {
    /// Bytes of a file, or of what a link says.
    pub fn size(&self) -> u64 {
        match &self.kind {
            Kind::Dir => 0,
            Kind::File { bytes, .. } => bytes.len() as u64,
            Kind::Link(target) => target.len() as u64,
        }
    }
}

impl Kind {
    fn is_solid(&self) -> bool {
        !matches!(self, Kind::Link(_))
    }
}

fn item(kind: Kind, mode: u32, owner: &str, group: &str) -> Item {
    Item {
        kind,
        mode,
        owner: owner.to_owned(),
        group: group.to_owned(),
    }
}

fn plain(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"/._+@~-".contains(&b))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    files::read(path, FILE_LIMIT)?.with_context(|| format!("no such file: `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::super::manifest::tests::SMALL;
    use super::*;

    fn gather(base: &Path, extra: &str) -> Result<Contents> {
        let manifest = Manifest::parse(&format!("{SMALL}\n{extra}"), base.to_owned())?;
        Contents::gather(&manifest, Format::Deb, &base.join("bin"))
    }

    #[test]
    fn a_tree_brings_its_folders_and_parents_come_last() {
        let base = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(base.path().join("t/sub")).unwrap();
        std::fs::write(base.path().join("t/sub/f"), "text").unwrap();
        std::fs::write(base.path().join("bin"), "program").unwrap();
        let extra = "[[tree]]\nsource='t'\npath='/etc/opt/m/s'\nmode=0o644\nconffile=true\n\
                     [[file]]\nsource='@binary'\npath='/opt/m/b'\nmode=0o755\n\
                     [[file]]\nsource='bin'\npath='/x'\nmode=0o755\nformats=['rpm']";
        let contents = gather(base.path(), extra).unwrap().with_parents();
        let paths: Vec<&str> = contents.items.keys().map(String::as_str).collect();
        assert_eq!(
            paths,
            [
                "/etc",
                "/etc/opt/m",
                "/etc/opt/m/s",
                "/etc/opt/m/s/sub",
                "/etc/opt/m/s/sub/f",
                "/opt/m",
                "/opt/m/b"
            ]
        );
        assert_eq!(contents.size(), 4 + 7);
    }

    #[test]
    fn what_must_not_be_packed() {
        let base = tempfile::tempdir().unwrap();
        std::fs::write(base.path().join("f"), "text").unwrap();
        let file =
            |path: &str, mode: &str| format!("[[file]]\nsource='f'\npath='{path}'\nmode={mode}\n");
        let at_limit = format!("/{}", "a".repeat(PATH_LIMIT - 1));
        assert!(gather(base.path(), &file("/a", "0o644")).is_ok());
        assert!(gather(base.path(), &file(&at_limit, "0o644")).is_ok());
        for bad in [
            file(&format!("{at_limit}a"), "0o644"),
            file("a", "0o644"),
            file("/", "0o644"),
            file("/a/../b", "0o644"),
            file("/a//b", "0o644"),
            file("/a/", "0o644"),
            file("/a b", "0o644"),
            file("/opt", "0o644"),
            file("/a", "0o666"),
            file("/a", "0o100644"),
            file("/a.gz", "0o644"),
            format!("{}{}", file("/a", "0o644"), file("/a", "0o644")),
            "[[dir]]\npath='/etc/opt'".to_owned(),
            "[[dir]]\npath='/a'\nowner='a:b'".to_owned(),
            "[[file]]\nsource='none'\npath='/a'\nmode=0o644".to_owned(),
            "[[file]]\nsource='@man/x.1'\npath='/a'\nmode=0o644".to_owned(),
            "[[link]]\npath='/a'\ntarget=''".to_owned(),
        ] {
            assert!(gather(base.path(), &bad).is_err(), "{bad}");
        }
    }
}
