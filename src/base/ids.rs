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
            /// The text as it was given; case is kept, since directories are named after it.
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
    /// A workspace id: a GUID, either case (bundle.md 0, "GUID regex").
    WorkspaceId
);
guid_type!(
    /// The agent's own id, kept across re-onboarding (protocol.md 1.2).
    AgentGuid
);

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
    fn random_guid_is_a_guid() {
        let guid = AgentGuid::random();
        assert!(guid.as_str().parse::<AgentGuid>().is_ok());
        assert_ne!(guid, AgentGuid::random());
    }
}
