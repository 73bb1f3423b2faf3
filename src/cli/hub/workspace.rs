//! `omsagent hub workspace`: the workspaces of a hub and their keys.

use super::print_json;
use crate::base::files;
use crate::base::ids::WorkspaceId;
use crate::base::secret::Secret;
use crate::hub::{Cell, Folder, NewWorkspace, Rows, Which, Workspace, Workspaces};
use crate::out;
use crate::wire::signature::KEY_TEXT_LIMIT;
use anyhow::{Context, Result};
use std::io::Read;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Add a workspace and print its id and shared key
    Add {
        /// The hub's data folder, made when it is not there
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// Its id [default: random]
        #[arg(long, value_name = "GUID")]
        id: Option<WorkspaceId>,
        /// File with its shared key, base64, `-` for standard input [default: random]
        #[arg(long, value_name = "FILE|-")]
        shared_key_file: Option<PathBuf>,
        /// A name for people
        #[arg(long, value_name = "TEXT")]
        name: Option<String>,
    },
    /// List the workspaces, without their keys
    List {
        /// The hub's data folder
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// A JSON list of objects in place of a table
        #[arg(long)]
        json: bool,
    },
    /// Print the keys of a workspace; either lets an agent onboard
    ShowKeys(One),
    /// Replace one of the keys by a new one and print it; the other stays good
    RotateKey {
        #[command(flatten)]
        one: One,
        /// The primary key (this is the default)
        #[arg(long, conflicts_with = "secondary")]
        primary: bool,
        /// The secondary key, made when there is none yet
        #[arg(long)]
        secondary: bool,
        /// File with the new key, base64, `-` for standard input [default: random]
        #[arg(long, value_name = "FILE|-")]
        shared_key_file: Option<PathBuf>,
    },
    /// Take nothing for a workspace any more, until `enable`
    Disable(One),
    /// Undo `disable`
    Enable(One),
    /// Remove a workspace, its keys and its agents; what they sent stays
    Remove {
        #[command(flatten)]
        one: One,
        /// Delete what they sent, too
        #[arg(long)]
        delete_data: bool,
    },
}

/// One workspace.
#[derive(Debug, clap::Args)]
pub(super) struct One {
    /// The hub's data folder
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The workspace
    #[arg(long, value_name = "GUID")]
    id: WorkspaceId,
}

impl One {
    fn open(&self) -> Result<Workspaces> {
        Workspaces::open(&Folder::open(&self.data)?)
    }
}

pub(super) fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Add {
            data,
            id,
            shared_key_file,
            name,
        } => {
            let key = shared_key_file.as_deref().map(read_key).transpose()?;
            let folder = Folder::make(&data)?;
            let (id, key) = Workspaces::open(&folder)?.add(NewWorkspace { id, key, name })?;
            out!("workspace-id: {id}");
            out!("shared-key: {}", key.expose());
        }
        Verb::List { data, json } => list(Workspaces::list(&Folder::open(&data)?)?, json)?,
        Verb::ShowKeys(one) => {
            for (which, key) in Workspaces::keys(&Folder::open(&one.data)?, &one.id)? {
                out!("{which}-key: {}", key.expose().trim());
            }
        }
        Verb::RotateKey {
            one,
            primary: _,
            secondary,
            shared_key_file,
        } => {
            let key = shared_key_file.as_deref().map(read_key).transpose()?;
            let which = match secondary {
                true => Which::Secondary,
                false => Which::Primary,
            };
            let key = one.open()?.rotate_key(&one.id, which, key)?;
            out!("{which}-key: {}", key.expose());
        }
        Verb::Disable(one) => disable(&one, true)?,
        Verb::Enable(one) => disable(&one, false)?,
        Verb::Remove { one, delete_data } => {
            let removed = one.open()?.remove(&one.id, delete_data)?;
            out!(
                "removed workspace {} and {} agents; {} items and reports of theirs {}",
                one.id,
                removed.agents,
                removed.data,
                if delete_data {
                    "are deleted"
                } else {
                    "are kept"
                }
            );
        }
    }
    Ok(())
}

fn disable(one: &One, disabled: bool) -> Result<()> {
    let changed = one.open()?.disable(&one.id, disabled)?;
    let state = if disabled { "disabled" } else { "enabled" };
    let already = if changed { "" } else { " already" };
    out!("workspace {} is {state}{already}", one.id);
    Ok(())
}

fn read_key(path: &Path) -> Result<Secret> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        let mut stdin = std::io::stdin().lock().take(KEY_TEXT_LIMIT as u64 + 1);
        stdin
            .read_to_string(&mut text)
            .context("cannot read the shared key from standard input")?;
        text
    } else {
        files::read_text(path, KEY_TEXT_LIMIT)?
            .with_context(|| format!("`{}` is not there", path.display()))?
    };
    Ok(Secret::new(text))
}

fn list(workspaces: Vec<Workspace>, json: bool) -> Result<()> {
    if json {
        let lines: Result<Vec<String>, _> = workspaces.iter().map(serde_json::to_string).collect();
        print_json(&lines?);
        return Ok(());
    }
    let mut rows = Rows {
        columns: ["Id", "Name", "Agents", "LastSeen", "Created", "Disabled"]
            .map(str::to_owned)
            .into(),
        rows: workspaces
            .into_iter()
            .map(|w| {
                vec![
                    Cell::from(w.id),
                    Cell::from(w.name),
                    Cell::Integer(w.agents),
                    Cell::from(w.last_seen_at),
                    Cell::from(w.created_at),
                    Cell::from(w.disabled_at),
                ]
            })
            .collect(),
    };
    if rows.rows.iter().all(|row| row.last() == Some(&Cell::Null)) {
        rows.columns.pop(); // scripts know the table without it
        rows.rows.iter_mut().for_each(|row| drop(row.pop()));
    }
    super::print_table(&rows);
    Ok(())
}
