//! The subset of the fluentd 0.12 "v1" syntax that the original's configuration is written in
//! (protocol.md 5.1): elements that nest, `key value` parameters, quoting, comments, `@include`.
//!
//! This file is the grammar and touches no disk; [`load`] reads files and follows globs.

mod load;
mod value;

pub use load::load;
pub use value::{BadValue, boolean, duration, size};

use std::fmt;
use std::sync::Arc;

/// Elements inside elements inside elements: how many levels.
pub const DEPTH_LIMIT: usize = 16;
/// Files that include files that include files: how many levels.
pub const INCLUDE_DEPTH_LIMIT: usize = 8;
/// Bytes of one file.
pub const FILE_LIMIT: usize = 1 << 20;
/// Files read for one configuration.
pub const FILE_COUNT_LIMIT: usize = 512;
/// Elements and parameters of one configuration, together.
pub const NODE_LIMIT: usize = 50_000;

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named when it was opened.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What is wrong, and where: `file:line: text`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {text}")]
pub struct Problem {
    /// File and line.
    pub place: Place,
    /// What is wrong there, and what to write instead.
    pub text: String,
}

/// `key value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param {
    /// First word of the line.
    pub key: String,
    /// The rest, unquoted; `true` for a key that stands alone.
    pub value: String,
    /// Where it stands.
    pub place: Place,
}

/// `<name arg>` … `</name>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// `source`, `match`, `filter`, `record`, …
    pub name: String,
    /// The rest of the opening line: a tag pattern for `match` and `filter`.
    pub arg: String,
    /// Parameters in the order written.
    pub params: Vec<Param>,
    /// Elements inside, in the order written.
    pub children: Vec<Element>,
    /// The opening line.
    pub place: Place,
}

impl Element {
    /// The parameter of that name; of several, the last one counts.
    pub fn param(&self, key: &str) -> Option<&Param> {
        self.params.iter().rev().find(|p| p.key == key)
    }

    /// The plug-in it asks for: `@type` or `type`.
    pub fn kind(&self) -> Option<&Param> {
        self.param("@type").or_else(|| self.param("type"))
    }
}

/// A whole configuration: what stands at top level of the main file, includes put in their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Parameters outside any element.
    pub params: Vec<Param>,
    /// Top-level elements in order.
    pub elements: Vec<Element>,
    /// Things that were read but mean nothing here.
    pub warnings: Vec<Problem>,
    /// Every file that was read, in order; one that is included twice stands twice.
    pub files: Vec<String>,
}

/// A file that an `@include` named: its name for messages, and its text.
#[derive(Debug, Clone)]
pub struct Included {
    /// As it shall appear in a [`Place`].
    pub name: String,
    /// Content.
    pub text: String,
}

/// Finds the files of an `@include`.
pub trait Includes {
    /// The files that `glob`, written in `file`, names: in name order; none is no error.
    /// The error is the reason only; the caller knows the place.
    fn find(&mut self, file: &str, glob: &str) -> Result<Vec<Included>, String>;
}

/// For texts that stand alone: every `@include` finds nothing.
impl Includes for () {
    fn find(&mut self, _file: &str, _glob: &str) -> Result<Vec<Included>, String> {
        Ok(Vec::new())
    }
}

/// Reads a configuration text; `name` is what messages call it.
pub fn parse(name: &str, text: &str, includes: &mut dyn Includes) -> Result<Document, Problem> {
    let mut reader = Reader {
        includes,
        warnings: Vec::new(),
        nodes: 0,
        files: Vec::new(),
    };
    let mut root = Element {
        name: String::new(),
        arg: String::new(),
        params: Vec::new(),
        children: Vec::new(),
        place: Place {
            file: name.into(),
            line: 1,
        },
    };
    reader.file(name, text, 0, 0, &mut root)?;
    Ok(Document {
        params: root.params,
        elements: root.children,
        warnings: reader.warnings,
        files: reader.files,
    })
}

struct Reader<'a> {
    includes: &'a mut dyn Includes,
    warnings: Vec<Problem>,
    nodes: usize,
    files: Vec<String>,
}

/// One file being read, line by line.
struct Lines<'t> {
    file: Arc<str>,
    rest: &'t str,
    line: u32,
}

impl<'t> Lines<'t> {
    fn place(&self) -> Place {
        Place {
            file: self.file.clone(),
            line: self.line,
        }
    }

    fn problem(&self, text: impl Into<String>) -> Problem {
        Problem {
            place: self.place(),
            text: text.into(),
        }
    }

    /// The next line without its end; `self.line` is its number.
    fn next(&mut self) -> Option<&'t str> {
        if self.rest.is_empty() {
            return None;
        }
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line += 1;
        Some(line.strip_suffix('\r').unwrap_or(line))
    }
}

impl Reader<'_> {
    fn file(
        &mut self,
        name: &str,
        text: &str,
        includes: usize,
        depth: usize,
        into: &mut Element,
    ) -> Result<(), Problem> {
        let mut lines = Lines {
            file: name.into(),
            rest: text.strip_prefix('\u{feff}').unwrap_or(text),
            line: 0,
        };
        self.files.push(name.to_owned());
        if self.files.len() > FILE_COUNT_LIMIT {
            return Err(lines.problem(format!("more than {FILE_COUNT_LIMIT} files are included")));
        }
        if text.len() > FILE_LIMIT {
            return Err(lines.problem(format!("the file is larger than {FILE_LIMIT} bytes")));
        }
        self.body(&mut lines, includes, depth, into, true)
    }

    /// Reads up to the closing line of `into`, or to the end of the file when `whole`.
    fn body(
        &mut self,
        lines: &mut Lines<'_>,
        includes: usize,
        depth: usize,
        into: &mut Element,
        whole: bool,
    ) -> Result<(), Problem> {
        while let Some(line) = lines.next() {
            let line = line.trim_start(); // not its end: a quoted value may span lines
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(closing) = line.strip_prefix("</") {
                let name = closing.split('>').next().unwrap_or(closing).trim();
                if whole {
                    return Err(
                        lines.problem(format!("`</{name}>` closes nothing: no `<{name}>` is open"))
                    );
                }
                if name != into.name {
                    return Err(lines.problem(format!(
                        "`</{name}>` where `</{}>` is due (opened at {})",
                        into.name, into.place
                    )));
                }
                return Ok(());
            }
            self.nodes += 1;
            if self.nodes > NODE_LIMIT {
                return Err(lines.problem(format!(
                    "more than {NODE_LIMIT} elements and parameters in one configuration"
                )));
            }
            if line.starts_with('<') {
                let mut element = opening(line, lines)?;
                if depth >= DEPTH_LIMIT {
                    return Err(
                        lines.problem(format!("elements are nested more than {DEPTH_LIMIT} deep"))
                    );
                }
                self.body(lines, includes, depth + 1, &mut element, false)?;
                into.children.push(element);
            } else if let Some(glob) = directive(line, "@include").or(directive(line, "include")) {
                let glob = value::text(glob, lines, &mut self.warnings)?;
                if glob.is_empty() {
                    return Err(lines.problem("`@include` without a file name"));
                }
                if includes >= INCLUDE_DEPTH_LIMIT {
                    return Err(lines.problem(format!(
                        "includes are nested more than {INCLUDE_DEPTH_LIMIT} deep; does a file include itself?"
                    )));
                }
                let place = lines.place();
                let found = self.includes.find(&lines.file, &glob);
                let found = found.map_err(|text| Problem { place, text })?;
                for file in found {
                    self.file(&file.name, &file.text, includes + 1, depth, into)?;
                }
            } else {
                let place = lines.place();
                let cut = line.find(char::is_whitespace).unwrap_or(line.len());
                let (key, rest) = line.split_at(cut);
                let value = match rest.trim_start() {
                    rest if rest.is_empty() || rest.starts_with('#') => "true".to_owned(),
                    rest => value::text(rest, lines, &mut self.warnings)?,
                };
                into.params.push(Param {
                    key: key.to_owned(),
                    value,
                    place,
                });
            }
        }
        if whole {
            Ok(())
        } else {
            Err(Problem {
                place: into.place.clone(),
                text: format!("`<{0}>` is never closed: `</{0}>` is missing", into.name),
            })
        }
    }
}

/// What follows `word` if the line begins with it and a blank.
fn directive<'l>(line: &'l str, word: &str) -> Option<&'l str> {
    let rest = line.strip_prefix(word)?;
    (rest.is_empty() || rest.starts_with(char::is_whitespace)).then(|| rest.trim())
}

/// `<name arg>`; the argument may be quoted and may then hold a `>`.
fn opening(line: &str, lines: &Lines<'_>) -> Result<Element, Problem> {
    let wrong = || lines.problem(format!("`{}` is no element: `<name arg>`", brief(line)));
    let inner = line.strip_prefix('<').ok_or_else(wrong)?;
    let end = inner
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .ok_or_else(wrong)?;
    let (name, rest) = inner.split_at(end);
    if name.is_empty() || !(rest.starts_with('>') || rest.starts_with(char::is_whitespace)) {
        return Err(wrong());
    }
    let mut quote = None;
    let close = rest.char_indices().find(|&(_, c)| match quote {
        Some(q) if c == q => {
            quote = None;
            false
        }
        Some(_) => false,
        None if c == '"' || c == '\'' => {
            quote = Some(c);
            false
        }
        None => c == '>',
    });
    let (close, _) = close.ok_or_else(wrong)?;
    let tail = rest[close + 1..].trim_start();
    if !(tail.is_empty() || tail.starts_with('#')) {
        return Err(lines.problem(format!(
            "`{}` after `>`: an element's content begins on the next line",
            brief(tail)
        )));
    }
    let arg = rest[..close].trim();
    let bare = ['"', '\''].iter().find_map(|&q| {
        let inner = arg.strip_prefix(q)?.strip_suffix(q)?;
        (!inner.contains(q)).then_some(inner)
    });
    Ok(Element {
        name: name.to_owned(),
        arg: bare.unwrap_or(arg).to_owned(),
        params: Vec::new(),
        children: Vec::new(),
        place: lines.place(),
    })
}

/// The beginning of a text, for a message.
fn brief(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests;
