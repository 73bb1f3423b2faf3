//! What became of each directive, by the table in [`catalogue`]: the loader goes through a
//! configuration once and writes this down; `omsagent config check` shows it.

use crate::agent::catalogue::{self, Plugin, Section, Takes, Verdict};
use crate::settings::fluent::{Document, Element, Param, Place, Problem};
use std::fmt;

/// What became of all of it, in the order in which it stands in the files, includes in place.
#[derive(Debug, Default)]
pub struct Review {
    /// One for each directive, and for what is only seen in the whole.
    pub entries: Vec<Entry>,
}

/// What became of one directive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// File and line; `None` for the whole.
    pub place: Option<Place>,
    /// Which.
    pub directive: Directive,
    /// What became of it.
    pub finding: Finding,
}

/// A directive as it may be shown: passwords and the like are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Directive {
    /// An element.
    Element {
        /// `source`, `match`, ...
        name: String,
        /// Its pattern.
        arg: String,
        /// Its plug-in, if it names one.
        kind: Option<String>,
        /// Elements around it.
        depth: usize,
    },
    /// A parameter.
    Param {
        /// Its name.
        key: String,
        /// Its value, as it may be shown.
        value: String,
        /// The element and plug-in that it is in; empty outside of any.
        within: String,
        /// Elements around it.
        depth: usize,
    },
    /// All of it together.
    Whole,
}

/// The verdict on one directive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It has its effect.
    Honoured,
    /// This does what it is for.
    Replaced(String),
    /// It has nothing to do here.
    Idle(String),
    /// It has no effect, and somebody may miss something.
    Ignored(String),
    /// Nobody knows it here.
    Unknown(String),
    /// The agent cannot run with it.
    Wrong(String),
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Fine,
    /// Not all that was asked for is done.
    Warning,
    /// The agent does not start with it.
    Error,
}

impl Severity {
    /// The word for it in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Fine => "ok",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

impl Finding {
    /// The word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Finding::Honoured => "honoured",
            Finding::Replaced(_) => "replaced",
            Finding::Idle(_) => "idle",
            Finding::Ignored(_) => "ignored",
            Finding::Unknown(_) => "unknown",
            Finding::Wrong(_) => "wrong",
        }
    }

    /// Why, or by what; empty for what is honoured.
    pub fn reason(&self) -> &str {
        match self {
            Finding::Honoured => "",
            Finding::Replaced(text)
            | Finding::Idle(text)
            | Finding::Ignored(text)
            | Finding::Unknown(text)
            | Finding::Wrong(text) => text,
        }
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match self {
            Finding::Honoured | Finding::Replaced(_) | Finding::Idle(_) => Severity::Fine,
            Finding::Ignored(_) | Finding::Unknown(_) => Severity::Warning,
            Finding::Wrong(_) => Severity::Error,
        }
    }

    fn by(verdict: Verdict) -> Finding {
        match verdict {
            Verdict::Honoured => Finding::Honoured,
            Verdict::Replaced(by) => Finding::Replaced(by.into()),
            Verdict::Idle(why) => Finding::Idle(why.into()),
            Verdict::Ignored(why) => Finding::Ignored(why.into()),
        }
    }
}

impl fmt::Display for Directive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Directive::Element {
                name, arg, kind, ..
            } => {
                let blank = if arg.is_empty() { "" } else { " " };
                write!(f, "<{name}{blank}{arg}>")?;
                match kind {
                    Some(kind) => write!(f, " {kind}"),
                    None => Ok(()),
                }
            }
            Directive::Param { key, value, .. } => write!(f, "{key} {value}"),
            Directive::Whole => f.write_str("the whole"),
        }
    }
}

impl Review {
    /// The worst of all.
    pub fn severity(&self) -> Severity {
        let all = self.entries.iter().map(|e| e.finding.severity());
        all.max().unwrap_or(Severity::Fine)
    }

    /// The first thing that the agent cannot run with.
    pub fn problem(&self) -> Option<Problem> {
        self.entries
            .iter()
            .find_map(|e| match (&e.finding, &e.place) {
                (Finding::Wrong(text), Some(place)) => Some(Problem {
                    place: place.clone(),
                    text: text.clone(),
                }),
                _ => None,
            })
    }

    pub(super) fn push(&mut self, place: &Place, directive: Directive, finding: Finding) {
        self.entries.push(Entry {
            place: Some(place.clone()),
            directive,
            finding,
        });
    }

    /// Something about the configuration as a whole, said once.
    pub(super) fn whole(&mut self, text: String) {
        let entry = Entry {
            place: None,
            directive: Directive::Whole,
            finding: Finding::Ignored(text),
        };
        if !self.entries.contains(&entry) {
            self.entries.push(entry);
        }
    }

    /// An element of a plug-in that is honoured, which has no effect for a reason of its own.
    pub(super) fn left_out(&mut self, element: &Element, why: &str) {
        let begin = self.entries.iter().rposition(|e| is_of(e, element));
        for entry in self.entries.iter_mut().skip(begin.unwrap_or(usize::MAX)) {
            entry.finding = match &entry.directive {
                Directive::Element { depth: 0, .. } => Finding::Ignored(why.to_owned()),
                _ => Finding::Idle(format!("its {} does nothing", element.name)),
            };
        }
    }

    /// Does the element, whose plug-in is honoured, have its effect?
    pub(super) fn runs(&self, element: &Element) -> bool {
        let entry = self.entries.iter().find(|e| is_of(e, element));
        entry.is_none_or(|e| !matches!(e.finding, Finding::Ignored(_)))
    }

    /// A parameter that is understood and still cannot have its effect.
    pub(super) fn doubt(&mut self, place: &Place, key: &str, why: &str) {
        let is = |e: &&mut Entry| {
            e.place.as_ref() == Some(place)
                && matches!(&e.directive, Directive::Param { key: k, .. } if k == key)
        };
        if let Some(entry) = self.entries.iter_mut().find(is) {
            entry.finding = Finding::Ignored(why.to_owned());
        }
    }

    /// Does it count? Not one that was doubted.
    pub(super) fn counts(&self, param: &Param) -> bool {
        let is = |e: &&Entry| {
            e.place.as_ref() == Some(&param.place)
                && matches!(&e.directive, Directive::Param { key, .. } if *key == param.key)
        };
        let entry = self.entries.iter().find(is);
        entry.is_none_or(|e| e.finding.severity() == Severity::Fine)
    }

    /// What the loader of an element cannot use.
    pub(super) fn wrong(&mut self, element: &Element, problem: Problem) {
        let directive = of_element(element, 0);
        self.push(&problem.place, directive, Finding::Wrong(problem.text));
    }

    /// Texts that the grammar took and that mean less than they say.
    pub(super) fn grammar(&mut self, document: &Document) {
        for warning in &document.warnings {
            let directive = Directive::Param {
                key: "#{...}".into(),
                value: String::new(),
                within: String::new(),
                depth: 0,
            };
            let finding = Finding::Ignored(warning.text.clone());
            self.insert(&warning.place, directive, finding);
        }
    }

    /// Among the lines of its own file.
    fn insert(&mut self, place: &Place, directive: Directive, finding: Finding) {
        let of_file = |e: &Entry| e.place.as_ref().filter(|p| p.file == place.file).cloned();
        let after = |e: &Entry| of_file(e).is_some_and(|p| p.line > place.line);
        let mut entries = self.entries.iter();
        let at = entries.position(after).unwrap_or_else(|| {
            let last = self.entries.iter().rposition(|e| of_file(e).is_some());
            last.map_or(self.entries.len(), |n| n + 1)
        });
        let entry = Entry {
            place: Some(place.clone()),
            directive,
            finding,
        };
        self.entries.insert(at, entry);
    }

    /// Parameters outside of any element.
    pub(super) fn outside(&mut self, params: &[Param]) {
        for param in params {
            // As everywhere: what every plug-in knows asks for nothing here either.
            let finding = match param.key.as_str() {
                "id" | "@id" | "log_level" | "@log_level" => {
                    Finding::Idle("it stands outside of any element".into())
                }
                _ => {
                    Finding::Unknown("outside of any element is not known here and left out".into())
                }
            };
            let directive = Directive::Param {
                key: param.key.clone(),
                value: shown(None, param),
                within: String::new(),
                depth: 0,
            };
            self.insert(&param.place, directive, finding);
        }
    }

    /// An element of a known plug-in with all that is in it. True when the loader shall build it.
    pub(super) fn plugin(&mut self, element: &Element, plugin: &'static Plugin) -> bool {
        let finding = Finding::by(plugin.verdict);
        let begin = self.entries.len();
        self.push(&element.place, of_element(element, 0), finding);
        let within = within(element);
        for (n, param) in element.params.iter().enumerate() {
            let known = plugin.param(&param.key);
            let later = element.params[n + 1..].iter().rev();
            let mut later = later.filter(|p| p.key == param.key);
            let finding = match (known, later.next()) {
                (_, Some(last)) => Finding::Ignored(format!(
                    "it is written again at line {}, and the last one counts",
                    last.place.line
                )),
                (None, None) if plugin.verdict == Verdict::Honoured => {
                    Finding::Unknown("is not known here and is left out".into())
                }
                (None, None) => Finding::Idle(format!("its {} does nothing", element.name)),
                (Some(known), None) => judged(plugin, known, param),
            };
            if is_kind(&param.key) && finding.severity() == Severity::Fine {
                continue; // the element's own line says it
            }
            self.param(param, known, &within, 1, finding);
        }
        for child in &element.children {
            match catalogue::inner_element(plugin, &child.name) {
                Some(verdict) => {
                    // The outer element's line says the reason, once.
                    let finding = match Finding::by(verdict) {
                        Finding::Ignored(_) => {
                            Finding::Idle(format!("its {} does nothing", element.name))
                        }
                        other => other,
                    };
                    self.inner(child, &within, 1, &finding);
                }
                None => {
                    let finding = Finding::Unknown("is not known here and is left out".into());
                    self.inner(child, &within, 1, &finding);
                }
            }
        }
        let all_right = self.entries[begin..]
            .iter()
            .all(|e| e.finding.severity() < Severity::Error);
        all_right && plugin.verdict == Verdict::Honoured
    }

    /// An element of a plug-in that nobody knows.
    pub(super) fn unknown_plugin(&mut self, element: &Element, section: Section) {
        let why = match (element.kind(), section) {
            (None, _) => "without `type` is left out".to_owned(),
            (Some(_), Section::Source) => "is not known here and is left out".to_owned(),
            (Some(_), Section::Filter) => "is not known here: events pass unfiltered".to_owned(),
            (Some(_), Section::Match) => format!(
                "is not known here: what `<match {}>` takes is lost",
                element.arg
            ),
        };
        self.push(
            &element.place,
            of_element(element, 0),
            Finding::Unknown(why),
        );
        self.contents(element, &within(element), 1);
    }

    /// An element that names no plug-in.
    pub(super) fn other(&mut self, element: &Element) {
        let finding = match catalogue::other_element(&element.name) {
            Some(verdict) => Finding::by(verdict),
            None => Finding::Unknown("is not known here and is left out".into()),
        };
        self.push(&element.place, of_element(element, 0), finding);
        self.contents(element, &within(element), 1);
    }

    fn inner(&mut self, element: &Element, outer: &str, depth: usize, finding: &Finding) {
        self.push(&element.place, of_element(element, depth), finding.clone());
        self.contents(element, outer, depth + 1);
    }

    /// What stands in an element that does nothing: that says it all.
    fn contents(&mut self, element: &Element, within: &str, depth: usize) {
        let finding = || Finding::Idle(format!("its `<{}>` does nothing", element.name));
        for param in element.params.iter().filter(|p| !is_kind(&p.key)) {
            self.param(param, None, within, depth, finding());
        }
        for child in &element.children {
            self.inner(child, within, depth, &finding());
        }
    }

    fn param(
        &mut self,
        param: &Param,
        known: Option<&catalogue::Param>,
        within: &str,
        depth: usize,
        finding: Finding,
    ) {
        let directive = Directive::Param {
            key: param.key.clone(),
            value: shown(known, param),
            within: within.to_owned(),
            depth,
        };
        self.push(&param.place, directive, finding);
    }
}

/// The value of a parameter as it may be shown.
pub(super) fn shown(known: Option<&catalogue::Param>, param: &Param) -> String {
    let takes = match (catalogue::is_secret(known, &param.key), known) {
        (true, _) => Takes::Secret,
        (false, Some(known)) => known.takes,
        // In an unknown plug-in as in a known one.
        (false, None) if param.key == "command" => Takes::Command,
        (false, None) => Takes::Text,
    };
    takes.shown(&param.value)
}

fn judged(plugin: &Plugin, known: &catalogue::Param, param: &Param) -> Finding {
    match (plugin.verdict, known.verdict) {
        (Verdict::Honoured, Verdict::Honoured) => match known.takes.check(&param.value) {
            Ok(()) => Finding::Honoured,
            Err(wanted) => Finding::Wrong(format!(
                "`{}` is `{}`: it must be {wanted}",
                param.key, param.value
            )),
        },
        (Verdict::Honoured, own) => Finding::by(own),
        (Verdict::Replaced(by), _) => Finding::Replaced(by.into()),
        (Verdict::Idle(_) | Verdict::Ignored(_), _) => {
            Finding::Idle(format!("its {} does nothing", plugin.section.name()))
        }
    }
}

fn of_element(element: &Element, depth: usize) -> Directive {
    Directive::Element {
        name: element.name.clone(),
        arg: element.arg.clone(),
        kind: element.kind().map(|p| p.value.clone()),
        depth,
    }
}

/// Is it the line of this very element?
fn is_of(entry: &Entry, element: &Element) -> bool {
    let whole = matches!(entry.directive, Directive::Element { depth: 0, .. });
    whole && entry.place.as_ref() == Some(&element.place)
}

fn within(element: &Element) -> String {
    match element.kind() {
        Some(kind) => format!("{} {}", element.name, kind.value),
        None => element.name.clone(),
    }
}

fn is_kind(key: &str) -> bool {
    key == "type" || key == "@type"
}

impl Entry {
    /// The line for the agent's log, with how much it matters; `None`: there is nothing to say.
    pub(super) fn note(&self) -> Option<super::Note> {
        let place = self.place.as_ref().map(|p| format!("{p}: "));
        let place = place.unwrap_or_default();
        match (&self.directive, &self.finding) {
            (Directive::Whole, finding) => Some(super::Note::Warning(finding.reason().to_owned())),
            (directive, Finding::Unknown(text)) => Some(super::Note::Warning(format!(
                "{place}{} {text}",
                subject(directive)
            ))),
            (Directive::Element { name, arg, .. }, Finding::Ignored(why)) => {
                let effect = match name.as_str() {
                    "filter" => "does nothing, events pass unfiltered".to_owned(),
                    "match" => format!("does nothing, what `<match {arg}>` takes is lost"),
                    _ => "is left out".to_owned(),
                };
                let subject = subject(&self.directive);
                Some(super::Note::Warning(format!(
                    "{place}{subject} {effect}: {why}"
                )))
            }
            (Directive::Param { key, .. }, Finding::Ignored(why)) if key.starts_with('#') => {
                Some(super::Note::Warning(format!("{place}{why}")))
            }
            (directive, Finding::Ignored(why)) => Some(super::Note::Warning(format!(
                "{place}{} is left out: {why}",
                subject(directive)
            ))),
            (Directive::Element { name, depth: 0, .. }, Finding::Idle(why)) if name == "source" => {
                Some(super::Note::Info(format!(
                    "{place}{} has nothing to do: {why}",
                    subject(&self.directive)
                )))
            }
            _ => None,
        }
    }
}

fn subject(directive: &Directive) -> String {
    match directive {
        Directive::Element {
            name, kind, depth, ..
        } => {
            let word = match (name.as_str(), depth) {
                ("source", 0) => Some("a source"),
                ("filter", 0) => Some("a filter"),
                ("match", 0) => Some("an output"),
                _ => None,
            };
            match (word, kind) {
                (Some(word), Some(kind)) => format!("{word} of type `{kind}`"),
                (Some(word), None) => word.to_owned(),
                (None, _) => format!("`<{name}>`"),
            }
        }
        Directive::Param { key, within, .. } if within.is_empty() => format!("`{key}`"),
        Directive::Param { key, .. } => format!("parameter `{key}`"),
        Directive::Whole => "the configuration".to_owned(),
    }
}
