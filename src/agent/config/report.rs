//! What `omsagent config check` tells: a [`Review`] with names of files, and the mapping files that
//! it refers to (docs/config.md).

use super::{Directive, Finding, Review, Settings, Severity};
use crate::agent::counters::names;
use crate::settings::fluent::{Document, Element, Place};
use crate::settings::omi_mapping::Mapping;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Counts up when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// Default of `omi_mapping_path` of a workspace's own tree (protocol.md 5.3, 4.1).
const MAPPING: &str = "omsagent.d/omi_mapping.json";

/// The whole of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Of the program.
    pub version: String,
    /// The main file.
    pub configuration: String,
    /// Every file that was read.
    pub files: Vec<String>,
    /// `ok`, `warning` or `error`: the worst of all lines.
    pub result: &'static str,
    /// How many directives have which verdict.
    pub counts: BTreeMap<&'static str, usize>,
    /// One for each directive, in the order in which they stand.
    pub directives: Vec<Line>,
    /// The mapping files that sources refer to.
    pub mappings: Vec<MappingFile>,
}

/// One directive.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// Null: the configuration as a whole.
    pub file: Option<String>,
    /// From 1.
    pub line: Option<u32>,
    /// `source syslog`; null outside of any.
    pub section: Option<String>,
    /// The pattern of a `<match>` or `<filter>`.
    pub takes: Option<String>,
    /// Null: the section itself.
    pub parameter: Option<String>,
    /// As it may be shown.
    pub value: Option<String>,
    /// `honoured`, `replaced`, `idle`, `ignored`, `unknown` or `wrong`.
    pub verdict: &'static str,
    /// `ok`, `warning` or `error`.
    pub severity: &'static str,
    /// By what, or why.
    pub reason: Option<String>,
    /// Elements around it, for the eye.
    #[serde(skip)]
    pub depth: usize,
}

/// An omi_mapping.json.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MappingFile {
    /// Where it is.
    pub file: String,
    /// How many objects it names.
    pub objects: usize,
    /// Why it cannot be used.
    pub problem: Option<String>,
}

impl Report {
    /// On a configuration read from `main`. `fragment`: only a part, of which nothing is said that
    /// holds for a whole one.
    pub fn of(main: &Path, document: &Document, state: &Path, fragment: bool) -> Report {
        let (_, mut review) = Settings::review(document, state);
        if fragment {
            review.entries.retain(|e| e.place.is_some());
        }
        let mappings = mappings(main, document, &mut review);
        Report::from(main, document.files.clone(), &review, mappings)
    }

    /// On one that cannot be read at all.
    pub fn unreadable(main: &Path, place: Option<&Place>, text: &str) -> Report {
        let mut review = Review::default();
        review.entries.push(super::Entry {
            place: place.cloned(),
            directive: Directive::Whole,
            finding: Finding::Wrong(text.to_owned()),
        });
        Report::from(main, Vec::new(), &review, Vec::new())
    }

    fn from(
        main: &Path,
        files: Vec<String>,
        review: &Review,
        mappings: Vec<MappingFile>,
    ) -> Report {
        let mut counts = BTreeMap::new();
        for entry in &review.entries {
            *counts.entry(entry.finding.name()).or_default() += 1;
        }
        Report {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").into(),
            configuration: main.display().to_string(),
            files,
            result: review.severity().name(),
            counts,
            directives: review.entries.iter().map(Line::of).collect(),
            mappings,
        }
    }

    /// The exit code: 0 clean, 1 warnings, 2 errors.
    pub fn exit_code(&self) -> u8 {
        [Severity::Fine, Severity::Warning, Severity::Error]
            .iter()
            .position(|s| s.name() == self.result)
            .and_then(|n| u8::try_from(n).ok())
            .unwrap_or(2)
    }
}

impl Line {
    fn of(entry: &super::Entry) -> Line {
        let (section, takes, parameter, value, depth) = match &entry.directive {
            Directive::Element {
                name,
                arg,
                kind,
                depth,
            } => {
                let section = match kind {
                    Some(kind) => format!("{name} {kind}"),
                    None => name.clone(),
                };
                let takes = Some(arg.clone()).filter(|a| !a.is_empty());
                (Some(section), takes, None, None, *depth)
            }
            Directive::Param {
                key,
                value,
                within,
                depth,
            } => (
                Some(within.clone()).filter(|w| !w.is_empty()),
                None,
                Some(key.clone()),
                Some(value.clone()),
                *depth,
            ),
            Directive::Whole => (None, None, None, None, 0),
        };
        let reason = entry.finding.reason();
        Line {
            file: entry.place.as_ref().map(|p| p.file.to_string()),
            line: entry.place.as_ref().map(|p| p.line),
            section,
            takes,
            parameter,
            value,
            verdict: entry.finding.name(),
            severity: entry.finding.severity().name(),
            reason: Some(reason.to_owned()).filter(|r| !r.is_empty()),
            depth,
        }
    }
}

/// The mapping files of the performance sources, and what they do not name (protocol.md 4.1).
fn mappings(main: &Path, document: &Document, review: &mut Review) -> Vec<MappingFile> {
    let sources = document.elements.iter();
    let of_objects =
        |e: &&Element| e.name == "source" && e.kind().is_some_and(|k| k.value == "oms_omi");
    let mut seen: BTreeMap<PathBuf, (MappingFile, Option<Mapping>)> = BTreeMap::new();
    for element in sources.filter(of_objects) {
        let written = element.param("omi_mapping_path");
        let path = mapping_path(main, written.map(|p| p.value.as_str()));
        let (_, mapping) = seen.entry(path).or_insert_with_key(|path| look(path));
        let Some(object) = element.param("object_name") else {
            continue;
        };
        if let Some(mapping) = mapping
            && !mapping.has(&object.value)
            && !names::is_known(&object.value)
        {
            let of_it = |e: &&mut super::Entry| {
                e.place.as_ref() == Some(&object.place)
                    && matches!(&e.directive, Directive::Param { key, .. } if key == "object_name")
            };
            if let Some(entry) = review.entries.iter_mut().find(of_it) {
                entry.finding = Finding::Unknown("is no object of the mapping file".into());
            }
        }
    }
    seen.into_values().map(|(file, _)| file).collect()
}

/// Where it is written, else the tree's own: a copied tree brings its mapping along.
fn mapping_path(main: &Path, written: Option<&str>) -> PathBuf {
    let beside = main.parent().unwrap_or(Path::new("")).join(MAPPING);
    match written.map(Path::new) {
        Some(path) if path.is_file() || !beside.is_file() => path.to_owned(),
        _ => beside,
    }
}

fn look(path: &Path) -> (MappingFile, Option<Mapping>) {
    let (mapping, problem) = match Mapping::load(path) {
        Ok(Some(mapping)) => (Some(mapping), None),
        Ok(None) => (None, Some("there is no such file".to_owned())),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    let file = MappingFile {
        file: path.display().to_string(),
        objects: mapping.as_ref().map_or(0, |m| m.objects.len()),
        problem,
    };
    (file, mapping)
}
