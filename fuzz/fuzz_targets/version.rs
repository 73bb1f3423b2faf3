//! Versions: comparing is a total order whatever the texts.
#![no_main]
use omsagent::package::version::Version;

libfuzzer_sys::fuzz_target!(|texts: (&str, &str)| {
    if let (Ok(a), Ok(b)) = (Version::parse(texts.0), Version::parse(texts.1)) {
        assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
        assert!(!(a.is_newer_than(&b) && b.is_newer_than(&a)));
    }
    let _ = Version::from_file_name("omsagent", texts.0);
});
