//! The whole way of a message: given to the host's syslog daemon, followed into each agent, and out
//! of it to the service.

use super::syslog;
use crate::agent::figures::{MARK_IDENT, Mark, OutputFigures, Snapshot, new_mark};
use crate::doctor::asking;
use crate::doctor::finding::Finding;
use crate::doctor::patient::{Patient, Ward};
use crate::workspace::{forwarding, port};
use jiff::Timestamp;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Until the agent has it: a busy daemon writes in batches.
const ARRIVAL: Duration = Duration::from_secs(5);
/// Until the service has it: two seconds of waiting for company, and the upload.
const DELIVERY: Duration = Duration::from_secs(8);
const PAUSE: Duration = Duration::from_millis(150);

/// Sends one message and follows it.
pub fn follow_a_message(patient: &Patient, found: &mut Vec<Finding>) {
    let host = &patient.host;
    if !host.is_live() || host.syslog.is_none() || !syslog::can_log() {
        return;
    }
    // Those that cannot get it have another finding.
    let gets_some = |w: &&Ward| {
        let chosen = forwarding::selection(&host.layout, &w.id);
        !chosen.is_ok_and(|selection| selection.is_none())
    };
    let wards: Vec<&Ward> = patient
        .onboarded()
        .filter(|w| w.figures.is_ok() && port::configured(&host.layout, &w.id).is_some())
        .filter(gets_some)
        .collect();
    if wards.is_empty() {
        return;
    }
    let mark = new_mark();
    let sent = Timestamp::now().as_millisecond();
    if let Err(error) = log(Path::new("/dev/log"), &mark) {
        found.extend(wards.iter().map(|ward| {
            Finding::new(
                "chain-not-received",
                "no message can be given to the syslog daemon",
            )
            .seen(format!("/dev/log: {error}"))
            .of(&ward.id)
            .mend("start the syslog daemon (or systemd-journald)")
        }));
        return;
    }
    let sockets: Vec<PathBuf> = wards
        .iter()
        .map(|w| host.layout.workspace(&w.id).status_socket())
        .collect();
    let mut stages = vec![Stage::Nowhere; wards.len()];
    let begun = Instant::now();
    while begun.elapsed() < DELIVERY {
        let answers = asking::ask(&sockets, Duration::from_secs(1));
        for (stage, answer) in stages.iter_mut().zip(&answers) {
            if let Ok(seen) = answer {
                *stage = (*stage).max(Stage::of(seen, &mark, sent));
            }
        }
        let late = begun.elapsed() > ARRIVAL;
        let over = |s: &Stage| match s {
            Stage::Delivered | Stage::Failing => true,
            Stage::Nowhere => late,
            Stage::Received => false,
        };
        if stages.iter().all(over) {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    for (ward, stage) in wards.iter().zip(stages) {
        found.extend(stage.finding(begun.elapsed()).map(|f| f.of(&ward.id)));
    }
}

/// How far a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Nowhere,
    Received,
    /// Received, and uploads fail: that is told elsewhere.
    Failing,
    Delivered,
}

impl Stage {
    fn of(seen: &Snapshot, text: &str, sent: i64) -> Stage {
        let Some(mark) = seen.mark.as_ref().filter(|m| m.text.contains(text)) else {
            return Stage::Nowhere;
        };
        let Some(output) = seen.outputs.get(mark.output) else {
            return Stage::Received;
        };
        if has_left(output, mark, Timestamp::now().as_millisecond(), sent) {
            Stage::Delivered
        } else if output.failures_in_a_row > 0 {
            Stage::Failing
        } else {
            Stage::Received
        }
    }

    fn finding(self, after: Duration) -> Option<Finding> {
        let seconds = after.as_secs();
        match self {
            Stage::Delivered | Stage::Failing => None,
            Stage::Nowhere => Some(
                Finding::new("chain-not-received", "a message to the syslog daemon does not reach the agent")
                    .seen(format!("one from `{MARK_IDENT}` (user.warning) was not there after {seconds} s"))
                    .mend("see that the daemon forwards user.warning to the agent's port, and was restarted since"),
            ),
            Stage::Received => Some(
                Finding::new("chain-not-sent", "a message reaches the agent and is not sent on")
                    .seen(format!("it was still in the queue after {seconds} s"))
                    .mend("omsagent status shows the queue and the last upload"),
            ),
        }
    }
}

/// Everything as old as the message has been taken by the service. The queue is first in, first
/// out, so either nothing waits, or only what is younger.
fn has_left(output: &OutputFigures, mark: &Mark, now: i64, sent: i64) -> bool {
    let accepted = output
        .last_accepted
        .as_deref()
        .and_then(|at| at.parse::<Timestamp>().ok());
    // The time of the acceptance is told in whole seconds.
    let since = accepted.is_some_and(|at| at.as_millisecond() + 999 >= mark.seen.max(sent));
    let oldest = output
        .queue_age_seconds
        .map(|age| now - (age * 1000.0) as i64);
    // A frame is closed 50 ms after its first item at the latest.
    since && oldest.is_none_or(|at| at > mark.seen + 100)
}

/// One datagram, as syslog(3) sends it: user.warning, which every default selection takes.
fn log(socket: &Path, mark: &str) -> std::io::Result<()> {
    let now = jiff::Zoned::now().strftime("%b %e %H:%M:%S");
    let line = format!("<12>{now} {MARK_IDENT}: {mark}");
    let from = UnixDatagram::unbound()?;
    from.set_write_timeout(Some(Duration::from_secs(1)))?;
    from.connect(socket)?;
    from.send(line.as_bytes()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str, age: Option<f64>, accepted: bool, failures: u64) -> Snapshot {
        let now = Timestamp::now();
        Snapshot {
            mark: Some(Mark {
                text: text.into(),
                output: 0,
                seen: now.as_millisecond() - 2000,
            }),
            outputs: vec![OutputFigures {
                queue_age_seconds: age,
                failures_in_a_row: failures,
                last_accepted: accepted.then(|| now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
                ..OutputFigures::default()
            }],
            ..Snapshot::default()
        }
    }

    #[test]
    fn how_far_a_message_is() {
        let stage = |s: &Snapshot| Stage::of(s, "test 1", 0);
        assert_eq!(stage(&Snapshot::default()), Stage::Nowhere);
        assert_eq!(stage(&seen("test 2", None, true, 0)), Stage::Nowhere);
        assert_eq!(stage(&seen("test 1", None, true, 0)), Stage::Delivered);
        assert_eq!(stage(&seen("test 1", Some(5.0), true, 0)), Stage::Received);
        assert_eq!(stage(&seen("test 1", Some(0.5), true, 0)), Stage::Delivered);
        assert_eq!(stage(&seen("test 1", None, false, 0)), Stage::Received);
        assert_eq!(stage(&seen("test 1", Some(5.0), false, 2)), Stage::Failing);
        assert!(Stage::Failing.finding(PAUSE).is_none());
    }

    #[test]
    fn the_daemon_is_given_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        log(&path, "test message 7").unwrap();
        let mut line = [0; 200];
        let n = daemon.recv(&mut line).unwrap();
        let line = String::from_utf8_lossy(&line[..n]);
        assert!(line.starts_with("<12>") && line.ends_with("omsagent-doctor: test message 7"));
    }
}
