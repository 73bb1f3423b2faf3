//! The host room by hand: one call a run, what it found and changed on standard output. Used by
//! `tests/host_rig.rs` inside throw-away systems; never shipped.
//!
//! `host_probe run ...` stands in for the agent under its unit: it says it is ready, notes what
//! it may write, and keeps every datagram that reaches its syslog port.

use anyhow::{Context, Result, bail};
use omsagent::base::ids::WorkspaceName;
use omsagent::host::layout::Layout;
use omsagent::host::{Host, accounts, logrotate, packages, services, sudoers, syslog, unit};
use omsagent::{err, out};
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = if words.first() == Some(&"run") {
        stand_in(&words)
    } else {
        call(&words)
    };
    match result {
        Ok(said) => {
            out!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            err!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn call(words: &[&str]) -> Result<String> {
    let host = Host::detect(Layout::new("/"));
    let id = |text: &str| text.parse::<WorkspaceName>();
    let said = match words {
        ["detect"] => {
            return Ok(format!(
                "{:?} {:?} {:?} {} {} {}",
                host.packages, host.services, host.syslog, host.os.id, host.os.hostname, host.arch
            ));
        }
        ["accounts", "make"] => [
            accounts::ensure_group(&host, accounts::OMSAGENT)?,
            accounts::ensure_group(&host, accounts::OMIUSERS)?,
            accounts::ensure_user(&host, &accounts::UserSpec::OMSAGENT)?,
        ]
        .map(|c| format!("{c:?}"))
        .join(" "),
        ["accounts", "remove"] => [
            accounts::remove_user(&host, accounts::OMSAGENT)?,
            accounts::remove_group(&host, accounts::OMSAGENT)?,
            accounts::remove_group(&host, accounts::OMIUSERS)?,
        ]
        .map(|c| format!("{c:?}"))
        .join(" "),
        ["sudoers", "install"] => format!("{:?}", sudoers::install(&host, &sudoers::rules())?),
        ["sudoers", "install", text] => format!("{:?}", sudoers::install(&host, text)?),
        ["sudoers", "remove"] => format!("{:?}", sudoers::remove(&host)?),
        ["unit", what, ws] => {
            let ws = id(ws)?;
            let name = unit::name(&ws);
            match *what {
                "install" => format!(
                    "{:?} {:?}",
                    services::install_unit(&host, &name, &unit::text(&ws))?,
                    services::enable(&host, &name)?
                ),
                "start" => format!("{:?}", services::start(&host, &name)?),
                "stop" => format!("{:?}", services::stop(&host, &name)?),
                "restart" => format!("{:?}", services::restart(&host, &name)?),
                "remove" => format!("{:?}", services::remove_unit(&host, &name)?),
                "look" => format!(
                    "active={} enabled={} pid={}",
                    services::is_active(&host, &name)?,
                    services::is_enabled(&host, &name)?,
                    services::main_pid(&host, &name)?.is_some()
                ),
                _ => bail!("unit {what}?"),
            }
        }
        ["syslog", "configure", ws, port] => {
            let selection = syslog::Selection::default();
            let change = syslog::configure(&host, &id(ws)?, port.parse()?, &selection)?;
            format!("{change:?}")
        }
        ["syslog", "unconfigure", ws, port] => {
            format!(
                "{:?}",
                syslog::unconfigure(&host, &id(ws)?, Some(port.parse()?))?
            )
        }
        ["syslog", "purge"] => format!("{:?}", syslog::purge(&host)?),
        ["syslog", "restart"] => format!("{:?}", services::restart_syslog(&host)?),
        ["logrotate", "install", ws] => format!("{:?}", logrotate::install(&host, &id(ws)?)?),
        ["logrotate", "remove", ws] => format!("{:?}", logrotate::remove(&host, &id(ws)?)?),
        ["package", "version", name] => format!("{:?}", packages::installed_version(&host, name)?),
        ["package", what, argument] => {
            let manager = host.packages.context("no package manager")?;
            let mut said = Vec::new();
            let mut keep = |piece: &[u8]| said.extend_from_slice(piece);
            let how = packages::How {
                kind: packages::Kind::Add,
                force: false,
                no_digest: false,
            };
            let outcome = match *what {
                "install" => manager.install(argument.as_ref(), how, &mut keep)?,
                "remove" | "purge" => {
                    let leaving = match *what {
                        "purge" => packages::Leaving::Purge,
                        _ => packages::Leaving::Remove,
                    };
                    let known = manager.known(argument)?;
                    manager.take_away(argument, known, leaving, &mut keep)?
                }
                _ => bail!("package {what}?"),
            };
            format!(
                "code={} locked={} streamed={}",
                outcome.code,
                packages::lock_held(&outcome),
                said.len() == outcome.output.len()
            )
        }
        _ => bail!("host_probe: what is `{}`?", words.join(" ")),
    };
    Ok(said)
}

/// `run -d PID -o LOG -c CONF --no-supervisor`.
fn stand_in(words: &[&str]) -> Result<String> {
    use std::io::Write;
    let after = |flag: &str| {
        let at = words.iter().position(|w| *w == flag);
        at.and_then(|at| words.get(at + 1)).context("flag missing")
    };
    std::fs::write(after("-d")?, std::process::id().to_string())?;
    let mut log = std::fs::File::create(after("-o")?)?;
    let socket = std::net::UdpSocket::bind("127.0.0.1:25224")?;
    for path in [
        "/etc/x",
        "/usr/x",
        "/var/x",
        "/tmp/omsagent-sandbox",
        "/home/x",
    ] {
        let may = std::fs::write(path, "x").is_ok();
        writeln!(log, "write {path}: {may}")?;
    }
    let sudo = std::process::Command::new("sudo")
        .args(["-n", "true"])
        .status();
    writeln!(log, "sudo: {}", sudo.is_ok_and(|s| s.success()))?;
    if let Some(notify) = std::env::var_os("NOTIFY_SOCKET") {
        let ready = std::os::unix::net::UnixDatagram::unbound()?;
        ready.send_to(b"READY=1\n", &notify)?;
    }
    let mut datagram = [0u8; 4096];
    loop {
        let size = socket.recv(&mut datagram)?;
        log.write_all(&datagram[..size])?;
        log.write_all(b"\n")?;
    }
}
