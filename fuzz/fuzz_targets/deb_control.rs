//! The control archive of a .deb: tar and the fields in it, behind ar and gzip that are sound.
#![no_main]
use omsagent::package::deb;

libfuzzer_sys::fuzz_target!(|tar: &[u8]| {
    let data = omsagent_fuzz::tar_of(&[("./etc/x.conf", b"x")]);
    let parts = [("control.tar.gz", tar), ("data.tar.gz", data.as_slice())];
    omsagent_fuzz::as_file(&omsagent_fuzz::deb_of(&parts), |file| {
        let _ = deb::identify(file);
        // Its list of configuration files is looked into for each file.
        let _ = deb::walk(file, &mut |_, _| Ok(()));
    });
});
