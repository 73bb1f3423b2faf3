//! A shared key that does not stand on the command line.

use crate::base::secret::Secret;
use std::io::Read;

/// A shared key is 88 characters; this is generous.
pub(super) const LIMIT: usize = 4096;

/// A shared key from a file or from standard input, without the line end. The error is a line for
/// a person.
pub fn read_key(reader: &mut dyn Read, from: &str) -> Result<Secret, String> {
    // Of its final size: growing would leave copies behind.
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(LIMIT + 1));
    let cannot = |why: &str| format!("cannot read the shared key from {from}: {why}");
    reader
        .take(LIMIT as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| cannot(&e.to_string()))?;
    if bytes.len() > LIMIT {
        return Err(cannot(&format!("larger than {LIMIT} bytes")));
    }
    match std::str::from_utf8(&bytes).map(str::trim) {
        Err(_) => Err(cannot("not text")),
        Ok("") => Err(format!("no shared key in {from}")),
        Ok(key) => Ok(Secret::new(key)),
    }
}
