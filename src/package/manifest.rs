//! `bundle/<name>.toml`: what a package is and what is in it, as types.

use super::Format;
use super::changes::Change;
use crate::base::files;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Largest manifest or maintainer script that is read.
const TEXT_LIMIT: usize = 256 << 10;

/// A package manifest. Every `source` is relative to the folder the manifest lies in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Package name, lower case.
    pub name: String,
    /// One line without a full stop.
    pub summary: String,
    /// A few lines; an empty line parts paragraphs.
    pub description: String,
    /// `Name <address>`.
    pub maintainer: String,
    /// Who makes it (rpm's Vendor).
    pub vendor: String,
    /// SPDX expression.
    pub license: String,
    /// Where to read more, if anywhere.
    pub homepage: Option<String>,
    /// What only a .deb has.
    pub deb: Deb,
    /// What only an .rpm has.
    pub rpm: Rpm,
    /// What changed, newest version first.
    #[serde(default)]
    pub change: Vec<Change>,
    /// Folders the package owns.
    #[serde(default)]
    pub dir: Vec<Dir>,
    /// Single files.
    #[serde(default)]
    pub file: Vec<File>,
    /// Whole folders of files.
    #[serde(default)]
    pub tree: Vec<Tree>,
    /// Symbolic links.
    #[serde(default)]
    pub link: Vec<Link>,
    /// Where `source` paths start.
    #[serde(skip)]
    base: PathBuf,
    /// Files made while packing, by their `source`.
    #[serde(skip)]
    made: BTreeMap<String, Vec<u8>>,
}

/// Fields of a .deb's control file that an .rpm has no word for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deb {
    /// Archive section, e.g. `utils`.
    pub section: String,
    /// Usually `optional`.
    pub priority: String,
    /// Relations, as dpkg writes them.
    #[serde(default)]
    pub depends: Vec<String>,
    /// Weaker relations.
    #[serde(default)]
    pub recommends: Vec<String>,
    /// Other names it answers to.
    #[serde(default)]
    pub provides: Vec<String>,
    /// Maintainer scripts.
    #[serde(default)]
    pub scripts: BTreeMap<DebScript, PathBuf>,
}

/// Fields of an .rpm that a .deb has no word for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rpm {
    /// Group, a free text.
    pub group: String,
    /// Bare names of packages it needs, besides what its scriptlets need.
    #[serde(default)]
    pub requires: Vec<String>,
    /// Bare names it answers to, besides its own.
    #[serde(default)]
    pub provides: Vec<String>,
    /// Scriptlets, all run by /bin/sh.
    #[serde(default)]
    pub scripts: BTreeMap<RpmScript, PathBuf>,
}

/// When dpkg runs a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DebScript {
    /// After unpacking.
    Postinst,
    /// After removal.
    Postrm,
    /// Before unpacking.
    Preinst,
    /// Before removal.
    Prerm,
}

impl DebScript {
    /// The control archive's member.
    pub fn file_name(self) -> &'static str {
        match self {
            DebScript::Postinst => "postinst",
            DebScript::Postrm => "postrm",
            DebScript::Preinst => "preinst",
            DebScript::Prerm => "prerm",
        }
    }
}

/// When rpm runs a scriptlet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RpmScript {
    /// After installation.
    Post,
    /// After everything else of the run, the removal of an older version too.
    Posttrans,
    /// After removal.
    Postun,
    /// Before installation.
    Pre,
    /// Before removal.
    Preun,
}

/// A folder.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dir {
    /// Absolute path on the host.
    pub path: String,
    /// Permission bits.
    #[serde(default = "dir_mode")]
    pub mode: u32,
    /// Owner's name.
    #[serde(default = "root")]
    pub owner: String,
    /// Group's name.
    #[serde(default = "root")]
    pub group: String,
    /// In which formats; both when not said.
    #[serde(default = "both")]
    pub formats: Vec<Format>,
}

/// A file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Where it comes from; [`BINARY`] is the program given to `pack`, [`CHANGELOG`] what
    /// [`Manifest::change`] says, in Debian's form; any other that begins with `@` must have been
    /// given by [`Manifest::supply`].
    pub source: String,
    /// Absolute path on the host.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner's name.
    #[serde(default = "root")]
    pub owner: String,
    /// Group's name.
    #[serde(default = "root")]
    pub group: String,
    /// A file people edit: their version survives an upgrade.
    #[serde(default)]
    pub conffile: bool,
    /// Documentation: may be left out when installing.
    #[serde(default)]
    pub doc: bool,
    /// Stored compressed; the path ends in `.gz`.
    #[serde(default)]
    pub gzip: bool,
    /// In which formats; both when not said.
    #[serde(default = "both")]
    pub formats: Vec<Format>,
}

/// Every file below a folder, each with the same looks; its folders are packed too, mode 0755.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tree {
    /// The folder.
    pub source: String,
    /// Absolute path on the host that stands for `source`.
    pub path: String,
    /// Permission bits of the files.
    pub mode: u32,
    /// Files people edit: their version survives an upgrade.
    #[serde(default)]
    pub conffile: bool,
}

/// A symbolic link.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Absolute path on the host.
    pub path: String,
    /// What it says.
    pub target: String,
}

/// The `source` that stands for the program itself.
pub const BINARY: &str = "@binary";
/// The `source` that stands for the list of changes.
pub const CHANGELOG: &str = "@changelog";

fn dir_mode() -> u32 {
    0o755
}

fn root() -> String {
    "root".to_owned()
}

fn both() -> Vec<Format> {
    vec![Format::Deb, Format::Rpm]
}

impl Manifest {
    /// Reads and checks a manifest.
    pub fn load(path: &Path) -> Result<Manifest> {
        let what = || format!("package manifest `{}`", path.display());
        let bytes = files::read(path, TEXT_LIMIT)?
            .with_context(|| format!("no such file: `{}`", path.display()))?;
        let text = String::from_utf8(bytes).with_context(what)?;
        let base = path.parent().unwrap_or(Path::new("")).to_owned();
        Manifest::parse(&text, base).with_context(what)
    }

    /// As [`Manifest::load`], from a text; `base` is where `source` paths start.
    pub fn parse(text: &str, base: PathBuf) -> Result<Manifest> {
        let mut manifest: Manifest = toml::from_str(text)?;
        manifest.base = base;
        manifest.check()?;
        Ok(manifest)
    }

    /// One more file of documentation, made while building: `source` is its place on this machine,
    /// `path`, which ends in `.gz`, the one on the host.
    pub fn add_document(&mut self, path: String, source: &Path) -> Result<()> {
        let source = std::path::absolute(source)?;
        let source = source.to_str().context("a document's path is not UTF-8")?;
        self.file.push(File {
            source: source.to_owned(),
            path,
            mode: 0o644,
            owner: root(),
            group: root(),
            conffile: false,
            doc: true,
            gzip: true,
            formats: both(),
        });
        Ok(())
    }

    /// The bytes of a file whose `source` begins with `@`.
    pub fn supply(&mut self, source: String, bytes: Vec<u8>) {
        self.made.insert(source, bytes);
    }

    /// What [`Manifest::supply`] was given.
    pub fn supplied(&self, source: &str) -> Option<&[u8]> {
        self.made.get(source).map(Vec::as_slice)
    }

    /// Where a `source` lies on this machine.
    pub fn source(&self, source: impl AsRef<Path>) -> PathBuf {
        self.base.join(source)
    }

    /// The text of a maintainer script.
    pub fn script(&self, source: &Path) -> Result<String> {
        let path = self.source(source);
        let bytes = files::read(&path, TEXT_LIMIT)?
            .with_context(|| format!("no such maintainer script: `{}`", path.display()))?;
        let text = String::from_utf8(bytes)
            .with_context(|| format!("maintainer script `{}`", path.display()))?;
        if !text.starts_with("#!/bin/sh\n") {
            bail!(
                "maintainer script `{}`: the first line must be `#!/bin/sh`",
                path.display()
            );
        }
        if text.contains('\r') || text.contains('\0') {
            bail!(
                "maintainer script `{}`: line ends must be LF, and no NUL",
                path.display()
            );
        }
        Ok(text)
    }

    /// One line each, so that no value can start a further field of a control file.
    fn check(&self) -> Result<()> {
        let name_ok = self.name.len() >= 2
            && self.name.len() <= 64
            && self.name.starts_with(|c: char| c.is_ascii_lowercase())
            && self
                .name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
        if !name_ok {
            bail!(
                "package name `{}`: lower-case letters, digits and + - .",
                self.name
            );
        }
        let lists = [
            &self.deb.depends,
            &self.deb.recommends,
            &self.deb.provides,
            &self.rpm.requires,
            &self.rpm.provides,
        ];
        let single = [
            ("summary", &self.summary),
            ("maintainer", &self.maintainer),
            ("vendor", &self.vendor),
            ("license", &self.license),
            ("section", &self.deb.section),
            ("priority", &self.deb.priority),
            ("group", &self.rpm.group),
        ];
        let relations = lists.into_iter().flatten().map(|v| ("a relation", v));
        let homepage = self.homepage.iter().map(|v| ("homepage", v));
        let changes = self.change.iter().flat_map(|c| {
            let texts = c.text.iter().map(|t| ("change", t));
            texts.chain([("version of a change", &c.version)])
        });
        let all = single.into_iter().chain(relations).chain(homepage);
        for (field, value) in all.chain(changes) {
            if value.is_empty() || value.trim() != value || value.contains(char::is_control) {
                bail!("{field} `{value}`: must be one line, not empty, without blanks at its ends");
            }
        }
        if self.description.trim().is_empty()
            || self
                .description
                .contains(|c: char| c.is_control() && c != '\n')
        {
            bail!("description: must be a text without tabs and other control characters");
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub const SMALL: &str = r#"
        name = "omsagent"
        summary = "an agent"
        description = "Text."
        maintainer = "m <m@omsagent.invalid>"
        vendor = "v"
        license = "MIT"
        [deb]
        section = "utils"
        priority = "optional"
        [rpm]
        group = "g"
    "#;

    fn parse(text: &str) -> Result<Manifest> {
        Manifest::parse(text, PathBuf::new())
    }

    #[test]
    fn a_small_manifest() {
        assert_eq!(parse(SMALL).unwrap().name, "omsagent");
    }

    #[test]
    fn unknown_words_are_refused() {
        for extra in [
            "[[file]]\nsource='a'\npath='/a'\nmode=0o644\nmod=1",
            "[other]",
            "[[dir]]\npath='/a'\nformats=['apk']",
        ] {
            assert!(parse(&format!("{SMALL}\n{extra}")).is_err(), "{extra}");
        }
        assert!(parse(&SMALL.replace("[rpm]", "[deb.scripts]\nconfig='x'\n[rpm]")).is_err());
    }

    #[test]
    fn no_value_can_smuggle_a_field() {
        for (from, to) in [
            ("\"an agent\"", "\"an agent\\nEssential: yes\""),
            ("\"omsagent\"", "\"Oms agent\""),
            ("\"omsagent\"", "\"../x\""),
            ("\"Text.\"", "\" \""),
            ("\"utils\"", "\"\""),
            ("\"v\"", "\" v\""),
        ] {
            assert!(parse(&SMALL.replacen(from, to, 1)).is_err(), "{to}");
        }
    }

    #[test]
    fn scripts_are_sh_with_lf() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = Manifest::parse(SMALL, dir.path().to_owned()).unwrap();
        for (text, good) in [
            ("#!/bin/sh\nexit 0\n", true),
            ("#!/bin/bash\n", false),
            ("#!/bin/sh\r\n", false),
            ("#!/bin/sh\nexit 0\r\n", false),
            ("", false),
        ] {
            std::fs::write(dir.path().join("s"), text).unwrap();
            assert_eq!(manifest.script(Path::new("s")).is_ok(), good, "{text:?}");
        }
        assert!(manifest.script(Path::new("none")).is_err());
    }
}
