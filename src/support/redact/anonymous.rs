//! Names and addresses of hosts, replaced by marks that are the same within one archive and tell
//! nothing outside of it.

use crate::base::order;
use sha2::{Digest, Sha256};
use std::net::IpAddr;

/// What is replaced, and the salt of this archive.
pub struct Anonymous {
    salt: [u8; 16],
    names: Vec<String>,
}

impl Anonymous {
    /// For these host names; of a full name its first part is replaced, too.
    pub fn new(names: &[String]) -> Anonymous {
        let mut all: Vec<String> = Vec::new();
        for name in names {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            let first = name.split('.').next().unwrap_or_default().to_owned();
            all.extend([name, first]);
        }
        all.retain(|name| name.len() > 1 && name != "localhost");
        // The longest first, so that a full name is one mark.
        order::by_key(&mut all, |name| {
            (std::cmp::Reverse(name.len()), name.clone())
        });
        all.dedup();
        Anonymous {
            salt: *uuid::Uuid::new_v4().as_bytes(),
            names: all,
        }
    }

    /// `host-1a2b3c4d` for a name, `ip-...` for an address.
    fn mark(&self, what: &str, text: &str) -> String {
        let mut hash = Sha256::new();
        hash.update(self.salt);
        hash.update(text.to_ascii_lowercase());
        let digest = hash.finalize();
        let hex: String = digest.iter().take(4).map(|b| format!("{b:02x}")).collect();
        format!("{what}-{hex}")
    }

    /// The mark of a host name.
    pub fn host(&self, name: &str) -> String {
        self.mark("host", name)
    }

    /// The text with its marks.
    pub fn apply(&self, text: &str) -> String {
        let mut text = self.addresses(text);
        for name in &self.names {
            text = self.replace(&text, name);
        }
        text
    }

    fn replace(&self, text: &str, name: &str) -> String {
        let lower = text.to_ascii_lowercase();
        let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let (mut done, mut from) = (String::new(), 0);
        for (at, _) in lower.match_indices(name) {
            let end = at + name.len();
            let whole =
                !is_word(text[..at].chars().next_back()) && !is_word(text[end..].chars().next());
            if whole && at >= from {
                done.push_str(&text[from..at]);
                done.push_str(&self.host(name));
                from = end;
            }
        }
        done + &text[from..]
    }

    fn addresses(&self, text: &str) -> String {
        let of_it = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | ':');
        let mut done = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(of_it) {
            done.push_str(&rest[..at]);
            rest = &rest[at..];
            let end = rest.find(|c| !of_it(c)).unwrap_or(rest.len());
            let word_before = done.chars().next_back().is_some_and(char::is_alphanumeric);
            let (word, after) = rest.split_at(end);
            match self.address(word) {
                Some(mark) if !word_before => done.push_str(&mark),
                _ => done.push_str(word),
            }
            rest = after;
        }
        done + rest
    }

    /// An address, perhaps with a port, or with a colon or full stop behind it.
    fn address(&self, word: &str) -> Option<String> {
        let bare = word.trim_end_matches(['.', ':']);
        let parsed = bare.parse::<IpAddr>().ok().map(|ip| (ip, bare.len()));
        let before_port = || {
            let (ip, _) = bare.rsplit_once(':')?;
            Some((IpAddr::V4(ip.parse().ok()?), ip.len()))
        };
        let (ip, length) = parsed.or_else(before_port)?;
        let plain = ip.is_loopback()
            || ip.is_unspecified()
            || matches!(ip, IpAddr::V4(v4) if v4.octets()[0] == 255);
        (!plain).then(|| format!("{}{}", self.mark("ip", &ip.to_string()), &word[length..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_gets_the_same_mark_and_nothing_else_changes() {
        let hide = Anonymous::new(&["web1.corp.example".to_owned()]);
        let text = "web1 WEB1.corp.example web10 10.1.2.3 10.1.2.3:514, 127.0.0.1:25224 fe80::1: 12:30:00 deadbeef";
        let done = hide.apply(text);
        let words: Vec<&str> = done.split(' ').collect();
        assert!(words[0].starts_with("host-") && words[1].starts_with("host-"));
        assert_eq!(words[2], "web10");
        assert!(words[3].starts_with("ip-"));
        assert_eq!(words[4], format!("{}:514,", words[3]));
        assert_eq!(words[5], "127.0.0.1:25224");
        assert!(words[6].starts_with("ip-") && words[6].ends_with(':'));
        assert_eq!(words[7..], ["12:30:00", "deadbeef"]);
        for gone in ["corp", "10.1", "fe80"] {
            assert!(!done.contains(gone), "{done}");
        }
        // Another archive, other marks.
        let other = Anonymous::new(&[]);
        assert_ne!(other.host("web1"), hide.host("web1"));
    }
}
