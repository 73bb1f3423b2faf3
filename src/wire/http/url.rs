//! The few URLs we call: https, a host, perhaps a port, a path with its query.

use super::connection::Target;
use super::{Cause, HttpError};

/// Longest URL that is used.
const LIMIT: usize = 8192;

/// An https URL in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    host: String,
    port: u16,
    /// Path and query, at least `/`.
    pub(super) path: String,
}

impl Url {
    pub(super) fn parse(text: &str) -> Result<Url, HttpError> {
        let bad = |why: &str| {
            let shown: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
            HttpError::new(Cause::Local, format!("cannot use the URL `{shown}`: {why}"))
        };
        if text.len() > LIMIT {
            return Err(bad("longer than 8192 bytes"));
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(bad("a character that must be escaped"));
        }
        let scheme = text
            .split_at_checked(8)
            .filter(|(s, _)| s.eq_ignore_ascii_case("https://"));
        let (_, rest) = scheme.ok_or_else(|| bad("it does not begin with https://"))?;
        let rest = rest.split('#').next().unwrap_or(rest);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(bad("user and password have no place in it"));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let port = match port {
            None => 443,
            Some(digits) => digits
                .parse()
                .ok()
                .filter(|n| *n != 0 && digits.bytes().all(|b| b.is_ascii_digit()))
                .ok_or_else(|| bad("the port is no number from 1 to 65535"))?,
        };
        let literal = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = literal.unwrap_or(host);
        let name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let good = match literal {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.len() <= 253 && host.bytes().all(name),
        };
        if !good {
            return Err(bad("the host is no name or address"));
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Url {
            host: host.to_owned(),
            port,
            path: format!("{slash}{path}"),
        })
    }

    pub(super) fn target(&self) -> Target {
        Target {
            host: self.host.clone(),
            port: self.port,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match Url::parse(text) {
            Ok(u) => format!(
                "{} {} {} {}",
                u.host,
                u.port,
                u.path,
                u.target().host_header()
            ),
            Err(e) => format!("{:?}", e.cause),
        }
    }

    #[test]
    fn parts() {
        assert_eq!(shown("https://a.example"), "a.example 443 / a.example");
        assert_eq!(
            shown("https://w.oms.example.test:8443/A.svc/B?c=d#e"),
            "w.oms.example.test 8443 /A.svc/B?c=d w.oms.example.test:8443"
        );
        assert_eq!(shown("HTTPS://a?x"), "a 443 /?x a");
        assert_eq!(shown("https://[::1]:8443/"), "::1 8443 / [::1]:8443");
        assert_eq!(shown("https://[::1]/"), "::1 443 / [::1]");
    }

    #[test]
    fn refused() {
        for text in [
            "",
            "http://a/",
            "https:///x",
            "https://a:0/",
            "https://a:65536/",
            "https://a:/",
            "https://u:p@a/",
            "https://a b/",
            "https://a/\r\nX: y",
            "https://::1/",
            "https://[zz]/",
            "https://ä/",
        ] {
            assert_eq!(shown(text), "Local", "{text:?}");
        }
        let long = format!("https://a/{}", "x".repeat(LIMIT - 10));
        assert!(Url::parse(&long).is_ok());
        assert!(Url::parse(&format!("{long}x")).is_err());
    }
}
