//! Taking entries out. Hashing takes longer than copying, so one thread reads and hashes an entry
//! while another writes it, and several entries go at once. Memory does not grow with the entry.

use super::{Bundle, BundleError, Entry, Result};
use crate::base::order;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::sync_channel;

/// Bytes moved at a time (about what stays in a core's own cache), and how many such pieces of
/// an entry are under way at once.
const PIECE: usize = 256 << 10;
const PIECES: usize = 4;
/// Most entries that are extracted at once. More than there are cores does no harm: the last
/// entry then does not run alone.
const AT_ONCE: usize = 4;

/// One entry that is to be extracted.
#[derive(Debug, Clone)]
pub struct Extraction<'a> {
    /// Which.
    pub entry: &'a Entry,
    /// The new file.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
}

impl Bundle {
    /// As [`Bundle::extract`] for each, several at once. When one fails, the files of the others
    /// are removed again too, and the first failure is returned.
    pub fn extract_all(&self, wanted: &[Extraction]) -> Result<()> {
        let mut largest_last: Vec<&Extraction> = wanted.iter().collect();
        order::by_key(&mut largest_last, |e| e.entry.size);
        let waiting = Mutex::new(largest_last);
        let made = Mutex::new(Vec::new());
        let work = || -> Result<()> {
            loop {
                let next = unpoisoned(&waiting).pop();
                let Some(next) = next else { return Ok(()) };
                if let Err(error) = self.extract(next.entry, &next.path, next.mode) {
                    unpoisoned(&waiting).clear();
                    return Err(error);
                }
                unpoisoned(&made).push(next.path.as_path());
            }
        };
        let done = std::thread::scope(|scope| {
            let others = AT_ONCE.min(wanted.len()).saturating_sub(1);
            let others: Vec<_> = (0..others).map(|_| scope.spawn(work)).collect();
            let mut done = work();
            for other in others {
                match other.join() {
                    Ok(other) => done = done.and(other),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            done
        });
        if done.is_err() {
            for path in unpoisoned(&made).iter() {
                let _ = std::fs::remove_file(path);
            }
        }
        done
    }

    /// Writes the entry to `path`, a new file made with exactly `mode`. What is hashed is what is
    /// written; a file that does not match its hash, or was not finished, is removed again.
    pub fn extract(&self, entry: &Entry, path: &Path, mode: u32) -> Result<()> {
        let failed = |source| BundleError::Write {
            path: path.to_owned(),
            source,
        };
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode & 0o7777)
            .open(path)
            .map_err(failed)?;
        let done = file
            .set_permissions(Permissions::from_mode(mode & 0o7777)) // whatever the umask
            .map_err(failed)
            .and_then(|()| self.copy_out(entry, &file, path));
        if done.is_err() {
            let _ = std::fs::remove_file(path);
        }
        done
    }

    fn copy_out(&self, entry: &Entry, mut file: &File, path: &Path) -> Result<()> {
        let failed = |source| BundleError::Write {
            path: path.to_owned(),
            source,
        };
        if entry.size <= PIECE as u64 {
            let mut bytes = vec![0u8; entry.size as usize];
            self.read_entry(entry, 0, &mut bytes)?;
            entry.compare(Sha256::new_with_prefix(&bytes))?;
            return file.write_all(&bytes).map_err(failed);
        }
        let (full_in, full_out) = sync_channel::<(Vec<u8>, usize)>(PIECES);
        let (free_in, free_out) = sync_channel::<Vec<u8>>(PIECES);
        for _ in 0..PIECES {
            let _ = free_in.send(vec![0u8; PIECE]);
        }
        std::thread::scope(|scope| {
            let writer = scope.spawn(move || -> std::io::Result<()> {
                for (buffer, n) in full_out {
                    file.write_all(&buffer[..n])?;
                    // The reader may have come to its end and not want the buffer back.
                    let _ = free_in.send(buffer);
                }
                Ok(())
            });
            let mut hash = Sha256::new();
            let mut read = || -> Result<()> {
                let mut at = 0;
                while at < entry.size {
                    // A writer that failed hangs up; its reason is asked for below.
                    let Ok(mut buffer) = free_out.recv() else {
                        return Ok(());
                    };
                    let n = (entry.size - at).min(PIECE as u64) as usize;
                    self.read_entry(entry, at, &mut buffer[..n])?;
                    hash.update(&buffer[..n]);
                    at += n as u64;
                    if full_in.send((buffer, n)).is_err() {
                        return Ok(());
                    }
                }
                Ok(())
            };
            let read = read();
            drop(full_in);
            match writer.join() {
                Ok(written) => written.map_err(failed)?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
            read?;
            entry.compare(hash)
        })
    }
}

/// A thread that panicked has made its own end known; the list itself is whole.
fn unpoisoned<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
