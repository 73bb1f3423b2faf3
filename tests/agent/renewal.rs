//! A new certificate, end to end: the hub and the agent are processes of the real program. Whatever
//! goes wrong, and wherever the agent is killed, it ends with a pair that the hub knows, and what
//! was sent to it arrives.

use crate::hub::{Hub, Member};
use crate::stage::{Agent, Stage, eventually};
use nix::sys::signal::Signal;
use omsagent::wire::identity::ClientIdentity;
use omsagent::workspace::renewal;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn pair(stage: &Stage) -> ClientIdentity {
    ClientIdentity::load(&stage.path("certs")).unwrap().unwrap()
}

fn der(pair: &ClientIdentity) -> Vec<u8> {
    pair.cert_der().unwrap()
}

fn names(stage: &Stage) -> Vec<String> {
    let entries = std::fs::read_dir(stage.path("certs")).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The agent has nothing open any more, its pair is whole and the hub's.
fn settled(hub: &Hub, member: &Member, stage: &Stage) -> bool {
    let pair = pair(stage);
    !renewal::is_begun(&stage.path("certs"))
        && pair.fits().unwrap_or(false)
        && hub.knows(member, &pair)
}

#[test]
fn the_hub_asks_and_nothing_is_lost_meanwhile() {
    let hub = Hub::start();
    let member = Member::new(&hub, 200);
    let stage = hub.stage(&member, "1s");
    hub.agents().renew(&hub.ws, Some(&member.guid)).unwrap();
    let agent = stage.start();
    let begun = Instant::now();
    let mut sent = Vec::new();
    while begun.elapsed() < Duration::from_secs(60) && der(&pair(&stage)) == der(&member.identity) {
        sent.push(hub.send_a_line_by(&agent));
        std::thread::sleep(Duration::from_millis(50));
    }
    for _ in 0..20 {
        sent.push(hub.send_a_line_by(&agent));
    }
    eventually("every line", || sent.iter().all(|n| hub.has_line(*n)));
    eventually("the end of it", || settled(&hub, &member, &stage));
    assert_ne!(der(&pair(&stage)), der(&member.identity));
    assert!(stage.log().contains("the client certificate was renewed"));
    assert_eq!(names(&stage), ["oms.crt", "oms.key"]);
    let made = |name: &str| stage.path(name).metadata().unwrap().mode() & 0o7777;
    assert_eq!(made("certs/oms.key") & 0o007, 0);
    assert!(agent.stop().0.success());
}

#[test]
fn lost_answers_and_refusals() {
    let hub = Hub::start();
    for (faults, renewed) in [
        (
            "[[fault]]\non = 'renew'\ntimes = 1\nclose = 'after'\n",
            true,
        ),
        (
            "[[fault]]\non = 'renew'\ntimes = 1\nclose = 'before'\n",
            true,
        ),
        (
            "[[fault]]\non = 'heartbeat'\ntimes = 1\nclose = 'after'\n",
            true,
        ),
        (
            "[[fault]]\non = 'heartbeat'\ntimes = 1\nstatus = 503\n",
            true,
        ),
        ("[[fault]]\non = 'renew'\nstatus = 404\n", false),
    ] {
        hub.faults("");
        let member = Member::new(&hub, 20);
        let stage = hub.stage(&member, "20m");
        hub.faults(faults);
        let agent = stage.start();
        agent.signal(Signal::SIGHUP);
        if renewed {
            eventually(faults, || {
                settled(&hub, &member, &stage) && der(&pair(&stage)) != der(&member.identity)
            });
        } else {
            eventually("a refusal", || stage.log().contains("was not renewed"));
            assert!(settled(&hub, &member, &stage));
            assert_eq!(der(&pair(&stage)), der(&member.identity));
            assert!(stage.log().contains("404"), "{}", stage.log());
        }
        hub.takes_a_line_from(&agent);
        assert!(agent.stop().0.success());
    }
}

#[test]
fn what_the_service_manager_hands_over_is_left_alone_and_that_is_said_once() {
    let hub = Hub::start();
    let member = Member::new(&hub, 20);
    let stage = hub.stage(&member, "1s");
    let mut command = stage.command();
    command.env("CREDENTIALS_DIRECTORY", stage.path("certs"));
    let agent = stage.start_as(command);
    hub.takes_a_line_from(&agent);
    eventually("the warning", || stage.log().contains("LoadCredential="));
    agent.signal(Signal::SIGHUP);
    hub.takes_a_line_from(&agent);
    assert_eq!(stage.log().matches("LoadCredential=").count(), 1);
    assert_eq!(names(&stage), ["oms.crt", "oms.key"]);
}

/// strace on one thread of an agent, until that ends.
struct Trace {
    child: Child,
}

impl Trace {
    fn attach(agent: &Agent, thread: &str, words: &[&str]) -> Trace {
        // A thread gives itself its name.
        let mut task = None;
        eventually("the thread", || {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", agent.child.id()));
            task = tasks.unwrap().map(|t| t.unwrap()).find(|t| {
                let name = std::fs::read_to_string(t.path().join("comm"));
                name.is_ok_and(|n| n.trim() == thread)
            });
            task.is_some()
        });
        let task = task.unwrap();
        let mut child = Command::new("strace")
            .arg("-p")
            .arg(task.file_name())
            .args(words)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace must be installed (make setup)");
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains("attached"), "{line}");
        // Nobody else reads what it says.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Trace { child }
    }

    fn end(mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::kill(pid, Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// Calls that change or ask nothing outside of the process: between them is nothing to see.
const INNER: &[&str] = &[
    "brk",
    "clock_gettime",
    "clock_nanosleep",
    "futex",
    "getpid",
    "getrandom",
    "getrusage",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "restart_syscall",
    "rt_sigaction",
    "rt_sigprocmask",
    "sched_getaffinity",
    "sched_yield",
    "sigaltstack",
    "prctl",
    "gettid",
    "geteuid",
    "uname",
    "exit",
    "rseq",
    "set_robust_list",
    "rt_sigreturn",
    "poll",
    "ppoll",
];

/// Calls that make, change or take away a file, and what opens the way to the service.
const CHANGES: &[&str] = &[
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "connect",
];

/// The system calls that a renewal makes in its thread: `(name, ordinal)`.
fn survey(hub: &Hub, member: &Member) -> Vec<(String, usize)> {
    let stage = hub.stage(member, "20m");
    let agent = stage.start();
    let log = stage.path("trace");
    let trace = Trace::attach(&agent, "topology", &["-o", log.to_str().unwrap()]);
    agent.signal(Signal::SIGHUP);
    eventually("a renewal", || {
        stage.log().contains("the client certificate was renewed")
    });
    trace.end();
    let text = std::fs::read_to_string(log).unwrap();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut points = Vec::new();
    for line in text.lines() {
        let Some((name, _)) = line.split_once('(') else {
            continue;
        };
        if name.contains(' ') || INNER.contains(&name) {
            continue;
        }
        let count = counts.entry(name).or_default();
        *count += 1;
        points.push((name.to_owned(), *count));
    }
    points
}

/// Killed at one call: what is wrong afterwards, if anything. `None` inside: it was not reached.
fn killed_at(hub: &Hub, member: &Member, name: &str, ordinal: usize) -> Result<bool, String> {
    let stage = hub.stage(member, "20m");
    let mut agent = stage.start();
    let before = hub.send_a_line_by(&agent);
    eventually("the first line", || hub.has_line(before));
    let inject = format!("inject={name}:signal=KILL:when={ordinal}");
    let traced = format!("trace={name}");
    let null = ["-o", "/dev/null", "-e", &traced, "-e", &inject];
    let trace = Trace::attach(&agent, "topology", &null);
    let during = hub.send_a_line_by(&agent);
    // In a queue 50 ms later.
    std::thread::sleep(Duration::from_millis(150));
    agent.signal(Signal::SIGHUP);
    let done = || stage.log().contains("the client certificate was renewed");
    let until = Instant::now() + Duration::from_secs(60);
    let mut reached = true;
    while agent.child.try_wait().unwrap().is_none() {
        if done() {
            // Later than the last call of this name.
            std::thread::sleep(Duration::from_millis(300));
            reached = agent.child.try_wait().unwrap().is_some();
            break;
        }
        if Instant::now() > until {
            return Err("neither killed nor renewed".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    trace.end();
    drop(agent);
    let whole = ClientIdentity::load(&stage.path("certs"));
    match whole {
        Ok(Some(pair)) if pair.fits().unwrap_or(false) => {}
        other => return Err(format!("left with no whole pair: {:?}", other.map(|_| ()))),
    }
    let agent = stage.start();
    let after = hub.send_a_line_by(&agent);
    let until = Instant::now() + Duration::from_secs(40);
    let good = || settled(hub, member, &stage) && [during, after].iter().all(|n| hub.has_line(*n));
    while !good() {
        if Instant::now() > until {
            return Err(format!(
                "certs: {:?}, settled: {}, lines: {} {}; log:\n{}",
                names(&stage),
                settled(hub, member, &stage),
                hub.has_line(during),
                hub.has_line(after),
                stage.log()
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(agent.stop().0.success());
    Ok(reached)
}

/// Cases in parallel: each has an agent, all have one hub.
fn sweep(points: &[(String, usize)], hub: &Hub) -> (usize, usize, Vec<String>) {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let (next, reached) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let member = Member::new(hub, 20);
                while let Some((name, ordinal)) = points.get(next.fetch_add(1, Ordering::SeqCst)) {
                    match killed_at(hub, &member, name, *ordinal) {
                        Ok(there) => {
                            reached.fetch_add(usize::from(there), Ordering::SeqCst);
                        }
                        Err(why) => {
                            println!("FAIL   renew: killed at {name} {ordinal}: {why}");
                            let case = format!("{name} {ordinal}: {why}");
                            failures.lock().unwrap().push(case);
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    (points.len(), reached.into_inner(), failures)
}

/// Each step of a renewal that is seen from outside; `OMSAGENT_RENEW_POINTS=all` (tests/sweep/renew.sh):
/// each system call; `OMSAGENT_RENEW_POINTS='rename 2'`: that one.
#[test]
fn killed_between_any_two_steps_the_hub_knows_the_pair() {
    let hub = Hub::start();
    let all = survey(&hub, &Member::new(&hub, 20));
    let wanted = std::env::var("OMSAGENT_RENEW_POINTS").unwrap_or_default();
    let points: Vec<_> = match wanted.as_str() {
        "all" => all.clone(),
        "" => {
            let short = |p: &&(String, usize)| CHANGES.contains(&p.0.as_str());
            all.iter().filter(short).cloned().collect()
        }
        one => {
            let (name, ordinal) = one.split_once(' ').expect("NAME ORDINAL");
            vec![(name.to_owned(), ordinal.parse().unwrap())]
        }
    };
    assert!(points.len() >= 7 || !wanted.is_empty(), "{all:?}");
    let (tried, reached, failures) = sweep(&points, &hub);
    println!(
        "sweep renew: {tried} of {} cases tried, {} failed ({reached} killed, the rest were over before)",
        all.len(),
        failures.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(reached * 2 > tried, "{reached} of {tried}");
}
