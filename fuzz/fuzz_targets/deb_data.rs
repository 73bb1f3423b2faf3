//! The files of a .deb: the bytes are the tar itself; ar, gzip and the control archive are sound.
#![no_main]
use omsagent::package::deb;
use std::io::Read;

libfuzzer_sys::fuzz_target!(|tar: &[u8]| {
    let control = omsagent_fuzz::tar_of(&[("./control", CONTROL), ("./conffiles", CONFFILES)]);
    let parts = [("control.tar.gz", control.as_slice()), ("data.tar.gz", tar)];
    omsagent_fuzz::as_file(&omsagent_fuzz::deb_of(&parts), |file| {
        assert!(deb::identify(file).is_ok());
        let _ = deb::walk(file, &mut |_, bytes| {
            // As who lays it down does: to its end, but not for ever.
            std::io::copy(&mut bytes.take(1 << 20), &mut std::io::sink())?;
            Ok(())
        });
    });
});

const CONTROL: &[u8] = b"Package: x\nVersion: 1-1\nArchitecture: amd64\nInstalled-Size: 1\n";
const CONFFILES: &[u8] = b"/etc/x.conf\n";
