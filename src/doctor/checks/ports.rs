//! The ports that workspaces take messages on, and whose they are.

use crate::doctor::finding::Finding;
use crate::doctor::patient::Patient;
use crate::doctor::{process, sockets};
use crate::workspace::port;
use std::collections::HashMap;

/// No two workspaces with one port.
pub fn shared(patient: &Patient, found: &mut Vec<Finding>) {
    let mut seen = HashMap::new();
    for ward in patient.onboarded() {
        let Some(port) = port::configured(&patient.host.layout, &ward.id) else {
            continue;
        };
        if let Some(other) = seen.insert(port, ward.id.clone()) {
            found.push(
                Finding::new("port-shared", format!("two workspaces have port {port}"))
                    .seen(format!("{other} and {}", ward.id))
                    .of(&ward.id)
                    .mend("change `port` in omsagent.d/syslog.conf of one, then: omsagent doctor --fix"),
            );
        }
    }
}

/// Each running agent has its port, on loopback, and nobody else has it.
pub fn listening(patient: &Patient, found: &mut Vec<Finding>) {
    if !patient.host.is_live() || !nix::unistd::geteuid().is_root() {
        return;
    }
    let all = sockets::listening();
    let owners = sockets::owners();
    for ward in patient.onboarded() {
        let Some(port) = port::configured(&patient.host.layout, &ward.id) else {
            continue;
        };
        let pid = match (&ward.unit, &ward.figures) {
            (Some(unit), _) => unit.pid,
            (None, figures) => figures.as_ref().ok().map(|f| f.pid),
        };
        let here: Vec<_> = all.iter().filter(|l| l.address.port() == port).collect();
        for socket in &here {
            let owner = owners.get(&socket.inode).copied();
            if owner.is_some() && owner != pid {
                let owner = owner.unwrap_or_default();
                let name = process::name(owner);
                found.push(
                    Finding::new("port-taken", format!("another program has port {port}"))
                        .seen(format!("{} {} belongs to process {owner} ({name})", socket.protocol.name(), socket.address))
                        .of(&ward.id)
                        .mend("stop that program, or change `port` in omsagent.d/syslog.conf; then: omsagent doctor --fix"),
                );
            } else if !socket.address.ip().is_loopback() {
                found.push(
                    Finding::new("port-open", format!("port {port} can be reached from other hosts"))
                        .seen(format!("{} listens on {}", socket.protocol.name(), socket.address))
                        .of(&ward.id)
                        .mend("`bind 127.0.0.1` in omsagent.d/syslog.conf, unless other hosts shall send here"),
                );
            }
        }
        if ward.runs() && here.is_empty() {
            found.push(
                Finding::new("port-closed", format!("nobody listens on port {port}"))
                    .seen("the agent runs; it may have been started with another configuration")
                    .of(&ward.id)
                    .mend("service_control restart; the agent's log says why it does not listen"),
            );
        }
    }
}
