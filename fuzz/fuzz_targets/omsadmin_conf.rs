//! omsadmin.conf: what is written of what was read is read as the same.
#![no_main]
use omsagent::settings::omsadmin::OmsAdmin;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let read = OmsAdmin::parse(text);
    let _ = (read.workspace(), read.guid(), read.is_onboarded());
    if let Ok(written) = read.to_text() {
        let again = OmsAdmin::parse(&written);
        assert_eq!(again.to_text().unwrap(), written);
    }
});
