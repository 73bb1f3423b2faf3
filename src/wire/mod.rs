//! Floor 3: what goes over the network: TLS, proxy, HTTP client, signatures, topology XML, data
//! envelopes - shared by agent, workspace, hub and doctor.

pub mod certificate;
pub mod http;
pub mod identity;
pub mod tls;
