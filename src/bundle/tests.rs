//! Bundles that were built here, then altered: each must be refused, none may bring us down.

use super::index::{self, Sha256Hex};
use super::trailer::{self, Trailer};
use super::*;
use crate::package::Arch;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::OnceLock;

/// Larger than the pieces that are extracted at once, and no multiple of anything.
const LARGE: usize = (5 << 20) + 77;

fn build(dir: &Path, members: &[(&str, Kind, &[u8])]) -> Vec<u8> {
    let members = members.iter().map(|(name, kind, bytes)| {
        let path = dir.join(name);
        std::fs::write(&path, bytes).unwrap();
        let package = matches!(kind, Kind::Deb | Kind::Rpm);
        Source {
            path,
            name: (*name).to_owned(),
            kind: *kind,
            arch: (package || *kind == Kind::Runner).then_some(Arch::X86_64),
            package: package.then(|| ("omsagent".into(), "2.0.0-1".into(), 123_456)),
            kit: None,
        }
    });
    let plan = Plan {
        product: "omsagent".into(),
        release: "2.0.0-1".into(),
        members: members.collect(),
        sources: vec!["omsagent: 0123abc".into()],
    };
    let out = dir.join("bundle.sh");
    write(&plan, &out).unwrap();
    let mode = std::fs::metadata(&out).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
    std::fs::read(&out).unwrap()
}

fn small() -> &'static [u8] {
    static SMALL: OnceLock<Vec<u8>> = OnceLock::new();
    SMALL.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        build(
            dir.path(),
            &[
                ("a.deb", Kind::Deb, &[1; 5000]),
                ("b.rpm", Kind::Rpm, &[2; 4096]),
                ("runner", Kind::Runner, b"not really a program"),
                ("LICENCE", Kind::Licence, b"text"),
            ],
        )
    })
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Opened and every byte compared.
fn check(bytes: &[u8]) -> Result<Bundle> {
    let bundle = Bundle::open(file(bytes))?;
    bundle.verify(&mut |done, all| assert!(done <= all))?;
    Ok(bundle)
}

#[test]
fn what_is_built_is_read() {
    let bundle = check(small()).unwrap();
    let names: Vec<&str> = bundle.entries().iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["stub.sh", "runner", "a.deb", "b.rpm", "LICENCE"]);
    let deb = bundle.entry("a.deb").unwrap();
    assert_eq!(
        (deb.pkg.as_deref(), deb.version.as_deref(), deb.installed),
        (Some("omsagent"), Some("2.0.0-1"), Some(123_456))
    );
    assert_eq!(bundle.header().sources, ["omsagent: 0123abc"]);
    assert_eq!(bundle.size(), small().len() as u64);
    assert!(bundle.entry("none").is_none());
}

#[test]
fn the_same_parts_give_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let parts: [(&str, Kind, &[u8]); 2] = [
        ("runner", Kind::Runner, b"program"),
        ("LICENCE", Kind::Licence, b"text"),
    ];
    assert_eq!(build(dir.path(), &parts), build(dir.path(), &parts));
}

#[test]
fn what_cannot_be_built() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    std::fs::write(&path, "x").unwrap();
    std::fs::write(dir.path().join("empty"), "").unwrap();
    std::fs::write(dir.path().join("bad name"), "x").unwrap();
    let runner = || Source::runner(Arch::X86_64, &path);
    let document = |name: &str| Source::document(&dir.path().join(name), Kind::Sbom);
    let attempt = |members: Vec<Source>, release: &str| {
        let plan = Plan {
            product: "omsagent".into(),
            release: release.into(),
            members,
            sources: vec![],
        };
        write(&plan, &dir.path().join("out"))
    };
    assert!(attempt(vec![runner()], "2.0.0-1").is_ok());
    assert!(attempt(vec![], "2.0.0-1").is_err(), "no runner");
    assert!(attempt(vec![runner()], "two").is_err());
    assert!(attempt(vec![runner(), runner()], "2.0.0-1").is_err());
    assert!(attempt(vec![runner(), document("empty").unwrap()], "2.0.0-1").is_err());
    assert!(attempt(vec![runner(), document("none").unwrap()], "2.0.0-1").is_err());
    assert!(document("bad name").is_err());
}

#[test]
fn damage_names_the_entry() {
    let bundle = check(small()).unwrap();
    for entry in bundle.entries() {
        let mut bytes = small().to_vec();
        // In the stub: a place that is not one of its numbers.
        bytes[(entry.offset + entry.size / 2) as usize] ^= 1;
        let error = check(&bytes).unwrap_err();
        assert!(matches!(error, BundleError::Hash { .. }), "{error}");
        assert!(error.to_string().contains(&entry.name), "{error}");
    }
    let mut bytes = small().to_vec();
    bytes[STUB_SIZE as usize + 100] = 1;
    let error = Bundle::open(file(&bytes)).unwrap_err().to_string();
    assert!(error.contains("after entry `runner`"), "{error}");
}

#[test]
fn wrong_sizes_are_told_apart() {
    let error = |bytes: &[u8]| check(bytes).unwrap_err().to_string();
    let mut longer = small().to_vec();
    longer.extend_from_slice(&small()[small().len() - 128..]);
    assert!(error(&longer).contains("128 bytes too many"));
    let mut shorter = small().to_vec();
    shorter.drain(20_000..20_010);
    assert!(error(&shorter).contains("truncated"));
    assert!(error(&small()[..30_000]).contains("cut off"));
    assert!(error(b"").contains("cut off"));
    assert!(error(&[0; 128]).contains("cut off"));
    let (pipe, _writer) = std::io::pipe().unwrap();
    let pipe = File::from(std::os::fd::OwnedFd::from(pipe));
    assert!(Bundle::open(pipe).is_err());
}

#[test]
fn extracting() {
    let dir = tempfile::tempdir().unwrap();
    let large: Vec<u8> = (0..LARGE).map(|i| (i / 3) as u8).collect();
    let bytes = build(
        dir.path(),
        &[
            ("runner", Kind::Runner, b"program"),
            ("large", Kind::Sbom, &large),
        ],
    );
    let bundle = check(&bytes).unwrap();
    let to = dir.path().join("to");
    std::fs::create_dir(&to).unwrap();
    for (name, mode) in [("runner", 0o700), ("large", 0o666)] {
        let entry = bundle.entry(name).unwrap();
        let path = to.join(name);
        bundle.extract(entry, &path, mode).unwrap();
        let look = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(look & 0o7777, mode, "whatever the umask");
        assert_eq!(
            std::fs::read(&path).unwrap(),
            std::fs::read(dir.path().join(name)).unwrap()
        );
        // What is there stays.
        std::fs::write(&path, "mine").unwrap();
        let error = bundle.extract(entry, &path, mode).unwrap_err();
        assert!(matches!(error, BundleError::Write { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        let link = to.join("link");
        std::os::unix::fs::symlink(to.join("elsewhere"), &link).unwrap();
        assert!(bundle.extract(entry, &link, mode).is_err());
        assert!(!to.join("elsewhere").exists());
        std::fs::remove_file(link).unwrap();
    }
    assert!(
        bundle
            .extract(&bundle.entries()[1], &to.join("no/folder"), 0o600)
            .is_err()
    );
}

#[test]
fn what_does_not_match_is_taken_away_again() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = build(
        dir.path(),
        &[
            ("runner", Kind::Runner, b"program"),
            ("large", Kind::Sbom, &[5; LARGE]),
        ],
    );
    let entries = check(&bytes).unwrap().entries;
    for entry in &entries[1..] {
        for at in [entry.offset, entry.offset + entry.size - 1] {
            let mut bad = bytes.clone();
            bad[at as usize] ^= 0x80;
            let bundle = Bundle::open(file(&bad)).unwrap();
            let path = dir.path().join("out");
            let error = bundle.extract(entry, &path, 0o600).unwrap_err();
            assert!(matches!(error, BundleError::Hash { .. }), "{error}");
            assert!(!path.exists());
        }
        // The file shrinks under an open bundle.
        let shrinking = file(&bytes);
        let bundle = Bundle::open(shrinking.try_clone().unwrap()).unwrap();
        shrinking.set_len(entry.offset + 1).unwrap();
        let path = dir.path().join("out");
        assert!(bundle.extract(entry, &path, 0o600).is_err());
        assert!(!path.exists());
    }
}

#[test]
fn all_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let parts: Vec<(String, Vec<u8>)> = (0..9u8)
        .map(|i| (format!("part{i}"), vec![i; usize::from(i) * 300_000 + 1]))
        .collect();
    let mut members: Vec<(&str, Kind, &[u8])> = vec![("runner", Kind::Runner, b"program")];
    members.extend(
        parts
            .iter()
            .map(|(n, b)| (n.as_str(), Kind::Sbom, b.as_slice())),
    );
    let bytes = build(dir.path(), &members);
    let to = dir.path().join("to");
    std::fs::create_dir(&to).unwrap();
    let count = || std::fs::read_dir(&to).unwrap().count();
    let extract = |bytes: &[u8]| {
        let bundle = Bundle::open(file(bytes)).unwrap();
        let wanted = |entry| Extraction {
            entry,
            path: to.join(&entry.name),
            mode: 0o640,
        };
        let wanted: Vec<Extraction> = bundle.entries().iter().map(wanted).collect();
        bundle.extract_all(&wanted)
    };
    let last = check(&bytes).unwrap().entry("part8").unwrap().clone();
    let mut bad = bytes.clone();
    bad[(last.offset + last.size - 1) as usize] ^= 1;
    let error = extract(&bad).unwrap_err().to_string();
    assert!(error.contains("`part8`"), "{error}");
    assert_eq!(count(), 0);
    // What was there before is in the way, and stays.
    std::fs::write(to.join("part0"), "mine").unwrap();
    assert!(extract(&bytes).is_err());
    assert_eq!(count(), 1);
    assert_eq!(std::fs::read(to.join("part0")).unwrap(), b"mine");
    std::fs::remove_file(to.join("part0")).unwrap();
    extract(&bytes).unwrap();
    assert_eq!(count(), 11);
    for (name, bytes) in &parts {
        assert!(std::fs::read(to.join(name)).unwrap() == *bytes, "{name}");
    }
    assert!(Bundle::open(file(&bytes)).unwrap().extract_all(&[]).is_ok());
}

/// What may happen to a file on its way.
#[derive(Debug, Clone)]
enum Mishap {
    Append(Vec<u8>),
    Cut(prop::sample::Index),
    Delete(prop::sample::Index, usize),
    Flip(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Overwrite(prop::sample::Index, Vec<u8>),
    Swap(prop::sample::Index, prop::sample::Index, usize),
}

fn mishap() -> impl Strategy<Value = Mishap> {
    let place = any::<prop::sample::Index>;
    let bytes = || prop::collection::vec(any::<u8>(), 1..300);
    prop_oneof![
        bytes().prop_map(Mishap::Append),
        place().prop_map(Mishap::Cut),
        (place(), 1usize..5000).prop_map(|(at, n)| Mishap::Delete(at, n)),
        (place(), 0u8..8).prop_map(|(at, bit)| Mishap::Flip(at, bit)),
        (place(), bytes()).prop_map(|(at, b)| Mishap::Insert(at, b)),
        (place(), bytes()).prop_map(|(at, b)| Mishap::Overwrite(at, b)),
        (place(), place(), 1usize..300).prop_map(|(a, b, n)| Mishap::Swap(a, b, n)),
    ]
}

fn suffer(bytes: &mut Vec<u8>, mishap: &Mishap, near_end: bool) {
    // Half of them where it hurts: in the index, behind it, in the trailer.
    let from = if near_end {
        bytes.len().saturating_sub(2600)
    } else {
        0
    };
    let len = bytes.len() - from;
    if len == 0 {
        return;
    }
    let at = |index: &prop::sample::Index| from + index.index(len);
    match mishap {
        Mishap::Append(more) => bytes.extend_from_slice(more),
        Mishap::Cut(i) => bytes.truncate(at(i)),
        Mishap::Delete(i, n) => {
            let begin = at(i);
            let end = (begin + n).min(bytes.len());
            bytes.drain(begin..end);
        }
        Mishap::Flip(i, bit) => {
            let place = at(i);
            bytes[place] ^= 1 << bit;
        }
        Mishap::Insert(i, more) => {
            let place = at(i);
            bytes.splice(place..place, more.iter().copied());
        }
        Mishap::Overwrite(i, with) => {
            let place = at(i);
            for (old, new) in bytes[place..].iter_mut().zip(with) {
                *old = *new;
            }
        }
        Mishap::Swap(a, b, n) => {
            for k in 0..*n {
                let (a, b) = (at(a) + k, at(b) + k);
                if a < bytes.len() && b < bytes.len() {
                    bytes.swap(a, b);
                }
            }
        }
    }
}

/// An index that someone has written on purpose, with hashes, stub and trailer made to fit.
fn resealed(entries: &[Entry], says: usize, bytes: &[u8]) -> Vec<u8> {
    let old = Bundle::open(file(small())).unwrap();
    let index_offset = old
        .entries
        .last()
        .map(|e| aligned(e.offset + e.size))
        .unwrap()
        .unwrap();
    let mut header = old.header.clone();
    header.entries = says;
    let mut entries = entries.to_vec();
    let len = index::write(&header, &entries).unwrap().len() as u64;
    let total = trailer::total(index_offset, len);
    let text = String::from_utf8(bytes[..STUB_SIZE as usize].to_vec()).unwrap();
    let lines = text.lines().map(|line| {
        if line.starts_with("# index ") {
            format!("# index {index_offset} {len}\n")
        } else if line.starts_with("total=") {
            format!("total={total}\n")
        } else {
            format!("{line}\n")
        }
    });
    let mut stub: Vec<u8> = lines.collect::<String>().trim_end().into();
    stub.resize(STUB_SIZE as usize, b'\n');
    for entry in entries.iter_mut().filter(|e| e.kind == Kind::Stub) {
        entry.sha256 = Sha256Hex::of(&Sha256::digest(&stub));
    }
    let index = index::write(&header, &entries).unwrap();
    let mut made = bytes[..index_offset as usize].to_vec();
    made[..STUB_SIZE as usize].copy_from_slice(&stub);
    made.extend_from_slice(&index);
    made.resize(made.len() + SIGNATURE_PLACE as usize, 0);
    let trailer = Trailer {
        index_offset,
        index_len: len,
        index_sha256: Sha256::digest(&index).into(),
        signature_len: 0,
    };
    made.extend_from_slice(&trailer.bytes());
    made
}

#[test]
fn resealing_itself_is_accepted() {
    let entries = Bundle::open(file(small())).unwrap().entries;
    assert!(check(&resealed(&entries, entries.len(), small())).is_ok());
    assert!(check(&resealed(&entries, 1 << 60, small())).is_err());
}

/// How many damaged bundles of each kind; `tests/sweep/mutate.sh` asks for more.
fn cases() -> u32 {
    let asked = std::env::var("OMSAGENT_MUTATIONS").ok();
    asked.and_then(|n| n.parse().ok()).unwrap_or(1000)
}

fn hostile_number() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(u64::MAX - 4095),
        (0u64..20).prop_map(|n| n * ALIGN),
        any::<u64>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn no_mishap_is_overlooked(
        mishaps in prop::collection::vec((mishap(), any::<bool>()), 1..4),
    ) {
        let mut bytes = small().to_vec();
        for (mishap, near_end) in &mishaps {
            suffer(&mut bytes, mishap, *near_end);
        }
        if bytes != small() {
            prop_assert!(check(&bytes).is_err(), "{:?}", mishaps);
        }
    }

    #[test]
    fn no_hostile_index_gets_through(
        which in 0usize..5,
        other in 0usize..5,
        numbers in (hostile_number(), hostile_number()),
        name in "[A-Za-z0-9./ _-]{0,6}",
        what in 0u8..8,
    ) {
        let mut entries = Bundle::open(file(small())).unwrap().entries;
        let before = entries.clone();
        match what {
            0 => entries[which].offset = numbers.0,
            1 => entries[which].size = numbers.0,
            2 => (entries[which].offset, entries[which].size) = numbers,
            3 => entries[which].name = name,
            4 => entries[which].kind = entries[other].kind,
            5 => entries.swap(which, other),
            6 => { let copy = entries[other].clone(); entries.insert(which, copy); }
            _ => { entries.remove(which); }
        }
        let accepted = check(&resealed(&entries, entries.len(), small()));
        if let Ok(bundle) = accepted {
            // Only what a careful writer could have made as well.
            let mut end = 0;
            let mut names = std::collections::HashSet::new();
            for entry in bundle.entries() {
                prop_assert_eq!(entry.offset, end);
                end = (entry.offset + entry.size).next_multiple_of(ALIGN);
                prop_assert!(names.insert(&entry.name) && !entry.name.contains(['/', ' ']));
            }
            let changed_name = before.iter().zip(&entries).all(|(a, b)| a.offset == b.offset);
            prop_assert!(changed_name && entries.len() == before.len());
        }
    }

    #[test]
    fn no_text_brings_the_index_reader_down(text in "\\PC{0,200}(\n\\PC{0,80}){0,4}\n") {
        prop_assert!(index::parse(text.as_bytes(), 16_384).is_err());
    }

    #[test]
    fn no_bytes_bring_the_reader_down(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut padded = vec![b'\n'; STUB_SIZE as usize];
        padded.extend_from_slice(&bytes);
        prop_assert!(Bundle::open(file(&padded)).is_err());
    }
}

const SECRET: &str = include_str!("../../tests/data/minisign/test.key");

/// A signed bundle in a folder of its own, and the key.
fn signed() -> (tempfile::TempDir, std::path::PathBuf, PublicKey) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("b.sh");
    std::fs::write(&path, small()).unwrap();
    let key = SecretKey::parse(SECRET).unwrap();
    sign(&path, &key).unwrap();
    (dir, path, key.public())
}

#[test]
fn who_made_it() {
    let (_dir, path, key) = signed();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len(), small().len(), "the place was there already");
    let trusted = check(&bytes).unwrap().trust(Some(&key)).unwrap();
    let by = key.id();
    let comment = "omsagent 2.0.0-1 index".to_owned();
    assert_eq!(trusted, Trust::Signed { by, comment });
    let unchecked = Trust::Unchecked { by };
    assert_eq!(check(&bytes).unwrap().trust(None).unwrap(), unchecked);
    // Signing again changes nothing.
    sign(&path, &SecretKey::parse(SECRET).unwrap()).unwrap();
    assert!(std::fs::read(&path).unwrap() == bytes);

    assert_eq!(
        check(small()).unwrap().trust(None).unwrap(),
        Trust::Unsigned
    );
    let wanted = |error| match error {
        BundleError::Signature(error) => error,
        other => panic!("{other}"),
    };
    let error = check(small()).unwrap().trust(Some(&key)).unwrap_err();
    assert_eq!(wanted(error), SignatureError::Missing { wanted: by });
    let other = SecretKey::parse(&SecretKey::make().unwrap()).unwrap();
    let error = check(&bytes).unwrap().trust(Some(&other.public()));
    let error = wanted(error.unwrap_err());
    assert!(matches!(error, SignatureError::OtherKey { .. }), "{error}");
}

/// Somebody who can repair every hash and checksum, but has not the key.
#[test]
fn a_signature_cannot_be_moved_to_another_bundle() {
    let (_dir, path, key) = signed();
    let bytes = std::fs::read(&path).unwrap();
    let end = bytes.len() - (SIGNATURE_PLACE + TRAILER_SIZE) as usize;
    let mut entries = Bundle::open(file(small())).unwrap().entries;
    entries[4].name = "OTHER".into();
    let mut forged = resealed(&entries, entries.len(), small());
    let place = forged.len() - (SIGNATURE_PLACE + TRAILER_SIZE) as usize;
    let size = forged.len() as u64;
    let at = place + SIGNATURE_PLACE as usize;
    forged[place..at].copy_from_slice(&bytes[end..end + SIGNATURE_PLACE as usize]);
    let mut trailer = Trailer::parse(forged[at..].try_into().unwrap(), size).unwrap();
    let text = &forged[place..at];
    trailer.signature_len = text.iter().position(|b| *b == 0).unwrap() as u64;
    let trailer = trailer.bytes();
    forged[at..].copy_from_slice(&trailer);
    let bundle = check(&forged).unwrap();
    let error = bundle.trust(Some(&key)).unwrap_err();
    let by = key.id();
    assert!(matches!(error, BundleError::Signature(SignatureError::Forged { by: b }) if b == by));
}

#[test]
fn no_byte_of_a_signed_bundles_end_is_free() {
    let (_dir, path, key) = signed();
    let good = std::fs::read(&path).unwrap();
    let place = good.len() - (SIGNATURE_PLACE + TRAILER_SIZE) as usize;
    let text = good[place..].iter().position(|b| *b == 0).unwrap();
    let free =
        "untrusted comment: ".len().."untrusted comment: signature by key 0123456789ABCDEF".len();
    for at in 0..good.len() - place {
        let mut bad = good.clone();
        bad[place + at] ^= 1;
        let accepted = Bundle::open(file(&bad)).and_then(|b| b.trust(Some(&key)));
        // The untrusted comment is what its name says; every other byte counts.
        assert!(accepted.is_err() || free.contains(&at), "{at} of {text}");
    }
}

#[test]
fn the_sidecar_is_of_the_whole_file() {
    let (_dir, path, key) = signed();
    assert!(!verify_sidecar(&path, &key).unwrap(), "there is none yet");
    let secret = SecretKey::parse(SECRET).unwrap();
    let made = sidecar(&path, &secret).unwrap();
    assert_eq!(made.file_name().unwrap(), "b.sh.minisig");
    assert!(verify_sidecar(&path, &key).unwrap());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[9000] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert!(verify_sidecar(&path, &key).is_err());
    std::fs::write(&made, "x").unwrap();
    assert!(verify_sidecar(&path, &key).is_err());
}
