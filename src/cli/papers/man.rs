//! Manual pages: prose from `bundle/man/*.md`, everything that can be typed from the program's own
//! tables, exit codes and parameters from the pages in `docs/`.
//!
//! Of Markdown it takes headings, paragraphs, lists, tables, code blocks and marks within a line.
//! The first line, `% text`, is what the thing is for. A line that begins with `@` is filled in:
//!
//! | | |
//! |---|---|
//! | `@synopsis PATH` | how a tool is called |
//! | `@options PATH` | its options |
//! | `@commands PATH [but NAME...]` | its subcommands with theirs |
//! | `@table NAME` | an older door's rows, under their titles |
//! | `@docs FILE HEADING` | what stands below a heading, or one that begins so, of a page in `docs/` |

use super::roff::Page;
use super::tree::{Operand, Tool, Value};
use crate::base::order;
use crate::cli::grammar::Grammar;
use anyhow::{Context, Result, bail};

/// Where a page's contents come from.
pub struct Sources<'a> {
    /// What can be typed.
    pub tools: &'a [Tool],
    /// The older doors' tables.
    pub grammars: &'a [&'static Grammar],
    /// The text of a page in `docs/`.
    pub docs: &'a dyn Fn(&str) -> Result<String>,
}

/// Writes the page `name` (`omsagent.1`) from its prose.
pub fn write(name: &str, prose: &str, date: &str, sources: &Sources) -> Result<String> {
    let mut page = Page::new(name, date, env!("CARGO_PKG_VERSION"));
    let (first, rest) = prose.split_once('\n').unwrap_or((prose, ""));
    let purpose = first
        .strip_prefix("% ")
        .context("the first line must be `% what it is for`")?;
    let title = name.rsplit_once('.').map_or(name, |(title, _)| title);
    page.section("name");
    page.words(&format!("{title} @@ {purpose}"));
    Writer {
        page: &mut page,
        sources,
    }
    .blocks(rest, true)?;
    // apropos(1) wants a minus sign there.
    Ok(page.finish().replacen(" @@ ", " \\- ", 1))
}

/// Before lines of code.
const INDENT: &str = "    ";

struct Writer<'a> {
    page: &'a mut Page,
    sources: &'a Sources<'a>,
}

impl Writer<'_> {
    /// `headings`: those of pages in `docs/` are left out.
    fn blocks(&mut self, text: &str, headings: bool) -> Result<()> {
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            if line.trim().is_empty() {
                continue;
            }
            if let Some(words) = line.strip_prefix('@') {
                self.fill_in(words).with_context(|| format!("`{line}`"))?;
            } else if let Some(title) = line.strip_prefix("### ") {
                self.page.subsection(&plain(title));
            } else if let Some(title) = line.strip_prefix("## ").filter(|_| headings) {
                self.page.section(&plain(title));
            } else if line.starts_with("```") {
                let code: Vec<&str> = lines
                    .by_ref()
                    .take_while(|l| !l.starts_with("```"))
                    .collect();
                self.page.verbatim(&code);
            } else if let Some(first) = line.strip_prefix(INDENT) {
                let mut code = vec![first];
                while let Some(next) = lines.next_if(|l| l.starts_with(INDENT)) {
                    code.extend(next.strip_prefix(INDENT));
                }
                self.page.verbatim(&code);
            } else if line.starts_with('|') {
                let mut rows = vec![line];
                while let Some(next) = lines.next_if(|l| l.starts_with('|')) {
                    rows.push(next);
                }
                self.table(&rows);
            } else {
                let mut words = line.to_owned();
                let ends = |l: &&str| l.trim().is_empty() || l.starts_with(['|', '@', '#', '-']);
                while let Some(next) = lines.next_if(|l| !ends(l) && !l.starts_with("```")) {
                    words.push(' ');
                    words.push_str(next.trim());
                }
                match words.strip_prefix("- ") {
                    Some(point) => self.page.point(point),
                    None => self.page.paragraph(&words),
                }
            }
        }
        Ok(())
    }

    /// A term each; of more than two columns, each further one is named by its heading.
    fn table(&mut self, rows: &[&str]) {
        let cells = |row: &str| -> Vec<String> {
            let row = row.trim().trim_start_matches('|');
            let row = row.strip_suffix('|').unwrap_or(row);
            row.split('|').map(|cell| cell.trim().to_owned()).collect()
        };
        let heads = cells(rows.first().copied().unwrap_or_default());
        for row in rows.iter().skip(2) {
            let mut row = cells(row);
            let mut heads = heads.as_slice();
            // What belongs to the row above stands a column further.
            while row.len() > 1 && row.first().is_some_and(String::is_empty) {
                row.remove(0);
                heads = heads.get(1..).unwrap_or_default();
            }
            let (tag, rest) = row
                .split_first()
                .map_or(("", &[][..]), |(t, r)| (t.as_str(), r));
            let mut named: Vec<(&str, &str)> = rest
                .iter()
                .zip(heads.iter().skip(1))
                .map(|(cell, head)| (head.as_str(), cell.as_str()))
                .collect();
            // What it does, then what it is without.
            order::by_key(&mut named, |(head, _)| head.eq_ignore_ascii_case("default"));
            let several = named.len() > 1;
            let meaning = named
                .iter()
                .enumerate()
                .filter(|(_, (_, cell))| !cell.is_empty());
            let meaning: Vec<String> = meaning
                .map(|(at, (head, cell))| match at {
                    0 => sentence(&capital_if(several, cell), several),
                    _ => sentence(&format!("{}: {cell}", capital(head)), true),
                })
                .collect();
            self.page.term(tag, &meaning.join(" "));
        }
    }

    fn fill_in(&mut self, words: &str) -> Result<()> {
        let (what, of) = words.split_once(' ').context("of what?")?;
        match what {
            "synopsis" => {
                let grammar = self.sources.grammars.iter().find(|g| g.name == of);
                match grammar {
                    Some(grammar) => self.page.verbatim(grammar.synopsis),
                    None => {
                        let tool = self.tool(of)?.clone();
                        self.synopsis(&tool.synopsis);
                    }
                }
            }
            "options" => {
                let tool = self.tool(of)?.clone();
                self.options(&tool);
            }
            "commands" => {
                let (of, but) = of.split_once(" but ").unwrap_or((of, ""));
                let but: Vec<&str> = but.split_whitespace().collect();
                for tool in &self.tool(of)?.tools.clone() {
                    if !but.contains(&tool.name.as_str()) {
                        self.command(of, tool);
                    }
                }
            }
            "table" => {
                let grammar = self.sources.grammars.iter().find(|g| g.name == of);
                let grammar = *grammar.context("no such tool")?;
                for section in grammar.sections {
                    self.page.subsection(section.title);
                    for (words, text) in section.rows {
                        self.page.term(&coded(words), text);
                    }
                }
            }
            "docs" => {
                let (file, heading) = of.split_once(' ').context("which heading?")?;
                let text = (self.sources.docs)(file)?;
                let section = section(&text, heading).context("no such heading")?;
                self.blocks(&section, false)?;
            }
            _ => bail!("there is no `@{what}`"),
        }
        Ok(())
    }

    fn tool(&self, path: &str) -> Result<&Tool> {
        let mut words = path.split(' ');
        let first = words.next().unwrap_or_default();
        let mut tool = self.sources.tools.iter().find(|t| t.name == first);
        for word in words {
            tool = tool.and_then(|tool| tool.tools.iter().find(|t| t.name == word));
        }
        tool.context("no such tool")
    }

    fn synopsis(&mut self, lines: &[String]) {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        self.page.verbatim(&lines);
    }

    fn command(&mut self, above: &str, tool: &Tool) {
        let path = format!("{above} {}", tool.name);
        if tool.tools.is_empty() || !tool.synopsis.is_empty() {
            self.page.subsection(&path);
            self.page.paragraph(&ended(&tool.about));
        }
        if tool.tools.is_empty() || tool.name == "pack" {
            self.synopsis(&tool.synopsis);
        }
        for Operand { value, text } in tool.operands.iter().filter(|o| !o.text.is_empty()) {
            self.page.term(&format!("*{}*", value.name), &ended(text));
        }
        self.options(tool);
        let older = tool.tools.iter().all(|t| t.synopsis.is_empty());
        for below in &tool.tools {
            match older {
                true => self
                    .page
                    .term(&word_with_values(below), &ended(&below.about)),
                false => self.command(&path, below),
            }
        }
        if !tool.after.is_empty() {
            let lines: Vec<&str> = tool.after.lines().collect();
            self.page.verbatim(&lines);
        }
    }

    /// All but those that every command has.
    fn options(&mut self, tool: &Tool) {
        for option in &tool.options {
            let common = option
                .spellings
                .iter()
                .any(|s| s == "--help" || s == "--version");
            if common && tool.name != "omsagent" {
                continue;
            }
            let mut tag: Vec<String> = option.spellings.iter().map(|s| format!("`{s}`")).collect();
            if let (Some(value), Some(last)) = (&option.value, tag.last_mut()) {
                last.push_str(&format!(" *{}*", value.name));
            }
            self.page.term(&tag.join(", "), &ended(&option.text));
        }
    }
}

fn word_with_values(tool: &Tool) -> String {
    let values = tool.operands.iter().map(|o| &o.value);
    let values: String = values
        .map(|Value { name, .. }| format!(" *{name}*"))
        .collect();
    format!("`{}`{values}", tool.name)
}

/// A row's words: what is typed as it is in bold, what is filled in underlined.
fn coded(row: &str) -> String {
    let words = row.split(' ').map(|word| {
        let bare = word.trim_matches(['[', ']', ',']);
        let mark = match bare.starts_with('-') || bare.chars().all(|c| !c.is_ascii_uppercase()) {
            true => '`',
            false => '*',
        };
        word.replace(bare, &format!("{mark}{bare}{mark}"))
    });
    words.collect::<Vec<_>>().join(" ")
}

/// What stands below the heading, up to the next one of its rank.
fn section(page: &str, heading: &str) -> Option<String> {
    let rank = |line: &str| line.chars().take_while(|c| *c == '#').count();
    let mut lines = page.lines();
    let found = lines
        .find(|l| rank(l) > 0 && plain(l.trim_start_matches(['#', ' '])).starts_with(heading))?;
    let rank_of_it = rank(found);
    let within = lines.take_while(|l| rank(l) == 0 || rank(l) > rank_of_it);
    Some(within.collect::<Vec<_>>().join("\n"))
}

/// Without marks.
fn plain(text: &str) -> String {
    text.replace('`', "")
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

fn capital_if(wanted: bool, text: &str) -> String {
    if wanted {
        capital(text)
    } else {
        text.to_owned()
    }
}

fn ended(text: &str) -> String {
    sentence(text, true)
}

/// With a full stop, where one is wanted.
fn sentence(text: &str, wanted: bool) -> String {
    match wanted && !text.is_empty() && !text.ends_with(['.', '?', '!']) {
        true => format!("{text}."),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(prose: &str) -> Result<String> {
        let tool = Tool {
            name: "x".into(),
            synopsis: vec!["x [OPTIONS]".into()],
            options: vec![super::super::tree::Opt {
                spellings: vec!["-a".into(), "--all".into()],
                value: None,
                text: "Everything".into(),
            }],
            ..Tool::default()
        };
        let docs = |_: &str| {
            Ok("# T\n## `x`\n| code | meaning | what to do |\n|---|---|---|\n| 0 | done | |\n| 1 | no | try |\n## y\nz\n".to_owned())
        };
        let sources = Sources {
            tools: &[tool],
            grammars: &[],
            docs: &docs,
        };
        write("x.1", prose, "2026-11-20", &sources)
    }

    #[test]
    fn prose_and_tables_become_a_page() {
        let text = page("% do it\n## Synopsis\n@synopsis x\n## Options\n@options x\n## Exit status\n@docs doc.md x\n## Notes\nOne\nline.\n\n- a\n- b\n").unwrap();
        let body = text.split_once(".ad l\n").unwrap().1;
        assert_eq!(
            body,
            ".SH \"NAME\"\nx \\- do it\n.SH \"SYNOPSIS\"\n.RS 4\n.nf\nx [OPTIONS]\n.fi\n.RE\n\
             .SH \"OPTIONS\"\n.TP\n\\fB\\-a\\fR, \\fB\\-\\-all\\fR\nEverything.\n\
             .SH \"EXIT STATUS\"\n.TP\n0\nDone.\n.TP\n1\nNo. What to do: try.\n\
             .SH \"NOTES\"\nOne line.\n.IP \\(bu 2\na\n.IP \\(bu 2\nb\n"
        );
    }

    #[test]
    fn a_row_may_belong_to_the_one_above() {
        let text = page(
            "% p\n## T\n| type | parameter | values | default |\n|---|---|---|---|\n\
             | `s` (1) | | | |\n| | `port` | 0 to 9 | `5` |\n",
        );
        let text = text.unwrap();
        let body = text.split_once(".SH \"T\"\n").unwrap().1;
        assert_eq!(
            body,
            ".TP\n\\fBs\\fR (1)\n\\&\n.TP\n\\fBport\\fR\n0 to 9. Default: \\fB5\\fR.\n"
        );
    }

    #[test]
    fn what_cannot_be_filled_in_is_an_error() {
        for prose in [
            "no purpose",
            "% p\n@options y",
            "% p\n@options x y",
            "% p\n@table x",
            "% p\n@docs doc.md z",
            "% p\n@other x",
            "% p\n@options",
        ] {
            assert!(page(prose).is_err(), "{prose}");
        }
    }

    #[test]
    fn words_of_a_row_are_marked() {
        assert_eq!(coded("-w, --id ID"), "`-w`, `--id` *ID*");
        assert_eq!(coded("start [WORKSPACE]"), "`start` [*WORKSPACE*]");
        assert_eq!(coded("--progress auto|never"), "`--progress` `auto|never`");
    }
}
