//! What each directive of an original `omsagent.conf` means to this agent: one table of plug-ins
//! and their parameters (protocol.md 5.3, 3.3; a line names the section where it says more).
//!
//! The agent's own loader reads by it, `omsagent config` explains by it, and a test compares
//! docs/config.md with it: so they cannot disagree.

mod filters;
mod outputs;
mod sources;
mod takes;

pub use takes::Takes;

use crate::settings::fluent::Element;

/// The elements that name a plug-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// `<source>`.
    Source,
    /// `<filter PATTERN>`.
    Filter,
    /// `<match PATTERN>`.
    Match,
}

impl Section {
    /// By the element's name.
    pub fn of(element: &Element) -> Option<Section> {
        match element.name.as_str() {
            "source" => Some(Section::Source),
            "filter" => Some(Section::Filter),
            "match" => Some(Section::Match),
            _ => None,
        }
    }

    /// The element's name.
    pub fn name(self) -> &'static str {
        match self {
            Section::Source => "source",
            Section::Filter => "filter",
            Section::Match => "match",
        }
    }

    fn plugins(self) -> &'static [Plugin] {
        match self {
            Section::Source => sources::PLUGINS,
            Section::Filter => filters::PLUGINS,
            Section::Match => outputs::PLUGINS,
        }
    }
}

/// What becomes of a directive that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It has its effect.
    Honoured,
    /// What it is for is done by this instead.
    Replaced(&'static str),
    /// It would have nothing to do here, for this reason: nothing is lost.
    Idle(&'static str),
    /// It has no effect, for this reason: somebody may miss something.
    Ignored(&'static str),
}

/// A plug-in of the original, or one that people commonly use with it.
#[derive(Debug)]
pub struct Plugin {
    /// Where it stands.
    pub section: Section,
    /// Its `type`; `wlm_*` is every type that begins so.
    pub name: &'static str,
    /// Only with this parameter and value.
    pub only: Option<(&'static str, &'static str)>,
    /// Sections of protocol.md.
    pub spec: &'static str,
    /// What becomes of it.
    pub verdict: Verdict,
    /// What it takes, in groups that plug-ins share.
    pub params: &'static [&'static [Param]],
}

/// A parameter of a plug-in.
#[derive(Debug, Clone, Copy)]
pub struct Param {
    /// Its name; a `#` at its end is any number (`regexp1`, `regexp2`, ...).
    pub name: &'static str,
    /// Values it takes.
    pub takes: Takes,
    /// What counts when it is not written.
    pub default: Option<&'static str>,
    /// What becomes of it, where its plug-in is honoured.
    pub verdict: Verdict,
}

impl Plugin {
    const fn new(
        section: Section,
        name: &'static str,
        spec: &'static str,
        verdict: Verdict,
        params: &'static [&'static [Param]],
    ) -> Plugin {
        Plugin {
            section,
            name,
            only: None,
            spec,
            verdict,
            params,
        }
    }

    /// The plug-in that `element` asks for, if it is known.
    pub fn of(section: Section, element: &Element) -> Option<&'static Plugin> {
        let kind = element.kind()?.value.as_str();
        section.plugins().iter().find(|plugin| {
            let named = match plugin.name.strip_suffix('*') {
                Some(start) => kind.starts_with(start),
                None => kind == plugin.name,
            };
            let fits = |(key, value)| element.param(key).is_some_and(|p| p.value == value);
            named && plugin.only.is_none_or(fits)
        })
    }

    /// Its parameter of that name; those that every plug-in has too.
    pub fn param(&self, key: &str) -> Option<&'static Param> {
        let groups = self.params.iter().chain([&COMMON]);
        groups.flat_map(|g| g.iter()).find(|p| p.is(key))
    }

    /// All parameters of its own.
    pub fn own_params(&self) -> impl Iterator<Item = &'static Param> {
        self.params.iter().flat_map(|group| group.iter())
    }
}

impl Param {
    fn is(&self, key: &str) -> bool {
        match self.name.strip_suffix('#') {
            Some(start) => key
                .strip_prefix(start)
                .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())),
            None => key == self.name,
        }
    }

    const fn honoured(name: &'static str, takes: Takes) -> Param {
        Param {
            name,
            takes,
            default: None,
            verdict: Verdict::Honoured,
        }
    }

    const fn replaced(name: &'static str, by: &'static str) -> Param {
        Param {
            name,
            takes: Takes::Text,
            default: None,
            verdict: Verdict::Replaced(by),
        }
    }

    const fn ignored(name: &'static str, why: &'static str) -> Param {
        Param {
            name,
            takes: Takes::Text,
            default: None,
            verdict: Verdict::Ignored(why),
        }
    }

    /// Of a plug-in that has no effect: nothing more is known than that it is one.
    const fn known(name: &'static str) -> Param {
        Param::honoured(name, Takes::Text)
    }

    const fn or(self, default: &'static str) -> Param {
        Param {
            default: Some(default),
            ..self
        }
    }
}

/// Known everywhere (protocol.md 5.1).
const COMMON: &[Param] = &[
    Param::known("type"),
    Param::known("@type"),
    Param {
        verdict: Verdict::Idle("nothing here asks for it"),
        ..Param::known("id")
    },
    Param {
        verdict: Verdict::Idle("nothing here asks for it"),
        ..Param::known("@id")
    },
    Param::replaced("log_level", LOG_LEVEL),
    Param::replaced("@log_level", LOG_LEVEL),
    Param::ignored(
        "@label",
        "there are no labels here: the top-level `<match>` takes the events",
    ),
];

const LOG_LEVEL: &str = "`omsagent run --verbose` and `--quiet`, for the whole agent";

/// Elements that name no plug-in, at top level (protocol.md 5.1).
pub fn other_element(name: &str) -> Option<Verdict> {
    match name {
        "system" => Some(Verdict::Replaced(
            "the unit and the options of `omsagent run`",
        )),
        "label" => Some(Verdict::Ignored(
            "there are no labels here: what stands in it does nothing",
        )),
        _ => None,
    }
}

/// Elements inside of a plug-in's.
pub fn inner_element(plugin: &Plugin, name: &str) -> Option<Verdict> {
    let known = match plugin.section {
        Section::Match => matches!(name, "secondary" | "store" | "server" | "buffer" | "format"),
        Section::Filter => matches!(name, "record" | "parse"),
        Section::Source => matches!(name, "parse" | "storage"),
    };
    match (plugin.name, name) {
        ("out_oms" | "out_oms_api" | "out_oms_blob", "secondary") => Some(Verdict::Replaced(
            "the queue: what cannot be sent waits there, what never can goes to `refused.json`",
        )),
        // Those of a newer fluentd: nobody reads them here.
        _ if plugin.verdict == Verdict::Honoured => None,
        _ => known.then_some(plugin.verdict),
    }
}

/// May the value of this parameter be shown? Passwords may not, nor what is called like one in a
/// plug-in that nobody knows.
pub fn is_secret(param: Option<&Param>, key: &str) -> bool {
    const WORDS: [&str; 6] = [
        "pass",
        "secret",
        "token",
        "credential",
        "api_key",
        "shared_key",
    ];
    let key = key.to_ascii_lowercase();
    param.is_some_and(|p| p.takes == Takes::Secret) || WORDS.iter().any(|word| key.contains(word))
}

/// All of them.
#[cfg(test)]
pub fn every() -> Vec<&'static Plugin> {
    let sections = [Section::Source, Section::Filter, Section::Match];
    sections.iter().flat_map(|s| s.plugins()).collect()
}

#[cfg(test)]
mod tests;
