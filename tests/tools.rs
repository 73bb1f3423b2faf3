//! The administration tools' command lines as automation knows them: every row of bundle.md 1.6,
//! 1.7, 1.8 and 1.9 that needs no installed system. Those that do are in `tests/system/tools.sh`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

#[derive(Clone, Copy, PartialEq)]
enum Who {
    Root,
    Nobody,
}
use Who::{Nobody, Root};

/// What must be seen: of standard output, or of standard error, a line that begins so.
#[derive(Clone, Copy)]
enum Says {
    Out(&'static str),
    Err(&'static str),
    Nothing,
    /// Neither stream has a word.
    Silent,
}
use Says::{Err, Nothing, Out, Silent};

struct Row(Who, &'static str, &'static [&'static str], i32, Says);

const WS: &str = "11111111-2222-3333-4444-555555555555";
const KEY: &str = "bm90IGEgcmVhbCBrZXksIGJ1dCBvZiB0aGUgcmlnaHQgZm9ybQ==";
const USAGE: Says = Out("Maintenance tool for omsagent.");
const SERVICE_USAGE: Says = Out("usage: service_control start|stop|restart|reload");

fn rows() -> Vec<Row> {
    let a = "admin";
    let s = "service";
    let y = "syslog";
    let u = "uninstall";
    vec![
        // 1.6: who may
        Row(
            Nobody,
            a,
            &["-l"],
            1,
            Out("error\tThis script must be run as root or as the omsagent user."),
        ),
        Row(
            Nobody,
            a,
            &[],
            1,
            Out("error\tThis script must be run as root or as the omsagent user."),
        ),
        Row(
            Nobody,
            a,
            &["-h"],
            1,
            Out("error\tThis script must be run as root"),
        ),
        // 1.6: help, unknown options, missing values: exit 0
        Row(Root, a, &["-h"], 0, USAGE),
        Row(Root, a, &["-?"], 0, USAGE),
        Row(Root, a, &["-vh"], 0, USAGE),
        Row(Root, a, &["-Z"], 0, Err("Illegal option -Z")),
        Row(Root, a, &["-Z"], 0, USAGE),
        Row(Root, a, &["-lZ"], 0, Err("Illegal option -Z")),
        Row(Root, a, &["--bogus"], 0, Err("Illegal option --bogus")),
        Row(Root, a, &["-w"], 0, Err("No arg for -w option")),
        Row(Root, a, &["-w", WS, "-s"], 0, Err("No arg for -s option")),
        Row(Root, a, &["-x"], 0, Err("No arg for -x option")),
        Row(Root, a, &["-u"], 0, Err("No arg for -u option")),
        // 1.6: nothing, and only -v, without an onboarding file
        Row(Root, a, &[], 2, USAGE),
        Row(Root, a, &["-v"], 2, USAGE),
        // 1.6: stray words
        Row(
            Root,
            a,
            &["stray"],
            2,
            Err("Parsing error: 'stray' is unparsed"),
        ),
        Row(Root, a, &["stray"], 2, USAGE),
        Row(
            Root,
            a,
            &["-l", "stray"],
            2,
            Err("Parsing error: 'stray' is unparsed"),
        ),
        Row(
            Root,
            a,
            &["--", "stray"],
            2,
            Err("Parsing error: 'stray' is unparsed"),
        ),
        Row(
            Root,
            a,
            &["one", "two"],
            0,
            Err("omsadmin.sh: unexpected words are left out: one two"),
        ),
        Row(Root, a, &["-l", "one", "-X"], 0, Out("No Workspace")),
        // 1.6: alone without effect
        Row(Root, a, &["-a", "/subscriptions/x"], 0, Nothing),
        Row(Root, a, &["-a", "None"], 0, Nothing),
        Row(Root, a, &["-m", "Marker"], 0, Nothing),
        Row(Root, a, &["-m", "two words"], 0, Nothing),
        // 1.6 and 6.3: what is missing or no id
        Row(
            Root,
            a,
            &["-w", WS],
            3,
            Out("error\tMissing Workspace ID or Shared Key information for onboarding"),
        ),
        Row(
            Root,
            a,
            &["-s", KEY],
            3,
            Out("error\tMissing Workspace ID or Shared Key"),
        ),
        Row(
            Root,
            a,
            &["-d", "example.test"],
            3,
            Out("error\tMissing Workspace ID or Shared Key"),
        ),
        Row(
            Root,
            a,
            &["-w", "", "-s", KEY],
            3,
            Out("error\tMissing Workspace ID or Shared Key"),
        ),
        Row(
            Root,
            a,
            &["-w", "not-a-guid", "-s", KEY],
            3,
            Out("error\tThe Workspace ID is not valid"),
        ),
        Row(
            Root,
            a,
            &["-w", "SCOM", "-s", KEY],
            3,
            Out("error\tThe Workspace ID is not valid"),
        ),
        Row(
            Root,
            a,
            &["-w", "lad", "-s", KEY],
            3,
            Out("error\tThe Workspace ID is not valid"),
        ),
        Row(
            Root,
            a,
            &["-w", WS, "-s", "no key"],
            3,
            Out("error\tThe Shared Key is not valid"),
        ),
        Row(
            Root,
            a,
            &["-w", WS, "-s", KEY, "-m", "two", "words"],
            2,
            Err("Parsing error: 'words' is unparsed"),
        ),
        Row(
            Root,
            a,
            &["-w", WS, "-s", KEY, "-v", "-p", "ftp://x"],
            4,
            Out("Workspace ID:  11111111-2222-3333-4444-555555555555"),
        ),
        Row(
            Root,
            a,
            &["-w", WS, "-s", KEY, "-v", "-p", "ftp://x"],
            4,
            Out("Shared key:    bm90****"),
        ),
        Row(
            Root,
            a,
            &["-w", WS, "-s", KEY, "-v", "-p", "ftp://x"],
            4,
            Out("Domain:        opinsights.azure.com"),
        ),
        Row(
            Root,
            a,
            &["-w", "LAD", "-d", "two words"],
            3,
            Out("error\tThe domain is not valid"),
        ),
        // 1.6 and 6.2: proxy
        Row(
            Root,
            a,
            &["-u", "me"],
            4,
            Out("error\tA proxy user (-u) needs a proxy (-p)"),
        ),
        Row(
            Root,
            a,
            &["-u", "me", "-p", "proxy:3128"],
            2,
            Err("error\tThe proxy password for me is asked for at a terminal"),
        ),
        Row(Root, a, &["-p", "ftp://proxy"], 4, Out("error\t")),
        // 6.4, 6.5, 6.10 on an empty host
        Row(Root, a, &["-l"], 0, Out("No Workspace")),
        Row(Root, a, &["-l", "-v"], 0, Out("No Workspace")),
        Row(
            Root,
            a,
            &["-x", WS],
            0,
            Out("error\tWorkspace 11111111-2222-3333-4444-555555555555 doesn't exist"),
        ),
        Row(
            Root,
            a,
            &["-x", "sysconf"],
            0,
            Out("error\tWorkspace sysconf doesn't exist"),
        ),
        Row(
            Root,
            a,
            &["-x", "../scx"],
            0,
            Out("error\tWorkspace ../scx doesn't exist"),
        ),
        Row(
            Root,
            a,
            &["-x", "state"],
            0,
            Out("error\tWorkspace state doesn't exist"),
        ),
        Row(
            Root,
            a,
            &["-x", "scom"],
            0,
            Out("error\tWorkspace scom doesn't exist"),
        ),
        Row(
            Root,
            a,
            &["-x", "*"],
            0,
            Out("error\tWorkspace * doesn't exist"),
        ),
        Row(Root, a, &["-X"], 0, Nothing),
        Row(
            Root,
            a,
            &["-o"],
            2,
            Err("error\t`/etc/opt/omi/conf/omiserver.conf` does not exist"),
        ),
        Row(Root, a, &["-o", "-l"], 2, Nothing),
        Row(
            Root,
            a,
            &["-x", "not-a-workspace-id"],
            0,
            Out("error\tWorkspace not-a-workspace-id doesn't exist"),
        ),
        Row(Root, a, &["-x", WS], 0, Out("info\tCleanup the folders")),
        Row(
            Root,
            a,
            &[WS],
            2,
            Err("Parsing error: '11111111-2222-3333-4444-555555555555' is unparsed"),
        ),
        // 1.7
        Row(
            Nobody,
            s,
            &["start"],
            77,
            Err("Must have root privileges for this operation"),
        ),
        Row(
            Nobody,
            s,
            &["stop", WS],
            77,
            Err("Must have root privileges for this operation"),
        ),
        Row(
            Nobody,
            s,
            &["restart"],
            77,
            Err("Must have root privileges for this operation"),
        ),
        Row(
            Nobody,
            s,
            &["reload"],
            77,
            Err("Must have root privileges for this operation"),
        ),
        Row(
            Nobody,
            s,
            &["enable"],
            77,
            Err("Must have root privileges for this operation"),
        ),
        Row(
            Nobody,
            s,
            &["disable", "LAD"],
            77,
            Err("Must have root privileges for this operation"),
        ),
        Row(Nobody, s, &["is-running"], 0, Silent),
        Row(Nobody, s, &["is-running", ""], 0, Silent),
        Row(Nobody, s, &["is-running", WS], 0, Silent),
        Row(Nobody, s, &["is-running", "../x"], 0, Silent),
        Row(Root, s, &["is-running", "scom"], 0, Silent),
        Row(Root, s, &["stop"], 0, Silent),
        Row(Root, s, &["stop", ""], 0, Silent),
        Row(Root, s, &["start"], 0, Nothing),
        Row(Root, s, &["restart", ""], 0, Nothing),
        Row(
            Root,
            s,
            &["start", "not-a-guid"],
            1,
            Err("error\t`not-a-guid` is not a workspace"),
        ),
        Row(
            Root,
            s,
            &["disable", "state"],
            1,
            Err("error\t`state` is not a workspace"),
        ),
        Row(Nobody, s, &[], 75, Err("Unknown parameter : ''")),
        Row(
            Nobody,
            s,
            &[],
            75,
            Out("service_control exiting with code 75"),
        ),
        Row(Nobody, s, &[], 75, SERVICE_USAGE),
        Row(
            Nobody,
            s,
            &["status"],
            72,
            Err("Unknown parameter : 'status'"),
        ),
        Row(
            Nobody,
            s,
            &["status"],
            72,
            Out("service_control exiting with code 72"),
        ),
        Row(
            Nobody,
            s,
            &["--start"],
            72,
            Err("Unknown parameter : '--start'"),
        ),
        Row(Nobody, s, &["-h"], 2, SERVICE_USAGE),
        Row(Nobody, s, &["help"], 2, SERVICE_USAGE),
        Row(Nobody, s, &["x"], 2, SERVICE_USAGE),
        Row(Nobody, s, &["-x"], 2, SERVICE_USAGE),
        // 1.8
        Row(Root, y, &[], 1, Err("Unknown parameter : ")),
        Row(Root, y, &["bogus"], 1, Err("Unknown parameter : bogus")),
        Row(
            Root,
            y,
            &["Configure", WS, "25224"],
            1,
            Err("Unknown parameter : Configure"),
        ),
        Row(
            Root,
            y,
            &["configure"],
            1,
            Err("WORKSPACE_ID and SYSLOG_PORT are required"),
        ),
        Row(
            Root,
            y,
            &["configure", WS],
            1,
            Err("WORKSPACE_ID and SYSLOG_PORT are required"),
        ),
        Row(
            Root,
            y,
            &["configure", WS, ""],
            1,
            Err("WORKSPACE_ID and SYSLOG_PORT are required"),
        ),
        Row(
            Root,
            y,
            &["unconfigure", "", "25224"],
            1,
            Err("WORKSPACE_ID and SYSLOG_PORT are required"),
        ),
        Row(
            Root,
            y,
            &["configure", WS, "port"],
            1,
            Err("`port` is not a port"),
        ),
        // 1.9
        Row(
            Nobody,
            u,
            &["X"],
            1,
            Err("Invalid option specified: \"X\"; Valid modes: R (remove), P (purge)"),
        ),
        Row(
            Nobody,
            u,
            &["r"],
            1,
            Err("Invalid option specified: \"r\"; Valid modes: R (remove), P (purge)"),
        ),
        Row(Nobody, u, &[], 5, Err("Must have root privileges")),
        Row(Nobody, u, &["P"], 5, Err("Must have root privileges")),
    ]
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The rows read this machine's own folders: none of the product's may be there.
fn is_clean() -> bool {
    [
        "/etc/opt/microsoft/omsagent",
        "/etc/omsagent-onboard.conf",
        "/etc/opt/omi",
    ]
    .iter()
    .all(|path| !std::path::Path::new(path).exists())
}

/// The program in a folder that anyone may enter.
fn program() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open.clone()).unwrap();
    let program = dir.path().join("omsagent");
    std::fs::copy(env!("CARGO_BIN_EXE_omsagent"), &program).unwrap();
    std::fs::set_permissions(&program, open).unwrap();
    (dir, program)
}

fn wrong_with(
    program: &std::path::Path,
    Row(who, door, words, code, says): &Row,
) -> Option<String> {
    let mut argv: Vec<&str> = Vec::new();
    if *who == Nobody && is_root() {
        argv = vec![
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
        ];
    }
    argv.push(program.to_str().unwrap());
    argv.push(door);
    let done = Command::new(argv[0])
        .args(&argv[1..])
        .args(*words)
        .env_remove("OMSAGENT_SHARED_KEY")
        .env_remove("OMSAGENT_CA_FILE")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&done.stdout).into_owned();
    let err = String::from_utf8_lossy(&done.stderr).into_owned();
    let begins = |text: &str, line: &str| text.lines().any(|l| l.starts_with(line));
    let said = match says {
        Out(line) => begins(&out, line),
        Err(line) => begins(&err, line),
        Nothing => true,
        Silent => out.is_empty() && err.is_empty(),
    };
    let fine = done.status.code() == Some(*code) && said && !err.contains("panicked");
    // Neither the original's stray `-e ` nor the key.
    let clean = !out.contains("-e error") && !format!("{out}{err}").contains(KEY);
    (!fine || !clean).then(|| {
        format!(
            "{door} {words:?}: exit {:?}, wanted {code}\n  out: {out}\n  err: {err}",
            done.status.code()
        )
    })
}

/// One test: a program must not be written while another thread starts one.
#[test]
fn the_table() {
    if !is_clean() {
        eprintln!("SKIPPED: an agent is installed on this machine");
        return;
    }
    let (_dir, program) = program();
    let rows: Vec<Row> = rows()
        .into_iter()
        .filter(|row| is_root() || row.0 == Nobody)
        .collect();
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|row| wrong_with(&program, row))
        .collect();
    println!("{} of {} rows", rows.len() - wrong.len(), rows.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    asks_for_the_password(&program);
}

/// A user and a password at a terminal: asked for without echo, stored in one line.
fn asks_for_the_password(program: &std::path::Path) {
    if !is_root() || Command::new("script").arg("-V").output().is_err() {
        eprintln!("SKIPPED: needs root and script(1)");
        return;
    }
    let line = format!("{} admin -u me -p proxy:3128", program.display());
    let mut child = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    use std::io::{Read, Write};
    let mut input = child.stdin.take().unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut seen = Vec::new();
    let mut byte = [0; 1];
    while !String::from_utf8_lossy(&seen).contains("Proxy password for me:") {
        assert_eq!(
            output.read(&mut byte).unwrap(),
            1,
            "{}",
            String::from_utf8_lossy(&seen)
        );
        seen.push(byte[0]);
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    input.write_all(b"s3cret-word\n").unwrap();
    let mut rest = String::new();
    let _ = output.read_to_string(&mut rest);
    let code = child.wait().unwrap().code();
    // No package is installed here, so nobody can own proxy.conf: that is what must be said.
    assert_eq!(code, Some(4), "{rest}");
    assert!(
        rest.contains("install the omsagent package first"),
        "{rest}"
    );
    assert!(!rest.contains("s3cret-word"), "{rest}");
}
