//! Identifiers: GUIDs in their 8-4-4-4-12 form, validated once and then carried as types.

use std::fmt;
use std::str::FromStr;

/// Why a text is not a GUID.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a GUID (8-4-4-4-12 hexadecimal digits)")]
pub struct NotAGuid(pub String);

fn is_guid(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

macro_rules! guid_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// The text as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NotAGuid;
            fn from_str(text: &str) -> Result<Self, NotAGuid> {
                if is_guid(text) {
                    Ok($name(text.to_owned()))
                } else {
                    Err(NotAGuid(text.chars().take(64).collect()))
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

guid_type!(
    /// The agent's own id, kept across re-onboarding (protocol.md 1.2).
    AgentGuid
);

/// What a workspace's folders and services are called: its id, or one of the two pseudo-workspaces
/// (bundle.md 0, 6.6, 6.7). Never a path, never `state` or `sysconf`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkspaceName(String);

/// Why a text is not the name of a workspace.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is not a workspace: neither a GUID (8-4-4-4-12 hexadecimal digits) nor `scom` nor `LAD`"
)]
pub struct NotAWorkspace(pub String);

const SCOM: &str = "scom";
const LAD: &str = "LAD";

impl WorkspaceName {
    /// Operations Manager's.
    pub fn scom() -> Self {
        WorkspaceName(SCOM.to_owned())
    }

    /// The diagnostics extension's.
    pub fn lad() -> Self {
        WorkspaceName(LAD.to_owned())
    }

    /// The text as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Operations Manager's?
    pub fn is_scom(&self) -> bool {
        self.0 == SCOM
    }

    /// The id, unless it is a pseudo-workspace.
    pub fn id(&self) -> Option<WorkspaceId> {
        is_guid(&self.0).then(|| WorkspaceId(self.clone()))
    }
}

impl FromStr for WorkspaceName {
    type Err = NotAWorkspace;
    fn from_str(text: &str) -> Result<Self, NotAWorkspace> {
        if is_guid(text) || text == SCOM || text == LAD {
            Ok(WorkspaceName(text.to_owned()))
        } else {
            let shown = text.chars().filter(|c| !c.is_control());
            Err(NotAWorkspace(shown.take(64).collect()))
        }
    }
}

impl fmt::Display for WorkspaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for WorkspaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A workspace id: a GUID, either case (bundle.md 0, "GUID regex"). It is a name, too.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkspaceId(WorkspaceName);

impl WorkspaceId {
    /// The text as it was given; case is kept, since directories are named after it.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl std::ops::Deref for WorkspaceId {
    type Target = WorkspaceName;
    fn deref(&self) -> &WorkspaceName {
        &self.0
    }
}

impl From<WorkspaceId> for WorkspaceName {
    fn from(id: WorkspaceId) -> Self {
        id.0
    }
}

impl FromStr for WorkspaceId {
    type Err = NotAGuid;
    fn from_str(text: &str) -> Result<Self, NotAGuid> {
        if is_guid(text) {
            Ok(WorkspaceId(WorkspaceName(text.to_owned())))
        } else {
            Err(NotAGuid(text.chars().take(64).collect()))
        }
    }
}

impl fmt::Display for WorkspaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for WorkspaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl AgentGuid {
    /// A new random version-4 GUID.
    pub fn random() -> Self {
        AgentGuid(uuid::Uuid::new_v4().hyphenated().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guid_forms() {
        let good = "01234567-89ab-CDEF-0123-456789abcdef";
        assert_eq!(good.parse::<WorkspaceId>().unwrap().as_str(), good);
        for bad in [
            "",
            "x",
            "01234567-89ab-CDEF-0123-456789abcde",
            "01234567-89ab-CDEF-0123-456789abcdeff",
            "0123456789ab-CDEF-0123-456789abcdef--",
            "01234567-89ab-CDEF-0123-456789abcdeg",
            "../../..-89ab-CDEF-0123-456789abcdef",
        ] {
            assert!(bad.parse::<WorkspaceId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_of_workspaces() {
        for good in ["scom", "LAD", "01234567-89ab-cdef-0123-456789abcdef"] {
            let name: WorkspaceName = good.parse().unwrap();
            assert_eq!(
                (name.as_str(), name.id().is_some()),
                (good, good.len() == 36)
            );
        }
        for bad in [
            "", "SCOM", "lad", "state", "sysconf", "../scom", "scom/", "*",
        ] {
            assert!(bad.parse::<WorkspaceName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn random_guid_is_a_guid() {
        let guid = AgentGuid::random();
        assert!(guid.as_str().parse::<AgentGuid>().is_ok());
        assert_ne!(guid, AgentGuid::random());
    }
}
