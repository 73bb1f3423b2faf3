//! Takes secrets out of texts: those that were found on this host, in any form, and whatever looks
//! like one.

mod anonymous;
mod known;
mod patterns;

pub use anonymous::Anonymous;
pub use patterns::is_secret_name;

use crate::base::ids::WorkspaceName;
use crate::base::order;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use known::Known;
use patterns::{Kind, Span};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// What stands where a secret was.
pub const MARK: &str = "[redacted]";
/// Shortest text that is believed to be a secret because of what stands before it.
const LIKELY: usize = 6;
/// Most of those.
const GUESSES: usize = 2000;

/// How often what was taken out.
pub type Counts = BTreeMap<&'static str, usize>;

/// Knows what must not be seen.
#[derive(Default)]
pub struct Redactor {
    known: Known,
    /// Digests of what was believed because of what stood before it.
    guessed: HashSet<u64>,
}

impl Redactor {
    /// This is a secret.
    pub fn learn(&mut self, secret: &str) {
        let secret = secret.trim();
        if secret != MARK {
            self.known.learn(secret);
        }
    }

    /// This may be one: it is, unless it is a plain word, a number or a path.
    pub fn learn_if_likely(&mut self, text: &str) {
        // Whoever writes a log must not be able to make this last for ever.
        if is_likely(text) && self.guessed.len() < GUESSES {
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            if self.guessed.insert(hasher.finish()) {
                self.learn(text);
            }
        }
    }

    /// A file that holds a key: each of its lines is one.
    pub fn learn_pem(&mut self, pem: &str) {
        let body = pem.lines().filter(|line| !line.starts_with("-----"));
        body.filter(|line| line.trim().len() >= 8)
            .for_each(|line| self.learn(line));
    }

    /// Whatever looks like a secret in `text` is one wherever else it turns up. `sure`: a
    /// configuration; else it must not be a plain word.
    pub fn learn_from(&mut self, text: &str, sure: bool) {
        for span in patterns::find(text) {
            let value = &text[span.range];
            match span.kind {
                Kind::PrivateKey => self.learn_pem(value),
                Kind::Token | Kind::Known => {}
                Kind::Header => {
                    let token = value.split_whitespace().last().unwrap_or_default();
                    self.learn_login(token);
                }
                _ if sure && value.len() >= known::SHORTEST => self.learn(value),
                _ => self.learn_if_likely(value),
            }
        }
    }

    /// `user:password` in base64, or a token.
    fn learn_login(&mut self, token: &str) {
        let decoded = STANDARD.decode(token).ok();
        let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some((_, password)) = decoded.as_deref().and_then(|text| text.split_once(':')) {
            self.learn(password);
        }
        // `SharedKey workspace:signature`
        let signature = token.split_once(':').map_or(token, |(_, rest)| rest);
        self.learn_if_likely(signature);
    }

    /// The text without secrets, and what was taken out of it.
    pub fn redact(&self, text: &str) -> (String, Counts) {
        let mut spans = patterns::find(text);
        let known = self.known.find(text).into_iter();
        spans.extend(known.map(|range| Span {
            range,
            kind: Kind::Known,
        }));
        order::by_key(&mut spans, |s| {
            (s.range.start, std::cmp::Reverse(s.range.end))
        });
        let (mut done, mut counts, mut at) = (String::new(), Counts::new(), 0);
        for Span { range, kind } in spans {
            if range.end <= at || &text[range.clone()] == MARK {
                continue;
            }
            if range.start >= at {
                done.push_str(&text[at..range.start]);
                done.push_str(MARK);
                *counts.entry(kind.name()).or_default() += 1;
            }
            at = range.end;
        }
        done.push_str(&text[at..]);
        (done, counts)
    }

    /// As [`Redactor::redact`], of an object or a list: it stays one.
    pub fn redact_json(&self, value: &mut Value, counts: &mut Counts) {
        match value {
            Value::String(text) => {
                let (plain, taken) = self.redact(text);
                *text = plain;
                for (kind, n) in taken {
                    *counts.entry(kind).or_default() += n;
                }
            }
            Value::Array(list) => list.iter_mut().for_each(|v| self.redact_json(v, counts)),
            Value::Object(object) => {
                for (name, value) in object.iter_mut() {
                    match value {
                        Value::String(text) if is_secret_name(name) && !text.is_empty() => {
                            *text = MARK.to_owned();
                            *counts.entry(Kind::Setting.name()).or_default() += 1;
                        }
                        _ => self.redact_json(value, counts),
                    }
                }
            }
            _ => {}
        }
    }

    /// Is one of the known secrets still in there?
    pub fn holds(&self, text: &str) -> bool {
        !self.known.find(text).is_empty()
    }
}

/// A word of a sentence is none: `password is Wrong` must not make `Wrong` a secret. Nor is a short
/// number, a path, or the id of a workspace.
fn is_likely(value: &str) -> bool {
    let of = |f: fn(&u8) -> bool| value.bytes().any(|b| f(&b));
    let capital_within = value.bytes().skip(1).any(|b| b.is_ascii_uppercase());
    let kinds = [
        of(u8::is_ascii_digit),
        capital_within && of(u8::is_ascii_lowercase),
        of(|b| b.is_ascii_punctuation() && !b".,:;/-_()".contains(b)),
    ];
    let number = value.len() < 10 && value.bytes().all(|b| b.is_ascii_digit());
    let path = value.starts_with('/') || value.starts_with("http");
    let known = number || path || value.contains(MARK) || value.parse::<WorkspaceName>().is_ok();
    value.len() >= LIKELY && kinds.contains(&true) && !known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_text_gives_away_is_taken_out_of_all() {
        let mut redactor = Redactor::default();
        redactor.learn_from("password Winter2031!\n", true);
        redactor.learn_from("Authorization: Basic dTpodW50ZXIyMg==\n", false);
        redactor.learn_from("password is Wrong", false);
        let (text, counts) = redactor.redact("it was Winter2031! and hunter22, Wrong\npassword=x");
        assert_eq!(
            text,
            "it was [redacted] and [redacted], Wrong\npassword=[redacted]"
        );
        assert_eq!(counts, Counts::from([("known secret", 2), ("setting", 1)]));
        assert!(!redactor.holds(&text) && redactor.holds("%57inter2031!"));
        // A second time nothing is left to be taken out.
        let (again, counts) = redactor.redact(&text);
        assert_eq!((again, counts), (text, Counts::new()));
    }

    #[test]
    fn an_object_stays_one() {
        let mut redactor = Redactor::default();
        redactor.learn("Winter2031!");
        let text = r#"{"token":"a","n":{"token":null,"what":["token=b","x Winter2031!\" y"]},"last":"key=c"}"#;
        let mut value: Value = serde_json::from_str(text).unwrap();
        let mut counts = Counts::new();
        redactor.redact_json(&mut value, &mut counts);
        let wanted = serde_json::json!({
            "token": MARK,
            "n": {"token": null, "what": [format!("token={MARK}"), format!("x {MARK}\" y")]},
            "last": format!("key={MARK}"),
        });
        assert_eq!(value, wanted);
        assert_eq!(counts.values().sum::<usize>(), 4);
    }

    proptest::proptest! {
        #[test]
        fn nothing_known_is_left(
            before in ".{0,60}",
            secret in "[a-zA-Z0-9%@:/+=\"'&<\\\\ ]{8,30}",
            after in ".{0,60}",
        ) {
            let mut redactor = Redactor::default();
            redactor.learn(&secret);
            let trimmed = secret.trim();
            let backwards: String = trimmed.chars().rev().collect();
            let encoded = STANDARD.encode(format!("{before}{trimmed}{after}"));
            for form in [trimmed, backwards.as_str(), encoded.as_str()] {
                let (plain, _) = redactor.redact(&format!("{before}{form}{after}"));
                proptest::prop_assert!(!redactor.holds(&plain), "{}", plain);
                if trimmed.len() >= known::SHORTEST {
                    proptest::prop_assert!(!plain.contains(form), "{}", plain);
                }
            }
        }
    }
}
