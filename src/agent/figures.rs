//! What the agent counts while it runs, and the object in which it tells it (docs/status.md).
//!
//! Counters are written by the threads that do the work and read when somebody asks: nothing
//! wakes up for them. No text here is a secret: addresses, codes, names of queues.

use crate::agent::config::Settings;
use crate::agent::queue::Queue;
use crate::agent::queue::shares::Origin;
use crate::wire::date::Skew;
use crate::wire::http::Response;
use jiff::{Timestamp, Zoned};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts up when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// Where heartbeats come from; every other input has a number of its own.
pub const HEARTBEAT: Origin = Origin(usize::MAX);

/// The program name of the messages by which `omsagent doctor` follows the way of a line.
pub const MARK_IDENT: &str = "omsagent-doctor";
/// Longest mark that is kept.
const MARK_LIMIT: usize = 100;

/// Everything that is counted in one process.
pub struct Figures {
    started: Timestamp,
    /// One for each syslog source, in their order.
    pub inputs: Vec<Arc<Input>>,
    /// One for each source of performance counters, in their order.
    pub counters: Vec<Arc<Input>>,
    /// One for each source that reads files, in their order.
    pub tails: Vec<Arc<Input>>,
    /// One for each output, in their order.
    pub outputs: Vec<Arc<Outgoing>>,
    heartbeats_made: AtomicU64,
    /// What the service says about us.
    pub service: Arc<Service>,
    mark: Arc<Mutex<Option<Mark>>>,
}

/// One source of lines.
#[derive(Debug)]
pub struct Input {
    origin: Origin,
    kind: &'static str,
    tag: String,
    received: AtomicU64,
    parsed: AtomicU64,
    queued: AtomicU64,
    cut: AtomicU64,
    mark: Arc<Mutex<Option<Mark>>>,
}

impl Input {
    fn new(
        origin: Origin,
        (kind, tag): (&'static str, &str),
        mark: &Arc<Mutex<Option<Mark>>>,
    ) -> Arc<Input> {
        Arc::new(Input {
            origin,
            kind,
            tag: tag.to_owned(),
            received: AtomicU64::new(0),
            parsed: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            mark: Arc::clone(mark),
        })
    }

    /// By this its items are known in frames.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Lines of a file: so many were read, so many of them are in a queue, so many were too long.
    pub fn add(&self, read: u64, queued: u64, cut: u64) {
        self.received.fetch_add(read, Ordering::Relaxed);
        self.parsed.fetch_add(queued, Ordering::Relaxed);
        self.queued.fetch_add(queued, Ordering::Relaxed);
        self.cut.fetch_add(cut, Ordering::Relaxed);
    }

    /// A line has come.
    pub fn received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    /// It was understood.
    pub fn parsed(&self) {
        self.parsed.fetch_add(1, Ordering::Relaxed);
    }

    /// It is on its way to a queue.
    pub fn queued(&self) {
        self.queued.fetch_add(1, Ordering::Relaxed);
    }

    /// It was sent by `omsagent doctor`: its text is remembered, only that of the last one.
    pub fn marked(&self, text: &[u8], output: usize) {
        let text = String::from_utf8_lossy(&text[..text.len().min(MARK_LIMIT)]);
        *lock(&self.mark) = Some(Mark {
            text: text.trim().to_owned(),
            output,
            seen: Timestamp::now().as_millisecond(),
        });
    }
}

/// One destination.
#[derive(Debug, Default)]
pub struct Outgoing {
    name: String,
    limit: u64,
    requests: AtomicU64,
    refused: AtomicU64,
    failures: AtomicU64,
    /// When the oldest item of the batch in work was made, milliseconds since 1970; 0: none.
    oldest: AtomicI64,
    last: Mutex<Option<Upload>>,
    accepted: AtomicI64,
    problem: Mutex<Option<String>>,
}

impl Outgoing {
    /// A batch is begun (`Some`: when its oldest item was made) or done.
    pub fn working_on(&self, oldest_ms: Option<u64>) {
        let at = oldest_ms.map_or(0, |ms| i64::try_from(ms).unwrap_or(i64::MAX));
        self.oldest.store(at, Ordering::Relaxed);
    }

    /// The service answered an upload of `bytes`.
    pub fn answered(&self, code: u16, bytes: usize) {
        self.tried(Some(code), bytes);
        if (200..300).contains(&code) {
            let now = Timestamp::now().as_millisecond();
            self.accepted.store(now, Ordering::Relaxed);
            self.failures.store(0, Ordering::Relaxed);
            *lock(&self.problem) = None;
        }
    }

    /// An upload came to nothing, for this reason; it will be tried again.
    pub fn failed(&self, reason: &str) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        *lock(&self.problem) = Some(reason.chars().take(400).collect());
    }

    /// No answer came to an upload of `bytes`.
    pub fn unanswered(&self, bytes: usize) {
        self.tried(None, bytes);
    }

    /// An item that the service can never take was put aside.
    pub fn put_aside(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    fn tried(&self, code: Option<u16>, bytes: usize) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        *lock(&self.last) = Some(Upload {
            time: text(Timestamp::now().as_millisecond()).unwrap_or_default(),
            code,
            bytes: bytes as u64,
        });
    }
}

/// What all requests of the process tell of the service.
#[derive(Debug, Default)]
pub struct Service {
    heartbeat: AtomicI64,
    topology: AtomicI64,
    topology_problem: Mutex<Option<String>>,
    renewal_problem: Mutex<Option<String>>,
    clock: Mutex<Option<(i64, i64)>>,
}

impl Service {
    /// It took a heartbeat.
    pub fn took_heartbeat(&self) {
        let now = Timestamp::now().as_millisecond();
        self.heartbeat.store(now, Ordering::Relaxed);
    }

    /// It answered a topology heartbeat, or why not.
    pub fn topology(&self, outcome: Result<(), String>) {
        if outcome.is_ok() {
            let now = Timestamp::now().as_millisecond();
            self.topology.store(now, Ordering::Relaxed);
        }
        *lock(&self.topology_problem) = outcome.err();
    }

    /// Why the certificate is not renewed, though it should be; `None`: nothing is due.
    pub fn renewal(&self, problem: Option<String>) {
        *lock(&self.renewal_problem) = problem.map(|p| p.chars().take(400).collect());
    }

    /// Its clock, by the `Date` header of an answer that just came.
    pub fn told_time(&self, answer: &Response) {
        let skew = answer.header("date");
        if let Some(Skew(ahead)) = skew.and_then(|date| Skew::measure(date, &Zoned::now())) {
            let now = Timestamp::now().as_millisecond();
            *lock(&self.clock) = Some((ahead.as_secs(), now));
        }
    }
}

impl Figures {
    /// All zero, for a process that begins now.
    pub fn new(settings: &Settings) -> Figures {
        let mark = Arc::<Mutex<Option<Mark>>>::default();
        let mut origins = (0..).map(Origin);
        let mut input =
            |kind, tag: &str| Input::new(origins.next().unwrap_or(HEARTBEAT), (kind, tag), &mark);
        let syslog = settings.syslog.iter();
        let inputs = syslog.map(|s| input("syslog", &s.tag)).collect();
        let tails = settings.tails.iter();
        let tails = tails.map(|t| input(t.kind, &t.tag)).collect();
        let counters = settings.counters.iter();
        let counters = counters.map(|c| input("oms_omi", &c.tag)).collect();
        let output = |o: &crate::agent::config::Output| {
            Arc::new(Outgoing {
                name: o.name.clone(),
                limit: o.limit,
                ..Outgoing::default()
            })
        };
        Figures {
            started: Timestamp::now(),
            inputs,
            tails,
            counters,
            outputs: settings.outputs.iter().map(output).collect(),
            heartbeats_made: AtomicU64::new(0),
            service: Arc::default(),
            mark,
        }
    }

    /// A heartbeat went to a queue.
    pub fn made_heartbeat(&self) {
        self.heartbeats_made.fetch_add(1, Ordering::Relaxed);
    }

    /// How it stands now.
    pub fn snapshot(&self, queues: &[Arc<Queue>]) -> Snapshot {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let now = Timestamp::now().as_millisecond();
        let mut inputs: Vec<InputFigures> = Vec::new();
        let sent = |origin| queues.iter().map(|queue| queue.sent(origin)).sum();
        let all = self.inputs.iter().chain(&self.tails).chain(&self.counters);
        for input in all {
            let (received, parsed, queued) =
                (get(&input.received), get(&input.parsed), get(&input.queued));
            inputs.push(InputFigures {
                kind: input.kind.into(),
                tag: input.tag.clone(),
                received,
                parsed,
                queued,
                dropped: received.saturating_sub(queued),
                sent: sent(input.origin),
                cut: get(&input.cut),
            });
        }
        let made = get(&self.heartbeats_made);
        if made > 0 {
            inputs.push(InputFigures {
                kind: "heartbeat".into(),
                tag: "oms.heartbeat".into(),
                received: made,
                parsed: made,
                queued: made,
                sent: sent(HEARTBEAT),
                ..InputFigures::default()
            });
        }
        let output = |(outgoing, queue): (&Arc<Outgoing>, &Arc<Queue>)| {
            let counts = queue.counts();
            let waiting = queue.waiting();
            let in_work = outgoing.oldest.load(Ordering::Relaxed);
            let fresh = queue.waiting_for().map(|age| age.as_secs_f64());
            let age = match in_work {
                0 => fresh,
                made => Some((now - made).max(0) as f64 / 1000.0),
            };
            OutputFigures {
                takes: outgoing.name.clone(),
                queue_bytes: waiting,
                queue_limit_bytes: outgoing.limit,
                queue_age_seconds: age.filter(|_| waiting > 0),
                queued: counts.appended,
                sent: counts.delivered,
                dropped: counts.dropped,
                refused: get(&outgoing.refused),
                requests: get(&outgoing.requests),
                failures_in_a_row: get(&outgoing.failures),
                last_upload: lock(&outgoing.last).clone(),
                last_accepted: text(outgoing.accepted.load(Ordering::Relaxed)),
                problem: lock(&outgoing.problem).clone(),
            }
        };
        let service = &self.service;
        let clock = *lock(&service.clock);
        Snapshot {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            started: text(self.started.as_millisecond()).unwrap_or_default(),
            inputs,
            outputs: self.outputs.iter().zip(queues).map(output).collect(),
            heartbeat_accepted: text(service.heartbeat.load(Ordering::Relaxed)),
            topology_accepted: text(service.topology.load(Ordering::Relaxed)),
            topology_problem: lock(&service.topology_problem).clone(),
            renewal_problem: lock(&service.renewal_problem).clone(),
            clock: clock.map(|(ahead_seconds, at)| ClockFigures {
                ahead_seconds,
                measured: text(at).unwrap_or_default(),
            }),
            mark: lock(&self.mark).clone(),
        }
    }
}

/// How an agent stands at one moment: what it answers on its socket.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Of the program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// RFC 3339, as every time here.
    pub started: String,
    /// Sources.
    pub inputs: Vec<InputFigures>,
    /// Destinations.
    pub outputs: Vec<OutputFigures>,
    /// When the service last took a heartbeat.
    pub heartbeat_accepted: Option<String>,
    /// When it last answered a topology heartbeat.
    pub topology_accepted: Option<String>,
    /// Why the last one failed.
    pub topology_problem: Option<String>,
    /// Why the certificate is not renewed, though it should be.
    pub renewal_problem: Option<String>,
    /// How far the clock is off.
    pub clock: Option<ClockFigures>,
    /// The doctor's last message.
    pub mark: Option<Mark>,
}

/// A source's counts since the start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InputFigures {
    /// `syslog`, `tail`, `sudo_tail`, `oms_omi` or `heartbeat`.
    #[serde(rename = "type")]
    pub kind: String,
    /// First parts of its tag.
    pub tag: String,
    /// Lines that came; items that counters gave.
    pub received: u64,
    /// Lines understood.
    pub parsed: u64,
    /// Handed to a queue.
    pub queued: u64,
    /// Neither.
    pub dropped: u64,
    /// Taken by the service, of those queued in this run.
    pub sent: u64,
    /// Lines of files that were too long and were cut.
    pub cut: u64,
}

/// A destination's counts since the start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OutputFigures {
    /// Pattern of its `<match>`.
    pub takes: String,
    /// Bytes that wait.
    pub queue_bytes: u64,
    /// Most bytes that may.
    pub queue_limit_bytes: u64,
    /// Age of the oldest.
    pub queue_age_seconds: Option<f64>,
    /// Items taken in.
    pub queued: u64,
    /// Items the service took.
    pub sent: u64,
    /// Items given up because the queue was full.
    pub dropped: u64,
    /// Items too large for the service, put aside.
    pub refused: u64,
    /// Uploads tried.
    pub requests: u64,
    /// Tries that failed since the last success.
    pub failures_in_a_row: u64,
    /// The last try.
    pub last_upload: Option<Upload>,
    /// The last success.
    pub last_accepted: Option<String>,
    /// Why the last try failed.
    pub problem: Option<String>,
}

/// One upload.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Upload {
    /// When.
    pub time: String,
    /// HTTP status; `None`: no answer.
    pub code: Option<u16>,
    /// Bytes of the body.
    pub bytes: u64,
}

/// The clock beside the service's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClockFigures {
    /// Ours is ahead by this; negative: behind.
    pub ahead_seconds: i64,
    /// When that was seen.
    pub measured: String,
}

/// A message of `omsagent doctor` that came in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Its text.
    pub text: String,
    /// The output that takes it, counting from 0.
    pub output: usize,
    /// When, milliseconds since 1970.
    pub seen: i64,
}

/// Is this line the doctor's?
pub fn is_mark(ident: &[u8]) -> bool {
    ident == MARK_IDENT.as_bytes()
}

/// A text that nobody else sends: what a doctor writes and then looks for.
pub fn new_mark() -> String {
    format!("test message {}", uuid::Uuid::new_v4().simple())
}

fn text(ms: i64) -> Option<String> {
    let at = Timestamp::from_millisecond(ms).ok().filter(|_| ms != 0)?;
    Some(at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Figures {
        let text = "<source>\n type syslog\n port 0\n tag oms.syslog\n</source>\n\
                    <match oms.**>\n type out_oms\n buffer_path /x/a*.buffer\n</match>\n";
        let document = crate::settings::fluent::parse("t", text, &mut ()).unwrap();
        Figures::new(&Settings::from_document(&document, std::path::Path::new("/x")).unwrap())
    }

    #[test]
    fn counts_become_a_snapshot_and_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let (queue, _) = Queue::open(&dir.path().join("q"), 1 << 20).unwrap();
        let figures = figures();
        let input = &figures.inputs[0];
        input.received();
        input.received();
        input.parsed();
        input.queued();
        input.marked(b"test message 7", 0);
        let output = &figures.outputs[0];
        output.unanswered(10);
        output.failed("no route");
        let queues = [Arc::new(queue)];
        let seen = figures.snapshot(&queues);
        assert_eq!(seen.inputs[0].received, 2);
        assert_eq!(seen.inputs[0].dropped, 1);
        assert_eq!(seen.outputs[0].failures_in_a_row, 1);
        assert_eq!(seen.outputs[0].problem.as_deref(), Some("no route"));
        assert_eq!(seen.outputs[0].last_upload.as_ref().unwrap().code, None);
        assert_eq!(seen.mark.as_ref().unwrap().text, "test message 7");
        output.answered(200, 20);
        figures.service.took_heartbeat();
        let seen = figures.snapshot(&queues);
        let out = &seen.outputs[0];
        assert_eq!((out.failures_in_a_row, &out.problem), (0, &None));
        assert!(out.last_accepted.is_some() && seen.heartbeat_accepted.is_some());
        let json = serde_json::to_string(&seen).unwrap();
        assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap(), seen);
    }

    #[test]
    fn an_older_agents_object_is_read() {
        let seen: Snapshot = serde_json::from_str(r#"{"schema":1,"later":true}"#).unwrap();
        assert_eq!(seen.schema, 1);
    }
}
