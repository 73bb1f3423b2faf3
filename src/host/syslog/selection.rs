//! Which messages are collected.

use std::fmt;
use std::str::FromStr;

macro_rules! names {
    ($(#[$doc:meta])* $kind:ident { $($variant:ident = $name:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)] // the names are RFC 5424's
        pub enum $kind { $($variant),+ }

        impl $kind {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [$kind] = &[$($kind::$variant),+];

            /// The name both daemons know.
            pub fn name(self) -> &'static str {
                match self { $($kind::$variant => $name),+ }
            }
        }

        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $kind {
            type Err = UnknownName;
            fn from_str(text: &str) -> Result<Self, UnknownName> {
                Self::ALL
                    .iter()
                    .find(|v| v.name() == text)
                    .copied()
                    .ok_or_else(|| UnknownName(text.chars().take(40).collect()))
            }
        }
    };
}

/// Neither a facility nor a severity.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not the name of a syslog facility or severity")]
pub struct UnknownName(String);

names! {
    /// Where a message comes from.
    Facility {
        Kern = "kern", User = "user", Mail = "mail", Daemon = "daemon", Auth = "auth",
        Syslog = "syslog", Lpr = "lpr", News = "news", Uucp = "uucp", Cron = "cron",
        Authpriv = "authpriv", Ftp = "ftp",
        Local0 = "local0", Local1 = "local1", Local2 = "local2", Local3 = "local3",
        Local4 = "local4", Local5 = "local5", Local6 = "local6", Local7 = "local7",
    }
}

names! {
    /// How bad it is, the worst first.
    Severity {
        Emerg = "emerg", Alert = "alert", Crit = "crit", Err = "err", Warning = "warning",
        Notice = "notice", Info = "info", Debug = "debug",
    }
}

/// How the daemon hands messages over. The agent listens for both on its port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// What the original had, and what others look for.
    #[default]
    Udp,
    /// Nothing is lost while the agent restarts: the daemon keeps it in a queue.
    Tcp,
    /// A socket in the file system: only who may reach it can send, and a busy agent makes the daemon
    /// wait. While there is no agent rsyslog's module loses messages; syslog-ng keeps them.
    Unix,
}

impl Transport {
    /// All of them.
    pub const ALL: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Unix];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Unix => "unix",
        }
    }
}

/// Not a transport.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no transport: `udp`, `tcp` or `unix`")]
pub struct NoTransport(String);

impl FromStr for Transport {
    type Err = NoTransport;
    fn from_str(text: &str) -> Result<Self, NoTransport> {
        let named = |t: &&Transport| t.name() == text;
        let short = || text.chars().filter(|c| !c.is_control()).take(40).collect();
        Transport::ALL
            .iter()
            .find(named)
            .copied()
            .ok_or_else(|| NoTransport(short()))
    }
}

/// Messages of these facilities, of this severity and worse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The facilities, in the order they are written.
    pub facilities: Vec<Facility>,
    /// The least severity that is forwarded.
    pub severity: Severity,
    /// How.
    pub transport: Transport,
}

/// Not a selection.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{text}` selects nothing: {why}; write `facility,facility.severity`, like `auth,authpriv.warning`, `*` for all facilities"
)]
pub struct BadSelection {
    text: String,
    why: String,
}

impl Selection {
    /// Nothing is forwarded: a stanza where others put their own rules.
    pub fn none() -> Selection {
        Selection {
            facilities: Vec::new(),
            severity: Severity::Warning,
            transport: Transport::Udp,
        }
    }
}

impl Selection {
    /// The transport at the end of a selection's text, if one is named.
    pub fn named_transport(text: &str) -> Option<Transport> {
        text.trim().rsplit_once([' ', '\t'])?.1.parse().ok()
    }
}

/// As rsyslog writes it: `auth,authpriv.warning`; `*` is every facility, `none` nothing at all; then
/// ` tcp`, ` unix` or ` udp`.
impl FromStr for Selection {
    type Err = BadSelection;
    fn from_str(text: &str) -> Result<Self, BadSelection> {
        let bad = |why: String| BadSelection {
            text: text.chars().filter(|c| !c.is_control()).take(200).collect(),
            why,
        };
        let trimmed = text.trim();
        if trimmed == "none" {
            return Ok(Selection::none());
        }
        let (trimmed, transport) = match Selection::named_transport(trimmed) {
            Some(named) => (
                trimmed[..trimmed.len() - named.name().len()].trim_end(),
                named,
            ),
            None => (trimmed, Transport::Udp),
        };
        let (facilities, severity) = trimmed
            .rsplit_once('.')
            .ok_or_else(|| bad("there is no severity".into()))?;
        let severity = severity
            .parse()
            .map_err(|e: UnknownName| bad(e.to_string()))?;
        let mut chosen: Vec<Facility> = Vec::new();
        if facilities.trim() == "*" {
            chosen.extend(Facility::ALL);
        } else {
            for name in facilities.split(',') {
                let facility: Facility = name
                    .trim()
                    .parse()
                    .map_err(|e: UnknownName| bad(e.to_string()))?;
                if !chosen.contains(&facility) {
                    chosen.push(facility);
                }
            }
        }
        Ok(Selection {
            facilities: chosen,
            severity,
            transport,
        })
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.facilities.is_empty() {
            return f.write_str("none");
        }
        let names: Vec<&str> = self.facilities.iter().map(|f| f.name()).collect();
        write!(f, "{}.{}", names.join(","), self.severity)?;
        match self.transport {
            Transport::Udp => Ok(()),
            named => write!(f, " {}", named.name()),
        }
    }
}

impl Default for Selection {
    /// What issue 2 promises: warning and worse of everything but mail, printing and news.
    fn default() -> Self {
        use Facility::{Auth, Authpriv, Cron, Daemon, Kern, Syslog, User};
        use Facility::{Local0, Local1, Local2, Local3, Local4, Local5, Local6, Local7};
        Selection {
            facilities: vec![
                Auth, Authpriv, Cron, Daemon, Kern, Syslog, User, Local0, Local1, Local2, Local3,
                Local4, Local5, Local6, Local7,
            ],
            severity: Severity::Warning,
            transport: Transport::Udp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_go_both_ways() {
        for text in [
            "auth,authpriv.warning",
            "kern.debug",
            "none",
            "kern,user.err tcp",
            "kern.err unix",
        ] {
            assert_eq!(text.parse::<Selection>().unwrap().to_string(), text);
        }
        let all: Selection = "*.err".parse().unwrap();
        assert_eq!(all.facilities.len(), Facility::ALL.len());
        let twice: Selection = "auth, auth.info".parse().unwrap();
        assert_eq!(twice.to_string(), "auth.info");
        assert_eq!(
            "kern.err udp".parse::<Selection>().unwrap().to_string(),
            "kern.err"
        );
        let default = Selection::default();
        assert_eq!(default.to_string().parse::<Selection>().unwrap(), default);
        for bad in [
            "",
            "auth",
            ".err",
            "auth.",
            "auth.loud",
            "mine.err",
            "auth.err\n*.* /x",
            "*,auth.err",
            "auth.err quic",
            "tcp",
        ] {
            assert!(bad.parse::<Selection>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_go_both_ways() {
        for facility in Facility::ALL {
            assert_eq!(facility.name().parse::<Facility>().unwrap(), *facility);
        }
        assert_eq!("err".parse::<Severity>().unwrap(), Severity::Err);
        assert!("local8".parse::<Facility>().is_err());
        assert!("Auth\n".parse::<Facility>().is_err());
        assert_eq!(Selection::default().facilities.len(), 15);
    }
}
