//! Texts of /proc and expressions: the first line is searched for in the others.
#![no_main]
use omsagent::agent::counters::{block::Devices, memory, mounts, network, process, processor, regex::Regex};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    if let Ok(regex) = Regex::new(first) {
        rest.lines().for_each(|line| {
            regex.finds(line);
        });
        assert_eq!(regex.finds(rest), regex.finds(rest));
    }
    assert!(mounts::parse(text).len() <= mounts::LIMIT);
    assert!(network::parse(text).iter().all(|l| l.values().values.len() == 8));
    let sample = processor::Sample::parse(text);
    assert!(sample.values(Some(&processor::Sample::parse(rest))).iter().all(|i| i.values.len() == 8));
    drop(Devices::parse(text));
    let _ = (memory::Paging::parse(text), memory::Paging::parse_stat(text));
    if let Some(stock) = memory::Stock::parse(text) {
        memory::values(stock, memory::Paging::parse(text), None);
    }
    drop(process::Stat::parse(1, text.as_bytes()));
});
