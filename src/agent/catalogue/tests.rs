//! The table against the spec's names, its own types, and the page for people.

use super::*;
use std::fmt::Write as _;
use std::path::Path;

const SECTIONS: [Section; 3] = [Section::Source, Section::Filter, Section::Match];

fn all() -> impl Iterator<Item = &'static Plugin> {
    SECTIONS.into_iter().flat_map(|s| s.plugins())
}

/// Every plug-in that protocol.md 5.3 names.
#[test]
fn the_specs_plugins_are_known() {
    let names =
        |section: Section| -> Vec<&str> { section.plugins().iter().map(|p| p.name).collect() };
    for (section, wanted) in [
        (
            Section::Source,
            "syslog tail sudo_tail exec http udp tcp oms_omi oms_heartbeat heartbeat_request \
             agent_telemetry dsc_monitor zabbix_alerts mysql_workload mongostat monitor_agent npmd wlm_*",
        ),
        (
            Section::Filter,
            "filter_syslog filter_syslog_security filter_operation filter_nagios_log filter_collectd \
             filter_flatten record_transformer grep parser filter_changetracking \
             filter_patch_management filter_security_baseline filter_auditd_plugin",
        ),
        (
            Section::Match,
            "out_oms out_oms_blob out_oms_api out_oms_diag statsd_aggregator stdout file null copy forward",
        ),
    ] {
        let known = names(section);
        for name in wanted.split_whitespace() {
            assert!(known.contains(&name), "{name}");
        }
    }
}

#[test]
fn defaults_are_of_their_own_kind_and_names_are_not_given_twice() {
    for plugin in all() {
        let mut seen: Vec<&str> = Vec::new();
        for param in plugin.own_params() {
            assert!(
                !seen.contains(&param.name),
                "{} {}",
                plugin.name,
                param.name
            );
            seen.push(param.name);
            if let Some(default) = param.default {
                assert_eq!(param.takes.check(default), Ok(()), "{}", param.name);
            }
            let number = param.name.replace('#', "7");
            assert!(plugin.param(&number).is_some(), "{number}");
        }
        assert!(plugin.param("log_level").is_some() && plugin.param("nosuch").is_none());
    }
    assert!(
        all()
            .find(|p| p.name == "grep")
            .unwrap()
            .param("regexp")
            .is_none()
    );
    assert!(
        all()
            .find(|p| p.name == "grep")
            .unwrap()
            .param("regexpx")
            .is_none()
    );
}

#[test]
fn passwords_are_secret_wherever_they_stand() {
    for (key, secret) in [
        ("password", true),
        ("zabbix_password", true),
        ("api_token", true),
        ("Client_Secret", true),
        ("shared_key", true),
        ("key_path", false),
        ("time_key", false),
        ("keys", false),
    ] {
        assert_eq!(is_secret(None, key), secret, "{key}");
    }
}

fn told(verdict: Verdict) -> String {
    match verdict {
        Verdict::Honoured => "honoured".into(),
        Verdict::Replaced(by) => format!("replaced by {by}"),
        Verdict::Idle(why) => format!("idle: {why}"),
        Verdict::Ignored(why) => format!("**ignored**: {why}"),
    }
}

fn values(takes: Takes) -> String {
    match takes {
        Takes::Text | Takes::Secret | Takes::Command => String::new(),
        Takes::Path => "file".into(),
        Takes::Socket => "socket".into(),
        Takes::Tag => "tag".into(),
        Takes::Address => "address".into(),
        Takes::Number(least, most) => format!("{least} to {most}"),
        Takes::Size => "size".into(),
        Takes::Time => "time".into(),
        Takes::Flag => "`true`, `false`".into(),
        Takes::OneOf(words) => {
            let words: Vec<String> = words.iter().map(|w| format!("`{w}`")).collect();
            words.join(", ")
        }
    }
}

/// The tables of docs/config.md.
fn tables() -> String {
    let mut text = String::new();
    for section in SECTIONS {
        let _ = writeln!(text, "### `<{}>`\n", section.name());
        text.push_str(
            "| `type` | parameter | values | default | verdict |\n|---|---|---|---|---|\n",
        );
        for plugin in section.plugins() {
            let only = plugin
                .only
                .map(|(key, value)| format!(" with `{key} {value}`"));
            let _ = writeln!(
                text,
                "| `{}`{} ({}) | | | | {} |",
                plugin.name,
                only.unwrap_or_default(),
                plugin.spec,
                told(plugin.verdict)
            );
            if plugin.verdict != Verdict::Honoured {
                let names: Vec<String> = plugin
                    .own_params()
                    .map(|p| format!("`{}`", p.name))
                    .collect();
                if !names.is_empty() {
                    let _ = writeln!(
                        text,
                        "| | {} | | | as its {} |",
                        names.join(", "),
                        section.name()
                    );
                }
                continue;
            }
            for p in plugin.own_params() {
                let values = match p.verdict {
                    Verdict::Honoured => values(p.takes),
                    _ => String::new(),
                };
                let default = p.default.map(|d| format!("`{d}`")).unwrap_or_default();
                let _ = writeln!(
                    text,
                    "| | `{}` | {values} | {default} | {} |",
                    p.name,
                    told(p.verdict)
                );
            }
        }
        text.push('\n');
    }
    text
}

/// With OMSAGENT_WRITE_DOCS in the environment the page is written anew.
#[test]
fn the_page_has_the_same_tables() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- the table, from the code -->\n", "<!-- its end -->\n");
    let (before, rest) = page.split_once(begin).unwrap();
    let (there, after) = rest.split_once(end).unwrap();
    let wanted = format!("\n{}", tables());
    if std::env::var_os("OMSAGENT_WRITE_DOCS").is_some() {
        let new = format!("{before}{begin}{wanted}{end}{after}");
        std::fs::write(&path, new).unwrap();
        return;
    }
    assert_eq!(
        there, wanted,
        "OMSAGENT_WRITE_DOCS=1 cargo test --lib catalogue"
    );
}
