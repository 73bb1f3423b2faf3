use super::*;

/// Notes what was done.
#[derive(Default)]
struct Notes(Vec<String>, bool);

impl Immediate for Notes {
    fn line(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }
    fn debug(&mut self) {
        self.0.push("debug".into());
    }
    fn sources(&mut self) -> Result<Vec<String>, String> {
        Ok(vec!["one: 1".into(), "two: 2".into()])
    }
    fn write_half(&mut self, half: Half, to: &Path) -> Result<(), String> {
        self.0.push(format!("{half:?} {}", to.display()));
        Ok(())
    }
    fn mark_opsmgr(&mut self) -> Result<(), String> {
        self.0.push("opsmgr".into());
        if self.1 {
            return Ok(());
        }
        Err("cannot".into())
    }
}

fn run(root: bool, words: &[&str]) -> Result<Request, Stop> {
    noted(root, words).0
}

fn noted(root: bool, words: &[&str]) -> (Result<Request, Stop>, Vec<String>) {
    let mut notes = Notes(Vec::new(), root);
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    let mut stdin = "from-stdin\n".as_bytes();
    let around = Surroundings {
        argv0: "./b.sh",
        version: "2.0.0.1",
        root,
        key_variable: None,
        ca_variable: None,
        stdin: &mut stdin,
        now: &mut notes,
    };
    (parse(&words, around).map_err(|s| *s), notes.0)
}

fn code(root: bool, words: &[&str]) -> u8 {
    run(root, words).map_or_else(|s| s.code, |_| 0)
}

#[test]
fn outcomes_of_bundle_md_1_2() {
    for (root, words, want) in [
        (true, &[][..], 3),
        (true, &["--force"], 3),
        (true, &["--bogus"], 2),
        (true, &["--install=yes"], 2),
        (true, &["--install", "--upgrade"], 2),
        (true, &["--install", "--install"], 2),
        (false, &["--install"], 5),
        (false, &["--upgrade"], 5),
        (false, &["--remove"], 5),
        (false, &["--purge"], 5),
        (false, &["--extract"], 0),
        (false, &["--version-check"], 0),
        (false, &["--install", "--help"], 5),
        (false, &["--help", "--install"], 0),
        (false, &["-?"], 0),
        (true, &["--version-check", "--install"], 2),
        (true, &["--install", "--version-check"], 0),
        (true, &["--install", "-w", "x"], 2),
        (true, &["--install", "-s", "x"], 2),
        (true, &["--install", "-d", "x"], 2),
        (true, &["--install", "-w", "", "-s", ""], 0),
        (true, &["--install", "-p", "x"], 0),
        (true, &["--install", "-w", "x", "-s"], 2),
        (false, &["--extract", "-w", "x", "-s", "y"], 5),
        (true, &["-w", "x", "-s", "y"], 3),
        (true, &["--extract", "--ca-file"], 2),
        (true, &["--install", "--root"], 2),
        (true, &["--extract", "--root", "/image"], 2),
        (false, &["--version-check", "--root", "/image"], 5),
        (true, &["--purge", "--root", "/image", "--portable"], 0),
        (false, &["--source-references", "--bogus"], 0),
        (false, &["--bogus", "--source-references"], 2),
        (false, &["--enable-opsmgr", "--version"], 1),
        (false, &["--version", "--enable-opsmgr"], 0),
        (false, &["--extract-script", "f"], 3),
        (false, &["--extract-binary"], 2),
        (false, &["--extract-binary", "f", "--extract"], 0),
        (
            true,
            &["--upgrade", "--shared-key-file", "/no/such", "-w", "x"],
            2,
        ),
    ] {
        assert_eq!(code(root, words), want, "root={root} {words:?}");
    }
}

#[test]
fn version_and_root_come_without_the_status_line() {
    let version = run(false, &["--version"]).unwrap_err();
    assert_eq!(version.out.as_deref(), Some("Version: 2.0.0.1"));
    assert!(!version.trailer);
    assert!(!run(false, &["--purge"]).unwrap_err().trailer);
    assert!(!run(true, &["--upgrade", "-w", "x"]).unwrap_err().trailer);
    assert!(run(true, &["--nonsense"]).unwrap_err().trailer);
}

#[test]
fn a_key_has_a_limit() {
    let key = |n: usize| read_key(&mut vec![b'k'; n].as_slice(), "here");
    assert_eq!(key(key::LIMIT).unwrap().expose().len(), key::LIMIT);
    assert!(key(key::LIMIT + 1).unwrap_err().contains("larger"));
    assert!(read_key(&mut "\n".as_bytes(), "here").is_err());
    assert!(read_key(&mut [0xffu8].as_slice(), "here").is_err());
}

#[test]
fn a_key_in_the_wrong_place_is_not_echoed() {
    let key = "Mzz0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTA=";
    for word in [format!("-s{key}"), format!("--shared={key}"), key.into()] {
        let stopped = run(true, &["--upgrade", &word]).unwrap_err();
        let text = stopped.err.unwrap();
        assert!(text.starts_with("Unknown argument: '"), "{text}");
        assert!(!text.contains(&key[4..]), "{text}");
    }
}

#[test]
fn some_words_act_at_once() {
    let (stopped, notes) = noted(
        false,
        &["--noDigest", "--debug", "--extract-script", "s", "--bogus"],
    );
    assert_eq!(stopped.unwrap_err().code, 2);
    assert!(notes[0].starts_with("Provided noDigest flag in cmdline"));
    assert_eq!(notes[1..], ["debug", "Script s"]);
    let (stopped, notes) = noted(false, &["--bogus", "--debug"]);
    assert!(stopped.is_err() && notes.is_empty());
    let sources = run(false, &["--source-references"]).unwrap_err();
    assert_eq!(sources.out.as_deref(), Some("one: 1\ntwo: 2"));
    assert!(sources.trailer);
    assert!(!run(false, &["--enable-opsmgr"]).unwrap_err().trailer);
    // Nothing else is extracted, installed or upgraded; a removal is a removal.
    for (mode, nothing) in [("--extract", true), ("--upgrade", true), ("--purge", false)] {
        let request = run(true, &["--extract-script", "f", mode]).unwrap();
        assert_eq!(request.nothing_to_do, nothing, "{mode}");
    }
}

#[test]
fn the_opsmgr_marker_is_made_at_once_only_where_no_work_follows() {
    for (words, at_once) in [
        (&["--enable-opsmgr", "--version"][..], true),
        (&["--enable-opsmgr", "--bogus"], true),
        (&["--enable-opsmgr"], true),
        (&["--version", "--enable-opsmgr"], false),
        (&["--enable-opsmgr", "--version", "--dry-run"], false),
        (&["--enable-opsmgr", "--bogus", "--root", "/image"], false),
        (&["--enable-opsmgr", "--upgrade"], false),
        (&["--remove", "--enable-opsmgr"], false),
    ] {
        let (ended, notes) = noted(true, words);
        assert_eq!(notes == ["opsmgr"], at_once, "{words:?}");
        if let Ok(request) = ended {
            assert!(request.opsmgr, "{words:?}");
        }
    }
    assert_eq!(
        noted(false, &["--enable-opsmgr", "--extract"])
            .0
            .unwrap_err()
            .code,
        1
    );
}

#[test]
fn version_check_overrides_what_came_before() {
    let request = run(true, &["--purge", "--version-check"]).unwrap();
    assert!(request.nothing_to_do && request.mode == Mode::VersionCheck);
    let request = run(true, &["--upgrade", "--version-check"]).unwrap();
    assert!(!request.nothing_to_do);
}

#[test]
fn the_key_can_come_from_four_places() {
    let key = |words: &[&str]| {
        let request = run(true, words).unwrap();
        request.onboarding.unwrap().key.expose().to_owned()
    };
    assert_eq!(key(&["--upgrade", "-w", "x", "-s", "k"]), "k");
    assert_eq!(key(&["--upgrade", "-w", "x", "-s", "-"]), "from-stdin");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "in-a-file\r\n").unwrap();
    let path = file.path().to_str().unwrap();
    assert_eq!(
        key(&["--upgrade", "-w", "x", "--shared-key-file", path]),
        "in-a-file"
    );
    let words = ["--upgrade", "-w", "x"].map(OsString::from);
    let around = Surroundings {
        argv0: "b",
        version: "1",
        root: true,
        key_variable: Some("in-env".into()),
        ca_variable: None,
        stdin: &mut std::io::empty(),
        now: &mut Notes::default(),
    };
    let request = parse(&words, around).unwrap();
    assert_eq!(request.onboarding.unwrap().key.expose(), "in-env");
}

#[test]
fn the_time_for_locks_is_a_number_of_seconds() {
    let timeout = |value: &str| run(true, &["--upgrade", "--lock-timeout", value]);
    let time = timeout("5").unwrap().lock_timeout;
    assert_eq!(time, Some(Duration::from_secs(5)));
    for value in ["", "-1", "86401", "soon"] {
        let stopped = timeout(value).unwrap_err();
        assert_eq!(stopped.code, 2, "{value}");
        assert!(stopped.err.unwrap().contains("0 to 86400"));
    }
}

#[test]
fn help_has_every_option_there_is_and_none_besides() {
    use crate::cli::grammar::Words;
    let rows = GRAMMAR.rows().flat_map(|(row, _)| Words::of(row).spellings);
    let mut shown: Vec<&str> = rows.filter(|word| word.starts_with("--")).collect();
    let code = [include_str!("mod.rs"), include_str!("../manner.rs")];
    let code = code.map(|text| text.split("#[cfg(test)]").next().unwrap_or_default());
    let texts = code.iter().flat_map(|text| text.split('"'));
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let mut read: Vec<&str> = texts
        .filter(|word| word.len() > 2 && word.starts_with("--") && word.chars().all(plain))
        .collect();
    shown.sort_unstable();
    read.sort_unstable();
    read.dedup();
    assert_eq!(shown, read);
}
