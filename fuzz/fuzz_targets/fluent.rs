//! omsagent.conf: the subset of fluentd's configuration language.
#![no_main]
use omsagent::settings::fluent;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let _ = fluent::parse("omsagent.conf", &text, &mut ());
    let _ = fluent::size(&text);
    let _ = fluent::duration(&text);
    let _ = fluent::boolean(&text);
});
