//! What comes to the syslog ports: framing, the message, the data item made of it.
#![no_main]
use omsagent::agent::syslog::{self, framing::Framing, item, stamp::Zone};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((cut, bytes)) = bytes.split_first() else {
        return;
    };
    let mut zone = Zone::new(jiff::tz::TimeZone::UTC);
    zone.set_now(1_790_000_000_000);
    let mut one = |line: &[u8]| {
        let mut out = Vec::new();
        if let Ok(message) = syslog::parse(line, Some(13), &mut zone) {
            let context = item::Context {
                now_ms: 1_790_000_000_000,
                host_ip: "Unknown IP",
                own_host: "host",
                with_facility: true,
            };
            item::push(&mut out, &message, context);
            assert!(std::str::from_utf8(&out).is_ok());
            assert!(out.iter().all(|b| *b >= b' '), "a control character in JSON");
        }
    };
    one(bytes);
    let mut framing = Framing::default();
    for piece in bytes.chunks(usize::from(*cut).max(1)) {
        framing.take(piece, &mut one);
    }
    framing.finish(&mut one);
});
