//! The shared-key signature of an onboarding request (protocol.md 1.4, 1.5).

use crate::base::ids::WorkspaceId;
use crate::base::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::{Timestamp, Zoned};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Longest shared key text that is looked at, in bytes (a usual one has 88).
pub const KEY_TEXT_LIMIT: usize = 4096;

/// Longest value of a date, hash or `Authorization` header that is looked at, in bytes.
const HEADER_LIMIT: usize = 256;

/// Why a shared key is not usable. Never holds any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing, or nothing but white space.
    #[error("the shared key is empty")]
    Empty,
    /// A character outside the alphabet, a cut end, wrong padding.
    #[error("the shared key is not base64: copy it whole, with the `=` signs at its end")]
    NotBase64,
    /// More than [`KEY_TEXT_LIMIT`] bytes.
    #[error("the shared key is longer than {KEY_TEXT_LIMIT} bytes")]
    TooLong,
}

/// The key's bytes. White space (line breaks of a pasted key) is ignored; unlike the original,
/// which skips whatever is not base64, any other foreign character is an error.
pub fn decode_key(key: &Secret) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    if key.expose().len() > KEY_TEXT_LIMIT {
        return Err(KeyError::TooLong);
    }
    let text = Zeroizing::new(
        key.expose()
            .bytes()
            .filter(|b| !b.is_ascii_whitespace())
            .collect::<Vec<u8>>(),
    );
    if text.is_empty() {
        return Err(KeyError::Empty);
    }
    STANDARD
        .decode(&*text)
        .map(Zeroizing::new)
        .map_err(|_| KeyError::NotBase64)
}

/// base64(SHA-256(body)), always 44 characters: the header `x-ms-SHA256_Content`.
pub fn content_hash(body: &[u8]) -> String {
    STANDARD.encode(Sha256::digest(body))
}

/// The whole value of the `Authorization` header, `<ws>; <hmac>`. `date` is the value of the
/// header `x-ms-Date`, `hash` the result of [`content_hash`].
pub fn authorization(ws: &WorkspaceId, key: &[u8], date: &str, hash: &str) -> String {
    let hmac = signed(key, date, hash).map(|mac| STANDARD.encode(mac.finalize().into_bytes()));
    format!("{ws}; {}", hmac.unwrap_or_default())
}

/// Splits an `Authorization` value into the workspace and the HMAC, still base64.
pub fn parse_authorization(value: &str) -> Option<(WorkspaceId, &str)> {
    if value.len() > HEADER_LIMIT {
        return None;
    }
    let (ws, hmac) = value.split_once(';')?;
    Some((ws.trim().parse().ok()?, hmac.trim()))
}

/// Whether `hmac` (base64) signs `date` and `hash` with `key`. Takes the same time whichever
/// byte differs.
pub fn verify(hmac: &str, key: &[u8], date: &str, hash: &str) -> bool {
    if hmac.len() > HEADER_LIMIT || date.len() > HEADER_LIMIT || hash.len() > HEADER_LIMIT {
        return false;
    }
    let Ok(tag) = STANDARD.decode(hmac) else {
        return false;
    };
    signed(key, date, hash).is_some_and(|mac| mac.verify_slice(&tag).is_ok())
}

/// The header `x-ms-Date`: `YYYY-MM-DDThh:mm:ss.nnnnnnnnn±hh:mm`, in the zone of `now`
/// (protocol.md 1.4: local when onboarding, UTC in heartbeats).
pub fn date(now: &Zoned) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%S.%9f%:z").to_string()
}

/// The instant of an `x-ms-Date`: any offset, zero to nine digits of fraction.
pub fn parse_date(text: &str) -> Option<Timestamp> {
    if text.len() > 64 {
        return None;
    }
    text.trim().parse().ok()
}

/// The MAC over date, LF, hash, LF. HMAC takes a key of any length, so `None` never happens.
fn signed(key: &[u8], date: &str, hash: &str) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    for part in [date, "\n", hash, "\n"] {
        mac.update(part.as_bytes());
    }
    Some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw==";
    const DATE: &str = "2031-02-03T04:05:06.000000007+01:00";
    const BODY: &[u8] = b"<?xml version=\"1.0\"?>\n<AgentTopologyRequest/>";
    const HASH: &str = "HgGkVf6xF+k+48/Gqdf+76U9xzG6InNlDa4+SDybXtk=";
    const HMAC: &str = "SL9lr63fWfFXhY3c0ZgkElQif0hnAwrJhChi7QLZHII=";

    fn key() -> Zeroizing<Vec<u8>> {
        decode_key(&Secret::new(KEY)).unwrap()
    }

    #[test]
    fn the_vector_of_the_specification() {
        let ws: WorkspaceId = "01234567-89ab-cdef-0123-456789abcdef".parse().unwrap();
        assert_eq!(*key(), (0..64).collect::<Vec<u8>>());
        assert_eq!(content_hash(BODY), HASH);
        let value = authorization(&ws, &key(), DATE, HASH);
        assert_eq!(value, format!("{ws}; {HMAC}"));
        let (found, hmac) = parse_authorization(&value).unwrap();
        assert_eq!((found, hmac), (ws, HMAC));
        assert!(verify(hmac, &key(), DATE, HASH));
    }

    #[test]
    fn anything_changed_is_refused() {
        assert!(!verify(HMAC, &key()[1..], DATE, HASH));
        assert!(!verify(HMAC, &key(), &DATE.replace('3', "4"), HASH));
        assert!(!verify(HMAC, &key(), DATE, &content_hash(b"other")));
        assert!(!verify(&HMAC.replace('S', "T"), &key(), DATE, HASH));
        assert!(!verify("", &key(), DATE, HASH));
        assert!(!verify("SL9l", &key(), DATE, HASH));
        assert!(!verify(&"A".repeat(10_000), &key(), DATE, HASH));
    }

    #[test]
    fn keys_with_line_breaks_are_keys_and_cut_ones_are_not() {
        let broken = format!(" {}\n{}\r\n", &KEY[..40], &KEY[40..]);
        assert_eq!(decode_key(&Secret::new(broken)).unwrap(), key());
        let refused = |text: &str| decode_key(&Secret::new(text)).unwrap_err();
        assert_eq!(refused(""), KeyError::Empty);
        assert_eq!(refused(" \n\t"), KeyError::Empty);
        assert_eq!(refused(&KEY[..KEY.len() - 1]), KeyError::NotBase64);
        assert_eq!(refused("not a key!"), KeyError::NotBase64);
        assert_eq!(refused("ключ"), KeyError::NotBase64);
        assert_eq!(refused(&"A".repeat(KEY_TEXT_LIMIT + 4)), KeyError::TooLong);
        assert!(decode_key(&Secret::new("A".repeat(KEY_TEXT_LIMIT))).is_ok());
    }

    #[test]
    fn dates_have_nine_digits_and_come_back() {
        let instant = parse_date(DATE).unwrap();
        assert_eq!(instant.to_string(), "2031-02-03T03:05:06.000000007Z");
        let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(1));
        assert_eq!(date(&instant.to_zoned(zone)), DATE);
        let utc = instant.to_zoned(jiff::tz::TimeZone::UTC);
        assert_eq!(date(&utc), "2031-02-03T03:05:06.000000007+00:00");
        for same in [
            "2031-02-03T03:05:06Z",
            "2031-02-03T03:05:06.0+00:00",
            "2031-02-02T22:35:06-04:30",
        ] {
            assert_eq!(parse_date(same).unwrap().as_second(), instant.as_second());
        }
        for bad in [
            "",
            "now",
            "2031-02-03",
            "2031-02-03T03:05:06",
            "x".repeat(65).as_str(),
        ] {
            assert_eq!(parse_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn authorization_needs_a_workspace_and_a_semicolon() {
        for bad in [
            "",
            "Basic abc",
            "no-guid; abc",
            "01234567-89ab-cdef-0123-456789abcdef",
        ] {
            assert!(parse_authorization(bad).is_none(), "{bad}");
        }
    }
}
