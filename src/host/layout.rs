//! Where things are on a host: every path the product uses, in one place, below a root prefix
//! (bundle.md 0: ETC, VAR, OPT; protocol.md 0.2).

use crate::base::ids::{WorkspaceId, WorkspaceName};
use std::path::{Path, PathBuf};

/// Name of the socket on which an agent tells its figures, in its run folder.
pub const STATUS_SOCKET: &str = "omsagent.sock";

/// Name of the socket that takes datagrams of the syslog daemon, in the run folder.
pub const SYSLOG_SOCKET: &str = "syslog.sock";

/// All paths below a root prefix (`/` on a live host; a folder in unit tests and for `--root DIR`).
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// A layout below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Layout { root: root.into() }
    }

    /// The prefix itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The path as the agent will see it: without the prefix of an image folder.
    pub fn inside(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root)
            .map_or_else(|_| path.to_owned(), |rest| Path::new("/").join(rest))
    }

    /// True on a live host: services may be started, accounts made by the system's own tools.
    pub fn is_live(&self) -> bool {
        self.root == Path::new("/")
    }

    /// `absolute` below the prefix.
    pub fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let relative = absolute.as_ref().strip_prefix("/");
        self.root.join(relative.unwrap_or(absolute.as_ref()))
    }

    /// ETC: configuration.
    pub fn etc(&self) -> PathBuf {
        self.path("/etc/opt/microsoft/omsagent")
    }

    /// VAR: state.
    pub fn var(&self) -> PathBuf {
        self.path("/var/opt/microsoft/omsagent")
    }

    /// Journal, receipts, kept packages, the list of accounts we made: root's own folder, outside
    /// of what the package or the service account owns.
    pub fn records(&self) -> PathBuf {
        self.path("/var/lib/omsagent")
    }

    /// OPT: programs.
    pub fn opt(&self) -> PathBuf {
        self.path("/opt/microsoft/omsagent")
    }

    /// OPT/bin.
    pub fn bin(&self) -> PathBuf {
        self.opt().join("bin")
    }

    /// Pristine templates and installinfo.txt.
    pub fn sysconf(&self) -> PathBuf {
        self.etc().join("sysconf")
    }

    /// Version and time of the installation (bundle.md 4.13).
    pub fn installinfo(&self) -> PathBuf {
        self.sysconf().join("installinfo.txt")
    }

    /// One line, shared by all workspaces (bundle.md 4.11).
    pub fn proxy_conf(&self) -> PathBuf {
        self.etc().join("proxy.conf")
    }

    /// Additional trusted CA certificates (PEM), ours: written by `--ca-file`.
    pub fn ca_file(&self) -> PathBuf {
        self.etc().join("ca.pem")
    }

    /// Unattended onboarding (bundle.md 3).
    pub fn onboarding_file(&self) -> PathBuf {
        self.path("/etc/omsagent-onboard.conf")
    }

    /// The folders of one workspace.
    pub fn workspace(&self, id: &WorkspaceName) -> WorkspacePaths {
        WorkspacePaths {
            etc: self.etc().join(id.as_str()),
            var: self.var().join(id.as_str()),
        }
    }

    /// The six links that say which workspace is primary: (link, folder of the workspace)
    /// (bundle.md 4.5).
    pub fn primary_links(&self, id: &WorkspaceId) -> [(PathBuf, PathBuf); 6] {
        let ws = self.workspace(id);
        [
            (self.etc().join("conf"), ws.conf()),
            (self.etc().join("certs"), ws.certs()),
            (self.var().join("tmp"), ws.tmp()),
            (self.var().join("run"), ws.run()),
            (self.var().join("state"), ws.state()),
            (self.var().join("log"), ws.log()),
        ]
    }
}

/// `ETC/<WS>` and `VAR/<WS>` (bundle.md 4.5).
#[derive(Debug, Clone)]
pub struct WorkspacePaths {
    /// `ETC/<WS>`.
    pub etc: PathBuf,
    /// `VAR/<WS>`.
    pub var: PathBuf,
}

impl WorkspacePaths {
    /// Configuration folder.
    pub fn conf(&self) -> PathBuf {
        self.etc.join("conf")
    }
    /// Configuration fragments.
    pub fn conf_d(&self) -> PathBuf {
        self.conf().join("omsagent.d")
    }
    /// Key and certificate, 0700.
    pub fn certs(&self) -> PathBuf {
        self.etc.join("certs")
    }
    /// oms.crt.
    pub fn cert(&self) -> PathBuf {
        self.certs().join("oms.crt")
    }
    /// oms.key.
    pub fn key(&self) -> PathBuf {
        self.certs().join("oms.key")
    }
    /// omsadmin.conf (bundle.md 4.12).
    pub fn omsadmin_conf(&self) -> PathBuf {
        self.conf().join("omsadmin.conf")
    }
    /// omsagent.conf.
    pub fn omsagent_conf(&self) -> PathBuf {
        self.conf().join("omsagent.conf")
    }
    /// Which messages the host's syslog daemon forwards, one line; absent: the default.
    pub fn syslog_selection(&self) -> PathBuf {
        self.conf().join("syslog.selection")
    }
    /// Present on a secondary workspace only; its text is the marker.
    pub fn marker(&self) -> PathBuf {
        self.conf().join(".multihoming_marker")
    }
    /// Present when the service is registered.
    pub fn service_registered(&self) -> PathBuf {
        self.conf().join(".service_registered")
    }
    /// Operations Manager's certificate (bundle.md 6.6).
    pub fn scom_cert(&self) -> PathBuf {
        self.certs().join("scom-cert.pem")
    }
    /// Its key.
    pub fn scom_key(&self) -> PathBuf {
        self.certs().join("scom-key.pem")
    }
    /// `VAR/<WS>`/tmp.
    pub fn tmp(&self) -> PathBuf {
        self.var.join("tmp")
    }
    /// `VAR/<WS>`/run.
    pub fn run(&self) -> PathBuf {
        self.var.join("run")
    }
    /// `VAR/<WS>`/run/omsagent.pid.
    pub fn pid_file(&self) -> PathBuf {
        self.run().join("omsagent.pid")
    }
    /// The socket on which the agent tells its figures (docs/status.md).
    pub fn status_socket(&self) -> PathBuf {
        self.run().join(STATUS_SOCKET)
    }
    /// The socket for datagrams of the syslog daemon, where that is chosen.
    pub fn syslog_socket(&self) -> PathBuf {
        self.run().join(SYSLOG_SOCKET)
    }
    /// `VAR/<WS>`/state: queues, position files.
    pub fn state(&self) -> PathBuf {
        self.var.join("state")
    }
    /// `VAR/<WS>`/log.
    pub fn log(&self) -> PathBuf {
        self.var.join("log")
    }
    /// `VAR/<WS>`/log/omsagent.log.
    pub fn log_file(&self) -> PathBuf {
        self.log().join("omsagent.log")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_below_the_prefix() {
        let layout = Layout::new("/image");
        assert_eq!(layout.etc(), Path::new("/image/etc/opt/microsoft/omsagent"));
        assert_eq!(layout.path("/etc/sudoers"), Path::new("/image/etc/sudoers"));
        assert!(!layout.is_live());
        assert!(Layout::new("/").is_live());
    }
}
