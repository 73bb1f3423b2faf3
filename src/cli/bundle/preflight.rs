//! The list of what would go wrong, shown before the first change.

use crate::bundle::Bundle;
use crate::err;
use crate::host::Host;
use crate::install::deploy::{self, DeployError, Order};
use crate::install::preflight::{Plans, Weight, look, verdict};
use crate::workspace::onboarding;
use std::path::Path;
use std::rc::Rc;

/// Everything that would go wrong, before the first change. `Some`: the run ends with that code.
pub(super) fn tell(host: &Host, bundle: &Rc<Bundle>, scratch: &Path, order: &Order) -> Option<u8> {
    let plan = deploy::package_plan(host, bundle, scratch, order);
    let are_there = plan.as_ref().is_ok_and(|plan| {
        plan.preview().is_ok_and(|steps| {
            steps
                .iter()
                .all(|(step, pending)| !pending || !step.contains(" package "))
        })
    });
    let onboards = match &order.onboarding {
        Some(request) => !onboarding::is_running_as_asked(host, request),
        None => super::by_file(host, order).is_some(),
    };
    if are_there && !onboards {
        return None; // all is in place: nothing of this is needed
    }
    let findings = look(&Plans {
        host,
        bundle,
        scratch,
        packages: !are_there,
        onboards,
        force: order.force,
        means: order.means,
    });
    let code = verdict(&findings, order.force);
    for finding in &findings {
        match finding.weight {
            Weight::Error(_) => err!("error\t{}", finding.text),
            Weight::Caution(_) if !order.force => err!("error\t{}", finding.text),
            _ => err!("warning\t{}", finding.text),
        }
    }
    let code = match plan {
        // The one that names the processor says it better.
        Err(DeployError::WrongKind { .. }) if code == Some(6) => code,
        Err(e) => Some(super::fail(&e)),
        Ok(_) => code,
    };
    if code.is_some() && !findings.is_empty() {
        err!("error\tNothing was changed.");
    }
    code
}
