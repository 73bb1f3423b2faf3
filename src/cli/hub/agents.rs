//! `omsagent hub agents`: the agents of a hub.

use super::print_json;
use crate::base::ids::{AgentGuid, WorkspaceId};
use crate::hub::{Agents, Cell, Folder, KnownAgent, Rows};
use crate::out;
use anyhow::{Context, Result};
use std::path::PathBuf;

/// Without a verb: list.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The hub's data folder
    // Not an argument of the verbs, which have their own: hence no plain `PathBuf`.
    #[arg(long, value_name = "DIR", required = true)]
    data: Option<PathBuf>,
    /// Only agents of this one
    #[arg(long, value_name = "GUID")]
    workspace: Option<WorkspaceId>,
    /// A JSON list of objects in place of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Ask for new certificates at the next topology heartbeat
    Renew {
        /// The hub's data folder
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// The agents' workspace
        #[arg(long, value_name = "GUID")]
        workspace: WorkspaceId,
        /// Only this one
        #[arg(long, value_name = "GUID")]
        agent: Option<AgentGuid>,
    },
    /// Take nothing from an agent any more, until `enable`
    Disable(One),
    /// Undo `disable`
    Enable(One),
    /// Forget an agent; what it sent stays, and with the shared key it can onboard again
    Remove(One),
}

/// One agent.
#[derive(Debug, clap::Args)]
struct One {
    /// The hub's data folder
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The agent's workspace
    #[arg(long, value_name = "GUID")]
    workspace: WorkspaceId,
    /// The agent
    #[arg(long, value_name = "GUID")]
    agent: AgentGuid,
}

pub(super) fn run(args: Args) -> Result<()> {
    match args.verb {
        None => {
            let data = args.data.context("`--data` is missing")?;
            let found = Agents::list(&Folder::open(&data)?, args.workspace.as_ref())?;
            list(found, args.json)
        }
        Some(Verb::Renew {
            data,
            workspace,
            agent,
        }) => {
            let mut agents = Agents::open(&Folder::open(&data)?)?;
            let asked = agents.renew(&workspace, agent.as_ref())?;
            out!("agents asked for a new certificate at their next topology heartbeat: {asked}");
            Ok(())
        }
        Some(Verb::Disable(one)) => disable(&one, true),
        Some(Verb::Enable(one)) => disable(&one, false),
        Some(Verb::Remove(one)) => {
            Agents::open(&Folder::open(&one.data)?)?.remove(&one.workspace, &one.agent)?;
            out!("removed agent {}; what it sent is kept", one.agent);
            Ok(())
        }
    }
}

fn disable(one: &One, disabled: bool) -> Result<()> {
    let mut agents = Agents::open(&Folder::open(&one.data)?)?;
    let changed = agents.disable(&one.workspace, &one.agent, disabled)?;
    let state = if disabled { "disabled" } else { "enabled" };
    let already = if changed { "" } else { " already" };
    out!("agent {} is {state}{already}", one.agent);
    Ok(())
}

fn list(agents: Vec<KnownAgent>, json: bool) -> Result<()> {
    if json {
        let lines: Result<Vec<String>, _> = agents.iter().map(serde_json::to_string).collect();
        print_json(&lines?);
        return Ok(());
    }
    let columns = [
        "Computer",
        "Agent",
        "Workspace",
        "OS",
        "Version",
        "Onboarded",
        "LastSeen",
        "LastUpload",
        "CertificateEnds",
        "Renewal",
        "State",
    ];
    let row = |agent: KnownAgent| {
        let os = [agent.os_name, agent.os_version];
        let os: Vec<String> = os.into_iter().flatten().collect();
        let renewal = match (&agent.renewal_pending_at, &agent.renewal_asked_at) {
            (Some(_), _) => Some("pending"),
            (None, Some(_)) => Some("asked for"),
            (None, None) => None,
        };
        vec![
            Cell::from(agent.computer),
            Cell::from(agent.guid),
            Cell::from(agent.workspace),
            Cell::from(os.join(" ")),
            Cell::from(agent.version),
            Cell::from(agent.onboarded_at),
            Cell::from(agent.last_seen_at),
            Cell::from(agent.last_upload_at),
            Cell::from(agent.certificate_ends_at),
            Cell::from(renewal.map(str::to_owned)),
            Cell::from(agent.disabled_at.map(|_| "disabled".to_owned())),
        ]
    };
    super::print_table(&Rows {
        columns: columns.map(str::to_owned).into(),
        rows: agents.into_iter().map(row).collect(),
    });
    Ok(())
}
