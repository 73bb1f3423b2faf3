//! Completion for zsh: a function for each tool, around `_arguments`.

use super::shells::{self, WORKSPACES};
use super::tree::{Kind, Tool, Value};

/// The file for all of `tools`.
pub fn write(tools: &[Tool]) -> String {
    let names: Vec<&str> = tools.iter().map(|t| t.name.as_str()).collect();
    let mut text = format!(
        "#compdef {}\n{}\n_omsagent_workspaces() {{\n  local f; local -a ids\n  \
         ids=(${{(f)\"$(sh -c {})\"}})\n  compadd -a ids\n}}\n",
        names.join(" "),
        shells::title("zsh", tools),
        quoted(WORKSPACES),
    );
    for tool in tools {
        tool.walk(&mut |path, tool| text.push_str(&one(path, tool)));
    }
    text.push_str("\ncase $service in\n");
    for name in names {
        text.push_str(&format!("  {name}) {} ;;\n", function(name)));
    }
    text.push_str("esac\n");
    text
}

fn one(path: &str, tool: &Tool) -> String {
    let mut specs = Vec::new();
    for option in &tool.options {
        let spellings: Vec<&str> = shells::spellings(&option.spellings).collect();
        let tail = format!(
            "[{}]{}",
            described(&option.text),
            option.value.as_ref().map(value).unwrap_or_default()
        );
        specs.push(match spellings.as_slice() {
            [one] => quoted(&format!("{one}{tail}")),
            several => format!(
                "{}{{{}}}{}",
                quoted(&format!("({})", several.join(" "))),
                several.join(","),
                quoted(&tail)
            ),
        });
    }
    if !tool.tools.is_empty() {
        specs.push("'1: :->tool'".to_owned());
        specs.push("'*:: :->below'".to_owned());
    } else if let Some(operand) = tool.operands.first() {
        specs.push(quoted(&format!("1{}", value(&operand.value))));
    }
    let name = function(path);
    if specs.is_empty() {
        return format!("\n{name}() {{\n  _message 'nothing more'\n}}\n");
    }
    let mut text = format!(
        "\n{name}() {{\n  local context state state_descr line; local -a tools; typeset -A opt_args\n  \
         _arguments -C \\\n    {}\n",
        specs.join(" \\\n    ")
    );
    if !tool.tools.is_empty() {
        text.push_str("  case $state in\n    tool)\n      tools=(\n");
        for below in &tool.tools {
            let about = described(&below.about);
            text.push_str(&format!(
                "        {}\n",
                quoted(&format!("{}:{about}", below.name))
            ));
        }
        text.push_str(
            "      )\n      _describe command tools ;;\n    below)\n      case $words[1] in\n",
        );
        for below in &tool.tools {
            let function = function(&format!("{path} {}", below.name));
            text.push_str(&format!("        {}) {function} ;;\n", below.name));
        }
        text.push_str("      esac ;;\n  esac\n");
    }
    text + "}\n"
}

fn value(value: &Value) -> String {
    let how = match &value.kind {
        Kind::Any => " ".to_owned(),
        Kind::File => "_files".to_owned(),
        Kind::Folder => "_files -/".to_owned(),
        Kind::Workspace => "_omsagent_workspaces".to_owned(),
        Kind::Words(words) => format!("({})", words.join(" ")),
    };
    format!(":{}:{how}", described(&value.name))
}

fn function(path: &str) -> String {
    let name = path.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    format!("_omsagent__{name}")
}

/// Marks that end a description are made plain.
fn described(text: &str) -> String {
    let mut done = String::new();
    for c in shells::plain(text).chars() {
        if matches!(c, '[' | ']' | ':' | '\\') {
            done.push('\\');
        }
        done.push(c);
    }
    done
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
