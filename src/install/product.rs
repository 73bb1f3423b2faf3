//! What the package does to a host and takes away again: accounts, folders, sudoers,
//! installinfo.txt, the workspaces' services. Called by the maintainer scripts, so that `dpkg -i`,
//! `rpm -U` and the bundle end in the same state (bundle.md 4.2-4.6, 4.13).

mod steps;
#[cfg(test)]
mod tests;

use super::first_boot::PrepareFirstBoot;
use super::{migrate, release, strays};
use crate::base::files::{self, Look, Owner};
use crate::base::ids::WorkspaceName;
use crate::host::layout::Layout;
use crate::host::services::ServiceManager;
use crate::host::{Host, accounts, services, sudoers, syslog, unit};
use crate::plan::history;
use crate::plan::journal::{CutShort, Journal, Run};
use crate::plan::keep;
use crate::plan::steps::MakeDir;
use crate::plan::{Broken, Plan, Report};
use crate::workspace::{self, onboarding, removal};
use anyhow::Result;
use std::path::{Path, PathBuf};
use steps::{AllowSudo, EnsureAccount, InstallInfo, OwnProxyConf};

/// Group of the service account, group of everything it may read, and the account.
const GROUPS: [&str; 2] = ["omsagent", "omiusers"];

/// Name of the receipt of an installation without package manager, in the records.
pub const RECEIPT: &str = "portable.json";

fn made_accounts(layout: &Layout) -> PathBuf {
    layout.records().join("accounts")
}

/// `configure` of the package: everything that is not a plain file of it.
pub fn configure_plan(host: &Host) -> Plan {
    let mut plan = Plan::new();
    let open = Look::owned(0o755, Owner::ROOT);
    let var = host.layout.var();
    // /var/opt is the distribution's, where there is one.
    for dir in var
        .ancestors()
        .skip(1)
        .take(2)
        .collect::<Vec<_>>()
        .iter()
        .rev()
    {
        if !dir.is_dir() || dir.ends_with("microsoft") {
            plan.push(MakeDir::new(*dir, open));
        }
    }
    // Root's: whoever owns this folder could lead root's writes below it elsewhere.
    plan.push(MakeDir::new(&var, open));
    plan.push(MakeDir::new(
        host.layout.records(),
        Look::owned(0o700, Owner::ROOT),
    ));
    if host.layout.is_live() {
        for group in GROUPS {
            plan.push(EnsureAccount::group(host, group));
        }
        plan.push(EnsureAccount::user(host));
    }
    plan.push(OwnProxyConf { host: host.clone() });
    if !host.is_live() && host.services == ServiceManager::Systemd {
        plan.push(PrepareFirstBoot::new(host));
    }
    plan.push(InstallInfo::new(&host.layout));
    plan.push(AllowSudo { host: host.clone() });
    plan
}

/// Folders, beside the workspaces', where a killed run may have left a file under a name that is
/// not final.
pub fn folders(layout: &Layout) -> Vec<PathBuf> {
    let others = [
        "/etc",
        "/etc/logrotate.d",
        "/etc/sudoers.d",
        syslog::RSYSLOG_D,
        syslog::SYSLOG_NG_D,
    ];
    let mut folders: Vec<PathBuf> = others.map(|dir| layout.path(dir)).into();
    folders.extend([
        services::unit_dir(layout),
        layout.etc(),
        layout.sysconf(),
        layout.bin(),
        layout.var(),
        layout.records(),
    ]);
    folders
}

/// Removes such files.
pub(super) fn sweep(host: &Host) {
    strays::sweep(&host.layout);
    for folder in folders(&host.layout) {
        files::sweep_unfinished(&folder);
    }
}

/// Runs [`configure_plan`], then brings every onboarded workspace (back) to life; `upgraded` ones
/// that were running are restarted into the new binary.
pub fn configure(host: &Host, report: &mut dyn Report) -> Result<(), Broken> {
    sweep(host);
    let live = host.is_live();
    let mut news = false;
    let mut tell = |report: &mut dyn Report, result: Result<bool>| match result {
        Ok(made) => news |= made,
        Err(e) => report.warn(&format!("{e:#}")),
    };
    if live {
        let retired = migrate::retire(host, report);
        tell(report, Ok(retired));
        tell(report, migrate::inherit_accounts(host));
    }
    configure_plan(host).run(host, &mut journal(host, "configure package".into()), report)?;
    // What does not run is brought to life by its first boot.
    if !live {
        return Ok(());
    }
    let templates = migrate::own_templates(&host.layout);
    tell(report, templates.map(|()| false));
    let moved = unflatten(host, report);
    tell(report, moved);
    workspace::migrate::clear_empty_conf(&host.layout);
    resume_workspaces(host, report);
    let retired = migrate::retire_nxautomation(host);
    if let Ok(migrate::Runbooks::Needed(why)) = retired {
        report.line(&format!("User nxautomation stays: {why}."));
    }
    tell(
        report,
        retired.map(|what| what == migrate::Runbooks::Removed),
    );
    let cleared = migrate::clear_up(host, news, report).and_then(|()| migrate::done(&host.layout));
    if let Err(e) = cleared {
        report.warn(&format!("{e:#}"));
    }
    Ok(())
}

/// Of a part of the configuration: one that is cut short is done again.
pub(super) fn journal(host: &Host, what: String) -> Journal {
    let about = Run {
        what,
        version: release::version(),
        cut_short: CutShort::Complete,
    };
    Journal::at(&host.layout.records(), about)
}

/// The one workspace of a host from before multi-homing, moved to folders of its own.
fn unflatten(host: &Host, report: &mut dyn Report) -> Result<bool> {
    let Some(id) = workspace::migrate::flat(&host.layout)? else {
        return Ok(false);
    };
    report.line("Migrating to multi-homing folder structure...");
    let moved = onboarding::service_owner(host).and_then(|owner| {
        // After a removal of the original they belong to the number of an account that is gone.
        for (tree, _) in host.layout.primary_links(&id) {
            if std::fs::symlink_metadata(&tree).is_ok_and(|m| m.is_dir()) {
                files::chown_tree(&tree, owner)?;
            }
        }
        workspace::migrate::unflatten(host, &id, owner)
    });
    let plan = moved.map_err(|e| e.context(format!("workspace {id} stays where it is")))?;
    let mut journal = journal(host, format!("move workspace {id} to folders of its own"));
    plan.run(host, &mut journal, report)
        .map(|finished| finished.changed)
        .map_err(|broken| anyhow::anyhow!("workspace {id} stays where it is: {broken}"))
}

/// Brings every onboarded workspace (back) to life. One that cannot be is told, and no other is
/// the worse for it.
fn resume_workspaces(host: &Host, report: &mut dyn Report) {
    // Those of the diagnostics extension and of Operations Manager are not started: that is theirs to
    // ask for. One that runs, runs the new program.
    let everything = workspace::everything(&host.layout);
    for name in everything.iter().filter(|name| name.id().is_none()) {
        if let Err(e) = resume_pseudo(host, name, report) {
            report.warn(&format!("workspace {name}: {e:#}"));
        }
    }
    for id in workspace::all(&host.layout) {
        // Key and certificate of a running one may come from elsewhere (LoadCredential).
        if !workspace::is_onboarded(&host.layout, &id) && !workspace::is_active(host, &id) {
            continue;
        }
        let pid = |host: &Host| services::main_pid(host, &unit::name(&id)).ok().flatten();
        let old_pid = pid(host);
        let resumed = take_back(host, &id)
            .and_then(|()| onboarding::service_owner(host))
            .and_then(|owner| workspace::migrate::own_identity(host, &id, owner))
            .and_then(|mut plan| {
                plan.append(onboarding::resume(host, &id)?);
                Ok(plan)
            })
            .map_err(|e| e.context(format!("workspace {id}")));
        // One broken workspace must not keep the package from being configured.
        match resumed {
            Err(e) => report.warn(&format!("{e:#}")),
            Ok(plan) => {
                let mut journal = journal(host, format!("resume workspace {id}"));
                if let Err(broken) = plan.run(host, &mut journal, report) {
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
}

fn resume_pseudo(host: &Host, name: &WorkspaceName, report: &mut dyn Report) -> Result<()> {
    take_back(host, name)?;
    let mut journal = journal(host, format!("resume workspace {name}"));
    let plan = workspace::pseudo::folders(host, name)?;
    plan.run(host, &mut journal, report)?;
    if workspace::is_active(host, name) {
        let unit = unit::name(name);
        let _ = services::install_unit(host, &unit, &unit::text_on(&host.layout, name))?;
        let _ = services::restart(host, &unit)?;
    }
    Ok(())
}

/// Files kept by a removal belong to root meanwhile (or to a number without a name, after one by
/// the original); the service account gets them back. A running agent's tree is left alone.
pub(super) fn take_back(host: &Host, id: &WorkspaceName) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let owner = onboarding::service_owner(host)?;
    let paths = host.layout.workspace(id);
    for tree in [&paths.etc, &paths.var] {
        let theirs = |m: std::fs::Metadata| m.is_dir() && m.uid() != owner.uid;
        if std::fs::symlink_metadata(tree).is_ok_and(theirs) {
            files::chown_tree(tree, owner)?;
            // Notes of root's, not the account's.
            for note in [paths.service_registered(), paths.marker()] {
                files::chown_file(&note, Owner::ROOT)?;
            }
        }
    }
    Ok(())
}

/// The accounts that we made, one line each, as they are remembered on the disk.
pub fn made(layout: &Layout) -> Result<String> {
    Ok(files::read_text(&made_accounts(layout), 4096)?.unwrap_or_default())
}

/// `remove` of the package: all of [`configure`] undone. Identity and settings of workspaces stay,
/// owned by root, so that no future account inherits them (bundle.md 5 and 7.2 R38). Goes on over
/// single failures and reports them: a removal must not get stuck half-way. `made` names the
/// accounts to remove.
pub fn withdraw(host: &Host, made: &str, report: &mut dyn Report) {
    let layout = &host.layout;
    let mut restart_syslog = false;
    for id in removal::traces(layout) {
        restart_syslog |= removal::withdraw(host, &id, report).restart_syslog;
        let paths = layout.workspace(&id);
        let mut tidy = |result: Result<bool>| {
            if let Err(e) = result {
                report.warn(&format!("{e:#}"));
            }
        };
        tidy(files::remove_tree(&paths.tmp()));
        tidy(files::remove(&paths.pid_file()));
        tidy(files::remove(&paths.status_socket()));
        for tree in [&paths.etc, &paths.var] {
            if tree.is_dir() {
                tidy(files::chown_tree(tree, Owner::ROOT).map(|()| true));
            }
        }
        for dir in [paths.run(), paths.state(), paths.log(), paths.var.clone()] {
            files::remove_dir_if_empty(&dir);
        }
    }
    // Workspaces that somebody set aside, to bring them back later (users.md A.1).
    let aside = std::fs::read_dir(layout.etc().join("state"))
        .into_iter()
        .flatten();
    for folder in aside.filter_map(|entry| Some(entry.ok()?.path())) {
        if let Err(e) = files::chown_tree(&folder, Owner::ROOT) {
            report.warn(&format!("{e:#}"));
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
        let fine = result.is_ok();
        if let Err(e) = result {
            report.warn(&format!("{e:#}"));
        }
        fine
    };
    let at_first_boot = services::remove_unit(host, unit::FIRST_BOOT);
    note(at_first_boot.map(|_| ()).map_err(Into::into));
    note(sudoers::remove(host).map(|_| ()));
    note(files::remove(&layout.installinfo()).map(|_| ()));
    note(files::chown_file(&layout.proxy_conf(), Owner::ROOT));
    sweep(host);
    let mut unmade = true;
    if layout.is_live() {
        if made_by_us(made, "user nxautomation") {
            note(migrate::retire_nxautomation(host).map(|_| ()));
        }
        if made_by_us(made, "user omsagent") {
            let user = accounts::remove_user(host, accounts::OMSAGENT);
            unmade &= note(user.map(|_| ()).map_err(Into::into));
        }
        for group in GROUPS {
            if made_by_us(made, &format!("group {group}")) {
                let group = accounts::remove_group(host, group);
                unmade &= note(group.map(|_| ()).map_err(Into::into));
            }
        }
    }
    note(files::remove_tree(&keep::folder(layout)).map(|_| ()));
    // An account that is in use stays, and with it the knowledge that it is ours.
    if unmade {
        note(forget(&layout.records()));
    }
    files::remove_dir_if_empty(&layout.var());
}

/// Takes the records away, but for those of a run that goes on: the one that has the package manager
/// take away what it installed, and puts the rest back itself. The receipt stays until all that it
/// lists is gone.
fn forget(records: &Path) -> Result<()> {
    let runs = history::read(records).runs;
    if runs.iter().any(history::Past::is_running) {
        for name in ["accounts", "unfinished", "unconfigured"] {
            files::remove(&records.join(name))?;
        }
        return Ok(());
    }
    clear(records)
}

/// What a purge leaves until its own run is over. Where an account of ours had to stay, so does
/// all that is known of it.
pub(super) fn forget_runs(layout: &Layout) -> Result<()> {
    if made_accounts(layout).exists() {
        return Ok(());
    }
    clear(&layout.records())
}

fn clear(records: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(records) else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name() != RECEIPT {
            files::remove_tree(&entry.path())?;
        }
    }
    files::remove_dir_if_empty(records);
    Ok(())
}

/// Adds to the accounts that we made, or took over. True when one was new.
pub(super) fn remember_made(layout: &Layout, records: &[String]) -> Result<bool> {
    let before = made(layout)?;
    let mut text = before.clone();
    for record in records {
        if !made_by_us(&text, record) {
            text.push_str(record);
            text.push('\n');
        }
    }
    if text == before {
        return Ok(false);
    }
    files::make_dir(&layout.records(), Look::owned(0o700, Owner::ROOT))?;
    let look = Look::owned(0o600, Owner::ROOT);
    files::write_atomic(&made_accounts(layout), text.as_bytes(), look)?;
    Ok(true)
}

fn made_by_us(made: &str, line: &str) -> bool {
    made.lines().any(|l| l == line)
}
