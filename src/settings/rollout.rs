//! The answers file of `--answers`: the bundle's options as keys, for all hosts and for some
//! (docs/answers.md). Parsing only; nothing is read or looked up here.

use crate::base::ids::WorkspaceId;
use crate::base::order;
use crate::base::secret::shown_word;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What a key's value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text that is not empty.
    Text,
    /// A text that is a path; a relative one starts at the answers file.
    Path,
    /// `true` or `false`.
    Flag,
    /// A whole number from 0 to this one.
    Number(u64),
    /// The id of a workspace.
    Id,
    /// One of these words.
    Word(&'static [&'static str]),
    /// The name of an environment variable, which holds the value.
    Variable,
}

/// A key, its option (with an empty one the door knows what to do) and its kind.
pub type Key = (&'static str, &'static str, Kind);

const MODES: &[&str] = &[
    "install",
    "upgrade",
    "remove",
    "purge",
    "extract",
    "version-check",
];

/// Every key there is, in the order of docs/answers.md.
pub const KEYS: &[Key] = &[
    ("mode", "", Kind::Word(MODES)),
    ("id", "--id", Kind::Id),
    ("shared_key_file", "--shared-key-file", Kind::Path),
    ("shared_key_env", "", Kind::Variable),
    ("domain", "--domain", Kind::Text),
    ("proxy", "--proxy", Kind::Text),
    ("proxy_env", "--proxy", Kind::Variable),
    ("azure_resource", "--azure-resource", Kind::Text),
    ("multi_homing_marker", "--multi-homing-marker", Kind::Text),
    ("ca_file", "--ca-file", Kind::Path),
    ("force", "--force", Kind::Flag),
    ("dry_run", "--dry-run", Kind::Flag),
    ("lock_timeout", "--lock-timeout", Kind::Number(86_400)),
    ("portable", "--portable", Kind::Flag),
    ("root", "--root", Kind::Path),
    ("no_digest", "--noDigest", Kind::Flag),
    ("restart_deps", "--restart-deps", Kind::Flag),
    (
        "skip_docker_provider_install",
        "--skip-docker-provider-install",
        Kind::Flag,
    ),
    ("enable_opsmgr", "--enable-opsmgr", Kind::Flag),
    ("extract_script", "--extract-script", Kind::Path),
    ("extract_binary", "--extract-binary", Kind::Path),
    ("debug", "--debug", Kind::Flag),
    ("interactive", "--interactive", Kind::Flag),
    ("json", "--json", Kind::Flag),
    (
        "progress",
        "--progress",
        Kind::Word(&["auto", "always", "never"]),
    ),
    ("log", "--log", Kind::Path),
    ("detailed_exitcode", "--detailed-exitcode", Kind::Flag),
    ("yes", "--yes", Kind::Flag),
];

/// Keys of which a host may have one only.
const EITHER: &[(&str, &str)] = &[
    ("shared_key_file", "shared_key_env"),
    ("proxy", "proxy_env"),
];

/// Most `[[host]]` blocks.
pub const HOSTS: usize = 10_000;

/// A value that fits its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Of [`Kind::Text`], `Id`, `Path`, `Word`, `Variable` and, in digits, `Number`.
    Text(String),
    /// Of [`Kind::Flag`].
    Flag(bool),
}

/// Keys with their values.
pub type Settings = BTreeMap<&'static str, Value>;

/// A whole file.
#[derive(Debug, Default)]
pub struct Rollout {
    everywhere: Settings,
    hosts: Vec<(Vec<String>, Settings)>,
}

/// One thing that is wrong with the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What, and what would be right.
    pub text: String,
}

/// Everything that is wrong with the file, in its order.
#[derive(Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            let separator = if n == 0 { "" } else { "\n" };
            let Problem { line, column, text } = problem;
            write!(f, "{separator}line {line}, column {column}: {text}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl Rollout {
    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<Rollout, Problems> {
        let mut reader = Reader {
            text,
            problems: Vec::new(),
        };
        let mut rollout = Rollout::default();
        match DeTable::parse(text) {
            Err(e) => reader.wrong(e.span().unwrap_or(0..0), e.message().to_owned()),
            Ok(table) => rollout = reader.file(table.get_ref()),
        }
        if reader.problems.is_empty() {
            return Ok(rollout);
        }
        order::by_key(&mut reader.problems, |p| (p.line, p.column));
        Err(Problems(reader.problems))
    }

    /// What holds for the host of that name: the keys for all, then each block that fits, in the
    /// file's order, the later one winning.
    pub fn for_host(&self, name: &str) -> Settings {
        let mut settings = self.everywhere.clone();
        for (patterns, more) in &self.hosts {
            if patterns.iter().any(|p| fits(p, name)) {
                for (a, b) in EITHER {
                    // One way to give a secret replaces the other.
                    for (new, old) in [(a, b), (b, a)] {
                        if more.contains_key(new) {
                            settings.remove(old);
                        }
                    }
                }
                settings.extend(more.clone());
            }
        }
        settings
    }
}

/// Does the pattern (`*` any characters, `?` one) fit the name, or its part before the first dot?
fn fits(pattern: &str, name: &str) -> bool {
    let fold = |s: &str| s.to_lowercase().chars().collect::<Vec<char>>();
    let short = name.split('.').next().unwrap_or(name);
    let pattern = fold(pattern);
    glob(&pattern, &fold(name)) || glob(&pattern, &fold(short))
}

/// Without recursion: on a mismatch the last `*` takes one character more.
fn glob(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, taken)) = star else {
                    return false;
                };
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

struct Reader<'t> {
    text: &'t str,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn wrong(&mut self, span: Range<usize>, text: String) {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_begins = before.rfind('\n').map_or(0, |at| at + 1);
        self.problems.push(Problem {
            line: before.matches('\n').count() + 1,
            column: before[line_begins..].chars().count() + 1,
            text,
        });
    }

    fn file(&mut self, table: &DeTable<'_>) -> Rollout {
        let mut rollout = Rollout {
            everywhere: self.settings(table, "host"),
            hosts: Vec::new(),
        };
        let Some(hosts) = table.get("host") else {
            return rollout;
        };
        let Some(blocks) = hosts.get_ref().as_array() else {
            let text = "`host` must be blocks that begin with a line [[host]]";
            self.wrong(hosts.span(), text.into());
            return rollout;
        };
        if blocks.len() > HOSTS {
            self.wrong(hosts.span(), format!("more than {HOSTS} [[host]] blocks"));
            return rollout;
        }
        for block in blocks.iter() {
            match block.get_ref().as_table() {
                Some(inner) => {
                    let patterns = self.patterns(block.span(), inner);
                    let settings = self.settings(inner, "match");
                    rollout.hosts.push((patterns, settings));
                }
                None => self.wrong(block.span(), "a [[host]] block is a table".into()),
            }
        }
        rollout
    }

    fn patterns(&mut self, span: Range<usize>, block: &DeTable<'_>) -> Vec<String> {
        let Some(value) = block.get("match") else {
            let text = "a [[host]] block needs match = \"pattern\" or a list of patterns";
            self.wrong(span, text.into());
            return Vec::new();
        };
        let one = std::slice::from_ref(value);
        let all: &[Spanned<DeValue<'_>>] = value.get_ref().as_array().map_or(one, |list| list);
        let mut patterns = Vec::new();
        for value in all {
            match value.get_ref().as_str() {
                Some(text) if !text.is_empty() => patterns.push(text.to_owned()),
                _ => self.wrong(value.span(), "a pattern is a text that is not empty".into()),
            }
        }
        patterns
    }

    /// All keys of one table but `other`.
    fn settings(&mut self, table: &DeTable<'_>, other: &'static str) -> Settings {
        let mut settings = Settings::new();
        for (key, value) in table.iter() {
            let name: &str = key.get_ref();
            if name == other {
                continue;
            }
            let Some((name, _, kind)) = KEYS.iter().find(|(known, _, _)| *known == name) else {
                self.wrong(key.span(), unknown(name, other));
                continue;
            };
            match valued(*kind, value.get_ref()) {
                Ok(value) => {
                    settings.insert(name, value);
                }
                Err(want) => self.wrong(value.span(), format!("`{name}` must be {want}")),
            }
        }
        for (a, b) in EITHER {
            if let (Some(_), Some((key, _))) = (table.get(*a), table.get_key_value(*b)) {
                let text = format!("`{a}` and `{b}` exclude each other");
                self.wrong(key.span(), text);
            }
        }
        if let Some(Value::Text(line)) = settings.get("proxy")
            && line.contains('@')
            && let Some(value) = table.get("proxy")
        {
            let text = "a password is not written into this file: put the whole line into an \
                        environment variable and name that with `proxy_env`";
            self.wrong(value.span(), text.into());
        }
        settings
    }
}

/// The value of a key; otherwise what it must be.
fn valued(kind: Kind, value: &DeValue<'_>) -> Result<Value, String> {
    let text = value
        .as_str()
        .filter(|t| !t.is_empty() && !t.contains('\0'));
    let number = || value.as_integer()?.as_str().parse::<u64>().ok();
    match kind {
        Kind::Flag => match value.as_bool() {
            Some(flag) => Ok(Value::Flag(flag)),
            None => Err("true or false".into()),
        },
        Kind::Number(most) => number()
            .filter(|n| *n <= most)
            .map(|n| Value::Text(n.to_string()))
            .ok_or_else(|| format!("a whole number from 0 to {most}")),
        Kind::Id => text
            .filter(|t| t.parse::<WorkspaceId>().is_ok())
            .map(|t| Value::Text(t.into()))
            .ok_or_else(|| "the id of a workspace (a GUID) in quotes".into()),
        Kind::Word(words) => match text.filter(|t| words.contains(t)) {
            Some(word) => Ok(Value::Text(word.into())),
            None => {
                let given = text.and_then(|t| nearest(t, words.iter().copied()));
                let hint = given.map_or(String::new(), |w| format!("; did you mean \"{w}\"?"));
                Err(format!("one of \"{}\"{hint}", words.join("\", \"")))
            }
        },
        Kind::Text | Kind::Path => text
            .map(|t| Value::Text(t.into()))
            .ok_or_else(|| "a text in quotes that is not empty".into()),
        Kind::Variable => text
            .filter(|t| t.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
            .map(|t| Value::Text(t.into()))
            .ok_or_else(|| "the name of an environment variable (letters, digits, `_`)".into()),
    }
}

fn unknown(name: &str, other: &'static str) -> String {
    let shown = shown_word(name);
    match name {
        "shared_key" | "shared" | "key" | "s" => {
            return format!(
                "unknown key `{shown}`: a shared key is never written into this file; name a file \
                 with `shared_key_file` or an environment variable with `shared_key_env`"
            );
        }
        "match" => return "`match` belongs into a [[host]] block".into(),
        _ => {}
    }
    let known = KEYS.iter().map(|(name, _, _)| *name).chain([other]);
    match nearest(name, known) {
        Some(near) => format!("unknown key `{shown}`; did you mean `{near}`?"),
        None => format!("unknown key `{shown}`; docs/answers.md lists them"),
    }
}

/// The word that needs the fewest changed characters, when they are few.
fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    if word.len() > 64 {
        return None;
    }
    let word = word.to_lowercase().replace('-', "_");
    known
        .map(|k| (distance(&word, &k.replace('-', "_")), k))
        .min()
        .filter(|(changes, k)| *changes <= 1 + k.len() / 4)
        .map(|(_, k)| k)
}

/// Characters to put in, take out or change (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn problems(text: &str) -> Vec<String> {
        match Rollout::parse(text) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.to_string().lines().map(Into::into).collect(),
        }
    }

    fn text(settings: &Settings, key: &str) -> Option<String> {
        match settings.get(key) {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    #[test]
    fn later_blocks_win_over_earlier_ones() {
        let rollout = Rollout::parse(
            r#"
            mode = "upgrade"
            domain = "example.org"
            shared_key_file = "key"
            force = true
            [[host]]
            match = "web-*"
            domain = "web.example.org"
            [[host]]
            match = ["WEB-1?", "db.example.net"]
            domain = "ten.example.org"
            shared_key_env = "KEY"
            force = false
            "#,
        )
        .unwrap();
        let domain = |name: &str| text(&rollout.for_host(name), "domain").unwrap();
        assert_eq!(domain("mail"), "example.org");
        assert_eq!(domain("web-2"), "web.example.org");
        assert_eq!(domain("web-12.example.net"), "ten.example.org");
        assert_eq!(domain("db"), "example.org");
        assert_eq!(domain("db.example.net"), "ten.example.org");
        let ten = rollout.for_host("web-10");
        assert_eq!(text(&ten, "shared_key_env").unwrap(), "KEY");
        assert!(!ten.contains_key("shared_key_file"));
        assert_eq!(ten.get("force"), Some(&Value::Flag(false)));
    }

    #[test]
    fn everything_wrong_is_told_at_its_place() {
        let got = problems(
            "mode = \"upgarde\"\ndomian = \"x\"\nforce = 1\n\n[[host]]\nid = \"\"\nmatch = []\n  jsn = true\n[[host]]\n",
        );
        let want = [
            "line 1, column 8: `mode` must be one of ",
            "line 2, column 1: unknown key `domian`; did you mean `domain`?",
            "line 3, column 9: `force` must be true or false",
            "line 6, column 6: `id` must be the id",
            "line 8, column 3: unknown key `jsn`; did you mean `json`?",
            "line 9, column 1: a [[host]] block needs match",
        ];
        assert_eq!(got.len(), want.len(), "{got:#?}");
        for (got, want) in got.iter().zip(want) {
            assert!(got.starts_with(want), "{got}\n{want}");
        }
        assert!(got[0].ends_with("did you mean \"upgrade\"?"), "{}", got[0]);
        let broken = problems("id = \"ü\"\nid2 = \n");
        assert!(broken[0].starts_with("line 2, column "), "{broken:?}");
    }

    #[test]
    fn no_secret_in_the_file_and_none_in_the_message() {
        let key = "Mzz0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTA=";
        for line in [
            format!("shared_key = \"{key}\""),
            format!("proxy = \"http://user:{key}@host:1\""),
            format!("shared_key_env = \"{key}\""),
            format!("\"{key}\" = 1"),
            format!("mode = \"{key}\""),
            format!("id = {key}"),
        ] {
            let got = problems(&line);
            assert_eq!(got.len(), 1, "{line}");
            assert!(!got[0].contains(&key[4..]), "{}", got[0]);
        }
        assert!(problems("shared_key = \"x\"")[0].contains("shared_key_file"));
        let both = "shared_key_file = \"x\"\nshared_key_env = \"Y\"";
        assert!(problems(both)[0].contains("exclude each other"));
        assert!(problems("match = \"x\"")[0].contains("[[host]]"));
        assert!(!problems("host = 1").is_empty() && !problems("[host]\nmatch = \"x\"").is_empty());
    }

    #[test]
    fn blocks_have_a_limit() {
        let blocks = |n: usize| "[[host]]\nmatch = \"x\"\n".repeat(n);
        assert!(Rollout::parse(&blocks(HOSTS)).is_ok());
        assert!(Rollout::parse(&blocks(HOSTS + 1)).is_err());
    }

    #[test]
    fn the_page_lists_every_key() {
        let page = include_str!("../../docs/answers.md");
        for (key, option, _) in KEYS {
            assert!(page.contains(&format!("| `{key}` |")), "{key}");
            assert!(page.contains(option), "{option}");
        }
        let sample = page.split("```toml\n").nth(1).unwrap();
        let sample = sample.split("```").next().unwrap();
        let rollout = Rollout::parse(sample).unwrap();
        assert!(!rollout.hosts.is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_with_a_place(text in "\\PC{0,80}") {
            if let Err(problems) = Rollout::parse(&text) {
                prop_assert!(problems.0.iter().all(|p| p.line >= 1 && p.column >= 1));
            }
        }

        #[test]
        fn a_star_fits_what_was_cut_out(name in "[a-z.]{0,12}", at in 0usize..13, n in 0usize..13) {
            let at = at.min(name.len());
            let end = (at + n).min(name.len());
            let pattern = format!("{}*{}", &name[..at], &name[end..]);
            prop_assert!(fits(&pattern, &name));
            let longer = format!("x{}", name);
            prop_assert_eq!(fits(&name, &longer), glob(&name.chars().collect::<Vec<_>>(), &longer.split('.').next().unwrap().chars().collect::<Vec<_>>()));
        }
    }
}
