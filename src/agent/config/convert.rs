//! A configuration written anew: one file, only what has an effect; the rest stands as comments
//! with the reason. An agent does the same by it.

use super::review::{Entry, Finding, Review, shown};
use crate::agent::catalogue::{Plugin, Section, Verdict};
use crate::settings::fluent::{Document, Element, Param, Place};
use std::fmt::Write as _;

/// The text of the new file.
pub fn convert(document: &Document, review: &Review) -> String {
    let mut text = String::from("# Written by `omsagent config convert` from these files:\n");
    for file in &document.files {
        let _ = writeln!(text, "#   {}", one_line(file));
    }
    text.push_str(
        "# What the agent does not use stands as a comment, with the reason; passwords are left out.\n",
    );
    let writer = Writer { review };
    for param in &document.params {
        text.push('\n');
        writer.dropped_param(param, None, "", &mut text);
    }
    for element in &document.elements {
        text.push('\n');
        writer.element(element, &mut text);
    }
    text
}

struct Writer<'r> {
    review: &'r Review,
}

impl Writer<'_> {
    fn element(&self, element: &Element, text: &mut String) {
        let section = Section::of(element);
        let plugin = section.and_then(|section| Plugin::of(section, element));
        let runs = |p: &&Plugin| p.verdict == Verdict::Honoured && self.review.runs(element);
        match plugin.filter(runs) {
            Some(plugin) => self.kept(element, plugin, text),
            None => self.dropped(element, section, plugin, text),
        }
    }

    fn kept(&self, element: &Element, plugin: &'static Plugin, text: &mut String) {
        let _ = writeln!(text, "# {}", one_line(&element.place.to_string()));
        opening(element, text);
        let _ = writeln!(text, "  type {}", plugin.name);
        for (n, param) in element.params.iter().enumerate() {
            let known = plugin.param(&param.key);
            let again = element.params[n + 1..].iter().any(|p| p.key == param.key);
            let honoured = known.is_some_and(|k| k.verdict == Verdict::Honoured);
            if matches!(param.key.as_str(), "type" | "@type") {
                continue;
            }
            if honoured && !again && self.review.counts(param) {
                let _ = writeln!(text, "  {} {}", param.key, quoted(&param.value));
            } else {
                self.dropped_param(param, Some(plugin), "  ", text);
            }
        }
        for child in &element.children {
            self.comment(child, None, "  ", text);
        }
        let _ = writeln!(text, "</{}>", element.name);
    }

    fn dropped(
        &self,
        element: &Element,
        section: Option<Section>,
        plugin: Option<&'static Plugin>,
        text: &mut String,
    ) {
        self.comment(element, plugin, "", text);
        // What it took may not go on to a later `<match>`.
        if section == Some(Section::Match) {
            opening(element, text);
            text.push_str("  type null\n</match>\n");
        }
    }

    /// An element as a comment, the reason in its first line.
    fn comment(
        &self,
        element: &Element,
        plugin: Option<&'static Plugin>,
        indent: &str,
        text: &mut String,
    ) {
        let _ = write!(text, "{indent}# {}", one_line(&element.place.to_string()));
        self.reason(
            &element.place,
            |e| !matches!(e.directive, super::Directive::Param { .. }),
            text,
        );
        let blank = if element.arg.is_empty() { "" } else { " " };
        let arg = one_line(&element.arg);
        let _ = writeln!(text, "{indent}# <{}{blank}{arg}>", element.name);
        self.content(element, plugin, &format!("{indent}#   "), text);
        let _ = writeln!(text, "{indent}# </{}>", element.name);
    }

    /// What stands in an element, each line behind `prefix`.
    fn content(
        &self,
        element: &Element,
        plugin: Option<&'static Plugin>,
        prefix: &str,
        text: &mut String,
    ) {
        for param in &element.params {
            let value = shown(plugin.and_then(|p| p.param(&param.key)), param);
            let line = one_line(&format!("{} {value}", param.key));
            let _ = writeln!(text, "{prefix}{line}");
        }
        for child in &element.children {
            let blank = if child.arg.is_empty() { "" } else { " " };
            let arg = one_line(&child.arg);
            let _ = writeln!(text, "{prefix}<{}{blank}{arg}>", child.name);
            self.content(child, None, &format!("{prefix}  "), text);
            let _ = writeln!(text, "{prefix}</{}>", child.name);
        }
    }

    fn dropped_param(
        &self,
        param: &Param,
        plugin: Option<&'static Plugin>,
        indent: &str,
        text: &mut String,
    ) {
        let value = shown(plugin.and_then(|p| p.param(&param.key)), param);
        let _ = write!(
            text,
            "{indent}# {}",
            one_line(&format!("{} {value}", param.key))
        );
        let is = |e: &Entry| match &e.directive {
            super::Directive::Param { key, .. } => *key == param.key,
            _ => false,
        };
        self.reason(&param.place, is, text);
    }

    /// Why the directive at `place` is dropped, and the end of the line.
    fn reason(&self, place: &Place, is: impl Fn(&Entry) -> bool, text: &mut String) {
        let mut entries = self.review.entries.iter();
        let entry = entries.find(|e| e.place.as_ref() == Some(place) && is(e));
        let reason = match entry.map(|e| &e.finding) {
            None | Some(Finding::Honoured) => String::new(),
            Some(Finding::Replaced(by)) => format!(": replaced by {by}"),
            Some(finding) => format!(": {}", finding.reason()),
        };
        let _ = writeln!(text, "{}", one_line(&reason));
    }
}

fn opening(element: &Element, text: &mut String) {
    let arg = pattern(&element.arg);
    let blank = if arg.is_empty() { "" } else { " " };
    let _ = writeln!(text, "<{}{blank}{arg}>", element.name);
}

/// A pattern as it is read back.
pub(super) fn pattern(arg: &str) -> String {
    let plain = !arg.contains(['>', '"', '\'']) && arg.trim() == arg;
    match (plain, arg.contains('"'), arg.contains('\'')) {
        // With both it was written so, with its quotes.
        (true, ..) | (false, true, true) => arg.to_owned(),
        (false, false, _) => format!("\"{arg}\""),
        (false, true, false) => format!("'{arg}'"),
    }
}

/// A value as it is read back.
pub(super) fn quoted(value: &str) -> String {
    let plain = !value.is_empty()
        && value.trim() == value
        && !value.starts_with(['"', '\'', '[', '{', '#'])
        && !value.contains(" #")
        && !value.contains("\t#")
        && !value.contains(char::is_control);
    if plain {
        return value.to_owned();
    }
    if !value.contains(char::is_control) {
        let inner = value.replace('\\', "\\\\").replace('\'', "\\'");
        return format!("'{inner}'");
    }
    let mut text = String::from("\"");
    for c in value.chars() {
        match c {
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{c}' => text.push_str("\\f"),
            '\u{8}' => text.push_str("\\b"),
            '\0' => text.push_str("\\0"),
            '"' | '\\' => text.extend(['\\', c]),
            other => text.push(other),
        }
    }
    text.push('"');
    text
}

/// A text in a comment: no line end in it, which would end the comment.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::fluent;

    #[test]
    fn values_and_patterns_come_back() {
        for value in [
            "plain",
            "",
            " x ",
            "a # b",
            "a\t# b",
            "#a",
            "\"q\"",
            "it's \\n",
            "two\nlines",
            "\\",
            "[1,2]",
            "[not json",
            "{",
            "a\0b",
            "\u{c}\u{8}\r",
            "#{ruby}",
            "/^(?<a>[^ ]* {1,2})$/",
        ] {
            let text = format!("<match x>\n  key {}\n</match>\n", quoted(value));
            let document = fluent::parse("t", &text, &mut ()).unwrap();
            let read = document.elements[0].param("key").unwrap();
            assert_eq!(read.value, value, "{text}");
        }
        for arg in ["oms.** docker.**", "a>b", "a\"b", " a ", "it's", ""] {
            let text = format!("<match {}>\n</match>\n", pattern(arg));
            let document = fluent::parse("t", &text, &mut ()).unwrap();
            assert_eq!(document.elements[0].arg.trim(), arg.trim(), "{text}");
        }
    }
}
