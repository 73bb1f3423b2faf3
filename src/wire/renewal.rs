//! A new pair on its way into place (protocol.md 2.2). It is one file, so that no moment knows half
//! of it: offered to the service while it is `oms.renewal`, known to the service from the moment at
//! which it is named `oms.renewed`. The file says which certificate it replaces: beside any other
//! pair it means nothing.

use crate::base::files;
use crate::base::secret::Secret;
use crate::wire::identity::{ClientIdentity, PEM_LIMIT};
use anyhow::Result;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const HEAD: &str = "omsagent renewal 1";

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The service may or may not know it; the old one is in place.
    Offered,
    /// The service knows it, and perhaps no other: it counts, whatever is in place.
    Known,
}

impl Stage {
    /// The file's name in a certs folder.
    pub fn file_name(self) -> &'static str {
        match self {
            Stage::Offered => "oms.renewal",
            Stage::Known => "oms.renewed",
        }
    }

    /// The file in `certs`.
    pub fn path(self, certs: &Path) -> PathBuf {
        certs.join(self.file_name())
    }
}

/// The new pair, and which one it replaces.
#[derive(Debug, Clone)]
pub struct NewPair {
    /// Thumbprint of the certificate before.
    replaces: String,
    /// When it was made.
    pub made: Timestamp,
    /// The pair.
    pub pair: ClientIdentity,
}

impl NewPair {
    /// `pair` in the place of `old`.
    pub fn new(old: &ClientIdentity, pair: ClientIdentity, made: Timestamp) -> Result<NewPair> {
        Ok(NewPair {
            replaces: thumbprint(old)?,
            made,
            pair,
        })
    }

    /// The file's content: two lines, then the PEM blocks. A secret.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(8192));
        let _ = write!(
            text,
            "{HEAD}\nreplaces {}\nmade {}\n{}\n{}\n",
            self.replaces,
            self.made,
            self.pair.cert_pem.trim(),
            self.pair.key_pem.expose().trim()
        );
        text
    }

    /// Reads such a file; `None` when it is none, or its key is not that of its certificate.
    pub fn parse(text: &str) -> Option<NewPair> {
        let rest = text.strip_prefix(HEAD)?.strip_prefix('\n')?;
        let (replaces, rest) = rest.strip_prefix("replaces ")?.split_once('\n')?;
        let (made, rest) = rest.strip_prefix("made ")?.split_once('\n')?;
        let (cert, key) = rest.split_once("-----END CERTIFICATE-----\n")?;
        let pair = ClientIdentity {
            cert_pem: format!("{cert}-----END CERTIFICATE-----\n"),
            key_pem: Secret::new(key),
        };
        Some(NewPair {
            replaces: replaces.to_owned(),
            made: made.parse().ok()?,
            pair,
        })
        .filter(|new| new.pair.fits().unwrap_or(false))
    }

    /// The file of that stage in `certs`, if it belongs to the pair whose certificate is `current`:
    /// the old one or, in the middle of being put in place, the new one.
    pub fn load(certs: &Path, stage: Stage, current: &ClientIdentity) -> Result<Option<NewPair>> {
        let bytes = files::read_no_follow(&stage.path(certs), PEM_LIMIT)?;
        let Some(bytes) = bytes.map(Zeroizing::new) else {
            return Ok(None);
        };
        let text = Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned());
        let new = NewPair::parse(&text).filter(|new| new.belongs_to(current));
        Ok(new)
    }

    fn belongs_to(&self, current: &ClientIdentity) -> bool {
        let Ok(current) = thumbprint(current) else {
            return false;
        };
        current == self.replaces || thumbprint(&self.pair).is_ok_and(|own| own == current)
    }
}

/// SHA-256 of the certificate, lower-case hexadecimal.
fn thumbprint(identity: &ClientIdentity) -> Result<String> {
    let digest = Sha256::digest(identity.cert_der()?);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs() -> [ClientIdentity; 3] {
        static MADE: std::sync::OnceLock<[ClientIdentity; 3]> = std::sync::OnceLock::new();
        let make = || {
            let ws = "11111111-2222-3333-4444-555555555555".parse().unwrap();
            let guid = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee".parse().unwrap();
            ClientIdentity::generate(&ws, &guid, Timestamp::now()).unwrap()
        };
        MADE.get_or_init(|| [make(), make(), make()]).clone()
    }

    #[test]
    fn what_is_written_is_read() {
        let [old, new, _] = pairs();
        let made: Timestamp = "2031-02-03T04:05:06Z".parse().unwrap();
        let file = NewPair::new(&old, new.clone(), made).unwrap();
        let read = NewPair::parse(&file.to_text()).unwrap();
        assert_eq!(read.made, made);
        assert_eq!(
            read.pair.cert_der().unwrap(),
            new.cert_der().unwrap(),
            "the same certificate"
        );
        assert!(read.pair.fits().unwrap());
        assert!(read.belongs_to(&old) && read.belongs_to(&new));
    }

    #[test]
    fn cut_off_at_any_byte_it_is_nothing() {
        let [old, new, other] = pairs();
        let file = NewPair::new(&old, new, Timestamp::now()).unwrap();
        let text = file.to_text();
        for end in (0..text.len() - 60).step_by(7) {
            assert!(NewPair::parse(&text[..end]).is_none(), "{end}");
        }
        let mixed = NewPair {
            pair: ClientIdentity {
                key_pem: other.key_pem.clone(),
                ..file.pair.clone()
            },
            ..file
        };
        assert!(NewPair::parse(&mixed.to_text()).is_none());
    }

    #[test]
    fn it_counts_only_beside_the_pair_it_replaces() {
        let [old, new, other] = pairs();
        let dir = tempfile::tempdir().unwrap();
        let put = |pair: &ClientIdentity| {
            std::fs::write(dir.path().join("oms.crt"), &pair.cert_pem).unwrap();
            std::fs::write(dir.path().join("oms.key"), pair.key_pem.expose()).unwrap();
        };
        let loaded = || {
            let pair = ClientIdentity::load(dir.path()).unwrap().unwrap();
            pair.cert_der().unwrap()
        };
        put(&old);
        let file = NewPair::new(&old, new.clone(), Timestamp::now()).unwrap();
        let (offered, known) = (
            Stage::Offered.path(dir.path()),
            Stage::Known.path(dir.path()),
        );
        std::fs::write(&offered, file.to_text().as_bytes()).unwrap();
        assert_eq!(loaded(), old.cert_der().unwrap(), "offered is not known");
        std::fs::rename(&offered, &known).unwrap();
        assert_eq!(loaded(), new.cert_der().unwrap());
        // Half put in place: the new key beside the old certificate.
        std::fs::write(dir.path().join("oms.key"), new.key_pem.expose()).unwrap();
        assert_eq!(loaded(), new.cert_der().unwrap());
        put(&new);
        assert_eq!(loaded(), new.cert_der().unwrap());
        put(&other);
        assert_eq!(loaded(), other.cert_der().unwrap(), "onboarded anew");
        std::fs::write(&known, "garbage").unwrap();
        assert_eq!(loaded(), other.cert_der().unwrap());
    }
}
