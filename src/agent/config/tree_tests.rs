//! Whole trees: what `check`, `show` and `convert` make of them, and that they agree with the loader.

use super::convert::{convert, pattern, quoted};
use super::effective::Effective;
use super::report::Report;
use super::*;
use crate::agent::catalogue::Verdict;
use crate::settings::fluent;
use proptest::prelude::*;

const STATE: &str = "/state";

fn original() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config/original/omsagent.conf")
}

fn effective(main: &Path) -> Effective {
    let document = fluent::load(main).unwrap();
    let (settings, review) = Settings::review(&document, Path::new(STATE));
    Effective::of(main, &document, &settings, &review)
}

fn converted(main: &Path, into: &Path) -> String {
    let document = fluent::load(main).unwrap();
    let (_, review) = Settings::review(&document, Path::new(STATE));
    let text = convert(&document, &review);
    std::fs::write(into, &text).unwrap();
    text
}

/// Our own templates, filled.
fn ours(dir: &Path) -> PathBuf {
    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/conf");
    std::fs::create_dir(dir.join("omsagent.d")).unwrap();
    let names = [
        "omsagent.conf",
        "omsagent.d/syslog.conf",
        "omsagent.d/heartbeat.conf",
        "omsagent.d/monitor.conf",
        "omsagent.d/operation.conf",
        "omsagent.d/telemetry.conf",
    ];
    for name in names {
        let text = std::fs::read_to_string(templates.join(name)).unwrap();
        let text = text
            .replace("%SYSLOG_PORT%", "25224")
            .replace("%MONITOR_AGENT_PORT%", "25324");
        std::fs::write(dir.join(name), text.replace('%', "/")).unwrap();
    }
    dir.join("omsagent.conf")
}

#[test]
fn our_own_files_are_clean() {
    let dir = tempfile::tempdir().unwrap();
    let main = ours(dir.path());
    let report = Report::of(
        &main,
        &fluent::load(&main).unwrap(),
        Path::new(STATE),
        false,
    );
    assert_eq!(
        (report.result, report.exit_code()),
        ("ok", 0),
        "{:?}",
        report.directives
    );
}

#[test]
fn the_originals_files_and_common_fragments() {
    let document = fluent::load(&original()).unwrap();
    assert_eq!(document.files.len(), 23, "{:?}", document.files);
    let report = Report::of(&original(), &document, Path::new(STATE), false);
    assert_eq!((report.result, report.exit_code()), ("warning", 1));
    let of = |section: &str, parameter: Option<&str>| {
        let mut all = report.directives.iter();
        let found = all
            .find(|d| d.section.as_deref() == Some(section) && d.parameter.as_deref() == parameter);
        let found = found.unwrap_or_else(|| panic!("{section} {parameter:?}"));
        (found.verdict, found.reason.clone().unwrap_or_default())
    };
    for (section, parameter, verdict) in [
        ("source syslog", None, "honoured"),
        ("source syslog", Some("port"), "honoured"),
        ("source syslog", Some("format"), "ignored"),
        ("source sudo_tail", None, "honoured"),
        ("source sudo_tail", Some("path"), "honoured"),
        ("source exec", None, "ignored"),
        ("source monitor_agent", None, "replaced"),
        ("source agent_telemetry", None, "honoured"),
        ("source wlm_discovery", None, "idle"),
        ("source something_new", None, "unknown"),
        ("source something_new", Some("api_token"), "idle"),
        // That of an object which nobody collects; the next one is known.
        ("source oms_omi", None, "ignored"),
        ("source oms_omi", Some("interval"), "idle"),
        ("filter filter_syslog", None, "honoured"),
        ("filter filter_syslog_security", None, "ignored"),
        ("filter record_transformer", None, "ignored"),
        ("match out_oms", None, "honoured"),
        ("match out_oms", Some("num_threads"), "replaced"),
        ("match out_oms", Some("buffer_chunk_limit"), "honoured"),
        ("match out_oms_api", None, "honoured"),
        ("match out_oms_blob", None, "honoured"),
        ("match null", None, "honoured"),
        ("label", None, "ignored"),
        ("system", None, "replaced"),
    ] {
        assert_eq!(of(section, parameter).0, verdict, "{section} {parameter:?}");
    }
    assert!(
        of("source monitor_agent", None)
            .1
            .contains("omsagent status")
    );
    // omsconfig's own exec block is not one of a user's.
    let last_exec = report
        .directives
        .iter()
        .rev()
        .find(|d| d.section.as_deref() == Some("source exec") && d.parameter.is_none());
    assert_eq!(last_exec.unwrap().verdict, "idle");
    // The mapping of the copied tree, though the file names another place.
    assert_eq!(report.mappings.len(), 1);
    assert_eq!(
        (report.mappings[0].objects, &report.mappings[0].problem),
        (2, &None)
    );
    let objects: Vec<_> = report
        .directives
        .iter()
        .filter(|d| d.parameter.as_deref() == Some("object_name"))
        .map(|d| (d.value.as_deref().unwrap(), d.verdict))
        .collect();
    assert!(objects.contains(&("Load", "unknown")) && objects.contains(&("Processor", "honoured")));
    assert!(objects.contains(&("Container", "idle")));
    // File by file, line by line.
    let mut files: Vec<&str> = Vec::new();
    let mut last = 0;
    for line in report.directives.iter().filter(|d| d.file.is_some()) {
        let file = line.file.as_deref().unwrap();
        if files.last() != Some(&file) {
            assert!(!files.contains(&file), "{file} comes twice");
            files.push(file);
            last = 0;
        }
        assert!(line.line.unwrap() >= last, "{line:?}");
        last = line.line.unwrap();
    }
}

#[test]
fn no_password_is_shown() {
    let document = fluent::load(&original()).unwrap();
    let (_, review) = Settings::review(&document, Path::new(STATE));
    let report = Report::of(&original(), &document, Path::new(STATE), false);
    let report = serde_json::to_string(&report).unwrap();
    let new = convert(&document, &review);
    let notes = format!(
        "{:?}",
        Settings::from_document(&document, Path::new(STATE))
            .unwrap()
            .notes
    );
    for (what, text) in [("check", &report), ("convert", &new), ("log", &notes)] {
        assert!(!text.contains("hunter2"), "{what}: {text}");
    }
    assert!(report.contains("(hidden)") && new.contains("password (hidden)"));
}

#[test]
fn a_converted_tree_does_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join("odd.conf");
    std::fs::write(
        &odd,
        "log_level info\n<source>\n type syslog\n port 1\n port 0\n bind '127.0.0.1'\n tag \"a.b\"\n colour red # x\n</source>\n\
         <source>\n @type oms_heartbeat\n</source>\n<filter \"a>b\">\n type nosuch\n</filter>\n\
         <match a.b.kern.*>\n type file\n</match>\n\
         <match 'a.{b,c}.**' x>\n type out_oms\n buffer_path '/x # y/a*.buffer'\n compress\n <secondary>\n type file\n </secondary>\n</match>\n\
         <match **>\n type out_oms\n</match>\n<gizmo \"x\">\n y 1\n</gizmo>\n",
    )
    .unwrap();
    for (name, main) in [
        ("original", original()),
        ("odd", odd),
        ("ours", ours(dir.path())),
    ] {
        let before = effective(&main);
        assert_eq!(before.errors, Vec::<String>::new(), "{name}");
        let new = dir.path().join(format!("{name}.new"));
        let text = converted(&main, &new);
        let after = effective(&new);
        assert_eq!(
            after.without_places(),
            before.without_places(),
            "{name}:\n{text}"
        );
        // A comment is a comment through and through.
        let comments = text.lines().filter(|l| l.trim_start().starts_with('#'));
        assert!(comments.clone().count() > 2);
        assert!(!text.contains("#  #"), "{text}");
        // Nothing is left in it that has no effect, and it is its own conversion.
        let document = fluent::load(&new).unwrap();
        let report = Report::of(&new, &document, Path::new(STATE), true);
        assert_eq!(report.result, "ok", "{name}: {:?}", report.directives);
        let verdicts: Vec<_> = report.counts.keys().copied().collect();
        assert_eq!(verdicts, ["honoured"], "{name}");
        let again = converted(&new, &dir.path().join("again"));
        let plain = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|l| !l.trim_start().starts_with('#'));
            lines.filter(|l| !l.is_empty()).map(str::to_owned).collect()
        };
        assert_eq!(plain(&again), plain(&text), "{name}");
    }
}

/// One value of each kind, good and bad, for every parameter of every plug-in.
#[test]
fn the_loader_and_the_report_agree() {
    let plugins = crate::agent::catalogue::every();
    assert!(plugins.len() > 35, "{}", plugins.len());
    let values = [
        "5",
        "70000",
        "-1",
        "127.0.0.1",
        "x",
        "15m",
        "30s",
        "true",
        "udp",
        "tcp",
        "",
        "/a/b",
        "a b\"c",
    ];
    let (mut good, mut bad) = (0, 0);
    for plugin in plugins {
        let arg = match plugin.section {
            Section::Source => "",
            _ => " some.**",
        };
        let name = plugin.name.replace('*', "x");
        let section = plugin.section.name();
        let mut texts = vec![String::new()];
        // What it cannot be without comes first; the last one of a name counts.
        let first = match plugin.name {
            "oms_omi" => "  object_name Memory\n",
            _ => "",
        };
        for param in plugin.own_params() {
            let key = param.name.replace('#', "1");
            texts.extend(values.iter().map(|v| match key.as_str() {
                "object_name" => format!("  {key} '{v}'\n"),
                _ => format!("{first}  {key} '{v}'\n"),
            }));
        }
        for text in texts {
            let text = format!("<{section}{arg}>\n  type {name}\n{text}</{section}>\n");
            let document = fluent::parse("t", &text, &mut ()).unwrap();
            let report = Report::of(Path::new("t"), &document, Path::new(STATE), true);
            let loaded = Settings::from_document(&document, Path::new(STATE));
            let wrong = report.exit_code() == 2;
            assert_eq!(loaded.is_err(), wrong, "{text}{loaded:?}");
            let Ok(settings) = loaded else {
                bad += 1;
                continue;
            };
            good += 1;
            let warnings = settings
                .notes
                .iter()
                .filter(|n| matches!(n, Note::Warning(t) if t.starts_with("t:")));
            let told = report.directives.iter().filter(|d| d.severity == "warning");
            assert_eq!(warnings.count(), told.count(), "{text}");
            // What is called honoured is built, and nothing else.
            let built = settings.syslog.len()
                + settings.heartbeats.len()
                + settings.topology.len()
                + settings.telemetry.len()
                + settings.counters.len()
                + settings.tails.len()
                + settings.outputs.len();
            let wanted = report.directives[0].verdict == "honoured"
                && !["null", "filter_syslog"].contains(&plugin.name);
            let known = plugin.verdict == Verdict::Honoured && plugin.name != "oms_omi";
            assert!(
                !known || report.directives[0].verdict == "honoured",
                "{text}"
            );
            assert_eq!(built, usize::from(wanted), "{text}");
        }
    }
    assert!(good > 1000 && bad > 50, "{good} {bad}");
}

#[test]
fn every_mistake_is_told_not_only_the_first() {
    let text = "<source>\n type syslog\n port x\n bind y\n</source>\n<match>\n type out_oms\n</match>\n\
                <source>\n type syslog\n port 1\n</source>\n<source>\n type syslog\n port 1\n</source>\n";
    let document = fluent::parse("t", text, &mut ()).unwrap();
    let report = Report::of(Path::new("t"), &document, Path::new(STATE), false);
    let errors: Vec<u32> = report
        .directives
        .iter()
        .filter(|d| d.severity == "error")
        .map(|d| d.line.unwrap())
        .collect();
    assert_eq!((report.exit_code(), errors), (2, vec![3, 4, 6, 13]));
}

#[test]
fn events_that_go_nowhere_are_told() {
    for (kind, lost) in [
        ("null", false),
        ("out_oms_diag", true),
        ("nosuch", true),
        ("out_oms", false),
    ] {
        let text = format!(
            "<source>\n type oms_heartbeat\n</source>\n<match oms.**>\n type {kind}\n</match>\n\
             <match x>\n type out_oms\n</match>\n"
        );
        let document = fluent::parse("t", &text, &mut ()).unwrap();
        let settings = Settings::from_document(&document, Path::new(STATE)).unwrap();
        let told = settings
            .notes
            .iter()
            .any(|n| matches!(n, Note::Warning(t) if t.contains("are lost: the `<match>` at t:4")));
        assert_eq!(told, lost, "{kind}");
    }
}

proptest! {
    /// Elements and values by chance: what is written anew is read, and does the same.
    #[test]
    fn any_configuration_comes_back_from_its_conversion(
        elements in prop::collection::vec(
            (
                0..1000_usize,
                prop::sample::select(vec!["oms.**", "a.*", "**", "x>y", "it's", "a \"b\""]),
                prop::collection::vec(
                    (
                        0..40_usize,
                        prop_oneof![
                            prop::sample::select(vec!["5", "1m", "30s", "true", "tcp", "unix", "127.0.0.1"])
                                .prop_map(str::to_owned),
                            "/[a-z]{1,3}",
                            any::<String>(),
                        ],
                    ),
                    0..4,
                ),
            ),
            0..8,
        )
    ) {
        let plugins = crate::agent::catalogue::every();
        let mut text = String::new();
        for (plugin, arg, params) in elements {
            let plugin = plugins[plugin % plugins.len()];
            let section = plugin.section.name();
            let arg = match plugin.section {
                Section::Source => String::new(),
                _ => format!(" {}", pattern(arg)),
            };
            text += &format!("<{section}{arg}>\n  type {}\n", plugin.name);
            let names: Vec<&str> = plugin.own_params().map(|p| p.name).chain(["nosuch"]).collect();
            for (name, value) in params {
                text += &format!("  {} {}\n", names[name % names.len()], quoted(&value));
            }
            text += &format!("</{section}>\n");
        }
        let read = |name: &str, text: &str| {
            let document = fluent::parse(name, text, &mut ()).unwrap();
            let (settings, review) = Settings::review(&document, Path::new(STATE));
            let effective = Effective::of(Path::new(name), &document, &settings, &review);
            (effective, convert(&document, &review))
        };
        let (before, new) = read("t", &text);
        if before.errors.is_empty() {
            let (after, _) = read("n", &new);
            prop_assert_eq!(after.without_places(), before.without_places(), "{}\n{}", text, new);
            let document = fluent::parse("n", &new, &mut ()).unwrap();
            let report = Report::of(Path::new("n"), &document, Path::new(STATE), true);
            prop_assert_eq!(report.result, "ok", "{}", new);
        }
    }
}
