//! The syslog port of a workspace: the one it has, else the first free one from 25224 on
//! (bundle.md 4.10, protocol.md 1.11).

use super::everything;
use crate::base::files;
use crate::base::ids::WorkspaceName;
use crate::host::layout::Layout;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

/// Port of the first workspace.
pub const FIRST: u16 = 25224;
/// How many ports are tried.
const TRIED: u16 = 1000;

/// The port in the workspace's own syslog.conf, when there is one.
pub fn configured(layout: &Layout, id: &WorkspaceName) -> Option<u16> {
    in_file(&layout.workspace(id).conf_d().join("syslog.conf"))
}

/// The port whose lines may go with this workspace: its own one, or the one that is said - but none
/// that another workspace listens on.
pub fn to_give_up(layout: &Layout, name: &WorkspaceName, said: Option<u16>) -> Option<u16> {
    let port = said.or_else(|| configured(layout, name))?;
    let others = everything(layout);
    let taken = others
        .iter()
        .any(|other| other != name && configured(layout, other) == Some(port));
    (!taken).then_some(port)
}

fn in_file(path: &Path) -> Option<u16> {
    let text = files::read_text_no_follow(path, 1 << 20).ok().flatten()?;
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("port"))
        .find_map(|rest| rest.trim().parse().ok().filter(|port| *port != 0))
}

/// syslog.conf of the workspaces that somebody moved to ETC/state, to bring them back later: the
/// VM extension does (users.md A.1).
fn set_aside(layout: &Layout) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(layout.etc().join("state"))
        .into_iter()
        .flatten();
    let folders = entries.filter_map(|entry| Some(entry.ok()?.path()));
    folders
        .map(|folder| folder.join("conf/omsagent.d/syslog.conf"))
        .collect()
}

/// The port to use: kept when configured; else the first that no other workspace names and that
/// can be bound on loopback now, for UDP and TCP.
pub fn choose(layout: &Layout, id: &WorkspaceName) -> Option<u16> {
    if let Some(port) = configured(layout, id) {
        return Some(port);
    }
    let mut taken: Vec<u16> = everything(layout)
        .iter()
        .filter(|other| *other != id)
        .filter_map(|other| configured(layout, other))
        .collect();
    taken.extend(set_aside(layout).iter().filter_map(|conf| in_file(conf)));
    (FIRST..FIRST + TRIED).find(|port| !taken.contains(port) && is_free(*port))
}

fn is_free(port: u16) -> bool {
    UdpSocket::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_kept_and_a_taken_one_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let a: WorkspaceName = "11111111-2222-3333-4444-555555555555".parse().unwrap();
        let b: WorkspaceName = "22222222-2222-3333-4444-555555555555".parse().unwrap();
        let conf_d = layout.workspace(&a).conf_d();
        std::fs::create_dir_all(&conf_d).unwrap();
        std::fs::write(
            conf_d.join("syslog.conf"),
            "<source>\n  type syslog\n  port 25224\n</source>\n",
        )
        .unwrap();
        assert_eq!(choose(&layout, &a), Some(25224));
        assert_eq!(to_give_up(&layout, &a, None), Some(25224));
        assert_eq!(to_give_up(&layout, &a, Some(25300)), Some(25300));
        let lad = WorkspaceName::lad();
        assert_eq!(to_give_up(&layout, &lad, None), None);
        assert_eq!(to_give_up(&layout, &lad, Some(25224)), None);
        let busy = UdpSocket::bind(("127.0.0.1", 25225));
        let chosen = choose(&layout, &b).unwrap();
        assert!(chosen > 25224);
        if busy.is_ok() {
            assert_ne!(chosen, 25225);
        }
    }
}
