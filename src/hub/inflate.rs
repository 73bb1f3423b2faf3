//! `Content-Encoding` undone, within bounds: a small body may not become a large memory.

use flate2::read::{DeflateDecoder, GzDecoder, ZlibDecoder};
use std::io::Read;

/// What a body may be packed with (protocol.md 3.1: zlib; raw deflate and gzip by leniency).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Deflate,
    Gzip,
    Identity,
}

/// Why a body could not be unpacked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InflateError {
    #[error("the body is damaged: it is not what Content-Encoding says")]
    Damaged,
    #[error("the server has no memory to spare at the moment")]
    NoRoom,
    #[error("the body unpacks to more than {0} bytes")]
    TooLarge(usize),
}

impl Encoding {
    /// The encoding a header names; `None` for one that is not known.
    pub(super) fn named(value: Option<&str>) -> Option<Self> {
        match value.unwrap_or("").trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Some(Encoding::Identity),
            "deflate" => Some(Encoding::Deflate),
            "gzip" | "x-gzip" => Some(Encoding::Gzip),
            _ => None,
        }
    }
}

/// Unpacks `body` to at most `limit` bytes. `grow` is asked before memory is taken, with how many
/// bytes more are wanted.
pub(super) fn inflate(
    body: Vec<u8>,
    encoding: Encoding,
    limit: usize,
    grow: &mut dyn FnMut(usize) -> bool,
) -> Result<Vec<u8>, InflateError> {
    match encoding {
        Encoding::Identity if body.len() > limit => Err(InflateError::TooLarge(limit)),
        Encoding::Identity => Ok(body),
        Encoding::Gzip => drain(GzDecoder::new(&*body), limit, grow),
        Encoding::Deflate => match drain(ZlibDecoder::new(&*body), limit, grow) {
            Err(InflateError::Damaged) => drain(DeflateDecoder::new(&*body), limit, grow),
            done => done,
        },
    }
}

fn drain(
    mut from: impl Read,
    limit: usize,
    grow: &mut dyn FnMut(usize) -> bool,
) -> Result<Vec<u8>, InflateError> {
    let mut whole = Vec::new();
    let mut piece = vec![0u8; 64 << 10];
    loop {
        let n = from.read(&mut piece).map_err(|_| InflateError::Damaged)?;
        if n == 0 {
            return Ok(whole);
        }
        if whole.len() + n > limit {
            return Err(InflateError::TooLarge(limit));
        }
        if !grow(n) {
            return Err(InflateError::NoRoom);
        }
        whole.extend_from_slice(&piece[..n]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use std::io::Write;

    fn packed(data: &[u8]) -> [(Encoding, Vec<u8>); 4] {
        let level = Compression::default();
        let mut zlib = ZlibEncoder::new(Vec::new(), level);
        let mut raw = DeflateEncoder::new(Vec::new(), level);
        let mut gzip = GzEncoder::new(Vec::new(), level);
        zlib.write_all(data).unwrap();
        raw.write_all(data).unwrap();
        gzip.write_all(data).unwrap();
        [
            (Encoding::Deflate, zlib.finish().unwrap()),
            (Encoding::Deflate, raw.finish().unwrap()),
            (Encoding::Gzip, gzip.finish().unwrap()),
            (Encoding::Identity, data.to_vec()),
        ]
    }

    #[test]
    fn every_form_is_unpacked_up_to_the_limit_and_not_past_it() {
        let data = b"0123456789abcdef".repeat(10_000);
        for (encoding, body) in packed(&data) {
            let done = inflate(body.clone(), encoding, data.len(), &mut |_| true);
            assert_eq!(done.as_deref(), Ok(&*data), "{encoding:?}");
            let limit = data.len() - 1;
            let done = inflate(body, encoding, limit, &mut |_| true);
            assert_eq!(done, Err(InflateError::TooLarge(limit)), "{encoding:?}");
        }
    }

    #[test]
    fn cut_and_garbled_bodies_are_refused() {
        for (encoding, mut body) in packed(b"hello hello hello hello") {
            if encoding == Encoding::Identity {
                continue;
            }
            let cut = body[..body.len() - 2].to_vec();
            let done = inflate(cut, encoding, 1000, &mut |_| true);
            assert_eq!(done, Err(InflateError::Damaged), "{encoding:?}");
            body.fill(0xff);
            let done = inflate(body, encoding, 1000, &mut |_| true);
            assert_eq!(done, Err(InflateError::Damaged), "{encoding:?}");
        }
        let done = inflate(Vec::new(), Encoding::Deflate, 1000, &mut |_| true);
        assert_eq!(done, Err(InflateError::Damaged));
    }

    #[test]
    fn a_bomb_takes_no_more_than_it_is_given() {
        let data = vec![0u8; 8 << 20];
        for (encoding, body) in packed(&data) {
            if encoding == Encoding::Identity {
                continue;
            }
            assert!(body.len() < 50_000);
            let mut taken = 0;
            let done = inflate(body, encoding, 1 << 30, &mut |n| {
                taken += n;
                taken <= 1 << 20
            });
            assert_eq!(done, Err(InflateError::NoRoom));
            assert!(taken < 2 << 20);
        }
    }

    #[test]
    fn names() {
        assert_eq!(Encoding::named(None), Some(Encoding::Identity));
        assert_eq!(Encoding::named(Some(" Deflate ")), Some(Encoding::Deflate));
        assert_eq!(Encoding::named(Some("gzip")), Some(Encoding::Gzip));
        assert_eq!(Encoding::named(Some("br")), None);
        assert_eq!(Encoding::named(Some("gzip, deflate")), None);
    }
}
