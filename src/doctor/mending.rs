//! From findings to a plan that mends what can be mended safely.

use super::finding::{Finding, Fix, Kind};
use crate::base::files;
use crate::base::ids::WorkspaceId;
use crate::base::order;
use crate::host::Host;
use crate::install::{product, release};
use crate::plan::journal::{CutShort, Journal, Run};
use crate::plan::steps::{MakeDir, WriteFile};
use crate::plan::{Plan, Report};
use crate::workspace::onboarding;
use anyhow::{Context, Result};
use std::path::Path;

/// Files whose mode is mended are read and written again; larger ones are not ours.
const LIMIT: usize = 1 << 20;

/// Mends, part by part: what one part cannot do is warned about, and the next is done. The caller
/// holds the host's lock.
pub fn mend(host: &Host, findings: &[Finding], report: &mut dyn Report) {
    for part in parts(findings) {
        let done = plan(host, &part).and_then(|plan| {
            let about = Run {
                what: format!("mend {}", part.name()),
                version: release::version(),
                cut_short: CutShort::TakeBack,
            };
            let mut journal = Journal::at(&host.layout.records(), about);
            plan.run(host, &mut journal, report)
                .map(drop)
                .map_err(anyhow::Error::from)
        });
        if let Err(error) = done {
            report.warn(&format!("{error:#}"));
        }
    }
}

/// What is done together; looks first, so that what follows can be read.
enum Part<'f> {
    Package,
    Single(&'f Fix),
    Workspace(&'f WorkspaceId),
}

impl Part<'_> {
    fn name(&self) -> String {
        match self {
            Part::Package => "what the package makes".to_owned(),
            Part::Single(Fix::Look(path, ..) | Fix::Remove(path)) => path.display().to_string(),
            Part::Single(_) => "a part".to_owned(),
            Part::Workspace(id) => format!("workspace {id}"),
        }
    }
}

fn parts(findings: &[Finding]) -> Vec<Part<'_>> {
    let fixes = || findings.iter().filter_map(|f| f.fix.as_ref());
    let mut parts = Vec::new();
    if fixes().any(|fix| matches!(fix, Fix::Package)) {
        parts.push(Part::Package);
    }
    let single = |fix: &&Fix| matches!(fix, Fix::Look(..) | Fix::Remove(_));
    parts.extend(fixes().filter(single).map(Part::Single));
    let mut ids: Vec<&WorkspaceId> = fixes()
        .filter_map(|fix| match fix {
            Fix::Workspace(id) => Some(id),
            _ => None,
        })
        .collect();
    order::ascending(&mut ids);
    ids.dedup();
    parts.extend(ids.into_iter().map(Part::Workspace));
    parts
}

fn plan(host: &Host, part: &Part<'_>) -> Result<Plan> {
    let mut plan = Plan::new();
    match part {
        Part::Package => return Ok(product::configure_plan(host)),
        Part::Workspace(id) => return onboarding::resume(host, id),
        Part::Single(Fix::Look(path, look, Kind::Folder)) => plan.push(MakeDir::new(path, *look)),
        Part::Single(Fix::Look(path, look, Kind::File)) => {
            plan.push(WriteFile::new(path, content(path)?, *look));
        }
        Part::Single(Fix::Remove(path)) => plan.push(WriteFile::remove(path)),
        Part::Single(Fix::Package | Fix::Workspace(_) | Fix::Recovery) => {}
    }
    Ok(plan)
}

fn content(path: &Path) -> Result<Vec<u8>> {
    let bytes = files::read_sole(path, LIMIT)?;
    bytes.with_context(|| format!("`{}` is gone", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_once_and_in_order() {
        let id: WorkspaceId = "11111111-2222-3333-4444-555555555555".parse().unwrap();
        let found = [
            Finding::new("unit-missing", "a").fix(Fix::Workspace(id.clone())),
            Finding::new("logrotate-missing", "b").fix(Fix::Workspace(id)),
            Finding::new("dns-fails", "c"),
            Finding::new("unfinished-file", "d").fix(Fix::Remove("/x".into())),
            Finding::new("sudo-missing", "e").fix(Fix::Package),
        ];
        let parts = parts(&found);
        assert!(matches!(
            parts[..],
            [Part::Package, Part::Single(_), Part::Workspace(_)]
        ));
    }
}
