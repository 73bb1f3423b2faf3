//! Reading a bundle: everything but the entries' own bytes is checked before any of it is used.

use super::index::{self, Sha256Hex};
use super::signature::{PublicKey, Signature, SignatureError, Trust};
use super::trailer::Trailer;
use super::{
    BundleError, Entry, Header, Result, SIGNATURE_PLACE, STUB_SIZE, TRAILER_SIZE, aligned, stub,
};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes read at a time when hashing.
const BUFFER: usize = 1 << 20;
/// Largest entry that is read as a whole.
const DOCUMENT_LIMIT: u64 = 16 << 20;

/// An open bundle. The file is only ever read at given places, so its own position is not used
/// and several threads may share it.
#[derive(Debug)]
pub struct Bundle {
    file: File,
    total: u64,
    /// What the signature is of.
    index: Vec<u8>,
    signature: Option<Signature>,
    pub(super) header: Header,
    pub(super) entries: Vec<Entry>,
}

impl Bundle {
    /// Checks size, trailer, index, stub numbers and the space between entries.
    pub fn open(file: File) -> Result<Bundle> {
        let meta = file.metadata().map_err(reading("the bundle"))?;
        if !meta.is_file() {
            let problem = "not a regular file (it cannot be piped)";
            return Err(BundleError::Layout(problem.to_owned()));
        }
        let size = meta.len();
        let trailer_at = size
            .checked_sub(TRAILER_SIZE)
            .filter(|at| *at >= STUB_SIZE)
            .ok_or(BundleError::NoTrailer)?;
        let mut trailer = [0u8; TRAILER_SIZE as usize];
        file.read_exact_at(&mut trailer, trailer_at)
            .map_err(reading("the trailer"))?;
        let trailer = Trailer::parse(&trailer, size)?;

        // The trailer has been found to agree with the size, so all of this lies in the file.
        let index = bytes_at(&file, trailer.index_offset, trailer.index_len, "the index")?;
        if Sha256::digest(&index).as_slice() != trailer.index_sha256 {
            let problem = "the index does not match its SHA-256";
            return Err(BundleError::Layout(problem.to_owned()));
        }
        let (header, entries) = index::parse(&index, trailer.index_offset)?;

        let place = trailer.signature_offset();
        let (text, rest) = (trailer.signature_len, "before the trailer");
        let behind = place.saturating_add(text);
        zeros(&file, behind, SIGNATURE_PLACE - text, || rest.into())?;
        let signature = match bytes_at(&file, place, text, "the signature")? {
            text if text.is_empty() => None,
            text => Some(Signature::in_place(&text)?),
        };
        for entry in &entries {
            let end = entry.offset.saturating_add(entry.size);
            let padding = aligned(end).unwrap_or(end) - end;
            zeros(&file, end, padding, || {
                format!("after entry `{}`", entry.name)
            })?;
        }
        let stub = bytes_at(&file, 0, STUB_SIZE, "the stub")?;
        let says = (size, trailer.index_offset, trailer.index_len);
        if stub::numbers(&stub) != Some(says) {
            let problem = "stub and trailer contradict each other";
            return Err(BundleError::Layout(problem.to_owned()));
        }
        Ok(Bundle {
            file,
            total: size,
            index,
            signature,
            header,
            entries,
        })
    }

    /// Product, release, source references.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// All members, the stub first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The member of that name.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.name == name)
    }

    /// Bytes of the whole file.
    pub fn size(&self) -> u64 {
        self.total
    }

    /// Who signed it. With a `key` only a bundle signed by that key is accepted. It says nothing of
    /// the entries' bytes before [`Bundle::verify`] or [`Bundle::extract`] has compared them.
    pub fn trust(&self, key: Option<&PublicKey>) -> Result<Trust> {
        match (&self.signature, key) {
            (None, None) => Ok(Trust::Unsigned),
            (None, Some(key)) => Err(SignatureError::Missing { wanted: key.id() }.into()),
            (Some(signature), None) => Ok(Trust::Unchecked { by: signature.by() }),
            (Some(signature), Some(key)) => {
                key.verify(&self.index, signature)?;
                Ok(Trust::Signed {
                    by: key.id(),
                    comment: signature.comment().to_owned(),
                })
            }
        }
    }

    /// All bytes of a small entry, compared with its SHA-256.
    pub fn document(&self, entry: &Entry) -> Result<Vec<u8>> {
        if entry.size > DOCUMENT_LIMIT {
            return Err(BundleError::Entry {
                name: entry.name.clone(),
                problem: format!("larger than {DOCUMENT_LIMIT} bytes, extract it instead"),
            });
        }
        let mut bytes = vec![0u8; entry.size as usize];
        self.read_entry(entry, 0, &mut bytes)?;
        entry.compare(Sha256::new_with_prefix(&bytes))?;
        Ok(bytes)
    }

    /// What is signed.
    pub(super) fn index(&self) -> &[u8] {
        &self.index
    }

    /// Compares every entry with its SHA-256; `progress` is told (bytes done, bytes in all).
    pub fn verify(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        let all = self.entries.iter().map(|e| e.size).sum();
        let mut done = 0;
        for entry in &self.entries {
            let mut hash = Sha256::new();
            let mut buffer = vec![0u8; BUFFER.min(entry.size as usize)];
            let mut at = 0;
            while at < entry.size {
                let n = (entry.size - at).min(buffer.len() as u64) as usize;
                self.read_entry(entry, at, &mut buffer[..n])?;
                hash.update(&buffer[..n]);
                at += n as u64;
                done += n as u64;
                progress(done, all);
            }
            entry.compare(hash)?;
        }
        Ok(())
    }

    /// Fills `buffer` with the entry's bytes from `at` on.
    pub(super) fn read_entry(&self, entry: &Entry, at: u64, buffer: &mut [u8]) -> Result<()> {
        let what = || format!("entry `{}`", entry.name);
        self.file
            .read_exact_at(buffer, entry.offset.saturating_add(at))
            .map_err(|source| BundleError::Read {
                what: what(),
                source,
            })
    }
}

impl Entry {
    /// Is this the hash the index names?
    pub(super) fn compare(&self, hash: Sha256) -> Result<()> {
        if Sha256Hex::of(&hash.finalize()) == self.sha256 {
            return Ok(());
        }
        Err(BundleError::Hash {
            name: self.name.clone(),
        })
    }
}

fn bytes_at(file: &File, at: u64, len: u64, what: &str) -> Result<Vec<u8>> {
    let mut bytes = vec![0u8; len as usize];
    file.read_exact_at(&mut bytes, at).map_err(reading(what))?;
    Ok(bytes)
}

/// What lies between the parts must be zero: nothing can be hidden there.
fn zeros(file: &File, at: u64, len: u64, place: impl Fn() -> String) -> Result<()> {
    let bytes = bytes_at(file, at, len, "the padding")?;
    if bytes.iter().all(|b| *b == 0) {
        return Ok(());
    }
    Err(BundleError::Layout(format!(
        "bytes that are not zero {}",
        place()
    )))
}

fn reading(what: &str) -> impl Fn(std::io::Error) -> BundleError {
    move |source| BundleError::Read {
        what: what.to_owned(),
        source,
    }
}
