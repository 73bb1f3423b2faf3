//! Who this host is to a workspace: a copy of an onboarded machine is another host, and must not
//! speak with the original's GUID and key (users.md B16).

use super::removal;
use crate::base::files::{self, Look};
use crate::base::ids::WorkspaceId;
use crate::host::{Host, services, unit};
use crate::plan::Report;
use crate::settings::omsadmin::{self, OmsAdmin};
use crate::wire::metadata::MachineIds;
use crate::wire::renewal::Stage;
use anyhow::{Result, bail};

/// Was the workspace onboarded on another machine? Only two hardware ids that differ say so.
pub fn is_copy(saved: &OmsAdmin, machine: &MachineIds) -> bool {
    let before = saved.uuid.as_deref().unwrap_or_default().trim();
    let now = machine.uuid.as_str();
    is_hardware_id(before) && is_hardware_id(now) && !is_same(before, now)
}

/// Tools write a word where the firmware has none (`NotSettable`), firmware all zeros or all ones.
fn is_hardware_id(text: &str) -> bool {
    let is_one = |c: char| matches!(c, 'f' | 'F' | '-');
    uuid::Uuid::try_parse(text).is_ok_and(|id| !id.is_nil()) && !text.chars().all(is_one)
}

/// Tools disagree on the byte order of the first three groups.
fn is_same(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b) || swapped(a).is_some_and(|a| a.eq_ignore_ascii_case(b))
}

fn swapped(uuid: &str) -> Option<String> {
    let groups: Vec<&str> = uuid.split('-').collect();
    let [a, b, c, d, e] = groups.as_slice() else {
        return None;
    };
    let turned = |group: &str| -> String {
        let pairs: Vec<&[u8]> = group.as_bytes().chunks(2).collect();
        let turned: Vec<u8> = pairs.into_iter().rev().flatten().copied().collect();
        String::from_utf8_lossy(&turned).into_owned()
    };
    Some(format!("{}-{}-{}-{d}-{e}", turned(a), turned(b), turned(c)))
}

/// Forgets who this host is to the workspace: GUID, key, certificate, what waits to be sent. Its
/// settings stay; onboarding it again gives it a new identity.
pub fn reset(host: &Host, id: &WorkspaceId, report: &mut dyn Report) -> Result<()> {
    let paths = host.layout.workspace(id);
    if !paths.etc.is_dir() {
        bail!("workspace {id} does not exist on this host; `omsadmin.sh -l` lists them");
    }
    let _ = services::stop(host, &unit::name(id))?;
    let done = removal::unregister(host, id, report);
    if !done {
        bail!("the service of workspace {id} is in the way: see the warnings above");
    }
    for stage in [Stage::Offered, Stage::Known] {
        files::remove(&stage.path(&paths.certs()))?;
    }
    files::remove(&paths.key())?;
    files::remove(&paths.cert())?;
    let conf = paths.omsadmin_conf();
    if let Some(text) = files::read_text_no_follow(&conf, omsadmin::LIMIT)? {
        let saved = OmsAdmin {
            agent_guid: String::new(),
            certificate_update_endpoint: String::new(),
            uuid: None,
            ..OmsAdmin::parse(&text)
        };
        let owner = super::onboarding::service_owner(host)?;
        saved.write(&conf, Look::owned(0o644, owner))?;
    }
    // The folder is the account's: a link in its place goes, not what it points at. Onboarding makes
    // it anew.
    files::remove_tree(&paths.state())?;
    report.line(&format!(
        "info\tWorkspace {id}: agent GUID, key, certificate and what waited to be sent are deleted; onboard it again with omsadmin.sh -w {id}"
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(saved: Option<&str>, now: &str) -> bool {
        let saved = OmsAdmin {
            uuid: saved.map(Into::into),
            ..OmsAdmin::default()
        };
        let machine = MachineIds {
            uuid: now.into(),
            cloud_id: String::new(),
        };
        is_copy(&saved, &machine)
    }

    #[test]
    fn only_two_different_ids_make_a_copy() {
        let id = "01020304-0506-0708-090a-0b0c0d0e0f10";
        assert!(!copy(None, id) && !copy(Some(""), id) && !copy(Some(id), ""));
        assert!(!copy(Some(id), id) && !copy(Some(&id.to_uppercase()), id));
        assert!(!copy(Some("04030201-0605-0807-090a-0b0c0d0e0f10"), id));
        assert!(copy(Some("11020304-0506-0708-090a-0b0c0d0e0f10"), id));
        assert!(!copy(Some("NotSettable"), id) && !copy(Some(id), "Not Specified"));
        assert!(!copy(Some("00000000-0000-0000-0000-000000000000"), id));
        assert!(!copy(Some(id), "ffffffff-ffff-ffff-ffff-ffffffffffff"));
    }
}
