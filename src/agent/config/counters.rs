//! `type oms_omi` (protocol.md 5.3, 3.7).

use super::reader::Reader;
use crate::agent::counters::names::{Selection, select};
use crate::agent::counters::regex::Regex;
use crate::settings::fluent::Problem;
use crate::settings::omi_mapping::Mapping;
use std::path::Path;
use std::time::Duration;

/// A source of performance counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters {
    /// The object and those of its counters that are asked for.
    pub selection: Selection,
    /// Which instances.
    pub instances: Regex,
    /// `None` is once, at the start.
    pub interval: Option<Duration>,
    /// Tag.
    pub tag: String,
    /// In the form of workload monitoring.
    pub workload: bool,
    /// Where it is written.
    pub place: String,
}

/// What became of such a source.
pub(super) struct Outcome {
    /// What is written there; or why it is left out, though the agent runs (protocol.md 3.7: an
    /// expression that cannot be read disables its source; 4.1: objects that nobody collects).
    pub counters: Result<Counters, String>,
    /// What is to be said of its mapping file.
    pub remark: Option<String>,
}

/// Reads one.
pub(super) fn read(read: &Reader<'_>) -> Result<Outcome, Problem> {
    let object = read.text("object_name")?;
    let interval = read.written_time("interval")?;
    let workload = read.flag("wlm_enabled")?;
    let regex = |key: &str| {
        let text = read.text(key)?;
        let line = read.written(key).map_or(0, |p| p.place.line);
        Ok(Regex::new(text).map_err(|why| {
            format!("`{key}` in line {line} is no regular expression that can be used: {why}")
        }))
    };
    let (instances, counters) = (regex("instance_regex")?, regex("counter_name_regex")?);
    let tag = read.text("tag")?.to_owned();
    let path = read.text("omi_mapping_path")?;
    let (mapping, remark) = match Mapping::load(Path::new(path)) {
        Ok(mapping) => (mapping, None),
        Err(error) => (
            None,
            Some(format!("{error:#}: counters have their usual names")),
        ),
    };
    let build = || {
        let (instances, counters) = (instances?, counters?);
        let selection = select(mapping.as_ref(), object, &counters);
        Ok(Counters {
            selection: selection.map_err(|why| why.to_string())?,
            instances,
            interval,
            tag,
            workload,
            place: read.element.place.to_string(),
        })
    };
    Ok(Outcome {
        counters: build(),
        remark,
    })
}
