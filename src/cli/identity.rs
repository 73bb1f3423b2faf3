//! `omsagent identity`: is this host a copy of another, and a new identity for copies and for
//! images that will be copied.

use crate::base::files;
use crate::base::ids::WorkspaceId;
use crate::cli::report::Console;
use crate::host::Host;
use crate::host::layout::Layout;
use crate::install::recovery::{self, Purpose};
use crate::settings::omsadmin::{self, OmsAdmin};
use crate::wire::metadata::MachineIds;
use crate::workspace::{self, identity, renewal};
use crate::{err, out};
use anyhow::Result;
use std::path::{Path, PathBuf};

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Args {
    /// Tell for each workspace whether it was onboarded on this machine
    Show,
    /// Have the client certificate renewed by the service now
    Renew {
        /// Only of this workspace [default: of all]
        #[arg(value_name = "WORKSPACE")]
        workspace: Option<WorkspaceId>,
        /// Key and certificate are in this folder, for LoadCredential= [default: the workspace's]
        #[arg(long, value_name = "DIR", requires = "workspace")]
        certs: Option<PathBuf>,
    },
    /// Forget agent GUID, key, certificate and what waits to be sent; then onboard again
    Reset {
        /// Only of this workspace [default: of all]
        #[arg(value_name = "WORKSPACE")]
        workspace: Option<WorkspaceId>,
    },
}

/// Runs it; the number is the exit code: 1 from `show` when there is a copy.
pub fn run(args: &Args) -> Result<u8> {
    if !nix::unistd::geteuid().is_root() {
        err!("omsagent identity: only root can do this: run it with sudo");
        return Ok(5);
    }
    let host = Host::detect(Layout::new("/"));
    match args {
        Args::Show => show(&host),
        Args::Renew { workspace, certs } => {
            let _lock = recovery::enter(&host, Purpose::Change, &mut Console)?;
            renew(&host, workspace.as_ref(), certs.as_deref())
        }
        Args::Reset { workspace } => {
            let _lock = recovery::enter(&host, Purpose::Change, &mut Console)?;
            let ids = match workspace {
                Some(id) => vec![id.clone()],
                None => workspace::all(&host.layout),
            };
            for id in &ids {
                identity::reset(&host, id, &mut Console)?;
            }
            Ok(0)
        }
    }
}

fn renew(host: &Host, only: Option<&WorkspaceId>, certs: Option<&Path>) -> Result<u8> {
    let ids = match only {
        Some(id) => vec![id.clone()],
        None => workspace::all(&host.layout),
    };
    let mut code = 0;
    for id in &ids {
        match renewal::by_hand(host, id, certs) {
            Ok(until) => out!("{id}: renewed, valid until {}", until.strftime("%Y-%m-%d")),
            Err(error) => {
                err!("{id}: not renewed: {error:#}");
                code = 1;
            }
        }
    }
    Ok(code)
}

fn show(host: &Host) -> Result<u8> {
    let machine = MachineIds::read(&host.layout);
    let mut code = 0;
    for id in workspace::all(&host.layout) {
        let conf = host.layout.workspace(&id).omsadmin_conf();
        let text = files::read_text_no_follow(&conf, omsadmin::LIMIT)?.unwrap_or_default();
        let saved = OmsAdmin::parse(&text);
        let guid = saved.guid().map(|guid| guid.to_string());
        let is_copy = identity::is_copy(&saved, &machine);
        out!(
            "{id}: agent {}, {}",
            guid.as_deref().unwrap_or("without an identity"),
            if is_copy {
                "onboarded on ANOTHER machine: omsagent identity reset, then onboard again"
            } else {
                "this machine's"
            }
        );
        code |= u8::from(is_copy);
    }
    Ok(code)
}
