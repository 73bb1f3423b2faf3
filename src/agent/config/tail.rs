//! `type tail` and `type sudo_tail` (protocol.md 5.3 to 5.5, 7.6).

use super::reader::Reader;
use crate::agent::tail::format::{Format, Parser, Type};
use crate::agent::tail::pattern::Patterns;
use crate::settings::fluent::{Place, Problem};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most patterns in one `path`.
const PATTERNS_LIMIT: usize = 256;
/// Most keys of a format.
const KEYS_LIMIT: usize = 1000;

/// A source of lines that stand in files.
#[derive(Debug, Clone)]
pub struct Tail {
    /// `tail` or `sudo_tail`.
    pub kind: &'static str,
    /// Which files.
    pub patterns: Patterns,
    /// As it is written; in that of a `tail`, `*` is the file's path.
    pub tag: String,
    /// Where positions are kept.
    pub pos_file: PathBuf,
    /// Where they are kept if not there.
    pub state: PathBuf,
    /// How lines are read.
    pub parser: Parser,
    /// Bytes are ISO 8859-1.
    pub latin1: bool,
    /// New files from their beginning.
    pub read_from_head: bool,
    /// Between looks at the patterns (`run_interval` of a `sudo_tail`).
    pub refresh: Duration,
    /// How long a file that was moved away is still read.
    pub rotate_wait: Duration,
    /// Lines of one file before another gets its turn.
    pub lines_at_once: u32,
    /// The key that tells the file, in records.
    pub path_key: Option<String>,
    /// Where it is written.
    pub place: String,
    /// What is asked for and not there: parameter and reason. Lines are sent whole instead.
    pub(super) doubts: Vec<(Place, &'static str, String)>,
}

impl PartialEq for Tail {
    /// Do they do the same, wherever they are written?
    fn eq(&self, other: &Tail) -> bool {
        (self.kind, &self.patterns, &self.tag) == (other.kind, &other.patterns, &other.tag)
            && (&self.pos_file, &self.state) == (&other.pos_file, &other.state)
            && (&self.parser, &self.path_key) == (&other.parser, &other.path_key)
            && (self.latin1, self.read_from_head) == (other.latin1, other.read_from_head)
            && (self.refresh, self.rotate_wait) == (other.refresh, other.rotate_wait)
            && self.lines_at_once == other.lines_at_once
    }
}

impl Tail {
    pub(super) fn read(read: &Reader<'_>, state: &Path) -> Result<Tail, Problem> {
        let sudo = read.plugin.name == "sudo_tail";
        let mut doubts = Vec::new();
        // The shipped file of `sudo_tail` has blanks between paths.
        let apart = |c: char| c == ',' || (sudo && c.is_whitespace());
        let include = patterns(read, "path", read.text("path")?.split(apart))?;
        if include.is_empty() {
            return Err(read.wrong("path", "the name of a file, from `/` on"));
        }
        let tag = read.text("tag")?.to_owned();
        let pos_file = match read.written("pos_file") {
            Some(path) => PathBuf::from(&path.value),
            None => state.join("tail.pos"),
        };
        let interval = match sudo {
            true => "run_interval",
            false => "refresh_interval",
        };
        Ok(Tail {
            kind: read.plugin.name,
            patterns: Patterns {
                include,
                exclude: excluded(read)?,
            },
            tag,
            pos_file,
            state: state.to_owned(),
            parser: parser(read, &mut doubts)?,
            latin1: is_latin1(read, &mut doubts),
            read_from_head: read.flag("read_from_head")?,
            // Zero would be a busy loop.
            refresh: read.time(interval)?.max(Duration::from_millis(100)),
            rotate_wait: match sudo {
                true => Duration::from_secs(5),
                false => read.time("rotate_wait")?,
            },
            lines_at_once: match sudo {
                true => 1000,
                false => read.number("read_lines_limit")?,
            },
            path_key: read.written("path_key").map(|p| p.value.clone()),
            place: read.element.place.to_string(),
            doubts,
        })
    }

    /// The tag of one file's lines: that of a `tail` with a `*` has the path in its place, by dots.
    pub fn tag_of(&self, path: &Path) -> String {
        if self.kind != "tail" || !self.tag.contains('*') {
            return self.tag.clone();
        }
        let path = path.to_string_lossy().replace('/', ".");
        let parts: Vec<&str> = path.split('.').filter(|p| !p.is_empty()).collect();
        self.tag.replacen('*', &parts.join("."), 1)
    }
}

fn patterns<'t>(
    read: &Reader<'_>,
    key: &str,
    texts: impl Iterator<Item = &'t str>,
) -> Result<Vec<String>, Problem> {
    let texts = texts.map(str::trim).filter(|t| !t.is_empty());
    let texts: Vec<String> = texts.map(str::to_owned).collect();
    let good = |t: &String| t.starts_with('/') && !t.contains('\0');
    if texts.len() > PATTERNS_LIMIT || !texts.iter().all(good) {
        let wanted = format!("at most {PATTERNS_LIMIT} names of files, each from `/` on");
        return Err(read.wrong(key, &wanted));
    }
    Ok(texts)
}

/// A JSON list, or names with commas.
fn excluded(read: &Reader<'_>) -> Result<Vec<String>, Problem> {
    let Some(written) = read.written("exclude_path") else {
        return Ok(Vec::new());
    };
    let text = written.value.trim();
    if !text.starts_with('[') {
        return patterns(read, "exclude_path", text.split(','));
    }
    let list: Vec<String> = serde_json::from_slice(text.as_bytes()).map_err(|_| {
        read.wrong(
            "exclude_path",
            "a list of texts, such as `[\"/var/log/*.gz\"]`",
        )
    })?;
    patterns(read, "exclude_path", list.iter().map(String::as_str))
}

type Doubts = Vec<(Place, &'static str, String)>;

fn parser(read: &Reader<'_>, doubts: &mut Doubts) -> Result<Parser, Problem> {
    let text = |key| read.written(key).map(|p| p.value.clone());
    let delimiter = |usual: &str| text("delimiter").unwrap_or_else(|| usual.to_owned());
    let separated = |usual: &str, quotes| {
        let keys = read.text("keys")?;
        let keys: Vec<String> = keys.split(',').map(|k| k.trim().to_owned()).collect();
        if keys.len() > KEYS_LIMIT {
            return Err(read.wrong("keys", &format!("at most {KEYS_LIMIT} names")));
        }
        Ok(Format::Separated {
            delimiter: delimiter(usual),
            keys,
            quotes,
        })
    };
    let format = match read.text("format")? {
        "none" => Format::None,
        "json" => Format::Json,
        "csv" => separated(",", true)?,
        "tsv" => separated("\t", false)?,
        "apache2" => Format::Apache2,
        "ltsv" => Format::Labelled {
            delimiter: delimiter("\t"),
            label_delimiter: text("label_delimiter").unwrap_or_else(|| ":".into()),
        },
        other => {
            let what = match other.starts_with('/') {
                true => "regular expressions are",
                false => "this format is",
            };
            if let Some(param) = read.written("format") {
                let why = format!(
                    "{what} not built in this version: lines are sent whole, as with `none`"
                );
                doubts.push((param.place.clone(), "format", why));
            }
            return Ok(Parser::none());
        }
    };
    let time_key = match read.flag("keep_time_key")? {
        true => None,
        false => Some(read.text("time_key")?.to_owned()),
    };
    let mut types = Vec::new();
    if let Some(written) = read.written("types") {
        for pair in written.value.split(',').map(str::trim) {
            let (name, kind) = pair.split_once(':').unwrap_or((pair, ""));
            let kind = match kind {
                "integer" => Type::Integer,
                "float" => Type::Float,
                "bool" => Type::Bool,
                "string" => continue,
                _ => {
                    let why = format!(
                        "`{pair}` is none of string, integer, float, bool: it stays a text"
                    );
                    doubts.push((written.place.clone(), "types", why));
                    continue;
                }
            };
            types.push((name.to_owned(), kind));
        }
    }
    Ok(Parser {
        format,
        time_key,
        types,
    })
}

fn is_latin1(read: &Reader<'_>, doubts: &mut Doubts) -> bool {
    let Some(written) = read.written("from_encoding").or(read.written("encoding")) else {
        return false;
    };
    match written.value.to_ascii_lowercase().as_str() {
        "iso-8859-1" | "iso8859-1" | "latin1" | "latin-1" => true,
        "utf-8" | "utf8" | "ascii-8bit" | "us-ascii" | "binary" => false,
        _ => {
            let key = match written.key.as_str() {
                "encoding" => "encoding",
                _ => "from_encoding",
            };
            let why = "only UTF-8 and ISO-8859-1 are known: bytes are read as UTF-8".to_owned();
            doubts.push((written.place.clone(), key, why));
            false
        }
    }
}
