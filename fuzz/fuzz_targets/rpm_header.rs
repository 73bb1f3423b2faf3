//! An .rpm from anywhere.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    omsagent_fuzz::as_file(bytes, |file| {
        let _ = omsagent::package::rpm::identify(file);
        let _ = omsagent::package::rpm::walk(file, &mut |_, _| Ok(()));
    });
});
