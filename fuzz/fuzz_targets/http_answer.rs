//! An answer of a server or a proxy.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(answer) = omsagent::wire::http::whole_answer(bytes) {
        assert!((200..1000).contains(&answer.status));
        assert!(answer.body.len() <= bytes.len());
    }
});
