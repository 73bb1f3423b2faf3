//! Onboarding as a plan: ask the service first, then lay down files, then start the agent, then
//! point the syslog daemon at it (bundle.md 6.3, protocol.md 1.2 and 1.11). A refusal by the
//! service leaves the host as it was; a later failure takes everything back.

mod register;
mod saved;
mod way;

pub use saved::{is_running_as_asked, update_resource};

use super::service::{AgentNews, ForwardSyslog, KeepRunning, ReadByAgent, RunService, ServiceLink};
use super::{OnboardingRequest, is_onboarded, port, primary, templates};
use crate::base::files::{self, Look, Owner};
use crate::base::ids::{WorkspaceId, WorkspaceName};
use crate::host::{Host, accounts, logrotate, unit};
use crate::plan::Plan;
use crate::plan::steps::{MakeDir, MakeLink, WriteFile};
use anyhow::{Context, Result};
use register::{Asked, ForgetQueue, Register, WriteIdentity};
use saved::{is_copied, is_saved_proxy};
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

/// A CA bundle is some 250 kB; this is generous.
const CA_LIMIT: usize = 4 << 20;

/// The whole onboarding. `version` is the agent's `a.b.c-d`.
pub fn plan(host: &Host, mut request: OnboardingRequest, version: &str) -> Result<Plan> {
    let owner = service_owner(host)?;
    let way = way::to_service(host, &mut request)?;
    super::migrate::clear_empty_conf(&host.layout);
    let id = request.id.clone();
    let ca = match &request.ca_file {
        None => None,
        Some(path) => Some(
            files::read(path, CA_LIMIT)?
                .with_context(|| format!("CA file `{}` does not exist", path.display()))?,
        ),
    };
    if request.marker.is_none() {
        no_folder_in_the_way(host, &id)?;
    }
    let mut plan = Plan::new();
    let news = AgentNews::default();
    plan.push(KeepRunning::new(host, &id));
    let asked: Rc<RefCell<Option<Asked>>> = Rc::default();
    plan.push(Register {
        host: host.clone(),
        request: request.clone(),
        version: version.to_owned(),
        way,
        asked: asked.clone(),
    });
    if is_copied(host, &id) {
        plan.push(ForgetQueue {
            host: host.clone(),
            id: id.clone(),
        });
    }
    push_folders(&mut plan, host, &id, owner);
    plan.push(WriteIdentity {
        host: host.clone(),
        request: request.clone(),
        owner,
        asked,
        news: news.clone(),
    });
    if let Some(line) = &request.proxy
        && !is_saved_proxy(host, line)?
    {
        // Written without a line end: bundle.md 4.11.
        let look = Look::owned(0o600, owner);
        let path = host.layout.proxy_conf();
        let said = format!("info\tCreated proxy configuration: {}", path.display());
        let write = WriteFile::new(path, line.expose(), look);
        plan.push(ReadByAgent::new(write, &news).saying(said));
    }
    if let Some(pem) = ca {
        let look = Look::owned(0o644, Owner::ROOT);
        let write = WriteFile::new(host.layout.ca_file(), pem, look);
        plan.push(ReadByAgent::new(write, &news));
    }
    let paths = host.layout.workspace(&id);
    match &request.marker {
        Some(text) => plan.push(WriteFile::new(
            paths.marker(),
            text.as_str(),
            Look::owned(0o644, Owner::ROOT),
        )),
        None => {
            plan.push(WriteFile::remove(paths.marker()));
            let conf = host.layout.etc().join("conf");
            if std::fs::symlink_metadata(&conf).is_ok_and(|m| m.is_dir()) {
                plan.push(WriteFile::remove(conf.join(OLD_PROXY)));
            }
            for (link, target) in host.layout.primary_links(&id) {
                plan.push(MakeLink::new(link, without_prefix(host, target)));
            }
        }
    }
    push_running(&mut plan, host, &id, owner, &news)?;
    Ok(plan)
}

/// Where the links of the primary workspace go, somebody may have a folder: found out before the
/// service is asked.
fn no_folder_in_the_way(host: &Host, id: &WorkspaceId) -> Result<()> {
    for (link, target) in host.layout.primary_links(id) {
        if std::fs::symlink_metadata(&link).is_ok_and(|m| !m.is_dir()) {
            continue;
        }
        let entries = std::fs::read_dir(&link).into_iter().flatten().flatten();
        // The old place of proxy.conf: what it says is written to the new one.
        let mut others = entries.filter(|entry| entry.file_name() != OLD_PROXY);
        anyhow::ensure!(
            others.next().is_none(),
            "`{}` must become a link to the primary workspace, and is a folder that is not empty: move what is in it to `{}`, then onboard again",
            link.display(),
            target.display()
        );
    }
    Ok(())
}

/// proxy.conf in a folder where the link to the primary workspace's goes.
const OLD_PROXY: &str = "proxy.conf";

/// What an onboarded workspace needs on a host where the package was removed and came back:
/// folders, configuration, links, service, syslog (bundle.md 5, "Consequences", done right).
pub fn resume(host: &Host, id: &WorkspaceId) -> Result<Plan> {
    let owner = service_owner(host)?;
    let mut plan = Plan::new();
    let news = AgentNews::default();
    plan.push(KeepRunning::new(host, id));
    push_folders(&mut plan, host, id, owner);
    if shall_be_primary(host, id) {
        for (link, target) in host.layout.primary_links(id) {
            plan.push(MakeLink::new(link, without_prefix(host, target)));
        }
    }
    plan.push(WriteFile::remove(host.layout.workspace(id).was_primary()));
    push_running(&mut plan, host, id, owner, &news)?;
    Ok(plan)
}

/// It is the primary workspace (a run that was killed may have made some of the links only), or was
/// it when the package was removed, or nobody is or was and it has no marker.
fn shall_be_primary(host: &Host, id: &WorkspaceId) -> bool {
    if let Some(first) = primary(&host.layout) {
        return first == *id;
    }
    let was = |id: &WorkspaceId| host.layout.workspace(id).was_primary().exists();
    let mut all = super::all(&host.layout).into_iter();
    match all.find(|other| was(other) && is_onboarded(&host.layout, other)) {
        Some(first) => first == *id,
        None => !host.layout.workspace(id).marker().exists(),
    }
}

/// uid of omsagent, gid of omiusers.
pub fn service_owner(host: &Host) -> Result<Owner> {
    accounts::owner(host, accounts::OMSAGENT, accounts::OMIUSERS)?.context(
        "user `omsagent` or group `omiusers` does not exist: install the omsagent package first",
    )
}

fn without_prefix(host: &Host, path: PathBuf) -> PathBuf {
    match path.strip_prefix(host.layout.root()) {
        Ok(rest) => PathBuf::from("/").join(rest),
        Err(_) => path,
    }
}

pub(super) fn push_folders(plan: &mut Plan, host: &Host, id: &WorkspaceName, owner: Owner) {
    let paths = host.layout.workspace(id);
    // Under the host's lock: nobody else is writing these.
    for dir in [
        paths.conf(),
        paths.conf_d(),
        paths.certs(),
        paths.etc.clone(),
    ] {
        // The account may have put a link there.
        if std::fs::symlink_metadata(&dir).is_ok_and(|m| m.is_dir()) {
            files::sweep_unfinished(&dir);
        }
    }
    let open = Look::owned(0o750, owner);
    let closed = Look::owned(0o700, owner);
    plan.push(MakeDir::ours(paths.etc.clone(), open));
    plan.push(MakeDir::new(paths.conf(), open));
    plan.push(MakeDir::new(paths.conf_d(), open));
    plan.push(MakeDir::new(paths.certs(), closed));
    plan.push(MakeDir::ours(paths.var.clone(), open));
    for dir in [paths.tmp(), paths.state(), paths.run(), paths.log()] {
        plan.push(MakeDir::new(dir, open));
    }
}

fn push_running(
    plan: &mut Plan,
    host: &Host,
    id: &WorkspaceId,
    owner: Owner,
    news: &AgentNews,
) -> Result<()> {
    let own = port::own(&host.layout, id);
    let port = match own {
        // Its file is there and is not written: any number will do.
        port::Own::Nowhere => port::FIRST,
        _ => port::choose(&host.layout, id)
            .context("no free port for syslog between 25224 and 26223 on 127.0.0.1")?,
    };
    for (path, text) in templates::render(&host.layout, id, port)? {
        let said = match path.file_name().and_then(|name| name.to_str()) {
            Some("syslog.conf") => Some("info\tConfigure syslog..."),
            Some("heartbeat.conf") => Some("info\tConfigure heartbeat monitoring agent..."),
            _ => None,
        };
        let write = WriteFile::if_absent(path, text, Look::owned(0o644, owner));
        let step = ReadByAgent::new(write, news);
        match said {
            Some(line) => plan.push(step.saying(line)),
            None => plan.push(step),
        }
    }
    let rotation = logrotate::path(host, id);
    if rotation.parent().is_some_and(|dir| dir.is_dir()) {
        let look = Look::owned(0o644, Owner::ROOT);
        let write = WriteFile::new(rotation, logrotate::text(id), look);
        // Not read by the agent, but said like the rest.
        let said = format!("info\tConfigure log rotate for workspace {id}...");
        plan.push(ReadByAgent::new(write, &AgentNews::default()).saying(said));
    }
    plan.push(ServiceLink::new(host, id));
    plan.push(RunService::new(host, id, news));
    if own != port::Own::Nowhere {
        plan.push(ForwardSyslog::new(host, id, port));
    }
    Ok(())
}

/// What [`plan`] would do, for `--dry-run` on a host where the package is not installed yet.
pub fn outline(host: &Host, request: &OnboardingRequest) -> Result<Vec<String>> {
    let id = &request.id;
    let paths = host.layout.workspace(id);
    let mut lines = vec![
        format!(
            "register this host with workspace {id} at {}",
            request.domain
        ),
        format!(
            "write keys, settings and folders below {}",
            paths.etc.display()
        ),
        format!("make state folders below {}", paths.var.display()),
    ];
    if request.proxy.is_some() {
        lines.push(format!("write {}", host.layout.proxy_conf().display()));
    }
    if request.ca_file.is_some() {
        lines.push(format!("write {}", host.layout.ca_file().display()));
    }
    if request.marker.is_none() {
        lines.push(format!("make workspace {id} the primary one"));
    }
    lines.push(format!("write /etc/logrotate.d/omsagent-{id}"));
    lines.push(format!("install, enable and start {}", unit::name(id)));
    lines.push(match &host.syslog {
        Some(daemon) => format!("let {} forward to the agent and restart it", daemon.name()),
        None => "no supported syslog daemon found: nothing to forward".into(),
    });
    Ok(lines)
}
