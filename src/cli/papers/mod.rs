//! What comes with the program on paper: manual pages, and completions for three shells. Made when
//! packages are, from what the program itself goes by, so that neither can tell something else.

mod bash;
mod fish;
mod man;
mod roff;
mod shells;
mod tree;
mod zsh;

use crate::base::files;
use crate::cli::grammar::Grammar;
use crate::cli::{Cli, admin, bundle, service, syslog, uninstall};
use crate::package::manifest::Manifest;
use anyhow::{Context, Result};
use clap::CommandFactory;
use tree::Tool;

/// Longest text that is read.
const TEXT_LIMIT: usize = 1 << 20;
/// Sources of a manifest that are manual pages: `@man/omsagent.1`.
const MAN: &str = "@man/";
/// Sources of a manifest that are completions: `@completion/bash`.
const COMPLETION: &str = "@completion/";

/// The doors that clap passes words on to, by the word and by the name people call them by.
const OLDER: [(&str, &Grammar); 4] = [
    ("admin", &admin::GRAMMAR),
    ("service", &service::GRAMMAR),
    ("syslog", &syslog::GRAMMAR),
    ("uninstall", &uninstall::GRAMMAR),
];

/// Everything that is called by a name of its own.
fn programs() -> Vec<Tool> {
    let whole = Tool::of_command(&mut Cli::command(), &OLDER);
    // Whoever completes `uninstall` means somebody else's.
    let named = OLDER.iter().filter(|(word, _)| *word != "uninstall");
    let named = named.map(|(_, grammar)| Tool::of_grammar(grammar));
    std::iter::once(whole).chain(named).collect()
}

/// Makes everything that `manifest` names and that is made here. `time` is the packages'.
pub fn supply(manifest: &mut Manifest, time: u32) -> Result<()> {
    let wanted = manifest.file.iter().map(|file| file.source.clone());
    let wanted: Vec<String> = wanted.filter(|source| is_ours(source)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let tools = programs();
    for source in wanted {
        let text = make(&source, &tools, manifest, time).with_context(|| format!("`{source}`"))?;
        manifest.supply(source, text.into_bytes());
    }
    Ok(())
}

fn is_ours(source: &str) -> bool {
    source.starts_with(MAN) || source.starts_with(COMPLETION)
}

fn make(source: &str, tools: &[Tool], manifest: &Manifest, time: u32) -> Result<String> {
    match source.strip_prefix(COMPLETION) {
        Some("bash") => return Ok(bash::write(tools)),
        Some("zsh") => return Ok(zsh::write(tools)),
        Some("fish") => return Ok(fish::write(tools)),
        _ => {}
    }
    let name = source.strip_prefix(MAN).context("for bash, zsh and fish")?;
    let read = |path: String| -> Result<String> {
        let path = manifest.source(path);
        files::read_text(&path, TEXT_LIMIT)?
            .with_context(|| format!("no such file: `{}`", path.display()))
    };
    let older: Vec<&'static Grammar> = OLDER.iter().map(|(_, grammar)| *grammar).collect();
    let sources = man::Sources {
        tools,
        grammars: &[older, vec![&bundle::args::GRAMMAR]].concat(),
        docs: &|page| read(format!("../docs/{page}")),
    };
    let date = jiff::Timestamp::from_second(time.into())?.strftime("%Y-%m-%d");
    man::write(
        name,
        &read(format!("man/{name}.md"))?,
        &date.to_string(),
        &sources,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_has_what_clap_and_the_tables_have() {
        let tools = programs();
        let mut paths = Vec::new();
        tools.iter().for_each(|tool| {
            tool.walk(&mut |path, tool| {
                assert!(
                    path.split(' ').count() == 1 || !tool.about.is_empty(),
                    "{path}"
                );
                paths.push(path.to_owned());
            });
        });
        for path in [
            "omsagent hub workspace add",
            "omsagent service start",
            "omsagent uninstall P",
            "omsadmin.sh",
            "service_control reload",
            "configure_syslog.sh select",
        ] {
            assert!(paths.iter().any(|p| p == path), "{path} of {paths:?}");
        }
        for hidden in ["omsagent maintainer", "omsagent help"] {
            assert!(!paths.iter().any(|p| p == hidden), "{hidden}");
        }
        let options = &tools[1].options;
        assert!(options.iter().any(|o| o.spellings == ["--shared-key-file"]));
        assert_eq!(options.iter().filter(|o| o.spellings == ["-p"]).count(), 1);
    }
}
