//! What values a parameter takes.

use crate::settings::fluent;
use std::net::IpAddr;

/// The kind of a parameter's value (protocol.md 5.1, "typed values").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Anything.
    Text,
    /// The name of a file.
    Path,
    /// The name of a socket in the file system.
    Socket,
    /// The first parts of a tag.
    Tag,
    /// An address of this host.
    Address,
    /// A whole number from the one to the other.
    Number(u32, u32),
    /// Bytes.
    Size,
    /// Seconds, minutes, ...
    Time,
    /// True or false.
    Flag,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// What nobody may see.
    Secret,
    /// A command line: only its first word is shown.
    Command,
}

impl Takes {
    /// Is this a value of the kind? The error says what would be.
    pub fn check(self, value: &str) -> Result<(), String> {
        let wanted = |fits: bool, what: &str| fits.then_some(()).ok_or_else(|| what.to_owned());
        match self {
            Takes::Text | Takes::Secret | Takes::Command => Ok(()),
            Takes::Path => wanted(
                !value.is_empty() && !value.contains('\0'),
                "the name of a file",
            ),
            Takes::Socket => wanted(
                value.starts_with('/') && value.len() <= SOCKET_NAME && !value.contains('\0'),
                &format!("the name of a socket, from `/` on, of at most {SOCKET_NAME} bytes"),
            ),
            Takes::Tag => wanted(is_tag(value), "1 to 200 printable ASCII characters"),
            Takes::Address => wanted(
                value == "localhost" || value.parse::<IpAddr>().is_ok(),
                "an IP address",
            ),
            Takes::Number(least, most) => {
                let number = value.parse::<u32>();
                wanted(
                    number.is_ok_and(|n| (least..=most).contains(&n)),
                    &format!("a number from {least} to {most}"),
                )
            }
            Takes::Size => fluent::size(value).map(drop).map_err(|e| e.wanted.into()),
            Takes::Time => fluent::duration(value)
                .map(drop)
                .map_err(|e| e.wanted.into()),
            Takes::Flag => fluent::boolean(value)
                .map(drop)
                .map_err(|e| e.wanted.into()),
            Takes::OneOf(words) => {
                let all: Vec<String> = words.iter().map(|w| format!("`{w}`")).collect();
                wanted(words.contains(&value), &all.join(" or "))
            }
        }
    }

    /// The value as it may be shown.
    pub fn shown(self, value: &str) -> String {
        match self {
            Takes::Secret => HIDDEN.to_owned(),
            Takes::Command => match value.trim().split_once(char::is_whitespace) {
                Some((program, _)) => format!("{} ...", without_login(program)),
                None => without_login(value),
            },
            _ => without_login(value),
        }
    }
}

/// What the kernel takes: `sun_path` without its end.
const SOCKET_NAME: usize = 107;

/// In place of a value that may not be shown.
pub const HIDDEN: &str = "(hidden)";

fn is_tag(value: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\');
    !value.is_empty() && value.len() <= 200 && value.chars().all(plain)
}

/// `scheme://user:password@host` without what stands before the `@`.
fn without_login(value: &str) -> String {
    let mut shown = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find("://").map(|at| at + 3) {
        let (before, after) = rest.split_at(at);
        shown.push_str(before);
        let end = after
            .find(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '"' | '\''))
            .unwrap_or(after.len());
        let host = match after[..end].rfind('@') {
            Some(login) => {
                shown.push_str(HIDDEN);
                &after[login..]
            }
            None => after,
        };
        rest = host;
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_shown() {
        for (takes, value, shown) in [
            (Takes::Text, "plain", "plain"),
            (Takes::Secret, "hunter2", "(hidden)"),
            (Takes::Command, "curl -u a:hunter2 http://x", "curl ..."),
            (Takes::Command, "date", "date"),
            (
                Takes::Text,
                "http://u:hunter2@h/x and https://h2/y@z",
                "http://(hidden)@h/x and https://h2/y@z",
            ),
            (Takes::Text, "a://b", "a://b"),
            (Takes::Text, "x://u:p@w@h", "x://(hidden)@h"),
        ] {
            assert_eq!(takes.shown(value), shown);
        }
    }

    #[test]
    fn values() {
        for (takes, good, bad) in [
            (Takes::Number(1, 5), "5", "6"),
            (Takes::Number(0, 5), "0", "-1"),
            (Takes::Size, "15m", "15 m"),
            (Takes::Time, "0.5s", "soon"),
            (Takes::Flag, "yes", "maybe"),
            (Takes::Address, "::1", "here"),
            (Takes::Address, "localhost", ""),
            (Takes::Tag, "oms.syslog", "a b"),
            (Takes::Path, "/x", ""),
            (Takes::Socket, "/x", "x"),
            (Takes::OneOf(&["a", "b"]), "b", "c"),
        ] {
            assert_eq!(takes.check(good), Ok(()), "{good}");
            assert!(takes.check(bad).is_err(), "{bad}");
        }
        let words = Takes::OneOf(&["a", "b"]).check("c").unwrap_err();
        assert_eq!(words, "`a` or `b`");
    }
}
