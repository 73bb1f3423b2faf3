//! The workspace's configuration files, filled from the pristine templates in ETC/sysconf
//! (protocol.md 1.11, bundle.md 4.5).

use crate::base::files;
use crate::base::ids::WorkspaceName;
use crate::base::order;
use crate::host::layout::Layout;
use crate::host::syslog::Transport;
use crate::workspace::{forwarding, socket};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;

/// Port that the original's monitor source had; kept as a placeholder only.
const MONITOR_PORT: u16 = 25324;
/// Larger than any template.
const LIMIT: usize = 1 << 20;

/// A file to write: where, and what.
pub type Rendered = (PathBuf, String);

/// omsagent.conf and every omsagent.d template of sysconf, with the workspace's paths and port.
pub fn render(layout: &Layout, id: &WorkspaceName, syslog_port: u16) -> Result<Vec<Rendered>> {
    let paths = layout.workspace(id);
    let main = layout.sysconf().join("omsagent.conf");
    let text = files::read_text(&main, LIMIT)?.with_context(|| {
        format!(
            "template `{}` is missing: reinstall the omsagent package",
            main.display()
        )
    })?;
    let mut rendered = vec![(paths.omsagent_conf(), fill(layout, id, syslog_port, &text))];
    let folder = layout.sysconf().join("omsagent.d");
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .with_context(|| format!("cannot read the templates in `{}`", folder.display()))?
        .filter_map(Result::ok)
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "conf"))
        .collect();
    order::ascending(&mut names);
    for template in names {
        let Some(text) = files::read_text(&template, LIMIT)? else {
            bail!("template `{}` vanished", template.display());
        };
        let name = template.file_name().unwrap_or_default();
        let mut text = fill(layout, id, syslog_port, &text);
        // One that cannot be read is told where the daemon is told of it.
        let by_socket = || {
            let chosen = forwarding::selection(layout, id);
            chosen.is_ok_and(|chosen| chosen.transport == Transport::Unix)
        };
        if name == "syslog.conf" && by_socket() {
            text = socket::put(&text, &layout.inside(&paths.syslog_socket()))?;
        }
        rendered.push((paths.conf_d().join(name), text));
    }
    Ok(rendered)
}

fn fill(layout: &Layout, id: &WorkspaceName, syslog_port: u16, text: &str) -> String {
    let paths = layout.workspace(id);
    let inside = |path: PathBuf| layout.inside(&path).to_string_lossy().into_owned();
    [
        ("%CONF_DIR_WS%", inside(paths.conf())),
        ("%CERT_DIR_WS%", inside(paths.certs())),
        ("%TMP_DIR_WS%", inside(paths.tmp())),
        ("%RUN_DIR_WS%", inside(paths.run())),
        ("%STATE_DIR_WS%", inside(paths.state())),
        ("%LOG_DIR_WS%", inside(paths.log())),
        ("%SYSLOG_PORT%", syslog_port.to_string()),
        ("%MONITOR_AGENT_PORT%", MONITOR_PORT.to_string()),
        ("%WORKSPACE_ID%", id.to_string()),
    ]
    .iter()
    .fold(text.to_owned(), |text, (mark, value)| {
        text.replace(mark, value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_without_the_image_prefix() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let id: WorkspaceName = "11111111-2222-3333-4444-555555555555".parse().unwrap();
        std::fs::create_dir_all(layout.sysconf().join("omsagent.d")).unwrap();
        std::fs::write(layout.sysconf().join("omsagent.conf"), "a %CERT_DIR_WS%\n").unwrap();
        std::fs::write(
            layout.sysconf().join("omsagent.d/syslog.conf"),
            "port %SYSLOG_PORT%\n",
        )
        .unwrap();
        let files = render(&layout, &id, 25230).unwrap();
        assert_eq!(
            files[0].1,
            "a /etc/opt/microsoft/omsagent/11111111-2222-3333-4444-555555555555/certs\n"
        );
        assert_eq!(files[1].1, "port 25230\n");
        assert!(files[1].0.ends_with("conf/omsagent.d/syslog.conf"));
    }
}
