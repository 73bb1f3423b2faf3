//! TLS of the client side: whom we trust, how we say why not. Verification cannot be switched off.
//!
//! The roots are looked up when a certificate is to be verified, and only those that the
//! presented chain names are kept: a system's root store parsed as a whole would be the largest
//! thing an idle agent holds, and a root added later is honoured without a restart.

use crate::base::files;
use crate::wire::certificate::Facts;
use crate::wire::http::{Cause, HttpError};
use crate::wire::identity::ClientIdentity;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Environment variable that names a CA file (issue 2, "Onboarding").
pub const CA_FILE_VARIABLE: &str = "OMSAGENT_CA_FILE";

/// Largest CA file that is read.
pub const CA_FILE_LIMIT: usize = 1 << 20;
/// Largest part of a system's root bundle that is read.
const BUNDLE_LIMIT: u64 = 16 << 20;
/// Most certificates in a chain that are looked at.
const MAX_CHAIN: usize = 16;

/// Where distributions keep the roots as one PEM file: Debian, Ubuntu, Alpine; RHEL and Fedora
/// old and new; SUSE old and new; others.
const SYSTEM_BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/var/lib/ca-certificates/ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Which CA file counts: the flag (or setting) before the environment before `installed`
/// (ETC/ca.pem) if that exists.
pub fn choose_ca_file(
    flag: Option<PathBuf>,
    environment: Option<PathBuf>,
    installed: &Path,
) -> Option<PathBuf> {
    let given = |path: &PathBuf| !path.as_os_str().is_empty();
    flag.filter(given)
        .or(environment.filter(given))
        .or_else(|| installed.exists().then(|| installed.to_owned()))
}

/// Checks that a CA file can be used and says how many certificates it holds.
pub fn check_ca_file(path: &Path) -> Result<usize, HttpError> {
    read_ca_file(path).map(|certificates| certificates.len())
}

/// A client's TLS settings: TLS 1.2 and 1.3, the pair to present, verification against the
/// system's roots and those of `ca_file`. `asked` becomes true when a server asks for the pair.
pub(crate) fn client_config(
    identity: Option<&ClientIdentity>,
    ca_file: Option<&Path>,
    asked: &Arc<AtomicBool>,
) -> Result<ClientConfig, HttpError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let own = ca_file.map(read_ca_file).transpose()?.unwrap_or_default();
    let verifier = Verifier {
        roots: Roots {
            own,
            system: system_bundles(),
        },
        algorithms: provider.signature_verification_algorithms,
    };
    let builder = ClientConfig::builder_with_provider(Arc::<CryptoProvider>::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| HttpError::new(Cause::Local, format!("cannot set up TLS: {e}")))?
        .dangerous() // the name of the door; our verifier verifies all that the built-in one does
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let unusable = |why: String| {
                let detail = format!("this host's client certificate cannot be used: {why}");
                HttpError::new(Cause::Local, detail)
            };
            let certificate = identity.cert_der().map_err(|e| unusable(e.to_string()))?;
            let key = identity.key_der().map_err(|e| unusable(e.to_string()))?;
            let chain = vec![CertificateDer::from(certificate)];
            let pair = CertifiedKey::from_der(chain, key, &provider)
                .map_err(|e| unusable(e.to_string()))?;
            builder.with_client_cert_resolver(Arc::new(Shown {
                pair: Arc::new(pair),
                asked: Arc::clone(asked),
            }))
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Connections are kept, not sessions: a resumed session would need the store kept too.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// The pair, and whether anybody asked for it.
#[derive(Debug)]
struct Shown {
    pair: Arc<CertifiedKey>,
    asked: Arc<AtomicBool>,
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        Some(Arc::clone(&self.pair))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The bundle that `SSL_CERT_FILE` names, else the first of the usual places that exists.
fn system_bundles() -> Vec<PathBuf> {
    let named = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty());
    let usual = || {
        SYSTEM_BUNDLES
            .iter()
            .map(PathBuf::from)
            .find(|p| p.exists())
    };
    named
        .map(PathBuf::from)
        .or_else(usual)
        .into_iter()
        .collect()
}

fn read_ca_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, HttpError> {
    let broken = |why: String| {
        let detail = format!("cannot use the CA file `{}`: {why}", path.display());
        HttpError::new(Cause::Local, detail)
    };
    let bytes = files::read(path, CA_FILE_LIMIT)
        .map_err(|e| broken(format!("{e:#}")))?
        .ok_or_else(|| broken("it does not exist".into()))?;
    let mut found = Vec::new();
    for item in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = item.map_err(|e| broken(format!("it is not PEM ({e})")))?;
        Facts::read(&certificate).map_err(|e| broken(e.to_string()))?;
        found.push(certificate);
    }
    if found.is_empty() {
        return Err(broken("no PEM certificate is in it".into()));
    }
    Ok(found)
}

/// Whom we trust.
#[derive(Debug)]
struct Roots {
    own: Vec<CertificateDer<'static>>,
    system: Vec<PathBuf>,
}

impl Roots {
    /// The roots that bear one of the `issuers`' names, and whether there were any roots at all.
    fn named(&self, issuers: &[Vec<u8>]) -> (RootCertStore, bool) {
        let mut store = RootCertStore::empty();
        let mut any = !self.own.is_empty();
        let mut consider = |certificate: CertificateDer<'_>| {
            let wanted = Facts::subject_of(&certificate)
                .is_ok_and(|subject| issuers.iter().any(|issuer| issuer == subject));
            if wanted {
                let _ = store.add(certificate); // one that cannot be parsed is as good as absent
            }
        };
        self.own.iter().cloned().for_each(&mut consider);
        for path in &self.system {
            let Ok(file) = std::fs::File::open(path) else {
                continue;
            };
            for item in CertificateDer::pem_reader_iter(file.take(BUNDLE_LIMIT)) {
                let Ok(certificate) = item else { break };
                any = true;
                consider(certificate);
            }
        }
        (store, any)
    }
}

/// rustls' own verification, with the roots looked up late and the refusal told in our words.
#[derive(Debug)]
struct Verifier {
    roots: Roots,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut issuers: Vec<Vec<u8>> = Vec::new();
        for der in std::iter::once(end_entity)
            .chain(intermediates)
            .take(MAX_CHAIN)
        {
            let facts = Facts::read(der).map_err(|_| CertificateError::BadEncoding)?;
            issuers.push(facts.issuer.der);
        }
        let (roots, any_roots) = self.roots.named(&issuers);
        let certificate = rustls::server::ParsedCertificate::try_from(end_entity)?;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &roots,
            intermediates,
            now,
            self.algorithms.all,
        )
        .and_then(|()| rustls::client::verify_server_name(&certificate, server_name))
        .map_err(|error| explain(&error, end_entity, intermediates, server_name, any_roots))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A refusal as an [`HttpError`] inside rustls' error, so that it reaches [`refusal`].
fn explain(
    error: &rustls::Error,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    server_name: &ServerName<'_>,
    any_roots: bool,
) -> rustls::Error {
    let host = server_name.to_str();
    let Ok(facts) = Facts::read(end_entity) else {
        return CertificateError::BadEncoding.into();
    };
    use CertificateError as E;
    let (cause, why) = match error {
        rustls::Error::InvalidCertificate(E::Expired | E::ExpiredContext { .. }) => {
            let why = format!("expired on {}", facts.not_after);
            (Cause::TlsTime, time_trouble(end_entity, &why))
        }
        rustls::Error::InvalidCertificate(E::NotValidYet | E::NotValidYetContext { .. }) => {
            let why = format!("is not valid before {}", facts.not_before);
            (Cause::TlsTime, time_trouble(end_entity, &why))
        }
        rustls::Error::InvalidCertificate(
            E::NotValidForName | E::NotValidForNameContext { .. },
        ) => {
            let names = match facts.alternative_names.as_slice() {
                [] => "no name".to_owned(),
                names => names[..names.len().min(5)].join(", "),
            };
            (
                Cause::TlsName,
                format!("is for another name: it is valid for {names}"),
            )
        }
        rustls::Error::InvalidCertificate(E::Other(other))
            if format!("{other:?}").contains("CaUsedAsEndEntity") =>
        {
            let why = "is an authority's own: let the server present one issued by it";
            (Cause::Tls, why.to_owned())
        }
        rustls::Error::InvalidCertificate(E::UnknownIssuer | E::BadSignature | E::Other(_)) => (
            Cause::TlsUntrusted,
            untrusted(&facts, intermediates, any_roots),
        ),
        other => (Cause::Tls, format!("cannot be accepted: {other}")),
    };
    let told = HttpError::new(cause, format!("the certificate of `{host}` {why}"));
    CertificateError::Other(rustls::OtherError(Arc::new(told))).into()
}

fn time_trouble(der: &CertificateDer<'_>, why: &str) -> String {
    let now = jiff::Timestamp::now();
    match Facts::read(der) {
        // The end entity itself is in order: one above it in the chain is not.
        Ok(facts) if facts.not_before <= now && now <= facts.not_after => {
            "has an issuer whose own certificate is expired or not yet valid".to_owned()
        }
        _ => format!(
            "{why} (this host's clock says {})",
            now.strftime("%Y-%m-%dT%H:%MZ")
        ),
    }
}

fn untrusted(facts: &Facts, intermediates: &[CertificateDer<'_>], any_roots: bool) -> String {
    let none = if any_roots {
        ""
    } else {
        " (it has no CA certificates at all)"
    };
    if facts.issuer.der == facts.subject.der {
        return format!(
            "is self-signed by \"{}\", which this host does not trust{none}",
            facts.issuer
        );
    }
    // With intermediates the name to look for is the one at the end of the chain.
    let top = intermediates
        .iter()
        .take(MAX_CHAIN)
        .filter_map(|der| Facts::read(der).ok())
        .map(|above| above.issuer)
        .next_back()
        .filter(|top| top.der != facts.issuer.der);
    let under = top.map_or(String::new(), |top| format!(" under \"{top}\""));
    format!(
        "was issued by \"{}\"{under}, which this host does not trust{none}",
        facts.issuer
    )
}

/// What a failed handshake or a broken session means. `host` is the server's name.
pub(crate) fn refusal(error: &rustls::Error, host: &str) -> HttpError {
    use rustls::AlertDescription as A;
    if let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error
        && let Some(told) = other.0.downcast_ref::<HttpError>()
    {
        return told.clone();
    }
    let (cause, detail) = match error {
        rustls::Error::InvalidCertificate(why) => {
            let detail = format!("the certificate of `{host}` cannot be accepted: {why}");
            (Cause::Tls, detail)
        }
        rustls::Error::AlertReceived(
            alert @ (A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::CertificateRequired
            | A::UnknownCA
            | A::AccessDenied),
        ) => {
            let detail =
                format!("`{host}` does not accept this host's client certificate ({alert:?})");
            (Cause::Tls, detail)
        }
        rustls::Error::AlertReceived(A::ProtocolVersion) | rustls::Error::PeerIncompatible(_) => {
            let detail = format!("`{host}` does not speak TLS 1.2 or newer ({error})");
            (Cause::TlsOld, detail)
        }
        rustls::Error::AlertReceived(alert) => {
            let detail = format!("`{host}` refuses the TLS connection ({alert:?})");
            (Cause::Tls, detail)
        }
        rustls::Error::InvalidMessage(_) => {
            let detail = format!("what answers at `{host}` does not speak TLS");
            (Cause::NotTls, detail)
        }
        other => (Cause::Tls, format!("TLS with `{host}` failed: {other}")),
    };
    HttpError::new(cause, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flag_before_environment_before_installed_file() {
        let dir = tempfile::tempdir().unwrap();
        let installed = dir.path().join("ca.pem");
        let path = |p: &str| Some(PathBuf::from(p));
        assert_eq!(choose_ca_file(path("f"), path("e"), &installed), path("f"));
        assert_eq!(choose_ca_file(None, path("e"), &installed), path("e"));
        assert_eq!(choose_ca_file(None, path(""), &installed), None);
        std::fs::write(&installed, "x").unwrap();
        assert_eq!(
            choose_ca_file(None, None, &installed),
            Some(installed.clone())
        );
        assert_eq!(choose_ca_file(path("f"), None, &installed), path("f"));
    }

    #[test]
    fn a_ca_file_must_hold_certificates() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let says = |needle: &str| {
            let error = check_ca_file(&path).unwrap_err();
            assert_eq!(error.cause, Cause::Local);
            assert!(error.detail.contains("ca.pem"), "{error}");
            assert!(error.detail.contains(needle), "{error}");
        };
        says("does not exist");
        std::fs::write(&path, "hello").unwrap();
        says("no PEM certificate");
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\n!\n").unwrap();
        says("not PEM");
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(&path, junk).unwrap();
        says("X.509");
        let made = rcgen::generate_simple_self_signed(vec!["a.example".into()]).unwrap();
        let mut pem = made.cert.pem().repeat(2).into_bytes();
        std::fs::write(&path, &pem).unwrap();
        assert_eq!(check_ca_file(&path).unwrap(), 2);
        pem.resize(CA_FILE_LIMIT, b'\n');
        std::fs::write(&path, &pem).unwrap();
        assert_eq!(check_ca_file(&path).unwrap(), 2);
        pem.push(b'\n');
        std::fs::write(&path, &pem).unwrap();
        says("larger than");
    }

    #[test]
    fn only_the_roots_a_chain_names_are_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join("bundle.crt");
        let authority = |name: &str| {
            let mut params = rcgen::CertificateParams::default();
            let names = &mut params.distinguished_name;
            names.push(rcgen::DnType::CommonName, name);
            let key = rcgen::KeyPair::generate().unwrap();
            params.self_signed(&key).unwrap()
        };
        let all = ["One", "Two", "Three"].map(authority);
        let pem = all.each_ref().map(rcgen::Certificate::pem);
        let junk = "# a comment\n-----BEGIN X-----\nAAAA\n-----END X-----\n";
        std::fs::write(&bundle, format!("{}{junk}{}", pem[0], pem[1])).unwrap();
        let roots = Roots {
            own: vec![all[2].der().clone()],
            system: vec![dir.path().join("none"), bundle],
        };
        let name = |n: usize| Facts::subject_of(all[n].der()).unwrap().to_vec();
        let found = |names: &[Vec<u8>]| roots.named(names).0.subjects().len();
        assert_eq!(found(&[name(1)]), 1);
        assert_eq!(found(&[name(1), name(2), vec![1]]), 2);
        assert_eq!(found(&[vec![1]]), 0);
        let (none, any) = Roots {
            own: Vec::new(),
            system: Vec::new(),
        }
        .named(&[name(1)]);
        assert!(none.is_empty() && !any);
    }
}
