//! Signing a bundle, and the `.minisig` beside it that `minisign -V` can check.

use super::blake2b::Blake2b;
use super::signature::{PublicKey, SecretKey, Signature, Trust};
use super::trailer::Trailer;
use super::writer::{failed, put_beside};
use super::{Bundle, BundleError, Result, SIGNATURE_PLACE, TRAILER_SIZE};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Largest `.minisig` that is read.
const SIDECAR_LIMIT: usize = 4096;

/// Puts a signature by `key` into the bundle at `path`, in place of one that may be there. The
/// file is replaced as a whole, and only by one that was found good.
pub fn sign(path: &Path, key: &SecretKey) -> Result<Trust> {
    let reading = |source| BundleError::Read {
        what: format!("`{}`", path.display()),
        source,
    };
    let mut old = File::open(path).map_err(reading)?;
    let bundle = Bundle::open(old.try_clone().map_err(reading)?)?;
    bundle.verify(&mut |_, _| {})?;
    let header = bundle.header();
    let comment = format!("{} {} index", header.product, header.release);
    let text = key
        .sign_hash(&Blake2b::of(bundle.index()), &comment)
        .text()
        .into_bytes();

    let trailer_at = bundle.size() - TRAILER_SIZE;
    let mut bytes = [0u8; TRAILER_SIZE as usize];
    old.read_exact_at(&mut bytes, trailer_at).map_err(reading)?;
    let mut trailer = Trailer::parse(&bytes, bundle.size())?;
    trailer.signature_len = text.len() as u64;
    let place = trailer.signature_offset();
    let mut end = text;
    if end.len() as u64 > SIGNATURE_PLACE {
        let problem = "the signature does not fit into its place";
        return Err(BundleError::Build(problem.to_owned()));
    }
    end.resize(SIGNATURE_PLACE as usize, 0);
    end.extend_from_slice(&trailer.bytes());

    let new = put_beside(path)?;
    old.rewind().map_err(reading)?;
    std::io::copy(&mut old.take(place), &mut new.as_file()).map_err(failed(path))?;
    let to = new.as_file();
    to.write_all_at(&end, place).map_err(failed(path))?;
    let signed = Bundle::open(to.try_clone().map_err(failed(path))?)?;
    signed.verify(&mut |_, _| {})?;
    let trust = signed.trust(Some(&key.public()))?;
    super::writer::keep(new, path)?;
    Ok(trust)
}

/// Writes `<bundle>.minisig`: a signature of the whole file, for `minisign -V` by hand.
pub fn sidecar(bundle: &Path, key: &SecretKey) -> Result<PathBuf> {
    let name = super::writer::file_name(bundle)?;
    let signature = key.sign_hash(&hash(bundle)?, &format!("file:{name}"));
    let path = sidecar_of(bundle);
    std::fs::write(&path, signature.text()).map_err(failed(&path))?;
    Ok(path)
}

/// Checks `<bundle>.minisig`, if there is one; `false` when there is none.
pub fn verify_sidecar(bundle: &Path, key: &PublicKey) -> Result<bool> {
    let path = sidecar_of(bundle);
    let reading = |source| BundleError::Read {
        what: format!("`{}`", path.display()),
        source,
    };
    let file = match File::open(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        file => file.map_err(reading)?,
    };
    let mut text = String::new();
    file.take(SIDECAR_LIMIT as u64 + 1)
        .read_to_string(&mut text)
        .map_err(reading)?;
    key.verify_hash(&hash(bundle)?, &Signature::parse(&text)?)?;
    Ok(true)
}

fn sidecar_of(bundle: &Path) -> PathBuf {
    let mut name = bundle.as_os_str().to_owned();
    name.push(".minisig");
    PathBuf::from(name)
}

fn hash(path: &Path) -> Result<[u8; 64]> {
    let mut hash = Blake2b::new();
    super::writer::each_piece(path, |bytes| hash.update(bytes))?;
    Ok(hash.finish())
}
