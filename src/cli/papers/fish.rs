//! Completion for fish: a line for each thing that can be offered.

use super::shells::{self, WORKSPACES};
use super::tree::{Kind, Opt, Tool};

/// The file for all of `tools`.
pub fn write(tools: &[Tool]) -> String {
    let mut paths = Vec::new();
    let mut lines = String::new();
    for program in tools {
        lines.push_str(&format!("\ncomplete -c {} -f\n", program.name));
        program.walk(&mut |path, tool| {
            if path.contains(' ') {
                paths.push(quoted(path));
            }
            let head = format!(
                "complete -c {} -n {}",
                program.name,
                quoted(&format!("__omsagent_at {}", quoted(path)))
            );
            for below in &tool.tools {
                lines.push_str(&format!(
                    "{head} -a {} -d {}\n",
                    quoted(&below.name),
                    text(&below.about)
                ));
            }
            if let Some(kind) = shells::operand(tool) {
                lines.push_str(&format!("{head} {}\n", offer(kind)));
            }
            for option in &tool.options {
                lines.push_str(&format!("{head}{}\n", one(option)));
            }
        });
    }
    format!(
        "{title}
set -g __omsagent_paths {paths}

function __omsagent_at
    set -l path
    for word in (commandline -opc)
        if test -z \"$path\"
            set path (string replace -r '.*/' '' -- $word)
        else if contains -- \"$path $word\" $__omsagent_paths
            set path \"$path $word\"
        end
    end
    test \"$path\" = \"$argv[1]\"
end

function __omsagent_workspaces
    sh -c {workspaces}
end
{lines}",
        title = shells::title("fish", tools),
        paths = paths.join(" "),
        workspaces = quoted(WORKSPACES),
    )
}

fn one(option: &Opt) -> String {
    let mut line = String::new();
    for spelling in shells::spellings(&option.spellings) {
        line.push_str(&match spelling.strip_prefix("--") {
            Some(long) => format!(" -l {long}"),
            None => format!(" -s {}", spelling.trim_start_matches('-')),
        });
    }
    if let Some(value) = &option.value {
        line.push_str(" -r ");
        line.push_str(&offer(&value.kind));
    }
    format!("{line} -d {}", text(&option.text))
}

fn offer(kind: &Kind) -> String {
    match kind {
        Kind::Any => "-f".to_owned(),
        Kind::File => "-F".to_owned(),
        Kind::Folder => "-f -a '(__fish_complete_directories)'".to_owned(),
        Kind::Workspace => "-f -a '(__omsagent_workspaces)'".to_owned(),
        Kind::Words(words) => format!("-f -a {}", quoted(&words.join(" "))),
    }
}

fn text(text: &str) -> String {
    quoted(&shells::plain(text))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
