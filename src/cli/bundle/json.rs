//! `--json`: one object on standard output, all that a program needs to know of a run
//! (docs/json.md).

use super::args::Mode;
use crate::base::spent::{self, Spent};
use crate::bundle::{Bundle, Kind};
use crate::cli::explain;
use crate::cli::report::{Record, StepSeen};
use crate::host::Host;
use crate::install::{means, release};
use crate::workspace;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Counts up when a field changes its meaning or goes; new fields do not count.
const SCHEMA: u32 = 1;

/// A step of the plan, before anything ran.
#[derive(Debug, Clone, Serialize)]
pub struct Planned {
    /// As it describes itself.
    pub what: String,
    /// Is there anything to do?
    pub pending: bool,
    /// Would it change the host? Of a kit, which is somebody else's program, nobody knows: it counts
    /// neither here nor when it has run.
    #[serde(skip)]
    pub counts: bool,
}

/// A package of the bundle or of ours.
#[derive(Debug, Clone, Serialize)]
pub struct Package {
    name: String,
    before: Option<String>,
    after: Option<String>,
    bundled: Option<String>,
}

/// What the run was about.
#[derive(Debug, Clone, Serialize)]
pub struct Workspace {
    id: String,
    onboarded: bool,
}

/// What a run finds out on its way, for its end.
#[derive(Debug, Default)]
pub struct Facts {
    /// What was asked for, once that was understood.
    pub mode: Option<Mode>,
    /// `--dry-run`
    pub dry_run: bool,
    /// All steps, as they were before the first one.
    pub plan: Vec<Planned>,
    /// The workspace that was to be onboarded.
    pub asked: Option<String>,
    /// Where `--extract` wrote.
    pub extracted: Option<PathBuf>,
    /// Packages by name: version before, version in the bundle.
    pub packages: BTreeMap<String, (Option<String>, Option<String>)>,
}

impl Facts {
    /// Notes the packages there are: the bundle's and our own.
    pub fn look_at(&mut self, host: &Host, bundle: &Bundle) {
        for entry in bundle.entries() {
            if let (Kind::Deb | Kind::Rpm, Some(name)) = (entry.kind, &entry.pkg) {
                self.packages.entry(name.clone()).or_default();
            }
        }
        let ours = self.packages.entry(release::PACKAGE.into()).or_default();
        ours.1 = Some(release::version());
        for (name, (before, _)) in &mut self.packages {
            *before = installed(host, name);
        }
    }

    /// Was there, or would there have been, anything to do?
    pub fn pending(&self) -> bool {
        self.plan.iter().any(|step| step.pending && step.counts)
    }
}

fn installed(host: &Host, name: &str) -> Option<String> {
    means::installed_version(host, name).ok().flatten()
}

#[derive(Serialize)]
struct Object<'a> {
    schema: u32,
    version: String,
    mode: Option<&'static str>,
    dry_run: bool,
    exit_code: u8,
    meaning: Option<String>,
    changed: bool,
    plan: &'a [Planned],
    steps: &'a [StepSeen],
    manager: &'static str,
    packages: Vec<Package>,
    workspace: Option<Workspace>,
    extracted: Option<&'a Path>,
    log: Option<&'a Path>,
    warnings: &'a [String],
    errors: &'a [String],
    ms: Spent,
}

/// The object, on one line.
pub fn object(
    host: &Host,
    facts: &Facts,
    record: &Record,
    changed: bool,
    log: Option<&Path>,
    exit_code: u8,
) -> String {
    let packages = facts
        .packages
        .iter()
        .map(|(name, (before, bundled))| Package {
            name: name.clone(),
            before: before.clone(),
            after: installed(host, name),
            bundled: bundled.clone(),
        });
    let primary = || workspace::primary(&host.layout).map(|id| id.as_str().to_owned());
    let id = facts.asked.clone().or_else(primary);
    let workspace = id.map(|id| Workspace {
        onboarded: id
            .parse()
            .is_ok_and(|id| workspace::is_onboarded(&host.layout, &id)),
        id,
    });
    let object = Object {
        schema: SCHEMA,
        version: release::version(),
        mode: facts.mode.map(Mode::word),
        dry_run: facts.dry_run,
        exit_code,
        meaning: explain::all()
            .find(|m| m.code == exit_code)
            .map(|m| m.meaning),
        changed,
        plan: &facts.plan,
        steps: &record.steps,
        manager: means::of(host).word(),
        packages: packages.collect(),
        workspace,
        extracted: facts.extracted.as_deref(),
        log,
        warnings: &record.warnings,
        errors: &record.errors,
        ms: spent::so_far(),
    };
    // Only a path that is no text cannot be written; the code is the least that is needed.
    serde_json::to_string(&object).unwrap_or_else(|e| {
        format!("{{\"schema\":{SCHEMA},\"exit_code\":{exit_code},\"errors\":[\"{e}\"]}}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kit_alone_is_no_change() {
        let step = |pending, counts| Planned {
            what: "x".into(),
            pending,
            counts,
        };
        let mut facts = Facts::default();
        facts.plan.extend([step(false, true), step(true, false)]);
        assert!(!facts.pending());
        facts.plan.push(step(true, true));
        assert!(facts.pending());
    }
}
