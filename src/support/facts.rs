//! What the host tells when it is asked: its system, its units, its journal, its network.

use super::Gathering;
use super::redact::{MARK, Redactor, is_secret_name};
use crate::base::command::Command;
use crate::base::ids::WorkspaceName;
use crate::base::order;
use crate::doctor::sockets;
use crate::host::packages::PackageManager;
use crate::host::services::ServiceManager;
use crate::host::{Host, process, unit};
use crate::install::release::PACKAGE;
use std::fmt::Write as _;
use std::time::Duration;

/// A tool that hangs must not hold us long.
const PATIENCE: Duration = Duration::from_secs(10);
/// Lines of the system's journal for each unit.
const JOURNAL_LINES: &str = "2000";
/// Variables that lead through a proxy, in either case.
const PROXIES: [&str; 4] = ["https_proxy", "http_proxy", "all_proxy", "no_proxy"];
/// Variables whose values are no secret.
const PLAIN: [&str; 6] = ["PATH", "LANG", "LC_ALL", "HOME", "TZ", "OMSAGENT_CA_FILE"];

/// Asks for everything.
pub(super) fn gather(
    host: &Host,
    workspaces: &[WorkspaceName],
    redactor: &mut Redactor,
    all: &mut Gathering,
) {
    all.add("facts/version.txt", "this program", version(host));
    let release = host.layout.path("/etc/os-release");
    match std::fs::read_to_string(&release) {
        Ok(text) => all.add("facts/os-release.txt", "/etc/os-release", text),
        Err(why) => all.gap("/etc/os-release", why.to_string()),
    }
    match nix::sys::utsname::uname() {
        Ok(uname) => {
            let parts = [
                uname.sysname(),
                uname.nodename(),
                uname.release(),
                uname.version(),
                uname.machine(),
            ];
            let parts: Vec<_> = parts.iter().map(|p| p.to_string_lossy()).collect();
            all.add("facts/uname.txt", "uname(2)", parts.join(" ") + "\n");
        }
        Err(why) => all.gap("uname(2)", why.desc()),
    }
    all.add("facts/disks.txt", "statvfs(2) of our folders", disks(host));
    all.add(
        "facts/environment.txt",
        "proxies in the environment",
        proxies(),
    );
    let resolver = host.layout.path("/etc/resolv.conf");
    match std::fs::read_to_string(&resolver) {
        Ok(text) => all.add("facts/resolv.conf", "/etc/resolv.conf", text),
        Err(why) => all.gap("/etc/resolv.conf", why.to_string()),
    }
    let enforce = host.layout.path("/sys/fs/selinux/enforce");
    let mode = match std::fs::read_to_string(enforce).as_deref().map(str::trim) {
        Ok("1") => "enforcing\n",
        Ok(_) => "permissive\n",
        Err(_) => "not there\n",
    };
    all.add("facts/selinux.txt", "/sys/fs/selinux/enforce", mode.into());
    if !host.is_live() {
        return all.gap(
            "units, journal, packages, network",
            "not the running system",
        );
    }
    all.add("facts/listeners.txt", "/proc/net", listeners());
    for name in workspaces {
        running(host, name, redactor, all);
    }
    packages(host, all);
    for (file, program, args) in [
        ("addresses", "ip", &["-brief", "address"][..]),
        ("routes", "ip", &["route"]),
        ("time", "timedatectl", &["--no-pager"]),
        ("time-sources", "chronyc", &["-n", "sources"]),
    ] {
        ask(
            &format!("facts/{file}.txt"),
            Command::new(program).args(args),
            all,
        );
    }
}

/// The text of a tool; a tool that is not there is a gap.
fn ask(name: &str, command: Command, all: &mut Gathering) {
    let source = command.display();
    match command.timeout(PATIENCE).run() {
        Ok(outcome) => {
            let note = (!outcome.ok()).then(|| format!("exit code {}", outcome.code));
            all.add_noted(name, source, outcome.output, note);
        }
        Err(why) => all.gap(source, why.to_string()),
    }
}

fn version(host: &Host) -> String {
    format!(
        "omsagent {}\npackages {}\nservices {:?}\nsyslog {}\narch {}\nimage {}\nroot {}\ntime {}\n",
        crate::package::label(),
        host.packages.map_or("none", PackageManager::program),
        host.services,
        host.syslog.as_ref().map_or("none", |s| s.name()),
        host.arch,
        host.image,
        nix::unistd::geteuid().is_root(),
        jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ")
    )
}

fn disks(host: &Host) -> String {
    let layout = &host.layout;
    let mut text = String::new();
    for path in [
        layout.etc(),
        layout.var(),
        layout.opt(),
        layout.records(),
        layout.path("/"),
    ] {
        let _ = match rustix::fs::statvfs(&path) {
            Ok(s) => writeln!(
                text,
                "{}: {} of {} MiB free, {} of {} inodes free",
                path.display(),
                (s.f_bavail * s.f_frsize) >> 20,
                (s.f_blocks * s.f_frsize) >> 20,
                s.f_favail,
                s.f_files
            ),
            Err(why) => writeln!(text, "{}: {why}", path.display()),
        };
    }
    text
}

/// Who listens where.
fn listeners() -> String {
    let owners = sockets::owners();
    let mut text = String::new();
    for socket in sockets::listening() {
        let owner = owners.get(&socket.inode);
        let name = owner.map(|pid| crate::doctor::process::name(*pid));
        let _ = writeln!(
            text,
            "{} {} uid {} {}",
            socket.protocol.name(),
            socket.address,
            socket.uid,
            name.unwrap_or_default()
        );
    }
    text
}

/// A workspace's unit, its journal, and the limits of its agent.
fn running(host: &Host, name: &WorkspaceName, redactor: &mut Redactor, all: &mut Gathering) {
    if let Some(pid) = process::agent_pid(&host.layout, name) {
        let path = format!("/proc/{pid}/limits");
        match std::fs::read_to_string(&path) {
            Ok(text) => all.add(format!("units/{name}.limits.txt"), path, text),
            Err(why) => all.gap(path, why.to_string()),
        }
    }
    if host.services != ServiceManager::Systemd {
        return;
    }
    let unit = unit::name(name);
    for what in ["status", "show", "cat"] {
        let command = Command::new("systemctl").args([what, "--no-pager", "--full", "--", &unit]);
        ask(&format!("units/{name}.{what}.txt"), command, all);
        if let Some(entry) = all.entries.last_mut().filter(|_| what != "status") {
            entry.text = environment(&entry.text, redactor);
        }
    }
    let journal = [
        "--no-pager",
        "--quiet",
        "-o",
        "short-iso",
        "-n",
        JOURNAL_LINES,
        "-u",
        &unit,
    ];
    ask(
        &format!("units/{name}.journal.txt"),
        Command::new("journalctl").args(journal),
        all,
    );
}

fn packages(host: &Host, all: &mut Gathering) {
    let (state, check) = match host.packages {
        Some(PackageManager::Dpkg) => (["dpkg", "-s"], ["dpkg", "-V"]),
        Some(PackageManager::Rpm) => (["rpm", "-qi"], ["rpm", "-V"]),
        None => return all.gap("package state", "neither dpkg nor rpm"),
    };
    for (file, [program, option]) in [("package", state), ("package-check", check)] {
        ask(
            &format!("facts/{file}.txt"),
            Command::new(program).args([option, PACKAGE]),
            all,
        );
    }
}

/// A unit's text with its variables' values masked, but for a few: nobody knows what they are.
pub fn environment(text: &str, redactor: &mut Redactor) -> String {
    let line = |line: &str| -> String {
        let Some((key, value)) = line.split_once('=') else {
            return line.to_owned();
        };
        match key.trim() {
            "Environment" => {
                let words = assignments(value).into_iter().map(|(name, value)| {
                    let lower = name.to_ascii_lowercase();
                    let is_proxy = PROXIES.contains(&lower.as_str());
                    if is_secret_name(&name) {
                        redactor.learn(&value);
                    } else if !is_proxy && !PLAIN.contains(&name.as_str()) {
                        redactor.learn_if_likely(&value);
                    } else {
                        return format!("{name}={value}");
                    }
                    format!("{name}={MARK}")
                });
                format!("{key}={}", words.collect::<Vec<_>>().join(" "))
            }
            "SetCredential" | "SetCredentialEncrypted" => {
                let id = value.split(':').next().unwrap_or_default();
                let secret = value.get(id.len() + 1..).unwrap_or_default();
                redactor.learn(secret);
                format!("{key}={id}:{MARK}")
            }
            _ => line.to_owned(),
        }
    };
    let lines: Vec<String> = text.lines().map(line).collect();
    lines.join("\n") + "\n"
}

/// `A=b "C=d e" 'F=g'`, as systemd has them.
fn assignments(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut letters = text.chars().chain([' ']);
    while let Some(c) = letters.next() {
        match (quote, c) {
            (_, '\\') => word.extend(letters.next()),
            (Some(q), c) if c == q => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, c) if c.is_whitespace() => {
                if let Some((name, value)) = word.split_once('=') {
                    found.push((name.to_owned(), value.to_owned()));
                } else if !word.is_empty() {
                    found.push((String::new(), std::mem::take(&mut word)));
                }
                word.clear();
            }
            (_, c) => word.push(c),
        }
    }
    // A quote that does not end: all of it is one value.
    if !word.trim().is_empty() {
        let (name, value) = word.split_once('=').unwrap_or(("", &word));
        found.push((name.to_owned(), value.trim().to_owned()));
    }
    found
}

/// Proxies that our own environment names; their passwords are taken out later.
fn proxies() -> String {
    let is_proxy = |name: &str| PROXIES.contains(&name.to_ascii_lowercase().as_str());
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok().filter(|name| is_proxy(name))?;
        Some(format!("{name}={}\n", value.to_string_lossy()))
    });
    let mut variables: Vec<String> = variables.collect();
    order::ascending(&mut variables);
    variables.concat()
}

/// What our own environment holds must not be seen.
pub fn learn_environment(redactor: &mut Redactor) {
    redactor.learn_from(&proxies(), true);
    for (name, value) in std::env::vars_os() {
        if is_secret_name(&name.to_string_lossy()) {
            redactor.learn(&value.to_string_lossy());
        }
    }
}

/// Names by which this host is known.
pub fn names(host: &Host) -> Vec<String> {
    let mut names = vec![host.os.hostname.clone()];
    let hosts = std::fs::read_to_string(host.layout.path("/etc/hosts")).unwrap_or_default();
    for line in hosts.lines().filter(|l| !l.trim_start().starts_with('#')) {
        names.extend(line.split_whitespace().skip(1).map(str::to_owned));
    }
    let resolver =
        std::fs::read_to_string(host.layout.path("/etc/resolv.conf")).unwrap_or_default();
    for line in resolver.lines() {
        let mut words = line.split_whitespace();
        if matches!(words.next(), Some("search" | "domain")) {
            names.extend(words.map(str::to_owned));
        }
    }
    names.retain(|name| !name.starts_with("ip6-") && !name.contains("localhost"));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_units_variables_are_masked() {
        let mut redactor = Redactor::default();
        let text = "[Service]\nEnvironment=A=Winter31! \"B=two words\" HTTPS_PROXY=http://h:1 LANG=C\n\
                    Environment=\"DB_PASSWORD=plain\nSetCredential=x:value\nExecStart=/bin/x A=b\n";
        let shown = environment(text, &mut redactor);
        assert_eq!(
            shown,
            "[Service]\nEnvironment=A=[redacted] B=[redacted] HTTPS_PROXY=http://h:1 LANG=C\n\
             Environment=DB_PASSWORD=[redacted]\nSetCredential=x:[redacted]\nExecStart=/bin/x A=b\n"
        );
        for learned in ["Winter31!", "plain", "value"] {
            assert!(redactor.holds(learned), "{learned}");
        }
        assert!(!redactor.holds("two words"));
    }
}
