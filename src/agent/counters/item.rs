//! The item of one instance (protocol.md 3.7).

use super::value::Instance;
use crate::agent::queue::frame::Kind;
use crate::agent::syslog::item::push_text;
use crate::agent::syslog::stamp::push_utc;

/// What the service files counters under.
pub const KIND: Kind = Kind::new("LINUX_PERF_BLOB", "LogManagement");
/// The same with `wlm_enabled`.
pub const WORKLOAD: Kind = Kind::new("WLM_LINUX_PERF_DATA_BLOB", "InfrastructureInsights");

/// What the items of one pass share.
#[derive(Debug, Clone, Copy)]
pub struct Context<'c> {
    /// Milliseconds since 1970.
    pub now_ms: i64,
    /// `Host`.
    pub host: &'c str,
    /// `ObjectName`.
    pub object: &'c str,
    /// By counter, the name by which it is sent; `None`: it is not asked for.
    pub counters: &'c [Option<String>],
    /// With a key named like the object, as workload monitoring has it.
    pub workload: bool,
}

/// Appends the item.
pub fn push(out: &mut Vec<u8>, instance: &Instance, context: Context<'_>) {
    out.extend_from_slice(b"{\"Timestamp\":\"");
    push_utc(out, context.now_ms);
    out.push(b'"');
    let mut entry = |key: &str, value: &str| {
        out.push(b',');
        push_text(out, key.as_bytes());
        out.push(b':');
        push_text(out, value.as_bytes());
    };
    entry("Host", context.host);
    entry("ObjectName", context.object);
    entry("InstanceName", &instance.name);
    if context.workload {
        entry(context.object, &instance.name);
    }
    out.extend_from_slice(b",\"Collections\":[");
    let mut first = true;
    for (name, value) in context.counters.iter().zip(&instance.values) {
        let (Some(name), Some(value)) = (name, value.text()) else {
            continue;
        };
        if !std::mem::replace(&mut first, false) {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"CounterName\":");
        push_text(out, name.as_bytes());
        out.extend_from_slice(b",\"Value\":\"");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\"}");
    }
    out.extend_from_slice(b"]}");
}

#[cfg(test)]
mod tests {
    use super::super::names::select;
    use super::super::regex::Regex;
    use super::super::value::Value;
    use super::*;

    fn item(instance: &Instance, counters: &str, workload: bool) -> String {
        let wanted = select(None, "Logical Disk", &Regex::new(counters).unwrap()).unwrap();
        let mut out = Vec::new();
        let context = Context {
            now_ms: 1_445_469_679_000,
            host: "MockHostname",
            object: &wanted.name,
            counters: &wanted.counters,
            workload,
        };
        push(&mut out, instance, context);
        String::from_utf8(out).unwrap()
    }

    fn instance(name: &str, values: [u64; 11]) -> Instance {
        Instance {
            name: name.into(),
            values: values.map(Value::Number).to_vec(),
        }
    }

    /// The example of protocol.md 3.7.
    #[test]
    fn the_form_of_the_original() {
        let total = instance("_Total", [85363, 87, 13, 100, 0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(
            item(&total, "%", false),
            r#"{"Timestamp":"2015-10-21T23:21:19.000Z","Host":"MockHostname","ObjectName":"Logical Disk","InstanceName":"_Total","Collections":[{"CounterName":"% Free Space","Value":"87"},{"CounterName":"% Used Space","Value":"13"},{"CounterName":"% Free Inodes","Value":"100"},{"CounterName":"% Used Inodes","Value":"0"}]}"#
        );
        assert!(
            item(&total, "nothing", false)
                .ends_with(r#""InstanceName":"_Total","Collections":[]}"#)
        );
    }

    /// The full set of protocol.md 4.9, and what `%|Disk` leaves of it.
    #[test]
    fn the_order_of_the_original() {
        let root = instance("/", [85293, 87, 13, 95, 5, 8792, 3713, 5079, 1, 0, 1]);
        let all = item(&root, ".*", false);
        let parsed: serde_json::Value = serde_json::from_str(&all).unwrap();
        let pairs: Vec<(&str, &str)> = parsed["Collections"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| {
                (
                    c["CounterName"].as_str().unwrap(),
                    c["Value"].as_str().unwrap(),
                )
            })
            .collect();
        let wanted = [
            ("Free Megabytes", "85293"),
            ("% Free Space", "87"),
            ("% Used Space", "13"),
            ("% Free Inodes", "95"),
            ("% Used Inodes", "5"),
            ("Logical Disk Bytes/sec", "8792"),
            ("Disk Read Bytes/sec", "3713"),
            ("Disk Write Bytes/sec", "5079"),
            ("Disk Transfers/sec", "1"),
            ("Disk Reads/sec", "0"),
            ("Disk Writes/sec", "1"),
        ];
        assert_eq!(pairs, wanted);
        let some = item(&root, "%|Disk", false);
        assert!(!some.contains("Free Megabytes") && some.contains("Disk Writes/sec"));
    }

    #[test]
    fn values_that_cannot_be_read_are_left_out_and_names_are_escaped() {
        let mut odd = instance("/a\"b\n", [7; 11]);
        odd.values[0] = Value::Missing;
        let text = item(&odd, "Megabytes|Free Space", true);
        assert!(
            text.contains(
                r#""InstanceName":"/a\"b\n","Logical Disk":"/a\"b\n","Collections":[{"CounterName":"% Free Space","Value":"7"}]}"#
            ),
            "{text}"
        );
    }
}
