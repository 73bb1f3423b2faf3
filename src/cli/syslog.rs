//! `configure_syslog.sh`: the forwarding stanza of the host's syslog daemon (bundle.md 1.8).

use crate::base::ids::WorkspaceName;
use crate::base::secret::shown_word;
use crate::cli::grammar::{Grammar, Section};
use crate::cli::report::Console;
use crate::host::layout::Layout;
use crate::host::services::{self, ServiceError};
use crate::host::syslog::{self, Selection, SyslogDaemon, Transport};
use crate::host::{Change, Host, unit};
use crate::install::recovery::{self, Purpose};
use crate::workspace::{self, forwarding, port, socket};
use crate::{err, out};
use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsString;

/// Its command line as a table (bundle.md 1.8). There is no word for help: automation knows that
/// every other word is refused with 1.
pub const GRAMMAR: Grammar = Grammar {
    name: "configure_syslog.sh",
    about: "The forwarding stanza of the syslog daemon",
    synopsis: &[
        "configure_syslog.sh configure|unconfigure WORKSPACE PORT",
        "configure_syslog.sh select WORKSPACE [SELECTION|default]",
        "configure_syslog.sh transport udp|tcp|unix WORKSPACE [PORT]",
        "configure_syslog.sh purge|restart",
    ],
    sections: &[Section {
        title: "Words",
        rows: &[
            (
                "configure WORKSPACE PORT",
                "Let the syslog daemon of this host forward to this port of the workspace's agent",
            ),
            (
                "unconfigure WORKSPACE PORT",
                "Take the workspace's stanza out again",
            ),
            (
                "select WORKSPACE [SELECTION]",
                "Which messages the workspace gets from now on, for example `auth,authpriv.warning`; `default` for what it gets without a choice; nothing to show which it is",
            ),
            (
                "transport HOW WORKSPACE [PORT]",
                "How the syslog daemon hands them over from now on: `udp`, `tcp` or `unix`, a socket in the file system",
            ),
            ("purge", "Take every stanza of ours out"),
            ("restart", "Restart the syslog daemon"),
        ],
    }],
};

/// Runs configure_syslog.sh with the words after its name.
pub fn run(words: &[OsString]) -> u8 {
    let words: Vec<String> = words
        .iter()
        .map(|w| w.to_string_lossy().into_owned())
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let host = Host::detect(Layout::new("/"));
    let (doing, job): (&str, Job) = match words.as_slice() {
        ["configure", rest @ ..] => ("process", Box::new(move |h, d| configure(h, d, rest))),
        ["unconfigure", rest @ ..] => {
            ("unconfigure", Box::new(move |h, d| unconfigure(h, d, rest)))
        }
        ["select", rest @ ..] => ("select", Box::new(move |h, d| select(h, d, rest))),
        ["transport", rest @ ..] => ("transport", Box::new(move |h, d| transport(h, d, rest))),
        ["purge", ..] => ("purge", Box::new(purge)),
        ["restart", ..] => ("restart", Box::new(restart)),
        other => {
            err!(
                "Unknown parameter : {}",
                shown_word(other.first().copied().unwrap_or_default())
            );
            return 1;
        }
    };
    // What is missing is said first, as ever.
    if let ["configure" | "unconfigure", rest @ ..] = words.as_slice()
        && let Err(e) = workspace_and_port(&host.layout, rest)
    {
        err!("{e:#}");
        return 1;
    }
    let Some(daemon) = &host.syslog else {
        out!("{}", no_daemon(doing));
        return 1;
    };
    let done = match doing {
        "restart" => job(&host, daemon),
        _ => recovery::enter(&host, Purpose::Change, &mut Console)
            .and_then(|_lock| job(&host, daemon)),
    };
    match done {
        Ok(()) => 0,
        Err(e) => {
            err!("{e:#}");
            1
        }
    }
}

type Job<'a> = Box<dyn Fn(&Host, &SyslogDaemon) -> Result<()> + 'a>;

fn no_daemon(doing: &str) -> String {
    let found = "No supported syslog daemon found";
    match doing {
        "process" => format!("{found}. Syslog messages will not be processed."),
        other => format!("{found}; unable to {other} syslog monitoring."),
    }
}

fn workspace_and_port(layout: &Layout, words: &[&str]) -> Result<(WorkspaceName, u16)> {
    let given = |n: usize| words.get(n).filter(|word| !word.is_empty());
    let (Some(id), Some(port)) = (given(0), given(1)) else {
        bail!("WORKSPACE_ID and SYSLOG_PORT are required");
    };
    let number: u16 = port
        .parse()
        .with_context(|| format!("`{}` is not a port", shown_word(port)))?;
    ensure!(number != 0, "0 is not a port");
    Ok((workspace::typed(layout, id)?, number))
}

fn configure(host: &Host, daemon: &SyslogDaemon, words: &[&str]) -> Result<()> {
    let (id, port) = workspace_and_port(&host.layout, words)?;
    out!("Configuring {} for OMS logging", daemon.name());
    // Asked for by name, a workspace that was taken out is forwarded to again.
    let mut selection = forwarding::selection(&host.layout, &id)?;
    if id.id().is_some() && selection.is_none() {
        forwarding::choose(&host.layout, &id, None)?;
        selection = Selection::default();
    }
    if selection.transport == Transport::Unix && socket::open(&host.layout, &id)?.made() {
        restart_agent(host, &id);
    }
    // Rules that somebody wrote stay; `select` replaces them.
    if syslog::configure_keeping(host, &id, port, &selection)?.made() {
        reread(host, daemon)?;
    }
    warn_of_doubles(host, port);
    Ok(())
}

/// Says which rules of others send the same messages once more.
pub fn warn_of_doubles(host: &Host, port: u16) {
    for double in syslog::forwarded_by_others(host, port) {
        err!(
            "warning\t{double} forwards to port {port} as well: messages will arrive twice; take one of the rules out"
        );
    }
}

/// `select WS auth,authpriv.warning`: what the workspace gets from now on; `default` for what it
/// gets without a choice. Without one: which it is.
fn select(host: &Host, daemon: &SyslogDaemon, words: &[&str]) -> Result<()> {
    let (id, text) = match words {
        [id] => (id, None),
        [id, text] => (id, Some((*text).to_owned())),
        [id, text, how] => (id, Some(format!("{text} {how}"))),
        _ => bail!(
            "select needs a workspace id, then for example `auth,authpriv.warning`, or `default`"
        ),
    };
    let id = workspace::typed(&host.layout, id)?;
    let Some(text) = text else {
        let selection = forwarding::selection(&host.layout, &id)?;
        match port::configured(&host.layout, &id) {
            Some(port) if !syslog::are_ours(host, &id, port, &selection)? => {
                out!("rules of its own, in {}'s configuration", daemon.name());
            }
            _ => out!("{selection}"),
        }
        return Ok(());
    };
    let chosen = match text.as_str() {
        "default" => None,
        text => {
            let mut chosen: Selection = text.parse()?;
            // Another choice of messages is no other way for them.
            if Selection::named_transport(text).is_none() && !chosen.facilities.is_empty() {
                let present = forwarding::selection(&host.layout, &id);
                chosen.transport = present.map_or(Transport::Udp, |s| s.transport);
            }
            Some(chosen)
        }
    };
    apply(host, daemon, &id, None, chosen)
}

/// `transport udp|tcp|unix WS [PORT]`: how the daemon hands the workspace's messages over from now on.
fn transport(host: &Host, daemon: &SyslogDaemon, words: &[&str]) -> Result<()> {
    let (how, id, port) = match words {
        [how, id] => (how, workspace::typed(&host.layout, id)?, None),
        [how, rest @ ..] => {
            let (id, port) = workspace_and_port(&host.layout, rest)?;
            (how, id, Some(port))
        }
        [] => bail!("transport needs `udp`, `tcp` or `unix`, then a workspace id"),
    };
    let mut selection = forwarding::selection(&host.layout, &id)?;
    selection.transport = how.parse()?;
    ensure!(
        !selection.facilities.is_empty(),
        "nothing is forwarded to workspace {id}: choose messages first, with select"
    );
    let there = port.or_else(|| port::configured(&host.layout, &id));
    ensure!(
        syslog::are_ours(host, &id, there.unwrap_or(port::FIRST), &selection)?,
        "somebody changed the rules of workspace {id}, and they stay as they are; \
         `configure_syslog.sh select {id} {}` puts ours in their place",
        selection
    );
    // The default is kept as what it is.
    let chosen = Some(selection).filter(|s| *s != Selection::default());
    apply(host, daemon, &id, port, chosen)
}

/// Forwards what is chosen, `None`: the default, and remembers it.
fn apply(
    host: &Host,
    daemon: &SyslogDaemon,
    id: &WorkspaceName,
    port: Option<u16>,
    chosen: Option<Selection>,
) -> Result<()> {
    ensure!(
        id.id().is_some() && host.layout.workspace(id).conf().is_dir(),
        "workspace {id} does not exist on this host; `omsadmin.sh -l` lists them"
    );
    let port = port
        .or_else(|| port::configured(&host.layout, id))
        .context("the workspace has no port in its syslog.conf")?;
    let selection = chosen.clone().unwrap_or_default();
    let by_socket = selection.transport == Transport::Unix;
    // The socket first: what is sent to one that is not there waits at best.
    let agent = match by_socket {
        true => socket::open(&host.layout, id)?,
        false => Change::AlreadyThere,
    };
    if agent.made() {
        restart_agent(host, id);
    }
    let changed = match syslog::configure(host, id, port, &selection) {
        Err(error) if agent.made() => {
            let _ = socket::close(&host.layout, id)?;
            restart_agent(host, id);
            return Err(error.into());
        }
        changed => changed?,
    };
    forwarding::choose(&host.layout, id, chosen.as_ref())?;
    out!("Forwarding {selection} to workspace {id}");
    if changed.made() {
        reread(host, daemon)?;
    }
    if !by_socket && socket::close(&host.layout, id).is_ok_and(Change::made) {
        restart_agent(host, id);
    }
    Ok(())
}

/// omsagent.conf and its fragments are read at the start.
fn restart_agent(host: &Host, id: &WorkspaceName) {
    if !workspace::is_active(host, id) {
        return;
    }
    if let Err(error) = services::restart(host, &unit::name(id)) {
        err!("warning\tthe agent of {id} listens as before until it is started again: {error}");
    }
}

fn unconfigure(host: &Host, daemon: &SyslogDaemon, words: &[&str]) -> Result<()> {
    let (id, port) = workspace_and_port(&host.layout, words)?;
    out!("Unconfiguring {} for OMS logging", daemon.name());
    let port = port::to_give_up(&host.layout, &id, Some(port));
    stays_out(host, &id)?;
    if syslog::unconfigure(host, &id, port)?.made() {
        reread(host, daemon)?;
    }
    Ok(())
}

/// Until `configure` or `select`: the next upgrade does not put back what was taken out.
fn stays_out(host: &Host, id: &WorkspaceName) -> Result<()> {
    if id.id().is_none() || !host.layout.workspace(id).conf().is_dir() {
        return Ok(());
    }
    forwarding::choose(&host.layout, id, Some(&Selection::none()))
}

fn purge(host: &Host, daemon: &SyslogDaemon) -> Result<()> {
    out!("Purging {} of OMS logging", daemon.name());
    for id in workspace::all(&host.layout) {
        stays_out(host, &id)?;
    }
    if syslog::purge(host)?.made() {
        reread(host, daemon)?;
    }
    Ok(())
}

/// After a change that is made: that nobody here can restart the daemon does not unmake it.
fn reread(host: &Host, daemon: &SyslogDaemon) -> Result<()> {
    let done = restart(host, daemon);
    match done.as_ref().map_err(|e| e.downcast_ref::<ServiceError>()) {
        Err(Some(e @ ServiceError::NoSyslogRestart(_))) => {
            err!("warning\t{e}");
            Ok(())
        }
        _ => done,
    }
}

fn restart(host: &Host, daemon: &SyslogDaemon) -> Result<()> {
    let service = match daemon {
        SyslogDaemon::SyslogNg => "syslog-ng",
        _ => "rsyslog",
    };
    out!("Restarting service: {service}");
    let _ = services::restart_syslog(host)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_in_the_table() {
        let source = include_str!("syslog.rs");
        let run = &source[source.find("pub fn run(").unwrap()..];
        let run = &run[..run.find("other => {").unwrap()];
        let verbs = run.lines().filter_map(|line| {
            let word = line.trim().strip_prefix("[\"")?;
            Some(&word[..word.find('"')?])
        });
        let verbs: Vec<&str> = verbs.collect();
        assert_eq!(verbs.len(), 6);
        for verb in verbs {
            let rows = GRAMMAR.sections.iter().flat_map(|s| s.rows);
            let names = |text: &str| text.split([' ', '|']).any(|word| word == verb);
            assert!(rows.map(|(name, _)| name).any(|name| names(name)), "{verb}");
            assert!(GRAMMAR.synopsis.iter().any(|text| names(text)), "{verb}");
        }
    }
}
