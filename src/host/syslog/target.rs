//! Where the syslog daemon hands a workspace's messages over.

use crate::base::ids::WorkspaceName;
use crate::host::Host;

/// Where a workspace's agent listens.
pub(super) struct Target {
    pub port: u16,
    /// Its socket for datagrams, if it has one.
    pub socket: String,
}

impl Target {
    pub fn new(host: &Host, id: &WorkspaceName, port: u16) -> Target {
        let socket = host.layout.workspace(id).syslog_socket();
        Target {
            port,
            socket: host.layout.inside(&socket).to_string_lossy().into_owned(),
        }
    }
}
