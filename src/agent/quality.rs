//! What the senders tell of their successes, and the process of its errors, for the telemetry that
//! the service asks for (protocol.md 2.3).

use crate::base::order;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Different error texts that are counted.
const TEXTS: usize = 1000;
/// Longest of them.
const TEXT_LIMIT: usize = 500;
/// How many are told.
const TOLD: usize = 5;

/// Counted since the last report.
#[derive(Debug, Default)]
pub struct Gathered {
    sources: Mutex<BTreeMap<String, Tally>>,
    errors: Mutex<BTreeMap<String, u64>>,
}

/// The batches of one source.
#[derive(Debug, Default)]
struct Tally {
    batches: u64,
    network_ms: u64,
    events: Range,
    sizes: Range,
    latencies: Range,
}

/// The smallest, the largest, and what makes the mean.
#[derive(Debug, Default)]
struct Range {
    count: u64,
    sum: u64,
    min: u64,
    max: u64,
}

impl Range {
    fn add(&mut self, value: u64) {
        self.min = match self.count {
            0 => value,
            _ => self.min.min(value),
        };
        self.max = self.max.max(value);
        self.sum = self.sum.saturating_add(value);
        self.count += 1;
    }

    fn mean(&self) -> u64 {
        self.sum / self.count.max(1)
    }
}

/// An entry of `AgentQoS`, keys in the original's order.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Quality {
    source: String,
    message: &'static str,
    operation_success: &'static str,
    batch_count: u64,
    operation: &'static str,
    min_batch_event_count: u64,
    max_batch_event_count: u64,
    avg_batch_event_count: u64,
    min_event_size: u64,
    max_event_size: u64,
    avg_event_size: u64,
    min_local_latency_in_ms: u64,
    max_local_latency_in_ms: u64,
    avg_local_latency_in_ms: u64,
    network_latency_in_ms: u64,
}

/// An entry of `AgentError`.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Error {
    message: String,
    count: u64,
}

impl Gathered {
    /// The service took `items`, joined by commas, at `now_ms`; the request took that long.
    pub fn sent(&self, source: &str, items: &[u8], now_ms: i64, request: Duration) {
        let mut sources = lock(&self.sources);
        let tally = sources.entry(source.to_uppercase()).or_default();
        let mut count = 0;
        for item in each(items) {
            count += 1;
            tally.sizes.add(item.len() as u64);
            let age = stamp_ms(item).map_or(0, |then| now_ms.saturating_sub(then).max(0));
            tally.latencies.add(age as u64);
        }
        tally.batches += 1;
        tally.events.add(count);
        tally.network_ms += request.as_millis() as u64;
    }

    /// Something went wrong, in words that are the same each time.
    pub fn error(&self, text: &str) {
        let text: String = text.chars().take(TEXT_LIMIT).collect();
        let mut errors = lock(&self.errors);
        if errors.len() < TEXTS || errors.contains_key(&text) {
            *errors.entry(text).or_default() += 1;
        }
    }

    /// What was gathered, which is forgotten by that.
    pub fn take(&self) -> (Vec<Quality>, Vec<Error>) {
        let sources = std::mem::take(&mut *lock(&self.sources));
        let errors = std::mem::take(&mut *lock(&self.errors));
        let quality = |(source, tally): (String, Tally)| Quality {
            source,
            message: "",
            operation_success: "true",
            batch_count: tally.batches,
            operation: "SendBatch",
            min_batch_event_count: tally.events.min,
            max_batch_event_count: tally.events.max,
            avg_batch_event_count: tally.events.mean(),
            min_event_size: tally.sizes.min,
            max_event_size: tally.sizes.max,
            avg_event_size: tally.sizes.mean(),
            min_local_latency_in_ms: tally.latencies.min,
            max_local_latency_in_ms: tally.latencies.max,
            avg_local_latency_in_ms: tally.latencies.mean(),
            network_latency_in_ms: tally.network_ms / tally.batches.max(1),
        };
        let mut errors: Vec<Error> = errors
            .into_iter()
            .map(|(message, count)| Error { message, count })
            .collect();
        order::by_key(&mut errors, |e| std::cmp::Reverse(e.count));
        errors.truncate(TOLD);
        (sources.into_iter().map(quality).collect(), errors)
    }
}

/// The items of a batch. A quotation mark within a text has a backslash before it, and our items
/// hold no objects: so this is where one ends and the next begins.
fn each(items: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut from = 0;
        while let Some(at) = rest[from..].iter().position(|b| *b == b'}') {
            let end = from + at + 1;
            if rest[end..].starts_with(b",{\"") {
                let item = &rest[..end];
                rest = &rest[end + 1..];
                return Some(item);
            }
            from = end;
        }
        Some(std::mem::take(&mut rest))
    })
}

/// The item's `Timestamp`, milliseconds since 1970.
fn stamp_ms(item: &[u8]) -> Option<i64> {
    const KEY: &[u8] = b"\"Timestamp\":\"";
    let at = item.windows(KEY.len()).position(|w| w == KEY)? + KEY.len();
    let text = item[at..].split(|b| *b == b'"').next()?;
    let stamp: jiff::Timestamp = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(stamp.as_millisecond())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_become_one_entry_a_source() {
        let gathered = Gathered::default();
        let at = |s: &str| -> i64 { s.parse::<jiff::Timestamp>().unwrap().as_millisecond() };
        let one = r#"{"ident":"a","Timestamp":"2031-08-09T10:11:12.000Z","Message":"x"}"#;
        let two = r#"{"ident":"a},{\"b","Timestamp":"2031-08-09T10:11:13.000Z","Message":"}, ,{"}"#;
        let now = at("2031-08-09T10:11:14.500Z");
        let both = format!("{one},{two}");
        gathered.sent(
            "Linux_Syslogs_Blob.LogManagement",
            both.as_bytes(),
            now,
            Duration::from_millis(30),
        );
        gathered.sent(
            "linux_syslogs_blob.logmanagement",
            one.as_bytes(),
            now,
            Duration::from_millis(10),
        );
        gathered.sent("x.y", br#"{"a":"b"}"#, now, Duration::ZERO);
        let (quality, errors) = gathered.take();
        assert!(errors.is_empty());
        let json = serde_json::to_string(&quality[0]).unwrap();
        let (small, large) = (one.len(), two.len());
        let mean = (2 * small + large) / 3;
        assert_eq!(
            json,
            format!(
                r#"{{"Source":"LINUX_SYSLOGS_BLOB.LOGMANAGEMENT","Message":"","OperationSuccess":"true","BatchCount":2,"Operation":"SendBatch","MinBatchEventCount":1,"MaxBatchEventCount":2,"AvgBatchEventCount":1,"MinEventSize":{small},"MaxEventSize":{large},"AvgEventSize":{mean},"MinLocalLatencyInMs":1500,"MaxLocalLatencyInMs":2500,"AvgLocalLatencyInMs":2166,"NetworkLatencyInMs":20}}"#
            )
        );
        assert_eq!(quality[1].max_local_latency_in_ms, 0);
        assert!(gathered.take().0.is_empty());
    }

    #[test]
    fn the_five_most_frequent_errors_are_told() {
        let gathered = Gathered::default();
        for n in 0..8 {
            for _ in 0..=n {
                gathered.error(&format!("error {n}"));
            }
        }
        for n in 0..2000 {
            gathered.error(&format!("rare {n}"));
        }
        let (_, errors) = gathered.take();
        let told: Vec<_> = errors
            .iter()
            .map(|e| (e.message.as_str(), e.count))
            .collect();
        assert_eq!(
            told,
            [
                ("error 7", 8),
                ("error 6", 7),
                ("error 5", 6),
                ("error 4", 5),
                ("error 3", 4)
            ]
        );
    }
}
