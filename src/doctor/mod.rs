//! Floor 4: looks at a host and says what is wrong, by what evidence, and how to mend it
//! (docs/doctor.md); and how its workspaces stand (docs/status.md).
//!
//! A check is one function in the file of its subject, and a line of [`CHECKS`]. What it finds is a
//! [`Finding`], whose id and severity stand in [`finding::CATALOGUE`].

pub mod asking;
mod checks;
pub mod endpoints;
pub mod finding;
pub mod mending;
pub mod patient;
pub mod process;
pub mod retirement;
pub mod sockets;
pub mod status;

use crate::base::order;
use finding::{Finding, Severity};
use patient::Patient;

/// What a check looks at, which decides when it is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// Files, accounts, units: no network, no message.
    Installation,
    /// What the running agent tells.
    Delivery,
    /// The way to the service.
    Network,
    /// A message from the syslog daemon to the service.
    Chain,
}

struct Check {
    subject: Subject,
    run: fn(&Patient, &mut Vec<Finding>),
}

macro_rules! table {
    ($($subject:ident: $($module:ident::$check:ident),+;)+) => {
        &[$($(Check { subject: Subject::$subject, run: checks::$module::$check }),+),+]
    };
}

/// Every check, in the order in which findings are shown.
const CHECKS: &[Check] = table! {
    Installation:
        package::half_installed, package::changed_files, package::install_info,
        accounts::account, accounts::groups,
        looks::shared_folders, looks::workspace_folders, looks::identity_files, looks::settings_files,
        looks::proxy_file, looks::programs, looks::links,
        identity::pair, identity::renewal, identity::settings,
        configuration::agent, configuration::proxy, configuration::authorities,
        configuration::onboarding_file,
        service::unit, service::running, service::program,
        syslog::daemon, syslog::forwarding, syslog::twice, syslog::own_file,
        ports::shared, ports::listening,
        disk::space,
        sudo::rules, sudo::whole,
        rotation::own_file, rotation::log,
        leftovers::workspaces, leftovers::original, leftovers::unfinished_files,
        leftovers::unfinished_run, leftovers::syslog_lines,
        selinux::denials;
    Delivery:
        delivery::uploads, delivery::queues, delivery::inputs, delivery::heartbeat;
    Network:
        network::reach;
    Chain:
        chain::follow_a_message;
};

/// How far to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The installation only: nothing goes out.
    Installation,
    /// And what the running agents tell.
    Offline,
    /// All of it.
    Whole,
    /// Only whether the endpoints of a role can be reached.
    Endpoints,
}

impl Depth {
    fn includes(self, subject: Subject) -> bool {
        match self {
            Depth::Whole => true,
            Depth::Installation => subject == Subject::Installation,
            Depth::Offline => matches!(subject, Subject::Installation | Subject::Delivery),
            Depth::Endpoints => subject == Subject::Network,
        }
    }
}

/// Runs the checks, those that wait for others beside each other. Never longer than some 15 s.
pub fn examine(patient: &Patient, depth: Depth) -> Vec<Finding> {
    let run = |subject: Subject| {
        let mut found = Vec::new();
        if depth.includes(subject) {
            let fitting = CHECKS.iter().filter(|c| c.subject == subject);
            fitting.for_each(|check| (check.run)(patient, &mut found));
        }
        found
    };
    let mut found = std::thread::scope(|scope| {
        let network = scope.spawn(|| run(Subject::Network));
        let chain = scope.spawn(|| run(Subject::Chain));
        let mut found = run(Subject::Installation);
        found.extend(run(Subject::Delivery));
        found.extend(network.join().unwrap_or_default());
        found.extend(chain.join().unwrap_or_default());
        found
    });
    order::by_key(&mut found, |f| (f.severity() != Severity::Error, f.id));
    found.dedup();
    found
}

/// The exit code: 0 nothing found, 1 warnings, 2 errors.
pub fn exit_code(findings: &[Finding]) -> u8 {
    let worst = findings.iter().map(Finding::severity).max();
    match worst {
        None => 0,
        Some(Severity::Warning) => 1,
        Some(Severity::Error) => 2,
    }
}

/// How many checks a depth has.
pub fn count(depth: Depth) -> usize {
    CHECKS.iter().filter(|c| depth.includes(c.subject)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;
    use crate::host::layout::Layout;
    use endpoints::Role;

    fn ids(layout: &Layout) -> Vec<&'static str> {
        let patient = Patient::admit(Host::detect(layout.clone()), Role::Agent);
        let found = examine(&patient, Depth::Installation);
        found.iter().map(|f| f.id).collect()
    }

    #[test]
    fn a_bare_host_has_nothing_wrong() {
        let dir = tempfile::tempdir().unwrap();
        assert!(ids(&Layout::new(dir.path())).is_empty());
    }

    #[test]
    fn what_is_left_and_what_is_open_is_found_without_a_system() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let cron = layout.path("/etc/cron.d/omsagent");
        std::fs::create_dir_all(cron.parent().unwrap()).unwrap();
        std::fs::write(&cron, "").unwrap();
        std::fs::create_dir_all(layout.etc()).unwrap();
        std::fs::write(layout.onboarding_file(), "").unwrap();
        std::fs::write(layout.proxy_conf(), "socks://x").unwrap();
        std::fs::write(layout.ca_file(), "no PEM").unwrap();
        let gone = "11111111-2222-3333-4444-555555555555";
        std::fs::create_dir_all(layout.var().join(gone)).unwrap();
        std::fs::write(
            layout.path("/etc/rsyslog.conf"),
            format!("# OMS Syslog collection for workspace {gone}\n"),
        )
        .unwrap();
        assert_eq!(
            ids(&layout),
            [
                "ca-unusable",
                "proxy-mistake",
                "onboarding-file-left",
                "original-remains",
                "syslog-remains",
                "workspace-remains"
            ]
        );
    }

    #[test]
    fn the_worst_finding_is_the_exit_code() {
        let (bad, worse) = (
            Finding::new("disk-low", "a"),
            Finding::new("dns-fails", "b"),
        );
        assert_eq!(exit_code(&[]), 0);
        assert_eq!(exit_code(std::slice::from_ref(&bad)), 1);
        assert_eq!(exit_code(&[bad, worse]), 2);
    }
}
