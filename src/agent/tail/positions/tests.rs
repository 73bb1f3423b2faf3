//! What must hold whatever happens to the file.

use super::*;
use proptest::prelude::*;

fn record(path: &str, ino: u64, offset: u64) -> Record {
    Record {
        path: path.into(),
        real: None,
        id: Id { dev: 3, ino },
        fingerprint: Fingerprint {
            length: 12,
            hash: 77,
        },
        offset,
        time_ms: 1_944_036_672_345,
    }
}

#[test]
fn what_is_saved_is_there_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pos");
    let mut positions = Positions::open(&path, dir.path()).unwrap();
    let odd = Record {
        real: Some("/r\n\\t".into()),
        ..record("/a\tb\\n", 9, 0)
    };
    positions.set(record("/x", 1, 10));
    positions.set(odd.clone());
    positions.save().unwrap();
    positions.set(record("/x", 1, 20));
    positions.set(record("/x", 2, 5));
    positions.forget(Path::new("/nosuch"), 1);
    positions.save().unwrap();
    positions.set(record("/x", 1, 30)); // never saved
    let again = Positions::open(&path, dir.path()).unwrap();
    let mut of_x = again.of(Path::new("/x"));
    of_x.sort_by_key(|r| r.id.ino);
    assert_eq!(of_x, [record("/x", 1, 20), record("/x", 2, 5)]);
    assert_eq!(again.of(&odd.path), [odd]);
    let mut again = again;
    again.forget(Path::new("/x"), 1);
    again.save().unwrap();
    let third = Positions::open(&path, dir.path()).unwrap();
    assert_eq!(third.of(Path::new("/x")), [record("/x", 2, 5)]);
}

#[test]
fn cut_anywhere_it_gives_old_or_new_positions() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pos");
    let mut positions = Positions::open(&path, dir.path()).unwrap();
    for (ino, offset) in [(1, 10), (2, 10), (1, 20), (2, 20)] {
        positions.set(record("/x", ino, offset));
        positions.save().unwrap();
    }
    let whole = std::fs::read(&path).unwrap();
    let (mut seen_old, mut seen_new) = (false, false);
    for cut in 0..=whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let mut positions = Positions::open(&path, dir.path()).unwrap();
        for r in positions.of(Path::new("/x")) {
            assert!(matches!(r.offset, 10 | 20), "{r:?}");
            seen_old |= r.offset == 10;
            seen_new |= r.offset == 20;
        }
        // And what is written behind it counts.
        positions.set(record("/y", 7, 70));
        positions.save().unwrap();
        let again = Positions::open(&path, dir.path()).unwrap();
        assert_eq!(again.of(Path::new("/y")), [record("/y", 7, 70)], "{cut}");
    }
    assert!(seen_old && seen_new);
}

#[test]
fn the_originals_file_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pos");
    let text = "/var/log/a.log\t00000000000000ff\t0000000000000011\n\
                /var/log/b.log\tffffffffffffffff\t0000000000000012\nrubbish\n";
    std::fs::write(&path, text).unwrap();
    let positions = Positions::open(&path, dir.path()).unwrap();
    let [a] = &positions.of(Path::new("/var/log/a.log"))[..] else {
        panic!("{:?}", positions.records);
    };
    assert_eq!(
        (a.offset, a.id, a.time_ms),
        (255, Id { dev: 0, ino: 17 }, 0)
    );
    assert!(positions.of(Path::new("/var/log/b.log")).is_empty());
    // In our own form from now on, and the same.
    let again = Positions::open(&path, dir.path()).unwrap();
    assert_eq!(
        again.of(Path::new("/var/log/a.log")),
        std::slice::from_ref(a)
    );
    assert!(!std::fs::read_to_string(&path).unwrap().contains("rubbish"));
}

#[test]
fn one_that_cannot_be_written_is_kept_in_the_state_folder() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    // A folder in its way: not writable for root either.
    let wanted = dir.path().join("missing/x.pos");
    let mut positions = Positions::open(&wanted, &state).unwrap();
    assert_eq!(positions.path(), state.join("x.pos"));
    positions.set(record("/x", 1, 10));
    positions.save().unwrap();
    let again = Positions::open(&wanted, &state).unwrap();
    assert_eq!(again.of(Path::new("/x")).len(), 1);
}

#[test]
fn it_stays_small_and_forgets_the_oldest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pos");
    let mut positions = Positions::open(&path, dir.path()).unwrap();
    for offset in 0..5000 {
        positions.set(record("/x", 1, offset));
        positions.save().unwrap();
    }
    assert!(path.metadata().unwrap().len() <= COMPACT_AT);
    for n in 0..=RECORDS_LIMIT as u64 {
        let mut r = record(&format!("/many/{n}"), n, n);
        r.time_ms += n;
        positions.set(r);
    }
    assert!(positions.records.len() <= RECORDS_LIMIT);
    assert!(positions.of(Path::new("/x")).is_empty(), "the oldest");
    let newest = positions.of_inode(RECORDS_LIMIT as u64).next();
    assert!(newest.is_some_and(|r| r.offset == RECORDS_LIMIT as u64));
    for n in 0..=GENERATIONS_LIMIT as u64 {
        positions.set(record("/x", n, n));
    }
    let of_x = positions.of(Path::new("/x"));
    assert_eq!(of_x.len(), GENERATIONS_LIMIT);
    assert!(of_x.iter().all(|r| r.id.ino > 0));
}

proptest! {
    #[test]
    fn any_bytes_are_read(bytes: Vec<u8>) {
        let _ = read(&bytes);
    }

    #[test]
    fn a_line_comes_back(path in prop::collection::vec(1_u8.., 1..20), ino: u64, offset in 0..u64::MAX) {
        let mut r = record("", ino, offset);
        r.path = OsString::from_vec(path).into();
        let line = r.line(offset);
        prop_assert_eq!(Record::parse(&line[..line.len() - 1]), Some(r));
    }
}
