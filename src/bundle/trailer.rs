//! The last 128 bytes: where the index is, its hash, and how long the whole is. No I/O here.
//!
//! Little-endian: magic[8] version u16, 6 zeros, index offset u64, index length u64, SHA-256 of
//! the index[32], signature offset u64, signature length u64 (0: none), total size u64, zeros, CRC-32 u32.

use super::{BundleError, INDEX_LIMIT, Result, SIGNATURE_PLACE, STUB_SIZE, TRAILER_SIZE};

/// The only version there is.
pub const VERSION: u16 = 1;

const MAGIC: &[u8; 8] = b"OMSBEND1";
const SIZE: usize = TRAILER_SIZE as usize;
const CRC_AT: usize = SIZE - 4;
const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// What a trailer says. The signature's place follows from it: right behind the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailer {
    /// Where the index begins.
    pub index_offset: u64,
    /// Its bytes.
    pub index_len: u64,
    /// Their SHA-256.
    pub index_sha256: [u8; 32],
    /// Bytes of the signature's text; 0 when there is none.
    pub signature_len: u64,
}

impl Trailer {
    /// Bytes of the whole bundle.
    pub fn total(&self) -> u64 {
        total(self.index_offset, self.index_len)
    }

    /// Where the place of the signature begins.
    pub fn signature_offset(&self) -> u64 {
        self.index_offset.saturating_add(self.index_len)
    }

    /// As it stands in the file.
    pub fn bytes(&self) -> [u8; SIZE] {
        let mut bytes = [0u8; SIZE];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, MAGIC);
        put(8, &VERSION.to_le_bytes());
        put(16, &self.index_offset.to_le_bytes());
        put(24, &self.index_len.to_le_bytes());
        put(32, &self.index_sha256);
        put(64, &self.signature_offset().to_le_bytes());
        put(72, &self.signature_len.to_le_bytes());
        put(80, &self.total().to_le_bytes());
        let crc = CRC.checksum(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the trailer of a file of `file_size` bytes. A valid trailer is exactly the one that
    /// [`Trailer::bytes`] would write: no bit of it is free.
    pub fn parse(bytes: &[u8; SIZE], file_size: u64) -> Result<Trailer> {
        if &bytes[..8] != MAGIC {
            return Err(BundleError::NoTrailer);
        }
        let crc = CRC.checksum(&bytes[..CRC_AT]);
        if bytes[CRC_AT..] != crc.to_le_bytes() {
            return Err(layout("the trailer does not match its checksum"));
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(BundleError::Version(version));
        }
        let number = |at: usize| {
            let mut field = [0u8; 8];
            field.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(field)
        };
        let says = number(80);
        if says != file_size {
            return Err(BundleError::Size {
                says,
                has: file_size,
            });
        }
        let mut index_sha256 = [0u8; 32];
        index_sha256.copy_from_slice(&bytes[32..64]);
        let trailer = Trailer {
            index_offset: number(16),
            index_len: number(24),
            index_sha256,
            signature_len: number(72),
        };
        if trailer.signature_len > SIGNATURE_PLACE {
            return Err(layout("the signature is larger than its place"));
        }
        if trailer.index_len > INDEX_LIMIT {
            return Err(layout("the index is larger than allowed"));
        }
        if trailer.index_offset < STUB_SIZE || trailer.bytes() != *bytes {
            return Err(layout("the trailer contradicts itself"));
        }
        Ok(trailer)
    }
}

/// Bytes of a bundle whose index is there and so long.
pub fn total(index_offset: u64, index_len: u64) -> u64 {
    index_offset
        .saturating_add(index_len)
        .saturating_add(SIGNATURE_PLACE)
        .saturating_add(TRAILER_SIZE)
}

fn layout(problem: &str) -> BundleError {
    BundleError::Layout(problem.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trailer() -> Trailer {
        Trailer {
            index_offset: 16384,
            index_len: 777,
            index_sha256: [9; 32],
            signature_len: 0,
        }
    }

    fn sealed(mut bytes: [u8; SIZE]) -> [u8; SIZE] {
        let crc = CRC.checksum(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    #[test]
    fn what_is_written_is_read_and_only_at_its_own_size() {
        let (trailer, size) = (trailer(), trailer().total());
        assert_eq!(Trailer::parse(&trailer.bytes(), size).unwrap(), trailer);
        for other in [size - 1, size + 1, 0, u64::MAX] {
            let error = Trailer::parse(&trailer.bytes(), other).unwrap_err();
            assert!(matches!(error, BundleError::Size { .. }), "{error}");
        }
    }

    #[test]
    fn no_bit_is_free() {
        let good = trailer().bytes();
        for bit in 0..SIZE * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Trailer::parse(&bad, trailer().total()).is_err(), "{bit}");
        }
    }

    #[test]
    fn an_attacker_who_repairs_the_checksum_gains_no_freedom() {
        let good = trailer().bytes();
        // Bytes 16..32, the hash and the signature's length are what the trailer is for; all others
        // follow from them.
        for at in (0..16).chain(64..72).chain(80..CRC_AT) {
            let mut bad = good;
            bad[at] ^= 0x41;
            assert!(
                Trailer::parse(&sealed(bad), trailer().total()).is_err(),
                "{at}"
            );
        }
        for (at, number) in [
            (16, u64::MAX),
            (24, u64::MAX),
            (16, 0),
            (24, INDEX_LIMIT + 1),
            (72, SIGNATURE_PLACE + 1),
            (72, u64::MAX),
        ] {
            let mut bad = good;
            bad[at..at + 8].copy_from_slice(&number.to_le_bytes());
            assert!(Trailer::parse(&sealed(bad), trailer().total()).is_err());
        }
    }
}
