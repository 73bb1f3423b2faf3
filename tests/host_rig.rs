//! The host room on real systems: useradd, visudo, sudo, systemd, rsyslog, syslog-ng, logrotate
//! and dpkg in throw-away roots (tests/rig). Where the rig cannot work the tests say so loudly
//! and pass - except under CI, where they fail.

#![allow(clippy::unwrap_used)] // the lint exempts test functions, not what they share

use std::path::PathBuf;
use std::process::{Command, Output};

const ONE: &str = "11111111-1111-1111-1111-111111111111";
const TWO: &str = "22222222-2222-2222-2222-222222222222";
const PROBE: &str = "/mnt/probe/host_probe";
const UNIT: &str = "omsagent-11111111-1111-1111-1111-111111111111.service";

/// A booted throw-away system; gone when dropped.
struct Instance {
    name: String,
}

impl Instance {
    /// `None`: the rig does not work here, and that has been said.
    fn up(root: &str, purpose: &str) -> Option<Instance> {
        if let Err(reason) = rig_works() {
            let ci = std::env::var("CI").is_ok_and(|v| v == "true");
            assert!(!ci, "the rig must work under CI: {reason}");
            eprintln!("\n*** SKIPPED (rig): {reason} ***\n");
            return None;
        }
        let instance = Instance {
            name: format!("host-{purpose}-{}", std::process::id()),
        };
        let probe = probe();
        let bind = format!("{}:/mnt/probe", probe.parent().unwrap().display());
        let args = ["--boot", "--bind-ro", &bind, root, &instance.name];
        let up = Command::new(rig("up")).args(args).output().unwrap();
        assert!(up.status.success(), "rig/up {root}: {}", said(&up));
        Some(instance)
    }

    /// Status and output of a shell line inside.
    fn sh(&self, line: &str) -> (i32, String) {
        let output = Command::new(rig("exec"))
            .args([&self.name, "--", "/bin/sh", "-c", line])
            .output()
            .unwrap();
        (output.status.code().unwrap_or(-1), said(&output))
    }

    /// A shell line that must succeed; its output.
    fn ok(&self, line: &str) -> String {
        let (code, said) = self.sh(line);
        assert_eq!(code, 0, "{}: `{line}` says: {said}", self.name);
        said
    }

    /// The probe with these words; its output. It must succeed.
    fn probe(&self, words: &str) -> String {
        self.ok(&format!("{PROBE} {words}")).trim().to_owned()
    }

    /// The probe must fail; what it says.
    fn refused(&self, words: &str) -> String {
        let (code, said) = self.sh(&format!("{PROBE} {words}"));
        assert_eq!(code, 1, "{}: `{words}` says: {said}", self.name);
        said.trim().to_owned()
    }

    /// What must be as before when everything is taken away again.
    fn state(&self) -> String {
        self.ok(
            "cd /etc && sha256sum passwd group shadow gshadow sudoers; \
             cat subuid subgid 2>/dev/null; \
             find sudoers.d rsyslog.conf rsyslog.d syslog-ng logrotate.d systemd \
                  /usr/lib/systemd/system /opt /var/opt \\( -type d -printf '%p %m %u %g\n' -o -printf '%p %m %u %g %s %l\n' \\) 2>/dev/null | \
             LC_ALL=C sort",
        )
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = Command::new(rig("down"))
            .args(["--now", &self.name])
            .output();
    }
}

fn rig(tool: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/rig")
        .join(tool)
}

/// Built by cargo beside the tests.
fn probe() -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    let target = deps.parent().and_then(|d| d.parent()).unwrap();
    target.join("examples/host_probe")
}

fn rig_works() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("not root".to_owned());
    }
    if !probe().exists() {
        return Err("the example host_probe is not built (cargo build --examples)".to_owned());
    }
    let output = Command::new(rig("probe")).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(said(&output)),
        Err(error) => Err(error.to_string()),
    }
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// The whole footprint: put in, asked again, taken away; afterwards the system is as before.
fn whole_story(root: &str, purpose: &str, detected: &str, own_file: &str) {
    let Some(host) = Instance::up(root, purpose) else {
        return;
    };
    let found = host.probe("detect");
    assert!(found.contains(detected), "{root}: {found}");
    let before = host.state();

    accounts(&host);
    sudo_rules(&host);
    agent_and_syslog(&host, own_file);
    rotation(&host);

    assert_eq!(host.probe("syslog purge"), "Made");
    assert_eq!(host.probe("syslog purge"), "AlreadyThere");
    assert_eq!(host.probe("syslog restart"), "Made");
    assert_eq!(host.probe(&format!("unit remove {ONE}")), "Made");
    assert_eq!(host.probe(&format!("unit remove {ONE}")), "AlreadyThere");
    assert_eq!(host.probe(&format!("logrotate remove {ONE}")), "Made");
    assert_eq!(host.probe("sudoers remove"), "Made");
    assert_eq!(host.probe("sudoers remove"), "AlreadyThere");
    // userdel takes the group of the same name along.
    assert!(host.probe("accounts remove").starts_with("Made "));
    assert_eq!(
        host.probe("accounts remove"),
        "AlreadyThere AlreadyThere AlreadyThere"
    );
    host.ok(
        "rm -rf /opt/microsoft /var/opt/microsoft /etc/opt/microsoft /tmp/omsagent-*; \
             rmdir /etc/opt 2>/dev/null || true",
    );
    assert_same(&before, &host.state(), root);
    let loaded = host.ok("systemctl list-units --all --plain --no-legend 'omsagent*'");
    assert_eq!(loaded.trim(), "", "systemd has forgotten the unit");
}

/// Line by line, so that a failure shows what differs and no more.
fn assert_same(before: &str, after: &str, root: &str) {
    let missing = before.lines().filter(|l| !after.lines().any(|a| a == *l));
    let new = after.lines().filter(|l| !before.lines().any(|b| b == *l));
    let differs: Vec<String> = missing
        .map(|l| format!("- {l}"))
        .chain(new.map(|l| format!("+ {l}")))
        .collect();
    assert!(
        differs.is_empty(),
        "{root} is not as before:\n{}",
        differs.join("\n")
    );
}

fn accounts(host: &Instance) {
    assert_eq!(host.probe("accounts make"), "Made Made Made");
    let again = host.probe("accounts make");
    assert_eq!(again, "AlreadyThere AlreadyThere AlreadyThere");
    let line = host.ok("getent passwd omsagent");
    let fields: Vec<&str> = line.trim().split(':').collect();
    assert_eq!(fields[4], "OMS agent");
    assert_eq!(fields[5], "/var/opt/microsoft/omsagent/run");
    assert_eq!(fields[6], "/usr/sbin/nologin");
    assert!(fields[2].parse::<u32>().unwrap() < 1000, "a system account");
    assert_eq!(host.ok("id -gn omsagent").trim(), "omiusers");
    assert_eq!(host.ok("id -Gn omsagent").trim(), "omiusers omsagent");
    host.ok("test ! -e /var/opt/microsoft && test ! -e /var/mail/omsagent");
    let shadow = host.ok("getent shadow omsagent");
    assert!(shadow.starts_with("omsagent:!"), "no password: {shadow}");
}

fn sudo_rules(host: &Instance) {
    // Root-owned stand-ins for the two programs the rules name.
    host.ok(
        "mkdir -p /opt/microsoft/omsagent/bin && cd /opt/microsoft/omsagent/bin && \
         for f in configure_syslog.sh service_control; do \
         printf '#!/bin/sh\\necho \"$(id -un) $0 $*\"\\n' >$f; chmod 755 $f; done",
    );
    let placed = host.probe("sudoers install");
    assert!(
        placed.contains("DropIn(\"/etc/sudoers.d/omsagent\")"),
        "{placed}"
    );
    assert!(placed.contains("Made"));
    assert!(host.probe("sudoers install").contains("AlreadyThere"));
    assert_eq!(
        host.ok("stat -c '%a %U:%G' /etc/sudoers.d/omsagent").trim(),
        "440 root:root"
    );
    host.ok("visudo -c");
    let bin = "/opt/microsoft/omsagent/bin";
    let sudo = |words: &str| {
        host.sh(&format!(
            "setpriv --reuid omsagent --regid omiusers --init-groups sudo -n {words}"
        ))
    };
    let allowed = [
        format!("{bin}/configure_syslog.sh restart"),
        format!("{bin}/service_control restart"),
        format!("{bin}/service_control restart {ONE}"),
        format!("{bin}/service_control restart aaaaaaaa-BBBB-0000-9999-FFFFFFFFFFFF"),
    ];
    for words in &allowed {
        let (code, said) = sudo(words);
        assert_eq!(code, 0, "{words}: {said}");
        assert!(said.contains(&format!("root {words}")), "{words}: {said}");
    }
    for words in [
        "/bin/true".to_owned(),
        format!("-u nobody {bin}/service_control restart"),
        format!("{bin}/service_control stop"),
        format!("{bin}/service_control"),
        format!("{bin}/service_control restart {ONE} x"),
        format!("{bin}/service_control restart '{ONE} x'"),
        format!("{bin}/service_control restart {ONE}0"),
        format!("{bin}/service_control restart ../../../x-1111-1111-1111-111111111111"),
        format!("{bin}/service_control restart gggggggg-1111-1111-1111-111111111111"),
        format!("{bin}/configure_syslog.sh purge"),
        format!("{bin}/configure_syslog.sh restart x"),
    ] {
        let (code, said) = sudo(&words);
        assert_ne!(code, 0, "{words} must not be allowed: {said}");
        assert!(!said.contains("root /"), "{words} ran: {said}");
    }
    // What visudo refuses is not put in place.
    let sum = host.ok("sha256sum /etc/sudoers.d/omsagent /etc/sudoers");
    let refused = host.refused("sudoers install 'omsagent ALL = ('");
    assert!(refused.contains("visudo"), "{refused}");
    assert_eq!(
        host.ok("sha256sum /etc/sudoers.d/omsagent /etc/sudoers"),
        sum
    );
    assert_eq!(
        host.ok("ls -A /etc/sudoers.d /etc | grep omsagent").trim(),
        "omsagent"
    );
}

fn agent_and_syslog(host: &Instance, own_file: &str) {
    host.ok(&format!(
        "cp {PROBE} /opt/microsoft/omsagent/bin/omsagent; \
         d=/var/opt/microsoft/omsagent/{ONE}; \
         for f in '' /run /log /state /tmp; do install -d -m 750 -o omsagent -g omiusers $d$f; done; \
         install -d -m 750 -o omsagent -g omiusers /etc/opt/microsoft/omsagent/{ONE}"
    ));
    assert_eq!(host.probe(&format!("unit install {ONE}")), "Made Made");
    assert_eq!(
        host.probe(&format!("unit install {ONE}")),
        "AlreadyThere AlreadyThere"
    );
    let verify = host.ok(&format!(
        "systemd-analyze verify {UNIT} 2>&1 | grep -F {UNIT} || true"
    ));
    assert_eq!(
        verify.trim(),
        "",
        "systemd has something to say of the unit"
    );
    assert_eq!(host.probe(&format!("unit start {ONE}")), "Made");
    assert_eq!(host.probe(&format!("unit start {ONE}")), "AlreadyThere");
    assert_eq!(
        host.probe(&format!("unit look {ONE}")),
        "active=true enabled=true pid=true"
    );
    let log = format!("/var/opt/microsoft/omsagent/{ONE}/log/omsagent.log");
    let said = host.ok(&format!("cat {log}"));
    for line in ["/etc/x", "/usr/x", "/var/x", "/home/x"] {
        assert!(said.contains(&format!("write {line}: false")), "{said}");
    }
    assert!(said.contains("sudo: false"), "no new privileges: {said}");
    host.ok("test ! -e /tmp/omsagent-sandbox");
    let exposure = host.ok(&format!(
        "systemd-analyze security --no-pager {UNIT} | tail -n 1"
    ));
    eprintln!("{}: {}", host.name, exposure.trim());

    assert_eq!(host.probe(&format!("syslog configure {ONE} 25224")), "Made");
    assert_eq!(
        host.probe(&format!("syslog configure {ONE} 25224")),
        "AlreadyThere"
    );
    assert_eq!(
        host.ok(&format!("stat -c '%a %U:%G' {own_file}")).trim(),
        "644 root:root"
    );
    assert_eq!(host.probe("syslog restart"), "Made");
    host.ok(
        "logger -p auth.warning -t rigtest arrives-1; logger -p local7.err -t rigtest arrives-2; \
         logger -p auth.info -t rigtest too-mild; logger -p mail.err -t rigtest not-asked-for",
    );
    let wait = format!(
        "for i in $(seq 100); do grep -q arrives-1 {log} && grep -q arrives-2 {log} && break; \
         sleep 0.1; done; cat {log}"
    );
    let got = host.ok(&wait);
    assert!(got.contains("<36>"), "auth.warning is 4*8+4: {got}");
    assert!(
        got.contains("arrives-1") && got.contains("arrives-2"),
        "{got}"
    );
    assert!(
        !got.contains("too-mild") && !got.contains("not-asked-for"),
        "{got}"
    );

    // A second workspace, then a mistake of somebody else: nothing of ours may change.
    assert_eq!(host.probe(&format!("syslog configure {TWO} 25225")), "Made");
    let mine = host.ok(&format!("cat {own_file}"));
    let broken = PathBuf::from(own_file).with_file_name("10-broken.conf");
    let broken = broken.display();
    host.ok(&format!("echo 'if nonsense then (' >{broken}"));
    let refused = host.refused(&format!("syslog configure {ONE} 25999"));
    assert!(refused.contains("was invalid before"), "{refused}");
    assert!(
        refused.contains("10-broken.conf"),
        "it says where: {refused}"
    );
    assert_eq!(host.ok(&format!("cat {own_file}")), mine);
    host.ok(&format!("rm {broken}"));
    assert_eq!(
        host.probe(&format!("syslog unconfigure {TWO} 25225")),
        "Made"
    );

    let pid = host.ok(&format!("systemctl show --property MainPID {UNIT}"));
    assert_eq!(host.probe(&format!("unit restart {ONE}")), "Made");
    assert_ne!(
        host.ok(&format!("systemctl show --property MainPID {UNIT}")),
        pid
    );
}

fn rotation(host: &Instance) {
    let dir = format!("/var/opt/microsoft/omsagent/{ONE}/log");
    assert_eq!(host.probe(&format!("logrotate install {ONE}")), "Made");
    assert_eq!(
        host.probe(&format!("logrotate install {ONE}")),
        "AlreadyThere"
    );
    let file = format!("/etc/logrotate.d/omsagent-{ONE}");
    let dry = host.ok(&format!(
        "touch /tmp/omsagent-state; logrotate -d -s /tmp/omsagent-state {file} 2>&1"
    ));
    assert!(!dry.contains("error:"), "{dry}");
    host.ok(&format!("truncate -s 101M {dir}/omsagent.log"));
    host.ok(&format!("logrotate -s /tmp/omsagent-state {file}"));
    let files = host.ok(&format!("stat -c '%n %U' {dir}/* | sed 's,.*/,,'"));
    assert_eq!(files, "omsagent.log omsagent\nomsagent.log.1.gz omsagent\n");
}

#[test]
fn bookworm() {
    whole_story(
        "bookworm",
        "bookworm",
        "Some(Dpkg) Systemd Some(Rsyslog",
        "/etc/rsyslog.d/95-omsagent.conf",
    );
}

#[test]
fn bookworm_with_syslog_ng() {
    whole_story(
        "bookworm+syslog-ng",
        "ng",
        "Some(Dpkg) Systemd Some(SyslogNg)",
        "/etc/syslog-ng/conf.d/95-omsagent.conf",
    );
}

#[test]
fn trixie() {
    whole_story(
        "trixie",
        "trixie",
        "Some(Dpkg) Systemd Some(Rsyslog",
        "/etc/rsyslog.d/95-omsagent.conf",
    );
}

#[test]
fn rhel9() {
    whole_story(
        "rhel9",
        "rhel9",
        "Some(Rpm) Systemd Some(Rsyslog",
        "/etc/rsyslog.d/95-omsagent.conf",
    );
}

/// sudo without drop-ins: the block comes, works and goes; a broken sudoers is not made ours.
#[test]
fn sudoers_block() {
    let Some(host) = Instance::up("bookworm", "block") else {
        return;
    };
    assert_eq!(host.probe("accounts make"), "Made Made Made");
    host.ok("sed -i '/^@includedir/d' /etc/sudoers && visudo -c");
    let before = host.ok("sha256sum /etc/sudoers; stat -c '%a %U %G' /etc/sudoers");
    let placed = host.probe("sudoers install");
    assert!(placed.contains("Block(\"/etc/sudoers\")"), "{placed}");
    assert!(host.probe("sudoers install").contains("AlreadyThere"));
    host.ok("visudo -c");
    let listed = host.ok("sudo -l -U omsagent");
    assert!(
        listed.contains("NOPASSWD: /opt/microsoft/omsagent/bin/"),
        "{listed}"
    );
    host.refused("sudoers install 'omsagent ALL = ('");
    host.ok("visudo -c");
    assert_eq!(host.probe("sudoers remove"), "Made");
    assert_eq!(
        host.ok("sha256sum /etc/sudoers; stat -c '%a %U %G' /etc/sudoers"),
        before
    );
    host.ok("ls -A /etc | grep -c 'sudoers' | grep -qx 2");

    // Somebody else's mistake: refused, told apart, and not touched.
    host.ok("echo 'nonsense (' >>/etc/sudoers");
    let broken = host.ok("sha256sum /etc/sudoers");
    let refused = host.refused("sudoers install");
    assert!(refused.contains("invalid before"), "{refused}");
    assert_eq!(host.ok("sha256sum /etc/sudoers"), broken);
}

/// The package database is asked and changed by the real dpkg; a held lock is recognised.
#[test]
fn packages() {
    let Some(host) = Instance::up("bookworm", "packages") else {
        return;
    };
    assert_eq!(host.probe("package version no-such-package"), "None");
    assert!(
        host.probe("package version dpkg")
            .starts_with("Some(\"1.21")
    );
    host.ok(
        "mkdir -p /tmp/p/DEBIAN /tmp/p/etc && echo c >/tmp/p/etc/rigtest.conf && \
         printf '/etc/rigtest.conf\\n' >/tmp/p/DEBIAN/conffiles && \
         printf 'Package: rigtest\\nVersion: 2\\nArchitecture: all\\nMaintainer: x <x@y>\\n\
Description: x\\n' >/tmp/p/DEBIAN/control && dpkg-deb -b /tmp/p /tmp/two.deb && \
         sed -i 's/^Version: 2/Version: 1/' /tmp/p/DEBIAN/control && dpkg-deb -b /tmp/p /tmp/one.deb",
    );
    let install = host.probe("package install /tmp/two.deb");
    assert_eq!(install, "code=0 locked=false streamed=true");
    assert_eq!(host.probe("package version rigtest"), "Some(\"2\")");
    // dpkg says so and leaves the newer one; its status is 0.
    host.probe("package install /tmp/one.deb");
    assert_eq!(host.probe("package version rigtest"), "Some(\"2\")");
    let remove = host.probe("package remove rigtest");
    assert!(remove.starts_with("code=0"), "{remove}");
    assert_eq!(host.probe("package version rigtest"), "None");
    host.ok("test -e /etc/rigtest.conf");
    assert!(host.probe("package purge rigtest").starts_with("code=0"));
    host.ok("test ! -e /etc/rigtest.conf");
    // flock(1) takes another kind of lock than dpkg's: a paused dpkg holds the real one.
    let locked = host.ok(&format!(
        "printf '#!/bin/sh\\nsleep 20\\n' >/tmp/p/DEBIAN/preinst; chmod 755 /tmp/p/DEBIAN/preinst; \
         dpkg-deb -b /tmp/p /tmp/slow.deb >/dev/null; \
         dpkg -i /tmp/slow.deb >/dev/null 2>&1 & sleep 1; {PROBE} package install /tmp/two.deb; \
         kill $!"
    ));
    assert!(locked.contains("code=2 locked=true"), "{locked}");
}
