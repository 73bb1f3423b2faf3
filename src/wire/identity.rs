//! The agent's client certificate (protocol.md 1.6, "Client certificate").

use crate::base::secret::Secret;

/// A certificate and its private key, as PEM.
#[derive(Debug, Clone)]
pub struct ClientIdentity {
    /// oms.crt.
    pub cert_pem: String,
    /// oms.key.
    pub key_pem: Secret,
}
