//! The files: our trees, and ours in other people's folders.

use super::Gathering;
use super::redact::{MARK, Redactor};
use super::walk::{self, Names, Seen};
use crate::base::ids::WorkspaceName;
use crate::base::secret::Secret;
use crate::host::Host;
use crate::host::layout::Layout;
use crate::settings::proxy;
use crate::wire::certificate::Facts;
use crate::wire::identity::ClientIdentity;
use sha2::{Digest, Sha256};
use std::path::Path;
use zeroize::Zeroizing;

/// Most bytes of a configuration file: of the settings of one host, the largest has a hundredth.
const SETTINGS: u64 = 256 << 10;
/// Most bytes of a log.
const LOG: u64 = 512 << 10;
/// How many of the runs' logs are taken.
const RUNS: usize = 10;

/// What becomes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// It is only listed.
    List,
    /// Its settings are shown, without what is secret.
    Settings,
    /// Its end is shown.
    Log,
    /// Only lines that are about us.
    Lines,
}

/// Folders that others share with us: what has our name is ours.
const SHARED: [&str; 12] = [
    "/etc/cron.d",
    "/etc/init.d",
    "/etc/logrotate.d",
    "/etc/rsyslog.d",
    "/etc/sudoers.d",
    "/etc/syslog-ng/conf.d",
    "/etc/systemd/system",
    "/etc/tmpfiles.d",
    "/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/usr/lib/sysusers.d",
    "/usr/lib/tmpfiles.d",
];
/// Others' files in which lines may be ours.
const LINES: [&str; 4] = [
    "/etc/rsyslog.conf",
    "/etc/sudoers",
    "/etc/syslog-ng/syslog-ng.conf",
    "/etc/syslog.conf",
];

/// Gathers them; what they give away is learned first, from files that are not shown as well.
pub fn gather(
    host: &Host,
    only: Option<&WorkspaceName>,
    redactor: &mut Redactor,
    all: &mut Gathering,
) {
    let layout = &host.layout;
    let mut names = Names::default();
    let mut list = String::new();
    let mut certificates = Vec::new();
    let trees = [layout.etc(), layout.var(), layout.opt(), layout.records()];
    let single = [layout.onboarding_file()];
    let mut gaps = Vec::new();
    for top in trees.iter().chain(&single) {
        walk::walk(
            top,
            &mut |seen| {
                list.push_str(&seen.line(&mut names));
                list.push('\n');
                if seen.is_file() && !is_of_another(layout, only, &seen.path) {
                    take(layout, seen, redactor, all, &mut certificates);
                }
            },
            &mut |path, why| gaps.push((path.to_owned(), why)),
        );
    }
    // Where /lib is /usr/lib, once is enough.
    let merged = layout.path("/lib").is_symlink();
    for folder in SHARED
        .into_iter()
        .filter(|f| !merged || !f.starts_with("/lib/"))
    {
        walk::walk(
            &layout.path(folder),
            &mut |seen| {
                let name = seen.path.to_string_lossy();
                let ours = name.contains("omsagent") || name.contains("omid");
                if ours {
                    list.push_str(&seen.line(&mut names));
                    list.push('\n');
                }
                if seen.is_file() && (ours || folder.contains("syslog")) {
                    show(
                        layout,
                        seen,
                        if ours { Use::Settings } else { Use::Lines },
                        redactor,
                        all,
                    );
                }
            },
            // Folders of others that cannot be read are not ours to tell of.
            &mut |_, _| {},
        );
    }
    for path in LINES {
        let path = layout.path(path);
        walk::walk(
            &path,
            &mut |seen| show(layout, seen, Use::Lines, redactor, all),
            &mut |path, why| gaps.push((path.to_owned(), why)),
        );
    }
    for (path, why) in gaps {
        all.gap(path.display().to_string(), why);
    }
    all.add("facts/files.txt", "stat of our files and folders", list);
    let text = certificates.concat();
    all.add(
        "facts/certificates.txt",
        "certificates of workspaces, without keys",
        text,
    );
}

/// Another workspace's, when only one is wanted.
fn is_of_another(layout: &Layout, only: Option<&WorkspaceName>, path: &Path) -> bool {
    let Some(only) = only else {
        return false;
    };
    let below = [layout.etc(), layout.var()];
    let below = below.iter().find_map(|top| path.strip_prefix(top).ok());
    let first = below.and_then(|rest| rest.components().next());
    let first = first.map(|c| c.as_os_str().to_string_lossy().into_owned());
    first
        .and_then(|name| name.parse::<WorkspaceName>().ok())
        .is_some_and(|name| name != *only)
}

/// A file in one of our trees.
fn take(
    layout: &Layout,
    seen: &Seen,
    redactor: &mut Redactor,
    all: &mut Gathering,
    certificates: &mut Vec<String>,
) {
    let path = &seen.path;
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let within = |folder: &Path| path.starts_with(folder);
    let folder_is = |name: &str| path.parent().is_some_and(|dir| dir.ends_with(name));
    let wanted = if within(&layout.opt()) {
        Use::List
    } else if within(&layout.records()) {
        match (name.as_str(), folder_is("log")) {
            ("journal.jsonl" | "journal.old.jsonl" | "portable.json", _) => Use::Log,
            // The names of logs begin with their time.
            (_, true) => Use::Log,
            _ => Use::List,
        }
    } else if folder_is("certs") {
        secrets_of(seen, redactor, all);
        if name.ends_with(".crt") || name.ends_with("cert.pem") {
            certificates.push(certificate(seen));
        }
        Use::List
    } else if within(&layout.var()) {
        match folder_is("log") || folder_is("run") {
            true if !name.ends_with(".sock") => Use::Log,
            _ => Use::List,
        }
    } else {
        Use::Settings
    };
    if wanted != Use::List {
        show(layout, seen, wanted, redactor, all);
    }
}

/// A key's lines must not be seen anywhere, in whatever file they stand.
fn secrets_of(seen: &Seen, redactor: &mut Redactor, all: &mut Gathering) {
    match seen.tail(SETTINGS).map(|text| Zeroizing::new(text.text)) {
        Ok(text) if text.contains("PRIVATE KEY") => redactor.learn_pem(&text),
        Ok(_) => {}
        Err(why) => all.gap(seen.path.display().to_string(), why),
    }
}

fn show(layout: &Layout, seen: &Seen, how: Use, redactor: &mut Redactor, all: &mut Gathering) {
    let source = on_host(layout, &seen.path);
    let name = format!("files{source}");
    if how == Use::Log && source.contains("/lib/omsagent/log/") {
        let prefix = format!("files{}", on_host(layout, &layout.records().join("log")));
        let taken = all
            .entries
            .iter()
            .filter(|e| e.name.starts_with(&prefix))
            .count();
        if taken >= RUNS {
            // Names are in the order of time: the oldest makes room.
            if let Some(at) = all.entries.iter().position(|e| e.name.starts_with(&prefix)) {
                let gone = all.entries.remove(at);
                all.gap(gone.source, "only the newest logs of runs are taken");
            }
        }
    }
    let limit = if how == Use::Log { LOG } else { SETTINGS };
    let read = match seen.tail(limit) {
        Ok(read) => read,
        Err(why) => return all.gap(source, why),
    };
    let mut note = (read.skipped > 0).then(|| format!("without its first {} bytes", read.skipped));
    let text = match how {
        Use::Log => {
            redactor.learn_from(&read.text, false);
            read.text
        }
        Use::Lines => {
            let lines = our_lines(&read.text);
            if lines.is_empty() {
                return;
            }
            note = Some("only lines about us, with their numbers".into());
            lines
        }
        _ => settings(&seen.path, read.text, redactor),
    };
    all.add_noted(name, source, text, note);
}

/// The path as people know it.
fn on_host(layout: &Layout, path: &Path) -> String {
    let below = path.strip_prefix(layout.root()).unwrap_or(path);
    format!("/{}", below.display())
}

/// A settings file whose secrets are learned, and those of its values masked of which nobody knows
/// what they are.
fn settings(path: &Path, text: String, redactor: &mut Redactor) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if text.contains("PRIVATE KEY") {
        redactor.learn_pem(&text);
    }
    redactor.learn_from(&text, true);
    match name.as_ref() {
        "proxy.conf" => {
            if let Ok(Some(proxy)) = proxy::parse_file(&text)
                && let Some((_, password)) = &proxy.credentials
            {
                redactor.learn(password.expose());
            }
            text
        }
        "omsagent-onboard.conf" => {
            onboarding(&text, redactor);
            text
        }
        "omsadmin.conf" => unknown_keys(&text, redactor),
        _ if name.ends_with(".service")
            || path
                .parent()
                .is_some_and(|d| d.to_string_lossy().ends_with(".service.d")) =>
        {
            super::facts::environment(&text, redactor)
        }
        _ => text,
    }
}

fn onboarding(text: &str, redactor: &mut Redactor) {
    for line in text.lines() {
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let value = Secret::new(value.trim().trim_matches(['"', '\'']));
        match key.trim() {
            "SHARED_KEY" => redactor.learn(value.expose()),
            "PROXY" => {
                if let Ok(proxy) = proxy::parse(value.expose())
                    && let Some((_, password)) = &proxy.credentials
                {
                    redactor.learn(password.expose());
                }
            }
            _ => {}
        }
    }
}

/// Keys of omsadmin.conf whose values are no secret (bundle.md 4.12).
const OMSADMIN: [&str; 11] = [
    "WORKSPACE_ID",
    "AGENT_GUID",
    "LOG_FACILITY",
    "CERTIFICATE_UPDATE_ENDPOINT",
    "URL_TLD",
    "DSC_ENDPOINT",
    "OMS_ENDPOINT",
    "AZURE_RESOURCE_ID",
    "OMSCLOUD_ID",
    "UUID",
    "DIAGNOSTIC_ENDPOINT",
];

fn unknown_keys(text: &str, redactor: &mut Redactor) -> String {
    let line = |line: &str| {
        let Some((key, value)) = line.split_once('=') else {
            // No setting: a comment, or a part of something that is none.
            return match line.trim().is_empty() || line.trim_start().starts_with('#') {
                true => line.to_owned(),
                false => MARK.to_owned(),
            };
        };
        if OMSADMIN.contains(&key.trim()) {
            return line.to_owned();
        }
        redactor.learn_if_likely(value.trim().trim_matches(['"', '\'']));
        format!("{key}={MARK}")
    };
    let lines: Vec<String> = text.lines().map(line).collect();
    lines.join("\n") + "\n"
}

/// Lines of others' files that are about us, and those between our marks.
fn our_lines(text: &str) -> String {
    let mut within = false;
    let mut kept = String::new();
    for (at, line) in text.lines().enumerate() {
        let lower = line.to_ascii_lowercase();
        let mark = lower.contains("oms syslog collection");
        let end = mark && lower.contains("end of");
        within = (within || mark) && !end && (mark || !line.trim().is_empty());
        let ours = mark || within || lower.contains("omsagent") || lower.contains("127.0.0.1:25");
        if ours {
            kept.push_str(&format!("{}: {line}\n", at + 1));
        }
    }
    kept
}

/// What a certificate says, and its thumbprint.
fn certificate(seen: &Seen) -> String {
    let path = seen.path.display();
    let facts = || -> anyhow::Result<String> {
        let text = seen.tail(SETTINGS).map_err(anyhow::Error::msg)?.text;
        let identity = ClientIdentity {
            cert_pem: text,
            key_pem: Secret::new(""),
        };
        let der = identity.cert_der()?;
        let facts = Facts::read(&der)?;
        let thumbprint: String = Sha256::digest(&der)
            .iter()
            .map(|b| format!("{b:02X}"))
            .collect();
        Ok(format!(
            "  subject     {}\n  issuer      {}\n  valid       {} to {}\n  SHA-256     {thumbprint}\n",
            facts.subject, facts.issuer, facts.not_before, facts.not_after
        ))
    };
    match facts() {
        Ok(facts) => format!("{path}\n{facts}"),
        Err(why) => format!("{path}\n  {why:#}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_lines_of_others_files() {
        let text = "*.* /var/log/all\n# OMS Syslog collection for workspace x\nauth.* @127.0.0.1:25224\n\
                    $X y\n# End of OMS Syslog collection for workspace x\nsecret line\n*.* @127.0.0.1:25225\n";
        let kept = our_lines(text);
        assert_eq!(kept.lines().count(), 5, "{kept}");
        assert!(
            kept.starts_with("2: ") && !kept.contains("secret") && !kept.contains("/var/log/all")
        );
        assert_eq!(our_lines("nothing\n"), "");
    }

    #[test]
    fn unknown_keys_of_omsadmin_conf_are_masked() {
        let mut redactor = Redactor::default();
        let text = "WORKSPACE_ID=a\n# c\nEXTRA=Winter31!\nstray\nURL_TLD=b\n";
        let shown = unknown_keys(text, &mut redactor);
        assert_eq!(
            shown,
            "WORKSPACE_ID=a\n# c\nEXTRA=[redacted]\n[redacted]\nURL_TLD=b\n"
        );
        assert!(redactor.holds("x Winter31! y"));
    }
}
