//! The syslog port of a workspace: the one it has, else the first free one from 25224 on
//! (bundle.md 4.10, protocol.md 1.11).

use super::everything;
use crate::agent::catalogue::{Plugin, Section};
use crate::base::files;
use crate::base::ids::WorkspaceName;
use crate::host::layout::Layout;
use crate::settings::fluent;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

/// Port of the first workspace.
pub const FIRST: u16 = 25224;
/// How many ports are tried.
const TRIED: u16 = 1000;
/// Ports of inputs that are added later, by fixed number: security events (CEF), collectd.
const OTHERS: [u16; 2] = [25226, 26000];

/// The port in the workspace's own syslog.conf, when there is one.
pub fn configured(layout: &Layout, id: &WorkspaceName) -> Option<u16> {
    match own(layout, id) {
        Own::Port(port) => Some(port),
        Own::NoFile | Own::Nowhere => None,
    }
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

/// What a workspace's syslog.conf says of its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// There is no such file yet.
    NoFile,
    /// The agent listens there.
    Port(u16),
    /// The file is there, and its agent listens on no port that messages could be sent to.
    Nowhere,
}

/// As the agent reads it: the first source of type `syslog`.
pub fn own(layout: &Layout, id: &WorkspaceName) -> Own {
    let path = layout.workspace(id).conf_d().join("syslog.conf");
    match text_of(&path) {
        None => Own::NoFile,
        Some(text) => first_port(&text).map_or(Own::Nowhere, Own::Port),
    }
}

fn text_of(path: &Path) -> Option<String> {
    files::read_text_no_follow(path, fluent::FILE_LIMIT)
        .ok()
        .flatten()
}

fn sources(text: &str) -> Vec<fluent::Element> {
    let document = fluent::parse("syslog.conf", text, &mut ());
    let elements = document
        .map(|document| document.elements)
        .unwrap_or_default();
    elements
        .into_iter()
        .filter(|e| e.name == "source")
        .collect()
}

fn first_port(text: &str) -> Option<u16> {
    let sources = sources(text);
    let is_syslog = |e: &&fluent::Element| e.kind().is_some_and(|kind| kind.value == "syslog");
    let source = sources.iter().find(is_syslog)?;
    if source
        .param("protocol_type")
        .is_some_and(|p| p.value == "unix")
    {
        return None;
    }
    let default = || Plugin::of(Section::Source, source)?.param("port")?.default;
    let port = source.param("port").map(|port| port.value.as_str());
    let port = port.or_else(default)?.parse().ok();
    port.filter(|port| *port != 0)
}

/// Every port that a fragment names: other inputs than ours are ports in use, too, whether their
/// workspace runs or not (bundle.md 4.10).
fn named_in(text: &str) -> Vec<u16> {
    let ports = sources(text)
        .into_iter()
        .filter_map(|source| source.param("port")?.value.parse().ok());
    ports.collect()
}

/// The ports that the fragments in a folder `conf/omsagent.d` name.
fn named_below(folder: &Path) -> Vec<u16> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let fragments = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "conf"));
    fragments
        .filter_map(|path| text_of(&path))
        .flat_map(|text| named_in(&text))
        .collect()
}

/// The fragments of the workspaces that somebody moved to ETC/state, to bring them back later: the
/// VM extension does (users.md A.1).
fn set_aside(layout: &Layout) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(layout.etc().join("state"))
        .into_iter()
        .flatten();
    let folders = entries.filter_map(|entry| Some(entry.ok()?.path()));
    folders
        .map(|folder| folder.join("conf/omsagent.d"))
        .collect()
}

/// The port to use: kept when configured; else the first that no workspace names and that can be
/// bound on loopback now, for UDP and TCP.
pub fn choose(layout: &Layout, id: &WorkspaceName) -> Option<u16> {
    if let Some(port) = configured(layout, id) {
        return Some(port);
    }
    let here = everything(layout);
    let here = here.iter().map(|name| layout.workspace(name).conf_d());
    let folders = here.chain(set_aside(layout));
    let taken: Vec<u16> = folders.flat_map(|folder| named_below(&folder)).collect();
    (FIRST..FIRST + TRIED)
        .filter(|port| !OTHERS.contains(port) && !taken.contains(port))
        .find(|port| is_free(*port))
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

    #[test]
    fn a_port_is_read_as_the_agent_reads_it() {
        let source = |inside: &str| format!("<source>\n  type syslog\n{inside}\n</source>\n");
        for (inside, port) in [
            ("  port 25230 # ours", Some(25230)),
            ("  port \"25231\"", Some(25231)),
            ("  bind 127.0.0.1", Some(5140)),
            ("  protocol_type unix\n  path /x", None),
            ("  port 0", None),
            ("  port none", None),
        ] {
            assert_eq!(first_port(&source(inside)), port, "{inside}");
        }
        let other = "<source>\n  type http\n  port 25224\n</source>\n";
        assert_eq!(first_port(other), None);
        assert_eq!(named_in(other), [25224]);
        assert_eq!(first_port(&format!("{other}{}", source("port 5"))), Some(5));
        assert_eq!(first_port("<source>\n"), None);
    }

    #[test]
    fn what_others_will_want_or_name_is_left_to_them() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let a: WorkspaceName = "11111111-2222-3333-4444-555555555555".parse().unwrap();
        let b: WorkspaceName = "22222222-2222-3333-4444-555555555555".parse().unwrap();
        let put = |folder: PathBuf, name: &str, port: u16| {
            std::fs::create_dir_all(&folder).unwrap();
            let text = format!("<source>\n  type tcp\n  port {port}\n</source>\n");
            std::fs::write(folder.join(name), text).unwrap();
        };
        put(layout.workspace(&a).conf_d(), "mine.conf", 25224);
        put(layout.workspace(&b).conf_d(), "own.conf", 25225);
        put(
            layout.etc().join("state/x/conf/omsagent.d"),
            "s.conf",
            25227,
        );
        assert_eq!(own(&layout, &b), Own::NoFile);
        let chosen = choose(&layout, &b).unwrap();
        assert!(chosen >= 25228 && chosen != 26000, "{chosen}");
        std::fs::write(layout.workspace(&b).conf_d().join("syslog.conf"), "\n").unwrap();
        assert_eq!(own(&layout, &b), Own::Nowhere);
    }
}
