//! Rules of others that forward to an agent's port too: each message would arrive twice.

use super::rsyslog::stanzas;
use super::{FILE_LIMIT, OURS, RSYSLOG_CONF, RSYSLOG_D, SyslogDaemon, syslog_ng};
use crate::base::files;
use crate::base::order;
use crate::host::{Host, blocks};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A rule that is not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Double {
    /// In which file.
    pub path: PathBuf,
    /// Which line, from 1.
    pub line: usize,
}

impl fmt::Display for Double {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}", self.path.display(), self.line)
    }
}

/// Lines outside of our stanzas that forward to `port` of this host. What cannot be read is left
/// out: this is advice.
pub fn forwarded_by_others(host: &Host, port: u16) -> Vec<Double> {
    let (main, dir) = match &host.syslog {
        None => return Vec::new(),
        Some(SyslogDaemon::SyslogNg) => (syslog_ng::MAIN, syslog_ng::CONF_D),
        Some(_) => (RSYSLOG_CONF, RSYSLOG_D),
    };
    let mut paths = vec![host.layout.path(main)];
    let entries = std::fs::read_dir(host.layout.path(dir))
        .into_iter()
        .flatten();
    let found = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.extend(found.filter(|path| path.extension().is_some_and(|e| e == "conf")));
    order::ascending(&mut paths);
    paths.iter().flat_map(|path| in_file(path, port)).collect()
}

fn in_file(path: &Path, port: u16) -> Vec<Double> {
    let Ok(Some(text)) = files::read(path, FILE_LIMIT) else {
        return Vec::new();
    };
    // Others' lines in our own file are theirs, and may be meant: the diagnostics extension's are.
    if path.file_name().is_some_and(|name| name == OURS) {
        return Vec::new();
    }
    let ours = stanzas(&text, None);
    let mut doubles = Vec::new();
    for (n, range) in statements(&text) {
        let inside = ours
            .iter()
            .any(|o| o.start <= range.start && range.end <= o.end);
        if !inside && forwards(&String::from_utf8_lossy(&text[range]), port) {
            doubles.push(Double {
                path: path.to_owned(),
                line: n + 1,
            });
        }
    }
    doubles
}

/// Most lines of one statement; more are somebody's unclosed parenthesis.
const STATEMENT: usize = 40;

/// Each line, or the lines from an open parenthesis or brace to where it is closed, with the number
/// of the first, from 0.
fn statements(text: &[u8]) -> Vec<(usize, Range<usize>)> {
    let lines: Vec<Range<usize>> = blocks::lines(text).collect();
    let depth = |range: &Range<usize>| -> i32 {
        let line = text[range.clone()].trim_ascii();
        let counts = line.iter().map(|byte| match byte {
            _ if line.starts_with(b"#") => 0,
            b'(' | b'{' => 1,
            b')' | b'}' => -1,
            _ => 0,
        });
        counts.sum()
    };
    let mut found = Vec::new();
    let mut next = 0;
    while let Some(first) = lines.get(next) {
        let (begin, mut end, mut open) = (next, first.end, depth(first));
        next += 1;
        while let Some(line) = lines
            .get(next)
            .filter(|_| open > 0 && next - begin < STATEMENT)
        {
            (end, open) = (line.end, open + depth(line));
            next += 1;
        }
        found.push((begin, first.start..end));
    }
    found
}

/// A statement without its comments and line ends.
fn on_one_line(statement: &str) -> String {
    let lines = statement.lines().map(str::trim);
    let lines = lines.filter(|line| !line.starts_with('#'));
    lines.collect::<Vec<_>>().join(" ")
}

/// The statements of a configuration, each on one line.
pub fn each_statement(text: &str) -> impl Iterator<Item = String> {
    let ranges = statements(text.as_bytes()).into_iter();
    ranges.map(|(_, range)| on_one_line(&text[range]))
}

/// `@127.0.0.1:25224`, `@@localhost:25224`, `target="127.0.0.1" port="25224"`,
/// `udp("127.0.0.1" port(25224))`.
fn forwards(line: &str, port: u16) -> bool {
    let line = on_one_line(line);
    let local = ["127.0.0.1", "localhost", "[::1]"];
    let short = local.iter().any(|host| {
        line.rsplit_once(&format!("@{host}:"))
            .is_some_and(|(_, rest)| first_number(rest) == Some(port))
    });
    let long = local
        .iter()
        .any(|host| line.contains(&format!("\"{host}\"")))
        && ["port=\"", "port(", "Port=\""].iter().any(|word| {
            line.split_once(word)
                .is_some_and(|(_, rest)| first_number(rest) == Some(port))
        });
    short || long
}

fn first_number(text: &str) -> Option<u16> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::layout::Layout;

    #[test]
    fn rules_of_others_are_found_and_ours_are_not() {
        for (line, found) in [
            ("*.* @127.0.0.1:25224", true),
            ("auth.* @@localhost:25224;Format", true),
            (
                "action(type=\"omfwd\" target=\"127.0.0.1\" port=\"25224\" protocol=\"udp\")",
                true,
            ),
            ("destination d { udp(\"127.0.0.1\" port(25224)); };", true),
            ("#*.* @127.0.0.1:25224", false),
            ("*.* @127.0.0.1:2522", false),
            ("*.* @127.0.0.1:252240", false),
            ("*.* @10.0.0.1:25224", false),
        ] {
            assert_eq!(forwards(line, 25224), found, "{line}");
        }
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("etc/rsyslog.d")).unwrap();
        let stanza = "# OMS Syslog collection for workspace LAD\n*.* @127.0.0.1:25224\n\
                      # End of OMS Syslog collection for workspace LAD\n";
        std::fs::write(
            at("etc/rsyslog.conf"),
            format!("# x\n{stanza}*.* @127.0.0.1:25224\n"),
        )
        .unwrap();
        std::fs::write(at("etc/rsyslog.d/95-omsagent.conf"), stanza).unwrap();
        std::fs::write(at("etc/rsyslog.d/50-mine.conf"), "\n*.* @localhost:25224\n").unwrap();
        std::fs::write(
            at("etc/rsyslog.d/60-long.conf"),
            "# (\nif $a then {\n  action(type=\"omfwd\"\n    target=\"127.0.0.1\"\n    port=\"25224\")\n}\nx\n",
        )
        .unwrap();
        std::fs::write(at("etc/rsyslog.d/50-mine.bak"), "*.* @localhost:25224\n").unwrap();
        let host = Host::detect(Layout::new(dir.path()));
        let found: Vec<String> = forwarded_by_others(&host, 25224)
            .iter()
            .map(|d| format!("{}:{}", d.path.file_name().unwrap().display(), d.line))
            .collect();
        assert_eq!(
            found,
            ["rsyslog.conf:5", "50-mine.conf:2", "60-long.conf:2"]
        );
        assert_eq!(forwarded_by_others(&host, 25225), []);
    }
}
