//! What the checks look at: found once, handed to each of them.

use super::asking::{self, Silent};
use super::endpoints::Role;
use crate::agent::figures::Snapshot;
use crate::base::files::Owner;
use crate::base::ids::WorkspaceId;
use crate::host::unit_state::{self, UnitState};
use crate::host::{Host, unit};
use crate::workspace::{self, onboarding};
use std::time::Duration;

/// A busy agent may be writing to a slow disk.
const PATIENCE: Duration = Duration::from_secs(2);

/// A host and what is on it.
pub struct Patient {
    /// The host.
    pub host: Host,
    /// Whose endpoints are looked at.
    pub role: Role,
    /// The program and its templates are there.
    pub installed: bool,
    /// omsagent and omiusers, by number.
    pub owner: Option<Owner>,
    /// Every workspace.
    pub workspaces: Vec<Ward>,
}

/// A workspace.
pub struct Ward {
    /// Its id.
    pub id: WorkspaceId,
    /// Its unit, where there is a service manager.
    pub unit: Option<UnitState>,
    /// What its agent tells.
    pub figures: Result<Snapshot, Silent>,
    /// It was given an identity, or a part of one.
    pub onboarded: bool,
}

impl Patient {
    /// Looks once at everything.
    pub fn admit(host: Host, role: Role) -> Patient {
        let layout = &host.layout;
        let ids = workspace::all(layout);
        let sockets: Vec<_> = ids
            .iter()
            .map(|id| layout.workspace(id).status_socket())
            .collect();
        let answers = asking::ask(&sockets, PATIENCE);
        let names: Vec<String> = ids.iter().map(|id| unit::name(id)).collect();
        let units = unit_state::of(&host, &names).unwrap_or_default();
        let ward = |(id, figures): (WorkspaceId, Result<Snapshot, Silent>)| {
            let paths = layout.workspace(&id);
            let unit = units.iter().find(|u| u.name == unit::name(&id)).cloned();
            let pair = workspace::pair(layout, &id);
            let parts = [pair.key, pair.cert, paths.omsadmin_conf()];
            Ward {
                onboarded: parts.iter().any(|p| p.exists()),
                unit,
                figures,
                id,
            }
        };
        let workspaces = ids.into_iter().zip(answers).map(ward).collect();
        let installed = layout.bin().join("omsagent").exists() || layout.installinfo().exists();
        Patient {
            owner: onboarding::service_owner(&host).ok(),
            installed,
            workspaces,
            role,
            host,
        }
    }

    /// Those that can be expected to work: not those that a removal of the package has kept.
    pub fn onboarded(&self) -> impl Iterator<Item = &Ward> {
        let installed = self.installed;
        self.workspaces
            .iter()
            .filter(move |w| installed && w.onboarded)
    }
}

impl Ward {
    /// Does its agent run, as the service manager says, or as it says itself?
    pub fn runs(&self) -> bool {
        match &self.unit {
            Some(unit) => matches!(unit.active.as_str(), "active" | "reloading"),
            None => self.figures.is_ok(),
        }
    }
}
