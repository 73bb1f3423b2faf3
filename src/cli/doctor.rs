//! The door `omsagent doctor`: what is wrong with this host's agent, and how to mend it
//! (docs/doctor.md).

use crate::cli::signals;
use crate::doctor::endpoints::Role;
use crate::doctor::finding::{Finding, Severity};
use crate::doctor::patient::Patient;
use crate::doctor::{self, Depth, mending};
use crate::host::Host;
use crate::host::layout::Layout;
use crate::install::recovery::{self, Purpose};
use crate::plan::Report;
use crate::{err, out};
use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

/// Only root can look everywhere.
const NOT_ROOT: u8 = 3;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON object (docs/doctor.md) instead of text
    #[arg(long)]
    json: bool,
    /// Look at the installation only: nothing goes over the network, no message is sent
    #[arg(long)]
    install: bool,
    /// Whose endpoints must be reached; with another role than `agent` only those are looked at
    #[arg(
        long,
        value_name = "ROLE",
        default_value = "agent",
        conflicts_with = "install"
    )]
    role: RoleWord,
    /// Mend what can be mended safely, then look again
    #[arg(long)]
    fix: bool,
}

/// [`Role`] as it is typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleWord {
    Agent,
    ManagementServer,
    Console,
}

impl From<RoleWord> for Role {
    fn from(word: RoleWord) -> Role {
        match word {
            RoleWord::Agent => Role::Agent,
            RoleWord::ManagementServer => Role::ManagementServer,
            RoleWord::Console => Role::Console,
        }
    }
}

/// Runs it; exit code 0 nothing found, 1 warnings, 2 errors, 3 not root.
pub fn run(args: &Args) -> Result<u8> {
    let role = Role::from(args.role);
    let depth = match (args.install, role) {
        (true, _) => Depth::Installation,
        (false, Role::Agent) => Depth::Whole,
        (false, _) => Depth::Endpoints,
    };
    if depth != Depth::Endpoints && !nix::unistd::geteuid().is_root() {
        err!("omsagent doctor: only root can look everywhere: run it with sudo");
        return Ok(NOT_ROOT);
    }
    let look = || {
        let patient = Patient::admit(Host::detect(Layout::new("/")), role);
        let found = doctor::examine(&patient, depth);
        (patient, found)
    };
    let (mut patient, mut found) = look();
    let (mut mended, mut locked_out) = (Vec::new(), false);
    if args.fix && found.iter().any(|f| f.fix.is_some()) {
        signals::interrupt_plans();
        let before = found;
        {
            match recovery::enter(&patient.host, Purpose::Change, &mut Quiet) {
                Ok(_lock) => mending::mend(&patient.host, &before, &mut Quiet),
                Err(e) => {
                    err!("error\tnothing was mended: {e:#}");
                    locked_out = true;
                }
            }
        }
        (patient, found) = look();
        let gone = |f: &Finding| f.fix.is_some() && !found.contains(f);
        mended = before.into_iter().filter(gone).collect();
    }
    let code = match locked_out {
        true => doctor::exit_code(&found).max(2),
        false => doctor::exit_code(&found),
    };
    if args.json {
        let whole = Whole {
            schema: 1,
            version: env!("CARGO_PKG_VERSION"),
            host: &patient.host.os.hostname,
            installed: patient.installed,
            checks: doctor::count(depth),
            findings: found.iter().map(Shown::of).collect(),
            mended: mended.iter().map(Shown::of).collect(),
            exit_code: code,
        };
        out!("{}", serde_json::to_string(&whole)?);
    } else {
        say(&patient, depth, &found, &mended);
    }
    Ok(code)
}

/// What `--json` would say, without anything going over the network.
pub fn offline(host: &Host) -> Result<String> {
    let patient = Patient::admit(host.clone(), Role::Agent);
    let found = doctor::examine(&patient, Depth::Offline);
    let whole = Whole {
        schema: 1,
        version: env!("CARGO_PKG_VERSION"),
        host: &patient.host.os.hostname,
        installed: patient.installed,
        checks: doctor::count(Depth::Offline),
        findings: found.iter().map(Shown::of).collect(),
        mended: Vec::new(),
        exit_code: doctor::exit_code(&found),
    };
    let whole: serde_json::Value = serde_json::from_slice(&serde_json::to_vec(&whole)?)?;
    Ok(serde_json::to_string_pretty(&whole)?)
}

fn say(patient: &Patient, depth: Depth, found: &[Finding], mended: &[Finding]) {
    for finding in mended {
        out!("mended   {}: {}", finding.id, finding.what);
    }
    for finding in found {
        let word = match finding.severity() {
            Severity::Error => "ERROR",
            Severity::Warning => "warning",
        };
        let of = finding.workspace.as_ref().map(|id| format!(" [{id}]"));
        out!(
            "{word:<8} {}: {}{}",
            finding.id,
            finding.what,
            of.unwrap_or_default()
        );
        if !finding.evidence.is_empty() {
            out!("         seen: {}", finding.evidence);
        }
        out!("         mend: {}", finding.mend);
    }
    let checks = doctor::count(depth);
    let count = |s| found.iter().filter(|f| f.severity() == s).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if !patient.installed && depth != Depth::Endpoints {
        out!("omsagent is not installed on this host.");
    }
    let fixable = found.iter().filter(|f| f.fix.is_some()).count();
    let hint = match fixable {
        0 => String::new(),
        n => format!("; --fix mends {n} of them"),
    };
    out!("{checks} checks: {errors} errors, {warnings} warnings{hint}");
}

/// What a plan says while it mends is not the doctor's result; warnings are worth a line.
struct Quiet;

impl Report for Quiet {
    fn line(&mut self, _: &str) {}
    fn warn(&mut self, text: &str) {
        err!("warning\t{text}");
    }
    fn tool_output(&mut self, _: &[u8]) {}
}

/// The object of `--json`.
#[derive(Serialize)]
struct Whole<'a> {
    schema: u32,
    version: &'static str,
    host: &'a str,
    installed: bool,
    checks: usize,
    findings: Vec<Shown<'a>>,
    mended: Vec<Shown<'a>>,
    exit_code: u8,
}

#[derive(Serialize)]
struct Shown<'a> {
    id: &'a str,
    severity: Severity,
    workspace: Option<&'a str>,
    what: &'a str,
    evidence: &'a str,
    mend: &'a str,
    fixable: bool,
}

impl<'a> Shown<'a> {
    fn of(finding: &'a Finding) -> Shown<'a> {
        Shown {
            id: finding.id,
            severity: finding.severity(),
            workspace: finding.workspace.as_ref().map(|id| id.as_str()),
            what: &finding.what,
            evidence: &finding.evidence,
            mend: &finding.mend,
            fixable: finding.fix.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// docs/doctor.md promises these names.
    #[test]
    fn the_fields_of_the_object() {
        let finding = Finding::new("dns-fails", "a").seen("b").mend("c");
        let whole = Whole {
            schema: 1,
            version: "v",
            host: "h",
            installed: true,
            checks: 1,
            findings: vec![Shown::of(&finding)],
            mended: Vec::new(),
            exit_code: 2,
        };
        assert_eq!(
            serde_json::to_string(&whole).unwrap(),
            r#"{"schema":1,"version":"v","host":"h","installed":true,"checks":1,"findings":[{"id":"dns-fails","severity":"error","workspace":null,"what":"a","evidence":"b","mend":"c","fixable":false}],"mended":[],"exit_code":2}"#
        );
    }
}
