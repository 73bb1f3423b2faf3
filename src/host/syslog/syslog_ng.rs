//! syslog-ng's text: filter, destination and log path per workspace (bundle.md 4.9, R28;
//! protocol.md 6.2). No file is touched here.

use super::rsyslog::{is_mark, marks, stanzas as marked_stanzas};
use super::selection::{Facility, Selection, Severity, Transport};
use super::target::Target;
use crate::base::ids::WorkspaceName;
use crate::base::order;
use crate::host::blocks::{self, bare, is_blank};
use crate::host::template;
use std::ops::Range;

/// All that the original's newest form says; the workspace id follows.
const DEFAULT_COMMENT: &str = "# OMS Syslog default collection for workspace ";

/// The folder the own file goes to, when the main file includes it.
pub const CONF_D: &str = "/etc/syslog-ng/conf.d";
/// The main file.
pub const MAIN: &str = "/etc/syslog-ng/syslog-ng.conf";

/// `text` with this workspace's stanza, in place of whatever form it has there.
pub(super) fn put(text: &[u8], id: &WorkspaceName, rules: &str) -> Vec<u8> {
    marks(id).put_over(text, &stanzas(text, Some(id)), rules)
}

/// The statements that forward a selection of `source`.
pub(super) fn rules(
    id: &WorkspaceName,
    to: &Target,
    selection: &Selection,
    source: &str,
) -> String {
    if selection.facilities.is_empty() {
        return parts_for_others(id, to.port);
    }
    let facilities: Vec<&str> = selection.facilities.iter().map(|f| f.name()).collect();
    template::fill(
        include_str!("../../../templates/host/syslog-ng.conf"),
        &[
            ("%WS%", id.as_str()),
            ("%DRIVER%", &driver(to, selection.transport)),
            ("%SOURCE%", source),
            ("%FACILITIES%", &facilities.join(", ")),
            ("%SEVERITY%", selection.severity.name()),
        ],
    )
}

/// Without `time-reopen` it waits a minute after it found the agent's port closed for a moment.
fn driver(to: &Target, transport: Transport) -> String {
    match transport {
        Transport::Unix => format!("unix-dgram(\"{}\" time-reopen(5))", to.socket),
        Transport::Udp | Transport::Tcp => format!(
            "network(\"127.0.0.1\" transport(\"{}\") port({}) time-reopen(5))",
            transport.name(),
            to.port
        ),
    }
}

/// The statements that this workspace has in `text`, as somebody wrote them, but for the port.
/// Empty when none forwards: the original's newest form is a comment alone.
pub(super) fn present_rules(text: &[u8], id: &WorkspaceName, port: u16) -> String {
    let mut kept: Vec<String> = Vec::new();
    for stanza in stanzas(text, Some(id)) {
        for line in blocks::lines(&text[stanza.clone()]) {
            let line = &text[stanza.clone()][line];
            if is_mark(line) || is_blank(line) || line.starts_with(DEFAULT_COMMENT.as_bytes()) {
                continue;
            }
            let line = String::from_utf8_lossy(bare(line)).into_owned();
            let line = match line.trim_start().strip_prefix("destination") {
                Some(_) => at_port(&line, port),
                None => line,
            };
            if !kept.contains(&line) {
                kept.push(line);
            }
        }
    }
    let forwards = |word: &str| kept.iter().any(|line| line.trim_start().starts_with(word));
    if !forwards("destination") || !forwards("log") {
        return String::new();
    }
    kept.iter().map(|line| format!("{line}\n")).collect()
}

/// A destination's line with another `port(...)`.
fn at_port(line: &str, port: u16) -> String {
    // Not the end of `transport(`.
    let is_word = |at: &usize| !line[..*at].ends_with(|c: char| c.is_ascii_alphanumeric());
    let mut found = line.match_indices("port(").map(|(at, _)| at);
    let Some(at) = found.find(is_word).map(|at| at + "port(".len()) else {
        return line.to_owned();
    };
    let digits = line[at..].bytes().take_while(u8::is_ascii_digit).count();
    format!("{}{port}{}", &line[..at], &line[at + digits..])
}

/// Filters by facility and by severity and a destination, for log paths that others write: the
/// diagnostics extension does (bundle.md 4.9).
fn parts_for_others(id: &WorkspaceName, port: u16) -> String {
    let facilities = Facility::ALL
        .iter()
        .map(|f| format!("filter f_{id}_oms_f_{f} {{ facility({f}); }};\n"));
    let severities = Severity::ALL
        .iter()
        .map(|s| format!("filter f_{id}_oms_ml_{s} {{ level({s}..emerg); }};\n"));
    let to = format!(
        "destination d_{id}_oms {{ network(\"127.0.0.1\" transport(\"udp\") port({port}) time-reopen(5)); }};\n"
    );
    facilities.chain(severities).chain([to]).collect()
}

/// `text` without this workspace's stanza and without single lines that name its objects.
pub(super) fn take_out(text: &[u8], id: &WorkspaceName) -> Vec<u8> {
    blocks::cut(text, &stanzas(text, Some(id)))
}

/// `text` without those of any workspace.
pub(super) fn purge(text: &[u8]) -> Vec<u8> {
    blocks::cut(text, &stanzas(text, None))
}

/// Marked stanzas, and the original's lines, each of which names its workspace.
fn stanzas(text: &[u8], id: Option<&WorkspaceName>) -> Vec<Range<usize>> {
    let mut found = marked_stanzas(text, id);
    for line in blocks::lines(text) {
        let inside = found
            .iter()
            .any(|f| f.start <= line.start && line.end <= f.end);
        if !inside && is_originals(&text[line.clone()], id) {
            found.push(line);
        }
    }
    order::by_key(&mut found, |r| r.start);
    found
}

/// A whole statement or comment of the original: names end in `<WS>_oms` (R28: its default form
/// is a comment only, which it never found again).
fn is_originals(line: &[u8], id: Option<&WorkspaceName>) -> bool {
    let Ok(line) = std::str::from_utf8(line.trim_ascii()) else {
        return false;
    };
    let is_ws = |name: &str| match id {
        Some(id) => id.as_str() == name,
        None => name.parse::<WorkspaceName>().is_ok(),
    };
    if let Some(comment) = line.strip_prefix(DEFAULT_COMMENT) {
        return is_ws(comment.trim());
    }
    if let Some(comment) = line.strip_prefix("#OMS Workspace ") {
        return is_ws(comment.split_whitespace().next().unwrap_or_default());
    }
    const STATEMENTS: [&str; 3] = ["filter", "destination", "log"];
    let statement = STATEMENTS.iter().any(|word| {
        line.strip_prefix(word)
            .is_some_and(|rest| rest.starts_with([' ', '\t', '{']))
    });
    let whole = line.matches('{').count() == line.matches('}').count();
    statement && whole && names_in(line).any(is_ws)
}

/// What stands between `_` and `_oms` in a line's words: `d_<WS>_oms`, `f_auth_<WS>_oms`, and the
/// diagnostics extension's `f_LAD_oms_ml_err`.
fn names_in(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("_oms").filter_map(|(at, _)| {
        let before = &line[..at];
        Some(&before[before.rfind('_')? + 1..])
    })
}

/// Does the main file read `conf.d/*.conf`?
pub(super) fn includes_conf_d(text: &str) -> bool {
    text.lines().any(|line| {
        let Some(rest) = line.trim().strip_prefix("@include") else {
            return false;
        };
        let path = rest.trim().trim_end_matches(';').trim();
        let path = path.trim_matches(['"', '\'']);
        let path = path.strip_prefix("/etc/syslog-ng/").unwrap_or(path);
        matches!(path, "conf.d" | "conf.d/" | "conf.d/*" | "conf.d/*.conf")
    })
}

/// The source that takes in the host's own messages: the first that reads the system's log, else
/// the first there is.
pub(super) fn source(text: &str) -> Option<String> {
    const LOCAL: [&str; 4] = ["system(", "/dev/log", "systemd-journal(", "systemd-syslog("];
    let text = without_comments(text);
    let mut first = None;
    for (at, _) in text.match_indices("source") {
        let apart = |c: char| !(c.is_ascii_alphanumeric() || "_-.\"".contains(c));
        if !text[..at].chars().next_back().is_none_or(apart) {
            continue;
        }
        let rest = text[at + "source".len()..].trim_start();
        let name: String = rest
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || "_-.".contains(*c))
            .collect();
        let body = rest[name.len()..].trim_start();
        if name.is_empty() || !body.starts_with('{') {
            continue;
        }
        if LOCAL.iter().any(|word| block(body).contains(word)) {
            return Some(name);
        }
        first.get_or_insert(name);
    }
    first
}

/// From an opening brace to the one that closes it.
fn block(text: &str) -> &str {
    let mut depth = 0usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth <= 1 => return &text[..at],
            '}' => depth -= 1,
            _ => {}
        }
    }
    text
}

fn without_comments(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for line in text.lines() {
        let mut quote = None;
        for c in line.chars() {
            match quote {
                None if c == '#' => break,
                None if c == '"' || c == '\'' => quote = Some(c),
                Some(q) if q == c => quote = None,
                _ => {}
            }
            plain.push(c);
        }
        plain.push('\n');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_the_hosts_own_messages() {
        let debian = "source s_net { tcp(); };\n# source s_x { system(); };\n\
                      source s_src {\n  system();\n  internal();\n};\nlog { source(s_y); };\n";
        assert_eq!(source(debian).as_deref(), Some("s_src"));
        assert_eq!(
            source("source src{unix-dgram(\"/dev/log\");};").as_deref(),
            Some("src")
        );
        assert_eq!(
            source("source a { tcp(); }; source b { udp(); };").as_deref(),
            Some("a")
        );
        assert_eq!(source("log { source { system(); }; };"), None);
        assert_eq!(
            source("log { source(s_src); };\nfile(\"source x {\");"),
            None
        );
        assert_eq!(source(""), None);
    }

    #[test]
    fn include_lines() {
        assert!(includes_conf_d(
            "@include \"/etc/syslog-ng/conf.d/*.conf\"\n"
        ));
        assert!(includes_conf_d("x\n @include 'conf.d/'\n"));
        assert!(!includes_conf_d(
            "#@include \"/etc/syslog-ng/conf.d/*.conf\"\n"
        ));
        assert!(!includes_conf_d("@include \"scl.conf\"\n"));
        assert!(!includes_conf_d(
            "@include \"/etc/syslog-ng/conf.d/mine.conf\"\n"
        ));
    }
}
