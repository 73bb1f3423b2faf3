//! Signatures, in minisign's form (jedisct1.github.io/minisign, "Signature format"): Ed25519 over
//! the BLAKE2b-512 of what is signed, and a second one over the first and a trusted comment. Keys and
//! signatures can be made and checked with `minisign` as well. No I/O here.

use super::blake2b::Blake2b;
use super::{BundleError, SIGNATURE_PLACE};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::SecureRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use zeroize::Zeroizing;

/// The key a release was built with: the second line of minisign's public key file.
const BUILT_IN: Option<&str> = option_env!("OMSAGENT_PUBLIC_KEY");
// A release whose key cannot be read would refuse every bundle: fail while it is built.
const _: () = assert!(match BUILT_IN {
    Some(text) => text.len() == 56 || text.is_empty(),
    None => true,
});

/// The curve, in public and in secret keys.
const CURVE: &[u8; 2] = b"Ed";
/// A signature of a hash; minisign's older form, `Ed`, is of the file itself and is not taken.
const PREHASHED: &[u8; 2] = b"ED";
/// How the checksum in a secret key is made, and the place of one that is not encrypted.
const CHECKSUM: &[u8; 2] = b"B2";
const NOT_ENCRYPTED: &[u8; 2] = &[0, 0];
/// Longest text of a key or a signature that is looked at.
pub const TEXT_LIMIT: usize = 4096;

const UNTRUSTED: &str = "untrusted comment: ";
const TRUSTED: &str = "trusted comment: ";

/// Why a signature or a key is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not in minisign's form.
    #[error("not a {what} as minisign writes it: {problem}")]
    Malformed {
        /// Signature, public key or secret key.
        what: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// There is none where there must be one.
    #[error("it is not signed, and only what key {wanted} signed is accepted")]
    Missing {
        /// The key that was to have signed.
        wanted: KeyId,
    },
    /// Signed by another key.
    #[error("it is signed by key {by}, not by key {wanted}")]
    OtherKey {
        /// Who signed.
        by: KeyId,
        /// Who was to have signed.
        wanted: KeyId,
    },
    /// It names the right key, but that key did not sign these bytes.
    #[error("its signature by key {by} is not valid: it was changed after it was signed")]
    Forged {
        /// The key it names.
        by: KeyId,
    },
    /// The system gave no random bytes.
    #[error("the system gives no random numbers")]
    NoRandom,
}

/// Which key: shown as minisign shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyId([u8; 8]);

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016X}", u64::from_le_bytes(self.0))
    }
}

/// Who may sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    id: KeyId,
    bytes: [u8; 32],
}

/// What we know about who made a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Nobody signed it: a developer's bundle.
    Unsigned,
    /// Somebody signed it, and there is no key here to check that with.
    Unchecked {
        /// Who says to have signed it.
        by: KeyId,
    },
    /// The key we asked for signed it.
    Signed {
        /// Which key.
        by: KeyId,
        /// What the signer said, covered by the signature.
        comment: String,
    },
}

/// The key this program was built with, if it is a release.
pub fn built_in() -> Result<Option<PublicKey>, SignatureError> {
    BUILT_IN
        .filter(|text| !text.is_empty())
        .map(PublicKey::parse)
        .transpose()
}

impl PublicKey {
    /// From minisign's file, or only the line in it that is the key.
    pub fn parse(text: &str) -> Result<Self, SignatureError> {
        let malformed = |problem| SignatureError::Malformed {
            what: "public key",
            problem,
        };
        let bytes: [u8; 42] = key_line(text).ok_or(malformed("no line of 42 bytes in base64"))?;
        if &bytes[..2] != CURVE {
            return Err(malformed("not an Ed25519 key"));
        }
        Ok(PublicKey {
            id: KeyId(part(&bytes, 2)),
            bytes: part(&bytes, 10),
        })
    }

    /// As minisign's file.
    pub fn text(&self) -> String {
        let mut bytes = CURVE.to_vec();
        bytes.extend_from_slice(&self.id.0);
        bytes.extend_from_slice(&self.bytes);
        let line = BASE64.encode(bytes);
        format!("{UNTRUSTED}minisign public key {}\n{line}\n", self.id)
    }

    /// Which key this is.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Did this key sign `message`, and the trusted comment?
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), SignatureError> {
        self.verify_hash(&Blake2b::of(message), signature)
    }

    /// As [`PublicKey::verify`], for the hash of what was signed.
    pub fn verify_hash(
        &self,
        hash: &[u8; 64],
        signature: &Signature,
    ) -> Result<(), SignatureError> {
        let by = signature.by;
        if by != self.id {
            let wanted = self.id;
            return Err(SignatureError::OtherKey { by, wanted });
        }
        let key = UnparsedPublicKey::new(&ED25519, &self.bytes);
        let second = commented(&signature.bytes, &signature.comment);
        key.verify(hash, &signature.bytes)
            .and_then(|()| key.verify(&second, &signature.global))
            .map_err(|_| SignatureError::Forged { by })
    }
}

/// A signature with its comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    by: KeyId,
    bytes: [u8; 64],
    comment: String,
    global: [u8; 64],
}

impl Signature {
    /// From the four lines of a `.minisig` file.
    pub fn parse(text: &str) -> Result<Self, SignatureError> {
        let malformed = |problem| SignatureError::Malformed {
            what: "signature",
            problem,
        };
        if text.len() > TEXT_LIMIT {
            return Err(malformed("too long"));
        }
        let lines: Vec<&str> = text.lines().collect();
        let [untrusted, first, trusted, second] = lines[..] else {
            return Err(malformed("not four lines"));
        };
        if !untrusted.starts_with(UNTRUSTED) {
            return Err(malformed("the first line is not an untrusted comment"));
        }
        let comment = trusted
            .strip_prefix(TRUSTED)
            .filter(|comment| !comment.contains(char::is_control))
            .ok_or(malformed("the third line is not a trusted comment"))?;
        let first: [u8; 74] = base64(first).ok_or(malformed("the second line is not 74 bytes"))?;
        let global: [u8; 64] = base64(second).ok_or(malformed("the last line is not 64 bytes"))?;
        if &first[..2] != PREHASHED {
            return Err(malformed("not the kind that signs a hash (ED)"));
        }
        Ok(Signature {
            by: KeyId(part(&first, 2)),
            bytes: part(&first, 10),
            comment: comment.to_owned(),
            global,
        })
    }

    /// As a `.minisig` file.
    pub fn text(&self) -> String {
        let mut first = PREHASHED.to_vec();
        first.extend_from_slice(&self.by.0);
        first.extend_from_slice(&self.bytes);
        format!(
            "{UNTRUSTED}signature by key {}\n{}\n{TRUSTED}{}\n{}\n",
            self.by,
            BASE64.encode(first),
            self.comment,
            BASE64.encode(self.global)
        )
    }

    /// Which key made it, as it says itself.
    pub fn by(&self) -> KeyId {
        self.by
    }

    /// What the signer said; true only after [`PublicKey::verify`].
    pub fn comment(&self) -> &str {
        &self.comment
    }

    /// From the place that a bundle keeps for it.
    pub(super) fn in_place(bytes: &[u8]) -> Result<Self, SignatureError> {
        let text = std::str::from_utf8(bytes).map_err(|_| SignatureError::Malformed {
            what: "signature",
            problem: "not UTF-8",
        })?;
        Signature::parse(text)
    }
}

/// Who signs.
pub struct SecretKey {
    id: KeyId,
    pair: Ed25519KeyPair,
}

impl SecretKey {
    /// From the file of `minisign -G -W`, which has no password, or of [`SecretKey::make`].
    pub fn parse(text: &str) -> Result<Self, SignatureError> {
        let malformed = |problem| SignatureError::Malformed {
            what: "secret key",
            problem,
        };
        let bytes: [u8; 158] = key_line(text).ok_or(malformed("no line of 158 bytes in base64"))?;
        let bytes = Zeroizing::new(bytes);
        if &bytes[..2] != CURVE || &bytes[4..6] != CHECKSUM {
            return Err(malformed("not an Ed25519 key"));
        }
        if &bytes[2..4] != NOT_ENCRYPTED {
            return Err(malformed(
                "it has a password; make one without (`minisign -G -W`) and keep the file safe",
            ));
        }
        // minisign leaves the checksum of a key without password empty.
        let checksum: [u8; 32] = part(&*bytes, 126);
        if checksum != [0; 32] && checksum != key_checksum(&bytes[54..126]) {
            return Err(malformed("it does not match its checksum"));
        }
        let pair = Ed25519KeyPair::from_seed_and_public_key(&bytes[62..94], &bytes[94..126])
            .map_err(|_| malformed("its two halves do not belong together"))?;
        Ok(SecretKey {
            id: KeyId(part(&*bytes, 54)),
            pair,
        })
    }

    /// A new key: its file, as `minisign -G -W` would write it.
    pub fn make() -> Result<Zeroizing<String>, SignatureError> {
        let mut random = Zeroizing::new([0u8; 40]);
        ring::rand::SystemRandom::new()
            .fill(&mut *random)
            .map_err(|_| SignatureError::NoRandom)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&random[8..])
            .map_err(|_| SignatureError::NoRandom)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(158));
        for field in [CURVE, NOT_ENCRYPTED, CHECKSUM] {
            bytes.extend_from_slice(field);
        }
        bytes.extend_from_slice(&[0; 48]);
        bytes.extend_from_slice(&*random);
        bytes.extend_from_slice(pair.public_key().as_ref());
        let checksum = key_checksum(&bytes[54..126]);
        bytes.extend_from_slice(&checksum);
        let line = Zeroizing::new(BASE64.encode(&*bytes));
        Ok(Zeroizing::new(format!(
            "{UNTRUSTED}minisign secret key, without password\n{}\n",
            line.as_str()
        )))
    }

    /// The other half.
    pub fn public(&self) -> PublicKey {
        PublicKey {
            id: self.id,
            bytes: part(self.pair.public_key().as_ref(), 0),
        }
    }

    /// Signs what has this BLAKE2b-512, and the comment. The same message and comment give the same signature.
    pub fn sign_hash(&self, hash: &[u8; 64], comment: &str) -> Signature {
        let bytes = part(self.pair.sign(hash).as_ref(), 0);
        let global = self.pair.sign(&commented(&bytes, comment));
        Signature {
            by: self.id,
            bytes,
            comment: comment.to_owned(),
            global: part(global.as_ref(), 0),
        }
    }
}

impl From<SignatureError> for BundleError {
    fn from(error: SignatureError) -> Self {
        BundleError::Signature(error)
    }
}

/// What the second signature is of.
fn commented(signature: &[u8; 64], comment: &str) -> Vec<u8> {
    [signature.as_slice(), comment.as_bytes()].concat()
}

/// Of the key's number and both its halves.
fn key_checksum(key: &[u8]) -> [u8; 32] {
    let mut hash = Blake2b::new();
    hash.update(CURVE);
    hash.update(key);
    hash.finish()
}

/// The one line of a key file that is no comment.
fn key_line<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() > TEXT_LIMIT {
        return None;
    }
    let lines = text.lines().map(str::trim);
    let mut lines = lines.filter(|l| !l.is_empty() && !l.starts_with(UNTRUSTED.trim_end()));
    let line = lines.next().filter(|_| lines.next().is_none())?;
    base64(line)
}

fn base64<const N: usize>(text: &str) -> Option<[u8; N]> {
    let bytes = Zeroizing::new(BASE64.decode(text).ok()?);
    bytes.as_slice().try_into().ok()
}

/// `N` bytes of a field whose place has been checked.
fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[at..at + N]);
    part
}

const _: () = assert!(SIGNATURE_PLACE as usize <= TEXT_LIMIT);

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with `minisign -G -W` and `minisign -S` (0.11), for this test alone.
    const PUBLIC: &str = include_str!("../../tests/data/minisign/test.pub");
    const SECRET: &str = include_str!("../../tests/data/minisign/test.key");
    const MESSAGE: &[u8] = include_bytes!("../../tests/data/minisign/message");
    const SIGNATURE: &str = include_str!("../../tests/data/minisign/message.minisig");

    #[test]
    fn what_minisign_signed_is_accepted() {
        let key = PublicKey::parse(PUBLIC).unwrap();
        let bare = PUBLIC.lines().nth(1).unwrap();
        assert_eq!(PublicKey::parse(bare).unwrap(), key);
        assert_eq!(PublicKey::parse(&key.text()).unwrap(), key);
        let signature = Signature::parse(SIGNATURE).unwrap();
        key.verify(MESSAGE, &signature).unwrap();
        assert_eq!(signature.comment(), "for a test");
        assert!(PUBLIC.contains(&key.id().to_string()), "{}", key.id());
    }

    #[test]
    fn we_sign_as_minisign_does() {
        let secret = SecretKey::parse(SECRET).unwrap();
        let theirs = Signature::parse(SIGNATURE).unwrap();
        assert_eq!(
            secret.sign_hash(&Blake2b::of(MESSAGE), "for a test"),
            theirs
        );
        assert_eq!(secret.public(), PublicKey::parse(PUBLIC).unwrap());
        assert_eq!(Signature::parse(&theirs.text()).unwrap(), theirs);
    }

    #[test]
    fn no_bit_of_message_comment_or_signature_is_free() {
        let key = PublicKey::parse(PUBLIC).unwrap();
        let good = Signature::parse(SIGNATURE).unwrap();
        let forged = |message: &[u8], signature: &Signature| {
            let error = key.verify(message, signature).unwrap_err();
            assert!(matches!(error, SignatureError::Forged { .. }), "{error}");
        };
        forged(b"", &good);
        for bit in 0..64 * 8 {
            let mut bad = good.clone();
            bad.bytes[bit / 8] ^= 1 << (bit % 8);
            forged(MESSAGE, &bad);
            let mut bad = good.clone();
            bad.global[bit / 8] ^= 1 << (bit % 8);
            forged(MESSAGE, &bad);
        }
        let mut bad = good.clone();
        bad.comment.push('.');
        forged(MESSAGE, &bad);
        let mut other = good.clone();
        other.by.0[0] ^= 1;
        let error = key.verify(MESSAGE, &other).unwrap_err();
        assert!(matches!(error, SignatureError::OtherKey { .. }), "{error}");
    }

    #[test]
    fn a_new_key_is_one() {
        let (one, two) = (SecretKey::make().unwrap(), SecretKey::make().unwrap());
        assert_ne!(*one, *two);
        let key = SecretKey::parse(&one).unwrap();
        let signature = key.sign_hash(&Blake2b::of(b"x"), "c");
        key.public().verify(b"x", &signature).unwrap();
        let other = SecretKey::parse(&two).unwrap().public();
        assert!(other.verify(b"x", &signature).is_err());
        // One letter in the middle of the key's own bytes.
        let mut bad = one.to_string();
        let at = bad.len() - 60;
        let with = if &bad[at..=at] == "A" { "B" } else { "A" };
        bad.replace_range(at..=at, with);
        assert!(SecretKey::parse(&bad).is_err());
    }

    #[test]
    fn what_is_not_in_the_form_is_refused() {
        let line = |n: usize| SIGNATURE.lines().nth(n).unwrap();
        for (from, to) in [
            (line(0), "comment: x"),
            (line(1), ""),
            (line(1), &line(1)[4..]),
            (line(2), "trusted comment:"),
            (line(2), "trusted comment: a\tb"),
            (line(3), "AAAA"),
            ("RUR", "RWR"),
            ("RUQ", "RWQ"),
        ] {
            let bad = SIGNATURE.replacen(from, to, 1);
            assert!(bad == SIGNATURE || Signature::parse(&bad).is_err(), "{to}");
        }
        let more = format!("{SIGNATURE}more\n");
        assert!(Signature::parse(&more).is_err());
        for bad in ["", "x", PUBLIC, &"A".repeat(TEXT_LIMIT + 1)] {
            assert!(Signature::parse(bad).is_err() && SecretKey::parse(bad).is_err());
        }
        let twice = format!("{PUBLIC}{PUBLIC}");
        for bad in ["", "RWQ", SIGNATURE, SECRET, &twice] {
            assert!(PublicKey::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_with_a_password_is_told_apart() {
        let mut bytes = vec![0; 158];
        bytes[..6].copy_from_slice(b"EdScB2");
        let error = SecretKey::parse(&BASE64.encode(bytes))
            .map(|_| ())
            .unwrap_err();
        assert!(error.to_string().contains("minisign -G -W"), "{error}");
    }
}
