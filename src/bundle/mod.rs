//! The one-file bundle, format "OMSB 1" (bundle-format.md E.3):
//!
//! ```text
//! 0        stub: POSIX sh, padded with newlines to 8192
//! 8192     runner ELFs, then packages and documents; each at a multiple of 4096, zeros between
//! I        index: JSON lines, a header line and one line per entry, the stub included
//! S        1024 bytes for a signature of the index in minisign's form, zeros behind it
//! T        trailer, 128 bytes
//! ```
//!
//! Every byte is covered: entries and index by a SHA-256, what lies between must be zero, the
//! trailer has a CRC. [`Bundle::open`] checks all but the entries' own hashes, [`Bundle::verify`]
//! and [`Bundle::extract`] those, [`Bundle::trust`] who signed it. A signature of the index is one of every
//! entry, because their hashes are in it.

mod blake2b;
mod extract;
pub mod index;
pub mod kit;
mod reader;
mod sign;
pub mod signature;
mod stub;
#[cfg(test)]
mod tests;
pub mod trailer;
mod writer;

pub use extract::Extraction;
pub use index::{Entry, Header, Kind};
pub use reader::Bundle;
pub use sign::{sidecar, sign, verify_sidecar};
pub use signature::{PublicKey, SecretKey, SignatureError, Trust};
pub use writer::{Plan, Source, write, write_sums};

use std::path::PathBuf;

/// Bytes of the stub with its padding.
pub const STUB_SIZE: u64 = 8192;
/// Entries and the index begin at multiples of this.
pub const ALIGN: u64 = 4096;
/// Bytes between index and trailer, kept for a signature.
pub const SIGNATURE_PLACE: u64 = 1024;
/// Bytes of the trailer.
pub const TRAILER_SIZE: u64 = 128;
/// Largest index.
pub const INDEX_LIMIT: u64 = 1 << 20;
/// Most entries, the stub included.
pub const ENTRY_LIMIT: usize = 1000;
/// Longest entry name.
pub const NAME_LIMIT: usize = 128;

/// What the running binary is called once the stub has copied it out.
pub const RUNNER_NAME: &str = "omsbundle";
/// First argument with which the stub tries whether a copy can run, and the answer it wants.
pub const PROBE: (&str, &str) = ("--stub-probe", "omsb-probe-ok");
/// The descriptor on which the stub hands the bundle to the runner.
pub const BUNDLE_FD: i32 = 8;
/// Set by the stub: the bundle's path as it was typed.
pub const ENV_SELF: &str = "OMSB_SELF";
/// Set by the stub: the folder the runner was copied to, which the runner deletes.
pub const ENV_RUNDIR: &str = "OMSB_RUNDIR";

/// Why a bundle is not used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// Something else, or its end is missing.
    #[error("not a bundle, or cut off: no trailer at its end")]
    NoTrailer,
    /// Shorter or longer than it says.
    #[error("{}", wrong_size(*.says, *.has))]
    Size {
        /// What the trailer says.
        says: u64,
        /// What the file has.
        has: u64,
    },
    /// A newer format.
    #[error("bundle format {0} is not understood by this version; get a newer omsagent")]
    Version(u16),
    /// Anything wrong with the trailer, the index or the space between entries.
    #[error("damaged bundle: {0}")]
    Layout(String),
    /// Anything wrong with one entry.
    #[error("damaged bundle: entry `{name}`: {problem}")]
    Entry {
        /// Its name, or its number when it has no usable one.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// An entry's bytes are not those that were packed.
    #[error("damaged bundle: entry `{name}` does not match its SHA-256")]
    Hash {
        /// Its name.
        name: String,
    },
    /// The system refused to read.
    #[error("cannot read {what}: {source}")]
    Read {
        /// What of the bundle.
        what: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The system refused to write what is extracted or built.
    #[error("cannot write `{}`: {source}", .path.display())]
    Write {
        /// Where to.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It was not signed by who was to have signed it.
    #[error("{0}")]
    Signature(SignatureError),
    /// What is to be packed breaks a rule of the format.
    #[error("cannot build the bundle: {0}")]
    Build(String),
}

/// Shorthand of this room.
pub type Result<T> = std::result::Result<T, BundleError>;

fn wrong_size(says: u64, has: u64) -> String {
    match has.checked_sub(says) {
        Some(extra) => format!("damaged bundle: {extra} bytes too many at its end"),
        None => format!("damaged bundle: truncated, {has} of {says} bytes"),
    }
}

/// The next multiple of [`ALIGN`]; `None` past the end of numbers.
fn aligned(offset: u64) -> Option<u64> {
    offset.checked_next_multiple_of(ALIGN)
}
