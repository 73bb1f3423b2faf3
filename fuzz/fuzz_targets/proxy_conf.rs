//! proxy.conf and the `-p` option.
#![no_main]
use omsagent::settings::proxy;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = proxy::parse_file(text);
    let _ = proxy::parse(text);
});
