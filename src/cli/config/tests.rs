//! Texts, JSON and TOML of the three words; which configuration is meant.

use super::*;
use crate::agent::config::report::{Line, MappingFile};
use crate::base::form::fields;

const CHECK: &str = include_str!("../../../tests/data/config/check.fixture");
const SHOW: &str = include_str!("../../../tests/data/config/show.fixture");

const TEXT: &str = "\
<source>
  type syslog
  port 25224
  bind 127.0.0.1
  colour red
</source>
<filter oms.syslog.**>
  type filter_syslog
</filter>
<match oms.**>
  type out_oms
  num_threads 5
  proxy_conf_path PROXY
</match>
";

fn effective(dir: &Path) -> Effective {
    let main = dir.join("omsagent.conf");
    let proxy = dir.join("proxy.conf");
    std::fs::write(&proxy, "http://me:hunter2@proxy.test:3128\n").unwrap();
    std::fs::write(&main, TEXT.replace("PROXY", &proxy.display().to_string())).unwrap();
    let document = fluent::load(&main).unwrap();
    let (settings, review) = Settings::review(&document, Path::new("/state"));
    Effective::of(&main, &document, &settings, &review)
}

fn report(dir: &Path) -> Report {
    effective(dir);
    let main = dir.join("omsagent.conf");
    let document = fluent::load(&main).unwrap();
    Report::of(&main, &document, Path::new("/state"), false)
}

/// Others read these fields: adding one is adding a line, anything else is a new schema.
#[test]
fn the_forms_are_frozen() {
    let dir = tempfile::tempdir().unwrap();
    let mut report = report(dir.path());
    report.mappings.push(MappingFile {
        file: "m".into(),
        objects: 1,
        problem: Some("p".into()),
    });
    // A list is known by its first item: one with all fields.
    report.directives.insert(
        0,
        Line {
            file: Some("f".into()),
            line: Some(1),
            section: Some("s".into()),
            takes: Some("t".into()),
            parameter: Some("p".into()),
            value: Some("v".into()),
            verdict: "idle",
            severity: "ok",
            reason: Some("r".into()),
            depth: 0,
        },
    );
    let mut effective = effective(dir.path());
    effective.errors.push("e".into());
    effective.proxies[0].problem = Some("p".into());
    for part in effective.inputs.iter_mut().chain(&mut effective.filters) {
        part.settings.sort_by_key(|v| v.default);
    }
    effective.outputs[0]
        .part
        .settings
        .sort_by_key(|v| v.default);
    for (fixture, value) in [
        (CHECK, serde_json::to_value(&report).unwrap()),
        (SHOW, serde_json::to_value(&effective).unwrap()),
    ] {
        let seen = fields(&value);
        // How many of which verdict is no field of its own.
        let seen: Vec<&str> = seen
            .iter()
            .map(String::as_str)
            .filter(|f| !f.starts_with("counts."))
            .collect();
        let mut frozen: Vec<&str> = fixture.lines().collect();
        frozen.sort_unstable();
        assert_eq!(seen, frozen, "{}", seen.join("\n"));
    }
}

#[test]
fn the_report_for_people() {
    let dir = tempfile::tempdir().unwrap();
    let report = report(dir.path());
    let all = text::of_report(&report, false);
    for wanted in [
        "    1  <source> syslog ",
        "    3    port 25224 ",
        "honoured\n",
        "    5    colour red                                   unknown: is not known here",
        "   10  <match oms.**> out_oms",
        "replaced: a thread of its own",
        "1 replaced, 1 unknown: the agent runs, and not all of this has an effect",
    ] {
        assert!(all.contains(wanted), "{wanted}\n{all}");
    }
    let quiet = text::of_report(&report, true);
    assert!(
        quiet.contains("colour red") && !quiet.contains("port 25224"),
        "{quiet}"
    );
}

#[test]
fn what_the_agent_runs_with_for_people_and_as_toml() {
    let dir = tempfile::tempdir().unwrap();
    let effective = effective(dir.path());
    let all = text::of_effective(&effective);
    for wanted in [
        "Input syslog (",
        "  port                     25224                    ",
        "omsagent.conf:3\n",
        "  allow_without_priority   false                    default\n",
        "Output 0: out_oms oms.** (",
        "  queue                    /state/output0.queue\n",
        "  queue limit              157286400 bytes\n",
        "  tcp                      127.0.0.1:25224\n",
        "me:****@proxy.test:3128",
        "1 directives have no effect",
    ] {
        assert!(all.contains(wanted), "{wanted}\n{all}");
    }
    let json = serde_json::to_value(&effective).unwrap();
    assert!(!json.to_string().contains("hunter2") && !all.contains("hunter2"));
    // Read back by the TOML reader of the fleet's answers: the same but for what is null.
    let toml: toml::Value = toml::from_str(&text::toml(&json)).unwrap();
    let again = serde_json::to_value(&toml).unwrap();
    assert_eq!(again, without_nulls(json));
}

fn without_nulls(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, v)| !v.is_null())
            .map(|(k, v)| (k, without_nulls(v)))
            .collect(),
        Value::Array(list) => list.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

#[test]
fn which_configuration_is_meant() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path().join("root"));
    let subject = |workspace: Option<&str>, path: Option<PathBuf>| Subject {
        workspace: workspace.map(|w| w.parse().unwrap()),
        path,
    };
    let asked = |s: Subject| tree(&s, &layout).map(|t| (t.main, t.fragment));
    let none = format!("{:#}", asked(subject(None, None)).unwrap_err());
    assert!(none.contains("no workspace on this host"), "{none}");

    let one = "11111111-2222-3333-4444-555555555555";
    let two = "21111111-2222-3333-4444-555555555555";
    let paths = |id: &str| layout.workspace(&id.parse().unwrap());
    std::fs::create_dir_all(paths(one).conf()).unwrap();
    let main = (paths(one).omsagent_conf(), false);
    assert_eq!(asked(subject(None, None)).unwrap(), main);
    std::fs::create_dir_all(paths(two).conf()).unwrap();
    let both = format!("{:#}", asked(subject(None, None)).unwrap_err());
    assert!(both.contains(one) && both.contains(two), "{both}");
    assert_eq!(
        asked(subject(Some(two), None)).unwrap().0,
        paths(two).omsagent_conf()
    );
    std::os::unix::fs::symlink(paths(one).conf(), layout.etc().join("conf")).unwrap();
    assert_eq!(asked(subject(None, None)).unwrap(), main);

    let copy = dir.path().join("copy");
    std::fs::create_dir_all(copy.join("conf")).unwrap();
    assert!(asked(subject(None, Some(copy.clone()))).is_err());
    std::fs::write(copy.join("conf/omsagent.conf"), "").unwrap();
    let found = asked(subject(None, Some(copy.clone()))).unwrap();
    assert_eq!(found, (copy.join("conf/omsagent.conf"), false));
    let fragment = copy.join("apache.conf");
    assert_eq!(
        asked(subject(None, Some(fragment.clone()))).unwrap(),
        (fragment, true)
    );
}

#[test]
fn a_file_that_is_no_configuration_is_told_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("omsagent.conf");
    std::fs::write(&path, "<source>\n  type syslog\n").unwrap();
    let subject = || Subject {
        workspace: None,
        path: Some(path.clone()),
    };
    let check = |json| Args::Check {
        subject: subject(),
        quiet: false,
        json,
    };
    assert_eq!(run(&check(true)).unwrap(), 2);
    assert_eq!(run(&check(false)).unwrap(), 2);
    let output = dir.path().join("new.conf");
    let convert = || Args::Convert {
        subject: subject(),
        output: Some(output.clone()),
    };
    assert_eq!(run(&convert()).unwrap(), 2);
    std::fs::write(
        &path,
        "<match a>\n  type out_oms\n  retry_wait x\n</match>\n",
    )
    .unwrap();
    assert_eq!(run(&convert()).unwrap(), 2);
    assert!(!output.exists());
    std::fs::write(&path, "<match a>\n  type out_oms\n</match>\n").unwrap();
    assert_eq!(run(&convert()).unwrap(), 0);
    assert_eq!(run(&check(true)).unwrap(), 0);
    let first = std::fs::read(&output).unwrap();
    // What is there stays.
    assert_eq!(run(&convert()).unwrap(), 2);
    assert_eq!(std::fs::read(&output).unwrap(), first);
}

#[test]
fn what_the_agents_account_may_read() {
    use std::os::unix::fs::PermissionsExt;
    let file = tempfile::NamedTempFile::new().unwrap();
    let mode = |mode| {
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        std::fs::metadata(file.path()).unwrap()
    };
    let own = (mode(0o600).uid(), mode(0o600).gid());
    let (uid, gid) = (own.0 + 1, own.1 + 1);
    for (bits, account, wanted) in [
        (0o640, own, true),
        (0o640, (uid, own.1), true),
        (0o640, (uid, gid), false),
        (0o604, (uid, gid), true),
        (0o600, (uid, own.1), false),
    ] {
        assert_eq!(
            may_read(account, &mode(bits)),
            wanted,
            "{bits:o} {account:?}"
        );
    }
}
