//! The door `omsagent status`: how every workspace of this host stands (docs/status.md).

use crate::doctor::status::{self, Status, WorkspaceStatus};
use crate::host::Host;
use crate::host::layout::Layout;
use crate::out;
use anyhow::Result;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON object (docs/status.md) instead of text
    #[arg(long)]
    json: bool,
}

/// Runs it; exit code 0 when every workspace's agent runs, 1 when one does not.
pub fn run(args: &Args) -> Result<u8> {
    let status = status::look(&Host::detect(Layout::new("/")));
    if args.json {
        out!("{}", serde_json::to_string(&status)?);
    } else {
        // Part of it is the service account's, or the far end's: a terminal must not act on it.
        let plain = text(&status).replace(|c: char| c.is_control() && c != '\n', "?");
        out!("{}", plain.trim_end());
    }
    let expected = |w: &&WorkspaceStatus| w.role != "pseudo" || w.registered;
    let mut workspaces = status.workspaces.iter().filter(expected);
    Ok(u8::from(workspaces.any(|w| !w.running)))
}

fn text(status: &Status) -> String {
    let mut text = String::new();
    for workspace in &status.workspaces {
        text.push_str(&paragraph(workspace));
        text.push('\n');
    }
    if status.workspaces.is_empty() {
        text.push_str("No workspace on this host; `omsadmin.sh -w ID -s KEY` onboards one.\n");
    }
    if !status.complete {
        text.push_str("Root would see more.\n");
    }
    text
}

fn paragraph(w: &WorkspaceStatus) -> String {
    let mut lines = Vec::new();
    let mut line = |title: &str, value: String| lines.push(format!("  {title:<12} {value}"));
    let registered = match (w.registered, w.enabled) {
        (_, true) => "starts at boot",
        (true, false) => "registered, does not start at boot",
        (false, false) => "not registered",
    };
    match &w.process {
        Some(p) => line(
            "agent",
            format!(
                "{} for {}, pid {}, {:.1} MiB, {} % CPU; {registered}",
                w.state,
                period(p.uptime_seconds),
                p.pid,
                p.rss_kib as f64 / 1024.0,
                p.cpu_percent
            ),
        ),
        None => line("agent", format!("{}; {registered}", w.state)),
    }
    if let Some(url) = &w.endpoint {
        let proxy = w.proxy.as_ref().map(|p| format!(" through the proxy {p}"));
        line("endpoint", format!("{url}{}", proxy.unwrap_or_default()));
    }
    if let Some(at) = &w.heartbeat_accepted {
        line("heartbeat", format!("accepted {at}"));
    }
    if let Some(why) = &w.topology_problem {
        line("topology", why.clone());
    }
    for i in &w.inputs {
        line(
            "input",
            format!(
                "{} {}: {} received, {} parsed, {} dropped, {} sent",
                i.kind, i.tag, i.received, i.parsed, i.dropped, i.sent
            ),
        );
    }
    for o in &w.outputs {
        let age = o.queue_age_seconds.map(|s| format!(", {s:.0} s old"));
        let last = o.last_upload.as_ref().map(|u| {
            let code = u.code.map_or("no answer".to_owned(), |c| c.to_string());
            format!("; last upload {}: {code}, {} bytes", u.time, u.bytes)
        });
        line(
            "output",
            format!(
                "{}: {} sent, {} bytes wait{}, {} dropped{}",
                o.takes,
                o.sent,
                o.queue_bytes,
                age.unwrap_or_default(),
                o.dropped + o.refused,
                last.unwrap_or_default()
            ),
        );
        if let Some(why) = &o.problem {
            line("", format!("{} tries failed: {why}", o.failures_in_a_row));
        }
    }
    if !w.listening.is_empty() {
        let all: Vec<String> = w
            .listening
            .iter()
            .map(|s| format!("{} {}", s.protocol, s.address))
            .collect();
        line("listens", all.join(", "));
    }
    if let Some(c) = &w.certificate {
        line(
            "certificate",
            format!(
                "until {} ({} days), made {}",
                c.expires, c.days_left, c.issued
            ),
        );
        if c.renewal_pending {
            line("", "a renewal is begun and not settled yet".to_owned());
        }
        if let Some(why) = &c.renewal_problem {
            line("", format!("not renewed: {why}"));
        }
    }
    if let Some(c) = w.clock.as_ref() {
        line(
            "clock",
            format!("{:+} s beside the service's", c.ahead_seconds),
        );
    }
    for notice in &w.notices {
        line("notice", notice.clone());
    }
    for why in &w.unknown {
        line("unknown", why.clone());
    }
    let marker = w.marker.as_ref().map(|m| format!(", {m}"));
    let onboarded = match w.onboarded {
        Some(false) => ", not onboarded",
        _ => "",
    };
    let head = format!(
        "{} ({}{}{onboarded})",
        w.id,
        w.role,
        marker.unwrap_or_default()
    );
    format!("{head}\n{}\n", lines.join("\n"))
}

/// The two largest units.
fn period(seconds: u64) -> String {
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let first = parts.iter().position(|(n, _)| *n > 0).unwrap_or(3);
    let shown = parts.iter().skip(first).take(2);
    let shown: Vec<String> = shown.map(|(n, unit)| format!("{n} {unit}")).collect();
    shown.join(" ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn periods() {
        assert_eq!(super::period(5), "5 s");
        assert_eq!(super::period(3_725), "1 h 2 min");
        assert_eq!(super::period(200_000), "2 d 7 h");
    }
}
