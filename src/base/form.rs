//! For tests: the fields of a JSON value with their types, as fixtures hold them.

use serde_json::Value;

/// `path type`, one for each field, in order; of a list its first item counts.
pub fn fields(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect("", value, &mut found);
    found.sort_unstable();
    found
}

fn collect(path: &str, value: &Value, found: &mut Vec<String>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !path.is_empty() {
        found.push(format!("{path} {kind}"));
    }
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let dot = if path.is_empty() { "" } else { "." };
                collect(&format!("{path}{dot}{key}"), value, found);
            }
        }
        Value::Array(list) => {
            if let Some(first) = list.first() {
                collect(&format!("{path}[]"), first, found);
            }
        }
        _ => {}
    }
}
