//! From the text of omsagent.conf to what shall run: typed sources and outputs (protocol.md 5.3).
//!
//! What we do not know is one note each, and the rest runs. What we know and cannot read (a port
//! that is no number) is an error that names file and line. What is known stands in
//! [`catalogue`](super::catalogue), defaults too; what became of each directive in a [`Review`].

pub mod convert;
mod counters;
pub mod effective;
mod form;
mod reader;
pub mod report;
mod review;
mod tail;

pub use counters::Counters;
pub use form::Form;
pub use review::{Directive, Entry, Finding, Review, Severity};
pub use tail::Tail;

use crate::agent::catalogue::{Plugin, Section, Verdict};
use crate::agent::route::Pattern;
use crate::settings::fluent::{Document, Element, Place, Problem};
use reader::Reader;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    /// Performance counters.
    pub counters: Vec<Counters>,
    /// Files.
    pub tails: Vec<Tail>,
    /// Destinations.
    pub outputs: Vec<Output>,
    /// Every `<match>` in order.
    routes: Vec<Routed>,
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

/// A `<match>`.
#[derive(Debug, PartialEq, Eq)]
struct Routed {
    pattern: Pattern,
    /// The pattern as it is written.
    text: String,
    route: Route,
    /// Nobody meant its events to be lost.
    loss: bool,
    place: Place,
}

/// Something to tell a person about the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Not done, though it was asked for.
    Warning(String),
    /// Fine as it is.
    Info(String),
}

/// How messages come to a `type syslog`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// UDP, and TCP at the same port.
    Udp,
    /// TCP.
    Tcp,
    /// Streams at a socket in the file system.
    Unix(PathBuf),
}

/// `type syslog`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syslog {
    /// Address to listen on, unless it is a socket in the file system.
    pub bind: IpAddr,
    /// Port; 0 picks a free one.
    pub port: u16,
    /// How messages come.
    pub listen: Listen,
    /// Beside a port: a socket in the file system for datagrams.
    pub datagrams: Option<PathBuf>,
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
    /// What is made of its items.
    pub form: Form,
    /// Where it is written.
    pub place: String,
}

impl Settings {
    /// Reads a configuration. `state` is where queues go that name no place.
    pub fn from_document(document: &Document, state: &Path) -> Result<Settings, Problem> {
        let (settings, review) = Settings::review(document, state);
        match review.problem() {
            Some(problem) => Err(problem),
            None => Ok(settings),
        }
    }

    /// As [`Settings::from_document`], with what became of each directive. What is wrong is left out
    /// of the settings: an agent does not start with them.
    pub fn review(document: &Document, state: &Path) -> (Settings, Review) {
        let mut settings = Settings {
            syslog: Vec::new(),
            heartbeats: Vec::new(),
            topology: Vec::new(),
            telemetry: Vec::new(),
            counters: Vec::new(),
            tails: Vec::new(),
            outputs: Vec::new(),
            routes: Vec::new(),
            notes: Vec::new(),
        };
        let mut review = Review::default();
        for element in &document.elements {
            let Some(section) = Section::of(element) else {
                review.other(element);
                continue;
            };
            let plugin = Plugin::of(section, element);
            let build = match plugin {
                Some(plugin) => review.plugin(element, plugin),
                None => {
                    review.unknown_plugin(element, section);
                    false
                }
            };
            let built = match section {
                Section::Match => settings.output(element, plugin, build, state),
                Section::Source if build => settings.source(element, plugin, state, &mut review),
                // What the shipped filters do to our own sources' records is done where the
                // records are made.
                Section::Source | Section::Filter => Ok(()),
            };
            if let Err(problem) = built {
                review.wrong(element, problem);
            }
        }
        review.outside(&document.params);
        review.grammar(document);
        settings.judge(&mut review);
        settings.notes = review.entries.iter().filter_map(Entry::note).collect();
        (settings, review)
    }

    /// Does it do the same as `other`, whatever there is to say about each?
    pub fn does_the_same(&self, other: &Settings) -> bool {
        (&self.syslog, &self.heartbeats, &self.topology)
            == (&other.syslog, &other.heartbeats, &other.topology)
            && (&self.outputs, &self.routes) == (&other.outputs, &other.routes)
            && (&self.telemetry, &self.counters, &self.tails)
                == (&other.telemetry, &other.counters, &other.tails)
    }

    /// Who takes events with this tag: the first `<match>` whose pattern does.
    pub fn route(&self, tag: &str) -> Option<Route> {
        self.routed(tag).map(|r| r.route)
    }

    fn output_of(&self, route: Route) -> Option<&Output> {
        match route {
            Route::Output(number) => self.outputs.get(number),
            Route::Unsupported => None,
        }
    }

    fn routed(&self, tag: &str) -> Option<&Routed> {
        self.routes.iter().find(|r| r.pattern.takes(tag))
    }

    fn source(
        &mut self,
        element: &Element,
        plugin: Option<&'static Plugin>,
        state: &Path,
        review: &mut Review,
    ) -> Result<(), Problem> {
        let Some(plugin) = plugin else { return Ok(()) };
        let read = Reader { element, plugin };
        match plugin.name {
            "syslog" => {
                let without = read.flag("allow_without_priority")?;
                let priority = read.number("default_priority")?;
                let path = read.written("path").map(|p| PathBuf::from(&p.value));
                let (listen, datagrams) = match (read.text("protocol_type")?, path) {
                    ("unix", Some(path)) => (Listen::Unix(path), None),
                    ("unix", None) => return Err(read.missing("path")),
                    ("tcp", path) => (Listen::Tcp, path),
                    (_, path) => (Listen::Udp, path),
                };
                let syslog = Syslog {
                    listen,
                    datagrams,
                    bind: match read.text("bind")? {
                        "localhost" => Ipv4Addr::LOCALHOST.into(),
                        text => text
                            .parse()
                            .map_err(|_| read.wrong("bind", "an IP address"))?,
                    },
                    port: u16::try_from(read.number("port")?)
                        .map_err(|_| read.wrong("port", "a port"))?,
                    tag: read.text("tag")?.to_owned(),
                    default_priority: without.then_some(priority),
                    place: element.place.to_string(),
                };
                if let Some((what, other)) = self.syslog.iter().find_map(|s| s.shares(&syslog)) {
                    return Err(Problem {
                        place: element.place.clone(),
                        text: format!(
                            "{what} is also that of the source at {other}; give each its own"
                        ),
                    });
                }
                self.syslog.push(syslog);
            }
            "oms_heartbeat" => self.heartbeats.push(Heartbeat {
                interval: read.written_time("interval")?,
                tag: read.text("tag")?.to_owned(),
            }),
            "heartbeat_request" => self.topology.push(Topology {
                interval: read.time("run_interval")?,
                files: read.files("proxy_path")?,
            }),
            "tail" | "sudo_tail" => self.tails.push(Tail::read(&read, state)?),
            "agent_telemetry" => self.telemetry.push(Telemetry {
                interval: read.time("query_interval")?,
                poll_interval: read.time("poll_interval")?,
                files: read.files("proxy_path")?,
            }),
            "oms_omi" => {
                let outcome = counters::read(&read)?;
                match outcome.counters {
                    Ok(source) => self.counters.push(source),
                    Err(why) => review.left_out(element, &why),
                }
                outcome.remark.into_iter().for_each(|r| review.whole(r));
            }
            other => {
                return Err(Problem {
                    place: element.place.clone(),
                    text: format!("a source of type `{other}` cannot be built"),
                });
            }
        }
        Ok(())
    }

    fn output(
        &mut self,
        element: &Element,
        plugin: Option<&'static Plugin>,
        build: bool,
        state: &Path,
    ) -> Result<(), Problem> {
        let Some(pattern) = Pattern::parse(&element.arg) else {
            return Err(Problem {
                place: element.place.clone(),
                text: "`<match>` needs a tag pattern, as in `<match oms.**>`".into(),
            });
        };
        let mut routed = Routed {
            pattern,
            text: element.arg.clone(),
            route: Route::Unsupported,
            loss: plugin
                .is_none_or(|p| matches!(p.verdict, Verdict::Idle(_) | Verdict::Ignored(_))),
            place: element.place.clone(),
        };
        if let Some((plugin, form)) = plugin.and_then(|p| Some((p, Form::of(p.name)?)))
            && build
        {
            routed.route = Route::Output(self.outputs.len());
            let read = Reader { element, plugin };
            let output = self.queued_output(&read, form, state)?;
            self.outputs.push(output);
        }
        self.routes.push(routed);
        Ok(())
    }

    fn queued_output(
        &self,
        read: &Reader<'_>,
        form: Form,
        state: &Path,
    ) -> Result<Output, Problem> {
        let queue = match read.written("buffer_path") {
            Some(path) => queue_folder(&path.value),
            None => state.join(format!("output{}.queue", self.outputs.len())),
        };
        if let Some(other) = self.outputs.iter().find(|o| o.queue == queue) {
            return Err(Problem {
                place: read.element.place.clone(),
                text: format!(
                    "its `buffer_path` is also that of the output at {}; give each its own",
                    other.place
                ),
            });
        }
        let chunk = read.size("buffer_chunk_limit")?;
        let chunks = read.number("buffer_queue_limit")?;
        let retry_wait = read.time("retry_wait")?;
        Ok(Output {
            name: read.element.arg.clone(),
            files: read.files("proxy_conf_path")?,
            queue,
            limit: chunk.saturating_mul(chunks.into()),
            request: chunk.clamp(1, form.request_limit()) as usize,
            flush_interval: read.time("flush_interval")?,
            // Zero would be a busy loop.
            retry_wait: retry_wait.max(Duration::from_millis(10)),
            max_retry_wait: read.time("max_retry_wait")?.max(retry_wait),
            compress: match form {
                Form::Blob { .. } => false,
                _ => read.flag("compress")?,
            },
            form: form.filled(read)?,
            place: read.element.place.to_string(),
        })
    }

    /// What is well-formed and still will not do what its author wants.
    fn judge(&self, review: &mut Review) {
        if self.outputs.is_empty() {
            review.whole("no `<match>` of type `out_oms`: nothing will be sent".into());
        }
        for tail in &self.tails {
            for (place, key, why) in &tail.doubts {
                review.doubt(place, key, why);
            }
            let tag = tail.tag_of(Path::new("/xx/xx"));
            if let Some(output) = self.routed(&tag).and_then(|r| self.output_of(r.route))
                && let Err(why) = output.form.kind(&tag, Path::new("/xx/xx"))
            {
                review.whole(format!(
                    "lines of the source at {} are lost: its tag is \"{tag}\", which goes to the `<match>` at {}: {why}",
                    tail.place, output.place
                ));
            }
        }
        let tags = self.syslog.iter().map(|s| (s.tag.clone(), ".x.x"));
        let tags = tags.chain(self.heartbeats.iter().map(|h| (h.tag.clone(), "")));
        // Many sources share one.
        let first = |n: &usize| {
            self.counters[..*n]
                .iter()
                .all(|c| c.tag != self.counters[*n].tag)
        };
        let firsts = (0..self.counters.len()).filter(first);
        let tags = tags.chain(firsts.map(|n| (self.counters[n].tag.clone(), "")));
        let tags = tags.chain(
            self.tails
                .iter()
                .map(|t| (t.tag_of(Path::new("/xx/xx")), "")),
        );
        for (tag, rest) in tags {
            match self.routed(&format!("{tag}{rest}")) {
                None => review.whole(format!(
                    "no patterns matched tag=\"{tag}\": its events are lost"
                )),
                Some(Routed {
                    loss: true, place, ..
                }) => review.whole(format!(
                    "events with tag=\"{tag}\" are lost: the `<match>` at {place} takes them"
                )),
                Some(_) => {}
            }
        }
    }
}

impl Syslog {
    /// The sockets in the file system.
    fn paths(&self) -> impl Iterator<Item = &Path> {
        let stream = match &self.listen {
            Listen::Unix(path) => Some(path.as_path()),
            Listen::Udp | Listen::Tcp => None,
        };
        stream.into_iter().chain(self.datagrams.as_deref())
    }

    /// What both would listen on, and where this one is written.
    fn shares(&self, other: &Syslog) -> Option<(String, &str)> {
        let of = |s: &Syslog| (s.bind, s.port, s.listen.clone());
        let port =
            of(self) == of(other) && self.port != 0 && !matches!(self.listen, Listen::Unix(_));
        let path = self.paths().find(|p| other.paths().any(|o| o == *p));
        let what = match (port, path) {
            (true, _) => format!("port {}", self.port),
            (false, Some(path)) => format!("socket `{}`", path.display()),
            (false, None) => return None,
        };
        Some((what, &self.place))
    }
}

/// `…/out_oms_common*.buffer` names many files in the original; ours is one folder.
fn queue_folder(buffer_path: &str) -> PathBuf {
    let path = buffer_path.split('*').next().unwrap_or(buffer_path);
    let path = path.strip_suffix(".buffer").unwrap_or(path);
    PathBuf::from(format!("{}.queue", path.trim_end_matches(['.', '/'])))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tree_tests;
