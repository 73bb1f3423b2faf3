//! From the text of omsagent.conf to what shall run: typed sources and outputs (protocol.md 5.3).
//!
//! What we do not know is one note each, and the rest runs. What we know and cannot read (a port
//! that is no number) is an error that names file and line.

use crate::agent::route::Pattern;
use crate::settings::fluent::{self, BadValue, Document, Element, Problem};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Default of `port` of a `syslog` source.
pub const SYSLOG_PORT: u16 = 5140;
/// Where the original's files are when nothing else is said.
const CONF: &str = "/etc/opt/microsoft/omsagent/conf/omsadmin.conf";
const CERT: &str = "/etc/opt/microsoft/omsagent/certs/oms.crt";
const KEY: &str = "/etc/opt/microsoft/omsagent/certs/oms.key";
const PROXY: &str = "/etc/opt/microsoft/omsagent/proxy.conf";
/// Largest `buffer_chunk_limit` that has a meaning for us: what one request carries.
const REQUEST_LIMIT: u64 = 1 << 20;

/// What shall run.
#[derive(Debug)]
pub struct Settings {
    /// Syslog listeners.
    pub syslog: Vec<Syslog>,
    /// Heartbeats.
    pub heartbeats: Vec<Heartbeat>,
    /// Topology heartbeats (protocol.md 2.1).
    pub topology: Vec<Topology>,
    /// Reports on the agent itself (protocol.md 2.3).
    pub telemetry: Vec<Telemetry>,
    /// Destinations.
    pub outputs: Vec<Output>,
    /// Every `<match>` in order.
    routes: Vec<(Pattern, Route)>,
    /// What a person should know.
    pub notes: Vec<Note>,
}

/// Where an event goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// To the output of that number.
    Output(usize),
    /// A `<match>` of a type we do not have takes it: it is lost, as is written there.
    Unsupported,
}

/// Something to tell a person about the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Not done, though it was asked for.
    Warning(String),
    /// Fine as it is.
    Info(String),
}

/// `type syslog`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syslog {
    /// Address to listen on.
    pub bind: IpAddr,
    /// Port; 0 picks a free one.
    pub port: u16,
    /// UDP too, not TCP alone.
    pub udp: bool,
    /// First parts of the tag; facility and severity follow.
    pub tag: String,
    /// For lines without a priority; `None` refuses them.
    pub default_priority: Option<u32>,
    /// Where it is written.
    pub place: String,
}

/// `type oms_heartbeat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// `None` is one only.
    pub interval: Option<Duration>,
    /// Tag.
    pub tag: String,
}

/// `type heartbeat_request`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// Until the service says another.
    pub interval: Duration,
    /// The workspace's files.
    pub files: Files,
}

/// `type agent_telemetry`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// Between reports, until the service says another.
    pub interval: Duration,
    /// Between two looks at what the agent uses.
    pub poll_interval: Duration,
    /// The workspace's files.
    pub files: Files,
}

/// The files that say who we are and where to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// omsadmin.conf.
    pub omsadmin: PathBuf,
    /// Client certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// proxy.conf.
    pub proxy: PathBuf,
    /// Certificate and key come from the service manager and cannot be changed.
    pub handed_over: bool,
}

/// `type out_oms`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its pattern, for messages.
    pub name: String,
    /// Who we are and where to.
    pub files: Files,
    /// Folder of its queue.
    pub queue: PathBuf,
    /// Bytes the queue may take.
    pub limit: u64,
    /// Bytes of items in one request, about.
    pub request: usize,
    /// How long an item waits for company.
    pub flush_interval: Duration,
    /// First wait after a failure.
    pub retry_wait: Duration,
    /// Longest wait after a failure.
    pub max_retry_wait: Duration,
    /// With `Content-Encoding: deflate`.
    pub compress: bool,
    /// Where it is written.
    pub place: String,
}

impl Settings {
    /// Reads a configuration. `state` is where queues go that name no place.
    pub fn from_document(document: &Document, state: &Path) -> Result<Settings, Problem> {
        let mut settings = Settings {
            syslog: Vec::new(),
            heartbeats: Vec::new(),
            topology: Vec::new(),
            telemetry: Vec::new(),
            outputs: Vec::new(),
            routes: Vec::new(),
            notes: Vec::new(),
        };
        for warning in &document.warnings {
            settings.warn(warning.to_string());
        }
        for element in &document.elements {
            match element.name.as_str() {
                "source" => settings.source(element)?,
                "match" => settings.output(element, state)?,
                "filter" => settings.filter(element),
                "system" => {}
                other => settings.warn(format!(
                    "{}: `<{other}>` is not known here and is left out",
                    element.place
                )),
            }
        }
        for param in &document.params {
            if !COMMON.contains(&param.key.as_str()) {
                settings.warn(format!(
                    "{}: `{}` outside of any element is not known here and is left out",
                    param.place, param.key
                ));
            }
        }
        settings.judge();
        Ok(settings)
    }

    /// Does it do the same as `other`, whatever there is to say about each?
    pub fn does_the_same(&self, other: &Settings) -> bool {
        (&self.syslog, &self.heartbeats, &self.topology)
            == (&other.syslog, &other.heartbeats, &other.topology)
            && (&self.outputs, &self.routes) == (&other.outputs, &other.routes)
            && self.telemetry == other.telemetry
    }

    /// Who takes events with this tag: the first `<match>` whose pattern does.
    pub fn route(&self, tag: &str) -> Option<Route> {
        let found = self.routes.iter().find(|(pattern, _)| pattern.takes(tag));
        found.map(|(_, route)| *route)
    }

    fn warn(&mut self, text: String) {
        self.notes.push(Note::Warning(text));
    }

    fn source(&mut self, element: &Element) -> Result<(), Problem> {
        let kind = element.kind().map_or("", |p| p.value.as_str());
        let read = Reader { element };
        match kind {
            "syslog" => {
                self.unknown_params(element, SYSLOG_PARAMS);
                let transport = read.text("protocol_type").unwrap_or("udp");
                if transport == "unix" {
                    self.warn(format!(
                        "{}: a syslog source on a unix socket is not built yet and is left out",
                        element.place
                    ));
                    return Ok(());
                }
                let udp = match transport {
                    "udp" => true,
                    "tcp" => false,
                    _ => return Err(read.wrong("protocol_type", "`udp` or `tcp`")),
                };
                let without = read.boolean("allow_without_priority")?.unwrap_or(false);
                let priority = read.number("default_priority", 0, 191)?.unwrap_or(13);
                self.syslog.push(Syslog {
                    bind: match read.text("bind") {
                        None => Ipv4Addr::UNSPECIFIED.into(),
                        Some("localhost") => Ipv4Addr::LOCALHOST.into(),
                        Some(text) => text
                            .parse()
                            .map_err(|_| read.wrong("bind", "an IP address"))?,
                    },
                    port: read.number("port", 0, 65535)?.unwrap_or(SYSLOG_PORT.into()) as u16,
                    udp,
                    tag: read.tag("oms.syslog")?,
                    default_priority: without.then_some(priority),
                    place: element.place.to_string(),
                });
            }
            "oms_heartbeat" => {
                self.unknown_params(element, &["tag", "interval"]);
                self.heartbeats.push(Heartbeat {
                    interval: read.duration("interval")?,
                    tag: read.tag("oms.heartbeat")?,
                });
            }
            "heartbeat_request" => {
                self.unknown_params(element, TOPOLOGY_PARAMS);
                let interval = read.duration("run_interval")?;
                self.topology.push(Topology {
                    interval: interval.unwrap_or(Duration::from_secs(1200)),
                    files: read.files("proxy_path"),
                });
            }
            "agent_telemetry" => {
                self.unknown_params(element, TELEMETRY_PARAMS);
                let seconds = Duration::from_secs;
                self.telemetry.push(Telemetry {
                    interval: read.duration("query_interval")?.unwrap_or(seconds(300)),
                    poll_interval: read.duration("poll_interval")?.unwrap_or(seconds(15)),
                    files: read.files("proxy_path"),
                });
            }
            "dsc_monitor" | "monitor_agent" | "npmd" => {
                self.notes.push(Note::Info(format!(
                    "{}: source `{kind}` has nothing to do in this version",
                    element.place
                )));
            }
            // The original's placeholder, there to be found and rewritten by omsconfig.
            "exec" if read.text("tag") == Some("heartbeat.output") => {}
            _ if kind.starts_with("wlm_") => {}
            "" => self.warn(format!(
                "{}: a source without `type` is left out",
                element.place
            )),
            _ => self.warn(format!(
                "{}: a source of type `{kind}` is not known here and is left out",
                element.place
            )),
        }
        Ok(())
    }

    fn filter(&mut self, element: &Element) {
        let kind = element.kind().map_or("", |p| p.value.as_str());
        // What these do to our own sources' records is done where the records are made.
        if !["filter_syslog", "filter_operation"].contains(&kind) {
            self.warn(format!(
                "{}: a filter of type `{kind}` is not known here: events pass unfiltered",
                element.place
            ));
        }
    }

    fn output(&mut self, element: &Element, state: &Path) -> Result<(), Problem> {
        let read = Reader { element };
        let Some(pattern) = Pattern::parse(&element.arg) else {
            return Err(Problem {
                place: element.place.clone(),
                text: "`<match>` needs a tag pattern, as in `<match oms.**>`".into(),
            });
        };
        let kind = element.kind().map_or("", |p| p.value.as_str());
        if kind != "out_oms" {
            if !["null", "out_oms_blob", "out_oms_diag"].contains(&kind) {
                self.warn(format!(
                    "{}: an output of type `{kind}` is not known here: what `<match {}>` takes is lost",
                    element.place, element.arg
                ));
            }
            self.routes.push((pattern, Route::Unsupported));
            return Ok(());
        }
        self.unknown_params(element, OUTPUT_PARAMS);
        let number = self.outputs.len();
        let queue = match read.text("buffer_path") {
            Some(path) => queue_folder(path),
            None => state.join(format!("output{number}.queue")),
        };
        if let Some(other) = self.outputs.iter().find(|o| o.queue == queue) {
            return Err(Problem {
                place: element.place.clone(),
                text: format!(
                    "its `buffer_path` is also that of the output at {}; give each its own",
                    other.place
                ),
            });
        }
        let chunk = read.size("buffer_chunk_limit")?.unwrap_or(15 << 20);
        let chunks = read.number("buffer_queue_limit", 1, 100_000)?.unwrap_or(10);
        let seconds = Duration::from_secs;
        let retry_wait = read.duration("retry_wait")?.unwrap_or(seconds(30));
        self.outputs.push(Output {
            name: element.arg.clone(),
            files: read.files("proxy_conf_path"),
            queue,
            limit: chunk.saturating_mul(chunks.into()),
            request: chunk.clamp(1, REQUEST_LIMIT) as usize,
            flush_interval: read.duration("flush_interval")?.unwrap_or(seconds(2)),
            // Zero would be a busy loop.
            retry_wait: retry_wait.max(Duration::from_millis(10)),
            max_retry_wait: read
                .duration("max_retry_wait")?
                .unwrap_or(seconds(1800))
                .max(retry_wait),
            compress: read.boolean("compress")?.unwrap_or(true),
            place: element.place.to_string(),
        });
        self.routes.push((pattern, Route::Output(number)));
        Ok(())
    }

    fn unknown_params(&mut self, element: &Element, known: &[&str]) {
        for param in &element.params {
            let key = param.key.as_str();
            if !known.contains(&key) && !COMMON.contains(&key) {
                self.warn(format!(
                    "{}: parameter `{key}` is not known here and is left out",
                    param.place
                ));
            }
        }
        for child in &element.children {
            if child.name != "secondary" {
                self.warn(format!(
                    "{}: `<{}>` is not known here and is left out",
                    child.place, child.name
                ));
            }
        }
    }

    /// What is well-formed and still will not do what its author wants.
    fn judge(&mut self) {
        if self.outputs.is_empty() {
            self.warn("no `<match>` of type `out_oms`: nothing will be sent".into());
        }
        let tags = self.syslog.iter().map(|s| format!("{}.x.x", s.tag));
        let tags = tags.chain(self.heartbeats.iter().map(|h| h.tag.clone()));
        let untaken: Vec<String> = tags.filter(|t| self.route(t).is_none()).collect();
        for tag in untaken {
            self.warn(format!(
                "no patterns matched tag=\"{}\": its events are lost",
                tag.trim_end_matches(".x.x")
            ));
        }
    }
}

/// `…/out_oms_common*.buffer` names many files in the original; ours is one folder.
fn queue_folder(buffer_path: &str) -> PathBuf {
    let path = buffer_path.split('*').next().unwrap_or(buffer_path);
    let path = path.strip_suffix(".buffer").unwrap_or(path);
    PathBuf::from(format!("{}.queue", path.trim_end_matches(['.', '/'])))
}

/// Reads parameters of one element.
struct Reader<'e> {
    element: &'e Element,
}

impl<'e> Reader<'e> {
    fn text(&self, key: &str) -> Option<&'e str> {
        self.element.param(key).map(|p| p.value.as_str())
    }

    fn problem(&self, key: &str, text: String) -> Problem {
        let param = self.element.param(key);
        Problem {
            place: param.map_or(&self.element.place, |p| &p.place).clone(),
            text,
        }
    }

    fn wrong(&self, key: &str, wanted: &str) -> Problem {
        let value = self.text(key).unwrap_or_default();
        self.problem(key, format!("`{key}` is `{value}`: it must be {wanted}"))
    }

    fn typed<T>(
        &self,
        key: &str,
        read: impl Fn(&str) -> Result<T, BadValue>,
    ) -> Result<Option<T>, Problem> {
        let value = self.text(key).map(read).transpose();
        value.map_err(|e| self.wrong(key, e.wanted))
    }

    fn duration(&self, key: &str) -> Result<Option<Duration>, Problem> {
        self.typed(key, fluent::duration)
    }

    fn size(&self, key: &str) -> Result<Option<u64>, Problem> {
        self.typed(key, fluent::size)
    }

    fn boolean(&self, key: &str) -> Result<Option<bool>, Problem> {
        self.typed(key, fluent::boolean)
    }

    fn number(&self, key: &str, least: u32, most: u32) -> Result<Option<u32>, Problem> {
        let Some(text) = self.text(key) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(n) if (least..=most).contains(&n) => Ok(Some(n)),
            _ => Err(self.wrong(key, &format!("a number from {least} to {most}"))),
        }
    }

    fn tag(&self, default: &str) -> Result<String, Problem> {
        let tag = self.text("tag").unwrap_or(default);
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\');
        if tag.is_empty() || tag.len() > 200 || !tag.chars().all(plain) {
            return Err(self.wrong("tag", "1 to 200 printable ASCII characters"));
        }
        Ok(tag.to_owned())
    }

    fn files(&self, proxy_key: &str) -> Files {
        let path = |key, default: &str| PathBuf::from(self.text(key).unwrap_or(default));
        let credentials = credentials();
        let handed_over = credentials.is_some();
        let (cert, key) =
            credentials.unwrap_or_else(|| (path("cert_path", CERT), path("key_path", KEY)));
        Files {
            omsadmin: path("omsadmin_conf_path", CONF),
            cert,
            key,
            proxy: path(proxy_key, PROXY),
            handed_over,
        }
    }
}

/// Certificate and key that the service manager hands over (`LoadCredential=` in the unit) go
/// before those that are configured.
fn credentials() -> Option<(PathBuf, PathBuf)> {
    let folder = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?);
    let pair = (folder.join("oms.crt"), folder.join("oms.key"));
    (pair.0.is_file() && pair.1.is_file()).then_some(pair)
}

/// Known everywhere.
const COMMON: &[&str] = &[
    "type",
    "@type",
    "id",
    "@id",
    "log_level",
    "@log_level",
    "@label",
];

/// Known, and without a meaning for us where the type below does not use them: the built-in parser
/// takes every format and stamp by itself.
const SYSLOG_PARAMS: &[&str] = &[
    "port",
    "bind",
    "tag",
    "protocol_type",
    "delimiter",
    "message_format",
    "message_length_limit",
    "allow_without_priority",
    "default_priority",
];

const TOPOLOGY_PARAMS: &[&str] = &[
    "run_interval",
    "omsadmin_conf_path",
    "cert_path",
    "key_path",
    "pid_path",
    "proxy_path",
    "os_info",
    "install_info",
];

const TELEMETRY_PARAMS: &[&str] = &[
    "query_interval",
    "poll_interval",
    "omsadmin_conf_path",
    "cert_path",
    "key_path",
    "pid_path",
    "proxy_path",
    "os_info",
    "install_info",
];

/// Retries have no limit here, threads are one per output, and the queue is always on disk.
const OUTPUT_PARAMS: &[&str] = &[
    "omsadmin_conf_path",
    "cert_path",
    "key_path",
    "proxy_conf_path",
    "run_in_background",
    "compress",
    "buffer_type",
    "buffer_path",
    "buffer_chunk_limit",
    "buffer_queue_limit",
    "buffer_queue_full_action",
    "flush_interval",
    "retry_limit",
    "retry_wait",
    "max_retry_wait",
    "disable_retry_limit",
    "num_threads",
    "flush_at_shutdown",
];

#[cfg(test)]
mod tests;
