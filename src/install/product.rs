//! What the package does to a host and takes away again: accounts, folders, sudoers,
//! installinfo.txt, the workspaces' services. Called by the maintainer scripts, so that `dpkg -i`,
//! `rpm -U` and the bundle end in the same state (bundle.md 4.2-4.6, 4.13).

use super::release;
use crate::base::files::{self, Look, Owner};
use crate::host::accounts::UserSpec;
use crate::host::layout::Layout;
use crate::host::{Host, accounts, services, sudoers, syslog, unit};
use crate::plan::journal::Journal;
use crate::plan::steps::{MakeDir, WriteFile};
use crate::plan::{Broken, Plan, Report, Step};
use crate::workspace::{self, onboarding, removal};
use anyhow::{Context, Result};
use std::path::PathBuf;

/// Group of the service account, group of everything it may read, and the account.
const GROUPS: [&str; 2] = ["omsagent", "omiusers"];

/// Journal, receipts, the list of accounts we made: root's own folder, outside of what the
/// package or the service account owns.
pub fn records(layout: &Layout) -> PathBuf {
    layout.path("/var/lib/omsagent")
}

fn made_accounts(layout: &Layout) -> PathBuf {
    records(layout).join("accounts")
}

/// `configure` of the package: everything that is not a plain file of it.
pub fn configure_plan(host: &Host) -> Plan {
    let mut plan = Plan::new();
    if host.layout.is_live() {
        for group in GROUPS {
            plan.push(EnsureAccount::group(host, group));
        }
        plan.push(EnsureAccount::user(host));
    }
    let parents = Look::owned(0o755, Owner::ROOT);
    if let Some(parent) = host.layout.var().parent() {
        plan.push(MakeDir::new(parent, parents));
    }
    // Root's: whoever owns this folder could lead root's writes below it elsewhere.
    plan.push(MakeDir::new(
        host.layout.var(),
        Look::owned(0o755, Owner::ROOT),
    ));
    plan.push(OwnProxyConf { host: host.clone() });
    plan.push(AllowSudo {
        host: host.clone(),
        made: false,
    });
    plan.push(InstallInfo::new(&host.layout));
    plan
}

/// Runs [`configure_plan`], then brings every onboarded workspace (back) to life; `upgraded` ones
/// that were running are restarted into the new binary.
pub fn configure(host: &Host, report: &mut dyn Report) -> Result<(), Broken> {
    let mut journal = Journal::at(&records(&host.layout));
    configure_plan(host).run(&mut journal, report)?;
    if !host.layout.is_live() {
        return Ok(());
    }
    for id in workspace::all(&host.layout) {
        if !workspace::is_onboarded(&host.layout, &id) {
            continue;
        }
        let pid = |host: &Host| services::main_pid(host, &unit::name(&id)).ok().flatten();
        let old_pid = pid(host);
        let resumed = take_back(host, &id)
            .and_then(|()| onboarding::resume(host, &id))
            .map_err(|e| e.context(format!("workspace {id}")));
        // One broken workspace must not keep the package from being configured.
        match resumed {
            Err(e) => report.warn(&format!("{e:#}")),
            Ok(plan) => {
                let mut journal = Journal::at(&records(&host.layout));
                if let Err(broken) = plan.run(&mut journal, report) {
                    report.warn(&format!("workspace {id}: {broken}"));
                } else if old_pid.is_some()
                    && old_pid == pid(host)
                    && let Err(e) = services::restart(host, &unit::name(&id))
                {
                    report.warn(&format!("workspace {id}: {e}"));
                }
            }
        }
    }
    Ok(())
}

/// Files kept by a removal belong to root meanwhile; the service account gets them back.
fn take_back(host: &Host, id: &crate::base::ids::WorkspaceId) -> Result<()> {
    let owner = onboarding::service_owner(host)?;
    let paths = host.layout.workspace(id);
    for tree in [&paths.etc, &paths.var] {
        if tree.is_dir() {
            files::chown_tree(tree, owner)?;
        }
    }
    let registered = paths.service_registered();
    if registered.exists() {
        std::os::unix::fs::lchown(&registered, Some(0), Some(0))
            .with_context(|| format!("cannot change the owner of `{}`", registered.display()))?;
    }
    Ok(())
}

/// `remove` of the package: all of [`configure`] undone. Identity and settings of workspaces stay,
/// owned by root, so that no future account inherits them (bundle.md 5 and 7.2 R38). Goes on over
/// single failures and reports them: a removal must not get stuck half-way.
pub fn withdraw(host: &Host, report: &mut dyn Report) {
    let layout = &host.layout;
    let mut restart_syslog = false;
    for id in workspace::all(layout) {
        match removal::withdraw(host, &id, report) {
            Ok(changed) => restart_syslog |= changed,
            Err(e) => report.warn(&format!("workspace {id}: {e:#}")),
        }
        let paths = layout.workspace(&id);
        let mut tidy = |result: Result<bool>| {
            if let Err(e) = result {
                report.warn(&format!("{e:#}"));
            }
        };
        tidy(files::remove_tree(&paths.tmp()));
        tidy(files::remove(&paths.pid_file()));
        for tree in [&paths.etc, &paths.var] {
            if tree.is_dir() {
                tidy(files::chown_tree(tree, Owner::ROOT).map(|()| true));
            }
        }
    }
    match syslog::purge(host) {
        Ok(change) => restart_syslog |= change.made(),
        Err(e) => report.warn(&format!("{e:#}")),
    }
    if restart_syslog && let Err(e) = services::restart_syslog(host) {
        report.warn(&format!("{e}"));
    }
    let mut note = |result: Result<()>| {
        if let Err(e) = result {
            report.warn(&format!("{e:#}"));
        }
    };
    note(sudoers::remove(host).map(|_| ()));
    note(files::remove(&layout.installinfo()).map(|_| ()));
    if layout.proxy_conf().exists() {
        note(std::os::unix::fs::lchown(layout.proxy_conf(), Some(0), Some(0)).map_err(Into::into));
    }
    if layout.is_live() {
        note(remove_accounts(host));
    }
    note(files::remove_tree(&records(layout)).map(|_| ()));
    // Empty folders of ours only; a workspace's settings keep them.
    for id in workspace::all(layout) {
        let paths = layout.workspace(&id);
        let empty = [paths.run(), paths.state(), paths.log(), paths.var.clone()];
        for dir in empty {
            files::remove_dir_if_empty(&dir);
        }
    }
    files::remove_dir_if_empty(&layout.var());
}

/// Removes the accounts that we made, and only those.
fn remove_accounts(host: &Host) -> Result<()> {
    let text = files::read_text(&made_accounts(&host.layout), 4096)?.unwrap_or_default();
    let made = |line: &str| text.lines().any(|l| l == line);
    if made("user omsagent") {
        let _ = accounts::remove_user(host, accounts::OMSAGENT)?;
    }
    for group in GROUPS {
        if made(&format!("group {group}")) {
            let _ = accounts::remove_group(host, group)?;
        }
    }
    Ok(())
}

/// A group or the user; remembered on the disk before it is made, so that a removal knows.
struct EnsureAccount {
    host: Host,
    group: Option<&'static str>,
    made: bool,
}

impl EnsureAccount {
    fn group(host: &Host, name: &'static str) -> Self {
        EnsureAccount {
            host: host.clone(),
            group: Some(name),
            made: false,
        }
    }

    fn user(host: &Host) -> Self {
        EnsureAccount {
            host: host.clone(),
            group: None,
            made: false,
        }
    }

    fn record(&self) -> String {
        match self.group {
            Some(name) => format!("group {name}"),
            None => "user omsagent".into(),
        }
    }
}

impl Step for EnsureAccount {
    fn describe(&self) -> String {
        match self.group {
            Some(name) => format!("create system group {name}"),
            None => "create system user omsagent (no login, primary group omiusers)".into(),
        }
    }

    fn satisfied(&self) -> Result<bool> {
        Ok(match self.group {
            Some(name) => accounts::group(&self.host, name)?.is_some(),
            None => accounts::user(&self.host, accounts::OMSAGENT)?.is_some(),
        })
    }

    fn apply(&mut self, report: &mut dyn Report) -> Result<()> {
        let path = made_accounts(&self.host.layout);
        let mut text = files::read_text(&path, 4096)?.unwrap_or_default();
        let record = self.record();
        if !text.lines().any(|l| l == record) {
            text.push_str(&record);
            text.push('\n');
            files::write_atomic(&path, text.as_bytes(), Look::owned(0o600, Owner::ROOT))?;
        }
        self.made = true;
        match self.group {
            Some(name) => {
                report.line(&format!("Creating {name} group ..."));
                Ok(accounts::ensure_group(&self.host, name).map(|_| ())?)
            }
            None => {
                report.line("Creating omsagent service account ...");
                Ok(accounts::ensure_user(&self.host, &UserSpec::OMSAGENT).map(|_| ())?)
            }
        }
    }

    fn undo(&mut self, _: &mut dyn Report) -> Result<()> {
        if !self.made {
            return Ok(());
        }
        match self.group {
            Some(name) => Ok(accounts::remove_group(&self.host, name).map(|_| ())?),
            None => Ok(accounts::remove_user(&self.host, accounts::OMSAGENT).map(|_| ())?),
        }
    }
}

/// proxy.conf belongs to the service account (bundle.md 4.11); a removal gave it to root. Decided
/// when the account exists.
struct OwnProxyConf {
    host: Host,
}

impl Step for OwnProxyConf {
    fn describe(&self) -> String {
        let path = self.host.layout.proxy_conf();
        format!("give {} to omsagent:omiusers", path.display())
    }
    fn satisfied(&self) -> Result<bool> {
        use std::os::unix::fs::MetadataExt;
        let path = self.host.layout.proxy_conf();
        Ok(std::fs::symlink_metadata(path).map_or(true, |m| !m.is_file() || m.uid() != 0))
    }
    fn apply(&mut self, _: &mut dyn Report) -> Result<()> {
        let owner = onboarding::service_owner(&self.host)?;
        let path = self.host.layout.proxy_conf();
        std::os::unix::fs::lchown(&path, Some(owner.uid), Some(owner.gid))
            .with_context(|| format!("cannot change the owner of `{}`", path.display()))
    }
    fn undo(&mut self, _: &mut dyn Report) -> Result<()> {
        let path = self.host.layout.proxy_conf();
        std::os::unix::fs::lchown(&path, Some(0), Some(0))
            .with_context(|| format!("cannot change the owner of `{}`", path.display()))
    }
}

struct AllowSudo {
    host: Host,
    made: bool,
}

impl Step for AllowSudo {
    fn describe(&self) -> String {
        "allow omsagent, by sudo, to restart syslog and its own units, nothing else".into()
    }
    fn satisfied(&self) -> Result<bool> {
        // `visudo` decides what is in place; asking it is part of the work.
        Ok(false)
    }
    fn apply(&mut self, report: &mut dyn Report) -> Result<()> {
        let placed = sudoers::install(&self.host, &sudoers::rules())?;
        self.made = placed.change.made();
        if let sudoers::Placement::Skipped(reason) = placed.placement {
            report.line(&format!("sudo rules not installed: {reason}"));
        }
        Ok(())
    }
    fn undo(&mut self, _: &mut dyn Report) -> Result<()> {
        if self.made {
            let _ = sudoers::remove(&self.host)?;
        }
        Ok(())
    }
}

/// installinfo.txt: version, date and kind; then the time of installation, in UTC as its `Z` says
/// (bundle.md 4.13; R32 of 7.2).
struct InstallInfo {
    path: PathBuf,
    inner: Option<WriteFile>,
}

impl InstallInfo {
    fn new(layout: &Layout) -> Self {
        InstallInfo {
            path: layout.installinfo(),
            inner: None,
        }
    }

    fn first_line() -> String {
        format!("{} {} Release_Build", release::version(), build_date())
    }
}

/// Date of the commit this binary was built from, `YYYYMMDD`.
fn build_date() -> &'static str {
    option_env!("OMSAGENT_BUILD_DATE").unwrap_or("00000000")
}

impl Step for InstallInfo {
    fn describe(&self) -> String {
        format!("write {}", self.path.display())
    }
    fn satisfied(&self) -> Result<bool> {
        let text = files::read_text(&self.path, 4096)?.unwrap_or_default();
        Ok(text.lines().next() == Some(&Self::first_line()))
    }
    fn apply(&mut self, report: &mut dyn Report) -> Result<()> {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.0Z");
        let text = format!("{}\n{now}\n", Self::first_line());
        let mut step = WriteFile::new(&self.path, text, Look::owned(0o644, Owner::ROOT));
        let done = step.apply(report);
        self.inner = Some(step);
        done
    }
    fn undo(&mut self, report: &mut dyn Report) -> Result<()> {
        match &mut self.inner {
            Some(step) => step.undo(report),
            None => Ok(()),
        }
    }
}
