//! A report and an effective configuration for people, and TOML.

use crate::agent::config::effective::{Effective, Part, Value};
use crate::agent::config::report::{Line, Report};
use std::fmt::Write as _;

/// Column of the verdicts.
const WIDTH: usize = 46;

/// The report, file by file. `quiet`: without what is as it should be.
pub fn of_report(report: &Report, quiet: bool) -> String {
    let mut text = String::new();
    let mut file = None;
    let shown = report
        .directives
        .iter()
        .filter(|d| !quiet || d.severity != "ok");
    for line in shown {
        if file != Some(&line.file) {
            file = Some(&line.file);
            let name = line.file.as_deref().unwrap_or("The whole");
            let _ = writeln!(text, "{name}");
        }
        let number = line.line.map(|n| n.to_string()).unwrap_or_default();
        let directive = one_line(&directive(line));
        let reason = line.reason.as_deref().map(|r| format!(": {r}"));
        let _ = writeln!(
            text,
            "{number:>5}  {directive:<WIDTH$} {}{}",
            line.verdict,
            reason.unwrap_or_default()
        );
    }
    for mapping in &report.mappings {
        let _ = match &mapping.problem {
            Some(why) => writeln!(text, "{}: {why}", mapping.file),
            None => writeln!(text, "{}: {} objects", mapping.file, mapping.objects),
        };
    }
    let counts: Vec<String> = report
        .counts
        .iter()
        .map(|(verdict, n)| format!("{n} {verdict}"))
        .collect();
    let result = match report.result {
        "ok" => "nothing to change",
        "warning" => "the agent runs, and not all of this has an effect",
        _ => "the agent does not start with this",
    };
    let _ = writeln!(text, "{}: {result}", counts.join(", "));
    text
}

fn directive(line: &Line) -> String {
    let indent = "  ".repeat(line.depth);
    let section = line.section.as_deref().unwrap_or_default();
    match (&line.parameter, &line.value) {
        (Some(key), value) => format!("{indent}{key} {}", value.as_deref().unwrap_or_default()),
        (None, _) => {
            let (name, kind) = section.split_once(' ').unwrap_or((section, ""));
            let takes = line.takes.as_deref().map(|t| format!(" {t}"));
            match name {
                "" => String::new(),
                _ => format!("{indent}<{name}{}> {kind}", takes.unwrap_or_default()),
            }
        }
    }
}

/// A value may span lines.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// What the agent runs with.
pub fn of_effective(e: &Effective) -> String {
    let mut text = String::from("Read from\n");
    for file in &e.files {
        let _ = writeln!(text, "  {file}");
    }
    for (title, parts) in [("Input", &e.inputs), ("Filter", &e.filters)] {
        for part in parts {
            heading(title, part, &mut text);
        }
    }
    for (number, output) in e.outputs.iter().enumerate() {
        heading(&format!("Output {number}:"), &output.part, &mut text);
        let limit = format!("{} bytes", output.queue_limit_bytes);
        let request = format!("{} bytes", output.request_bytes);
        for (name, value) in [
            ("queue", &output.queue),
            ("queue limit", &limit),
            ("one request", &request),
        ] {
            let _ = writeln!(text, "  {name:<24} {value}");
        }
    }
    text.push_str("Routes, the first that fits\n");
    for way in &e.routes {
        let to = way.output.map(|n| format!("output {n}"));
        let _ = writeln!(
            text,
            "  {:<24} {}",
            way.takes,
            to.as_deref().unwrap_or("dropped")
        );
    }
    if !e.listens.is_empty() {
        text.push_str("Listens on\n");
    }
    for socket in &e.listens {
        let _ = writeln!(text, "  {:<24} {}", socket.protocol, socket.address);
    }
    for proxy in &e.proxies {
        let told = match (&proxy.proxy, &proxy.problem) {
            (_, Some(why)) => why,
            (Some(proxy), None) => proxy,
            (None, None) => "none",
        };
        let _ = writeln!(text, "Proxy\n  {:<24} {told}", proxy.file);
    }
    match e.warnings {
        0 => {}
        n => {
            let _ = writeln!(
                text,
                "{n} directives have no effect: `omsagent config check` names them"
            );
        }
    }
    for error in &e.errors {
        let _ = writeln!(text, "The agent does not start: {error}");
    }
    text
}

fn heading(title: &str, part: &Part, text: &mut String) {
    let blank = if part.takes.is_empty() { "" } else { " " };
    let _ = writeln!(
        text,
        "{title} {}{blank}{} ({})",
        part.kind, part.takes, part.at
    );
    for value in &part.settings {
        let Value {
            name, value, at, ..
        } = value;
        let from = at.as_deref().unwrap_or("default");
        let value = one_line(value.as_deref().unwrap_or("-"));
        let _ = writeln!(text, "  {name:<24} {value:<24} {from}");
    }
}

/// A JSON object as TOML: plain values first, then tables. What is null is left out.
pub fn toml(value: &serde_json::Value) -> String {
    let mut text = String::new();
    if let serde_json::Value::Object(map) = value {
        table(map, "", &mut text);
    }
    text
}

fn table(map: &serde_json::Map<String, serde_json::Value>, path: &str, text: &mut String) {
    use serde_json::Value::{Array, Null, Object};
    let is_tables = |list: &[serde_json::Value]| list.iter().any(|v| matches!(v, Object(_)));
    for (key, value) in map {
        match value {
            Null | Object(_) => {}
            Array(list) if is_tables(list) => {}
            // A list of texts or numbers is the same in both.
            plain => {
                let _ = writeln!(text, "{key} = {}", in_toml(plain));
            }
        }
    }
    for (key, value) in map {
        let dot = if path.is_empty() { "" } else { "." };
        let inner = format!("{path}{dot}{key}");
        match value {
            Object(map) => {
                let _ = writeln!(text, "\n[{inner}]");
                table(map, &inner, text);
            }
            Array(list) if is_tables(list) => {
                for item in list {
                    let _ = writeln!(text, "\n[[{inner}]]");
                    if let Object(map) = item {
                        table(map, &inner, text);
                    }
                }
            }
            _ => {}
        }
    }
}

/// JSON's texts are TOML's but for one character.
fn in_toml(value: &serde_json::Value) -> String {
    value.to_string().replace('\u{7f}', "\\u007f")
}
