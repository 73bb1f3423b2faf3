//! What stands before a run and may come back after it: the version of omsagent that is replaced,
//! and what ran of it.

use super::deploy::with_left_behind;
use super::health::{self, Unhealthy, WayBack};
use super::release::{self, PACKAGE};
use super::unconfirmed::{self, Unconfirmed};
use crate::base::ids::WorkspaceId;
use crate::host::Host;
use crate::host::packages::{Known, PackageManager};
use crate::plan::keep::{self, Keep};
use crate::plan::{Broken, Report};
use anyhow::Result;

/// An older omsagent that is replaced, now or by a run that was killed.
pub(super) struct Upgrade {
    from: String,
    /// Workspaces whose agents ran.
    pub running: Vec<WorkspaceId>,
    can_go_back: bool,
    /// The package is in place already; what is missing is the look at its agents.
    resumed: bool,
}

/// What there is of omsagent.
pub(super) struct Replaced {
    /// The version that the package manager calls installed; of an installation that was cut
    /// short, the one before it.
    pub installed: Option<String>,
    /// The version that a failure goes back to.
    pub before: Option<String>,
    /// `None`: nothing older is replaced.
    pub upgrade: Option<Upgrade>,
}

impl Replaced {
    /// Asks the package manager, and the note of a run that was killed.
    pub fn find(host: &Host, manager: PackageManager) -> Result<Self> {
        let installed = manager.installed_version(PACKAGE)?;
        let known = match installed {
            Some(_) => Known::Present,
            None => manager.known(PACKAGE)?,
        };
        let note = Unconfirmed::load(&host.layout, installed.as_deref(), known);
        let kept = |from: &str| {
            let found = Keep::of(&host.layout).find(PACKAGE, from, manager);
            found.is_some()
        };
        Replaced::out_of(host, installed, note, &kept)
    }

    fn out_of(
        host: &Host,
        installed: Option<String>,
        note: Option<Unconfirmed>,
        kept: &dyn Fn(&str) -> bool,
    ) -> Result<Self> {
        // What a kill left half there goes on from the version that was whole.
        let cut_short = note.as_ref().filter(|_| installed.is_none());
        let installed = installed.or_else(|| cut_short.map(|note| note.from.clone()));
        let Some(there) = &installed else {
            return Ok(Replaced {
                installed: None,
                before: None,
                upgrade: None,
            });
        };
        let newer = release::is_newer_than(Some(there))?;
        let from = match &note {
            Some(note) if !newer && keep::same(there, &release::version()) => Some(&note.from),
            _ if newer => Some(there),
            _ => None,
        };
        let upgrade = from.map(|from| Upgrade {
            from: from.clone(),
            running: Unconfirmed::all_running(note.as_ref(), host),
            can_go_back: kept(from),
            resumed: !newer,
        });
        let before = upgrade.as_ref().filter(|u| u.resumed && u.can_go_back);
        let before = before.map_or_else(|| installed.clone(), |u| Some(u.from.clone()));
        Ok(Replaced {
            installed,
            before,
            upgrade,
        })
    }
}

impl Upgrade {
    /// What a failed check of the agents takes back.
    pub fn way_back(&self) -> WayBack {
        match (self.can_go_back, self.resumed) {
            (false, _) => WayBack::None,
            (true, false) => WayBack::Steps,
            (true, true) => WayBack::To(self.from.clone()),
        }
    }

    /// Before the first step: a run that is killed leaves word of what is to be looked at.
    pub fn begins(&self, host: &Host, report: &mut dyn Report) {
        if !self.can_go_back || self.running.is_empty() {
            return;
        }
        if let Err(e) = Unconfirmed::new(&self.from, &self.running).save(&host.layout) {
            report.warn(&format!("{e:#}"));
        }
    }
}

/// After the last step: there is nothing left to look at, unless the new version stayed although
/// it was to go.
pub(super) fn ended(host: &Host, well: bool, report: &mut dyn Report) {
    let there = || host.packages.map(|m| m.installed_version(PACKAGE));
    let stayed = !well
        && matches!(there(), Some(Ok(Some(there))) if keep::same(&there, &release::version()));
    if !stayed && let Err(e) = unconfirmed::forget(&host.layout) {
        report.warn(&format!("{e:#}"));
    }
}

/// The error of an upgrade that was taken back: after an agent that was not healthy it says what
/// is there now, as it was asked for, not as it should be.
pub(super) fn went_back(host: &Host, upgrade: Option<&Upgrade>, broken: Broken) -> anyhow::Error {
    let unhealthy = broken.source.is::<Unhealthy>();
    let text = with_left_behind(broken);
    let Some(upgrade) = upgrade.filter(|_| unhealthy) else {
        return text;
    };
    let from = &upgrade.from;
    let there = host.packages.map(|m| m.installed_version(PACKAGE));
    let there = there.and_then(Result::ok).flatten();
    if !there
        .as_deref()
        .is_some_and(|there| keep::same(there, from))
    {
        let there = there.as_deref().unwrap_or("not installed");
        return anyhow::anyhow!("{text:#}. omsagent {from} is NOT back: omsagent is {there}");
    }
    let down = health::not_running(host, &upgrade.running);
    if down.is_empty() {
        anyhow::anyhow!("{text:#}. omsagent {from} is back and its agents run")
    } else {
        let down = down.join(", ");
        anyhow::anyhow!("{text:#}. omsagent {from} is back, but does not run for {down}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::layout::Layout;

    fn found(installed: Option<&str>, note: Option<&str>, kept: bool) -> Replaced {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::detect(Layout::new(dir.path()));
        let note = note.map(|from| Unconfirmed::new(from, &[]));
        Replaced::out_of(&host, installed.map(str::to_owned), note, &|_| kept).unwrap()
    }

    #[test]
    fn a_check_that_a_kill_prevented_is_made_up_for() {
        let now = release::version();
        let some = |text: &str| Some(text.to_owned());
        // As ever: new, older, the same.
        assert!(found(None, None, true).upgrade.is_none());
        let older = found(Some("0.1.0-1"), None, true);
        assert_eq!(older.upgrade.unwrap().way_back(), WayBack::Steps);
        assert_eq!(older.before, some("0.1.0-1"));
        let same = found(Some(&now), None, true);
        assert!(same.upgrade.is_none() && same.before == some(&now));
        // Killed while the agents were looked at.
        let killed = found(Some(&now), Some("0.1.0-1"), true);
        assert_eq!(killed.installed, some(&now));
        assert_eq!(killed.before, some("0.1.0-1"));
        let way = killed.upgrade.unwrap().way_back();
        assert_eq!(way, WayBack::To("0.1.0-1".into()));
        let no_file = found(Some(&now), Some("0.1.0-1"), false);
        assert_eq!(no_file.upgrade.unwrap().way_back(), WayBack::None);
        assert_eq!(no_file.before, some(&now));
        // Killed while the package was put in place: an upgrade still.
        let half = found(None, Some("0.1.0-1"), true);
        assert_eq!(half.installed, some("0.1.0-1"));
        assert_eq!(half.upgrade.unwrap().way_back(), WayBack::Steps);
    }
}
