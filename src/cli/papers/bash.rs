//! Completion for bash: one function, which finds the tool by the words typed so far.

use super::shells::{self, WORKSPACES};
use super::tree::{Kind, Tool};
use std::collections::BTreeMap;

/// Kinds of values, as the script calls them.
fn word(kind: &Kind) -> &'static str {
    match kind {
        Kind::Any => "any",
        Kind::File => "file",
        Kind::Folder => "folder",
        Kind::Workspace => "workspace",
        Kind::Words(_) => "words",
    }
}

/// The file for all of `tools`.
pub fn write(tools: &[Tool]) -> String {
    let mut paths = Vec::new();
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut offers = String::new();
    for tool in tools {
        tool.walk(&mut |path, tool| {
            if path.contains(' ') {
                paths.push(format!("'{path}'"));
            }
            for option in &tool.options {
                let Some(value) = &option.value else { continue };
                let mut action = format!("takes='{}'", word(&value.kind));
                if let Kind::Words(words) = &value.kind {
                    action.push_str(&format!(" words='{}'", words.join(" ")));
                }
                let keys = shells::spellings(&option.spellings).map(|s| format!("'{path} {s}'"));
                values.entry(action).or_default().extend(keys);
            }
            let mut names: Vec<&str> = tool.tools.iter().map(|t| t.name.as_str()).collect();
            if let Some(Kind::Words(words)) = shells::operand(tool) {
                names.extend(words.iter().map(String::as_str));
            }
            let options = tool
                .options
                .iter()
                .flat_map(|o| shells::spellings(&o.spellings));
            let options: Vec<&str> = options.collect();
            let operand = shells::operand(tool).map_or("", word);
            offers.push_str(&format!(
                "        '{path}') names='{}' options='{}' operand='{operand}' ;;\n",
                names.join(" "),
                options.join(" "),
            ));
        });
    }
    let values: String = values
        .iter()
        .map(|(action, keys)| format!("        {}) {action} ;;\n", keys.join(" | ")))
        .collect();
    let names: Vec<&str> = tools.iter().map(|t| t.name.as_str()).collect();
    format!(
        "{title}# shellcheck shell=bash

_omsagent_workspaces() {{
    local f
    {WORKSPACES}
}}

_omsagent() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}} path=${{COMP_WORDS[0]##*/}}
    local i takes='' words='' names='' options='' operand=''
    COMPREPLY=()
    # `--option=value` comes as three words.
    if [[ $cur == '=' ]]; then
        cur=''
    elif [[ $prev == '=' ]]; then
        prev=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        case \"$path ${{COMP_WORDS[i]}}\" in
        {paths}) path+=\" ${{COMP_WORDS[i]}}\" ;;
        esac
    done
    case \"$path $prev\" in
{values}    esac
    case $path in
{offers}    esac
    if [[ -z $takes ]]; then
        if [[ $cur == -* || -z $names$operand ]]; then
            words=$options
        else
            words=$names takes=$operand
        fi
    fi
    case $takes in
        file) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- \"$cur\") ;;
        folder) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- \"$cur\") ;;
        workspace) words+=\" $(_omsagent_workspaces)\" ;;
    esac
    if [[ -n $words ]]; then
        mapfile -t -O \"${{#COMPREPLY[@]}}\" COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")
    fi
}}

complete -F _omsagent {names}
",
        title = shells::title("bash", tools),
        paths = paths.join(" | "),
        names = names.join(" "),
    )
}
