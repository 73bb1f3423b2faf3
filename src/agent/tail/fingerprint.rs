//! What a file is known by: device, inode and its first bytes. Inode numbers are used again, first
//! bytes seldom; a file that is cut to nothing and written anew keeps the number and changes the bytes.

use sha2::{Digest, Sha256};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

/// Bytes at most that make a fingerprint.
pub const LENGTH: u64 = 256;

/// Device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    /// Device; 0 is not known (a position of the original's).
    pub dev: u64,
    /// Inode.
    pub ino: u64,
}

impl Id {
    /// Of a file that was looked at.
    pub fn of(meta: &Metadata) -> Id {
        Id {
            dev: meta.dev(),
            ino: meta.ino(),
        }
    }

    /// The same file, as far as both know?
    pub fn is(self, other: Id) -> bool {
        self.ino == other.ino && (self.dev == other.dev || self.dev == 0 || other.dev == 0)
    }
}

/// The first bytes of a file, at most [`LENGTH`] of them, as a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fingerprint {
    /// How many bytes; 0 fits every file.
    pub length: u16,
    /// The first 8 bytes of their SHA-256.
    pub hash: u64,
}

impl Fingerprint {
    /// Of the first bytes of `file`, at most `most` of them.
    pub fn take(file: &impl FileExt, most: u64) -> io::Result<Fingerprint> {
        let mut bytes = [0; LENGTH as usize];
        let want = most.min(LENGTH) as usize;
        let mut have = 0;
        while have < want {
            match file.read_at(&mut bytes[have..want], have as u64) {
                Ok(0) => break,
                Ok(n) => have += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        let digest = Sha256::digest(&bytes[..have]);
        let mut hash = [0; 8];
        hash.copy_from_slice(&digest[..8]);
        Ok(Fingerprint {
            length: have as u16,
            hash: match have {
                0 => 0,
                _ => u64::from_be_bytes(hash),
            },
        })
    }

    /// Does the file begin with the same bytes?
    pub fn fits(self, file: &impl FileExt) -> io::Result<bool> {
        Ok(self.length == 0 || Fingerprint::take(file, self.length.into())? == self)
    }

    /// The fingerprint of a file that has been read up to `offset`: what lies behind may still change
    /// its mind.
    pub fn grow(self, file: &impl FileExt, offset: u64) -> io::Result<Fingerprint> {
        let wanted = offset.min(LENGTH);
        if u64::from(self.length) >= wanted {
            return Ok(self);
        }
        Fingerprint::take(file, wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_that_grew_fits_and_another_does_not() {
        let mut file = tempfile::tempfile().unwrap();
        let none = Fingerprint::take(&file, LENGTH).unwrap();
        assert_eq!(none, Fingerprint::default());
        file.write_all(b"one line\n").unwrap();
        let short = Fingerprint::take(&file, LENGTH).unwrap();
        assert_eq!(short.length, 9);
        file.write_all(&[b'x'; 300]).unwrap();
        assert!(short.fits(&file).unwrap() && none.fits(&file).unwrap());
        let long = short.grow(&file, 400).unwrap();
        assert_eq!(long.length, 256);
        assert_eq!(long.grow(&file, 9).unwrap(), long);
        assert!(long.fits(&file).unwrap());
        file.set_len(0).unwrap();
        assert!(!short.fits(&file).unwrap() && none.fits(&file).unwrap());
        let mut other = tempfile::tempfile().unwrap();
        other.write_all(b"one lime\n").unwrap();
        assert!(!short.fits(&other).unwrap());
    }

    #[test]
    fn an_unknown_device_is_any() {
        let id = |dev, ino| Id { dev, ino };
        assert!(id(0, 5).is(id(7, 5)) && id(7, 5).is(id(7, 5)));
        assert!(!id(7, 5).is(id(8, 5)) && !id(0, 5).is(id(0, 6)));
    }
}
