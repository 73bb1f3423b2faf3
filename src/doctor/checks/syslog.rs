//! The syslog daemon: runs, is content with its configuration, and forwards to the agent - once.

use crate::base::command;
use crate::base::files::{self, Look, Owner};
use crate::base::ids::WorkspaceId;
use crate::doctor::finding::{Finding, Fix, Kind};
use crate::doctor::patient::Patient;
use crate::host::FILE_LIMIT;
use crate::host::services::{self, ServiceManager};
use crate::host::syslog::{
    self as daemons, OURS, RSYSLOG_CONF, RSYSLOG_D, SYSLOG_NG_CONF, SYSLOG_NG_D, SyslogDaemon,
};
use crate::workspace::{forwarding, port};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

fn service(daemon: &SyslogDaemon) -> &'static str {
    match daemon {
        SyslogDaemon::SyslogNg => "syslog-ng",
        SyslogDaemon::Rsyslog { .. } | SyslogDaemon::OldRsyslog => "rsyslog",
    }
}

/// There, running, and with a configuration that it accepts.
pub fn daemon(patient: &Patient, found: &mut Vec<Finding>) {
    let host = &patient.host;
    if !host.is_live() || patient.onboarded().next().is_none() {
        return;
    }
    let Some(daemon) = &host.syslog else {
        found.push(
            Finding::new("syslog-none", "no syslog daemon that can forward is here")
                .seen("neither rsyslog nor syslog-ng is configured")
                .mend("install rsyslog, then: omsagent doctor --fix"),
        );
        return;
    };
    let unit = format!("{}.service", service(daemon));
    let stopped = host.services == ServiceManager::Systemd
        && services::is_active(host, &unit).is_ok_and(|active| !active);
    if stopped {
        found.push(
            Finding::new(
                "syslog-stopped",
                format!("{} does not run", service(daemon)),
            )
            .seen(format!("{unit} is not active"))
            .mend(format!(
                "systemctl enable --now {unit}; journalctl -u {unit} says why it ended"
            )),
        );
    }
    if let Err((name, says)) = daemons::ask(host) {
        found.push(
            Finding::new(
                "syslog-broken",
                format!("{name} refuses its own configuration"),
            )
            .seen(says)
            .mend("correct that line; until then it starts without it or not at all"),
        );
    }
}

/// A line of a configuration that sends to a local port.
#[derive(Debug, PartialEq, Eq)]
struct Forward {
    file: PathBuf,
    selector: String,
}

/// Where lines for a workspace are sent from: to its port, or to its socket.
fn forwards(patient: &Patient, id: &WorkspaceId, port: u16) -> Vec<Forward> {
    let layout = &patient.host.layout;
    let socket = layout.inside(&layout.workspace(id).syslog_socket());
    let socket = socket.to_string_lossy();
    let is_ng = patient.host.syslog == Some(SyslogDaemon::SyslogNg);
    let (main, dir) = match is_ng {
        true => (SYSLOG_NG_CONF, SYSLOG_NG_D),
        false => (RSYSLOG_CONF, RSYSLOG_D),
    };
    let mut all = vec![layout.path(main)];
    all.extend(super::looks::fragments(&layout.path(dir)));
    let mut found = Vec::new();
    for file in all {
        let text = files::read_text(&file, FILE_LIMIT)
            .ok()
            .flatten()
            .unwrap_or_default();
        let mut names_it = false;
        let selectors = daemons::each_statement(&text).filter_map(|line| match is_ng {
            true => ng_forward(&line, port, &socket),
            false => {
                if let Some(named) = line.trim().strip_prefix("$OMUxSockSocket") {
                    names_it = named.trim() == socket;
                }
                socket_forward(&line)
                    .filter(|_| names_it)
                    .or_else(|| rsyslog_forward(&line, port))
            }
        });
        found.extend(selectors.map(|selector| Forward {
            file: file.clone(),
            selector,
        }));
    }
    found
}

/// `SELECTOR @127.0.0.1:PORT`, one @ or two, or an action of the newer form.
fn rsyslog_forward(line: &str, port: u16) -> Option<String> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let old = [format!("@127.0.0.1:{port}"), format!("@localhost:{port}")];
    if let Some(at) = old.iter().find_map(|target| {
        let at = line.find(target.as_str())?;
        let after = line[at + target.len()..].chars().next();
        (!after.is_some_and(|c| c.is_ascii_digit())).then_some(at)
    }) {
        return Some(line[..at].trim_end_matches('@').trim().to_owned());
    }
    let squeezed: String = line.chars().filter(|c| !c.is_whitespace()).collect();
    let newer = squeezed.contains("type=\"omfwd\"")
        && squeezed.contains("target=\"127.0.0.1\"")
        && squeezed.contains(&format!("port=\"{port}\""));
    newer.then(|| {
        line.split("action")
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned()
    })
}

/// `SELECTOR :omuxsock:`; an earlier line names the socket.
fn socket_forward(line: &str) -> Option<String> {
    let line = line.trim();
    let selector = &line[..line.find(":omuxsock:")?];
    (!line.starts_with('#')).then(|| selector.trim().to_owned())
}

/// A destination's line; the selector is its name.
fn ng_forward(line: &str, port: u16, socket: &str) -> Option<String> {
    let line = line.trim();
    let by_port = line.contains("127.0.0.1") && line.contains(&format!("port({port})"));
    let wanted = (by_port || line.contains(&format!("(\"{socket}\""))) && !line.starts_with('#');
    let name = line.strip_prefix("destination")?.split('{').next()?.trim();
    wanted.then(|| name.to_owned())
}

/// Each onboarded workspace's port is sent to.
pub fn forwarding(patient: &Patient, found: &mut Vec<Finding>) {
    let Some(daemon) = &patient.host.syslog else {
        return;
    };
    for ward in patient.onboarded() {
        let Some(port) = port::configured(&patient.host.layout, &ward.id) else {
            continue;
        };
        let chosen = forwarding::selection(&patient.host.layout, &ward.id);
        let wanted = !chosen.is_ok_and(|selection| selection.is_none());
        if wanted && forwards(patient, &ward.id, port).is_empty() {
            found.push(
                Finding::new(
                    "syslog-not-forwarding",
                    format!("{} sends nothing to the agent", service(daemon)),
                )
                .seen(format!(
                    "no line of its configuration names 127.0.0.1 port {port}"
                ))
                .of(&ward.id)
                .fix(Fix::Workspace(ward.id.clone())),
            );
        }
    }
}

/// The same message sent twice to the same port.
pub fn twice(patient: &Patient, found: &mut Vec<Finding>) {
    for ward in patient.onboarded() {
        let Some(port) = port::configured(&patient.host.layout, &ward.id) else {
            continue;
        };
        let all = forwards(patient, &ward.id, port);
        let doubled = all.iter().enumerate().find(|(n, f)| {
            let others = all.iter().enumerate().filter(|(m, _)| m != n);
            others
                .map(|(_, o)| o)
                .any(|o| overlap(&f.selector, &o.selector))
        });
        if let Some((_, forward)) = doubled {
            found.push(
                Finding::new(
                    "syslog-twice",
                    format!("messages are sent twice to port {port}"),
                )
                .seen(format!(
                    "`{}` in {}, and another line",
                    forward.selector,
                    forward.file.display()
                ))
                .of(&ward.id)
                .mend("remove the line that is not between our marks"),
            );
        }
    }
}

/// Do two selectors take a common message? By their facilities; `*` is all, and nothing before the
/// action too.
fn overlap(one: &str, other: &str) -> bool {
    let facilities = |s: &str| -> Vec<String> {
        let parts = s.split(';').filter(|p| !p.trim().ends_with(".none"));
        let names = parts.flat_map(|p| p.split('.').next().unwrap_or_default().split(','));
        names.map(|n| n.trim().to_ascii_lowercase()).collect()
    };
    let (a, b) = (facilities(one), facilities(other));
    let all = |names: &[String]| names.iter().any(|n| n == "*" || n.is_empty());
    all(&a) || all(&b) || a.iter().any(|n| b.contains(n))
}

/// Our own file is root's: the daemon runs what is in it as root.
pub fn own_file(patient: &Patient, found: &mut Vec<Finding>) {
    for dir in [RSYSLOG_D, SYSLOG_NG_D] {
        let path = patient.host.layout.path(dir).join(OURS);
        let Ok(m) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        if m.is_file() && (m.uid() != 0 || m.mode() & 0o7777 != 0o644) {
            let look = Look::owned(0o644, Owner::ROOT);
            found.push(
                Finding::new(
                    "syslog-file-look",
                    format!("{} has another mode or owner", path.display()),
                )
                .seen(format!(
                    "mode {:04o}, owner {}; wanted: 0644, root",
                    m.mode() & 0o7777,
                    m.uid()
                ))
                .fix(Fix::Look(path, look, Kind::File)),
            );
        }
    }
}

/// Is the daemon's program here at all?
pub fn can_log() -> bool {
    command::find("rsyslogd").is_some() || command::find("syslog-ng").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarding_lines_of_both_daemons() {
        let of = |line: &str| rsyslog_forward(line, 25224);
        assert_eq!(
            of("auth.warning\t@127.0.0.1:25224").as_deref(),
            Some("auth.warning")
        );
        assert_eq!(of("*.* @@127.0.0.1:25224").as_deref(), Some("*.*"));
        assert_eq!(of("*.* @127.0.0.1:252245"), None);
        assert_eq!(of("#*.* @127.0.0.1:25224"), None);
        let action = r#"*.* action(type="omfwd" target="127.0.0.1" port="25224" protocol="udp")"#;
        assert_eq!(of(action).as_deref(), Some("*.*"));
        let ng = r#"destination d_x { network("127.0.0.1" transport("udp") port(25224)); };"#;
        assert_eq!(ng_forward(ng, 25224, "/s").as_deref(), Some("d_x"));
        assert_eq!(ng_forward(ng, 2522, "/s"), None);
        let ng = "destination d_y { unix-dgram(\"/s\" time-reopen(5)); };";
        assert_eq!(ng_forward(ng, 25224, "/s").as_deref(), Some("d_y"));
        assert_eq!(ng_forward(ng, 25224, "/t"), None);
        let socket = "auth.err\t:omuxsock:;RSYSLOG_TraditionalForwardFormat";
        assert_eq!(socket_forward(socket).as_deref(), Some("auth.err"));
        assert_eq!(socket_forward("#auth.err :omuxsock:"), None);
    }

    #[test]
    fn which_selectors_overlap() {
        for (a, b, wanted) in [
            ("auth.warning", "cron.warning", false),
            ("auth.warning", "auth.info", true),
            ("auth,cron.err", "cron.warning", true),
            ("*.*", "kern.err", true),
            ("", "kern.err", true),
            ("d_a", "d_b", false),
        ] {
            assert_eq!(overlap(a, b), wanted, "{a} {b}");
        }
    }
}
