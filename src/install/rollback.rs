//! `omsagent rollback`: the packages as they were before the last upgrade, out of the kept files.
//! Settings, keys and queues of workspaces stay as they are.

use super::health;
use super::release::{self, PACKAGE};
use super::{portable, unconfirmed};
use crate::host::Host;
use crate::host::packages::{Leaving, PackageManager};
use crate::plan::backup::Backups;
use crate::plan::journal::{CutShort, Journal, Run};
use crate::plan::keep::{self, After, Keep, Kept};
use crate::plan::undo::Undo;
use crate::plan::{Plan, Report, Step};
use anyhow::{Context, Result, bail};

/// One package of the way back.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Move {
    /// The package.
    pub name: String,
    /// The version that is there.
    pub from: String,
    /// The version it had before; none: it was not installed, and goes.
    pub to: Option<String>,
}

/// The way back, and the kept files for it.
#[derive(Debug)]
pub struct Way {
    manager: PackageManager,
    /// The files were laid down here, without a package manager.
    portable: Option<Host>,
    keep: Keep,
    /// Packages in the order in which they go back: the last one installed first.
    pub moves: Vec<Move>,
    kept: Vec<Kept>,
}

/// Why there is no way back. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("There is nothing to go back to: {0}")]
pub struct NoWay(String);

/// Finds the way back of this host.
pub fn find(host: &Host) -> Result<Way> {
    let keep = Keep::of(&host.layout);
    if portable::installed_version(&host.layout)?.is_some() {
        // The format of the file decides nothing but which of the kept ones is meant.
        let rpm = |kept: &Kept| kept.kind == PackageManager::Rpm.suffix();
        let newest = keep.generations().into_iter().next();
        let format = match newest.is_some_and(|(_, g)| g.packages.iter().any(rpm)) {
            true => PackageManager::Rpm,
            false => PackageManager::Dpkg,
        };
        let mut way = find_in(keep, format, &|name| match name {
            PACKAGE => portable::installed_version(&host.layout),
            _ => Ok(None),
        })?;
        way.portable = Some(host.clone());
        return Ok(way);
    }
    let manager = host
        .packages
        .ok_or_else(|| NoWay("neither dpkg nor rpm is here".into()))?;
    find_in(keep, manager, &|name| manager.installed_version(name))
}

fn find_in(
    keep: Keep,
    manager: PackageManager,
    installed: &dyn Fn(&str) -> Result<Option<String>>,
) -> Result<Way> {
    let no_way = |text: &str| Err(NoWay(text.into()).into());
    for (_, generation) in keep.generations() {
        if generation.after == After::Rollback {
            return no_way("this host went back already, and nothing earlier is kept");
        }
        let (mut moves, mut kept) = (Vec::new(), Vec::new());
        for package in generation.packages.iter().rev() {
            let there = installed(&package.name)?;
            // A run that was killed left a record of what never came, or was begun to go back.
            let Some(there) = there.filter(|there| keep::same(there, &package.version)) else {
                continue;
            };
            match &package.before {
                Some(before) if keep::same(before, &package.version) => {}
                None if package.name == PACKAGE => {
                    return no_way("the installed omsagent is the first one on this host");
                }
                None => moves.push(Move {
                    name: package.name.clone(),
                    from: there,
                    to: None,
                }),
                Some(before) => {
                    let Some(file) = keep.find(&package.name, before, manager) else {
                        return no_way(&format!(
                            "no package file of {} {before} is kept on this host",
                            package.name
                        ));
                    };
                    kept.push(file);
                    moves.push(Move {
                        name: package.name.clone(),
                        from: there,
                        to: Some(before.clone()),
                    });
                }
            }
        }
        if !moves.is_empty() {
            return Ok(Way {
                manager,
                portable: None,
                keep,
                moves,
                kept,
            });
        }
    }
    no_way("no upgrade by a bundle of this kind is on record")
}

impl Way {
    fn plan(&self) -> Plan {
        let mut plan = Plan::new();
        for step in &self.moves {
            if let (Some(host), Some(to)) = (&self.portable, &step.to) {
                plan.push(LayBack {
                    host: host.clone(),
                    from: step.from.clone(),
                    to: to.clone(),
                });
                continue;
            }
            plan.push(GoBack {
                manager: self.manager,
                keep: self.keep.clone(),
                step: step.clone(),
            });
        }
        plan
    }

    /// The steps in words.
    pub fn preview(&self) -> Result<Vec<(String, bool)>> {
        self.plan().preview()
    }

    /// Goes it. What failed is taken back: the packages of now stay.
    pub fn go(&self, host: &Host, report: &mut dyn Report) -> Result<()> {
        let running = health::running(host);
        let about = Run {
            what: "roll back the last upgrade".into(),
            version: release::version(),
            cut_short: CutShort::TakeBack,
        };
        let mut journal = Journal::at(&host.layout.records(), about);
        self.plan()
            .run(host, &mut journal, report)
            .map_err(|broken| {
                let left = broken.left_behind.join("; ");
                if left.is_empty() {
                    broken.source
                } else {
                    broken.source.context(format!("not taken back: {left}"))
                }
            })?;
        let back = self.kept.iter().map(|kept| Kept {
            before: None,
            ..kept.clone()
        });
        self.keep
            .went_back(back.collect())
            .and_then(|()| unconfirmed::forget(&host.layout))
            .context("the packages are back, but that could not be written down")?;
        let down = health::not_running(host, &running);
        if !down.is_empty() {
            bail!(
                "the packages are back, but the agent does not run for {}; see `journalctl -u 'omsagent-*'`",
                down.join(", ")
            );
        }
        Ok(())
    }
}

/// One package back.
struct GoBack {
    manager: PackageManager,
    keep: Keep,
    step: Move,
}

impl Step for GoBack {
    fn describe(&self) -> String {
        let Move { name, from, to } = &self.step;
        let program = self.manager.program();
        match to {
            Some(to) => format!("set package {name} back from {from} to {to} with {program}"),
            None => format!("remove package {name} {from}, which was not there before"),
        }
    }

    fn satisfied(&self) -> Result<bool> {
        let there = self.manager.installed_version(&self.step.name)?;
        Ok(match (there, &self.step.to) {
            (Some(there), Some(to)) => keep::same(&there, to),
            (there, to) => there.is_none() && to.is_none(),
        })
    }

    fn before(&self, _: &mut Backups) -> Result<Undo> {
        Ok(Undo::Package {
            name: self.step.name.clone(),
            version: Some(self.step.from.clone()),
            keeps_settings: true,
        })
    }

    fn apply(&mut self, report: &mut dyn Report) -> Result<()> {
        let Move { name, to, .. } = &self.step;
        let (to, leaving) = (to.as_deref(), Leaving::Purge);
        keep::go_back(&self.keep, self.manager, name, to, leaving, report)
    }
}

/// The package back, where its files were laid down without a package manager.
struct LayBack {
    host: Host,
    from: String,
    to: String,
}

impl Step for LayBack {
    fn describe(&self) -> String {
        let (from, to) = (&self.from, &self.to);
        format!("set package {PACKAGE} back from {from} to {to} without a package manager")
    }

    fn satisfied(&self) -> Result<bool> {
        let there = portable::installed_version(&self.host.layout)?;
        Ok(there.is_some_and(|there| keep::same(&there, &self.to)))
    }

    /// It takes back what it did by itself; of a kill the receipt tells.
    fn before(&self, _: &mut Backups) -> Result<Undo> {
        Ok(Undo::Nothing)
    }

    fn apply(&mut self, report: &mut dyn Report) -> Result<()> {
        let Err(e) = portable::go_back(&self.host, &self.to, report) else {
            return Ok(());
        };
        match portable::go_back(&self.host, &self.from, report) {
            Ok(()) => Err(e),
            Err(back) => Err(e.context(format!("not taken back: {back:#}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::keep::testing;

    fn way(
        runs: &[&[(&str, &str, Option<&str>)]],
        installed: &[(&str, &str)],
    ) -> Result<Vec<(String, Option<String>)>> {
        let (_dir, keep) = testing::with(runs);
        let way = find_in(keep, PackageManager::Dpkg, &|name| {
            let there = installed.iter().find(|(n, _)| *n == name);
            Ok(there.map(|(_, version)| (*version).to_owned()))
        })?;
        Ok(way.moves.into_iter().map(|m| (m.name, m.to)).collect())
    }

    fn none(answer: Result<Vec<(String, Option<String>)>>) -> String {
        answer.unwrap_err().downcast::<NoWay>().unwrap().to_string()
    }

    #[test]
    fn the_last_upgrade_goes_back_last_package_first() {
        let runs: &[&[_]] = &[
            &[("omi", "1-1", None), ("omsagent", "1.0.0-1", None)],
            &[
                ("omi", "2-1", Some("1-1")),
                ("omsagent", "1.0.1-1", Some("1.0.0-1")),
                ("auoms", "1-1", None),
            ],
        ];
        let there = [("omi", "2.1"), ("omsagent", "1.0.1-1"), ("auoms", "1-1")];
        let moves = way(runs, &there).unwrap();
        let to = |text: &str| Some(text.to_owned());
        assert_eq!(
            moves,
            [
                ("auoms".into(), None),
                ("omsagent".into(), to("1.0.0-1")),
                ("omi".into(), to("1-1"))
            ]
        );
        // What went back already does not go again.
        let half = [("omi", "2.1"), ("omsagent", "1.0.0-1")];
        assert_eq!(way(runs, &half).unwrap(), [("omi".into(), to("1-1"))]);
    }

    #[test]
    fn an_upgrade_that_was_killed_and_done_again_goes_back_wholly() {
        let first: &[(&str, &str, Option<&str>)] =
            &[("omi", "1-1", None), ("omsagent", "1.0.0-1", None)];
        let (dir, before) = testing::with(&[first]);
        let layout = crate::host::layout::Layout::new(dir.path());
        let began = jiff::Timestamp::now().to_string();
        let killed = Keep::of(&layout);
        testing::install(&killed, "omi", "2-1", Some("1-1"));
        let again = Keep::of(&layout);
        again.go_on(&began);
        // What a kill left half there has no version: what was before it is known still.
        testing::install(&again, "omi", "2-1", None);
        testing::install(&again, "omsagent", "1.0.1-1", Some("1.0.0-1"));
        let moves = |keep: Keep| {
            let way = find_in(keep, PackageManager::Dpkg, &|name| {
                let there = [("omi", "2-1"), ("omsagent", "1.0.1-1")];
                let there = there.iter().find(|(n, _)| *n == name);
                Ok(there.map(|(_, version)| (*version).to_owned()))
            });
            let moves = way.unwrap().moves.into_iter();
            let words = moves.map(|m| format!("{} {}", m.name, m.to.unwrap_or_default()));
            words.collect::<Vec<_>>()
        };
        assert_eq!(moves(before), ["omsagent 1.0.0-1", "omi 1-1"]);
        // A run of its own stands alone: its record is older than the one that was cut short.
        let later = Keep::of(&layout);
        later.go_on(&jiff::Timestamp::now().to_string());
        testing::install(&later, "scx", "1-1", None);
        assert_eq!(later.generations().len(), 3);
    }

    #[test]
    fn where_there_is_no_way_a_line_says_why() {
        let first: &[&[_]] = &[&[("omsagent", "1.0.0-1", None)]];
        assert!(none(way(&[], &[])).contains("on record"));
        assert!(none(way(first, &[("omsagent", "1.0.0-1")])).contains("the first one"));
        // Put there by hand since: not ours to take back.
        assert!(none(way(first, &[("omsagent", "9")])).contains("on record"));
        let no_file: &[&[_]] = &[&[("omsagent", "1.0.1-1", Some("1.0.0-1"))]];
        let why = none(way(no_file, &[("omsagent", "1.0.1-1")]));
        assert!(why.contains("omsagent 1.0.0-1 is kept"), "{why}");
    }

    #[test]
    fn a_companion_that_goes_again_is_the_only_step_back() {
        let (_dir, keep) = testing::with(&[
            &[("omsagent", "1.0.0-1", None)],
            &[("omsagent", "1.0.1-1", Some("1.0.0-1"))],
            &[("auoms", "1-1", None)],
        ]);
        let there = |name: &str| Ok((name == "omsagent").then(|| "1.0.1-1".to_owned()));
        // It went back: nothing was put in its place, so nothing is kept of that.
        keep.went_back(Vec::new()).unwrap();
        let answer = find_in(keep.clone(), PackageManager::Dpkg, &there);
        assert!(
            answer
                .unwrap_err()
                .to_string()
                .contains("went back already")
        );
        keep.trim();
        assert!(find_in(keep, PackageManager::Dpkg, &there).is_err());
    }

    #[test]
    fn once_back_there_is_nothing_earlier() {
        let (_dir, keep) = testing::with(&[
            &[("omsagent", "1.0.0-1", None)],
            &[("omsagent", "1.0.1-1", Some("1.0.0-1"))],
        ]);
        let back = keep.find("omsagent", "1.0.0-1", PackageManager::Dpkg);
        let back = back.map(|kept| Kept {
            before: None,
            ..kept
        });
        keep.went_back(back.into_iter().collect()).unwrap();
        let there = |_: &str| Ok(Some("1.0.0-1".to_owned()));
        let answer = find_in(keep.clone(), PackageManager::Dpkg, &there);
        assert!(
            answer
                .unwrap_err()
                .to_string()
                .contains("went back already")
        );
        // The file stays for the next upgrade's way back; the newer one is not needed any more.
        assert!(
            keep.find("omsagent", "1.0.0-1", PackageManager::Dpkg)
                .is_some()
        );
        assert!(
            keep.find("omsagent", "1.0.1-1", PackageManager::Dpkg)
                .is_none()
        );
    }
}
