//! What a service answers to onboarding and topology requests.
#![no_main]
use omsagent::wire::topology::{self, TopologyResponse};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(reason) = topology::reason(bytes) {
        assert!(reason.chars().count() <= 200 && !reason.contains(char::is_control));
    }
    let _ = TopologyResponse::parse(bytes);
});
