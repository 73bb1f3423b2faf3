//! rsyslog's text: one stanza per workspace (bundle.md 4.9, protocol.md 6.1). No file is touched
//! here.
//!
//! A stanza of ours stands between its header and an end mark. The original's has the header
//! only; what belongs to it is the run of `@127.0.0.1:<port>` lines right below.

use super::selection::{Facility, Selection, Transport};
use super::target::Target;
use crate::base::ids::WorkspaceName;
use crate::host::blocks::{self, Marks, bare, lines};
use crate::host::template;
use std::ops::Range;

/// What automation searches for; the workspace id follows.
const HEADER: &str = "# OMS Syslog collection for workspace ";
const END: &str = "# End of OMS Syslog collection for workspace ";

/// Loads the module for sockets.
const LOAD: &[u8] = b"$ModLoad omuxsock";

/// Ports the original chose from: 25224 and up, all of the form 25xxx.
const PORTS: Range<u16> = 25000..26000;

/// The lines around a workspace's stanza; syslog-ng's has the same.
pub(super) fn marks(id: &WorkspaceName) -> Marks {
    Marks {
        begin: format!("{HEADER}{id}"),
        end: format!("{END}{id}"),
    }
}

/// `text` with this workspace's stanza, in place of whatever form it has there.
pub(super) fn put(text: &[u8], id: &WorkspaceName, rules: &str) -> Vec<u8> {
    marks(id).put_over(text, &stanzas(text, Some(id)), rules)
}

/// The rules that forward a selection.
pub(super) fn rules(to: &Target, selection: &Selection) -> String {
    let port = to.port;
    match (selection.facilities.as_slice(), selection.transport) {
        ([], _) => format!("# Rules that others write below forward to 127.0.0.1:{port}.\n"),
        (facilities, Transport::Udp) => facilities
            .iter()
            .map(|f| datagrams(*f, selection, port))
            .collect(),
        (facilities, Transport::Tcp) => stream(facilities, selection, port),
        (facilities, Transport::Unix) => socket(facilities, selection, &to.socket),
    }
}

/// The rules that this workspace has in `text`, as somebody wrote them, but for the port. Empty
/// when none forwards: the original's newest form is its header alone.
pub(super) fn present_rules(text: &[u8], id: &WorkspaceName, port: u16) -> String {
    let mut kept: Vec<String> = Vec::new();
    let mut forwards = false;
    for stanza in stanzas(text, Some(id)) {
        for line in lines(&text[stanza.clone()]) {
            let line = &text[stanza.clone()][line];
            if is_mark(line) || bare(line) == LOAD {
                continue;
            }
            let mut line = String::from_utf8_lossy(bare(line)).into_owned();
            if let Some(old) = forwarded_to(line.as_bytes()) {
                forwards = true;
                line.truncate(line.len() - old.to_string().len());
                line.push_str(&port.to_string());
            } else if let Some(digits) = action_port(&line) {
                forwards = true;
                line.replace_range(digits, &port.to_string());
            } else if to_socket(&line) {
                forwards = true;
            }
            if line.is_empty() || !kept.contains(&line) {
                kept.push(line);
            }
        }
    }
    if !forwards {
        return String::new();
    }
    while kept.last().is_some_and(String::is_empty) {
        kept.pop();
    }
    kept.iter().map(|line| format!("{line}\n")).collect()
}

/// The first or last line of anybody's stanza, or the note within.
pub(super) fn is_mark(line: &[u8]) -> bool {
    let line = bare(line);
    line.starts_with(HEADER.as_bytes())
        || line.starts_with(END.as_bytes())
        || line == blocks::NO_LINE_END
}

fn datagrams(facility: Facility, selection: &Selection, port: u16) -> String {
    template::fill(
        include_str!("../../../templates/host/rsyslog.conf"),
        &[
            ("%FACILITY%", facility.name()),
            ("%SEVERITY%", selection.severity.name()),
            ("%PORT%", &port.to_string()),
        ],
    )
}

/// One action for all, so that they share its queue.
fn stream(facilities: &[Facility], selection: &Selection, port: u16) -> String {
    let names: Vec<&str> = facilities.iter().map(|f| f.name()).collect();
    template::fill(
        include_str!("../../../templates/host/rsyslog-tcp.conf"),
        &[
            ("%FACILITIES%", &names.join(",")),
            ("%SEVERITY%", selection.severity.name()),
            ("%PORT%", &port.to_string()),
        ],
    )
}

/// `text` with the line that loads the module of [`socket`] where our stanzas need it, once: a
/// second one is an error. `elsewhere`: somebody else's line does it.
pub(super) fn load_once(text: &[u8], elsewhere: bool) -> Vec<u8> {
    let mut new = Vec::with_capacity(text.len() + 64);
    let mut done = 0;
    let mut loaded = elsewhere;
    for stanza in stanzas(text, None) {
        new.extend_from_slice(&text[done..stanza.start]);
        done = stanza.end;
        let all: Vec<&[u8]> = lines(&text[stanza.clone()])
            .map(|line| &text[stanza.clone()][line])
            .collect();
        let needs_it = all.iter().any(|l| to_socket(&String::from_utf8_lossy(l)));
        for (n, line) in all.iter().enumerate().filter(|(_, l)| bare(l) != LOAD) {
            new.extend_from_slice(line);
            if n == 0 && needs_it && !loaded {
                new.extend_from_slice(LOAD);
                new.push(b'\n');
                loaded = true;
            }
        }
    }
    new.extend_from_slice(&text[done..]);
    new
}

/// Does a line that is not ours load it?
pub(super) fn is_loaded_by_others(text: &[u8]) -> bool {
    let rest = blocks::cut(text, &stanzas(text, None));
    lines(&rest).any(|line| {
        let line = String::from_utf8_lossy(&rest[line]).to_ascii_lowercase();
        let squeezed: String = line.split_whitespace().collect();
        squeezed.starts_with("$modloadomuxsock")
            || (squeezed.starts_with("module(") && squeezed.contains("load=\"omuxsock\""))
    })
}

/// The module knows the old form only, up to version 8.2512.
fn socket(facilities: &[Facility], selection: &Selection, socket: &str) -> String {
    let names: Vec<&str> = facilities.iter().map(|f| f.name()).collect();
    template::fill(
        include_str!("../../../templates/host/rsyslog-unix.conf"),
        &[
            ("%FACILITIES%", &names.join(",")),
            ("%SEVERITY%", selection.severity.name()),
            ("%SOCKET%", socket),
        ],
    )
}

/// `text` without this workspace's stanza.
pub(super) fn take_out(text: &[u8], id: &WorkspaceName) -> Vec<u8> {
    blocks::cut(text, &stanzas(text, Some(id)))
}

/// `text` without lines that forward to this port of ours: nobody listens there any more.
pub(super) fn take_port_out(text: &[u8], port: u16) -> Vec<u8> {
    let dead: Vec<_> = lines(text)
        .filter(|line| forwarded_to(&text[line.clone()]) == Some(port))
        .collect();
    blocks::cut(text, &dead)
}

/// The same for every port of ours.
pub(super) fn take_ports_out(text: &[u8]) -> Vec<u8> {
    let ours = |line: &[u8]| forwarded_to(line).is_some_and(|port| PORTS.contains(&port));
    let dead: Vec<_> = lines(text)
        .filter(|line| ours(&text[line.clone()]))
        .collect();
    blocks::cut(text, &dead)
}

/// `text` without any workspace's stanza.
pub(super) fn purge(text: &[u8]) -> Vec<u8> {
    blocks::cut(text, &stanzas(text, None))
}

/// True when nothing is left that anybody would miss: blanks, comments, forwards to our ports.
pub(super) fn is_spent(text: &[u8]) -> bool {
    lines(text).all(|line| {
        let line = &text[line];
        let bare = line.trim_ascii();
        bare.is_empty()
            || bare.starts_with(b"#")
            || String::from_utf8_lossy(bare)
                .rsplit_once("@127.0.0.1:")
                .is_some_and(|(_, port)| port.parse().is_ok_and(|p| PORTS.contains(&p)))
    })
}

/// Where the stanzas are, of one workspace or of all: with an end mark, without, and end marks
/// left alone by a tool that knows only the header.
pub(super) fn stanzas(text: &[u8], id: Option<&WorkspaceName>) -> Vec<Range<usize>> {
    let all: Vec<Range<usize>> = lines(text).collect();
    let named = |n: usize, mark: &str| -> Option<String> {
        let line = String::from_utf8_lossy(bare(&text[all[n].clone()])).into_owned();
        let name = line.strip_prefix(mark)?.trim().to_owned();
        id.is_none_or(|id| id.as_str() == name).then_some(name)
    };
    let any_header = |n: usize| text[all[n].clone()].starts_with(HEADER.as_bytes());
    let mut found = Vec::new();
    let mut n = 0;
    while n < all.len() {
        let begin = n;
        n += 1;
        if let Some(name) = named(begin, HEADER) {
            let end = (n..all.len())
                .take_while(|i| !any_header(*i))
                .find(|i| named(*i, END).as_deref() == Some(&name));
            n = end.map_or_else(|| end_of_original(text, &all, n), |end| end + 1);
        } else if named(begin, END).is_none() {
            continue;
        }
        found.push(all[begin].start..all[n - 1].end);
    }
    found
}

/// The line after an unmarked stanza whose header is the line before `n`: forwards to one port of
/// ours, blank lines between them included.
fn end_of_original(text: &[u8], all: &[Range<usize>], n: usize) -> usize {
    let mut end = n;
    let mut port = None;
    for i in n..all.len() {
        let line = &text[all[i].clone()];
        match forwarded_to(line) {
            Some(to) if PORTS.contains(&to) && port.is_none_or(|p| p == to) => {
                port = Some(to);
                end = i + 1;
            }
            // A rule that somebody commented out, or a word on the next one.
            None if blocks::is_blank(line) || (line.starts_with(b"#") && !is_mark(line)) => {}
            _ => break,
        }
    }
    end
}

/// The port of a rule whose action is `@127.0.0.1:<port>` (UDP, no options).
fn forwarded_to(line: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(line.trim_ascii()).ok()?;
    let (selector, action) = line.rsplit_once([' ', '\t'])?;
    if selector.starts_with('#') {
        return None;
    }
    action.strip_prefix("@127.0.0.1:")?.parse().ok()
}

/// Where the port stands in a rule whose action is `omfwd` to 127.0.0.1.
fn action_port(line: &str) -> Option<Range<usize>> {
    let is_rule = !line.trim_start().starts_with('#')
        && line.contains("type=\"omfwd\"")
        && line.contains("target=\"127.0.0.1\"");
    let begin = line.find(" port=\"").filter(|_| is_rule)? + " port=\"".len();
    let digits = line[begin..].find('"')?;
    let end = begin + digits;
    (digits > 0 && line[begin..end].bytes().all(|b| b.is_ascii_digit())).then_some(begin..end)
}

/// A rule whose action is the socket that an earlier line names.
fn to_socket(line: &str) -> bool {
    !line.trim_start().starts_with('#') && line.contains(":omuxsock:")
}
