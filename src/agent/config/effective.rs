//! What an agent would run with: each value that counts, where it is written, or that it is a
//! default (docs/config.md).

use super::{Listen, Review, Route, Settings, Severity};
use crate::agent::catalogue::{Param, Plugin, Section, Verdict};
use crate::base::order;
use crate::settings::fluent::{Document, Element};
use crate::settings::proxy;
use serde::Serialize;
use std::path::Path;

/// Counts up when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// The whole of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Effective {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Of the program.
    pub version: String,
    /// The main file.
    pub configuration: String,
    /// Every file that was read, the main file first.
    pub files: Vec<String>,
    /// Where records come from.
    pub inputs: Vec<Part>,
    /// What is done to them.
    pub filters: Vec<Part>,
    /// Where they go.
    pub outputs: Vec<Outlet>,
    /// Which output takes which tags, the first that fits.
    pub routes: Vec<Way>,
    /// Sockets.
    pub listens: Vec<Socket>,
    /// What stands between the agent and the service, for each file that names it.
    pub proxies: Vec<Gateway>,
    /// Directives that have no effect and may be missed: `omsagent config check` names them.
    pub warnings: usize,
    /// What the agent would not start with.
    pub errors: Vec<String>,
}

/// A plug-in that runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Part {
    /// Its `type`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The pattern of a filter, else empty.
    pub takes: String,
    /// `file:line`.
    pub at: String,
    /// What it runs with.
    pub settings: Vec<Value>,
}

/// One value that counts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Value {
    /// The parameter.
    pub name: String,
    /// As it is written, or would be; `None`: nothing is said, and there is no default.
    pub value: Option<String>,
    /// Nobody wrote it.
    pub default: bool,
    /// `file:line`, where somebody did.
    pub at: Option<String>,
}

/// A destination with its queue.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outlet {
    /// The plug-in.
    #[serde(flatten)]
    pub part: Part,
    /// Folder of its queue.
    pub queue: String,
    /// Most bytes in it.
    pub queue_limit_bytes: u64,
    /// Most bytes of items in one request, about.
    pub request_bytes: usize,
}

/// A `<match>`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Way {
    /// Its pattern.
    pub takes: String,
    /// The output, counted from 0; `None`: what it takes is dropped.
    pub output: Option<usize>,
}

/// A socket that the agent opens.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Socket {
    /// `udp`, `tcp`, `unix` (streams) or `unix-dgram`.
    pub protocol: String,
    /// Address and port, or the name in the file system.
    pub address: String,
}

/// A proxy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gateway {
    /// Its proxy.conf.
    pub file: String,
    /// `user:****@host:port`; `None`: none is used.
    pub proxy: Option<String>,
    /// Why nothing can be said.
    pub problem: Option<String>,
}

impl Effective {
    /// Of a configuration that was read from `main`, with what the loader made of it.
    pub fn of(main: &Path, document: &Document, settings: &Settings, review: &Review) -> Effective {
        let runs = |section: Section| {
            let all = document.elements.iter();
            let of = move |e| (Section::of(e) == Some(section)).then_some(e);
            let plugin = move |e| Some((e, Plugin::of(section, e)?));
            all.filter_map(of)
                .filter_map(plugin)
                .filter(|(e, p)| p.verdict == Verdict::Honoured && review.runs(e))
        };
        let part =
            |(element, plugin): (&Element, &'static Plugin)| Part::of(element, plugin, review);
        let queued = runs(Section::Match).filter(|(_, p)| super::Form::of(p.name).is_some());
        let outlet = |(pair, output): (_, &super::Output)| Outlet {
            part: part(pair),
            queue: output.queue.display().to_string(),
            queue_limit_bytes: output.limit,
            request_bytes: output.request,
        };
        let of = |severity| {
            let entries = review.entries.iter();
            entries.filter(move |e| e.finding.severity() == severity)
        };
        let error = |e: &super::Entry| match &e.place {
            Some(place) => format!("{place}: {}", e.finding.reason()),
            None => e.finding.reason().to_owned(),
        };
        Effective {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").into(),
            configuration: main.display().to_string(),
            files: document.files.clone(),
            inputs: runs(Section::Source).map(part).collect(),
            filters: runs(Section::Filter).map(part).collect(),
            outputs: queued.zip(&settings.outputs).map(outlet).collect(),
            routes: settings.ways(),
            listens: settings.listens(),
            proxies: settings.proxies(),
            warnings: of(Severity::Warning).count(),
            errors: of(Severity::Error).map(error).collect(),
        }
    }

    /// The same without places, files and counts: equal for two configurations by which an agent
    /// does the same.
    pub fn without_places(&self) -> Effective {
        let mut plain = self.clone();
        plain.configuration.clear();
        plain.files.clear();
        plain.warnings = 0;
        let outputs = plain.outputs.iter_mut().map(|o| &mut o.part);
        let parts = plain.inputs.iter_mut().chain(&mut plain.filters);
        for part in parts.chain(outputs) {
            part.at.clear();
            part.settings.iter_mut().for_each(|v| v.at = None);
        }
        plain
    }
}

impl Part {
    fn of(element: &Element, plugin: &'static Plugin, review: &Review) -> Part {
        let honoured = |p: &&Param| p.verdict == Verdict::Honoured;
        Part {
            kind: plugin.name.to_owned(),
            takes: element.arg.clone(),
            at: element.place.to_string(),
            settings: plugin
                .own_params()
                .filter(honoured)
                .map(
                    |known| match element.param(known.name).filter(|p| review.counts(p)) {
                        Some(param) => Value {
                            name: known.name.to_owned(),
                            value: Some(super::review::shown(Some(known), param)),
                            default: false,
                            at: Some(param.place.to_string()),
                        },
                        None => Value {
                            name: known.name.to_owned(),
                            value: known.default.map(str::to_owned),
                            default: true,
                            at: None,
                        },
                    },
                )
                .collect(),
        }
    }
}

impl Settings {
    fn ways(&self) -> Vec<Way> {
        let way = |r: &super::Routed| Way {
            takes: r.text.clone(),
            output: match r.route {
                Route::Output(number) => Some(number),
                Route::Unsupported => None,
            },
        };
        self.routes.iter().map(way).collect()
    }

    fn listens(&self) -> Vec<Socket> {
        let mut sockets = Vec::new();
        for source in &self.syslog {
            let port = std::net::SocketAddr::new(source.bind, source.port).to_string();
            let path = |path: &Path| path.display().to_string();
            let (protocols, address): (&[&str], _) = match &source.listen {
                Listen::Udp => (&["udp", "tcp"], port),
                Listen::Tcp => (&["tcp"], port),
                Listen::Unix(socket) => (&["unix"], path(socket)),
            };
            let mut add = |protocol: &str, address: &str| {
                sockets.push(Socket {
                    protocol: protocol.to_owned(),
                    address: address.to_owned(),
                });
            };
            protocols.iter().for_each(|p| add(p, &address));
            if let Some(socket) = &source.datagrams {
                add("unix-dgram", &path(socket));
            }
        }
        sockets
    }

    fn proxies(&self) -> Vec<Gateway> {
        let files = self.outputs.iter().map(|o| &o.files);
        let files = files.chain(self.topology.iter().map(|t| &t.files));
        let files = files.chain(self.telemetry.iter().map(|t| &t.files));
        let mut paths: Vec<&Path> = files.map(|f| f.proxy.as_path()).collect();
        order::ascending(&mut paths);
        paths.dedup();
        let gateway = |path: &Path| {
            let (proxy, problem) = match proxy::load(path) {
                Ok(None) => (None, None),
                Ok(Some(p)) => {
                    // The same stars for all: how long a password is, is nobody's business either.
                    let login = p.credentials.map(|(user, _)| format!("{user}:****@"));
                    let login = login.unwrap_or_default();
                    (Some(format!("{login}{}:{}", p.host, p.port)), None)
                }
                Err(why) => (None, Some(why.to_string())),
            };
            Gateway {
                file: path.display().to_string(),
                proxy,
                problem,
            }
        };
        paths.into_iter().map(gateway).collect()
    }
}
