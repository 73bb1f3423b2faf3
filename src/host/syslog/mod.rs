//! The syslog daemon's forwarding to the agent: which daemon there is, and our lines in its
//! configuration (bundle.md 4.9, protocol.md 6.1, 6.2, S12, R25, R27, R28).
//!
//! What is written is asked of the daemon itself before anyone restarts it; if it does not accept
//! it, the files are as before. The caller restarts ([`super::services::restart_syslog`]), and
//! only after [`Change::Made`].
//!
//! There is no loop: the agent writes its own log to a file and says nothing through syslog, so a
//! forwarded message never makes another one. Only the tools do ([`local`]).

mod double;
pub mod local;
mod rsyslog;
mod selection;
mod syslog_ng;
mod target;

pub use double::{Double, each_statement, forwarded_by_others};
pub use selection::{
    BadSelection, Facility, NoTransport, Selection, Severity, Transport, UnknownName,
};
pub use syslog_ng::{CONF_D as SYSLOG_NG_D, MAIN as SYSLOG_NG_CONF};

use super::layout::Layout;
use super::services::ServiceManager;
use super::{Change, FILE_LIMIT, Host, blocks};
use crate::base::command::{self, Command, Outcome};
use crate::base::files::{self, Look, Owner};
use crate::base::ids::WorkspaceName;
use crate::base::order;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use target::Target;

/// File name of ours in either daemon's folder.
pub const OURS: &str = "95-omsagent.conf";
/// rsyslog's main file.
pub const RSYSLOG_CONF: &str = "/etc/rsyslog.conf";
/// rsyslog's folder of drop-ins.
pub const RSYSLOG_D: &str = "/etc/rsyslog.d";

/// The daemon that forwards to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyslogDaemon {
    /// rsyslog with a folder of drop-ins.
    Rsyslog {
        /// /etc/rsyslog.d, below the prefix.
        dir: PathBuf,
    },
    /// rsyslog with /etc/rsyslog.conf only.
    OldRsyslog,
    /// syslog-ng.
    SyslogNg,
}

/// Why forwarding could not be changed. In every case the files are as before.
#[derive(Debug, thiserror::Error)]
pub enum SyslogError {
    /// Neither daemon is here.
    #[error("no supported syslog daemon found (rsyslog or syslog-ng): syslog is not collected")]
    NoDaemon,
    /// syslog-ng's configuration names no source.
    #[error("`{}` defines no source to collect from", .0.display())]
    NoSource(PathBuf),
    /// The daemon's configuration was wrong before we came.
    #[error(
        "the configuration of {daemon} was invalid before the agent's lines came to it, nothing \
         was changed: {says}; mend that, then try again"
    )]
    BrokenBefore {
        /// rsyslog or syslog-ng.
        daemon: &'static str,
        /// What it says, with file and line.
        says: String,
    },
    /// The daemon does not take our change.
    #[error("{daemon} does not accept the change, nothing was changed: {says}")]
    NotAccepted {
        /// rsyslog or syslog-ng.
        daemon: &'static str,
        /// What it says, with file and line.
        says: String,
    },
    /// A file could not be read or written, or the daemon not asked.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl SyslogDaemon {
    /// By configuration files, in the order of bundle.md 4.9. When both daemons left files (a
    /// removed Debian package does), the one whose program is there wins, then the one that runs.
    pub fn detect(layout: &Layout, services: ServiceManager) -> Option<SyslogDaemon> {
        let dir = layout.path(RSYSLOG_D);
        let rsyslog = layout.path(RSYSLOG_CONF).is_file().then(|| {
            if dir.is_dir() {
                SyslogDaemon::Rsyslog { dir }
            } else {
                SyslogDaemon::OldRsyslog
            }
        });
        let has_ng = layout.path(syslog_ng::MAIN).is_file();
        let prefer_ng = rsyslog.is_none() || (has_ng && ng_is_in_use(layout, services));
        if has_ng && prefer_ng {
            Some(SyslogDaemon::SyslogNg)
        } else {
            rsyslog
        }
    }

    /// Its name, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            SyslogDaemon::Rsyslog { .. } => "rsyslog",
            SyslogDaemon::OldRsyslog => "(old) rsyslog",
            SyslogDaemon::SyslogNg => "syslog-ng",
        }
    }

    /// The command by which it checks its own configuration; `None` when it is not installed.
    fn check(&self) -> Option<Command> {
        let (program, args): (_, &[&str]) = match self {
            SyslogDaemon::Rsyslog { .. } | SyslogDaemon::OldRsyslog => {
                ("rsyslogd", &["-N1", "-f", RSYSLOG_CONF])
            }
            SyslogDaemon::SyslogNg => ("syslog-ng", &["--syntax-only"]),
        };
        command::find(program)?;
        Some(Command::new(program).args(args))
    }
}

/// Has the daemon forward the selection to 127.0.0.1:`port`, or to the agent's socket, in place of whatever this
/// workspace had before. Lines of others are kept.
pub fn configure(
    host: &Host,
    id: &WorkspaceName,
    port: u16,
    selection: &Selection,
) -> Result<Change, SyslogError> {
    let rules = Rules::Exactly(selection);
    apply(host, edits(host, id, port, rules)?, Intent::Add)
}

/// As [`configure`], but the rules that the workspace has already stay as somebody wrote them, the
/// original's too, and only go to `port`; the selection is for a workspace without any.
pub fn configure_keeping(
    host: &Host,
    id: &WorkspaceName,
    port: u16,
    selection: &Selection,
) -> Result<Change, SyslogError> {
    let rules = Rules::Kept { or: selection };
    apply(host, edits(host, id, port, rules)?, Intent::Add)
}

/// The files that [`configure_keeping`] would change; none when there is nothing to do.
pub fn would_change(
    host: &Host,
    id: &WorkspaceName,
    port: u16,
    selection: &Selection,
) -> Result<Vec<PathBuf>, SyslogError> {
    let rules = Rules::Kept { or: selection };
    let edits = edits(host, id, port, rules)?.into_iter();
    Ok(edits.filter(Edit::is_needed).map(|e| e.path).collect())
}

/// Are the workspace's rules, if it has any, those of the selection, by whichever transport? What
/// somebody wrote in their place is not.
pub fn are_ours(
    host: &Host,
    id: &WorkspaceName,
    port: u16,
    selection: &Selection,
) -> Result<bool, SyslogError> {
    for transport in Transport::ALL {
        let selection = &Selection {
            transport,
            ..selection.clone()
        };
        let texts = |rules| -> Result<Vec<Option<Vec<u8>>>, SyslogError> {
            Ok(edits(host, id, port, rules)?
                .into_iter()
                .map(|e| e.new)
                .collect())
        };
        if texts(Rules::Kept { or: selection })? == texts(Rules::Exactly(selection))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Which rules a workspace shall have.
#[derive(Clone, Copy)]
enum Rules<'a> {
    Exactly(&'a Selection),
    Kept { or: &'a Selection },
}

impl<'a> Rules<'a> {
    /// The rules in these files that are to be kept, in `read`'s words; empty when there are none.
    fn kept(self, files: &[&Edit], read: impl Fn(&[u8]) -> String) -> String {
        match self {
            Rules::Exactly(_) => String::new(),
            Rules::Kept { .. } => files
                .iter()
                .filter_map(|edit| Some(read(edit.old.as_deref()?)))
                .find(|rules| !rules.is_empty())
                .unwrap_or_default(),
        }
    }

    fn selection(self) -> &'a Selection {
        match self {
            Rules::Exactly(selection) | Rules::Kept { or: selection } => selection,
        }
    }
}

/// rsyslog's rules: those that are there, or the selection's.
fn rsyslog_rules(files: &[&Edit], id: &WorkspaceName, to: &Target, rules: Rules<'_>) -> String {
    let kept = rules.kept(files, |text| rsyslog::present_rules(text, id, to.port));
    if kept.is_empty() {
        rsyslog::rules(to, rules.selection())
    } else {
        kept
    }
}

fn edits(
    host: &Host,
    id: &WorkspaceName,
    port: u16,
    rules: Rules<'_>,
) -> Result<Vec<Edit>, SyslogError> {
    let to = &Target::new(host, id, port);
    Ok(match &host.syslog {
        None => return Err(SyslogError::NoDaemon),
        Some(SyslogDaemon::Rsyslog { dir }) => {
            let mut ours = Edit::of(dir.join(OURS), Whose::Ours)?;
            let mut main = Edit::of(host.layout.path(RSYSLOG_CONF), Whose::Theirs)?;
            let rules = rsyslog_rules(&[&ours, &main], id, to, rules);
            ours.change(|text| rsyslog::put(text, id, &rules));
            // From a time when there was no such folder: messages would be sent twice.
            main.change(|text| rsyslog::take_out(text, id));
            load_once(host, [&mut ours, &mut main])?;
            vec![ours, main]
        }
        Some(SyslogDaemon::OldRsyslog) => {
            let mut edit = Edit::of(host.layout.path(RSYSLOG_CONF), Whose::Theirs)?;
            let rules = rsyslog_rules(&[&edit], id, to, rules);
            edit.change(|text| rsyslog::put(text, id, &rules));
            load_once(host, [&mut edit])?;
            vec![edit]
        }
        Some(SyslogDaemon::SyslogNg) => configure_syslog_ng(host, id, to, rules)?,
    })
}

/// Sees to it that rsyslog's module for sockets is loaded once where a stanza of ours needs it.
fn load_once<'e>(host: &Host, edits: impl IntoIterator<Item = &'e mut Edit>) -> anyhow::Result<()> {
    let main = host.layout.path(RSYSLOG_CONF);
    let entries = std::fs::read_dir(host.layout.path(RSYSLOG_D))
        .into_iter()
        .flatten();
    let found = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let drop_ins = found.filter(|path| path.extension().is_some_and(|e| e == "conf"));
    let mut elsewhere = false;
    for path in drop_ins.chain([main]) {
        let text = files::read(&path, FILE_LIMIT)?.unwrap_or_default();
        elsewhere |= rsyslog::is_loaded_by_others(&text);
    }
    for edit in edits {
        edit.change(|text| rsyslog::load_once(text, elsewhere));
    }
    Ok(())
}

/// Takes this workspace's forwarding out of every place it may be in; of our own file also others'
/// lines that forward to `port`, where nobody listens any more.
pub fn unconfigure(
    host: &Host,
    id: &WorkspaceName,
    port: Option<u16>,
) -> Result<Change, SyslogError> {
    let old = host.syslog == Some(SyslogDaemon::OldRsyslog);
    let mut edits = every_file(host)?;
    for edit in &mut edits {
        match (edit.daemon, edit.whose) {
            // Where there is no folder for drop-ins, the daemon's file is what ours is elsewhere.
            (Daemon::Rsyslog, whose) if whose == Whose::Ours || old => edit.change(|text| {
                let text = rsyslog::take_out(text, id);
                match port {
                    Some(port) => rsyslog::take_port_out(&text, port),
                    None => text,
                }
            }),
            (Daemon::Rsyslog, _) => edit.change(|text| rsyslog::take_out(text, id)),
            (Daemon::SyslogNg, _) => edit.change(|text| syslog_ng::take_out(text, id)),
        }
    }
    load_once(
        host,
        edits.iter_mut().filter(|e| e.daemon == Daemon::Rsyslog),
    )?;
    apply(host, edits, Intent::Remove)
}

/// Takes every workspace's forwarding out. Rules that people added to our own file stay unless
/// they too forward to the agent.
pub fn purge(host: &Host) -> Result<Change, SyslogError> {
    let old = host.syslog == Some(SyslogDaemon::OldRsyslog);
    let mut edits = every_file(host)?;
    for edit in &mut edits {
        match edit.daemon {
            Daemon::Rsyslog if old => {
                edit.change(|text| rsyslog::take_ports_out(&rsyslog::purge(text)))
            }
            Daemon::Rsyslog => edit.change(rsyslog::purge),
            Daemon::SyslogNg => edit.change(syslog_ng::purge),
        }
        if edit.whose == Whose::Ours && edit.new.as_deref().is_some_and(rsyslog::is_spent) {
            edit.new = None;
        }
    }
    apply(host, edits, Intent::Remove)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Daemon {
    Rsyslog,
    SyslogNg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// 95-omsagent.conf: root:root 0644 (S12), deleted when nothing is left in it.
    Ours,
    /// The daemon's own file: owner and mode stay, never deleted.
    Theirs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intent {
    Add,
    Remove,
}

/// One file, as it is and as it shall be; `None` is no file.
struct Edit {
    path: PathBuf,
    daemon: Daemon,
    whose: Whose,
    old: Option<Vec<u8>>,
    new: Option<Vec<u8>>,
}

impl Edit {
    fn of(path: PathBuf, whose: Whose) -> anyhow::Result<Edit> {
        let old = files::read(&path, FILE_LIMIT)?;
        Ok(Edit {
            path,
            daemon: Daemon::Rsyslog,
            whose,
            new: old.clone(),
            old,
        })
    }

    fn syslog_ng(path: PathBuf, whose: Whose) -> anyhow::Result<Edit> {
        Ok(Edit {
            daemon: Daemon::SyslogNg,
            ..Edit::of(path, whose)?
        })
    }

    fn change(&mut self, edit: impl FnOnce(&[u8]) -> Vec<u8>) {
        let new = edit(self.new.as_deref().unwrap_or_default());
        let gone = self.whose == Whose::Ours && blocks::is_blank(&new);
        let never_was = self.new.is_none() && new.is_empty();
        self.new = (!gone && !never_was).then_some(new);
    }

    fn is_needed(&self) -> bool {
        self.old != self.new
            || (self.whose == Whose::Ours && self.new.is_some() && !looks_right(&self.path))
    }

    fn write(&self, bytes: Option<&[u8]>) -> anyhow::Result<()> {
        match (bytes, self.whose) {
            (None, _) => files::remove(&self.path).map(drop),
            (Some(bytes), Whose::Ours) => {
                files::write_atomic(&self.path, bytes, Look::owned(0o644, Owner::ROOT))
            }
            (Some(bytes), Whose::Theirs) => files::replace_keeping_look(&self.path, bytes),
        }
    }
}

fn looks_right(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|m| {
        let ours = !nix::unistd::geteuid().is_root() || (m.uid(), m.gid()) == (0, 0);
        m.is_file() && m.mode() & 0o7777 == 0o644 && ours
    })
}

/// Every file that may hold lines of ours and exists.
fn every_file(host: &Host) -> anyhow::Result<Vec<Edit>> {
    let mut edits = all_files(host)?;
    edits.retain(|edit| edit.old.is_some());
    Ok(edits)
}

fn all_files(host: &Host) -> anyhow::Result<Vec<Edit>> {
    let at = |path: &str| host.layout.path(path);
    Ok(vec![
        Edit::of(at(RSYSLOG_D).join(OURS), Whose::Ours)?,
        Edit::of(at(RSYSLOG_CONF), Whose::Theirs)?,
        Edit::syslog_ng(at(syslog_ng::CONF_D).join(OURS), Whose::Ours)?,
        Edit::syslog_ng(at(syslog_ng::MAIN), Whose::Theirs)?,
    ])
}

fn configure_syslog_ng(
    host: &Host,
    id: &WorkspaceName,
    to: &Target,
    rules: Rules<'_>,
) -> Result<Vec<Edit>, SyslogError> {
    let dir = host.layout.path(syslog_ng::CONF_D);
    let mut main = Edit::syslog_ng(host.layout.path(syslog_ng::MAIN), Whose::Theirs)?;
    let text = String::from_utf8_lossy(main.old.as_deref().unwrap_or_default()).into_owned();
    let mut ours = Edit::syslog_ng(dir.join(OURS), Whose::Ours)?;
    let read = |text: &[u8]| syslog_ng::present_rules(text, id, to.port);
    let mut statements = rules.kept(&[&ours, &main], read);
    if statements.is_empty() {
        let source = syslog_ng::source(&text)
            .or_else(|| source_in(&dir))
            .ok_or_else(|| SyslogError::NoSource(main.path.clone()))?;
        statements = syslog_ng::rules(id, to, rules.selection(), &source);
    }
    let put = |text: &[u8]| syslog_ng::put(text, id, &statements);
    if syslog_ng::includes_conf_d(&text) && dir.is_dir() {
        ours.change(put);
        // The original wrote to the main file: names defined twice would be an error.
        main.change(|text| syslog_ng::take_out(text, id));
        Ok(vec![ours, main])
    } else {
        main.change(put);
        Ok(vec![main])
    }
}

/// A source defined in a drop-in, in the order syslog-ng reads them.
fn source_in(dir: &Path) -> Option<String> {
    let mut names: Vec<PathBuf> = std::fs::read_dir(dir)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "conf"))
        .collect();
    order::ascending(&mut names);
    names.iter().find_map(|path| {
        let text = files::read_text(path, FILE_LIMIT).ok()??;
        syslog_ng::source(&text)
    })
}

/// Writes what differs, asks the daemon, and puts everything back when it says no.
fn apply(host: &Host, edits: Vec<Edit>, intent: Intent) -> Result<Change, SyslogError> {
    let needed: Vec<Edit> = edits.into_iter().filter(Edit::is_needed).collect();
    if needed.is_empty() {
        return Ok(Change::AlreadyThere);
    }
    let put_back = || -> anyhow::Result<()> {
        needed
            .iter()
            .try_for_each(|edit| edit.write(edit.old.as_deref()))
    };
    for edit in &needed {
        if let Err(error) = edit.write(edit.new.as_deref()) {
            put_back()?;
            return Err(error.into());
        }
    }
    let Err((daemon, says)) = ask(host) else {
        return Ok(Change::Made);
    };
    put_back()?;
    match ask(host) {
        Ok(()) => Err(SyslogError::NotAccepted { daemon, says }),
        // Taking our lines out of a configuration that is invalid anyway makes nothing worse.
        Err(_) if intent == Intent::Remove => {
            for edit in &needed {
                edit.write(edit.new.as_deref())?;
            }
            Ok(Change::Made)
        }
        Err((daemon, says)) => Err(SyslogError::BrokenBefore { daemon, says }),
    }
}

/// Does the daemon accept its configuration as it is on disk? A daemon that cannot be asked does
/// not stand in the way. The error is its name, and what it says.
pub fn ask(host: &Host) -> Result<(), (&'static str, String)> {
    let Some(daemon) = host.syslog.as_ref().filter(|_| host.is_live()) else {
        return Ok(());
    };
    match daemon.check().map(Command::run) {
        Some(Ok(outcome)) if !outcome.ok() => Err((daemon.name(), complaint(&outcome))),
        _ => Ok(()),
    }
}

/// The first two lines that say what is wrong. rsyslog names the file for most mistakes, not all.
fn complaint(outcome: &Outcome) -> String {
    let idle = |line: &str| {
        line.is_empty()
            || line.contains("config validation run")
            || line.starts_with("rsyslogd: warning")
            || line.contains("WARNING")
    };
    let lines: Vec<&str> = outcome
        .output
        .lines()
        .map(str::trim)
        .filter(|line| !idle(line))
        .take(2)
        .collect();
    if lines.is_empty() {
        format!("status {}", outcome.code)
    } else {
        lines.join("; ")
    }
}

fn ng_is_in_use(layout: &Layout, services: ServiceManager) -> bool {
    let has = |program| super::has_program(layout, program);
    match (has("rsyslogd"), has("syslog-ng")) {
        (false, true) => true,
        (true, true) if layout.is_live() && services == ServiceManager::Systemd => {
            let active = |unit| {
                Command::new("systemctl")
                    .args(["is-active", "--quiet", unit])
                    .run()
                    .is_ok_and(|o| o.ok())
            };
            active("syslog-ng.service") && !active("rsyslog.service")
        }
        _ => false,
    }
}
