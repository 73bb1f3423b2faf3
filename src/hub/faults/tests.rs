use super::*;

const WS: &str = "01234567-89ab-cdef-0123-456789abcdef";

fn head() -> Head {
    Head::parse(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap()
}

/// The status of the fault that is picked; 0 for none.
fn picked(faults: &Faults, purpose: Purpose, workspace: Option<&str>) -> u16 {
    let ws = workspace.map(|ws| ws.parse().unwrap());
    let fault = faults.pick(purpose, ws.as_ref(), &head());
    fault.status.unwrap_or(0)
}

fn in_file(text: &str) -> (tempfile::TempDir, PathBuf, Faults) {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("faults.toml");
    std::fs::write(&path, text).unwrap();
    let faults = Faults::open(Some(path.clone())).unwrap();
    (temp, path, faults)
}

#[test]
fn the_first_that_fits_and_is_not_used_up_is_taken() {
    let (_temp, _, faults) = in_file(&format!(
        "[[fault]]\non = 'upload'\nstatus = 501\ntimes = 2\n\
         [[fault]]\non = 'any'\nworkspace = '{}'\nstatus = 502\n\
         [[fault]]\non = 'upload'\nstatus = 503\n\
         [[fault]]\non = 'renew'\nstatus = 504\ntimes = 0\n",
        WS.to_uppercase()
    ));
    let other = Some("11111111-2222-3333-4444-555555555555");
    assert_eq!(picked(&faults, Purpose::Upload, other), 501);
    assert_eq!(picked(&faults, Purpose::Upload, None), 501);
    assert_eq!(picked(&faults, Purpose::Upload, other), 503);
    assert_eq!(picked(&faults, Purpose::Upload, Some(WS)), 502);
    for purpose in [
        Purpose::Onboard,
        Purpose::Heartbeat,
        Purpose::Renew,
        Purpose::Telemetry,
    ] {
        assert_eq!(picked(&faults, purpose, Some(WS)), 502);
        assert_eq!(picked(&faults, purpose, other), 0);
    }
    assert_eq!(picked(&Faults::default(), Purpose::Upload, None), 0);
}

#[test]
fn the_file_is_looked_at_again() {
    let (_temp, path, faults) = in_file("[[fault]]\non = 'any'\nstatus = 500\ntimes = 1\n");
    let now = || picked(&faults, Purpose::Telemetry, None);
    assert_eq!((now(), now()), (500, 0));
    std::fs::write(&path, "[[fault]]\non = 'any'\nstatus = 5\n").unwrap();
    assert_eq!(now(), 0, "a broken file changes nothing, counts neither");
    std::fs::write(&path, "[[fault]]\non = 'telemetry'\nstatus = 404\n").unwrap();
    assert_eq!(now(), 404);
    std::fs::write(&path, "").unwrap();
    assert_eq!(now(), 0);
    std::fs::write(&path, "[[fault]]\non = 'any'\nstatus = 500\n").unwrap();
    assert_eq!(now(), 500);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(now(), 0);
    // Another file of the same length and time in its place.
    let next = path.with_extension("next");
    for status in [500, 501] {
        let text = format!("[[fault]]\non = 'any'\nstatus = {status}\n");
        std::fs::write(&next, text).unwrap();
        let file = std::fs::File::options().append(true).open(&next).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let keep = std::fs::File::open(&path); // so that the inode is not used again
        std::fs::rename(&next, &path).unwrap();
        assert_eq!(now(), status);
        drop(keep);
    }
}

#[test]
fn every_key_is_understood() {
    let parsed = parse(
        "[[fault]]\non = 'heartbeat'\ntimes = 3\nupdate_certificate = true\nclock_offset = -1200\n\
         query_interval = 60\ntelemetry_interval = 61\ndelay_ms = 1500\nclose = 'after'\n\
         [[fault]]\non = 'onboard'\nreason = 'ClockSkew'\n\
         [[fault]]\non = 'upload'\nstatus = 429\nreason = 'Throttled'\nretry_after = 5\n\
         [[fault]]\non = 'any'\nclose = 'before'\n",
    );
    let parsed = parsed.unwrap();
    let usual = (Duration::from_secs(1), Duration::from_secs(2));
    let one = &parsed[0];
    assert!(one.update_certificate(false) && one.closes_after() && !one.closes_before());
    assert_eq!(one.clock(), Clock::ahead(-1200));
    assert_eq!(one.delay(), Duration::from_millis(1500));
    let seconds = (Duration::from_secs(60), Duration::from_secs(61));
    assert_eq!(one.intervals(usual), seconds);
    assert_eq!(one.refusal(Purpose::Heartbeat), None);
    let body = |fault: &Fault, purpose| {
        let response = fault.refusal(purpose).unwrap();
        let bytes = response.to_bytes(true, false);
        (response.status, String::from_utf8(bytes).unwrap())
    };
    let (status, text) = body(&parsed[1], Purpose::Onboard);
    assert!(text.contains("<Reason>ClockSkew</Reason>"), "{text}");
    assert_eq!(status, 403);
    let (status, text) = body(&parsed[2], Purpose::Upload);
    assert!(text.contains("\r\nRetry-After: 5\r\n"), "{text}");
    assert!(text.contains("\"Error\":\"Throttled\""), "{text}");
    assert_eq!(status, 429);
    assert!(parsed[3].closes_before() && !parsed[3].closes_after());
    let none = Fault::default();
    assert!(!none.update_certificate(false) && none.update_certificate(true));
    assert_eq!(none.intervals(usual), usual);
    assert_eq!(
        (none.delay(), none.clock()),
        (Duration::ZERO, Clock::default())
    );
}

#[test]
fn mistakes_are_told() {
    for (keys, why) in [
        ("", "missing field `on`"),
        ("on = 'sometimes'\nstatus = 500", "sometimes"),
        ("on = 'any'", "nothing that shall go wrong"),
        ("on = 'any'\ntimes = 1", "nothing that shall go wrong"),
        ("on = 'any'\nstatus = 199", "200 to 599"),
        ("on = 'any'\nstatus = 600", "200 to 599"),
        ("on = 'any'\nstatus = 70000", "u16"),
        ("on = 'any'\nstatus = 500\ntimes = -1", "u64"),
        ("on = 'any'\nstatus = 500\ncolour = 'red'", "colour"),
        ("on = 'any'\nreason = ''", "1 to 200 bytes"),
        ("on = 'any'\nreason = \"a\\nb\"", "no control characters"),
        ("on = 'any'\ndelay_ms = 600001", "at most 600000"),
        (
            "on = 'any'\ndelay_ms = 1\nretry_after = 5",
            "needs a `status`",
        ),
        (
            "on = 'any'\nclose = 'after'\nstatus = 500",
            "make two faults",
        ),
        (
            "on = 'any'\nreason = 'a'\nupdate_certificate = true",
            "make two faults",
        ),
        (
            "on = 'any'\nclose = 'before'\nquery_interval = 60",
            "no answer to change",
        ),
        ("on = 'any'\nworkspace = 'x'\nstatus = 500", "GUID"),
    ] {
        let text = format!("[[fault]]\non = 'any'\nstatus = 500\n[[fault]]\n{keys}\n");
        let error = format!("{:#}", parse(&text).unwrap_err());
        assert!(error.contains(why), "{keys}: {error}");
    }
    assert!(parse("[fault]\non = 'any'").is_err());
    assert!(parse("\u{0}").is_err());
    assert_eq!(parse("").unwrap(), []);
    let broken = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(broken.path(), "[[fault]]\non = 'any'\n").unwrap();
    let error = Faults::open(Some(broken.path().to_owned())).unwrap_err();
    let error = format!("{error:#}");
    assert!(
        error.contains(&broken.path().display().to_string()),
        "{error}"
    );
    assert!(error.contains("fault 1"), "{error}");
}
