//! `<filter PATTERN>` (protocol.md 5.3, "`<filter PATTERN>`").

use super::sources::FORMAT;
use super::{Param, Plugin, Section, Takes, Verdict};

const fn filter(
    name: &'static str,
    spec: &'static str,
    verdict: Verdict,
    params: &'static [&'static [Param]],
) -> Plugin {
    Plugin::new(Section::Filter, name, spec, verdict, params)
}

const NO_EVENTS: Verdict = Verdict::Idle("no source here makes such events");
const NOT_BUILT: Verdict = Verdict::Ignored("it is not built in this version");

const CACHE: Param = Param::replaced(
    "ip_cache_refresh_interval",
    "300 s, for which an answer of DNS is used",
)
.or("300");

/// Of the shipped ones, what `filter_syslog` does to records is done where records are made.
pub(super) const PLUGINS: &[Plugin] = &[
    filter("filter_syslog", "5.3, 3.5", Verdict::Honoured, &[&[CACHE]]),
    filter(
        "filter_syslog_security",
        "5.3, 3.6",
        Verdict::Ignored("security events are not told apart in this version"),
        &[&[CACHE]],
    ),
    filter("filter_operation", "5.3, 3.9", NO_EVENTS, &[]),
    filter("filter_nagios_log", "5.3, 3.14", NO_EVENTS, &[]),
    filter("filter_collectd", "5.3, 3.13", NO_EVENTS, &[]),
    filter(
        "filter_flatten",
        "5.3",
        NO_EVENTS,
        &[&[Param::known("select").or("record")]],
    ),
    filter("filter_changetracking", "5.3, 3.15", NO_EVENTS, &[]),
    filter("filter_patch_management", "5.3, 3.15", NO_EVENTS, &[]),
    filter("filter_security_baseline", "5.3, 3.15", NO_EVENTS, &[]),
    filter("filter_auditd_plugin", "5.3, 3.15", NO_EVENTS, &[]),
    filter(
        "record_transformer",
        "5.3",
        NOT_BUILT,
        &[&[
            Param::known("enable_ruby").or("false"),
            Param::known("remove_keys"),
            Param::known("renew_record").or("false"),
        ]],
    ),
    filter(
        "grep",
        "5.3",
        NOT_BUILT,
        &[&[Param::known("regexp#"), Param::known("exclude#")]],
    ),
    filter(
        "parser",
        "5.3, 5.4",
        NOT_BUILT,
        &[
            &[
                Param::known("key_name"),
                Param::honoured("reserve_data", Takes::Flag).or("false"),
            ],
            FORMAT,
        ],
    ),
];
