//! Configurations as users write them.

use super::*;
use crate::settings::fluent;

fn read(text: &str) -> Result<Settings, Problem> {
    let document = fluent::parse("t.conf", text, &mut ())?;
    Settings::from_document(&document, Path::new("/state"))
}

fn warnings(settings: &Settings) -> Vec<&str> {
    let warning = |n: &'_ Note| matches!(n, Note::Warning(_));
    let text = |n: &'_ Note| match n {
        Note::Warning(t) | Note::Info(t) => t.clone(),
    };
    let found: Vec<String> = settings
        .notes
        .iter()
        .filter(|n| warning(n))
        .map(text)
        .collect();
    found.into_iter().map(|s| &*s.leak()).collect()
}

#[test]
fn a_whole_configuration() {
    let settings = read(
        "\
<source>
  type syslog
  port 25230
  bind 127.0.0.1
  protocol_type udp
  tag oms.syslog
</source>
<filter oms.syslog.**>
  type filter_syslog
</filter>
<source>
  type oms_heartbeat
  interval 1m
</source>
<match oms.heartbeat.**>
  type out_oms
  buffer_path /s/hb*.buffer
  buffer_chunk_limit 1m
  buffer_queue_limit 5
</match>
<match oms.** docker.**>
  type out_oms
  log_level info
  omsadmin_conf_path /c/omsadmin.conf
  cert_path /k/oms.crt
  key_path /k/oms.key
  buffer_type file
  buffer_path /s/out_oms_common*.buffer
  buffer_chunk_limit 15m
  buffer_queue_limit 10
  flush_interval 20s
  retry_limit 6
  retry_wait 30s
  max_retry_wait 30m
</match>
",
    )
    .unwrap();
    assert_eq!(warnings(&settings), Vec::<&str>::new());
    let syslog = &settings.syslog[0];
    assert_eq!((syslog.port, &syslog.listen), (25230, &Listen::Udp));
    assert!(syslog.bind.is_loopback());
    assert_eq!(
        settings.heartbeats[0].interval,
        Some(Duration::from_secs(60))
    );
    assert_eq!(settings.heartbeats[0].tag, "oms.heartbeat");
    assert_eq!(settings.route("oms.heartbeat"), Some(Route::Output(0)));
    assert_eq!(
        settings.route("oms.syslog.auth.warn"),
        Some(Route::Output(1))
    );
    assert_eq!(settings.route("diag.oms"), None);
    let main = &settings.outputs[1];
    assert_eq!(main.queue, Path::new("/s/out_oms_common.queue"));
    assert_eq!(main.limit, 150 << 20);
    assert_eq!(main.request, 1 << 20);
    assert_eq!(main.flush_interval, Duration::from_secs(20));
    assert_eq!(main.files.cert, Path::new("/k/oms.crt"));
    assert_eq!(
        main.files.proxy,
        Path::new("/etc/opt/microsoft/omsagent/proxy.conf")
    );
}

#[test]
fn what_is_not_known_is_one_warning_and_the_rest_runs() {
    let settings = read(
        "\
<source>
  type strange
</source>
<source>
  type syslog
  colour blue
  <parse>
  </parse>
</source>
<filter **>
  type grep
</filter>
<match stdout.**>
  type stdout
</match>
<match oms.**>
  type out_oms
</match>
<gizmo>
</gizmo>
",
    )
    .unwrap();
    let warnings = warnings(&settings);
    assert_eq!(warnings.len(), 6, "{warnings:?}");
    for (text, wanted) in warnings.iter().zip([
        "t.conf:1: a source of type `strange`",
        "t.conf:6: parameter `colour`",
        "t.conf:7: `<parse>`",
        "t.conf:10: a filter of type `grep`",
        "t.conf:13: an output of type `stdout`",
        "t.conf:19: `<gizmo>`",
    ]) {
        assert!(text.starts_with(wanted), "{text}");
    }
    assert_eq!(settings.route("stdout.x"), Some(Route::Unsupported));
    assert_eq!(settings.outputs[0].queue, Path::new("/state/output0.queue"));
}

#[test]
fn events_nobody_takes_are_told_at_the_start() {
    let settings = read("<source>\n type oms_heartbeat\n tag x.y\n</source>\n").unwrap();
    let warnings = warnings(&settings);
    assert!(warnings[0].contains("nothing will be sent"), "{warnings:?}");
    assert!(
        warnings[1].contains("no patterns matched tag=\"x.y\""),
        "{warnings:?}"
    );
}

#[test]
fn mistakes_name_file_and_line() {
    for (text, wanted) in [
        (
            "<source>\ntype syslog\nport 70000\n</source>\n",
            "t.conf:3: `port` is `70000`",
        ),
        (
            "<source>\ntype syslog\nport x\n</source>\n",
            "t.conf:3: `port` is `x`",
        ),
        (
            "<source>\ntype syslog\nbind here\n</source>\n",
            "t.conf:3: `bind`",
        ),
        (
            "<source>\ntype syslog\nprotocol_type sctp\n</source>\n",
            "t.conf:3: `protocol_type`",
        ),
        (
            "<source>\ntype syslog\nprotocol_type unix\n</source>\n",
            "t.conf:1: `path` is missing",
        ),
        (
            "<source>\ntype syslog\nprotocol_type unix\npath x\n</source>\n",
            "t.conf:4: `path` is `x`",
        ),
        (
            "<source>\ntype syslog\npath /s\n</source>\n<source>\ntype syslog\nport 1\npath /s\n</source>\n",
            "t.conf:5: socket `/s` is also that of the source at t.conf:1",
        ),
        (
            "<source>\ntype syslog\ntag a\"b\n</source>\n",
            "t.conf:3: `tag`",
        ),
        (
            "<source>\ntype oms_heartbeat\ninterval soon\n</source>\n",
            "t.conf:3: `interval`",
        ),
        (
            "<source>\ntype tail\ntag x\n</source>\n",
            "t.conf:1: `path` is missing",
        ),
        (
            "<source>\ntype tail\npath /x\n</source>\n",
            "t.conf:1: `tag` is missing",
        ),
        (
            "<source>\ntype tail\npath x,/y\ntag t\n</source>\n",
            "t.conf:3: `path` is `x,/y`: it must be at most",
        ),
        (
            "<source>\ntype tail\npath /x\ntag t\nformat csv\n</source>\n",
            "t.conf:1: `keys` is missing",
        ),
        (
            "<source>\ntype tail\npath /x\ntag t\nexclude_path [1]\n</source>\n",
            "t.conf:5: `exclude_path`",
        ),
        (
            "<match a>\ntype out_oms_api\napi_version a&b\n</match>\n",
            "t.conf:3: `api_version`",
        ),
        (
            "<match>\ntype out_oms\n</match>\n",
            "t.conf:1: `<match>` needs",
        ),
        (
            "<match a>\ntype out_oms\nbuffer_chunk_limit big\n</match>\n",
            "t.conf:3: `buffer_chunk",
        ),
        (
            "<match a>\ntype out_oms\nbuffer_queue_limit 0\n</match>\n",
            "t.conf:3: `buffer_queue",
        ),
        (
            "<match a>\ntype out_oms\nbuffer_path /q\n</match>\n<match b>\ntype out_oms\nbuffer_path /q\n</match>\n",
            "t.conf:5: its `buffer_path` is also that of the output at t.conf:1",
        ),
    ] {
        let problem = read(text).unwrap_err().to_string();
        assert!(problem.starts_with(wanted), "{text}: {problem}");
    }
}

#[test]
fn counters_and_those_that_cannot_be() {
    let source = |more: &str| format!("<source>\ntype oms_omi\n{more}\n</source>\n");
    let text = [
        source("object_name \"Process\"\ninstance_regex ^sh\ncounter_name_regex \"(Used Memory|x)\"\ninterval 30s"),
        source("object_name Memory\ninstance_regex (a"),
        source("object_name Memory\n\ncounter_name_regex (?=x)"),
        source("object_name Container\ninterval 30s"),
        source("object_name Load"),
        source("object_name System\ntag a.b\nwlm_enabled true"),
        "<match oms.**>\ntype out_oms\n</match>\n".to_owned(),
    ]
    .concat();
    let settings = read(&text).unwrap();
    assert_eq!(settings.counters.len(), 2);
    let process = &settings.counters[0];
    assert_eq!(process.interval, Some(Duration::from_secs(30)));
    assert_eq!((process.tag.as_str(), process.workload), ("oms.omi", false));
    assert_eq!(settings.route("oms.omi"), Some(Route::Output(0)));
    assert!(process.instances.finds("sh") && !process.instances.finds("bash"));
    let names: Vec<_> = process.selection.counters.iter().flatten().collect();
    assert_eq!(names, ["Used Memory kBytes"]);
    assert!(settings.counters[1].workload);
    let warnings = warnings(&settings);
    let wanted = [
        "t.conf:8: a source of type `oms_omi` is left out: `instance_regex` in line 11 is no regular",
        "t.conf:13: a source of type `oms_omi` is left out: `counter_name_regex` in line 17 is no",
        "t.conf:19: a source of type `oms_omi` is left out: counters of the object `Container` are",
        "t.conf:24: a source of type `oms_omi` is left out: `Load` is no object: there are Processor,",
        "no patterns matched tag=\"a.b\": its events are lost",
    ];
    assert_eq!(warnings.len(), wanted.len(), "{warnings:?}");
    for (text, wanted) in warnings.iter().zip(wanted) {
        assert!(text.starts_with(wanted), "{text}");
    }
    let problem = read(&source("interval 30s")).unwrap_err().to_string();
    assert_eq!(problem, "t.conf:1: `object_name` is missing");
    let other = read(&text.replace("30s", "31s")).unwrap();
    assert!(!settings.does_the_same(&other));
}

#[test]
fn a_mapping_file_that_is_none_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.json");
    let source = format!(
        "<source>\ntype oms_omi\nobject_name Memory\nomi_mapping_path {}\n</source>\n",
        path.display()
    );
    let text = format!("{source}{source}<match **>\ntype out_oms\n</match>\n");
    assert!(
        read(&text).unwrap().notes.is_empty(),
        "it need not be there"
    );
    std::fs::write(&path, "{").unwrap();
    let settings = read(&text).unwrap();
    assert_eq!(settings.counters.len(), 2);
    let warnings = warnings(&settings);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("is no mapping") && warnings[0].contains("usual names"));
}

#[test]
fn files_as_omsconfig_and_people_write_them() {
    let settings = read(
        "\
<source>
  type sudo_tail
  path /var/log/a/*.log,/var/log/b.log /var/log/c.log
  pos_file /var/opt/microsoft/omsagent/state/App.pos
  read_from_head false
  run_interval 30
  tag oms.blob.CustomLog.CUSTOM_LOG_BLOB.App_CL_ws.*
  format none
</source>
<source>
  type tail
  path /var/log/x-%Y.log
  exclude_path [\"/var/log/*.gz\", \"/var/log/*.zip\"]
  tag oms.api.App
  format tsv
  keys a, b
  types a:integer,b:time
  path_key file
  from_encoding ISO-8859-1
</source>
<source>
  type tail
  path /var/log/y.log
  tag oms.api.*
  format /^(?<a>.*)$/
</source>
<match oms.blob.**>
  type out_oms_blob
</match>
<match oms.**>
  type out_oms_api
</match>
",
    )
    .unwrap();
    let [custom, app, y] = &settings.tails[..] else {
        panic!("{:?}", settings.tails);
    };
    assert_eq!(
        custom.patterns.include,
        ["/var/log/a/*.log", "/var/log/b.log", "/var/log/c.log"]
    );
    assert_eq!(custom.refresh, Duration::from_secs(30));
    assert_eq!(custom.tag_of(Path::new("/var/log/b.log")), custom.tag);
    assert_eq!(app.patterns.exclude, ["/var/log/*.gz", "/var/log/*.zip"]);
    assert_eq!(app.pos_file, Path::new("/state/tail.pos"));
    assert!(app.latin1 && app.path_key.as_deref() == Some("file"));
    assert_eq!(
        y.tag_of(Path::new("/var/log//y.log")),
        "oms.api.var.log.y.log"
    );
    let warnings = warnings(&settings);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].starts_with("t.conf:17: parameter `types` is left out: `b:time`"),
        "{warnings:?}"
    );
    assert!(
        warnings[1].starts_with("t.conf:25: parameter `format` is left out: regular expressions"),
        "{warnings:?}"
    );
}

#[test]
fn lines_that_cannot_be_sent_are_told() {
    for (tag, kind, lost) in [
        ("oms.mine", "out_oms", true),
        ("oms.blob.CustomLog.X.Y.*", "out_oms_blob", false),
        ("oms.blob.CustomLog", "out_oms_blob", true),
        ("oms.api.App", "out_oms_api", false),
        ("oms.api.1", "out_oms_api", true),
        ("other", "out_oms_api", true),
    ] {
        let settings = read(&format!(
            "<source>\n type tail\n path /x\n tag {tag}\n</source>\n<match oms.**>\n type {kind}\n</match>\n"
        ));
        let settings = settings.unwrap();
        let told = warnings(&settings).iter().any(|w| w.contains("lost"));
        assert_eq!(told, lost, "{tag} {kind}: {:?}", settings.notes);
    }
}

#[test]
fn our_own_templates_are_understood_without_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("omsagent.d")).unwrap();
    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/conf");
    let mut names = vec!["omsagent.conf".to_owned()];
    for entry in std::fs::read_dir(templates.join("omsagent.d")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        names.push(format!("omsagent.d/{name}"));
    }
    assert_eq!(names.len(), 6);
    for name in names {
        let text = std::fs::read_to_string(templates.join(&name)).unwrap();
        let text = text
            .replace("%SYSLOG_PORT%", "25224")
            .replace("%MONITOR_AGENT_PORT%", "25324");
        let text = ["CONF", "CERT", "TMP", "RUN", "STATE", "LOG"]
            .iter()
            .fold(text, |t, dir| {
                t.replace(&format!("%{dir}_DIR_WS%"), &format!("/x/{dir}"))
            });
        assert!(!text.contains('%'), "{name} has an unknown placeholder");
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let document = fluent::load(&dir.path().join("omsagent.conf")).unwrap();
    let settings = Settings::from_document(&document, Path::new("/state")).unwrap();
    assert_eq!(warnings(&settings), Vec::<&str>::new());
    assert_eq!((settings.syslog.len(), settings.heartbeats.len()), (1, 1));
    assert_eq!((settings.topology.len(), settings.outputs.len()), (1, 3));
    assert_eq!(settings.syslog[0].port, 25224);
    let heartbeat = settings.route("oms.heartbeat");
    let syslog = settings.route("oms.syslog.auth.warn");
    assert!(heartbeat.is_some() && syslog.is_some() && heartbeat != syslog);
    let blob = settings.route("oms.blob.CustomLog.CUSTOM_LOG_BLOB.App_CL_x.*");
    assert_eq!(blob, Some(Route::Output(1)));
    assert_eq!(settings.outputs[1].form.operation(), "ODSIngestionBlob");
    let main = &settings.outputs[2];
    assert_eq!(main.flush_interval, Duration::from_secs(2));
    assert_eq!(main.retry_wait, Duration::from_secs(30));
    assert_eq!(main.queue, Path::new("/x/STATE/out_oms_common.queue"));
}
