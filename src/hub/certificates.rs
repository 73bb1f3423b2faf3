//! TLS of the hub: the certificate it shows, and how it looks at an agent's.

use super::Folder;
use super::query::hex;
use crate::base::files;
use crate::base::secret::Secret;
use crate::wire::authority::{Authority, SERVER_VALIDITY};
use crate::wire::certificate::Facts;
use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

/// Largest certificate or key file that is read, in bytes.
const FILE_LIMIT: usize = 256 << 10;

/// How often given files are looked at for a renewed certificate.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// A client certificate of a TLS connection whose private key the client has proven to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClientCertificate {
    pub(super) der: Vec<u8>,
    /// SHA-256 of the DER, lower-case hexadecimal.
    pub(super) thumbprint: String,
    /// The end of its validity, when it can be read.
    pub(super) ends: Option<Timestamp>,
}

impl ClientCertificate {
    pub(super) fn new(der: Vec<u8>) -> Self {
        ClientCertificate {
            thumbprint: hex(&Sha256::digest(&der)),
            ends: Facts::read(&der).ok().map(|facts| facts.not_after),
            der,
        }
    }

    /// Whether `der` has the form of a certificate.
    pub(super) fn is_certificate(der: &[u8]) -> bool {
        ParsedCertificate::try_from(&CertificateDer::from(der)).is_ok()
    }
}

/// Where the certificate the hub shows comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// Files of the owner, looked at again now and then.
    Files { certificate: PathBuf, key: PathBuf },
    /// The hub's own authority; a new certificate well before the old one ends.
    Own {
        folder: Folder,
        domain: String,
        addresses: Vec<IpAddr>,
    },
}

/// The TLS settings of a hub.
pub(super) fn server_config(source: Source) -> Result<Arc<ServerConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let shown = Shown::new(source, provider.clone())?;
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .context("cannot set up TLS")?
        .with_client_cert_verifier(Arc::new(AnyClient { provider }))
        .with_cert_resolver(Arc::new(shown));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Opens the folder's authority, making it at first start.
pub(super) fn authority(folder: &Folder) -> Result<Authority> {
    let (certificate, key) = (folder.authority_certificate(), folder.authority_key());
    let texts = (
        files::read_text(&certificate, FILE_LIMIT)?,
        files::read_text(&key, FILE_LIMIT)?.map(Secret::new),
    );
    match texts {
        (Some(certificate), Some(key)) => Authority::load(&certificate, &key),
        (Some(_), None) => bail!(
            "`{}` is missing: put it back, or remove `{}` too for a new authority that agents \
             must be told to trust anew",
            key.display(),
            certificate.display()
        ),
        // A key without a certificate is what a crash between these two writes leaves.
        (None, _) => {
            let made = Authority::make()?;
            let text = made.key_pem();
            files::write_atomic(&key, text.expose().as_bytes(), folder.look(0o600))?;
            let text = made.certificate_pem();
            files::write_atomic(&certificate, text.as_bytes(), folder.look(0o644))?;
            Ok(made)
        }
    }
}

/// Hands out the current certificate, and sees to it that it stays current.
#[derive(Debug)]
struct Shown {
    source: Source,
    provider: Arc<CryptoProvider>,
    current: RwLock<Current>,
}

#[derive(Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    look_again: SystemTime,
}

impl Shown {
    fn new(source: Source, provider: Arc<CryptoProvider>) -> Result<Self> {
        let current = RwLock::new(load(&source, &provider)?);
        Ok(Shown {
            source,
            provider,
            current,
        })
    }

    fn key(&self) -> Arc<CertifiedKey> {
        {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            if SystemTime::now() < current.look_again {
                return current.key.clone();
            }
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if SystemTime::now() >= current.look_again {
            match load(&self.source, &self.provider) {
                Ok(new) => *current = new,
                Err(error) => {
                    log::error!("keeping the server certificate in use: {error:#}");
                    current.look_again = SystemTime::now() + LOOK_AGAIN;
                }
            }
        }
        current.key.clone()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key())
    }
}

fn load(source: &Source, provider: &CryptoProvider) -> Result<Current> {
    let now = SystemTime::now();
    match source {
        Source::Files { certificate, key } => {
            let chain = pem(certificate)?;
            let secret = Secret::new(pem(key)?);
            Ok(Current {
                key: certified(&chain, &secret, provider).with_context(|| {
                    format!("in `{}` and `{}`", certificate.display(), key.display())
                })?,
                look_again: now + LOOK_AGAIN,
            })
        }
        Source::Own {
            folder,
            domain,
            addresses,
        } => {
            let issued = authority(folder)?.issue_for_domain(domain, addresses)?;
            Ok(Current {
                key: certified(&issued.certificate_pem, &issued.key_pem, provider)?,
                look_again: now + SERVER_VALIDITY / 3,
            })
        }
    }
}

fn pem(path: &Path) -> Result<String> {
    files::read_text(path, FILE_LIMIT)?
        .with_context(|| format!("`{}` is not there", path.display()))
}

fn certified(chain: &str, key: &Secret, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<_, _>>()
        .ok()
        .filter(|chain: &Vec<_>| !chain.is_empty())
        .context("there is no certificate in PEM form")?;
    // Errors of the parser are not passed on: they may quote the key.
    let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
        .ok()
        .context("there is no private key in PEM form")?;
    let key = CertifiedKey::from_der(chain, key, provider)
        .context("the certificate and the key do not belong together")?;
    Ok(Arc::new(key))
}

/// Asks for a client certificate, does not insist, and takes any: agents' are self-signed, marked
/// as authorities (protocol.md 1.6), and known by thumbprint. What counts is checked: that the
/// client has the private key.
#[derive(Debug)]
struct AnyClient {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn folder() -> (tempfile::TempDir, Folder) {
        let temp = tempfile::tempdir().unwrap();
        let folder = Folder::make(&temp.path().join("hub")).unwrap();
        (temp, folder)
    }

    #[test]
    fn the_authority_is_made_once() {
        let (_temp, folder) = folder();
        let first = authority(&folder).unwrap().certificate_pem().to_owned();
        assert_eq!(authority(&folder).unwrap().certificate_pem(), first);
        let mode = std::fs::metadata(folder.authority_key())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::remove_file(folder.authority_key()).unwrap();
        assert!(authority(&folder).is_err());
        std::fs::remove_file(folder.authority_certificate()).unwrap();
        assert_ne!(authority(&folder).unwrap().certificate_pem(), first);
    }

    #[test]
    fn renewed_files_are_taken_up_and_broken_ones_are_not() {
        let (temp, folder) = folder();
        let authority = authority(&folder).unwrap();
        let (certificate, key) = (temp.path().join("c.pem"), temp.path().join("k.pem"));
        let write = || {
            let issued = authority.issue_for_domain("hub.test", &[]).unwrap();
            std::fs::write(&certificate, &issued.certificate_pem).unwrap();
            std::fs::write(&key, issued.key_pem.expose()).unwrap();
        };
        write();
        let source = Source::Files {
            certificate: certificate.clone(),
            key: key.clone(),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let shown = Shown::new(source, provider).unwrap();
        let der = || shown.key().cert[0].to_vec();
        let expire = || shown.current.write().unwrap().look_again = SystemTime::UNIX_EPOCH;
        let first = der();
        write();
        assert_eq!(der(), first);
        expire();
        let second = der();
        assert_ne!(second, first);
        std::fs::write(&key, "nothing").unwrap();
        expire();
        assert_eq!(der(), second);
    }

    #[test]
    fn files_that_do_not_fit_are_refused_at_start() {
        let (temp, folder) = folder();
        let authority = authority(&folder).unwrap();
        let one = authority.issue_for_domain("a.test", &[]).unwrap();
        let two = authority.issue_for_domain("a.test", &[]).unwrap();
        let (certificate, key) = (temp.path().join("c.pem"), temp.path().join("k.pem"));
        std::fs::write(&certificate, &one.certificate_pem).unwrap();
        std::fs::write(&key, two.key_pem.expose()).unwrap();
        let source = || Source::Files {
            certificate: certificate.clone(),
            key: key.clone(),
        };
        let error = format!("{:#}", server_config(source()).unwrap_err());
        assert!(error.contains("do not belong together"), "{error}");
        std::fs::remove_file(&key).unwrap();
        assert!(server_config(source()).is_err());
    }
}
