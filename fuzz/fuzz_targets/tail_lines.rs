//! Lines of a file, whatever they hold and wherever a block ends, and their records.
#![no_main]
use omsagent::agent::tail::format::{Format, Parser};
use omsagent::agent::tail::lines::{Cursor, LINE_LIMIT, Line, split};

libfuzzer_sys::fuzz_target!(|input: (u8, bool, Vec<u8>)| {
    let (which, last, bytes) = input;
    let separated = |delimiter: &str, quotes| Format::Separated {
        delimiter: delimiter.into(),
        keys: vec!["a".into(), "time".into(), "b".into()],
        quotes,
    };
    let parser = Parser {
        format: match which % 5 {
            0 => Format::None,
            1 => Format::Json,
            2 => separated(",", true),
            3 => separated("\t", false),
            _ => Format::Labelled {
                delimiter: "\t".into(),
                label_delimiter: ":".into(),
            },
        },
        time_key: Some("time".into()),
        types: Vec::new(),
    };
    let mut behind = Cursor::default();
    let end = split(&bytes, Cursor::default(), last, |line, cursor| {
        assert!(cursor.next_read() > behind.next_read() || cursor.skipping.is_some());
        behind = cursor;
        let (Line::Whole(line) | Line::Cut(line)) = line;
        assert!(line.len() <= LINE_LIMIT);
        let mut out = Vec::new();
        if parser.record(&mut out, line, Some(("p", b"/x"))) == Ok(true) {
            assert!(out.starts_with(b"{") && out.ends_with(b"}"));
        }
        true
    });
    assert!(end.next_read() <= bytes.len() as u64);
});
