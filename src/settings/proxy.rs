//! proxy.conf: one line that says what stands between us and the service (protocol.md 1.10,
//! bundle.md 4.11).

use crate::base::files;
use crate::base::secret::Secret;
use std::path::Path;
use zeroize::Zeroizing;

/// Largest proxy.conf that is read.
pub const LIMIT: usize = 4096;

/// The port when none is written: the original agent's. Its onboarding tool used 1080, so always
/// write one.
pub const DEFAULT_PORT: u16 = 80;

/// What stands between us and the service.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User and password for `Proxy-Authorization: Basic`.
    pub credentials: Option<(String, Secret)>,
}

/// Why a line is no proxy. Never holds the line, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Not of the form.
    #[error("{0}; expected `[http://][user:password@]host[:port]`")]
    Form(&'static str),
    /// The file is there and cannot be read.
    #[error("{0}")]
    Unreadable(String),
}

/// Reads proxy.conf: `None` when there is none, or none but comments in it.
pub fn load(path: &Path) -> Result<Option<Proxy>, ProxyError> {
    let unreadable = |e| ProxyError::Unreadable(format!("{e:#}"));
    let Some(bytes) = files::read(path, LIMIT).map_err(unreadable)? else {
        return Ok(None);
    };
    let bytes = Zeroizing::new(bytes);
    let text = std::str::from_utf8(&bytes).map_err(|_| ProxyError::Form("not UTF-8 text"))?;
    parse_file(text)
}

/// The content of proxy.conf: one line, with comments (`#`) and blank lines around it tolerated.
pub fn parse_file(text: &str) -> Result<Option<Proxy>, ProxyError> {
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    match (lines.next(), lines.next()) {
        (None, _) => Ok(None),
        (Some(line), None) => parse(line).map(Some),
        (Some(_), Some(_)) => Err(ProxyError::Form("more than one proxy line")),
    }
}

/// One proxy as it is written in proxy.conf, after `-p` or in the onboarding file.
pub fn parse(line: &str) -> Result<Proxy, ProxyError> {
    let line = line.trim();
    let rest = line
        .strip_prefix("http://")
        .or_else(|| line.strip_prefix("https://"))
        .unwrap_or(line);
    if rest.contains("://") {
        return Err(ProxyError::Form("only an HTTP proxy can be used"));
    }
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
    let (host, port) = match address.split_once(':') {
        None => (address, DEFAULT_PORT),
        Some((host, port)) => {
            let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            let number = digits.then(|| port.parse().ok()).flatten();
            let number = number.filter(|n| *n != 0);
            (
                host,
                number.ok_or(ProxyError::Form("a port that is no number from 1 to 65535"))?,
            )
        }
    };
    let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if host.is_empty() || host.len() > 253 || !host.bytes().all(name) {
        return Err(ProxyError::Form("a host that is no name or address"));
    }
    Ok(Proxy {
        host: host.to_owned(),
        port,
        credentials,
    })
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

    #[test]
    fn a_file_may_have_comments_and_may_be_absent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proxy.conf");
        assert!(load(&path).unwrap().is_none());
        std::fs::write(&path, "# none\r\n\r\n").unwrap();
        assert!(load(&path).unwrap().is_none());
        std::fs::write(&path, "# ours\r\n proxy:3128 \r\n").unwrap();
        assert_eq!(load(&path).unwrap().unwrap().port, 3128);
        std::fs::write(&path, "a:1\nb:2\n").unwrap();
        assert!(load(&path).is_err());
        let mut text = b"proxy:3128".to_vec();
        text.resize(LIMIT, b'\n');
        std::fs::write(&path, &text).unwrap();
        assert!(load(&path).unwrap().is_some());
        text.push(b'\n');
        std::fs::write(&path, &text).unwrap();
        assert!(matches!(load(&path), Err(ProxyError::Unreadable(_))));
    }
}
