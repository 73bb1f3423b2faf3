//! Secrets known by how they are written: settings whose names say so, passwords in addresses,
//! headers, signatures in links, private keys, command lines, and long tokens of any origin.
//!
//! Rather too much than too little: what is taken for a secret and is none costs a word.

use std::ops::Range;

/// What gave it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A PEM block.
    PrivateKey,
    /// `user:password@`.
    Address,
    /// `Authorization: ...`, `Bearer ...`.
    Header,
    /// `password=...`, `shared_key ...`, `"token": "..."`.
    Setting,
    /// `-s KEY` of a tool of ours.
    Argument,
    /// Long and of many kinds of letters.
    Token,
    /// One that was found on this host, in some form.
    Known,
}

impl Kind {
    /// For the list of what was taken out.
    pub fn name(self) -> &'static str {
        match self {
            Kind::PrivateKey => "private key",
            Kind::Address => "password in an address",
            Kind::Header => "header",
            Kind::Setting => "setting",
            Kind::Argument => "argument",
            Kind::Token => "long token",
            Kind::Known => "known secret",
        }
    }
}

/// A secret in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Where.
    pub range: Range<usize>,
    /// Why.
    pub kind: Kind,
}

/// Everything in `text` that looks like a secret, in no order; spans may overlap.
pub fn find(text: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    private_keys(text, &mut spans);
    settings(text, &mut spans);
    for (at, token) in pieces(text, char::is_whitespace) {
        address(at, token, &mut spans);
    }
    schemes(text, &mut spans);
    arguments(text, &mut spans);
    tokens(text, &mut spans);
    spans.retain(|span| !span.range.is_empty());
    spans
}

/// The pieces between characters that part them, with where they begin.
fn pieces(text: &str, parts: impl Fn(char) -> bool) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut begin = 0;
    for (at, c) in text.char_indices() {
        if parts(c) {
            if begin < at {
                found.push((begin, &text[begin..at]));
            }
            begin = at + c.len_utf8();
        }
    }
    if begin < text.len() {
        found.push((begin, &text[begin..]));
    }
    found
}

fn add(spans: &mut Vec<Span>, range: Range<usize>, kind: Kind) {
    spans.push(Span { range, kind });
}

/// One without an end goes on to the end of the text.
fn private_keys(text: &str, spans: &mut Vec<Span>) {
    let mut from = 0;
    while let Some(at) = text[from..].find("-----BEGIN ").map(|at| from + at) {
        let head = &text[at..];
        let head = &head[..head
            .find("-----\n")
            .or_else(|| head[11..].find("-----").map(|e| e + 11))
            .unwrap_or(head.len())];
        from = at + 11;
        if !head.contains("PRIVATE KEY") {
            continue;
        }
        let body = at + head.len();
        let end = text[body..].find("-----END ").map(|end| body + end);
        let end = end.and_then(|end| Some(end + 9 + text[end + 9..].find("-----")? + 5));
        let end = end.unwrap_or(text.len());
        add(spans, at..end, Kind::PrivateKey);
        from = end;
    }
}

/// `name = value`, `name: value`, `"name": "value"`, `name => value`, and lines `name value`.
fn settings(text: &str, spans: &mut Vec<Span>) {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    for (at, mut name) in pieces(text, |c| !is_word(c)) {
        let after = at + name.len();
        // A link within a link: `%3Fsig%3D`.
        if text[..at].ends_with('%') && name.is_char_boundary(2) {
            name = name.get(2..).unwrap_or(name);
        }
        if !is_secret_name(name) {
            continue;
        }
        let whole_line = {
            let lower = name.to_ascii_lowercase();
            lower.ends_with("authorization") || lower.ends_with("cookie")
        };
        let kind = if whole_line {
            Kind::Header
        } else {
            Kind::Setting
        };
        if let Some((value, in_json)) = assigned(&text[after..]) {
            let value = after + value;
            let end = value
                + if whole_line && !in_json {
                    line_end(&text[value..])
                } else {
                    value_end(&text[value..], in_json, name.eq_ignore_ascii_case("sig"))
                };
            add(spans, unquoted(text, value..end), kind);
            continue;
        }
        let line_start = text[..at].rfind('\n').map_or(0, |n| n + 1);
        let rest = &text[after..];
        if text[line_start..at].trim().is_empty() && rest.starts_with([' ', '\t']) {
            let value = after + rest.len() - rest.trim_start_matches([' ', '\t']).len();
            add(
                spans,
                unquoted(text, value..value + line_end(&text[value..])),
                kind,
            );
        }
    }
}

/// Where the value begins behind a name, and whether the name stood in quotes as JSON has it.
fn assigned(rest: &str) -> Option<(usize, bool)> {
    let mut left = rest;
    let unescaped = left.trim_start_matches('\\');
    let in_json = unescaped.starts_with(['"', '\'']);
    if in_json {
        left = &unescaped[1..];
    }
    left = left.trim_start_matches([' ', '\t']);
    left = left
        .strip_prefix("=>")
        .or_else(|| left.strip_prefix(":="))
        .or_else(|| left.strip_prefix(['=', ':']))
        .or_else(|| left.strip_prefix("%3D"))
        .or_else(|| left.strip_prefix("%3d"))?;
    left = left.trim_start_matches([' ', '\t']);
    Some((rest.len() - left.len(), in_json))
}

fn line_end(text: &str) -> usize {
    text.find(['\n', '\r']).unwrap_or(text.len())
}

/// How far a value goes: to its closing quote, else to a blank.
fn value_end(text: &str, in_json: bool, in_link: bool) -> usize {
    let escapes = text.len() - text.trim_start_matches('\\').len();
    if let Some(quote) = text[escapes..]
        .chars()
        .next()
        .filter(|c| matches!(c, '"' | '\''))
    {
        // `\"` closes what `\"` opened.
        let close = format!("{}{quote}", "\\".repeat(escapes));
        let begin = escapes + 1;
        let mut from = begin;
        while let Some(at) = text[from..line_end(text).max(from)]
            .find(&close)
            .map(|at| from + at)
        {
            let before = &text[begin..at];
            let slashes = before.len() - before.trim_end_matches('\\').len();
            if escapes > 0 || slashes.is_multiple_of(2) {
                return at + close.len();
            }
            from = at + close.len();
        }
        return line_end(text);
    }
    let ends = |c: char| {
        c.is_whitespace()
            || (in_json && matches!(c, ',' | '}' | ']'))
            || (in_link && matches!(c, '&' | '"' | '\'' | '<' | '>'))
    };
    text.find(ends).unwrap_or(text.len())
}

/// The value without the quotes around it.
fn unquoted(text: &str, range: Range<usize>) -> Range<usize> {
    let mut range = range;
    loop {
        let value = &text[range.clone()];
        let (Some(first), Some(last)) = (value.chars().next(), value.chars().last()) else {
            return range;
        };
        match value.len() > 1
            && matches!(first, '"' | '\'' | '\\')
            && matches!(last, '"' | '\'' | '\\')
        {
            true => range = range.start + 1..range.end - 1,
            false => return range,
        }
    }
}

const STEMS: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "credential",
    "private_key",
    "privatekey",
    "sharedkey",
    "shared_key",
    "apikey",
    "connectionstring",
    "connection_string",
];
const ENDINGS: [&str; 6] = ["pwd", "token", "key", "_pass", "authorization", "cookie"];
/// Names of what is no secret itself.
const HARMLESS: [&str; 13] = [
    "path",
    "file",
    "dir",
    "folder",
    "url",
    "uri",
    "_id",
    "name",
    "size",
    "loadcredential",
    "nopasswd",
    "public_key",
    "public-key",
];

/// Does a setting of that name hold a secret?
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let name = name.trim_matches(['.', '-', '_']);
    let last = name.rsplit(['.', '[', ']']).next().unwrap_or(name);
    if HARMLESS.iter().any(|end| last.ends_with(end)) {
        return false;
    }
    matches!(last, "sig" | "pass" | "sas")
        || STEMS.iter().any(|stem| last.contains(stem))
        || ENDINGS.iter().any(|end| last.ends_with(end))
}

/// `scheme://user:password@host`, or without a scheme.
fn address(at: usize, token: &str, spans: &mut Vec<Span>) {
    if !token.contains('@') {
        return;
    }
    let quote = |c: char| matches!(c, '"' | '\'' | '<' | '>' | '`');
    let mut cut = |begin: usize, text: &str| {
        let Some(end) = text.rfind('@') else { return };
        if let Some(colon) = text[..end].find(':') {
            add(
                spans,
                at + begin + colon + 1..at + begin + end,
                Kind::Address,
            );
        }
    };
    if !token.contains("://") {
        for (begin, piece) in pieces(token, quote) {
            cut(begin, piece);
        }
        return;
    }
    for (begin, _) in token.match_indices("://") {
        let begin = begin + 3;
        let rest = &token[begin..];
        let next = rest.find("://").unwrap_or(rest.len());
        // A quote may be the password's own: only behind the `@` it ends the address.
        let within = &rest[..next];
        let to_quote = &within[..within.find(quote).unwrap_or(within.len())];
        cut(
            begin,
            if to_quote.contains('@') {
                to_quote
            } else {
                within
            },
        );
    }
}

/// What follows the name of a way to log in.
fn schemes(text: &str, spans: &mut Vec<Span>) {
    for scheme in ["SharedKey ", "Bearer ", "Basic ", "bearer ", "basic "] {
        for (at, _) in text.match_indices(scheme) {
            let from = at + scheme.len();
            let token = &text[from..];
            let end = token.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ','));
            let end = end.unwrap_or(token.len());
            // `Basic settings` is prose.
            let token = &token[..end];
            let alike = token.len() >= 8 && !token.bytes().all(|b| b.is_ascii_lowercase());
            if alike {
                add(spans, from..from + end, Kind::Header);
            }
        }
    }
}

/// Lines in which a tool of ours is called: what stands behind `-s`, `--shared`.
fn arguments(text: &str, spans: &mut Vec<Span>) {
    for (line_at, line) in pieces(text, |c| c == '\n') {
        if !["omsadmin", "omsagent", "universal", "onboard"]
            .iter()
            .any(|w| line.contains(w))
        {
            continue;
        }
        let mut value_next = false;
        for (at, word) in pieces(line, |c| {
            c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ';')
        }) {
            let at = line_at + at;
            if value_next && word.len() > 1 {
                add(spans, at..at + word.len(), Kind::Argument);
            }
            value_next = matches!(word, "-s" | "--shared" | "-vs");
            if let Some(glued) = word.strip_prefix("-s").filter(|g| g.len() >= 8) {
                add(spans, at + 2..at + 2 + glued.len(), Kind::Argument);
            }
        }
    }
}

/// Base64 of 30 bytes and more, and JSON web tokens.
fn tokens(text: &str, spans: &mut Vec<Span>) {
    let base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/');
    for (at, token) in pieces(text, |c| !base64(c)) {
        let has = |f: fn(&u8) -> bool| token.bytes().any(|b| f(&b));
        if token.len() >= 40
            && has(u8::is_ascii_uppercase)
            && has(u8::is_ascii_lowercase)
            && has(u8::is_ascii_digit)
        {
            let end = at + token.len();
            let padding = text[end..]
                .bytes()
                .take(2)
                .take_while(|b| *b == b'=')
                .count();
            add(spans, at..end + padding, Kind::Token);
        }
    }
    let url = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    for (at, token) in pieces(text, |c| !url(c)) {
        if token.starts_with("eyJ") && token.len() >= 24 {
            add(spans, at..at + token.len(), Kind::Token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(text: &str) -> String {
        let mut spans = find(text);
        spans.sort_by_key(|s| (s.range.start, std::cmp::Reverse(s.range.end)));
        let (mut done, mut at) = (String::new(), 0);
        for span in spans {
            if span.range.end <= at {
                continue;
            }
            if span.range.start >= at {
                done.push_str(&text[at..span.range.start]);
                done.push('#');
            }
            at = span.range.end;
        }
        done + &text[at..]
    }

    #[test]
    fn secrets_are_seen_in_their_places() {
        for (text, wanted) in [
            ("password=hunter2 x", "password=# x"),
            ("DB_PASSWORD = \"a b\" x", "DB_PASSWORD = \"#\" x"),
            (
                "{\"token\":\"a\\\"b\",\"n\":1}",
                "{\"token\":\"#\",\"n\":1}",
            ),
            (
                "{\\\"token\\\":\\\"ab\\\",\\\"n\\\":1}",
                "{\\\"token\\\":\\\"#\\\",\\\"n\\\":1}",
            ),
            ("{\"token\":null,\"n\":1}", "{\"token\":#,\"n\":1}"),
            ("  shared_key  abc def\nx", "  shared_key  #\nx"),
            ("SHARED_KEY='abc'", "SHARED_KEY='#'"),
            ("  key_path /etc/x.key", "  key_path /etc/x.key"),
            ("http://u:p@ss@h:1/x y@z", "http://u:#@h:1/x y@z"),
            ("\"http://u:p@h\",\"a@b\"", "\"http://u:#@h\",\"a@b\""),
            ("http://u:p\"q@h", "http://u:#@h"),
            ("user:pass@host:80", "user:#@host:80"),
            ("http://h:80/x", "http://h:80/x"),
            ("me@host", "me@host"),
            ("Authorization: SharedKey a:b c\nx", "Authorization: #\nx"),
            ("got Bearer abcDEF123 back", "got Bearer # back"),
            ("Basic settings", "Basic settings"),
            (
                "https://b/c?sv=1&sig=a%2Fb&se=2",
                "https://b/c?sv=1&sig=#&se=2",
            ),
            (
                "u=https%3A%2F%2Fb%3Fsig%3Dabc&x",
                "u=https%3A%2F%2Fb%3Fsig%3D#&x",
            ),
            (
                "sh omsadmin.sh -w i -s k3y -v",
                "sh omsadmin.sh -w i -s # -v",
            ),
            ("omsadmin.sh -sabcdefgh", "omsadmin.sh -s#"),
            ("ls -s file", "ls -s file"),
            ("key-missing: no", "key-missing: no"),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\nx",
                "#\nx",
            ),
            ("-----BEGIN PRIVATE KEY-----\\nabc", "#"),
            (
                "-----BEGIN CERTIFICATE-----\nabc",
                "-----BEGIN CERTIFICATE-----\nabc",
            ),
            ("x AbCdEfGhIjKlMnOpQrStUvWxYz0123456789AbCdEf== y", "x # y"),
            (
                "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            ),
            ("eyJhbGciOiJIUzI1NiJ9.e30.abc-def", "#"),
        ] {
            assert_eq!(left(text), wanted, "{text}");
        }
    }

    #[test]
    fn no_text_is_too_odd() {
        for text in [
            "",
            "@",
            "://@",
            "password",
            "password=",
            "key:\n",
            "token=\"",
            "-----BEGIN ",
            "-----BEGIN PRIVATE KEY-----",
            "ä:ö@ü",
            "\"key\\",
            "sig%3D",
            "Bearer ",
            "pass\t",
            "token=\"ä\n\"",
            "-s",
            "omsagent -s",
            "secret='\\",
            "-----BEGIN ä",
            "eyJä",
        ] {
            let _ = left(text);
        }
    }
}
