//! The steps that make the package's own things: accounts, sudo rules, installinfo.txt.

use super::{made_accounts, remember_made};
use crate::base::files::{self, Look, Owner};
use crate::host::accounts::UserSpec;
use crate::host::layout::Layout;
use crate::host::{Host, accounts, sudoers};
use crate::install::release;
use crate::plan::backup::Backups;
use crate::plan::steps::WriteFile;
use crate::plan::undo::Undo;
use crate::plan::{Report, Step};
use crate::workspace::onboarding;
use anyhow::Result;
use std::path::PathBuf;

/// A group or the user; remembered on the disk before it is made, so that a removal knows.
pub(super) struct EnsureAccount {
    host: Host,
    group: Option<&'static str>,
}

impl EnsureAccount {
    pub(super) fn group(host: &Host, name: &'static str) -> Self {
        EnsureAccount {
            host: host.clone(),
            group: Some(name),
        }
    }

    pub(super) fn user(host: &Host) -> Self {
        EnsureAccount {
            host: host.clone(),
            group: None,
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

    fn before(&self, backups: &mut Backups) -> Result<Undo> {
        // One of that name that comes later will not be ours: the record goes with it.
        let record = backups.snapshot(&made_accounts(&self.host.layout))?;
        let account = match self.group {
            Some(name) => Undo::NoGroup(name.into()),
            None => Undo::NoUser(accounts::OMSAGENT.into()),
        };
        Ok(Undo::All(vec![record, account]))
    }

    fn apply(&mut self, report: &mut dyn Report) -> Result<()> {
        remember_made(&self.host.layout, &[self.record()])?;
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
}

/// proxy.conf belongs to the service account (bundle.md 4.11); a removal gave it to root. Decided
/// when the account exists.
pub(super) struct OwnProxyConf {
    pub(super) host: Host,
}

impl Step for OwnProxyConf {
    fn describe(&self) -> String {
        let path = self.host.layout.proxy_conf();
        format!("give {} to omsagent:omiusers", path.display())
    }
    fn satisfied(&self) -> Result<bool> {
        use std::os::unix::fs::MetadataExt;
        let path = self.host.layout.proxy_conf();
        // Without the account yet: what root has will be given.
        let account = onboarding::service_owner(&self.host).map(|owner| owner.uid);
        let right = |uid: u32| account.as_ref().map_or(uid != 0, |account| uid == *account);
        Ok(std::fs::symlink_metadata(path).map_or(true, |m| !m.is_file() || right(m.uid())))
    }
    fn apply(&mut self, _: &mut dyn Report) -> Result<()> {
        let owner = onboarding::service_owner(&self.host)?;
        files::chown_file(&self.host.layout.proxy_conf(), owner)
    }
    fn before(&self, _: &mut Backups) -> Result<Undo> {
        Ok(Undo::owner(&self.host.layout.proxy_conf()))
    }
}

/// What the account may do as root, and nothing else.
pub(super) struct AllowSudo {
    pub(super) host: Host,
}

impl Step for AllowSudo {
    fn describe(&self) -> String {
        "allow omsagent, by sudo, to restart syslog and its own units, nothing else".into()
    }
    fn satisfied(&self) -> Result<bool> {
        // `visudo` decides what is in place; asking it is part of the work.
        Ok(false)
    }
    fn before(&self, backups: &mut Backups) -> Result<Undo> {
        if sudoers::is_installed(&self.host, &sudoers::rules())? {
            return Ok(Undo::Nothing);
        }
        let mut undo = Vec::new();
        for path in sudoers::holding_rules(&self.host)? {
            undo.push(backups.snapshot(&path)?);
        }
        undo.push(Undo::NoSudoRules);
        Ok(Undo::All(undo))
    }
    fn apply(&mut self, report: &mut dyn Report) -> Result<()> {
        let placed = sudoers::install(&self.host, &sudoers::rules())?;
        if let sudoers::Placement::Skipped(reason) = placed.placement {
            report.line(&format!("sudo rules not installed: {reason}"));
        }
        Ok(())
    }
}

/// installinfo.txt: version, date and kind; then the time of installation, in UTC as its `Z` says
/// (bundle.md 4.13; R32 of 7.2).
pub(super) struct InstallInfo {
    path: PathBuf,
}

impl InstallInfo {
    pub(super) fn new(layout: &Layout) -> Self {
        InstallInfo {
            path: layout.installinfo(),
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
        WriteFile::new(&self.path, text, Look::owned(0o644, Owner::ROOT)).apply(report)
    }
    fn before(&self, backups: &mut Backups) -> Result<Undo> {
        backups.snapshot(&self.path)
    }
}
