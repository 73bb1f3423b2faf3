//! A whole bundle, as it may come from anywhere.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // The stub's place is mostly the same newlines: it is not part of the input.
    let mut whole = vec![b'\n'; omsagent::bundle::STUB_SIZE as usize];
    let stub = bytes.len().min(256);
    whole[..stub].copy_from_slice(&bytes[..stub]);
    whole.extend_from_slice(&bytes[stub..]);
    omsagent_fuzz::as_file(&whole, |file| {
        if let Ok(bundle) = omsagent::bundle::Bundle::open(file.try_clone().unwrap()) {
            let _ = bundle.verify(&mut |_, _| {});
        }
    });
});
