//! The index of a bundle: what is accepted obeys every rule of the format.
#![no_main]
use omsagent::bundle::{ALIGN, ENTRY_LIMIT, Kind, index};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // Where the index begins: two bytes in front, in units of ALIGN.
    let Some((place, text)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let offset = u64::from(u16::from_le_bytes(*place)) * ALIGN;
    let Ok((header, entries)) = index::parse(text, offset) else {
        return;
    };
    assert_eq!(header.entries, entries.len());
    assert!(entries.len() <= ENTRY_LIMIT);
    assert!(entries[0].kind == Kind::Stub);
    let mut end = 0;
    let mut names = std::collections::HashSet::new();
    for entry in &entries {
        assert_eq!(entry.offset, end);
        end = (entry.offset + entry.size).next_multiple_of(ALIGN);
        assert!(names.insert(&entry.name) && !entry.name.contains('/'));
        assert!(!entry.name.starts_with('.'));
    }
    assert_eq!(end, offset);
    let again = index::write(&header, &entries).unwrap();
    let (header_again, entries_again) = index::parse(&again, offset).unwrap();
    assert!(header == header_again && entries == entries_again);
});
