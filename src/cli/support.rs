//! The door `omsagent support-bundle`: what somebody who helps wants to see of this host, in one
//! file, without secrets (docs/support-bundle.md).

use crate::base::ids::WorkspaceName;
use crate::cli::{doctor, history};
use crate::doctor::status;
use crate::host::Host;
use crate::host::layout::Layout;
use crate::support::{self, Contents, Given, Wish};
use crate::{err, out};
use anyhow::{Context, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What was typed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Nothing is sent anywhere. Look through the file before you hand it on.")]
pub struct Args {
    /// Only this workspace's files, unit and journal [default: all]
    #[arg(short, long, value_name = "WORKSPACE")]
    workspace: Option<WorkspaceName>,
    /// The file, or a folder for it [default: omsagent-support-HOST-TIME.tar.gz in the current
    /// folder]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace host names and addresses by marks
    #[arg(long)]
    anonymous: bool,
    /// One JSON object (docs/support-bundle.md) instead of text
    #[arg(long)]
    json: bool,
    /// Show what would be in it, write nothing
    #[arg(long)]
    dry_run: bool,
    /// Files are below this folder
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
}

/// Runs it; exit code 0 when the file was written, 1 when not.
pub fn run(args: &Args) -> Result<u8> {
    let host = Host::detect(Layout::new(&args.root));
    let layout = &host.layout;
    if let Some(name) = &args.workspace {
        let paths = layout.workspace(name);
        anyhow::ensure!(
            paths.etc.is_dir() || paths.var.is_dir(),
            "workspace {name} does not exist on this host; `omsadmin.sh -l` lists them"
        );
    }
    let wish = Wish {
        workspace: args.workspace.clone(),
        anonymous: args.anonymous,
    };
    let contents = support::collect(&host, &wish, given(&host));
    let now = jiff::Timestamp::now();
    let folder = support::file_name(&contents, now);
    let path = place(args.output.as_deref(), &folder)?;
    let size = match args.dry_run {
        true => None,
        false => Some(support::write(&contents, &folder, now, &path)?.size),
    };
    if args.json {
        out!(
            "{}",
            serde_json::to_string(&object(&contents, &path, size))?
        );
    } else {
        say(&contents, &path, size);
    }
    Ok(0)
}

/// What other doors have to say, as they would say it.
fn given(host: &Host) -> Vec<Given> {
    let root = nix::unistd::geteuid().is_root();
    // By way of a value: these forms are written out once only, for `--json`.
    let status = serde_json::to_vec(&status::look(host))
        .and_then(|json| serde_json::from_slice::<serde_json::Value>(&json))
        .and_then(|value| serde_json::to_string_pretty(&value));
    let doctor = match root {
        true => doctor::offline(host).map_err(|e| format!("{e:#}")),
        false => Err("only root can look everywhere".to_owned()),
    };
    vec![
        (
            "status.json",
            "omsagent status --json",
            status.map_err(|e| e.to_string()),
        ),
        (
            "doctor.json",
            "omsagent doctor --json, without the network",
            doctor,
        ),
        (
            "history.json",
            "omsagent history --json",
            Ok(history::json(&host.layout)),
        ),
    ]
}

/// Where the file goes: never over another one.
fn place(output: Option<&Path>, name: &str) -> Result<PathBuf> {
    let file = format!("{name}.tar.gz");
    let path = match output {
        Some(path) if path.is_dir() => path.join(file),
        Some(path) => path.to_owned(),
        None => PathBuf::from(file),
    };
    anyhow::ensure!(
        path.symlink_metadata().is_err(),
        "`{}` is there already; name another file with -o",
        path.display()
    );
    std::path::absolute(&path).with_context(|| format!("`{}`", path.display()))
}

fn say(contents: &Contents, path: &Path, size: Option<u64>) {
    for entry in &contents.entries {
        let taken: usize = entry.redacted.values().sum();
        let taken = (taken > 0).then(|| format!("  ({taken} taken out)"));
        if size.is_none() {
            out!(
                "{:>8}  {}{}",
                entry.text.len(),
                entry.name,
                taken.unwrap_or_default()
            );
        }
    }
    for gap in &contents.gaps {
        err!("not in it\t{}: {}", gap.source, gap.why);
    }
    let taken: usize = contents
        .entries
        .iter()
        .flat_map(|e| e.redacted.values())
        .sum();
    let count = contents.entries.len();
    match size {
        Some(size) => out!(
            "{}: {count} entries, {size} bytes; {taken} secrets and the like were taken out. \
             Look through it before you hand it on.",
            path.display()
        ),
        None => out!(
            "{count} entries would go to {}; nothing was written",
            path.display()
        ),
    }
}

/// The object of `--json`.
#[derive(Serialize)]
struct Object<'a> {
    schema: u32,
    version: &'static str,
    /// Absent: nothing was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    file: String,
    entries: Vec<ShownEntry<'a>>,
    missing: Vec<ShownGap<'a>>,
}

#[derive(Serialize)]
struct ShownEntry<'a> {
    name: &'a str,
    source: &'a str,
    size: usize,
    note: Option<&'a str>,
    redacted: &'a BTreeMap<&'static str, usize>,
}

#[derive(Serialize)]
struct ShownGap<'a> {
    source: &'a str,
    why: &'a str,
}

fn object<'a>(contents: &'a Contents, path: &Path, size: Option<u64>) -> Object<'a> {
    Object {
        schema: 1,
        version: env!("CARGO_PKG_VERSION"),
        size,
        file: path.display().to_string(),
        entries: contents
            .entries
            .iter()
            .map(|e| ShownEntry {
                name: &e.name,
                source: &e.source,
                size: e.text.len(),
                note: e.note.as_deref(),
                redacted: &e.redacted,
            })
            .collect(),
        missing: contents
            .gaps
            .iter()
            .map(|g| ShownGap {
                source: &g.source,
                why: &g.why,
            })
            .collect(),
    }
}
