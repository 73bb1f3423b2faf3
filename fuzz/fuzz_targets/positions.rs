//! A position file: ours, the original's, a torn one, somebody's edit.
#![no_main]
use omsagent::agent::tail::positions;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let content = positions::read(bytes);
    let lines = bytes.split(|&b| b == b'\n').count();
    assert!(content.records.len() + content.damaged <= lines);
});
