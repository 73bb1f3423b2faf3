//! Onboarding as a plan: ask the service first, then lay down files, then start the agent, then
//! point the syslog daemon at it (bundle.md 6.3, protocol.md 1.2 and 1.11). A refusal by the
//! service leaves the host as it was; a later failure takes everything back.

use super::exchange::{self, OnboardAnswer, OnboardRequest};
use super::service::{
    self, AgentNews, ForwardSyslog, KeepRunning, ReadByAgent, RunService, ServiceLink,
};
use super::{OnboardingRequest, identity, is_active, is_onboarded, port, primary, templates};
use crate::base::files::{self, Look, Owner};
use crate::base::ids::{AgentGuid, WorkspaceId, WorkspaceName};
use crate::base::secret::Secret;
use crate::host::services::ServiceError;
use crate::host::{Host, accounts, credentials, logrotate, services, unit};
use crate::plan::backup::Backups;
use crate::plan::steps::{MakeDir, MakeLink, WriteFile};
use crate::plan::undo::Undo;
use crate::plan::{Plan, Report, Step};
use crate::settings;
use crate::settings::omsadmin::OmsAdmin;
use crate::wire::date::Clock;
use crate::wire::identity::{ClientIdentity, PEM_LIMIT};
use crate::wire::metadata::MachineIds;
use anyhow::{Context, Result};
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use zeroize::Zeroizing;

mod way;

use way::Way;

/// A CA bundle is some 250 kB; this is generous.
const CA_LIMIT: usize = 4 << 20;

/// Is the agent of this workspace running, with the proxy, CA and resource id that were given, and
/// (for a primary) do the links say so? Then there is nothing to onboard: the service is not
/// contacted (bundle.md 6.3 step 6, as intended).
pub fn is_running_as_asked(host: &Host, request: &OnboardingRequest) -> bool {
    let links = || {
        let mut all = host.layout.primary_links(&request.id).into_iter();
        all.all(|(link, target)| {
            std::fs::read_link(link).is_ok_and(|there| there == without_prefix(host, target))
        })
    };
    is_onboarded(&host.layout, &request.id)
        && is_active(host, &request.id)
        && (request.marker.is_some() || links())
        && !is_copied(host, &request.id)
        && is_set_as_asked(host, request).unwrap_or(false)
}

fn is_copied(host: &Host, id: &WorkspaceId) -> bool {
    let saved = saved_settings(host, id).ok().flatten();
    saved.is_some_and(|saved| identity::is_copy(&saved, &MachineIds::read(&host.layout)))
}

/// Where only the Azure resource id is another one than asked for, it is written to the
/// workspace's own omsadmin.conf (R22) and the agent reads it; the service is not contacted. True
/// when that was so.
pub fn update_resource(host: &Host, request: &OnboardingRequest) -> Result<bool> {
    let Some(resource) = &request.azure_resource else {
        return Ok(false);
    };
    let without = OnboardingRequest {
        azure_resource: None,
        ..request.clone()
    };
    if !is_running_as_asked(host, &without) {
        return Ok(false);
    }
    let Some(mut conf) = saved_settings(host, &request.id)? else {
        return Ok(false);
    };
    conf.azure_resource_id.clone_from(resource);
    let path = host.layout.workspace(&request.id).omsadmin_conf();
    conf.write(&path, Look::owned(0o644, service_owner(host)?))?;
    match services::restart(host, &unit::name(&request.id)) {
        // Whoever started it restarts it.
        Err(ServiceError::NoManager { .. }) => Ok(true),
        done => done.map(|_| true).map_err(Into::into),
    }
}

/// Is what was given, beside the id and its key, saved already?
fn is_set_as_asked(host: &Host, request: &OnboardingRequest) -> Result<bool> {
    if let Some(line) = &request.proxy
        && !is_saved_proxy(host, line)?
    {
        return Ok(false);
    }
    if let Some(path) = &request.ca_file
        && files::read(path, CA_LIMIT)? != files::read(&host.layout.ca_file(), CA_LIMIT)?
    {
        return Ok(false);
    }
    let marker = host.layout.workspace(&request.id).marker();
    let marker = files::read_text_no_follow(&marker, 4096)?;
    if marker.as_deref().map(str::trim) != request.marker.as_deref().map(str::trim) {
        return Ok(false);
    }
    let Some(resource) = &request.azure_resource else {
        return Ok(true);
    };
    let conf = saved_settings(host, &request.id)?.unwrap_or_default();
    Ok(conf.azure_resource_id == *resource)
}

/// Does proxy.conf say just this, whatever comments and blanks somebody's tool keeps in it?
fn is_saved_proxy(host: &Host, line: &Secret) -> Result<bool> {
    let path = host.layout.proxy_conf();
    // Its old place does not count: what is there is on its way to the new one.
    if !path.exists() {
        return Ok(false);
    }
    let asked = settings::proxy::parse(line.expose())?;
    let saved = settings::proxy::load(&path);
    let same = |saved: settings::proxy::Proxy| {
        let who = |proxy: &settings::proxy::Proxy| {
            let both = proxy.credentials.as_ref();
            both.map(|(user, password)| {
                (user.clone(), Zeroizing::new(password.expose().to_owned()))
            })
        };
        (saved.scheme, &saved.host, saved.port) == (asked.scheme, &asked.host, asked.port)
            && who(&saved) == who(&asked)
    };
    Ok(saved.is_ok_and(|saved| saved.is_some_and(same)))
}

/// omsadmin.conf of a workspace. Its folder is the service account's: a link there must not make
/// root read, and write out again, what that account must not see.
fn saved_settings(host: &Host, id: &WorkspaceId) -> Result<Option<OmsAdmin>> {
    let path = host.layout.workspace(id).omsadmin_conf();
    let text = files::read_text_no_follow(&path, settings::omsadmin::LIMIT)?;
    Ok(text.map(|text| OmsAdmin::parse(&text)))
}

/// Key and certificate of a workspace, read as carefully; `None` when they cannot be used.
fn saved_identity(host: &Host, id: &WorkspaceId) -> Result<Option<ClientIdentity>> {
    let pair = super::pair(&host.layout, id);
    let cert = files::read_text_no_follow(&pair.cert, PEM_LIMIT)?;
    let key = files::read_no_follow(&pair.key, PEM_LIMIT)?.map(Zeroizing::new);
    let (Some(cert_pem), Some(key)) = (cert, key) else {
        return Ok(None);
    };
    let identity = ClientIdentity {
        cert_pem,
        key_pem: Secret::new(String::from_utf8_lossy(&key)),
    }
    .or_renewed(&host.layout.workspace(id).certs());
    let now = jiff::Timestamp::now();
    let good = identity.fits().unwrap_or(false) && identity.not_after().is_ok_and(|end| end > now);
    Ok(good.then_some(identity))
}

/// What cannot be read of an earlier onboarding is as good as lost: this one replaces it.
fn readable<T>(saved: Result<Option<T>>, report: &mut dyn Report) -> Option<T> {
    saved.unwrap_or_else(|e| {
        report.line(&format!("warning\t{e:#}: it is made anew"));
        None
    })
}

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

/// What waits to be sent on a copied host is the original's, which sends it itself.
struct ForgetQueue {
    host: Host,
    id: WorkspaceId,
}

impl Step for ForgetQueue {
    fn describe(&self) -> String {
        format!(
            "delete what the host that this one is a copy of had not sent yet for workspace {}",
            self.id
        )
    }
    fn satisfied(&self) -> Result<bool> {
        Ok(!self.host.layout.workspace(&self.id).state().exists())
    }
    fn before(&self, _: &mut Backups) -> Result<Undo> {
        Ok(Undo::Nothing)
    }
    fn apply(&mut self, _: &mut dyn Report) -> Result<()> {
        let _ = services::stop(&self.host, &unit::name(&self.id))?;
        files::remove_tree(&self.host.layout.workspace(&self.id).state()).map(drop)
    }
}

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

/// What the service agreed to.
struct Asked {
    request: OnboardRequest,
    answer: OnboardAnswer,
}

struct Register {
    host: Host,
    request: OnboardingRequest,
    version: String,
    way: Way,
    asked: Rc<RefCell<Option<Asked>>>,
}

impl Step for Register {
    fn describe(&self) -> String {
        format!(
            "register this host with workspace {} at {}",
            self.request.id, self.request.domain
        )
    }

    fn satisfied(&self) -> Result<bool> {
        Ok(false)
    }

    fn before(&self, _: &mut Backups) -> Result<Undo> {
        // The service keeps its registration; a repeated onboarding is welcome there.
        Ok(Undo::Nothing)
    }

    fn apply(&mut self, report: &mut dyn Report) -> Result<()> {
        let layout = &self.host.layout;
        let known = is_onboarded(layout, &self.request.id)
            .then(|| readable(saved_settings(&self.host, &self.request.id), report))
            .flatten()
            .filter(|conf| {
                let copied = identity::is_copy(conf, &MachineIds::read(layout));
                if copied {
                    report.line("warning\tThis host is a copy of the one that was onboarded: it gets an identity of its own");
                }
                !copied
            })
            .and_then(|conf| conf.guid());
        let kept = match &known {
            Some(guid) => {
                report.line(&format!("info\tReusing previous agent GUID {guid}"));
                readable(saved_identity(&self.host, &self.request.id), report)
            }
            None => None,
        };
        let guid = known.unwrap_or_else(AgentGuid::random);
        let identity = match kept {
            Some(identity) => identity,
            None => {
                report.line("info\tGenerating certificate ...");
                ClientIdentity::generate(&self.request.id, &guid, jiff::Timestamp::now())?
            }
        };
        report.line(&format!("info\tAgent GUID is {guid}"));
        for line in &self.way.told {
            report.line(line);
        }
        let request = OnboardRequest {
            layout: layout.clone(),
            workspace: self.request.id.clone(),
            key: self.request.key.clone(),
            tld: self.request.domain.clone(),
            guid,
            identity,
            ca_file: self.ca_file(),
            proxy: self.way.proxy.clone(),
            agent_version: self.version.clone(),
            azure_resource_id: self.request.azure_resource.clone().unwrap_or_default(),
            clock: Clock::System,
        };
        if self.request.verbose {
            report.line(&exchange::shown(&request));
        }
        let answer = exchange::onboard(&request)?;
        for text in &answer.warnings {
            report.line(&format!("warning\t{text}"));
        }
        if let Some(skew) = answer.skew {
            report.line(&format!(
                "warning\tThe clock of this host is {skew}: correct it"
            ));
        }
        *self.asked.borrow_mut() = Some(Asked { request, answer });
        report.line("info\tOnboarding success");
        service::say_who_starts_it(&self.host, &self.request.id, report);
        Ok(())
    }
}

impl Register {
    fn ca_file(&self) -> Option<PathBuf> {
        let saved = self.host.layout.ca_file();
        self.request
            .ca_file
            .clone()
            .or(Some(saved).filter(|p| p.exists()))
    }
}

/// Key, certificate and omsadmin.conf: with their final owner and mode from the first byte, the
/// old ones put back when a later step fails.
struct WriteIdentity {
    host: Host,
    request: OnboardingRequest,
    owner: Owner,
    asked: Rc<RefCell<Option<Asked>>>,
    news: AgentNews,
}

impl Step for WriteIdentity {
    fn describe(&self) -> String {
        let paths = self.host.layout.workspace(&self.request.id);
        format!(
            "write {}, oms.key (0640) and {}",
            paths.cert().display(),
            paths.omsadmin_conf().display()
        )
    }

    fn satisfied(&self) -> Result<bool> {
        Ok(false)
    }

    fn before(&self, backups: &mut Backups) -> Result<Undo> {
        let paths = self.host.layout.workspace(&self.request.id);
        let files = [paths.key(), paths.cert(), paths.omsadmin_conf()];
        let files = files.iter().map(|path| backups.snapshot(path));
        Ok(Undo::All(files.collect::<Result<_>>()?))
    }

    fn apply(&mut self, report: &mut dyn Report) -> Result<()> {
        let asked = self.asked.borrow();
        let asked = asked.as_ref().context("the service was not asked")?;
        let paths = self.host.layout.workspace(&self.request.id);
        let conf = self.settings(asked)?;
        let secret = Look::owned(0o640, self.owner);
        let plain = Look::owned(0o644, self.owner);
        let identity = &asked.request.identity;
        let key = identity.key_pem.expose();
        // A pair that the service manager hands over stays where it is.
        let own = credentials::of(&self.host.layout, &self.request.id).is_none();
        let pair = [
            WriteFile::new(paths.key(), key, secret),
            WriteFile::new(paths.cert(), identity.cert_pem.as_str(), secret),
        ];
        let pair = pair.into_iter().filter(|_| own);
        for step in pair.chain([WriteFile::new(paths.omsadmin_conf(), conf, plain)]) {
            let mut step = ReadByAgent::new(step, &self.news);
            // What cannot be read is another text.
            if !step.satisfied().unwrap_or(false) {
                step.apply(report)?;
            }
        }
        Ok(())
    }
}

impl WriteIdentity {
    /// omsadmin.conf (bundle.md 4.12); lines that somebody added to an earlier one are kept.
    fn settings(&self, asked: &Asked) -> Result<String> {
        // Register has told why, if they cannot be read.
        let before = saved_settings(&self.host, &self.request.id);
        let before = before.ok().flatten().unwrap_or_default();
        let machine = MachineIds::read(&self.host.layout);
        let mut conf = OmsAdmin {
            diagnostic_endpoint: before.diagnostic_endpoint,
            other_lines: before.other_lines,
            ..asked.answer.omsadmin(&asked.request, &machine)
        };
        if !before.log_facility.is_empty() {
            conf.log_facility = before.log_facility;
        }
        conf.to_text()
    }
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
