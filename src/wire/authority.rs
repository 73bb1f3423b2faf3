//! A private certificate authority for a self-hosted workspace service: it signs the server's own
//! certificate, and agents are told to trust it (`--ca-file`).

use crate::base::secret::Secret;
use anyhow::{Context, Result, bail};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: Duration = Duration::from_secs(86_400);

/// Certificates begin this long before they are made: an agent whose clock is behind shall fail
/// with the service's `ClockSkew`, which says what is wrong, rather than with a TLS error.
const BACKDATED: Duration = Duration::from_secs(2 * 86_400);

/// How long the authority's own certificate is valid.
pub const AUTHORITY_VALIDITY: Duration = Duration::from_secs(3650 * 86_400);

/// How long a server certificate is valid. Some clients refuse more than 398 days.
pub const SERVER_VALIDITY: Duration = Duration::from_secs(90 * 86_400);

/// An ECDSA P-256 key and the certificate that makes it an authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

/// A certificate signed by an [`Authority`], with its key.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// Its private key, PKCS#8 PEM.
    pub key_pem: Secret,
    /// When it ends to be valid.
    pub not_after: SystemTime,
}

impl Authority {
    /// A new key and a self-signed certificate for it.
    pub fn make() -> Result<Self> {
        let key = KeyPair::generate().context("cannot make the authority's key")?;
        let params = params_of(&key);
        let certificate = params
            .self_signed(&key)
            .context("cannot make the authority's certificate")?;
        Ok(Authority {
            certificate_pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        })
    }

    /// What [`Authority::make`] made, from its two files. A key that does not belong to the
    /// certificate is an error.
    pub fn load(certificate_pem: &str, key_pem: &Secret) -> Result<Self> {
        // Parser errors may quote their input, and the input is a private key.
        let Ok(key) = KeyPair::from_pem(key_pem.expose()) else {
            bail!("the authority's key is not a PKCS#8 private key in PEM form");
        };
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .ok()
            .context("the authority's certificate is not in PEM form")?;
        let public = key.subject_public_key_info();
        if !certificate.windows(public.len()).any(|w| w == public) {
            bail!("the authority's key does not belong to its certificate");
        }
        Ok(Authority {
            certificate_pem: certificate_pem.to_owned(),
            issuer: Issuer::new(params_of(&key), key),
        })
    }

    /// What clients have to trust, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The private key, PKCS#8 PEM, for a file only its owner can read.
    pub fn key_pem(&self) -> Secret {
        Secret::new(self.issuer.key().serialize_pem())
    }

    /// A new key and a server certificate for DNS names (wildcards too) and addresses.
    pub fn issue(&self, dns_names: &[String], addresses: &[IpAddr]) -> Result<Issued> {
        let what = || format!("cannot issue a certificate for {dns_names:?} {addresses:?}");
        let mut params = CertificateParams::new(dns_names.to_vec()).with_context(what)?;
        let addresses = addresses.iter().copied().map(SanType::IpAddress);
        params.subject_alt_names.extend(addresses);
        // Names are in the SANs; a CN would have to fit 64 characters.
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "omsagent hub");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let not_after = set_validity(&mut params, SERVER_VALIDITY);
        let key = KeyPair::generate().with_context(what)?;
        let certificate = params.signed_by(&key, &self.issuer).with_context(what)?;
        Ok(Issued {
            certificate_pem: certificate.pem(),
            key_pem: Secret::new(key.serialize_pem()),
            not_after,
        })
    }

    /// A certificate for every workspace of a service: `*.oms.<domain>`, `*.ods.<domain>`,
    /// `<domain>` (protocol.md 8 item 1).
    pub fn issue_for_domain(&self, domain: &str, addresses: &[IpAddr]) -> Result<Issued> {
        let names = [
            format!("*.oms.{domain}"),
            format!("*.ods.{domain}"),
            domain.to_owned(),
        ];
        self.issue(&names, addresses)
    }
}

/// Everything of the authority that goes into what it signs follows from its key, so that its
/// two files are all there is to keep. The name is the key's, since two authorities of one name
/// would be told apart only by failed handshakes.
fn params_of(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    let digest = Sha256::digest(key.subject_public_key_info());
    let short: String = digest.iter().take(4).map(|b| format!("{b:02x}")).collect();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("omsagent private CA {short}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, AUTHORITY_VALIDITY);
    params
}

/// Sets begin and end in whole seconds; returns the end.
fn set_validity(params: &mut CertificateParams, length: Duration) -> SystemTime {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(DAY * 366 * 30);
    let now = Duration::from_secs(now.as_secs());
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(BACKDATED);
    params.not_after = epoch + now + length;
    UNIX_EPOCH + now + length
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::{ServerName, UnixTime};
    use std::sync::Arc;

    fn verifies(ca: &str, leaf: &str, name: &str, days: u64) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(ca.as_bytes()).unwrap();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
        let leaf = CertificateDer::from_pem_slice(leaf.as_bytes()).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let later = DAY * u32::try_from(days).unwrap();
        let now =
            UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs()) + later);
        verifier
            .verify_server_cert(&leaf, &[], &name, &[], now)
            .map(|_| ())
    }

    #[test]
    fn a_reloaded_authority_issues_what_clients_accept() {
        let made = Authority::make().unwrap();
        let loaded = Authority::load(made.certificate_pem(), &made.key_pem()).unwrap();
        let local: IpAddr = "127.0.0.1".parse().unwrap();
        for authority in [&made, &loaded] {
            let issued = authority.issue_for_domain("hub.test", &[local]).unwrap();
            let check = |name| verifies(made.certificate_pem(), &issued.certificate_pem, name, 0);
            for good in ["w.oms.hub.test", "w.ods.hub.test", "hub.test", "127.0.0.1"] {
                check(good).unwrap();
            }
            for bad in [
                "oms.hub.test",
                "a.b.oms.hub.test",
                "w.other.test",
                "127.0.0.2",
            ] {
                assert!(check(bad).is_err(), "{bad}");
            }
        }
        let other = Authority::make().unwrap();
        let foreign = other.issue_for_domain("hub.test", &[]).unwrap();
        assert!(
            verifies(
                made.certificate_pem(),
                &foreign.certificate_pem,
                "hub.test",
                0
            )
            .is_err()
        );
    }

    #[test]
    fn server_certificates_end() {
        let authority = Authority::make().unwrap();
        let issued = authority.issue_for_domain("hub.test", &[]).unwrap();
        let at = |days| {
            verifies(
                authority.certificate_pem(),
                &issued.certificate_pem,
                "hub.test",
                days,
            )
        };
        assert!(at(89).is_ok());
        assert!(at(91).is_err());
        assert!(issued.not_after > SystemTime::now() + DAY * 89);
    }

    #[test]
    fn files_that_do_not_belong_together_are_refused() {
        let (one, two) = (Authority::make().unwrap(), Authority::make().unwrap());
        assert!(Authority::load(one.certificate_pem(), &two.key_pem()).is_err());
        assert!(Authority::load("", &one.key_pem()).is_err());
        let garbage =
            Secret::new("-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----");
        let error = Authority::load(one.certificate_pem(), &garbage)
            .err()
            .unwrap();
        assert!(!format!("{error:#}").contains("hunter2"));
    }

    #[test]
    fn names_that_are_no_names_are_refused() {
        let authority = Authority::make().unwrap();
        assert!(authority.issue(&["münchen.test".to_owned()], &[]).is_err());
    }
}
