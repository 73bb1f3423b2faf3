//! The door `omsagent config`: what the agent makes of a configuration, directive by directive; what
//! it runs with; the same written anew (docs/config.md).

mod text;

use crate::agent::config::Settings;
use crate::agent::config::convert;
use crate::agent::config::effective::Effective;
use crate::agent::config::report::Report;
use crate::base::files::{self, Look};
use crate::base::ids::WorkspaceName;
use crate::host::layout::Layout;
use crate::settings::fluent::{self, Document, Problem};
use crate::workspace;
use crate::{err, out};
use anyhow::{Context, Result, bail, ensure};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Args {
    /// Tell for each directive whether it has an effect, and why not
    Check {
        #[command(flatten)]
        subject: Subject,
        /// Only what is ignored, unknown or wrong
        #[arg(short, long)]
        quiet: bool,
        /// One JSON object (docs/config.md) instead of text
        #[arg(long)]
        json: bool,
    },
    /// Show what an agent runs with by it, defaults too
    Show {
        #[command(flatten)]
        subject: Subject,
        /// One JSON object (docs/config.md) instead of text
        #[arg(long, conflicts_with = "toml")]
        json: bool,
        /// The same as TOML
        #[arg(long)]
        toml: bool,
    },
    /// Write one file with only what has an effect, the rest as comments with the reason
    Convert {
        #[command(flatten)]
        subject: Subject,
        /// Write it there [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// Which configuration.
#[derive(Debug, clap::Args)]
pub struct Subject {
    /// That of this workspace [default: of the primary one]
    #[arg(short, long, value_name = "ID", conflicts_with = "path")]
    workspace: Option<WorkspaceName>,
    /// An omsagent.conf, a folder with one in it, or a fragment
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
}

/// A configuration on the disk.
struct Tree {
    main: PathBuf,
    state: PathBuf,
    fragment: bool,
}

/// Runs it; the number is the exit code.
pub fn run(args: &Args) -> Result<u8> {
    // 1 means warnings here: what cannot be read at all is 2.
    let done = match args {
        Args::Check {
            subject,
            quiet,
            json,
        } => check(subject, *quiet, *json),
        Args::Show {
            subject,
            json,
            toml,
        } => show(subject, *json, *toml),
        Args::Convert { subject, output } => convert(subject, output.as_deref()),
    };
    Ok(done.unwrap_or_else(|error| {
        err!("omsagent config: {}", plain(&format!("{error:#}")));
        2
    }))
}

fn check(subject: &Subject, quiet: bool, json: bool) -> Result<u8> {
    let tree = tree(subject, &Layout::new("/"))?;
    let report = match load(&tree) {
        Ok(document) => Report::of(&tree.main, &document, &tree.state, tree.fragment),
        Err(error) => match error.downcast_ref::<Problem>() {
            Some(problem) => Report::unreadable(&tree.main, Some(&problem.place), &problem.text),
            None => Report::unreadable(&tree.main, None, &format!("{error:#}")),
        },
    };
    if json {
        out!("{}", serde_json::to_string(&report)?);
    } else {
        out!("{}", plain(&text::of_report(&report, quiet)));
    }
    Ok(report.exit_code())
}

fn show(subject: &Subject, json: bool, toml: bool) -> Result<u8> {
    let tree = tree(subject, &Layout::new("/"))?;
    let document = load(&tree)?;
    let (settings, review) = Settings::review(&document, &tree.state);
    let effective = Effective::of(&tree.main, &document, &settings, &review);
    if json {
        out!("{}", serde_json::to_string(&effective)?);
    } else if toml {
        out!(
            "{}",
            text::toml(&serde_json::to_value(&effective)?).trim_end()
        );
    } else {
        out!("{}", plain(&text::of_effective(&effective)));
    }
    Ok(if effective.errors.is_empty() { 0 } else { 2 })
}

fn convert(subject: &Subject, output: Option<&Path>) -> Result<u8> {
    let tree = tree(subject, &Layout::new("/"))?;
    let document = load(&tree)?;
    let (_, review) = Settings::review(&document, &tree.state);
    if let Some(problem) = review.problem() {
        bail!("{problem}; the agent would not start with it, so nothing was written");
    }
    let text = convert::convert(&document, &review);
    match output {
        None => out!("{}", text.trim_end()),
        Some(path) => {
            ensure!(
                std::fs::symlink_metadata(path).is_err(),
                "`{}` is there already: nothing was written; name another file",
                path.display()
            );
            files::write_atomic(path, text.as_bytes(), Look::mode(0o644))?;
        }
    }
    Ok(0)
}

fn load(tree: &Tree) -> Result<Document> {
    let document = fluent::load(&tree.main)?;
    for file in &document.files {
        ensure!(
            is_for_the_agent(&tree.main, Path::new(file)),
            "`{file}` is included, and the agent's account cannot read it"
        );
    }
    Ok(document)
}

/// The service account may write the configuration, and what we show are lines of what we read: an
/// `@include` must not lead root to what the account may not see.
fn is_for_the_agent(main: &Path, file: &Path) -> bool {
    let meta = |path: &Path| std::fs::metadata(path).ok();
    let (Some(main), Some(file)) = (meta(main), meta(file)) else {
        return true; // gone meanwhile
    };
    !nix::unistd::geteuid().is_root()
        || main.uid() == 0
        || may_read((main.uid(), main.gid()), &file)
}

fn may_read((uid, gid): (u32, u32), file: &Metadata) -> bool {
    let bit = match (file.uid() == uid, file.gid() == gid) {
        (true, _) => 0o400,
        (false, true) => 0o040,
        (false, false) => 0o004,
    };
    file.mode() & bit != 0
}

fn tree(subject: &Subject, layout: &Layout) -> Result<Tree> {
    let Some(path) = &subject.path else {
        let name = match &subject.workspace {
            Some(name) => name.clone(),
            None => usual(layout)?,
        };
        let paths = layout.workspace(&name);
        return Ok(Tree {
            main: paths.omsagent_conf(),
            state: paths.state(),
            fragment: false,
        });
    };
    let state = layout.var().join("state");
    if !path.is_dir() {
        return Ok(Tree {
            fragment: path.file_name().is_none_or(|n| n != MAIN),
            main: path.clone(),
            state,
        });
    }
    let places = [path.join(MAIN), path.join("conf").join(MAIN)];
    let main = places.into_iter().find(|p| p.is_file());
    Ok(Tree {
        main: main.with_context(|| {
            format!(
                "there is no {MAIN} in `{}`: name the folder that holds it, or a file",
                path.display()
            )
        })?,
        state,
        fragment: false,
    })
}

const MAIN: &str = "omsagent.conf";

/// The primary workspace, else the only one.
fn usual(layout: &Layout) -> Result<WorkspaceName> {
    if let Some(id) = workspace::primary(layout) {
        return Ok(id.into());
    }
    let all = workspace::everything(layout);
    match all.as_slice() {
        [one] => Ok(one.clone()),
        [] => bail!("no workspace on this host: name a configuration, as in `check ./tree`"),
        several => {
            let names: Vec<&str> = several.iter().map(WorkspaceName::as_str).collect();
            bail!("which workspace? `-w` with one of: {}", names.join(", "))
        }
    }
}

/// Part of it is the service account's: a terminal must not act on it.
fn plain(text: &str) -> String {
    text.trim_end()
        .replace(|c: char| c.is_control() && c != '\n', "?")
}

#[cfg(test)]
mod tests;
