//! `<source>` (protocol.md 5.3, "`<source>`", and 5.4 for formats).

use super::{Param, Plugin, Section, Takes, Verdict};

const fn source(
    name: &'static str,
    spec: &'static str,
    verdict: Verdict,
    params: &'static [&'static [Param]],
) -> Plugin {
    Plugin::new(Section::Source, name, spec, verdict, params)
}

const NO_COMMANDS: Verdict = Verdict::Ignored("commands are not run in this version");
const NO_PORT: Verdict = Verdict::Ignored("nothing listens for it in this version");
const NO_COUNTERS: Verdict = Verdict::Ignored("counters are not collected in this version");

const ITEM_KEYS: &str = "items have the keys of the Syslog table, no others";
const BY_ITSELF: &str = "the message, which tells its form by itself";

const FILES: &[Param] = &[
    Param::honoured("omsadmin_conf_path", Takes::Path).or(super::outputs::CONF),
    Param::honoured("cert_path", Takes::Path).or(super::outputs::CERT),
    Param::honoured("key_path", Takes::Path).or(super::outputs::KEY),
    Param::replaced(
        "pid_path",
        "the agent itself, which takes up a new certificate at once",
    ),
    Param::honoured("proxy_path", Takes::Path).or(super::outputs::PROXY),
    Param::replaced("os_info", "scx-release at its usual place"),
    Param::replaced("install_info", "installinfo.txt at its usual place"),
];

/// Parameters of every format (protocol.md 5.4).
pub(super) const FORMAT: &[Param] = &[
    Param::known("format"),
    Param::known("format_firstline"),
    Param::known("format#"),
    Param::known("keys"),
    Param::known("delimiter"),
    Param::known("time_key").or("time"),
    Param::known("time_format"),
    Param::known("keep_time_key").or("false"),
    Param::known("types"),
    Param::known("null_value_pattern"),
];

/// The formats of files (protocol.md 5.4): some are built, the loader says which.
const LINES: &[Param] = &[
    Param::honoured("format", Takes::Text).or("none"),
    Param::ignored("format_firstline", NO_PATTERNS),
    Param::ignored("format#", NO_PATTERNS),
    Param::honoured("keys", Takes::Text),
    Param::honoured("delimiter", Takes::Text),
    Param::honoured("label_delimiter", Takes::Text),
    Param::honoured("time_key", Takes::Text).or("time"),
    Param::replaced(
        "time_format",
        "the service, which reads the time field by itself",
    ),
    Param::honoured("keep_time_key", Takes::Flag).or("false"),
    Param::honoured("types", Takes::Text),
    Param::ignored("null_value_pattern", NO_PATTERNS),
];

const NO_PATTERNS: &str = "regular expressions are not built in this version";

const TAIL: &[Param] = &[
    Param::honoured("path", Takes::Text),
    Param::honoured("exclude_path", Takes::Text),
    Param::honoured("tag", Takes::Tag),
    Param::honoured("pos_file", Takes::Path),
    Param::honoured("read_from_head", Takes::Flag).or("false"),
    Param::honoured("refresh_interval", Takes::Time).or("60"),
    Param::honoured("rotate_wait", Takes::Time).or("5"),
    Param::honoured("read_lines_limit", Takes::Number(1, 1_000_000)).or("1000"),
    Param::ignored("multiline_flush_interval", NO_PATTERNS),
    Param::honoured("path_key", Takes::Text),
    Param::honoured("encoding", Takes::Text),
    Param::honoured("from_encoding", Takes::Text),
];

const SUDO_TAIL: &[Param] = &[
    Param::honoured("path", Takes::Text),
    Param::honoured("pos_file", Takes::Path),
    Param::honoured("tag", Takes::Tag),
    Param::honoured("run_interval", Takes::Time).or("60"),
    Param::honoured("read_from_head", Takes::Flag).or("false"),
];

const EXEC: &[Param] = &[
    Param::honoured("command", Takes::Command),
    Param::known("tag"),
    Param::known("tag_key"),
    Param::known("run_interval"),
];

const SOCKET: &[Param] = &[
    Param::known("port"),
    Param::known("bind").or("0.0.0.0"),
    Param::known("tag"),
];

pub(super) const PLUGINS: &[Plugin] = &[
    source(
        "syslog",
        "5.3, 6.3, 6.4",
        Verdict::Honoured,
        &[&[
            Param::honoured("port", Takes::Number(0, 65535)).or("5140"),
            Param::honoured("bind", Takes::Address).or("0.0.0.0"),
            Param::honoured("tag", Takes::Tag).or("oms.syslog"),
            Param::honoured("protocol_type", Takes::OneOf(&["udp", "tcp", "unix"])).or("udp"),
            Param::honoured("path", Takes::Socket),
            Param::replaced(
                "delimiter",
                "line feeds and octet counts, told apart by themselves",
            ),
            Param::ignored("format", "messages are read as RFC 3164 or RFC 5424 only"),
            Param::replaced("time_format", BY_ITSELF),
            Param::replaced("message_format", BY_ITSELF),
            Param::replaced("rfc5424_time_format", BY_ITSELF),
            Param::replaced("message_length_limit", "a limit of 64 KiB"),
            Param::honoured("allow_without_priority", Takes::Flag).or("false"),
            Param::honoured("default_priority", Takes::Number(0, 191)).or("13"),
            Param::ignored("priority_key", ITEM_KEYS),
            Param::ignored("facility_key", ITEM_KEYS),
            Param::ignored("source_hostname_key", ITEM_KEYS),
            Param::ignored("source_address_key", ITEM_KEYS),
            Param::ignored("keep_time_key", ITEM_KEYS),
        ]],
    ),
    source(
        "oms_heartbeat",
        "5.3, 3.8",
        Verdict::Honoured,
        &[&[
            Param::honoured("interval", Takes::Time),
            Param::honoured("tag", Takes::Tag).or("oms.heartbeat"),
        ]],
    ),
    source(
        "heartbeat_request",
        "5.3, 2.1",
        Verdict::Honoured,
        &[
            &[Param::honoured("run_interval", Takes::Time).or("20m")],
            FILES,
        ],
    ),
    source(
        "agent_telemetry",
        "5.3, 2.3",
        Verdict::Honoured,
        &[
            &[
                Param::honoured("query_interval", Takes::Time).or("5m"),
                Param::honoured("poll_interval", Takes::Time).or("15s"),
            ],
            FILES,
        ],
    ),
    source(
        "monitor_agent",
        "5.3",
        Verdict::Replaced("`omsagent status`"),
        &[SOCKET, &[Param::known("emit_interval")]],
    ),
    source(
        "dsc_monitor",
        "5.3, 3.9",
        Verdict::Idle("omsconfig is not watched in this version"),
        &[&[
            Param::known("tag"),
            Param::known("check_install_interval").or("86400"),
            Param::known("check_status_interval").or("1800"),
            Param::known("dsc_cache_file"),
        ]],
    ),
    Plugin {
        only: Some(("tag", "heartbeat.output")),
        ..source(
            "exec",
            "5.3, 7.8",
            Verdict::Idle("omsconfig's place holder, which never did anything"),
            &[EXEC, FORMAT],
        )
    },
    source("exec", "5.3", NO_COMMANDS, &[EXEC, FORMAT]),
    source("tail", "5.3 to 5.5", Verdict::Honoured, &[TAIL, LINES]),
    source(
        "sudo_tail",
        "5.3 to 5.5, 7.6",
        Verdict::Honoured,
        &[SUDO_TAIL, LINES],
    ),
    source(
        "http",
        "5.3, 3.13",
        NO_PORT,
        &[
            &[
                Param::known("port").or("9880"),
                Param::known("bind").or("0.0.0.0"),
                Param::known("body_size_limit").or("32m"),
                Param::known("keepalive_timeout").or("10"),
            ],
            FORMAT,
        ],
    ),
    source("udp", "5.3, 3.13", NO_PORT, &[SOCKET, FORMAT]),
    source("tcp", "5.3, 3.15", NO_PORT, &[SOCKET, FORMAT]),
    source(
        "oms_omi",
        "5.3, 3.7, 4",
        Verdict::Honoured,
        &[&[
            Param::honoured("object_name", Takes::Text),
            Param::honoured("instance_regex", Takes::Text).or(".*"),
            Param::honoured("counter_name_regex", Takes::Text).or(".*"),
            Param::honoured("interval", Takes::Time),
            Param::honoured("tag", Takes::Tag).or("oms.omi"),
            Param::honoured("omi_mapping_path", Takes::Path)
                .or("/etc/opt/microsoft/omsagent/conf/omsagent.d/omi_mapping.json"),
            Param::honoured("wlm_enabled", Takes::Flag).or("false"),
        ]],
    ),
    source(
        "zabbix_alerts",
        "5.3, 3.14",
        Verdict::Ignored("Zabbix is not asked in this version"),
        &[&[
            Param::known("run_interval"),
            Param::known("tag").or("oms.zabbix"),
            Param::known("zabbix_url").or("http://localhost/zabbix/api_jsonrpc.php"),
            Param::known("zabbix_username").or("Admin"),
            Param::honoured("zabbix_password", Takes::Secret),
        ]],
    ),
    source(
        "mysql_workload",
        "5.3, 3.13",
        NO_COUNTERS,
        &[&[
            Param::known("host").or("localhost"),
            Param::known("port").or("3306"),
            Param::known("username"),
            Param::honoured("password", Takes::Secret),
            Param::known("database"),
            Param::known("interval").or("1m"),
            Param::known("tag"),
        ]],
    ),
    source(
        "mongostat",
        "5.3, 3.13",
        NO_COUNTERS,
        &[&[
            Param::known("host"),
            Param::known("port"),
            Param::known("user"),
            Param::honoured("password", Takes::Secret),
            Param::known("auth_database"),
            Param::known("run_interval"),
            Param::known("tag"),
        ]],
    ),
    source(
        "npmd",
        "5.3",
        Verdict::Idle("the network monitor's own program is not here"),
        &[],
    ),
    source(
        "wlm_*",
        "5.3",
        Verdict::Idle("workload monitoring's own program is not here"),
        &[],
    ),
];
