//! Floor 3: what goes over the network: TLS, proxy, HTTP client, signatures, topology XML, data
//! envelopes - shared by agent, workspace, hub and doctor.

pub mod authority;
pub mod azure;
pub mod certificate;
pub mod date;
pub mod http;
pub mod identity;
pub mod metadata;
pub mod renewal;
pub mod signature;
pub mod tls;
pub mod topology;
pub mod upload;
pub mod windows_zone;
