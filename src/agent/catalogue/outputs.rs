//! `<match PATTERN>` (protocol.md 5.3, "`<match PATTERN>`", and 3.3 for buffers).

use super::{Param, Plugin, Section, Takes, Verdict};

const fn output(
    name: &'static str,
    spec: &'static str,
    verdict: Verdict,
    params: &'static [&'static [Param]],
) -> Plugin {
    Plugin::new(Section::Match, name, spec, verdict, params)
}

/// Where the original's files are when nothing else is said.
pub(super) const CONF: &str = "/etc/opt/microsoft/omsagent/conf/omsadmin.conf";
pub(super) const CERT: &str = "/etc/opt/microsoft/omsagent/certs/oms.crt";
pub(super) const KEY: &str = "/etc/opt/microsoft/omsagent/certs/oms.key";
pub(super) const PROXY: &str = "/etc/opt/microsoft/omsagent/proxy.conf";

const NOT_BUILT: Verdict = Verdict::Ignored("it is not built in this version");
const NO_EVENTS: Verdict = Verdict::Idle("no source here makes such events");
const NO_LIMIT: &str = "nothing is given up after some number of tries";

const FILES: &[Param] = &[
    Param::honoured("omsadmin_conf_path", Takes::Path).or(CONF),
    Param::honoured("cert_path", Takes::Path).or(CERT),
    Param::honoured("key_path", Takes::Path).or(KEY),
    Param::honoured("proxy_conf_path", Takes::Path).or(PROXY),
    Param::replaced("run_in_background", "a thread of its own for each output").or("false"),
];

/// Defaults are ours; the original's engine had others (protocol.md 3.3).
const BUFFER: &[Param] = &[
    Param::replaced("buffer_type", "the queue, which is always on the disk"),
    Param::honoured("buffer_path", Takes::Path),
    Param::honoured("buffer_chunk_limit", Takes::Size).or("15m"),
    Param::honoured("buffer_queue_limit", Takes::Number(1, 100_000)).or("10"),
    Param::replaced(
        "buffer_queue_full_action",
        "the queue's own rule: the oldest goes first, counted",
    ),
    Param::honoured("flush_interval", Takes::Time).or("2s"),
    Param::replaced("retry_limit", NO_LIMIT),
    Param::honoured("retry_wait", Takes::Time).or("30s"),
    Param::honoured("max_retry_wait", Takes::Time).or("30m"),
    Param::replaced("disable_retry_limit", NO_LIMIT),
    Param::replaced("num_threads", "a thread of its own for each output"),
    Param::replaced(
        "flush_at_shutdown",
        "the queue, which waits for the next start",
    ),
];

const COMPRESS: Param = Param::honoured("compress", Takes::Flag).or("true");

pub(super) const PLUGINS: &[Plugin] = &[
    output(
        "out_oms",
        "5.3, 3.1, 3.3",
        Verdict::Honoured,
        &[FILES, &[COMPRESS], BUFFER],
    ),
    output("null", "5.3", Verdict::Honoured, &[]),
    output(
        "out_oms_blob",
        "5.3, 3.10",
        Verdict::Honoured,
        &[
            FILES,
            &[
                Param::honoured("blob_uri_expiry", Takes::Text).or("00:10:00"),
                Param::ignored(
                    "url_suffix_template",
                    "blobs have the names of the original's default",
                ),
            ],
            BUFFER,
        ],
    ),
    output(
        "out_oms_api",
        "5.3, 3.11",
        Verdict::Honoured,
        &[
            FILES,
            &[
                COMPRESS,
                Param::honoured("api_version", Takes::Text).or("2016-04-01"),
                Param::honoured("time_generated_field", Takes::Text),
            ],
            BUFFER,
        ],
    ),
    output(
        "out_oms_diag",
        "5.3, 3.12",
        NO_EVENTS,
        &[FILES, &[COMPRESS], BUFFER],
    ),
    output(
        "statsd_aggregator",
        "5.3, 3.13",
        NOT_BUILT,
        &[&[
            Param::known("flush_interval").or("10"),
            Param::known("threshold_percentile").or("90"),
            Param::known("persist_file").or("/var/opt/microsoft/omsagent/state/statsd.data"),
            Param::known("out_tag"),
        ]],
    ),
    output(
        "stdout",
        "5.3",
        NOT_BUILT,
        &[&[Param::known("output_type")]],
    ),
    output(
        "file",
        "5.3",
        NOT_BUILT,
        &[
            &[
                Param::known("path"),
                Param::known("time_format"),
                Param::known("time_slice_format"),
                Param::known("append"),
                Param::known("compress"),
            ],
            BUFFER,
        ],
    ),
    output("copy", "5.3", NOT_BUILT, &[]),
    output("forward", "5.3", NOT_BUILT, &[BUFFER]),
];
