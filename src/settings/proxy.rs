//! proxy.conf: one line that says what stands between us and the service (protocol.md 1.10,
//! bundle.md 4.11), and what counts when there are several such lines.

use crate::base::secret::Secret;
use zeroize::Zeroizing;

mod choice;

pub use choice::{
    Choice, EXEMPTION_VARIABLES, Found, LIMIT, PROXY_VARIABLES, Source, Unusable, choose,
    environment, find, first_of, load,
};

/// The port when none is written: the original agent's. Its onboarding tool used 1080, so always
/// write one.
pub const DEFAULT_PORT: u16 = 80;
/// The same for a proxy that is spoken to over TLS.
pub const DEFAULT_TLS_PORT: u16 = 443;

/// How the proxy itself is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scheme {
    /// In the clear. What goes through the tunnel is TLS all the same.
    #[default]
    Http,
    /// Over TLS, user and password too.
    Https,
}

/// What stands between us and the service.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Host name or address; a v6 address without its brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User and password for `Proxy-Authorization: Basic`, as they are written.
    pub credentials: Option<(String, Secret)>,
}

impl Proxy {
    /// `user:password` in the forms in which they may be meant, likelier first: with `%40` and its
    /// like read as the sign they stand for, as in any URL and by the original's onboarding; then
    /// as written, by the original's agent. Empty without credentials.
    pub fn logins(&self) -> Vec<Zeroizing<Vec<u8>>> {
        let Some((user, password)) = &self.credentials else {
            return Vec::new();
        };
        let written = Zeroizing::new(format!("{user}:{}", password.expose()).into_bytes());
        let meant = unescape(&written);
        match meant == written {
            true => vec![written],
            false => vec![meant, written],
        }
    }
}

/// `%40` -> `@`; a percent sign that begins no such code stays.
fn unescape(text: &[u8]) -> Zeroizing<Vec<u8>> {
    let digit = |at: usize| text.get(at).and_then(|b| char::from(*b).to_digit(16));
    let mut plain = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match (digit(at + 1), digit(at + 2)) {
            (Some(high), Some(low)) if *byte == b'%' => {
                plain.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    plain
}

/// A user's name or password as a line can hold it, whatever is in it: what would be read as
/// something else is written as its code.
pub fn escape(word: &str) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(word.len() * 3));
    let bytes = word.as_bytes();
    for (at, c) in word.char_indices() {
        let code = |n: usize| bytes.get(at + n).is_some_and(u8::is_ascii_hexdigit);
        if c == '@' || c == ' ' || c.is_ascii_control() || (c == '%' && code(1) && code(2)) {
            text.push_str(&format!("%{:02X}", c as u32));
        } else {
            text.push(c);
        }
    }
    text
}

impl Proxy {
    /// The same place, for the same user with the same password.
    pub fn is_same(&self, other: &Proxy) -> bool {
        let login = |proxy: &Proxy, other: &Proxy| match (&proxy.credentials, &other.credentials) {
            (None, None) => true,
            (Some((a, b)), Some((c, d))) => a == c && b.expose() == d.expose(),
            _ => false,
        };
        (self.scheme, &self.host, self.port) == (other.scheme, &other.host, other.port)
            && login(self, other)
    }
}

/// Why a line is no proxy. Never holds the line, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Not of the form.
    #[error("{0}; expected `[http[s]://][user:password@]host[:port]`")]
    Form(&'static str),
    /// The file is there and cannot be read.
    #[error("{0}")]
    Unreadable(String),
}

/// The content of proxy.conf: one line, with comments (`#`) and blank lines around it tolerated.
pub fn parse_file(text: &str) -> Result<Option<Proxy>, ProxyError> {
    line_of(text)?.map(parse).transpose()
}

fn line_of(text: &str) -> Result<Option<&str>, ProxyError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    match (lines.next(), lines.next()) {
        (line, None) => Ok(line),
        (_, Some(_)) => Err(ProxyError::Form("more than one proxy line")),
    }
}

/// One proxy as it is written in proxy.conf, after `-p` or in the onboarding file.
pub fn parse(line: &str) -> Result<Proxy, ProxyError> {
    let line = line.trim();
    let (scheme, rest) = match line.split_once("://") {
        None => (Scheme::Http, line),
        Some((name, rest)) if name.eq_ignore_ascii_case("http") => (Scheme::Http, rest),
        Some((name, rest)) if name.eq_ignore_ascii_case("https") => (Scheme::Https, rest),
        Some(_) => return Err(ProxyError::Form("only an HTTP proxy can be used")),
    };
    let bad_byte = |b: u8| b.is_ascii_control() || b == b' ';
    if rest.bytes().any(bad_byte) {
        return Err(ProxyError::Form("a blank or control character in the line"));
    }
    let (credentials, address) = match rest.split_once('@') {
        None => (None, rest),
        Some((login, address)) => {
            let (user, password) = login
                .split_once(':')
                .filter(|(user, password)| !user.is_empty() && !password.is_empty())
                .ok_or(ProxyError::Form("a user without a password"))?;
            (Some((user.to_owned(), Secret::new(password))), address)
        }
    };
    if address.contains('@') {
        return Err(ProxyError::Form(
            "a second `@` (in a password write it as %40)",
        ));
    }
    let (host, port) = split_address(address.strip_suffix('/').unwrap_or(address))?;
    let port = match port {
        None => match scheme {
            Scheme::Http => DEFAULT_PORT,
            Scheme::Https => DEFAULT_TLS_PORT,
        },
        Some(port) => {
            let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            let number = digits.then(|| port.parse().ok()).flatten();
            let number = number.filter(|n| *n != 0);
            number.ok_or(ProxyError::Form("a port that is no number from 1 to 65535"))?
        }
    };
    Ok(Proxy {
        scheme,
        host: host.to_owned(),
        port,
        credentials,
    })
}

/// Host and port; a v6 address stands in brackets.
fn split_address(address: &str) -> Result<(&str, Option<&str>), ProxyError> {
    let no_host = ProxyError::Form("a host that is no name or address");
    if let Some(rest) = address.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(no_host.clone())?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(no_host);
        }
        return match rest {
            "" => Ok((host, None)),
            rest => Ok((host, Some(rest.strip_prefix(':').ok_or(no_host)?))),
        };
    }
    let (host, port) = match address.split_once(':') {
        None => (address, None),
        Some((host, port)) => (host, Some(port)),
    };
    let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if host.is_empty() || host.len() > 253 || !host.bytes().all(name) {
        return Err(no_host);
    }
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        match parse(line) {
            Err(_) => "no".into(),
            Ok(p) => match p.credentials {
                None => format!("{} {}", p.host, p.port),
                Some((u, s)) => format!("{} {} {u} {}", p.host, p.port, s.expose()),
            },
        }
    }

    #[test]
    fn accepted_lines() {
        assert_eq!(shown("proxyhost"), "proxyhost 80");
        assert_eq!(shown("proxyhost:8080"), "proxyhost 8080");
        assert_eq!(shown("http://10.0.0.1:3128"), "10.0.0.1 3128");
        assert_eq!(
            shown("user:pa:ss@proxyhost:8080"),
            "proxyhost 8080 user pa:ss"
        );
        assert_eq!(
            shown("https://user:pass@proxyhost:8080"),
            "proxyhost 8080 user pass"
        );
    }

    #[test]
    fn as_people_write_them_elsewhere() {
        assert_eq!(shown("HTTP://Proxy:3128/"), "Proxy 3128");
        assert_eq!(shown("http://[::1]:3128"), "::1 3128");
        assert_eq!(shown("user:pw@[fe80::1]"), "fe80::1 80 user pw");
        assert_eq!(shown("https://proxyhost"), "proxyhost 443");
        assert_eq!(parse("https://p:1").unwrap().scheme, Scheme::Https);
        assert_eq!(parse("p:1").unwrap().scheme, Scheme::Http);
    }

    #[test]
    fn codes_in_a_password_stand_for_signs_or_for_themselves() {
        let logins = |line: &str| -> Vec<String> {
            let logins = parse(line).unwrap().logins();
            let text = |l: Zeroizing<Vec<u8>>| String::from_utf8_lossy(&l).into_owned();
            logins.into_iter().map(text).collect()
        };
        assert!(logins("p:1").is_empty());
        assert_eq!(logins("u:pa:ss@p:1"), ["u:pa:ss"]);
        assert_eq!(logins("u:a%40b%3A@p:1"), ["u:a@b:", "u:a%40b%3A"]);
        assert_eq!(logins("u:100%sure%4@p:1"), ["u:100%sure%4"]);
        for password in ["plain", "a@b", "100%sure", "%41", "a b\t", "ä:%"] {
            let line = format!("u:{}@p:1", *escape(password));
            assert_eq!(logins(&line)[0], format!("u:{password}"), "{password}");
        }
    }

    #[test]
    fn rejected_lines() {
        for line in [
            "",
            "proxyhost:",
            "socks://host:1",
            "user@host:80",
            "user:pass/host:80",
            ":pass@host:80",
            "user:@host:80",
            "user:pass@:80",
            "user:pa@ss@host:80",
            "host:0",
            "host:65536",
            "host:+80",
            "two words:80",
            "::1:80",
            "[::1",
            "[::1]80",
            "[name]:80",
            "http://host:80/path",
            "ftp://http://host:80",
            "host\u{0}:80",
        ] {
            assert_eq!(shown(line), "no", "{line:?}");
        }
    }

    #[test]
    fn an_error_does_not_show_the_password() {
        let error = parse("user:hunter2@host:x").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        assert!(!format!("{:?}", parse("user:hunter2@host:1")).contains("hunter2"));
    }
}
