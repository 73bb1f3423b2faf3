//! The two pseudo-workspaces: `scom` for Operations Manager, `LAD` for the diagnostics extension
//! (bundle.md 6.6, 6.7). No service is asked, nothing is started: folders, settings, a marker.

use super::onboarding::{push_folders, service_owner};
use crate::base::command::{Command, find};
use crate::base::files::{self, Look, Owner};
use crate::base::ids::WorkspaceName;
use crate::host::layout::WorkspacePaths;
use crate::host::{Host, logrotate};
use crate::plan::steps::WriteFile;
use crate::plan::{Plan, Report};
use crate::settings::omiserver;
use crate::settings::omsadmin::{self, OmsAdmin};
use crate::wire::identity::ClientIdentity;
use crate::wire::metadata::{self, MachineIds};
use anyhow::{Context, Result};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

/// OMI's own tool for its service.
const OMI_CONTROL: &str = "/opt/omi/bin/service_control";
/// OMI needs some seconds to end and to start.
const OMI_PATIENCE: Duration = Duration::from_secs(60);

/// /etc/opt/omi/conf/omiserver.conf
pub fn omiserver_conf(host: &Host) -> PathBuf {
    host.layout.path("/etc/opt/omi/conf/omiserver.conf")
}

/// Does OMI listen on 1270, by its settings (bundle.md 6.10)? `None` without OMI's settings.
pub fn is_port_open(host: &Host) -> Result<Option<bool>> {
    let text = files::read_text(&omiserver_conf(host), omiserver::LIMIT)?;
    Ok(text.map(|text| omiserver::is_open(&text, omiserver::PORT)))
}

/// What `-w scom` comes to.
pub struct Scom {
    /// Its steps.
    pub plan: Plan,
    /// OMI has to read its settings again.
    pub restart_omi: bool,
}

/// The plan of `-w scom`.
pub fn scom(host: &Host, report: &mut dyn Report) -> Result<Scom> {
    let name = WorkspaceName::scom();
    let owner = service_owner(host)?;
    let paths = host.layout.workspace(&name);
    let mut plan = Plan::new();
    push_folders(&mut plan, host, &name, owner);
    if !(paths.scom_cert().exists() && paths.scom_key().exists()) {
        report.line("info\tGenerating SCOM certificates...");
        let fqdn = metadata::fqdn(&host.layout);
        let made = ClientIdentity::for_operations_manager(&fqdn, jiff::Timestamp::now())?;
        let secret = Look::owned(0o640, owner);
        plan.push(WriteFile::new(
            paths.scom_key(),
            made.key_pem.expose(),
            secret,
        ));
        plan.push(WriteFile::new(paths.scom_cert(), made.cert_pem, secret));
    }
    let plain = Look::owned(0o644, owner);
    plan.push(WriteFile::if_absent(paths.omsagent_conf(), "", plain));
    push_notes(&mut plan, host, &name, &paths, "SCOM Workspace");
    let restart_omi = push_port(&mut plan, host, report)?;
    Ok(Scom { plan, restart_omi })
}

/// Its folders, as they have to be: after the package was removed and came back.
pub fn folders(host: &Host, name: &WorkspaceName) -> Result<Plan> {
    let mut plan = Plan::new();
    push_folders(&mut plan, host, name, service_owner(host)?);
    Ok(plan)
}

/// The plan of `-w LAD`; `domain` is that of the service.
pub fn lad(host: &Host, domain: &str, azure_resource: Option<&str>) -> Result<Plan> {
    let name = WorkspaceName::lad();
    let owner = service_owner(host)?;
    let paths = host.layout.workspace(&name);
    let mut plan = Plan::new();
    push_folders(&mut plan, host, &name, owner);
    let plain = Look::owned(0o644, owner);
    let include = "@include omsagent.d/*.conf\n";
    plan.push(WriteFile::if_absent(paths.omsagent_conf(), include, plain));
    push_notes(&mut plan, host, &name, &paths, "LAD Workspace");
    let machine = MachineIds::read(&host.layout);
    let conf = OmsAdmin {
        workspace_id: name.to_string(),
        log_facility: omsadmin::LOG_FACILITY.to_owned(),
        url_tld: domain.to_owned(),
        oms_endpoint: format!("https://{name}.ods.{domain}/OperationalData.svc/PostJsonDataItems"),
        azure_resource_id: azure_resource.unwrap_or_default().to_owned(),
        omscloud_id: machine.cloud_id,
        uuid: Some(machine.uuid),
        ..OmsAdmin::default()
    };
    plan.push(WriteFile::new(
        paths.omsadmin_conf(),
        conf.to_text()?,
        plain,
    ));
    Ok(plan)
}

fn push_notes(
    plan: &mut Plan,
    host: &Host,
    name: &WorkspaceName,
    paths: &WorkspacePaths,
    marker: &str,
) {
    let look = Look::owned(0o644, Owner::ROOT);
    plan.push(WriteFile::new(paths.marker(), format!("{marker}\n"), look));
    let rotation = logrotate::path(host, name);
    if rotation.parent().is_some_and(|dir| dir.is_dir()) {
        plan.push(WriteFile::new(rotation, logrotate::text(name), look));
    }
}

/// Adds 1270 to OMI's settings, which keep mode, owner and group (R33). True when it had to.
fn push_port(plan: &mut Plan, host: &Host, report: &mut dyn Report) -> Result<bool> {
    let path = omiserver_conf(host);
    let Some(text) = files::read_text(&path, omiserver::LIMIT)? else {
        report.line(&format!(
            "warning\tOMI is not installed (`{}` does not exist): Operations Manager cannot reach this host",
            path.display()
        ));
        return Ok(false);
    };
    if omiserver::is_open(&text, omiserver::PORT) {
        report.line("info\tPort 1270 already open");
        return Ok(false);
    }
    report.line("info\tOpening port 1270");
    let m =
        std::fs::metadata(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let look = Look::owned(
        m.mode() & 0o7777,
        Owner {
            uid: m.uid(),
            gid: m.gid(),
        },
    );
    let text = omiserver::with_port(&text, omiserver::PORT);
    plan.push(WriteFile::new(path, text, look));
    Ok(true)
}

/// Has OMI read its settings again. What its tool ends with, 0 when there is none; the workspace
/// is there all the same, and OMI reads its settings at its next start (bundle.md 1.6, 6.6).
pub fn restart_omi(host: &Host, report: &mut dyn Report) -> u8 {
    if !host.is_live() {
        return 0;
    }
    if find(OMI_CONTROL).is_none() {
        report.line(&format!(
            "warning\t`{OMI_CONTROL}` does not exist: restart OMI by your own means"
        ));
        return 0;
    }
    let done = Command::new(OMI_CONTROL)
        .arg("restart")
        .timeout(OMI_PATIENCE)
        .run();
    let (code, why) = match done {
        Ok(outcome) if outcome.ok() => return 0,
        Ok(outcome) => (outcome.code, outcome.last_line().to_owned()),
        Err(e) => (1, e.to_string()),
    };
    report.line(&format!("warning\tOMI could not be restarted: {why}"));
    u8::try_from(code).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::layout::Layout;
    use crate::plan::journal::Journal;
    use crate::plan::testing::Kept;

    fn host() -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in [
            "etc/opt/omi/conf",
            "etc/logrotate.d",
            "etc/opt/microsoft/omsagent",
            "var/opt/microsoft/omsagent",
        ] {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        let me = (nix::unistd::getuid(), nix::unistd::getgid());
        let user = format!("omsagent:x:{}:{}::/:/bin/false\n", me.0, me.1);
        std::fs::write(at("etc/passwd"), user).unwrap();
        std::fs::write(at("etc/group"), format!("omiusers:x:{}:\n", me.1)).unwrap();
        let host = Host::detect(Layout::new(dir.path()));
        (dir, host)
    }

    fn run(host: &Host, plan: Plan, dir: &tempfile::TempDir) {
        let about = crate::plan::testing::about("test");
        let mut journal = Journal::at(&dir.path().join("records"), about);
        plan.run(host, &mut journal, &mut Kept::default()).unwrap();
    }

    #[test]
    fn lad_has_settings_and_a_marker_and_no_key() {
        let (dir, host) = host();
        run(
            &host,
            lad(&host, "example.test", Some("None")).unwrap(),
            &dir,
        );
        let paths = host.layout.workspace(&WorkspaceName::lad());
        let text = std::fs::read_to_string(paths.omsadmin_conf()).unwrap();
        assert!(text.starts_with(
            "WORKSPACE_ID=LAD\nAGENT_GUID=\nLOG_FACILITY=local0\nCERTIFICATE_UPDATE_ENDPOINT=\n\
             URL_TLD=example.test\nDSC_ENDPOINT=\n\
             OMS_ENDPOINT=https://LAD.ods.example.test/OperationalData.svc/PostJsonDataItems\n\
             AZURE_RESOURCE_ID=None\n"
        ));
        assert_eq!(
            std::fs::read_to_string(paths.marker()).unwrap(),
            "LAD Workspace\n"
        );
        assert!(paths.conf_d().is_dir() && !paths.key().exists());
        assert!(dir.path().join("etc/logrotate.d/omsagent-LAD").exists());
    }

    #[test]
    fn scom_has_certificates_and_its_port_and_omis_file_keeps_its_look() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, host) = host();
        let conf = omiserver_conf(&host);
        assert_eq!(is_port_open(&host).unwrap(), None);
        std::fs::write(&conf, "httpport=0\nhttpsport=0\n").unwrap();
        std::fs::set_permissions(&conf, std::fs::Permissions::from_mode(0o444)).unwrap();
        assert_eq!(is_port_open(&host).unwrap(), Some(false));
        let said = &mut Kept::default();
        let made = scom(&host, said).unwrap();
        assert!(made.restart_omi);
        run(&host, made.plan, &dir);
        assert_eq!(
            said.0,
            [
                "info\tGenerating SCOM certificates...",
                "info\tOpening port 1270"
            ]
        );
        assert_eq!(is_port_open(&host).unwrap(), Some(true));
        assert_eq!(conf.metadata().unwrap().mode() & 0o7777, 0o444);
        let paths = host.layout.workspace(&WorkspaceName::scom());
        let cert = std::fs::read(paths.scom_cert()).unwrap();
        assert!(paths.scom_key().exists() && !paths.omsadmin_conf().exists());
        assert_eq!(
            std::fs::read_to_string(paths.marker()).unwrap(),
            "SCOM Workspace\n"
        );
        // A second time nothing is made anew.
        let said = &mut Kept::default();
        let again = scom(&host, said).unwrap();
        assert!(!again.restart_omi);
        run(&host, again.plan, &dir);
        assert_eq!(said.0, ["info\tPort 1270 already open"]);
        assert_eq!(std::fs::read(paths.scom_cert()).unwrap(), cert);
    }
}
