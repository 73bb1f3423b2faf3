//! How a run speaks to programs and to people: the real binary in a bundle, nothing changed on
//! this machine (no mode here that could).

use crate::tools::{have, omsagent};
use crate::trial::{Trial, err, out};
use serde_json::Value;
use std::process::{Output, Stdio};

/// Every field and every type it may have.
const FIXTURE: &str = include_str!("json.fixture");

fn run(trial: &Trial, words: &[&str]) -> Output {
    trial.run(&[&["sh", "b.sh"], words].concat())
}

/// Standard output is one line, one object, of the frozen form.
fn object(done: &Output) -> Value {
    let said = out(done);
    assert_eq!(said.lines().count(), 1, "{said}{}", err(done));
    let value: Value = serde_json::from_str(&said).unwrap();
    let mut seen = Vec::new();
    fields("", &value, &mut seen);
    for (path, kind) in &seen {
        let line = FIXTURE.lines().find(|l| l.split(' ').next() == Some(path));
        let line = line.unwrap_or_else(|| panic!("new field `{path}`: add it to fixture and page"));
        let kinds = line.split(' ').nth(1).unwrap();
        assert!(
            kinds.split('|').any(|k| k == *kind),
            "{path} is {kind}: {said}"
        );
    }
    for line in FIXTURE.lines() {
        let path = line.split(' ').next().unwrap();
        let top = !path.contains(['.', '[']);
        assert!(
            !top || seen.iter().any(|(p, _)| p == path),
            "no `{path}`: {said}"
        );
    }
    assert_eq!(
        value["exit_code"].as_i64(),
        done.status.code().map(i64::from)
    );
    value
}

fn fields(path: &str, value: &Value, seen: &mut Vec<(String, &'static str)>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let texts = ["warnings[]", "errors[]"].contains(&path);
    if !path.is_empty() && !texts {
        seen.push((path.to_owned(), kind));
    }
    match value {
        Value::Array(list) => {
            for item in list {
                match item {
                    Value::Object(inner) => {
                        for (key, value) in inner {
                            fields(&format!("{path}[].{key}"), value, seen);
                        }
                    }
                    other => fields(&format!("{path}[]"), other, seen),
                }
            }
        }
        Value::Object(inner) => {
            for (key, value) in inner {
                let dot = if path.is_empty() { "" } else { "." };
                fields(&format!("{path}{dot}{key}"), value, seen);
            }
        }
        _ => {}
    }
}

#[test]
fn one_object_whatever_happens() {
    let trial = Trial::new(&omsagent());
    for (words, code, mode) in [
        (&["--version-check", "--json"][..], 0, Some("version-check")),
        (&["--extract", "--json"], 0, Some("extract")),
        (&["--json"], 3, None),
        (&["--json", "--bogus"], 2, None),
        (&["--bogus", "--json"], 2, None),
        (&["--json", "--progress", "loud"], 2, None),
        (&["--json", "--answers", "/no/such/file"], 2, None),
        (&["--json", "--log", "/no/such/folder/log"], 2, None),
        (&["--json", "--interactive", "--extract"], 2, None),
        (&["--extract", "-w", "x", "--json"], 2, None),
    ] {
        let done = run(&trial, words);
        let value = object(&done);
        assert_eq!(done.status.code(), Some(code), "{words:?} {value}");
        assert_eq!(value["mode"].as_str(), mode, "{words:?}");
        assert_eq!(value["changed"], false);
        let told = !value["errors"].as_array().unwrap().is_empty();
        assert_eq!(told, code != 0, "{words:?} {value}");
        assert!(!err(&done).contains("exiting with status code"));
    }
    let extracted = object(&run(&trial, &["--extract", "--json"]));
    let folder = extracted["extracted"].as_str().unwrap();
    assert!(std::path::Path::new(folder).join("100").is_dir());
    let plain = run(&trial, &["--version-check"]);
    assert!(out(&plain).ends_with("exiting with status code 0\n"));
}

#[test]
fn answers_give_what_the_command_line_does_not() {
    let trial = Trial::new(&omsagent());
    let file = trial.dir.path().join("a.toml");
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let text = "mode = \"extract\"\njson = true\n[[host]]\nmatch = \"NAME\"\nmode = \"version-check\"\nlog = \"the.log\"\n";
    std::fs::write(&file, text.replace("NAME", name.trim())).unwrap();
    let value = object(&run(&trial, &["--answers", "a.toml"]));
    assert_eq!(value["mode"], "version-check");
    assert_eq!(value["log"], "the.log");
    let value = object(&run(&trial, &["--extract", "--answers", "a.toml"]));
    assert_eq!(value["mode"], "extract", "the command line wins");
    std::fs::write(&file, "mode = \"extract\"\nprogres = 1\n").unwrap();
    let done = run(&trial, &["--answers", "a.toml"]);
    assert_eq!(done.status.code(), Some(2));
    let said = err(&done);
    assert!(
        said.contains("line 2, column 1: unknown key `progres`; did you mean `progress`?"),
        "{said}"
    );
    assert!(out(&done).ends_with("exiting with status code 2\n"));
}

#[test]
fn the_log_has_every_line_and_no_key() {
    use std::os::unix::fs::PermissionsExt;
    let trial = Trial::new(&omsagent());
    let key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let words = ["--extract", "--log", "l", "-w", "x", "-s", key, "--bogus"];
    let done = run(&trial, &words);
    let path = trial.dir.path().join("l");
    let log = std::fs::read_to_string(&path).unwrap();
    for line in out(&done).lines().chain(err(&done).lines()) {
        assert!(log.lines().any(|l| l.ends_with(line)), "{line}\n{log}");
    }
    assert!(
        log.contains("Unknown argument: '--bogus'") && !log.contains(key),
        "{log}"
    );
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn an_exit_code_is_explained() {
    let trial = Trial::new(&omsagent());
    let done = run(&trial, &["--explain", "17"]);
    assert!(
        out(&done).starts_with("17: the package could not be installed"),
        "{}",
        out(&done)
    );
    assert!(out(&done).contains("\nWhat to do: "));
    assert_eq!(done.status.code(), Some(0));
    let done = run(&trial, &["--explain", "99"]);
    assert_eq!(done.status.code(), Some(2));
    assert!(
        err(&done).contains("no exit code of the bundle; it has 0, "),
        "{}",
        err(&done)
    );
}

#[test]
fn the_progress_line_is_where_it_belongs() {
    let trial = Trial::new(&omsagent());
    // Refused by the service's name before anything is changed, but after the bundle's verification.
    let words = ["--upgrade", "--dry-run"];
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let quiet = run(&trial, &words);
    assert!(!err(&quiet).contains('\r') && !out(&quiet).contains('\r'));
    let always = run(&trial, &[&words[..], &["--progress", "always"]].concat());
    assert!(
        err(&always).contains("% verify the bundle"),
        "{}",
        err(&always)
    );
    assert_eq!(out(&always), out(&quiet));
}

/// Runs the bundle on a terminal of its own (python's pty), types `typed`, a line for each time
/// that `cue` is shown, and returns the exit code and all that the terminal showed.
fn at_a_terminal(trial: &Trial, words: &[&str], typed: &[(&str, &str)]) -> (i32, String) {
    on_a_terminal(trial, &[&["sh", "b.sh"], words].concat(), typed)
}

/// The same of any command.
fn on_a_terminal(trial: &Trial, words: &[&str], typed: &[(&str, &str)]) -> (i32, String) {
    const PLAYER: &str = r#"
import os, pty, select, sys, time, json
words, typed = json.loads(sys.argv[1]), json.loads(sys.argv[2])
pid, fd = pty.fork()
if pid == 0:
    os.execvp(words[0], words)
shown, from_here, deadline = b"", 0, time.time() + 60
while time.time() < deadline:
    if select.select([fd], [], [], 0.05)[0]:
        try:
            piece = os.read(fd, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    if typed and typed[0][0].encode() in shown[from_here:]:
        from_here = len(shown)
        time.sleep(0.1)
        os.write(fd, typed.pop(0)[1].encode() + b"\n")
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;
    let (words, typed) = (
        serde_json::json!(words).to_string(),
        serde_json::json!(typed).to_string(),
    );
    let done = trial
        .command(&["python3", "-c", PLAYER, &words, &typed])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (done.status.code().unwrap(), out(&done) + &err(&done))
}

#[test]
fn ctrl_c_at_the_hidden_question_gives_the_terminal_back() {
    if !have("python3") {
        return;
    }
    let trial = Trial::new(&omsagent());
    let script = "trap : INT; sh b.sh \"$@\"; echo code $?; stty -a";
    let id = "f8ef8ef0-6a2c-4f5c-8f0e-1f8e2d9c0b11";
    let bundle = ["--upgrade", "-w", id, "--interactive", "--dry-run"];
    let words = [&["sh", "-c", script, "sh"][..], &bundle].concat();
    let (_, shown) = on_a_terminal(&trial, &words, &[("Shared key", "\x03")]);
    assert!(shown.contains("code 130"), "{shown}");
    assert!(shown.split_whitespace().any(|w| w == "echo"), "{shown}");
}

#[test]
fn at_a_terminal_a_person_is_asked_and_a_script_is_not() {
    if !have("python3") || !nix::unistd::geteuid().is_root() {
        return;
    }
    let trial = Trial::new(&omsagent());
    let key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let id = "f8ef8ef0-6a2c-4f5c-8f0e-1f8e2d9c0b11";
    // --dry-run: whatever is answered, nothing is changed here.
    let (_, shown) = at_a_terminal(
        &trial,
        &["--interactive", "--dry-run"],
        &[
            ("What shall be done?", "upgrade"),
            ("Workspace id", "nonsense"),
            ("That is no workspace id", ""),
        ],
    );
    assert!(
        shown.contains("Workspace id (empty: do not onboard):"),
        "{shown}"
    );
    let (code, shown) = at_a_terminal(
        &trial,
        &["--upgrade", "-w", id, "--interactive", "--dry-run"],
        &[("Shared key", key)],
    );
    assert!(!shown.contains(key), "the key was shown: {shown}");
    assert!(!shown.contains("is not valid"), "{code} {shown}");
    // Were the question not asked, this would purge: not where there is something to lose.
    if !std::path::Path::new("/etc/opt/microsoft/omsagent").exists() {
        let (code, shown) = at_a_terminal(&trial, &["--purge"], &[("Go on? [y/N]", "n")]);
        assert_eq!(code, 1, "{shown}");
        assert!(shown.contains("Nothing was changed."), "{shown}");
    }
    // Without a terminal it is an error, not a question.
    let done = run(&trial, &["--interactive", "--upgrade"]);
    assert_eq!(done.status.code(), Some(2));
    assert!(err(&done).contains("needs a terminal"));
}
