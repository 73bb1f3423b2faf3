//! The agent's systemd unit (bundle.md 4.7), one per workspace.

use super::layout::Layout;
use super::{template, umbrella};
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

/// The unit's text on this host: where `omsagent.service` is somebody else's name for one of the
/// workspaces, as Puppet links it, what that one does is not the others' business.
pub fn text_on(layout: &Layout, id: &WorkspaceName) -> String {
    let text = text(id);
    if !umbrella::is_theirs(layout) {
        return text;
    }
    let alone = |line: &&str| {
        let (key, value) = line.split_once('=').unwrap_or_default();
        value != umbrella::NAME || !matches!(key, "Before" | "PartOf" | "ReloadPropagatedFrom")
    };
    let lines = text.lines().filter(alone);
    let lines = lines.map(|line| match line.strip_prefix("WantedBy=") {
        Some(targets) => {
            let others = targets
                .split(' ')
                .filter(|target| *target != umbrella::NAME);
            format!("WantedBy={}", others.collect::<Vec<_>>().join(" "))
        }
        None => line.to_owned(),
    });
    lines.map(|line| line + "\n").collect()
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

    #[test]
    fn where_the_common_name_is_somebody_elses_each_stands_alone() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let id: WorkspaceName = "01234567-89ab-cdef-0123-456789abcdef".parse().unwrap();
        assert_eq!(text_on(&layout, &id), text(&id));
        let admin = layout.path("/etc/systemd/system");
        std::fs::create_dir_all(&admin).unwrap();
        std::os::unix::fs::symlink("x.service", admin.join(umbrella::NAME)).unwrap();
        let alone = text_on(&layout, &id);
        assert!(
            !alone
                .lines()
                .any(|l| l.contains(umbrella::NAME) && !l.starts_with('#')),
            "{alone}"
        );
        assert!(alone.contains("\nWantedBy=multi-user.target\n"), "{alone}");
        let left = text(&id).lines().count() - alone.lines().count();
        assert_eq!(left, 3, "three lines less");
    }
}
