//! omsagent.conf from before multi-homing, made to stand in a workspace's own folder (bundle.md
//! 6.8): its syslog source goes to omsagent.d/syslog.conf, its outputs name their files, its paths
//! are the workspace's. Every other line stays as somebody wrote it. Text in, text out.

use crate::host::layout::WorkspacePaths;
use std::path::Path;

/// What [`rewrite`] makes.
#[derive(Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// omsagent.conf.
    pub main: String,
    /// What was cut out of it, for omsagent.d/syslog.conf; empty when there was nothing.
    pub syslog: String,
}

/// The line by which fragments are read.
const INCLUDE: &str = "@include omsagent.d/*.conf";

/// Rewrites `text` to `paths`. A text that was rewritten before stays as it is.
pub fn rewrite(text: &str, paths: &WorkspacePaths) -> Rewritten {
    let mut main = String::new();
    let mut syslog = String::new();
    let mut includes = false;
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        let Some(name) = opens(line) else {
            includes |= line.contains("include") && line.contains("omsagent.d/");
            main.push_str(&repoint(line, paths));
            continue;
        };
        let end = format!("</{name}>");
        let mut element = vec![line];
        // An element that never ends is for the agent to complain about.
        while let Some(next) = lines.next_if(|_| element.last().is_some_and(|l| l.trim() != end)) {
            element.push(next);
        }
        if is_syslog_source(name, &element) || is_syslog_filter(&element) {
            element.iter().for_each(|line| syslog.push_str(line));
        } else if is_output(name, &element) {
            main.push_str(&with_files(&element, paths));
        } else {
            main.extend(element.iter().map(|line| repoint(line, paths)));
        }
    }
    if !includes {
        main.insert_str(0, &format!("{INCLUDE}\n"));
    }
    if !syslog.is_empty() && !syslog.ends_with('\n') {
        syslog.push('\n');
    }
    Rewritten { main, syslog }
}

/// The name of the element that a line begins: `<match oms.**>` is `match`.
fn opens(line: &str) -> Option<&str> {
    let inner = line.trim().strip_prefix('<')?.strip_suffix('>')?;
    let name = inner.split_whitespace().next()?;
    (!name.starts_with('/')).then_some(name)
}

fn param<'l>(element: &[&'l str], names: &[&str]) -> Option<&'l str> {
    element.iter().find_map(|line| {
        let (name, value) = line.trim().split_once(char::is_whitespace)?;
        names.contains(&name).then(|| value.trim())
    })
}

fn kind<'l>(element: &[&'l str]) -> Option<&'l str> {
    param(element, &["type", "@type"])
}

fn is_syslog_source(name: &str, element: &[&str]) -> bool {
    name == "source"
        && kind(element) == Some("syslog")
        && param(element, &["tag"]) == Some("oms.syslog")
}

fn is_syslog_filter(element: &[&str]) -> bool {
    element[0].trim().starts_with("<filter oms.syslog") && kind(element) == Some("filter_syslog")
}

fn is_output(name: &str, element: &[&str]) -> bool {
    name == "match" && kind(element).is_some_and(|kind| kind.starts_with("out_oms"))
}

/// An output with the three files that say who sends: without them it would use the primary
/// workspace's, whichever that is one day.
fn with_files(element: &[&str], paths: &WorkspacePaths) -> String {
    let own = [
        ("omsadmin_conf_path", paths.omsadmin_conf()),
        ("cert_path", paths.cert()),
        ("key_path", paths.key()),
    ];
    let mut text = String::new();
    for line in element {
        text.push_str(&repoint(line, paths));
        let trimmed = line.trim_start();
        if !(trimmed.starts_with("type ") || trimmed.starts_with("@type ")) {
            continue;
        }
        let indent = &line[..line.len() - trimmed.len()];
        if !line.ends_with('\n') {
            text.push('\n');
        }
        for (name, path) in &own {
            if param(element, &[name]).is_none() {
                text.push_str(&format!("{indent}{name} {}\n", path.display()));
            }
        }
    }
    text
}

/// The paths of before, below ETC and VAR, as the workspace's. Comments too: they are read by
/// people who look for the files.
fn repoint(line: &str, paths: &WorkspacePaths) -> String {
    let mut line = line.to_owned();
    for (own, folders) in [
        (&paths.etc, &["conf", "certs"][..]),
        (&paths.var, &["tmp", "state", "run", "log"][..]),
    ] {
        let Some(shared) = own.parent().map(Path::to_string_lossy) else {
            continue;
        };
        for folder in folders {
            let new = format!("{}/{folder}/", own.display());
            line = line.replace(&format!("{shared}/{folder}/"), &new);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::layout::Layout;

    const OLD: &str = "# mine\n\
        @include omsagent.d/*.conf\n\
        <source>\n  type exec\n  tag heartbeat.output\n  command echo > /dev/null\n</source>\n\n\
        <source>\n  type syslog\n  port 25300\n  bind 127.0.0.1\n  tag oms.syslog\n</source>\n\
        <filter oms.syslog.**>\n  type filter_syslog\n</filter>\n\
        <source>\n  type tail\n  path /x\n  tag oms.x\n  pos_file /var/opt/microsoft/omsagent/state/x.pos\n</source>\n\
        <match oms.** docker.**>\n    type out_oms\n    num_threads 5\n    buffer_chunk_limit 15m\n\
        \x20   buffer_path /var/opt/microsoft/omsagent/state/out_oms*.buffer\n</match>\n\
        <match **>\n  type stdout\n</match>";

    fn paths() -> WorkspacePaths {
        Layout::new("/").workspace(&"11111111-2222-3333-4444-555555555555".parse().unwrap())
    }

    #[test]
    fn only_what_must_change_does() {
        let new = rewrite(OLD, &paths());
        assert_eq!(
            new.syslog,
            "<source>\n  type syslog\n  port 25300\n  bind 127.0.0.1\n  tag oms.syslog\n</source>\n\
             <filter oms.syslog.**>\n  type filter_syslog\n</filter>\n"
        );
        let ws = "/etc/opt/microsoft/omsagent/11111111-2222-3333-4444-555555555555";
        let state = "/var/opt/microsoft/omsagent/11111111-2222-3333-4444-555555555555/state";
        let wanted = OLD
            .replace(&new.syslog, "")
            .replace("/var/opt/microsoft/omsagent/state", state)
            .replace(
                "    type out_oms\n",
                &format!(
                    "    type out_oms\n    omsadmin_conf_path {ws}/conf/omsadmin.conf\n    \
                     cert_path {ws}/certs/oms.crt\n    key_path {ws}/certs/oms.key\n"
                ),
            );
        assert_eq!(new.main, wanted);
        let again = rewrite(&new.main, &paths());
        assert_eq!(again.main, new.main);
        assert_eq!(again.syslog, "");
    }

    #[test]
    fn the_agent_reads_what_comes_out() {
        use crate::agent::config::Settings;
        use crate::settings::fluent;
        let dir = tempfile::tempdir().unwrap();
        let new = rewrite(OLD, &paths());
        std::fs::create_dir(dir.path().join("omsagent.d")).unwrap();
        std::fs::write(dir.path().join("omsagent.d/syslog.conf"), &new.syslog).unwrap();
        let main = dir.path().join("omsagent.conf");
        std::fs::write(&main, &new.main).unwrap();
        let document = fluent::load(&main).unwrap();
        let settings = Settings::from_document(&document, dir.path()).unwrap();
        assert_eq!(settings.syslog.len(), 1);
        assert_eq!(settings.syslog[0].port, 25300);
        assert!(settings.outputs[0].queue.starts_with(paths().state()));
    }

    #[test]
    fn odd_texts_come_back() {
        for text in ["", "<", "</x>", "<match>\ntype out_oms", "<source>\n"] {
            let new = rewrite(text, &paths()).main;
            assert!(new.starts_with(INCLUDE), "{text:?}");
            assert_eq!(rewrite(&new, &paths()).main, new, "{text:?}");
        }
    }
}
