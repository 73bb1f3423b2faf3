//! The service account and its groups (bundle.md 4.3).

use crate::doctor::finding::{Finding, Fix};
use crate::doctor::patient::Patient;
use crate::host::accounts::{self, OMIUSERS, OMSAGENT};

/// The account: there, not root, not to be logged in with.
pub fn account(patient: &Patient, found: &mut Vec<Finding>) {
    if !patient.installed {
        return;
    }
    let Ok(user) = accounts::user(&patient.host, OMSAGENT) else {
        return;
    };
    let Some(user) = user else {
        found.push(
            Finding::new("account-missing", format!("user {OMSAGENT} does not exist"))
                .seen("the account data base does not know it: the agent cannot be started")
                .fix(Fix::Package),
        );
        return;
    };
    if user.uid == 0 {
        found.push(
            Finding::new(
                "account-is-root",
                format!("user {OMSAGENT} is root by another name"),
            )
            .seen("its user id is 0")
            .mend("remove that user, then: omsagent doctor --fix"),
        );
    }
    let shell = user.shell.file_name().unwrap_or_default();
    if shell != "nologin" && shell != "false" {
        found.push(
            Finding::new(
                "account-can-login",
                format!("user {OMSAGENT} has a login shell"),
            )
            .seen(format!("its shell is `{}`", user.shell.display()))
            .mend(format!("usermod --shell /usr/sbin/nologin {OMSAGENT}")),
        );
    }
    if let Ok(Some(group)) = accounts::group(&patient.host, OMIUSERS)
        && group.gid != user.gid
    {
        found.push(
            Finding::new(
                "account-group",
                format!("user {OMSAGENT} has another primary group"),
            )
            .seen(format!(
                "its group id is {}, that of {OMIUSERS} is {}",
                user.gid, group.gid
            ))
            .mend(format!("usermod --gid {OMIUSERS} {OMSAGENT}")),
        );
    }
}

/// Both groups.
pub fn groups(patient: &Patient, found: &mut Vec<Finding>) {
    for name in [OMSAGENT, OMIUSERS] {
        if patient.installed && matches!(accounts::group(&patient.host, name), Ok(None)) {
            found.push(
                Finding::new("group-missing", format!("group {name} does not exist"))
                    .seen("the account data base does not know it")
                    .fix(Fix::Package),
            );
        }
    }
}
