//! What the agent costs. Figures hold for a release build only, so these do not run by themselves:
//! `OMSAGENT_TEST_BINARY=dist/omsagent cargo test --test agent footprint -- --nocapture`

use crate::sink::{Reply, Sink, Upload};
use crate::stage::{Agent, Stage, eventually, numbered};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A number from /proc/PID/status.
fn status(agent: &Agent, key: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", agent.child.id())).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix(key)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Voluntary context switches of all threads: how often somebody woke up.
fn wakeups(agent: &Agent) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", agent.child.id())).unwrap();
    tasks
        .map(|task| {
            let text = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            let line = text
                .lines()
                .find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"));
            line.unwrap().trim().parse::<u64>().unwrap()
        })
        .sum()
}

/// CPU time of the process, user and system.
fn cpu(agent: &Agent) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", agent.child.id())).unwrap();
    let fields: Vec<&str> = text.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

#[test]
fn at_rest() {
    if !measured_binary() {
        return;
    }
    let sink = Sink::start(|_| Reply::ok());
    let stage = Stage::onboarded(&sink.url());
    let begun = Instant::now();
    let agent = stage.start();
    println!("listening after {:?}", begun.elapsed());
    agent.lines(0..10);
    eventually("lines", || sink.numbers().len() == 10);
    eventually("a heartbeat", || {
        sink.taken().iter().any(|u| !u.is_syslog())
    });
    std::thread::sleep(Duration::from_secs(3));
    let before = wakeups(&agent);
    std::thread::sleep(Duration::from_secs(20));
    let per_second = (wakeups(&agent) - before) as f64 / 20.0;
    let (rss, peak) = (status(&agent, "VmRSS:"), status(&agent, "VmHWM:"));
    println!("at rest: {rss} KiB resident (peak {peak}), {per_second} wake-ups a second");
    assert!(rss <= 8192, "{rss} KiB");
    assert!(per_second <= 2.0);
}

#[test]
fn under_load() {
    if !measured_binary() {
        return;
    }
    const LINES: u32 = 300_000;
    let taken = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&taken);
    let sink = Sink::start(move |upload: &Upload| {
        if upload.is_syslog() {
            count.fetch_add(upload.items().len() as u32, Ordering::SeqCst);
        }
        Reply {
            store: false,
            ..Reply::ok()
        }
    });
    let stage = Stage::onboarded(&sink.url());
    let agent = stage.start();
    let padding = "x".repeat(250);
    let begun = Instant::now();
    let mut stream = std::io::BufWriter::with_capacity(1 << 16, agent.stream());
    for n in 0..LINES {
        writeln!(stream, "{} {padding}", numbered(n).trim_end()).unwrap();
    }
    stream.flush().unwrap();
    drop(stream);
    eventually("all lines", || taken.load(Ordering::SeqCst) == LINES);
    let (took, used) = (begun.elapsed(), cpu(&agent));
    println!(
        "{LINES} lines in {took:.2?}: {:.2} us of CPU a line; peak {} KiB resident, now {}",
        used.as_secs_f64() * 1e6 / f64::from(LINES),
        status(&agent, "VmHWM:"),
        status(&agent, "VmRSS:")
    );
}

/// Figures mean something only of the static release binary: `make test` and `make bench` name it.
fn measured_binary() -> bool {
    let named = std::env::var_os("OMSAGENT_TEST_BINARY").is_some();
    if !named {
        println!("SKIPPED here: OMSAGENT_TEST_BINARY names no release binary to measure");
    }
    named
}
