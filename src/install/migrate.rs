//! What the original left on the host as a whole: its daemons, its accounts, files that its scripts
//! made and that no package manager knows (bundle.md 4.2, 4.3, 4.7, 4.8). A workspace's own part is
//! [`crate::workspace::migrate`].
//!
//! Everything here looks for what it takes away, so that it may run at any time, again and again:
//! after an upgrade, and on a host where the original was removed long ago.

use super::product;
use crate::base::files::{self, Look, Owner};
use crate::base::ids::WorkspaceName;
use crate::base::order;
use crate::host::layout::Layout;
use crate::host::packages::PackageManager;
use crate::host::{FILE_LIMIT, Host, accounts, logrotate, originals, services, umbrella};
use crate::plan::steps::WriteFile;
use crate::plan::{Plan, Report};
use crate::workspace;
use anyhow::Result;
use std::path::{Path, PathBuf};

/// The account of the original's runbooks.
const NXAUTOMATION: &str = "nxautomation";
/// Comments by which the accounts that its package made are known (bundle.md 4.3).
const COMMENTS: [(&str, &str); 2] = [
    (accounts::OMSAGENT, "OMS agent"),
    (NXAUTOMATION, "nxOMSAutomation"),
];
/// A text of a file of its sudo rules.
const SUDO_MARK: &[u8] = b"# Begin sudo configuration for omsagent";
/// How preinst renames its templates, which are in the way of our configuration files.
const SET_ASIDE: &str = ".original";

/// Are the files of the original's package still there? rpm takes them away after our own scripts
/// have run, with files of the same names that those wrote.
pub fn files_are_there(layout: &Layout) -> bool {
    layout.opt().join("ruby").is_dir()
}

fn note(layout: &Layout) -> PathBuf {
    layout.records().join("unfinished")
}

fn failure_note(layout: &Layout) -> PathBuf {
    layout.records().join("unconfigured")
}

/// Remembers that the package still has to be configured.
pub fn put_off(layout: &Layout) -> Result<()> {
    let records = layout.records();
    files::make_dir(&records, Look::owned(0o700, Owner::ROOT))?;
    files::write_atomic(&note(layout), b"", Look::owned(0o600, Owner::ROOT))
}

/// Was that remembered, and not done since?
pub fn is_put_off(layout: &Layout) -> bool {
    note(layout).exists()
}

/// Remembers that the package could not be configured: to rpm a script that fails is a warning.
pub fn failed(layout: &Layout) -> Result<()> {
    let records = layout.records();
    files::make_dir(&records, Look::owned(0o700, Owner::ROOT))?;
    files::write_atomic(&failure_note(layout), b"", Look::owned(0o600, Owner::ROOT))
}

/// Is the package's configuration still to be done, for either reason?
pub fn is_due(layout: &Layout) -> bool {
    is_put_off(layout) || failure_note(layout).exists()
}

/// It is done.
pub fn done(layout: &Layout) -> Result<()> {
    files::remove(&failure_note(layout))?;
    files::remove(&note(layout)).map(|_| ())
}

/// Where somebody edited the original's templates, rpm put ours beside them. Those were never meant
/// for edits: ours take their place.
pub fn own_templates(layout: &Layout) -> Result<()> {
    const BESIDE: &str = ".rpmnew";
    if !is_put_off(layout) {
        return Ok(());
    }
    for dir in [layout.sysconf(), layout.sysconf().join("omsagent.d")] {
        for name in names(&dir) {
            if let Some(template) = name.strip_suffix(BESIDE) {
                files::remove(&dir.join(template))?;
                files::move_to(&dir.join(&name), &dir.join(template))?;
            }
        }
    }
    Ok(())
}

/// What a takeover would do here, for `--dry-run`; nothing on a host without traces of the original.
pub fn outline(layout: &Layout) -> Vec<String> {
    let mut lines: Vec<String> = originals::services(layout)
        .iter()
        .map(|name| format!("stop and remove service {name} of the original agent"))
        .collect();
    if let Ok(Some(id)) = workspace::migrate::flat(layout) {
        lines.push(format!(
            "move workspace {id} to folders of its own, and rewrite its omsagent.conf to them"
        ));
    }
    let left = leftovers(layout, !lines.is_empty());
    lines.extend(left.iter().map(|path| format!("remove {}", path.display())));
    lines
}

/// Stops the original's daemons and takes their units and scripts away. True when there were any.
pub fn retire(host: &Host, report: &mut dyn Report) -> bool {
    let layout = &host.layout;
    let mut found = false;
    for name in originals::services(layout) {
        found = true;
        report.line(&format!(
            "Retiring service {name} of the original agent ..."
        ));
        if let Err(e) = services::remove_unit(host, &format!("{name}.service")) {
            report.warn(&format!("{e}"));
        }
        for path in originals::scripts(layout, &name) {
            if let Err(e) = files::remove(&path) {
                report.warn(&format!("{e:#}"));
            }
        }
        if let Some(which) = originals::extension(&name) {
            // Nobody has asked us to start it.
            if let Some(workspace) = umbrella::workspace_of(&name)
                && let Err(e) = files::remove(&layout.workspace(&workspace).service_registered())
            {
                report.warn(&format!("{e:#}"));
            }
            report.line(&format!(
                "warning\t{which}: the original's service is gone, its files stay below {}; \
                 `service_control start` with its name starts this agent on them",
                layout.etc().display()
            ));
        }
    }
    match originals::end_processes(layout) {
        Ok(0) => {}
        Ok(_) => found = true,
        Err(e) => report.warn(&format!("{e:#}")),
    }
    found
}

/// Takes over the accounts that the original's package made and would have removed itself. The
/// service account's password shell goes, unless omsconfig still works as it.
pub fn inherit_accounts(host: &Host) -> Result<bool> {
    let [(name, comment), _] = COMMENTS;
    let Some(user) = accounts::user(host, name)? else {
        return Ok(false);
    };
    let theirs = user.comment == comment && user.shell.ends_with("bash");
    if !theirs {
        return Ok(false);
    }
    let mut records = vec![format!("user {name}"), format!("group {name}")];
    // That group is omi's, and goes with it.
    let omi = |manager: PackageManager| manager.installed_version("omi");
    if host.packages.map(omi).transpose()?.flatten().is_none() {
        records.push(format!("group {}", accounts::OMIUSERS));
    }
    let mut changed = product::remember_made(&host.layout, &records)?;
    if !omsconfig_is_there(host) {
        changed |= accounts::forbid_login(host, name)?.made();
    }
    Ok(changed)
}

/// By its folder, and by the package manager, since its modules stay behind when it is removed.
fn omsconfig_is_there(host: &Host) -> bool {
    let ask = |manager: PackageManager| manager.installed_version("omsconfig");
    let is_known_gone = matches!(host.packages.map(ask), Some(Ok(None)));
    host.layout.path("/opt/microsoft/omsconfig").is_dir() && !is_known_gone
}

/// Who still needs the runbooks' account; `None` is nobody.
fn nxautomation_is_needed(host: &Host, user: &accounts::User) -> Result<Option<&'static str>> {
    let layout = &host.layout;
    if omsconfig_is_there(host) {
        return Ok(Some("omsconfig is installed"));
    }
    let crontabs = ["/var/spool/cron/crontabs", "/var/spool/cron"];
    if crontabs
        .iter()
        .any(|dir| layout.path(dir).join(NXAUTOMATION).is_file())
    {
        return Ok(Some("it has a crontab"));
    }
    Ok(originals::runs_processes(user.uid).then_some("a process runs as it"))
}

/// What became of the runbooks' account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runbooks {
    /// There is none of the original's, or it was said before that it stays.
    None,
    /// It was removed.
    Removed,
    /// It stays: the reason, for a person. Our own removal will look again.
    Needed(&'static str),
}

/// Removes the runbooks' account where the original made it and nothing uses it any more. Its home
/// goes when nothing is in it.
pub fn retire_nxautomation(host: &Host) -> Result<Runbooks> {
    let (name, comment) = COMMENTS[1];
    let user = accounts::user(host, name)?;
    if user.is_none() {
        // The original's removal took the account and left its home.
        remove_home(&host.layout);
    }
    let Some(user) = user.filter(|user| user.comment == comment) else {
        return Ok(Runbooks::None);
    };
    if let Some(why) = nxautomation_is_needed(host, &user)? {
        let new = product::remember_made(&host.layout, &[format!("user {name}")])?;
        return Ok(if new {
            Runbooks::Needed(why)
        } else {
            Runbooks::None
        });
    }
    let _ = accounts::remove_user(host, name)?;
    let _ = accounts::remove_group(host, name)?;
    remove_home(&host.layout);
    Ok(Runbooks::Removed)
}

/// The home that the original made, when nobody put anything there.
fn remove_home(layout: &Layout) {
    let home = layout.path("/home/nxautomation");
    files::remove_dir_if_empty(&home.join("run"));
    files::remove_dir_if_empty(&home);
}

/// Takes away what the original's scripts made and its package's removal would have taken along,
/// then says what is left and not ours to take. `report` hears that only when `news`.
pub fn clear_up(host: &Host, news: bool, report: &mut dyn Report) -> Result<()> {
    let layout = &host.layout;
    let mut plan = Plan::new();
    for path in leftovers(layout, news || is_put_off(layout)) {
        plan.push(WriteFile::remove(path));
    }
    let mut journal = product::journal(host, "clear up behind the original".into());
    let done = plan.run(host, &mut journal, report)?;
    // Diagnosis scripts, which the original's bundle fetched into a folder of no package.
    files::remove_tree(&layout.opt().join("tst"))?;
    for tree in ["ruby", "plugin", "tst"] {
        remove_empty_folders(&layout.opt().join(tree));
    }
    if news || done.changed {
        for line in what_stays(layout) {
            report.line(&line);
        }
    }
    Ok(())
}

/// Files below places of the original's own names, or with its marks in them.
/// What package managers set aside below sysconf is the original's only while it is taken over:
/// afterwards it is what people had edited of ours.
pub fn leftovers(layout: &Layout, takeover: bool) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = [
        "/etc/cron.d/omsagent",
        "/etc/logrotate.d/omsagent",
        "/var/lib/logrotate/omsagent-status",
        "/opt/microsoft/omsagent/bin/purge_omsagent.sh",
        "/opt/microsoft/omsagent/bin/troubleshooter",
    ]
    .map(|path| layout.path(path))
    .into();
    // Those of the pseudo workspaces may be ours.
    for name in [WorkspaceName::lad(), WorkspaceName::scom()] {
        let rotation = layout.path(format!("/etc/logrotate.d/omsagent-{name}"));
        let text = files::read_text_no_follow(&rotation, FILE_LIMIT)
            .ok()
            .flatten();
        if text.is_none_or(|text| text != logrotate::text(&name)) {
            found.push(rotation);
        }
        let link = layout.bin().join(format!("omsagent-{name}"));
        if !std::fs::read_link(&link).is_ok_and(|target| target == Path::new("omsagent")) {
            found.push(link);
        }
    }
    // It runs a program of omsconfig's.
    if !layout.path("/opt/omi/bin/OMSConsistencyInvoker").exists() {
        found.push(layout.path("/etc/cron.d/OMSConsistencyInvoker"));
    }
    let backup = layout.path("/etc/sudoers.bak");
    let text = files::read_no_follow(&backup, FILE_LIMIT).ok().flatten();
    let marked = |text: Vec<u8>| text.windows(SUDO_MARK.len()).any(|part| part == SUDO_MARK);
    if text.is_some_and(marked) {
        found.push(backup);
    }
    for dir in [layout.sysconf(), layout.sysconf().join("omsagent.d")] {
        let ends: &[&str] = match takeover {
            true => &[SET_ASIDE, ".rpmsave", ".dpkg-old", ".dpkg-dist"],
            false => &[SET_ASIDE],
        };
        found.extend(names(&dir).into_iter().filter_map(|name| {
            let ours = ends.iter().any(|end| name.ends_with(end));
            ours.then(|| dir.join(name))
        }));
    }
    found.retain(|path| std::fs::symlink_metadata(path).is_ok_and(|m| !m.is_dir()));
    found
}

/// One line for each thing that a person may want to know of.
fn what_stays(layout: &Layout) -> Vec<String> {
    let mut lines = Vec::new();
    for tree in ["plugin", "ruby"] {
        let dir = layout.opt().join(tree);
        for name in names(&dir) {
            lines.push(format!(
                "{} is not the package's and stays; this agent does not use it.",
                dir.join(name).display()
            ));
        }
    }
    for id in workspace::all(layout) {
        let state = layout.workspace(&id).state();
        let unsent = names(&state)
            .iter()
            .filter(|n| n.ends_with(".buffer"))
            .count();
        if unsent > 0 {
            lines.push(format!(
                "warning\t{unsent} buffer files in {} hold data that the original agent had not \
                 sent; this agent cannot read them.",
                state.display()
            ));
        }
    }
    lines
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    order::ascending(&mut names);
    names
}

/// Removes folders in which there is no file, the deepest first.
fn remove_empty_folders(dir: &Path) {
    for name in names(dir) {
        let path = dir.join(name);
        if std::fs::symlink_metadata(&path).is_ok_and(|m| m.is_dir()) {
            remove_empty_folders(&path);
        }
    }
    files::remove_dir_if_empty(dir);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::Kept;

    fn host(existing: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in existing {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let host = Host::detect(Layout::new(dir.path()));
        (dir, host)
    }

    #[test]
    fn its_leftovers_go_and_other_peoples_files_stay() {
        let gone = [
            ("etc/cron.d/omsagent", "x"),
            ("etc/cron.d/OMSConsistencyInvoker", "x"),
            ("etc/logrotate.d/omsagent-LAD", "x"),
            (
                "etc/sudoers.bak",
                "a\n# Begin sudo configuration for omsagent\n",
            ),
            ("opt/microsoft/omsagent/tst/modules/x.py", "x"),
            ("opt/microsoft/omsagent/bin/purge_omsagent.sh", "x"),
            (
                "etc/opt/microsoft/omsagent/sysconf/omsagent.d/syslog.conf.original",
                "x",
            ),
            (
                "etc/opt/microsoft/omsagent/sysconf/installinfo.txt.rpmsave",
                "x",
            ),
        ];
        let stays = [
            ("etc/cron.d/other", "x"),
            ("opt/microsoft/omsagent/plugin/mine.rb", "x"),
            ("etc/opt/microsoft/omsagent/sysconf/omsagent.conf", "x"),
            ("etc/opt/microsoft/omsagent/LAD/conf/x", "x"),
        ];
        let (dir, host) = host(&[gone.as_slice(), stays.as_slice()].concat());
        std::fs::create_dir_all(dir.path().join("opt/microsoft/omsagent/ruby/lib/x")).unwrap();
        let report = &mut Kept::default();
        clear_up(&host, true, report).unwrap();
        for (path, _) in gone {
            assert!(!dir.path().join(path).exists(), "{path}");
        }
        for (path, _) in stays {
            assert!(dir.path().join(path).exists(), "{path}");
        }
        assert!(!dir.path().join("opt/microsoft/omsagent/ruby").exists());
        assert!(report.0.iter().any(|line| line.contains("mine.rb")));
        // A second time there is nothing to do and nothing to say.
        let report = &mut Kept::default();
        clear_up(&host, false, report).unwrap();
        assert!(report.0.is_empty(), "{:?}", report.0);
    }

    #[test]
    fn the_cron_file_and_a_backup_that_others_need_stay() {
        let (dir, host) = host(&[
            ("etc/cron.d/OMSConsistencyInvoker", "x"),
            ("opt/omi/bin/OMSConsistencyInvoker", "x"),
            ("etc/sudoers.bak", "root ALL=(ALL) ALL\n"),
        ]);
        clear_up(&host, false, &mut Kept::default()).unwrap();
        assert!(dir.path().join("etc/cron.d/OMSConsistencyInvoker").exists());
        assert!(dir.path().join("etc/sudoers.bak").exists());
    }

    #[test]
    fn a_put_off_configuration_is_remembered_until_it_is_done() {
        let (dir, host) = host(&[("var/lib/x", "")]);
        assert!(!is_put_off(&host.layout));
        put_off(&host.layout).unwrap();
        assert!(is_put_off(&host.layout));
        done(&host.layout).unwrap();
        assert!(!is_put_off(&host.layout) && !is_due(&host.layout));
        // One that failed is due, too, but is no takeover: what people set aside stays theirs.
        failed(&host.layout).unwrap();
        assert!(is_due(&host.layout) && !is_put_off(&host.layout));
        done(&host.layout).unwrap();
        assert!(!is_due(&host.layout));
        drop(dir);
    }
}
