//! The shared keys of workspaces: a primary one each, and a secondary one when it was asked for.
//! Either lets an agent onboard, so that each can be changed while the other is in use.
//!
//! They are not in the database but in files of their own (`keys/<workspace>`, 0600): no query,
//! however general, shows one, and a copy of the database holds none.

use super::Folder;
use crate::base::files;
use crate::base::ids::WorkspaceId;
use crate::base::secret::Secret;
use crate::wire::signature;
use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// Bytes of a new shared key, as the original service's have.
const KEY_BYTES: usize = 64;

/// Fewest bytes a given shared key may have.
const KEY_BYTES_MIN: usize = 16;

/// Which of a workspace's two keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The one every workspace has.
    Primary,
    /// The one that is made when it is asked for.
    Secondary,
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Which::Primary => "primary",
            Which::Secondary => "secondary",
        })
    }
}

impl Which {
    fn file(self, folder: &Folder, id: &WorkspaceId) -> PathBuf {
        let id = id.as_str().to_ascii_lowercase();
        folder.keys().join(match self {
            Which::Primary => id,
            Which::Secondary => format!("{id}.secondary"),
        })
    }
}

/// The bytes of a workspace's keys.
pub(super) struct Keys(Vec<(Which, Zeroizing<Vec<u8>>)>);

impl Keys {
    /// Which key made this signature.
    pub(super) fn signer(&self, hmac: &str, date: &str, hash: &str) -> Option<Which> {
        let signed = |key: &[u8]| signature::verify(hmac, key, date, hash);
        self.0.iter().find(|(_, key)| signed(key)).map(|(w, _)| *w)
    }
}

/// The keys of a workspace, for checking signatures.
pub(super) fn read(folder: &Folder, id: &WorkspaceId) -> Result<Keys> {
    let mut keys = Vec::new();
    for (which, text) in texts(folder, id)? {
        let key = signature::decode_key(&text)
            .with_context(|| format!("in `{}`", which.file(folder, id).display()))?;
        keys.push((which, key));
    }
    Ok(Keys(keys))
}

/// The keys of a workspace as base64, for their owner.
pub(super) fn texts(folder: &Folder, id: &WorkspaceId) -> Result<Vec<(Which, Secret)>> {
    let text = |which: Which| -> Result<Option<(Which, Secret)>> {
        let text = files::read_text(&which.file(folder, id), signature::KEY_TEXT_LIMIT)?;
        Ok(text.map(|text| (which, Secret::new(text))))
    };
    let primary = text(Which::Primary)?.with_context(|| {
        let path = Which::Primary.file(folder, id);
        format!(
            "`{}` is missing: put it back, or make a new one with `hub workspace rotate-key`",
            path.display()
        )
    })?;
    Ok([Some(primary), text(Which::Secondary)?]
        .into_iter()
        .flatten()
        .collect())
}

/// Puts a key in the place of the one there was. The hub reads keys at each onboarding.
pub(super) fn write(folder: &Folder, id: &WorkspaceId, which: Which, key: &Secret) -> Result<()> {
    files::write_atomic(
        &which.file(folder, id),
        key.expose().as_bytes(),
        folder.look(0o600),
    )
}

/// Takes a workspace's keys away.
pub(super) fn remove(folder: &Folder, id: &WorkspaceId) -> Result<()> {
    for which in [Which::Primary, Which::Secondary] {
        files::remove(&which.file(folder, id))?;
    }
    Ok(())
}

/// The key given, once it is known to be good; a random one when none is.
pub(super) fn given_or_random(key: Option<Secret>) -> Result<Secret> {
    key.map_or_else(random, accepted)
}

fn random() -> Result<Secret> {
    use rustls::crypto::ring;
    let mut bytes = Zeroizing::new([0u8; KEY_BYTES]);
    if ring::default_provider()
        .secure_random
        .fill(&mut *bytes)
        .is_err()
    {
        bail!("the system has no random numbers for a key");
    }
    Ok(Secret::new(STANDARD.encode(*bytes)))
}

fn accepted(key: Secret) -> Result<Secret> {
    let bytes = signature::decode_key(&key)?;
    if bytes.len() < KEY_BYTES_MIN {
        bail!("the shared key has fewer than {KEY_BYTES_MIN} bytes, which can be guessed");
    }
    Ok(Secret::new(STANDARD.encode(&*bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const DATE: &str = "2031-02-03T04:05:06.000000007+01:00";

    fn folder() -> (tempfile::TempDir, Folder, WorkspaceId) {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::make(&temp.path().join("hub")).unwrap();
        let id = "ABCDEF01-89ab-cdef-0123-456789abcdef".parse().unwrap();
        (temp, folder, id)
    }

    fn signer(folder: &Folder, id: &WorkspaceId, key: &Secret) -> Option<Which> {
        let key = signature::decode_key(key).unwrap();
        let hash = signature::content_hash(b"body");
        let header = signature::authorization(id, &key, DATE, &hash);
        let (_, hmac) = signature::parse_authorization(&header).unwrap();
        read(folder, id).unwrap().signer(hmac, DATE, &hash)
    }

    #[test]
    fn either_key_signs_and_a_replaced_one_does_not() {
        let (_temp, folder, id) = folder();
        let keys: Vec<Secret> = (0..3).map(|_| random().unwrap()).collect();
        assert!(read(&folder, &id).is_err(), "no key at all");
        write(&folder, &id, Which::Secondary, &keys[1]).unwrap();
        assert!(read(&folder, &id).is_err(), "no primary key");
        write(&folder, &id, Which::Primary, &keys[0]).unwrap();
        assert_eq!(signer(&folder, &id, &keys[0]), Some(Which::Primary));
        assert_eq!(signer(&folder, &id, &keys[1]), Some(Which::Secondary));
        assert_eq!(signer(&folder, &id, &keys[2]), None);
        write(&folder, &id, Which::Primary, &keys[2]).unwrap();
        assert_eq!(signer(&folder, &id, &keys[0]), None);
        assert_eq!(signer(&folder, &id, &keys[1]), Some(Which::Secondary));
        assert_eq!(signer(&folder, &id, &keys[2]), Some(Which::Primary));
        remove(&folder, &id).unwrap();
        assert!(read(&folder, &id).is_err());
        remove(&folder, &id).unwrap();
        assert_eq!(std::fs::read_dir(folder.keys()).unwrap().count(), 0);
    }

    #[test]
    fn files_are_for_the_hub_alone() {
        let (_temp, folder, id) = folder();
        for which in [Which::Primary, Which::Secondary] {
            write(&folder, &id, which, &random().unwrap()).unwrap();
            let meta = std::fs::metadata(which.file(&folder, &id)).unwrap();
            assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_broken_file_is_named() {
        let (_temp, folder, id) = folder();
        write(&folder, &id, Which::Primary, &random().unwrap()).unwrap();
        for broken in ["", "not base64", "\u{0}"] {
            let path = Which::Secondary.file(&folder, &id);
            std::fs::write(&path, broken).unwrap();
            let error = format!("{:#}", read(&folder, &id).err().unwrap());
            assert!(error.contains(&path.display().to_string()), "{error}");
        }
    }
}
