//! What the running agents tell of their work.

use crate::agent::figures::Snapshot;
use crate::doctor::finding::Finding;
use crate::doctor::patient::{Patient, Ward};
use jiff::Timestamp;

/// Older than this in a queue is late.
const OLD_SECONDS: f64 = 300.0;
/// A heartbeat each minute; this many seconds without one is late.
const HEARTBEAT_SECONDS: i64 = 600;
/// Fewer lines than this say nothing.
const ENOUGH: u64 = 100;

fn agents(patient: &Patient) -> impl Iterator<Item = (&Ward, &Snapshot)> {
    patient
        .onboarded()
        .filter_map(|w| Some((w, w.figures.as_ref().ok()?)))
}

/// The last upload of each output.
pub fn uploads(patient: &Patient, found: &mut Vec<Finding>) {
    for (ward, figures) in agents(patient) {
        for output in figures.outputs.iter().filter(|o| o.failures_in_a_row > 0) {
            let why = output.problem.as_deref().unwrap_or("no reason known");
            let last = output.last_accepted.as_deref().unwrap_or("never");
            found.push(
                Finding::new("upload-failing", format!("what `{}` takes is not sent", output.takes))
                    .seen(format!("{} tries failed: {why}; last success: {last}", output.failures_in_a_row))
                    .of(&ward.id)
                    .mend("mend what the reason names; what waits is sent then (systemctl reload tries at once)"),
            );
        }
    }
}

/// Age, size and losses of each queue.
pub fn queues(patient: &Patient, found: &mut Vec<Finding>) {
    for (ward, figures) in agents(patient) {
        for output in &figures.outputs {
            let mut say = |id, what: &str, seen: String, mend: &str| {
                let what = format!("{what} (`{}`)", output.takes);
                found.push(Finding::new(id, what).seen(seen).of(&ward.id).mend(mend));
            };
            if let Some(age) = output.queue_age_seconds.filter(|age| *age > OLD_SECONDS) {
                let seen = format!("the oldest item has waited for {age:.0} s");
                say(
                    "queue-old",
                    "the queue is behind",
                    seen,
                    "see why uploads fail or are slow",
                );
            }
            let limit = output.queue_limit_bytes.max(1);
            if output.queue_bytes > limit / 10 * 8 {
                let seen = format!("{} of {limit} bytes", output.queue_bytes);
                say(
                    "queue-full",
                    "the queue is nearly full",
                    seen,
                    "raise buffer_queue_limit, or mend the way to the service",
                );
            }
            if output.dropped > 0 {
                let seen = format!("{} items since the agent's start", output.dropped);
                say(
                    "records-dropped",
                    "a full queue has lost items",
                    seen,
                    "raise buffer_queue_limit; a restart of the agent begins the count anew",
                );
            }
        }
    }
}

/// Lines that came and were not understood.
pub fn inputs(patient: &Patient, found: &mut Vec<Finding>) {
    for (ward, figures) in agents(patient) {
        for input in figures.inputs.iter().filter(|i| i.received >= ENOUGH) {
            let lost = input.received - input.parsed.min(input.received);
            if lost * 10 > input.received {
                found.push(
                    Finding::new("lines-not-understood", format!("input {} drops lines", input.tag))
                        .seen(format!("{lost} of {} were not understood", input.received))
                        .of(&ward.id)
                        .mend("the agent's log shows some (`pattern not match`): correct the sender's format"),
                );
            }
        }
    }
}

/// The service has taken a heartbeat lately.
pub fn heartbeat(patient: &Patient, found: &mut Vec<Finding>) {
    for (ward, figures) in agents(patient) {
        let now = Timestamp::now();
        let age = |at: &str| Some(now.duration_since(at.parse().ok()?).as_secs());
        let makes = figures.inputs.iter().any(|i| i.kind == "heartbeat");
        let since = figures
            .heartbeat_accepted
            .as_deref()
            .unwrap_or(&figures.started);
        if let Some(seconds) = age(since).filter(|s| makes && *s > HEARTBEAT_SECONDS) {
            found.push(
                Finding::new("heartbeat-late", "the service has had no heartbeat lately")
                    .seen(format!("none was accepted in the last {seconds} s"))
                    .of(&ward.id)
                    .mend("see why uploads fail; the workspace shows this host as down"),
            );
        }
    }
}
