//! omi_mapping.json: which performance objects and counters there are, by the names that
//! configuration uses (protocol.md 4.1).

use crate::base::files;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::path::Path;

/// Larger than any mapping.
const LIMIT: usize = 1 << 20;

/// The objects of one file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mapping {
    /// In the order written.
    pub objects: Vec<Object>,
}

/// A performance object.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Object {
    /// As in `object_name`.
    #[serde(rename = "ObjectName")]
    pub name: String,
    /// The provider's name for it; empty: not written.
    #[serde(rename = "CimClassName", default)]
    pub class: String,
    /// Its counters.
    #[serde(rename = "CimProperties", default)]
    pub counters: Vec<Counter>,
}

/// A counter.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Counter {
    /// As in `counter_name_regex`.
    #[serde(rename = "CounterName")]
    pub name: String,
    /// The provider's name for it; empty: not written.
    #[serde(rename = "CimPropertyName", default)]
    pub property: String,
    /// The name by which it is sent, where that is another.
    #[serde(rename = "DisplayName", default)]
    pub shown: Option<String>,
}

impl Mapping {
    /// Reads a mapping's text.
    pub fn parse(text: &str) -> serde_json::Result<Mapping> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let objects = serde_json::from_slice(text.as_bytes())?;
        Ok(Mapping { objects })
    }

    /// Reads the file; `None` when there is none.
    pub fn load(path: &Path) -> Result<Option<Mapping>> {
        let Some(text) = files::read_text(path, LIMIT)? else {
            return Ok(None);
        };
        let mapping = Mapping::parse(&text);
        let mapping = mapping.with_context(|| format!("`{}` is no mapping", path.display()))?;
        Ok(Some(mapping))
    }

    /// Is there an object of that name?
    pub fn has(&self, object: &str) -> bool {
        self.objects.iter().any(|o| o.name == object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_and_counters() {
        let text = r#"[{"ObjectName":"Memory","Namespace":"root/scx","CimClassName":"X",
            "InstanceProperty":"Name","CimProperties":[
            {"CimPropertyName":"UsedMemory","CounterName":"Used Memory MBytes"}]}]"#;
        let mapping = Mapping::parse(text).unwrap();
        assert!(mapping.has("Memory") && !mapping.has("memory"));
        assert_eq!(mapping.objects[0].class, "X");
        let counter = &mapping.objects[0].counters[0];
        assert_eq!(counter.name, "Used Memory MBytes");
        assert_eq!(
            (counter.property.as_str(), &counter.shown),
            ("UsedMemory", &None)
        );
        assert!(Mapping::parse("{}").is_err());
        assert!(Mapping::parse("[{}]").is_err());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m");
        assert!(Mapping::load(&path).unwrap().is_none());
        std::fs::write(&path, "[").unwrap();
        let error = format!("{:#}", Mapping::load(&path).unwrap_err());
        assert!(error.contains("is no mapping"), "{error}");
    }
}
