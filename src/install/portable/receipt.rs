//! The receipt: what was laid down without a package manager, and what is needed to take it away
//! again. On the disk before the first file is, so that a killed run can be finished or cleaned up.

use crate::base::files::{self, Look, Owner};
use crate::host::layout::Layout;
use crate::install::product;
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Counts up when a field changes its meaning.
const SCHEMA: u32 = 1;
/// Largest receipt that is read.
const LIMIT: usize = 16 << 20;

/// What is on this host, and since which version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    schema: u32,
    /// Installed version; `None`: removed, what is listed was kept.
    pub version: Option<String>,
    /// Every file is in place and the product is configured. False from before the first file.
    pub complete: bool,
    /// By absolute path.
    pub things: BTreeMap<String, Thing>,
}

/// One thing that was laid down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thing {
    /// What it is.
    #[serde(flatten)]
    pub what: What,
    /// Permission bits.
    pub mode: u32,
    /// Owner's name; root, always.
    pub owner: String,
    /// Group's name; root, always.
    pub group: String,
}

/// Folder, file or link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum What {
    /// A folder.
    Dir {
        /// It was not there before us.
        made: bool,
    },
    /// A file.
    File {
        /// Its bytes.
        size: u64,
        /// Of the package's file, in hexadecimal.
        sha256: String,
        /// People edit it.
        conffile: bool,
        /// While an upgrade runs: the digests of the versions before.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        was: Vec<String>,
    },
    /// A symbolic link.
    Link {
        /// What it says.
        target: String,
    },
}

impl Receipt {
    /// One for a run that is about to begin.
    pub fn begin(version: String, things: BTreeMap<String, Thing>) -> Receipt {
        Receipt {
            schema: SCHEMA,
            version: Some(version),
            complete: false,
            things,
        }
    }

    /// Where it is.
    pub fn path(layout: &Layout) -> PathBuf {
        layout.records().join(product::RECEIPT)
    }

    /// Reads it; `None` when nothing was laid down here.
    pub fn load(layout: &Layout) -> Result<Option<Receipt>> {
        let path = Receipt::path(layout);
        let Some(bytes) = files::read_no_follow(&path, LIMIT)? else {
            return Ok(None);
        };
        let receipt: Receipt = serde_json::from_slice(&bytes).with_context(|| {
            format!(
                "the receipt `{}` cannot be read; restore it from a backup",
                path.display()
            )
        })?;
        if receipt.schema != SCHEMA {
            let (theirs, path) = (receipt.schema, path.display());
            bail!(
                "the receipt `{path}` is of form {theirs}, this bundle knows {SCHEMA}: take a newer bundle"
            );
        }
        Ok(Some(receipt))
    }

    /// Writes it, onto the disk.
    pub fn save(&self, layout: &Layout) -> Result<()> {
        let path = Receipt::path(layout);
        let records = layout.records();
        if let Some(parent) = records.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("cannot make `{}`", parent.display()))?;
        }
        files::make_dir(&records, Look::owned(0o700, Owner::ROOT))?;
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        files::write_atomic(&path, &text, Look::owned(0o600, Owner::ROOT))
    }

    /// Takes it away: nothing that it lists is ours to remove any more.
    pub fn forget(layout: &Layout) -> Result<()> {
        files::remove(&Receipt::path(layout)).map(|_| ())
    }

    /// The run that wrote it reached its end.
    pub fn finish(&mut self) {
        self.complete = true;
        for thing in self.things.values_mut() {
            if let What::File { was, .. } = &mut thing.what {
                was.clear();
            }
        }
    }
}

impl Thing {
    /// Is it a file that people edit?
    pub fn is_conffile(&self) -> bool {
        matches!(self.what, What::File { conffile: true, .. })
    }

    /// Is a file of this digest as the package has or had it?
    pub fn is_as_packed(&self, digest: &str) -> bool {
        match &self.what {
            What::File { sha256, was, .. } => {
                sha256 == digest || was.iter().any(|older| older == digest)
            }
            _ => false,
        }
    }
}
