//! The files of an .rpm: the bytes are the cpio archive itself; the headers and gzip are sound.
#![no_main]
use omsagent::package::rpm;
use std::io::Read;

libfuzzer_sys::fuzz_target!(|cpio: &[u8]| {
    let begins = PACKAGE.windows(3).position(|at| at == [0x1f, 0x8b, 8]);
    let mut whole = PACKAGE[..begins.expect("the seed has a payload")].to_vec();
    whole.extend_from_slice(&omsagent_fuzz::gzip(cpio));
    omsagent_fuzz::as_file(&whole, |file| {
        assert!(rpm::identify(file).is_ok());
        let _ = rpm::walk(file, &mut |_, bytes| {
            std::io::copy(&mut bytes.take(1 << 20), &mut std::io::sink())?;
            Ok(())
        });
    });
});

/// Its header names the paths that the corpus has.
const PACKAGE: &[u8] = include_bytes!("../corpus/rpm_header/small");
