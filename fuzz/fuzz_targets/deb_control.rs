//! The control archive of a .deb: tar and the fields in it, behind ar and gzip that are sound.
#![no_main]
use std::io::Write;

libfuzzer_sys::fuzz_target!(|tar: &[u8]| {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    packed.write_all(tar).unwrap();
    let packed = packed.finish().unwrap();
    let mut deb = b"!<arch>\n".to_vec();
    let (name, size) = ("control.tar.gz", packed.len());
    deb.extend_from_slice(format!("{name:<16}{0:<12}{0:<6}{0:<6}{0:<8}{size:<10}`\n", 0).as_bytes());
    deb.extend_from_slice(&packed);
    omsagent_fuzz::as_file(&deb, |file| {
        let _ = omsagent::package::deb::identify(file);
        let _ = omsagent::package::deb::walk(file, &mut |_, _| Ok(()));
    });
});
