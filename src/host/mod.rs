//! Floor 3: what this machine is and has, and the smallest changes that can be made to it.
//!
//! A [`Host`] is found once and handed down. Below a root prefix other than `/` nothing that
//! runs is touched: no account tool, no service manager, no syslog daemon is called; files below
//! the prefix are read and written as on a live host.
//!
//! Every function that changes something says so by a [`Change`], so that a plan can undo what
//! was made and leave alone what was there before.

pub mod account_files;
pub mod accounts;
pub mod blocks;
pub mod credentials;
pub mod image;
pub mod last_words;
pub mod layout;
pub mod logrotate;
pub mod originals;
pub mod os;
pub mod package_locks;
pub mod packages;
pub mod process;
pub mod reread;
pub mod services;
pub mod sockets;
pub mod sudoers;
pub mod syslog;
mod sysv;
mod template;
pub mod umbrella;
pub mod unit;
pub mod unit_state;

use crate::base::command;
use layout::Layout;
use os::Os;
use packages::PackageManager;
use services::ServiceManager;
use syslog::SyslogDaemon;

/// What a call did to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Change {
    /// The host was already as asked for; nothing was touched, nothing needs a restart.
    AlreadyThere,
    /// This call changed the host.
    Made,
}

impl Change {
    /// True when this call changed the host.
    pub fn made(self) -> bool {
        self == Change::Made
    }

    /// One answer for two calls: made when either was.
    pub fn and(self, other: Change) -> Change {
        Change::from(self.made() || other.made())
    }
}

impl From<bool> for Change {
    fn from(made: bool) -> Self {
        if made {
            Change::Made
        } else {
            Change::AlreadyThere
        }
    }
}

/// This machine, or the root of one below a prefix.
#[derive(Debug, Clone)]
pub struct Host {
    /// Where everything is.
    pub layout: Layout,
    /// dpkg or rpm; with `None` the package is laid down portably.
    pub packages: Option<PackageManager>,
    /// What starts units.
    pub services: ServiceManager,
    /// Which syslog daemon can forward to us; `None` means syslog is not collected.
    pub syslog: Option<SyslogDaemon>,
    /// Distribution, kernel, name.
    pub os: Os,
    /// Machine architecture as the kernel says it, e.g. `x86_64`, `aarch64`.
    pub arch: String,
    /// The root of a system that does not run, e.g. of an image in the making.
    pub image: bool,
}

impl Host {
    /// Looks at everything below `layout`. Never fails: what is not there is `None` or empty.
    pub fn detect(layout: Layout) -> Host {
        let image = !layout.is_live() || os::is_chroot();
        let services = ServiceManager::detect(&layout, !image);
        // A system may be of a family and have lost, or never had, its tool.
        let there = |m: &PackageManager| has_program(&layout, m.program());
        Host {
            packages: PackageManager::detect(&layout).filter(there),
            syslog: SyslogDaemon::detect(&layout, services),
            os: Os::detect(&layout),
            arch: os::arch(),
            services,
            image,
            layout,
        }
    }

    /// True when things that run may be touched: the prefix is `/`, and it is what was booted.
    /// Accounts are made below `/` in every case: the tools that do it need nothing that runs.
    pub fn is_live(&self) -> bool {
        !self.image
    }
}

/// Is this program installed, below the prefix or on the live host?
fn has_program(layout: &Layout, program: &str) -> bool {
    if layout.is_live() {
        return command::find(program).is_some();
    }
    command::PATH
        .split(':')
        .any(|dir| layout.path(dir).join(program).is_file())
}

/// Most that is read of one configuration file of the host (accounts, sudoers, syslog): 16 MiB.
/// /etc/passwd of a host with 100 000 accounts is below it.
pub const FILE_LIMIT: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_prefix_has_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::detect(Layout::new(dir.path()));
        assert!(!host.is_live());
        assert_eq!(host.packages, None);
        assert_eq!(host.syslog, None);
        assert_eq!(host.services, ServiceManager::None);
        assert!(!host.arch.is_empty());
    }

    #[test]
    fn changes_add_up() {
        use Change::{AlreadyThere, Made};
        assert_eq!(AlreadyThere.and(AlreadyThere), AlreadyThere);
        assert_eq!(AlreadyThere.and(Made), Made);
        assert!(Made.and(AlreadyThere).made());
    }
}
