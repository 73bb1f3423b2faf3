//! The thread that sends what one queue holds: batch by batch, in order, until each is taken.
//!
//! Any 2xx means taken. Everything else means later: 30 s, then twice as long each time (or what
//! `Retry-After` asks for), without end; nothing is given up because of an answer. 413 cuts the
//! batch in two; a single item that is too large for the service goes to `refused.json`.

use crate::agent::config::{Form, Output};
use crate::agent::figures::{Outgoing, Service};
use crate::agent::heartbeat;
use crate::agent::link::{Common, Link};
use crate::agent::parcel::Parcel;
use crate::agent::queue::frame::Kind;
use crate::agent::queue::{Gathered, Queue};
use crate::agent::status::{Outcome, StatusFile};
use crate::wire::date::parse_http_date;
use crate::wire::http::Response;
use log::{error, info, warn};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longest time a server may ask us to wait.
const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(3600);
/// Smallest request that is cut further only item by item.
const SMALLEST_REQUEST: usize = 4 << 10;
/// Bytes of items kept that the service can never take.
const REFUSED_LIMIT: u64 = 16 << 20;

/// Intervals of telemetry that are adopted.
const TELEMETRY: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(3600);

/// What the rest of the process tells the senders.
#[derive(Debug, Default)]
pub struct Control {
    stop: AtomicBool,
    reload: AtomicU32,
    /// Seconds between telemetry reports, as the service said; 0: nothing.
    telemetry: AtomicU32,
}

impl Control {
    /// Ends every sender soon.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Certificate, omsadmin.conf and proxy.conf are read anew.
    pub fn reload(&self) {
        self.reload.fetch_add(1, Ordering::SeqCst);
    }

    /// The service wants telemetry that often (protocol.md 2.1: 1 minute to 1 hour counts).
    pub fn telemetry_each(&self, interval: Duration) {
        if TELEMETRY.contains(&interval) {
            let seconds = u32::try_from(interval.as_secs()).unwrap_or(u32::MAX);
            self.telemetry.store(seconds, Ordering::SeqCst);
        }
    }

    /// How often, if the service has said.
    pub fn telemetry_interval(&self) -> Option<Duration> {
        let seconds = self.telemetry.load(Ordering::SeqCst);
        (seconds > 0).then(|| Duration::from_secs(seconds.into()))
    }

    /// Told to stop.
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// How often they were to be read anew.
    pub fn generation(&self) -> u32 {
        self.reload.load(Ordering::SeqCst)
    }
}

/// Sends one queue.
pub struct Sender {
    output: Output,
    common: Common,
    queue: Arc<Queue>,
    control: Arc<Control>,
    status: Arc<StatusFile>,
    figures: Arc<Outgoing>,
    service: Arc<Service>,
    link: Option<Link>,
    generation: u32,
    request: usize,
    failures: Failures,
    told_dropped: u64,
}

/// How sending goes at the moment.
#[derive(Default)]
struct Failures {
    in_a_row: u32,
    since: Option<Instant>,
    told: String,
}

/// What came of one attempt.
enum Attempt {
    Taken,
    TooLarge,
    Later {
        reason: String,
        after: Option<Duration>,
    },
}

impl Sender {
    /// A sender for `queue`.
    pub fn new(
        output: Output,
        common: Common,
        queue: Arc<Queue>,
        control: Arc<Control>,
        status: Arc<StatusFile>,
        (figures, service): (Arc<Outgoing>, Arc<Service>),
    ) -> Self {
        Sender {
            figures,
            service,
            request: output.request,
            output,
            common,
            queue,
            generation: control.generation(),
            control,
            status,
            link: None,
            failures: Failures::default(),
            told_dropped: 0,
        }
    }

    /// Sends until told to stop.
    pub fn run(mut self) {
        let control = Arc::clone(&self.control);
        let flush = self.output.flush_interval;
        while self
            .queue
            .wait(self.request as u64, flush, || control.stopping())
        {
            self.tell_dropped();
            let read = match self.output.form {
                // Each part is a request of its own, or several.
                Form::Blob { .. } | Form::Records { .. } => self.queue.read_mixed(self.request),
                Form::Items => self.queue.read(self.request).map(|b| b.map(Gathered::from)),
            };
            match read {
                Ok(None) => {}
                Ok(Some(gathered)) => {
                    self.figures.working_on(Some(gathered.whole.oldest_ms));
                    self.deliver(&gathered);
                    self.figures.working_on(None);
                }
                Err(error) => {
                    warn!(
                        "cannot read the queue `{}`: {error}; trying again",
                        self.queue.dir().display()
                    );
                    self.queue
                        .pause(self.output.retry_wait, || control.stopping());
                }
            }
        }
    }

    /// Returns when all of it is taken, or when told to stop.
    fn deliver(&mut self, gathered: &Gathered) {
        let whole = &gathered.whole;
        if whole.skipped > 0 {
            error!(
                "{} bytes of the queue `{}` are damaged or gone and are skipped",
                whole.skipped,
                self.queue.dir().display()
            );
        }
        let taken = |(kind, items): &(Kind, Vec<u8>)| self.deliver_part(kind, items);
        if !gathered.parts.iter().all(taken) {
            return;
        }
        if let Err(error) = self.queue.delivered(whole) {
            warn!(
                "cannot note in `{}` what was delivered: {error}; a restart would send it again",
                self.queue.dir().display()
            );
        }
    }

    /// False when told to stop.
    fn deliver_part(&mut self, kind: &Kind, items: &[u8]) -> bool {
        // Parts still to send, the next one last.
        let mut parts: Vec<&[u8]> = Vec::new();
        if !items.is_empty() {
            parts.push(items);
        }
        while let Some(items) = parts.pop() {
            match self.send(kind, items) {
                Some(Attempt::Taken) if *kind == heartbeat::KIND => {
                    self.service.took_heartbeat();
                }
                Some(Attempt::Taken) => {}
                Some(Attempt::TooLarge) => match halves(items) {
                    Some((first, second)) => {
                        self.request = (items.len() / 2).max(SMALLEST_REQUEST);
                        info!(
                            "the service takes less than {} bytes at once: sending in smaller parts",
                            items.len()
                        );
                        parts.push(second);
                        parts.push(first);
                    }
                    None => self.put_aside(kind, items),
                },
                Some(Attempt::Later { .. }) | None => return false, // told to stop
            }
        }
        true
    }

    /// Tries until the service takes it or says that it is too large; `None` when told to stop.
    fn send(&mut self, kind: &Kind, items: &[u8]) -> Option<Attempt> {
        let parcel = match Parcel::make(&self.output, kind, items) {
            Ok(parcel) => parcel,
            Err(error) => {
                // Compressing into memory does not fail; if it ever does, say so and keep the data.
                error!("cannot form a request: {error}");
                let control = &self.control;
                self.queue
                    .pause(self.output.retry_wait, || control.stopping());
                return None;
            }
        };
        for attempt in 0.. {
            if self.control.stopping() {
                return None;
            }
            let begun = Instant::now();
            match self.attempt(&parcel, attempt) {
                Attempt::Later { reason, after } => self.wait(&reason, after),
                done => {
                    if let (Attempt::Taken, Some(gathered)) = (&done, &self.common.gathered) {
                        let source = parcel.source();
                        let now = jiff::Timestamp::now().as_millisecond();
                        gathered.sent(&source, items, now, begun.elapsed());
                    }
                    self.went_well();
                    return Some(done);
                }
            }
        }
        None
    }

    fn attempt(&mut self, parcel: &Parcel, attempt: u32) -> Attempt {
        let generation = self.control.generation();
        if generation != self.generation {
            self.generation = generation;
            self.link = None;
        }
        let link = match &mut self.link {
            Some(link) => link,
            None => match Link::open(&self.output.files, &self.common) {
                Ok(link) => self.link.insert(link),
                Err(error) => {
                    return Attempt::Later {
                        reason: format!("{error:#}"),
                        after: None,
                    };
                }
            },
        };
        let sent = parcel.send(link, attempt);
        match &sent.answer {
            Ok(answer) => {
                self.figures.answered(answer.status, sent.bytes);
                self.service.told_time(answer);
            }
            Err(_) => self.figures.unanswered(sent.bytes),
        }
        let later = match sent.answer {
            Ok(answer) if (200..300).contains(&answer.status) => return Attempt::Taken,
            Ok(answer) if answer.status == 413 => return Attempt::TooLarge,
            Ok(answer) => Attempt::Later {
                reason: format!(
                    "the service at {} answered {}{} (request {})",
                    sent.url,
                    answer.status,
                    first_words(&answer.body),
                    sent.request_id
                ),
                after: retry_after(&answer),
            },
            Err(error) => Attempt::Later {
                reason: error.to_string(),
                after: None,
            },
        };
        // The files may have been mended meanwhile: they are read again for the next try.
        self.link = None;
        later
    }

    fn wait(&mut self, reason: &str, after: Option<Duration>) {
        self.status.note(Outcome::Retry);
        self.figures.failed(reason);
        let failures = &mut self.failures;
        let wait = back_off(
            self.output.retry_wait,
            self.output.max_retry_wait,
            failures.in_a_row,
        );
        let wait = jitter(wait).max(after.unwrap_or_default());
        failures.in_a_row = failures.in_a_row.saturating_add(1);
        failures.since.get_or_insert_with(Instant::now);
        // Each distinct failure once: the request id differs each time and does not count.
        let cause = reason.split(" (request ").next().unwrap_or(reason);
        if let Some(gathered) = &self.common.gathered {
            gathered.error(cause);
        }
        if failures.told != cause {
            failures.told = cause.to_owned();
            warn!(
                "cannot send what `<match {}>` took: {reason}; it is kept, next try in {:.1} s",
                self.output.name,
                wait.as_secs_f64()
            );
        }
        self.tell_dropped();
        let (control, generation) = (Arc::clone(&self.control), self.generation);
        self.queue.pause(wait, || {
            control.stopping() || control.generation() != generation
        });
    }

    fn went_well(&mut self) {
        self.status.note(Outcome::Sent);
        let failures = std::mem::take(&mut self.failures);
        if let Some(since) = failures.since {
            info!(
                "sending what `<match {}>` takes works again after {} failed tries in {:.0} s",
                self.output.name,
                failures.in_a_row,
                since.elapsed().as_secs_f64()
            );
        }
    }

    fn tell_dropped(&mut self) {
        let dropped = self.queue.counts().dropped;
        if dropped > self.told_dropped {
            warn!(
                "the queue `{}` was full: the {} oldest items are lost; raise `buffer_queue_limit` at {} or mend the way to the service",
                self.queue.dir().display(),
                dropped - self.told_dropped,
                self.output.place
            );
            self.told_dropped = dropped;
        }
    }

    /// One item that is larger than the service takes: kept for people, not sent again.
    fn put_aside(&self, kind: &Kind, item: &[u8]) {
        self.figures.put_aside();
        let path = self.queue.dir().join("refused.json");
        error!(
            "the service refuses a single {} item of {} bytes as too large: kept in `{}`",
            kind.data_type,
            item.len(),
            path.display()
        );
        let kept = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(&path);
        let kept = kept.and_then(|mut file| {
            if file.metadata()?.len() + item.len() as u64 > REFUSED_LIMIT {
                file.set_len(0)?;
            }
            file.write_all(item)?;
            file.write_all(b"\n")
        });
        if let Err(error) = kept {
            error!("cannot keep it: {error}");
        }
    }
}

/// Cuts items at the comma nearest to the middle; `None` for a single one.
fn halves(items: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut best: Option<usize> = None;
    let (mut depth, mut quoted, mut escaped) = (0_i32, false, false);
    let middle = items.len() / 2;
    for (i, byte) in items.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 && best.is_none_or(|b| i.abs_diff(middle) < b.abs_diff(middle)) => {
                best = Some(i);
            }
            _ => {}
        }
    }
    best.map(|comma| (&items[..comma], &items[comma + 1..]))
}

/// What `Retry-After` asks for: seconds or a date.
fn retry_after(answer: &Response) -> Option<Duration> {
    let text = answer.header("retry-after")?.trim();
    let asked = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = parse_http_date(text)?;
            let left = until.duration_since(jiff::Timestamp::now());
            Duration::try_from(left).unwrap_or_default()
        }
    };
    Some(asked.min(RETRY_AFTER_LIMIT))
}

/// `first`, doubled after each failure, at most `longest`.
fn back_off(first: Duration, longest: Duration, failures: u32) -> Duration {
    let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(longest)
}

/// A factor of 0.875 to 1.125 (protocol.md 3.3), so that a fleet does not come back at once.
pub(super) fn jitter(wait: Duration) -> Duration {
    let random = uuid::Uuid::new_v4().as_u128() as u16; // of its random bits
    wait.mul_f64(0.875 + 0.25 * f64::from(random) / f64::from(u16::MAX))
}

/// The beginning of an answer, for a log line.
fn first_words(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(160)]);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = text.replace(|c: char| c.is_control(), "?");
    if text.is_empty() {
        String::new()
    } else {
        format!(": {text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_of_telemetry_are_adopted_within_bounds() {
        let control = Control::default();
        for (said, adopted) in [
            (59, None),
            (60, Some(60)),
            (3601, Some(60)),
            (3600, Some(3600)),
        ] {
            control.telemetry_each(Duration::from_secs(said));
            assert_eq!(
                control.telemetry_interval(),
                adopted.map(Duration::from_secs)
            );
        }
    }

    #[test]
    fn items_are_cut_between_never_inside() {
        for (items, wanted) in [
            ("{}", None),
            (r#"{"a":"},{","b":[1,2]}"#, None),
            (r#"{"a":"\"},{"}"#, None),
            ("{1},{2}", Some(("{1}", "{2}"))),
            (
                r#"{"a":","},{"b":{"c":[{},{}]}},{}"#,
                Some((r#"{"a":","}"#, r#"{"b":{"c":[{},{}]}},{}"#)),
            ),
        ] {
            let got = halves(items.as_bytes());
            let text = |b: &'_ [u8]| String::from_utf8(b.to_vec()).unwrap();
            let got = got.map(|(a, b)| (text(a), text(b)));
            let wanted = wanted.map(|(a, b): (&str, &str)| (a.to_owned(), b.to_owned()));
            assert_eq!(got, wanted, "{items}");
        }
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let (first, longest) = (Duration::from_secs(30), Duration::from_secs(1800));
        let waits: Vec<u64> = (0..8)
            .map(|n| back_off(first, longest, n).as_secs())
            .collect();
        assert_eq!(waits, [30, 60, 120, 240, 480, 960, 1800, 1800]);
        assert_eq!(back_off(first, longest, u32::MAX), longest);
        for _ in 0..100 {
            let wait = jitter(first).as_secs_f64();
            assert!((26.2..=33.8).contains(&wait), "{wait}");
        }
    }

    #[test]
    fn retry_after_in_seconds_and_as_a_date() {
        let answer = |value: &str| Response {
            status: 503,
            headers: vec![("retry-after".into(), value.into())],
            body: Vec::new(),
        };
        assert_eq!(retry_after(&answer("7")), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(&answer("999999")), Some(RETRY_AFTER_LIMIT));
        assert_eq!(retry_after(&answer("soon")), None);
        let past = retry_after(&answer("Sun, 06 Nov 1994 08:49:37 GMT"));
        assert_eq!(past, Some(Duration::ZERO));
    }
}
