//! What the three shells' completions have in common.

use super::tree::{Kind, Tool};

/// Lists the workspaces of this host, a line each; any of the three shells runs it with sh(1).
pub const WORKSPACES: &str = "for f in /etc/opt/microsoft/omsagent/*/conf; do [ -d \"$f\" ] && f=${f%/conf} && echo \"${f##*/}\"; done";

/// The first line of each of them.
pub fn title(shell: &str, tools: &[Tool]) -> String {
    let names: Vec<&str> = tools.iter().map(|t| t.name.as_str()).collect();
    format!(
        "# Completion in {shell} for {}; made from the program's own command line.\n",
        names.join(", ")
    )
}

/// What is offered where something that is no option is due.
pub fn operand(tool: &Tool) -> Option<&Kind> {
    let first = tool.operands.first().map(|o| &o.value.kind);
    first.filter(|kind| **kind != Kind::Any)
}

/// Options as they can be offered: `-?` would be a pattern.
pub fn spellings(all: &[String]) -> impl Iterator<Item = &str> {
    all.iter().map(String::as_str).filter(|s| *s != "-?")
}

/// A text on one line without Markdown's marks.
pub fn plain(text: &str) -> String {
    let text = text.replace('`', "");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
