//! What an agent sends to the hub.
#![no_main]
use omsagent::wire::topology::{CertificateUpdateRequest, TopologyRequest};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(read) = TopologyRequest::parse(bytes) {
        assert!(TopologyRequest::parse(read.to_xml().as_bytes()).is_ok());
    }
    if let Ok(read) = CertificateUpdateRequest::parse(bytes) {
        assert_eq!(CertificateUpdateRequest::parse(read.compose().as_bytes()), Ok(read));
    }
});
