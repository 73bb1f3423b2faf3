//! Kits: provider bundles inside the bundle, run when the host has what they are for. What the
//! original decided by running a shell script out of its payload (bundle.md 2.10a) is a rule here:
//! data in the index, covered by its hash.

use super::index::is_name;
use serde::{Deserialize, Serialize};

/// Most conditions of one kit.
const CONDITION_LIMIT: usize = 16;
/// Longest text of one condition.
const TEXT_LIMIT: usize = 256;

/// Where a kit lies when the payload is extracted, and which exit code its failure has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// `oss-kits`, exit code 21.
    OssKits,
    /// `bundles`, exit code 22.
    Bundles,
}

impl Group {
    /// Both, in the order in which they are run.
    pub const ALL: [Group; 2] = [Group::OssKits, Group::Bundles];

    /// The folder's name.
    pub fn folder(self) -> &'static str {
        match self {
            Group::OssKits => "oss-kits",
            Group::Bundles => "bundles",
        }
    }
}

/// One thing a host must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// A program of this name in one of the system's folders for programs.
    Command(String),
    /// Anything at this absolute path.
    Path(String),
    /// A socket at this absolute path.
    Socket(String),
    /// A service of this name that runs.
    Service(String),
}

/// When a kit is run: when every condition holds. A kit without conditions is always run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KitRule {
    /// The kit's short name, e.g. `docker`.
    pub name: String,
    /// Which kind of kit.
    pub group: Group,
    /// What the host must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<Condition>,
}

impl std::str::FromStr for Condition {
    type Err = String;

    /// `command:docker`, `path:/etc/httpd`, `socket:/run/docker.sock`, `service:mysqld`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.to_owned();
        let condition = match kind {
            "command" => Condition::Command(value),
            "path" => Condition::Path(value),
            "socket" => Condition::Socket(value),
            "service" => Condition::Service(value),
            _ => {
                return Err(format!(
                    "`{text}`: want command:NAME, path:FILE, socket:FILE or service:NAME"
                ));
            }
        };
        condition.check().map_err(|e| format!("`{text}`: {e}"))?;
        Ok(condition)
    }
}

impl Condition {
    fn check(&self) -> Result<(), &'static str> {
        match self {
            Condition::Command(name) if !is_name(name) => {
                Err("unusable program name in a kit's rule")
            }
            Condition::Service(name) if !is_name(name.strip_suffix(".service").unwrap_or(name)) => {
                Err("unusable service name in a kit's rule")
            }
            Condition::Path(path) | Condition::Socket(path)
                if !path.starts_with('/')
                    || path.len() > TEXT_LIMIT
                    || path.contains(char::is_control) =>
            {
                Err("unusable path in a kit's rule: want an absolute one")
            }
            _ => Ok(()),
        }
    }
}

impl KitRule {
    /// Can this rule be used?
    pub fn check(&self) -> Result<(), &'static str> {
        if !is_name(&self.name) {
            return Err("unusable kit name");
        }
        if self.when.len() > CONDITION_LIMIT {
            return Err("too many conditions for a kit");
        }
        self.when.iter().try_for_each(Condition::check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_as_words() {
        let read = |text: &str| text.parse::<Condition>();
        assert_eq!(
            read("command:docker"),
            Ok(Condition::Command("docker".into()))
        );
        assert_eq!(read("path:/a b"), Ok(Condition::Path("/a b".into())));
        assert_eq!(
            read("socket:/run/x"),
            Ok(Condition::Socket("/run/x".into()))
        );
        assert_eq!(
            read("service:a.service"),
            Ok(Condition::Service("a.service".into()))
        );
        for bad in [
            "",
            "docker",
            "command:",
            "command:/bin/sh",
            "command:a b",
            "path:x",
            "path:",
            "socket:../x",
            "service:-x",
            "path:/a\nb",
            "script:/x",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rules_at_the_limit_and_past_it() {
        let rule = |n: usize| KitRule {
            name: "k".into(),
            group: Group::OssKits,
            when: vec![Condition::Path("/".into()); n],
        };
        assert!(rule(CONDITION_LIMIT).check().is_ok());
        assert!(rule(CONDITION_LIMIT + 1).check().is_err());
        let path = |n: usize| Condition::Path("/".repeat(n)).check();
        assert!(path(TEXT_LIMIT).is_ok() && path(TEXT_LIMIT + 1).is_err());
        let named = KitRule {
            name: "../x".into(),
            ..rule(0)
        };
        assert!(named.check().is_err());
    }

    #[test]
    fn a_rule_is_a_line_of_json() {
        let rule = KitRule {
            name: "docker".into(),
            group: Group::OssKits,
            when: vec![
                Condition::Command("docker".into()),
                Condition::Socket("/run/docker.sock".into()),
            ],
        };
        let text = r#"{"name":"docker","group":"oss-kits","when":[{"command":"docker"},{"socket":"/run/docker.sock"}]}"#;
        assert_eq!(serde_json::to_string(&rule).unwrap(), text);
        assert_eq!(serde_json::from_str::<KitRule>(text).unwrap(), rule);
    }
}
