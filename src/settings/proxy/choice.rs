//! What counts when a proxy is set in several places, and reading it from there.

use super::{Proxy, ProxyError, line_of, parse};
use crate::base::files;
use crate::base::secret::Secret;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Largest proxy.conf that is read.
pub const LIMIT: usize = 4096;

/// The variables that name a proxy for https, as other programs read them: the first one counts.
pub const PROXY_VARIABLES: [&str; 2] = ["https_proxy", "HTTPS_PROXY"];
/// The variables that name what is reached without it.
pub const EXEMPTION_VARIABLES: [&str; 2] = ["no_proxy", "NO_PROXY"];

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

#[cfg(test)]
mod tests {
    use super::*;

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
