//! The agent's client certificate (protocol.md 1.6, "Client certificate").

use crate::base::files;
use crate::base::ids::{AgentGuid, WorkspaceId};
use crate::base::secret::Secret;
use crate::wire::certificate::Facts;
use crate::wire::renewal::{NewPair, Stage};
use anyhow::{Context, Result};
use jiff::Timestamp;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType};
use rsa::pkcs1::{EncodeRsaPrivateKey, EncodeRsaPublicKey};
use rsa::pkcs8::{EncodePrivateKey, LineEnding};
use rsa::rand_core::{OsRng, RngCore};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha1::{Digest, Sha1};
use std::path::Path;
use std::time::Duration;

/// Largest oms.crt or oms.key that is read; real ones have below 2 KiB.
pub const PEM_LIMIT: usize = 64 << 10;

/// How long a certificate is valid (protocol.md 1.6).
const VALIDITY: Duration = Duration::from_secs(365 * 86_400);

/// A certificate and its private key, as PEM.
#[derive(Debug, Clone)]
pub struct ClientIdentity {
    /// oms.crt.
    pub cert_pem: String,
    /// oms.key: PKCS#1 (`RSA PRIVATE KEY`) when made by us, PKCS#8 is read too.
    pub key_pem: Secret,
}

/// A certificate for Operations Manager is valid from a year ago for 20 years (omi-scx.md 1.6).
const SCOM_BEFORE: Duration = Duration::from_secs(365 * 86_400);
const SCOM_VALIDITY: Duration = Duration::from_secs((365 + 7300) * 86_400);

impl ClientIdentity {
    /// Makes a new RSA-3072 key and a self-signed certificate for client authentication, by which
    /// Operations Manager knows this host (bundle.md 6.6). The key is PKCS#8.
    pub fn for_operations_manager(fqdn: &str, now: Timestamp) -> Result<Self> {
        let key = rsa::RsaPrivateKey::new(&mut OsRng, 3072).context("cannot make an RSA key")?;
        let pkcs8 = key.to_pkcs8_der().context("RSA key")?;
        let key_pem = key.to_pkcs8_pem(LineEnding::LF).context("RSA key")?;
        let signer = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(
            &PrivatePkcs8KeyDer::from(pkcs8.as_bytes()),
            &rcgen::PKCS_RSA_SHA256,
        )
        .context("cannot sign with the new RSA key")?;
        let host = fqdn.split('.').next().unwrap_or(fqdn);
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, host);
        name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), fqdn);
        params.distinguished_name = name;
        params.serial_number = Some(1.into());
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let since_1970 = u64::try_from(now.as_second()).context("the clock is before 1970")?;
        let start = Duration::from_secs(since_1970).saturating_sub(SCOM_BEFORE);
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + start;
        params.not_after = params.not_before + SCOM_VALIDITY;
        let certificate = params
            .self_signed(&signer)
            .context("cannot sign the certificate")?;
        Ok(ClientIdentity {
            cert_pem: certificate.pem().replace("\r\n", "\n"),
            key_pem: Secret::new(key_pem.as_str()),
        })
    }

    /// Makes a new RSA-2048 key and a self-signed certificate valid for a year from `now`.
    pub fn generate(ws: &WorkspaceId, guid: &AgentGuid, now: Timestamp) -> Result<Self> {
        let key = rsa::RsaPrivateKey::new(&mut OsRng, 2048).context("cannot make an RSA key")?;
        let public = key.to_public_key().to_pkcs1_der().context("RSA key")?;
        let key_id = Sha1::digest(public.as_bytes());
        let key_pem = key.to_pkcs1_pem(LineEnding::LF).context("RSA key")?;
        let pkcs8 = key.to_pkcs8_der().context("RSA key")?;
        let signer = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(
            &PrivatePkcs8KeyDer::from(pkcs8.as_bytes()),
            &rcgen::PKCS_RSA_SHA256,
        )
        .context("cannot sign with the new RSA key")?;

        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, ws.as_str());
        // A name keeps one value for each type; written out, this type is a common name too.
        name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), guid.as_str());
        name.push(DnType::OrganizationalUnitName, "Linux Monitoring Agent");
        name.push(DnType::OrganizationName, "Microsoft");
        params.distinguished_name = name;
        params.serial_number = Some((1 + u64::from(OsRng.next_u32() % 65_534)).into());
        let since_1970 = u64::try_from(now.as_second()).context("the clock is before 1970")?;
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(since_1970);
        params.not_after = params.not_before + VALIDITY;
        // rcgen would mark basicConstraints critical; the original marks none (protocol.md 1.6).
        let key_id = key_id.as_slice();
        params.custom_extensions = vec![
            extension(14, &[&[0x04, 0x14], key_id].concat()),
            extension(35, &[&[0x30, 0x16, 0x80, 0x14], key_id].concat()),
            extension(19, &[0x30, 0x03, 0x01, 0x01, 0xff]),
        ];
        let certificate = params
            .self_signed(&signer)
            .context("cannot sign the certificate")?;
        Ok(ClientIdentity {
            cert_pem: certificate.pem().replace("\r\n", "\n"),
            key_pem: Secret::new(key_pem.as_str()),
        })
    }

    /// Reads `oms.crt` and `oms.key` of a workspace's certs folder; `None` when one is missing
    /// or empty. A renewed pair that the service knows already goes before them.
    pub fn load(certs_dir: &Path) -> Result<Option<Self>> {
        Self::load_by(certs_dir, files::read)
    }

    /// As [`ClientIdentity::load`], following no link: for root in the service account's folder.
    pub fn load_no_follow(certs_dir: &Path) -> Result<Option<Self>> {
        Self::load_by(certs_dir, files::read_no_follow)
    }

    fn load_by(
        certs_dir: &Path,
        read: impl Fn(&Path, usize) -> Result<Option<Vec<u8>>>,
    ) -> Result<Option<Self>> {
        let Some(cert) = read(&certs_dir.join("oms.crt"), PEM_LIMIT)? else {
            return Ok(None);
        };
        let cert_pem = String::from_utf8_lossy(&cert).into_owned();
        let Some(key) = read(&certs_dir.join("oms.key"), PEM_LIMIT)? else {
            return Ok(None);
        };
        let key = zeroize::Zeroizing::new(key);
        let key_pem = Secret::new(String::from_utf8_lossy(&key));
        if cert_pem.trim().is_empty() || key_pem.expose().trim().is_empty() {
            return Ok(None);
        }
        Ok(Some(
            ClientIdentity { cert_pem, key_pem }.or_renewed(certs_dir),
        ))
    }

    /// This pair of `certs_dir`, or the one that is just taking its place there.
    pub fn or_renewed(self, certs_dir: &Path) -> Self {
        match NewPair::load(certs_dir, Stage::Known, &self) {
            Ok(Some(new)) => new.pair,
            _ => self,
        }
    }

    /// The certificate as DER, for TLS and for its thumbprint.
    pub fn cert_der(&self) -> Result<Vec<u8>> {
        let der = CertificateDer::from_pem_slice(self.cert_pem.as_bytes())
            .context("the client certificate is not PEM")?;
        Ok(der.to_vec())
    }

    /// The private key as DER, for TLS.
    pub(crate) fn key_der(&self) -> Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(self.key_pem.expose().as_bytes())
            .context("the client key is not a PEM private key")
    }

    /// The PEM without its BEGIN and END lines, for `AuthenticationCertificate`: lines joined by
    /// `separator` (LF when onboarding, one blank in heartbeats and renewals; protocol.md 1.6).
    pub fn base64_body(&self, separator: &str) -> String {
        let lines: Vec<&str> = self
            .cert_pem
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with("-----"))
            .collect();
        lines.join(separator)
    }

    /// Is the key that of the certificate?
    pub fn fits(&self) -> Result<bool> {
        let facts = Facts::read(&self.cert_der()?).context("the client certificate")?;
        let key = rustls::crypto::ring::sign::any_supported_type(&self.key_der()?)
            .context("the client key cannot be used")?;
        let public = key
            .public_key()
            .context("the client key tells no public key")?;
        Ok(*public == *facts.public_key)
    }

    /// The end of the certificate's validity.
    pub fn not_after(&self) -> Result<Timestamp> {
        let facts = Facts::read(&self.cert_der()?).context("the client certificate")?;
        Ok(facts.not_after)
    }
}

/// A non-critical extension of the arc 2.5.29.
fn extension(id: u64, content: &[u8]) -> CustomExtension {
    CustomExtension::from_oid_content(&[2, 5, 29, id], content.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::command::{self, Command};

    const WS: &str = "11111111-2222-3333-4444-555555555555";
    const GUID: &str = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee";

    fn identity() -> ClientIdentity {
        let now = "2031-02-03T04:05:06Z".parse().unwrap();
        ClientIdentity::generate(&WS.parse().unwrap(), &GUID.parse().unwrap(), now).unwrap()
    }

    #[test]
    fn certificate_is_as_the_protocol_says() {
        let made = identity();
        let facts = Facts::read(&made.cert_der().unwrap()).unwrap();
        let expected = format!("CN={WS}, CN={GUID}, OU=Linux Monitoring Agent, O=Microsoft");
        assert_eq!(facts.subject.to_string(), expected);
        assert_eq!(facts.issuer, facts.subject);
        assert_eq!(facts.not_before.to_string(), "2031-02-03T04:05:06Z");
        assert_eq!(
            made.not_after().unwrap().to_string(),
            "2032-02-03T04:05:06Z"
        );
        assert!(
            made.key_pem
                .expose()
                .starts_with("-----BEGIN RSA PRIVATE KEY-----\n")
        );
    }

    #[test]
    fn the_certificate_for_operations_manager_lasts_and_names_the_host() {
        let now = "2031-02-03T04:05:06Z".parse().unwrap();
        let made = ClientIdentity::for_operations_manager("web1.example.com", now).unwrap();
        let facts = Facts::read(&made.cert_der().unwrap()).unwrap();
        assert_eq!(facts.subject.to_string(), "CN=web1, CN=web1.example.com");
        assert_eq!(facts.not_before.to_string(), "2030-02-03T04:05:06Z");
        assert!(
            made.not_after()
                .unwrap()
                .to_string()
                .starts_with("2051-01-2")
        );
        assert!(made.key_der().is_ok());
    }

    #[test]
    fn openssl_agrees() {
        if command::find("openssl").is_none() {
            return;
        }
        let made = identity();
        let dir = tempfile::tempdir().unwrap();
        let (crt, key) = (dir.path().join("oms.crt"), dir.path().join("oms.key"));
        std::fs::write(&crt, &made.cert_pem).unwrap();
        std::fs::write(&key, made.key_pem.expose()).unwrap();
        let run = |args: &[&str]| {
            let done = Command::new("openssl").args(args).run().unwrap();
            assert!(done.ok(), "{}", done.output);
            done.output
        };
        let (crt, key) = (crt.to_str().unwrap(), key.to_str().unwrap());
        let text = run(&["x509", "-in", crt, "-noout", "-text"]);
        assert!(text.contains("Version: 3 (0x2)"), "{text}");
        assert!(text.contains("sha256WithRSAEncryption"), "{text}");
        assert!(text.contains("Public-Key: (2048 bit)"), "{text}");
        assert!(
            text.contains("X509v3 Basic Constraints: \n                CA:TRUE"),
            "{text}"
        );
        assert!(!text.contains("critical"), "{text}");
        assert_eq!(
            text.matches("X509v3 ").count(),
            4,
            "three and the heading: {text}"
        );
        let after = |title: &str| {
            let rest = &text[text.find(title).unwrap() + title.len()..];
            rest.split_whitespace().next().unwrap().to_owned()
        };
        let subject_key = after("X509v3 Subject Key Identifier:");
        assert!(after("X509v3 Authority Key Identifier:").ends_with(&subject_key));
        let serial: u32 = after("Serial Number:").parse().unwrap();
        assert!((1..65_535).contains(&serial));
        // OpenSSL's own idea of the key id: the SHA-1 of the key's bits.
        let again = run(&["rsa", "-in", key, "-check", "-noout"]);
        assert!(again.contains("RSA key ok"), "{again}");
        assert_eq!(
            run(&["x509", "-in", crt, "-noout", "-modulus"]),
            run(&["rsa", "-in", key, "-noout", "-modulus"])
        );
        // Two years on it would be expired: ask about the moment it was made.
        let at = "1927857906";
        let verdict = run(&[
            "verify",
            "-attime",
            at,
            "-check_ss_sig",
            "-CAfile",
            crt,
            crt,
        ]);
        assert!(verdict.contains("OK"), "{verdict}");
    }

    #[test]
    fn body_has_no_armour_and_decodes() {
        use base64::Engine;
        let made = identity();
        let joined = made.base64_body("");
        let der = base64::engine::general_purpose::STANDARD
            .decode(joined)
            .unwrap();
        assert_eq!(der, made.cert_der().unwrap());
        assert!(made.base64_body(" ").contains(' ') && !made.base64_body(" ").contains('\n'));
    }

    #[test]
    fn what_was_written_is_read_and_a_missing_half_is_none() {
        let made = identity();
        let dir = tempfile::tempdir().unwrap();
        assert!(ClientIdentity::load(dir.path()).unwrap().is_none());
        std::fs::write(dir.path().join("oms.crt"), &made.cert_pem).unwrap();
        assert!(ClientIdentity::load(dir.path()).unwrap().is_none());
        std::fs::write(dir.path().join("oms.key"), "").unwrap();
        assert!(ClientIdentity::load(dir.path()).unwrap().is_none());
        std::fs::write(dir.path().join("oms.key"), made.key_pem.expose()).unwrap();
        let read = ClientIdentity::load(dir.path()).unwrap().unwrap();
        assert_eq!(read.cert_der().unwrap(), made.cert_der().unwrap());
    }

    #[test]
    fn files_have_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("oms.key"), "k").unwrap();
        std::fs::write(dir.path().join("oms.crt"), vec![b'x'; PEM_LIMIT]).unwrap();
        assert!(ClientIdentity::load(dir.path()).is_ok());
        std::fs::write(dir.path().join("oms.crt"), vec![b'x'; PEM_LIMIT + 1]).unwrap();
        assert!(ClientIdentity::load(dir.path()).is_err());
    }
}
