//! omsagent.conf: the subset of fluentd's configuration language.
#![no_main]
use omsagent::agent::config::{Settings, convert};
use omsagent::settings::fluent;
use std::path::Path;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(document) = fluent::parse("omsagent.conf", &text, &mut ()) {
        let (settings, review) = Settings::review(&document, Path::new("/state"));
        if review.problem().is_none() {
            // What is written anew is a configuration, and the same one.
            let new = convert::convert(&document, &review);
            let document = fluent::parse("new.conf", &new, &mut ()).expect("not readable");
            let again = Settings::from_document(&document, Path::new("/state")).expect("not usable");
            assert_eq!(again.outputs.len(), settings.outputs.len());
            assert_eq!(again.syslog.len(), settings.syslog.len());
        }
    }
    let _ = fluent::size(&text);
    let _ = fluent::duration(&text);
    let _ = fluent::boolean(&text);
});
