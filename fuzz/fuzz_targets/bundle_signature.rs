//! The signature in a bundle and the keys people give: no text brings the reader down, none verifies.
#![no_main]
use omsagent::bundle::signature::{PublicKey, SecretKey, Signature};

const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let _ = PublicKey::parse(text);
    let _ = SecretKey::parse(text);
    if let Ok(signature) = Signature::parse(text) {
        let key = PublicKey::parse(KEY).unwrap();
        assert!(key.verify(b"not what was signed", &signature).is_err());
        assert!(Signature::parse(&signature.text()).is_ok());
    }
});
