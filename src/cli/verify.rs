//! The door `omsagent verify`: is this bundle whole, and who signed it?

use crate::base::files;
use crate::bundle::signature::{self, PublicKey, TEXT_LIMIT};
use crate::bundle::{self, Bundle, Trust};
use crate::{err, out};
use anyhow::{Context, Result};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The bundle is whole, but nothing shows who made it.
const UNPROVEN: u8 = 3;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The bundle
    file: PathBuf,
    /// Whose signature it must have: minisign's public key file, or its second line; else the key
    /// this program was built with
    #[arg(long, value_name = "FILE|KEY")]
    public_key: Option<String>,
}

/// Runs it; exit code 0 whole and signed, 1 damaged or not signed by that key, 3 whole, but unproven.
pub fn run(args: &Args) -> Result<u8> {
    let key = match &args.public_key {
        Some(given) => Some(public_key(given)?),
        None => signature::built_in().context("the key this program was built with")?,
    };
    let what = || format!("`{}`", args.file.display());
    let bundle = open(&args.file)?;
    let trust = bundle.trust(key.as_ref()).with_context(what)?;
    bundle.verify(&mut |_, _| {}).with_context(what)?;
    if let Some(key) = &key
        && bundle::verify_sidecar(&args.file, key)
            .with_context(|| format!("`{}.minisig`", args.file.display()))?
    {
        out!("{}.minisig: valid", args.file.display());
    }
    let n = bundle.entries().len();
    let file = args.file.display();
    match trust {
        Trust::Signed { by, comment } => {
            out!("{file}: {n} entries, all as packed; signed by key {by} ({comment})");
            Ok(0)
        }
        other => {
            out!("{file}: {n} entries, all as packed");
            if let Some(line) = doubt(&other) {
                err!("{line}; give --public-key to check who made it");
            }
            Ok(UNPROVEN)
        }
    }
}

/// What is to be said before a bundle changes a host, if its maker is not proven.
pub fn doubt(trust: &Trust) -> Option<String> {
    match trust {
        Trust::Signed { .. } => None,
        Trust::Unsigned => {
            Some("note: this bundle is not signed, as developers' bundles are".to_owned())
        }
        Trust::Unchecked { by } => Some(format!(
            "note: this bundle says it is signed by key {by}, which this build cannot check"
        )),
    }
}

/// Opens a bundle and checks all but its entries' bytes.
pub fn open(path: &Path) -> Result<Bundle> {
    let file = File::open(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    Bundle::open(file).with_context(|| format!("`{}`", path.display()))
}

/// From a file, or the key itself as minisign's `-P` takes it.
pub fn public_key(given: &str) -> Result<PublicKey> {
    if let Ok(key) = PublicKey::parse(given) {
        return Ok(key);
    }
    let text = files::read_text(Path::new(given), TEXT_LIMIT)?
        .with_context(|| format!("public key `{given}`: neither a key nor a file"))?;
    PublicKey::parse(&text).with_context(|| format!("public key `{given}`"))
}
