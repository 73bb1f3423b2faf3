//! proxy.conf: one line that says what stands between us and the service (protocol.md 1.10,
//! bundle.md 4.11), and what counts when there are several such lines.

use crate::base::files;
use crate::base::secret::Secret;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Largest proxy.conf that is read.
pub const LIMIT: usize = 4096;

/// The port when none is written: the original agent's. Its onboarding tool used 1080, so always
/// write one.
pub const DEFAULT_PORT: u16 = 80;
/// The same for a proxy that is spoken to over TLS.
pub const DEFAULT_TLS_PORT: u16 = 443;

/// The variables that name a proxy for https, as other programs read them: the first one counts.
pub const PROXY_VARIABLES: [&str; 2] = ["https_proxy", "HTTPS_PROXY"];
/// The variables that name what is reached without it.
pub const EXEMPTION_VARIABLES: [&str; 2] = ["no_proxy", "NO_PROXY"];

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

/// A setting that cannot be used, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {why}")]
pub struct Unusable {
    /// `-p`, a file, a variable.
    pub place: String,
    /// Why.
    pub why: ProxyError,
}

/// Where the setting that counts was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// proxy.conf, in its present place or its old one.
    File(PathBuf),
    /// A variable of the environment.
    Environment(&'static str),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::File(path) => write!(f, "{}", path.display()),
            Source::Environment(name) => f.write_str(name),
        }
    }
}

/// A proxy, and where it was written.
#[derive(Debug, Clone)]
pub struct Found {
    /// The proxy.
    pub proxy: Proxy,
    /// The line it was read from.
    pub line: Secret,
    /// Where that stands.
    pub source: Source,
}

/// How to get to a host.
#[derive(Debug, Clone)]
pub enum Choice {
    /// No proxy is set.
    Direct,
    /// The environment has a proxy, and says that this host is reached without it.
    Exempt {
        /// Which variable names the proxy.
        proxy: &'static str,
        /// Which one names the host.
        exemption: &'static str,
    },
    /// Through this one.
    Through(Found),
}

impl Choice {
    /// The proxy, if there is one.
    pub fn proxy(self) -> Option<Proxy> {
        match self {
            Choice::Through(found) => Some(found.proxy),
            Choice::Direct | Choice::Exempt { .. } => None,
        }
    }
}

/// What counts for `host` (a name without a port): `path` before its old place (protocol.md 0.2)
/// before the environment. `NO_PROXY` speaks about the environment's proxy alone: who writes a
/// file for this agent means this agent.
pub fn choose(
    path: &Path,
    host: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Choice, Unusable> {
    if let Some(found) = find(path)? {
        return Ok(Choice::Through(found));
    }
    let Some((name, line)) = first_of(PROXY_VARIABLES, variable) else {
        return Ok(Choice::Direct);
    };
    let line = Secret::new(line);
    if let Some((exemption, list)) = first_of(EXEMPTION_VARIABLES, variable)
        && exempts(&list, host)
    {
        let proxy = name;
        return Ok(Choice::Exempt { proxy, exemption });
    }
    let proxy = parse(line.expose()).map_err(|why| {
        let place = format!("the variable {name}");
        Unusable { place, why }
    })?;
    let source = Source::Environment(name);
    Ok(Choice::Through(Found {
        proxy,
        line,
        source,
    }))
}

/// This process's environment, for [`choose`].
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The first of the variables that is set to something, and its value.
pub fn first_of(
    names: [&'static str; 2],
    variable: &dyn Fn(&str) -> Option<String>,
) -> Option<(&'static str, String)> {
    names.into_iter().find_map(|name| {
        let value = variable(name)?.trim().to_owned();
        (!value.is_empty()).then_some((name, value))
    })
}

/// Is `host` one of a list of names, each standing for all below it too; `*` for all?
fn exempts(list: &str, host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let entries = list.split([',', ' ', '\t']).map(str::trim);
    entries.filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        let entry = match entry.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => entry.as_str(),
        };
        let name = entry.trim_start_matches('*').trim_start_matches('.');
        let below = || host.strip_suffix(name).is_some_and(|h| h.ends_with('.'));
        match name {
            "" => entry == "*",
            name => host == name || below(),
        }
    })
}

/// Reads proxy.conf, or where there is none the file in its old place, `conf/` beside it; `None`
/// when there is neither, or none but comments in it.
pub fn find(path: &Path) -> Result<Option<Found>, Unusable> {
    let old = path.parent().map(|etc| etc.join("conf/proxy.conf"));
    for path in std::iter::once(path.to_owned()).chain(old) {
        let unusable = |why| Unusable {
            place: format!("`{}`", path.display()),
            why,
        };
        let bytes = files::read(&path, LIMIT).map_err(|e| Unusable {
            place: "proxy.conf".into(),
            why: ProxyError::Unreadable(format!("{e:#}")),
        })?;
        let Some(bytes) = bytes.map(Zeroizing::new) else {
            continue;
        };
        let text = std::str::from_utf8(&bytes);
        let text = text.map_err(|_| unusable(ProxyError::Form("not UTF-8 text")))?;
        return Ok(match line_of(text).map_err(unusable)? {
            None => None,
            Some(line) => Some(Found {
                proxy: parse(line).map_err(unusable)?,
                line: Secret::new(line),
                source: Source::File(path.clone()),
            }),
        });
    }
    Ok(None)
}

/// The proxy that [`find`] finds.
pub fn load(path: &Path) -> Result<Option<Proxy>, Unusable> {
    Ok(find(path)?.map(|found| found.proxy))
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
    fn a_file_comes_before_its_old_place_and_that_before_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proxy.conf");
        let old = dir.path().join("conf/proxy.conf");
        let host = "w.oms.example.test";
        let set = |pairs: &'static [(&str, &str)]| {
            move |name: &str| {
                let pair = pairs.iter().find(|(n, _)| *n == name);
                pair.map(|(_, v)| (*v).to_owned())
            }
        };
        let outcome =
            |variables: &dyn Fn(&str) -> Option<String>| match choose(&path, host, variables)
                .unwrap()
            {
                Choice::Direct => "direct".to_owned(),
                Choice::Exempt { proxy, exemption } => format!("{proxy} but {exemption}"),
                Choice::Through(f) => {
                    let source = f.source.to_string();
                    let place = source.rsplit("/").take(2).collect::<Vec<_>>().join("<");
                    format!("{} by {place}", f.proxy.host)
                }
            };
        let env = set(&[("https_proxy", "e:1"), ("HTTPS_PROXY", "E:1")]);
        assert_eq!(outcome(&set(&[])), "direct");
        assert_eq!(outcome(&env), "e by https_proxy");
        let upper = set(&[("https_proxy", " "), ("HTTPS_PROXY", "http://u:p@E:1/")]);
        assert_eq!(outcome(&upper), "E by HTTPS_PROXY");
        for (list, hit) in [
            ("example.test", true),
            (".example.test", true),
            ("*.oms.example.test", true),
            ("a, W.OMS.example.TEST:443 b", true),
            ("*", true),
            ("ample.test", false),
            ("other,", false),
            (".", false),
        ] {
            assert_eq!(exempts(list, host), hit, "{list}");
        }
        let exempt = set(&[("HTTPS_PROXY", "E:1"), ("NO_PROXY", "example.test")]);
        assert_eq!(outcome(&exempt), "HTTPS_PROXY but NO_PROXY");
        std::fs::create_dir(dir.path().join("conf")).unwrap();
        std::fs::write(&old, "old:1").unwrap();
        assert!(outcome(&exempt).starts_with("old by proxy.conf<conf"));
        std::fs::write(&path, "new:1").unwrap();
        assert!(outcome(&env).starts_with("new by proxy.conf<"));
        let error = {
            std::fs::remove_file(&path).unwrap();
            std::fs::remove_file(&old).unwrap();
            let bad = set(&[("HTTPS_PROXY", "ftp://u:hunter2@p")]);
            choose(&path, host, &bad).unwrap_err().to_string()
        };
        assert!(
            error.contains("HTTPS_PROXY") && !error.contains("hunter2"),
            "{error}"
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
        let error = load(&path).unwrap_err();
        assert!(matches!(error.why, ProxyError::Unreadable(_)), "{error}");
    }
}
