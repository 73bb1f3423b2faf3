//! What SELinux has refused.

use crate::doctor::finding::Finding;
use crate::doctor::patient::Patient;
use std::io::{Read, Seek, SeekFrom};

/// How much of the end of the audit log is looked at.
const TAIL: u64 = 2 << 20;

/// Denials that name us in the audit log.
pub fn denials(patient: &Patient, found: &mut Vec<Finding>) {
    if !patient.host.layout.path("/sys/fs/selinux/enforce").exists() {
        return;
    }
    let path = patient.host.layout.path("/var/log/audit/audit.log");
    let Ok(mut file) = std::fs::File::open(&path) else {
        return;
    };
    let size = file.metadata().map_or(0, |m| m.len());
    let _ = file.seek(SeekFrom::Start(size.saturating_sub(TAIL)));
    let mut bytes = Vec::new();
    let _ = file.take(TAIL).read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let denials: Vec<&str> = text.lines().filter(|line| is_ours(line)).collect();
    if let Some(last) = denials.last() {
        found.push(
            Finding::new("selinux-denial", "SELinux refused something to the agent")
                .seen(format!("{} denials; the last: {last}", denials.len()))
                .mend("restorecon -Rv /opt/microsoft /etc/opt/microsoft /var/opt/microsoft; then see whether it comes again"),
        );
    }
}

fn is_ours(line: &str) -> bool {
    line.contains("avc:") && line.contains("denied") && line.contains("omsagent")
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_our_denials() {
        let line = "type=AVC msg=audit(1:2): avc:  denied  { write } for pid=7 comm=\"omsagent\" name=\"x\"";
        assert!(super::is_ours(line));
        assert!(!super::is_ours(&line.replace("omsagent", "sshd")));
        assert!(!super::is_ours("type=USER_CMD cmd=omsagent"));
    }
}
