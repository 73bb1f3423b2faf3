//! The line of a workspace's syslog.conf that has the agent listen on a socket in the file system
//! beside its port (docs/agent.md, `path`): there only where `configure_syslog.sh transport unix`
//! asked for it.

use crate::base::files;
use crate::base::ids::WorkspaceName;
use crate::host::Change;
use crate::host::layout::Layout;
use anyhow::{Context, Result, bail};
use std::path::Path;

/// Larger than any syslog.conf.
const LIMIT: usize = 1 << 20;

/// Has the agent listen there from its next start on.
pub fn open(layout: &Layout, id: &WorkspaceName) -> Result<Change> {
    change(layout, id, put)
}

/// Has it listen at its port alone again. Another path, which somebody chose, stays.
pub fn close(layout: &Layout, id: &WorkspaceName) -> Result<Change> {
    change(layout, id, |text, socket| Ok(take_out(text, socket)))
}

fn change(
    layout: &Layout,
    id: &WorkspaceName,
    edit: impl Fn(&str, &Path) -> Result<String>,
) -> Result<Change> {
    let paths = layout.workspace(id);
    let file = paths.conf_d().join("syslog.conf");
    // The folder is the service account's.
    let old = files::read_text_no_follow(&file, LIMIT)?
        .with_context(|| format!("`{}` is missing", file.display()))?;
    let new = edit(&old, &layout.inside(&paths.syslog_socket()))
        .with_context(|| format!("`{}`", file.display()))?;
    if new == old {
        return Ok(Change::AlreadyThere);
    }
    files::replace_keeping_look(&file, new.as_bytes())?;
    Ok(Change::Made)
}

/// `text` with `path SOCKET` below the port of its first source.
pub fn put(text: &str, socket: &Path) -> Result<String> {
    if has_path(text, socket)? {
        return Ok(text.to_owned());
    }
    let mut new = String::with_capacity(text.len() + 128);
    let mut done = false;
    for line in text.split_inclusive('\n') {
        new.push_str(line);
        if !done && directive(line).0 == "port" {
            let indent = &line[..line.len() - line.trim_start().len()];
            let end = if line.ends_with('\n') { "" } else { "\n" };
            new.push_str(&format!("{end}{indent}path {}\n", socket.display()));
            done = true;
        }
    }
    if !done {
        bail!("there is no source with a `port`");
    }
    Ok(new)
}

/// Does the first source name this socket? Another one is an error.
fn has_path(text: &str, socket: &Path) -> Result<bool> {
    let first = text.split("</source>").next().unwrap_or_default();
    match first.lines().map(directive).find(|(key, _)| *key == "path") {
        None => Ok(false),
        Some((_, value)) if Path::new(value) == socket => Ok(true),
        Some((_, value)) => bail!("its source has a `path` of somebody else's: {value}"),
    }
}

fn take_out(text: &str, socket: &Path) -> String {
    let ours = |line: &&str| {
        let (key, value) = directive(line);
        key != "path" || Path::new(value) != socket
    };
    text.split_inclusive('\n').filter(ours).collect()
}

fn directive(line: &str) -> (&str, &str) {
    let line = line.trim();
    let (key, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    (key, value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "# mine\n<source>\n  type syslog\n  port 25224\n  bind 127.0.0.1\n</source>\n";

    #[test]
    fn the_line_comes_and_goes_and_nothing_else_changes() {
        let socket = Path::new("/v/run/syslog.sock");
        let with = put(TEXT, socket).unwrap();
        assert_eq!(
            with,
            TEXT.replace("25224\n", "25224\n  path /v/run/syslog.sock\n")
        );
        assert_eq!(put(&with, socket).unwrap(), with);
        assert_eq!(take_out(&with, socket), TEXT);
        assert_eq!(take_out(TEXT, socket), TEXT);
        // Written above the port.
        let above = TEXT.replace("  port", "  path /v/run/syslog.sock\n  port");
        assert_eq!(put(&above, socket).unwrap(), above);
    }

    #[test]
    fn somebody_elses_path_stays_and_is_told() {
        let socket = Path::new("/v/run/syslog.sock");
        for other in [
            TEXT.replace("  bind", "  path /mine\n  bind"),
            TEXT.replace("  port", "  path /mine\n  port"),
        ] {
            let told = put(&other, socket).unwrap_err().to_string();
            assert!(told.contains("/mine"), "{told}");
            assert_eq!(take_out(&other, socket), other);
        }
        assert!(put("<source>\n</source>\n", socket).is_err());
    }

    #[test]
    fn the_file_is_changed_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let id: WorkspaceName = "11111111-2222-3333-4444-555555555555".parse().unwrap();
        assert!(open(&layout, &id).is_err());
        let conf_d = layout.workspace(&id).conf_d();
        std::fs::create_dir_all(&conf_d).unwrap();
        let file = conf_d.join("syslog.conf");
        std::fs::write(&file, TEXT).unwrap();
        assert_eq!(close(&layout, &id).unwrap(), Change::AlreadyThere);
        assert_eq!(open(&layout, &id).unwrap(), Change::Made);
        assert_eq!(open(&layout, &id).unwrap(), Change::AlreadyThere);
        let text = std::fs::read_to_string(&file).unwrap();
        let path = format!("path /var/opt/microsoft/omsagent/{id}/run/syslog.sock");
        assert!(text.contains(&path), "{text}");
        assert_eq!(close(&layout, &id).unwrap(), Change::Made);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), TEXT);
    }
}
