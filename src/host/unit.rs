//! The agent's systemd unit (bundle.md 4.7), one per workspace.

use super::layout::Layout;
use super::template;
use crate::base::ids::WorkspaceName;

/// `omsagent-<WS>.service`.
pub fn name(id: &WorkspaceName) -> String {
    format!("omsagent-{id}.service")
}

/// Onboards an image at its first boot.
pub const FIRST_BOOT: &str = "omsagent-onboard.service";

/// The text of [`FIRST_BOOT`].
pub fn first_boot() -> &'static str {
    include_str!("../../templates/host/omsagent-onboard.service")
}

/// The unit's text. Paths are those of the running system, also for a root below a prefix.
pub fn text(id: &WorkspaceName) -> String {
    let ws = Layout::new("/").workspace(id);
    let show = |p: std::path::PathBuf| p.to_string_lossy().into_owned();
    template::fill(
        include_str!("../../templates/host/omsagent.service"),
        &[
            ("%WS%", id.as_str()),
            ("%PID%", &show(ws.pid_file())),
            ("%LOG%", &show(ws.log_file())),
            ("%CONF%", &show(ws.omsagent_conf())),
            ("%ETC%", &show(ws.etc.clone())),
            ("%VAR%", &show(ws.var.clone())),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_complete() {
        let id: WorkspaceName = "01234567-89ab-cdef-0123-456789abcdef".parse().unwrap();
        let text = text(&id);
        assert!(!text.contains('%'), "{text}");
        assert!(text.contains(
            "\nExecStart=/opt/microsoft/omsagent/bin/omsagent run \
             -d /var/opt/microsoft/omsagent/01234567-89ab-cdef-0123-456789abcdef/run/omsagent.pid \
             -o /var/opt/microsoft/omsagent/01234567-89ab-cdef-0123-456789abcdef/log/omsagent.log \
             -c /etc/opt/microsoft/omsagent/01234567-89ab-cdef-0123-456789abcdef/conf/omsagent.conf \
             --no-supervisor\n"
        ));
        assert_eq!(
            name(&id),
            "omsagent-01234567-89ab-cdef-0123-456789abcdef.service"
        );
    }
}
