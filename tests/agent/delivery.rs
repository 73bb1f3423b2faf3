//! What arrives at the far end: everything, once, in order, whatever the far end does.

use crate::sink::{Reply, Sink};
use crate::stage::{PATIENCE, Stage, eventually, numbered};
use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::{Duration, Instant};

#[test]
fn a_line_arrives_as_the_item_the_protocol_describes() {
    let sink = Sink::start(|_| Reply::ok());
    let stage = Stage::onboarded(&sink.url());
    let agent = stage.start();
    let begun = Instant::now();
    agent.datagram("<86>Aug  9 10:11:12 127.0.0.9 sshd[812]: Accepted \"publickey\" \u{e9}");
    eventually("the upload", || !sink.tried().is_empty());
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
    let upload = &sink.tried()[0];
    assert_eq!(upload.path, "/OperationalData.svc/PostJsonDataItems");
    assert_eq!(upload.body["IPName"], "LOGMANAGEMENT");
    let item = &upload.items()[0];
    for (key, value) in [
        ("ident", "sshd"),
        ("Host", "127.0.0.9"),
        ("HostIP", "127.0.0.9"),
        ("Message", "Accepted \"publickey\" \u{e9}"),
        ("ProcessId", "812"),
        ("Facility", "authpriv"),
        ("Severity", "info"),
    ] {
        assert_eq!(item[key], value, "{key}");
    }
    assert!(item["EventTime"].as_str().unwrap().ends_with(".000Z"));
    assert_eq!(upload.headers["x-ms-client-request-retry-count"], "0");
    assert!(upload.headers.contains_key("x-request-id"));
    // The first heartbeat does not wait for a minute.
    eventually("a heartbeat", || {
        sink.taken().iter().any(|u| !u.is_syslog())
    });
    let beat = sink.taken().into_iter().find(|u| !u.is_syslog()).unwrap();
    assert_eq!(beat.body["DataType"], "HEALTH_ASSESSMENT_BLOB");
    assert_eq!(beat.items()[0]["OSType"], "Linux");
    eventually("the status file", || {
        let status = std::fs::read_to_string(stage.path("log/ODSIngestion.status"));
        status.is_ok_and(|s| s.contains(r#""success": "true""#))
    });
    assert!(agent.stop().0.success());
}

#[test]
fn streams_with_line_feeds_and_with_counts() {
    let sink = Sink::start(|_| Reply::ok());
    let stage = Stage::onboarded(&sink.url());
    let agent = stage.start();
    let mut stream = agent.stream();
    let counted = numbered(1);
    let counted = counted.trim_end();
    stream.write_all(numbered(0).as_bytes()).unwrap();
    stream
        .write_all(format!("{} {counted}", counted.len()).as_bytes())
        .unwrap();
    stream.write_all(numbered(2).trim_end().as_bytes()).unwrap();
    drop(stream); // the last message ends with the connection
    eventually("all three", || sink.numbers() == [0, 1, 2]);
}

#[test]
fn sockets_in_the_file_system_beside_a_port_and_alone() {
    let sink = Sink::start(|_| Reply::ok());
    let stage = Stage::onboarded(&sink.url());
    let (beside, alone) = (stage.text("run/d.sock"), stage.text("run/s.sock"));
    stage.change(
        "omsagent.d/syslog.conf",
        "  port 0",
        &format!("  port 0\n  path {beside}"),
    );
    let source =
        format!("<source>\n  type syslog\n  protocol_type unix\n  path {alone}\n</source>\n");
    std::fs::write(stage.path("conf/omsagent.d/unix.conf"), source).unwrap();
    let agent = stage.start();
    let datagrams = UnixDatagram::unbound().unwrap();
    datagrams
        .send_to(numbered(0).trim_end().as_bytes(), &beside)
        .unwrap();
    datagrams.send_to(numbered(1).as_bytes(), &beside).unwrap();
    agent.datagram(&numbered(2));
    let mut stream = UnixStream::connect(&alone).unwrap();
    stream
        .write_all(format!("{}{}", numbered(3), numbered(4)).as_bytes())
        .unwrap();
    eventually("all five", || {
        let mut seen = sink.numbers();
        seen.sort_unstable();
        seen == [0, 1, 2, 3, 4]
    });
    // A sender of datagrams waits: however many, none is lost.
    for n in 5..3005 {
        datagrams.send_to(numbered(n).as_bytes(), &beside).unwrap();
    }
    eventually("three thousand", || sink.numbers().len() == 3005);
    assert!(agent.stop().0.success());
    assert!(!stage.path("run/d.sock").exists() && !stage.path("run/s.sock").exists());
}

#[test]
fn an_outage_loses_and_doubles_nothing() {
    let mut refusals = [503, 500, 429, 403, 404, 302].into_iter();
    let sink = Sink::start(move |upload| match upload.is_syslog() {
        true => refusals.next().map_or(Reply::ok(), Reply::status),
        false => Reply::ok(),
    });
    let stage = Stage::onboarded(&sink.url());
    let agent = stage.start();
    agent.lines(0..2000);
    eventually("all lines", || sink.numbers().len() >= 2000);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(sink.numbers(), (0..2000).collect::<Vec<_>>());
    let counts: Vec<String> = sink.tried()[..7]
        .iter()
        .map(|u| u.headers["x-ms-client-request-retry-count"].clone())
        .collect();
    assert_eq!(counts, ["0", "1", "2", "3", "4", "5", "6"]);
    let log = stage.log();
    assert!(log.contains("answered 503"), "{log}");
    assert!(log.contains("works again after 6 failed tries"), "{log}");
}

#[test]
fn retry_after_is_honoured() {
    let mut first = true;
    let sink = Sink::start(move |upload| {
        let refuse = upload.is_syslog() && std::mem::take(&mut first);
        Reply {
            header: refuse.then_some(("Retry-After", "2")),
            ..if refuse {
                Reply::status(503)
            } else {
                Reply::ok()
            }
        }
    });
    let stage = Stage::onboarded(&sink.url());
    let agent = stage.start();
    agent.lines(0..1);
    eventually("the line", || sink.numbers() == [0]);
    let tried = sink.tried();
    let waited = tried[1].at - tried[0].at;
    assert!(waited >= Duration::from_secs(2), "{waited:?}");
}

#[test]
fn a_lost_answer_means_at_most_one_batch_twice() {
    let mut first = true;
    let sink = Sink::start(move |upload| Reply {
        hang_up: upload.is_syslog() && std::mem::take(&mut first),
        ..Reply::ok()
    });
    let stage = Stage::onboarded(&sink.url());
    let agent = stage.start();
    agent.lines(0..100);
    eventually("all lines", || {
        sink.numbers().iter().collect::<BTreeSet<_>>().len() == 100
    });
    assert!(sink.numbers().len() <= 200);
}

#[test]
fn too_large_a_batch_is_cut_in_two_and_too_large_an_item_put_aside() {
    let sink = Sink::start(|upload| match upload.size > 4000 {
        true => Reply::status(413),
        false => Reply::ok(),
    });
    let stage = Stage::onboarded(&sink.url());
    let agent = stage.start();
    let mut stream = agent.stream();
    for n in 0..300 {
        if n == 150 {
            let giant = "x".repeat(5000);
            writeln!(stream, "<84>Aug  9 10:11:12 web01 giant: {giant}").unwrap();
        }
        stream.write_all(numbered(n).as_bytes()).unwrap();
    }
    eventually("all lines", || sink.numbers().len() >= 300);
    assert_eq!(sink.numbers(), (0..300).collect::<Vec<_>>());
    let aside = stage.path("state/out_oms_common.queue/refused.json");
    let aside = std::fs::read_to_string(aside).unwrap();
    let item: serde_json::Value = serde_json::from_str(aside.trim_end()).unwrap();
    assert_eq!(item["ident"], "giant");
}

#[test]
fn killed_again_and_again_it_loses_nothing_that_it_had_taken() {
    let sink = Sink::start(|_| Reply {
        delay: Duration::from_millis(5),
        ..Reply::ok()
    });
    let stage = Stage::onboarded(&sink.url());
    let mut n = 0;
    for round in 0..8_u64 {
        let agent = stage.start();
        agent.lines(n..n + 500);
        n += 500;
        // A frame goes to disk 50 ms after its first item; the rest of the time is the machine's.
        std::thread::sleep(Duration::from_millis(400 + 37 * round));
        agent.kill();
    }
    let _agent = stage.start();
    let distinct = || sink.numbers().into_iter().collect::<BTreeSet<_>>().len() as u32;
    eventually("all lines", || distinct() == n);
    let twice = sink.numbers().len() as u32 - distinct();
    assert!(twice < n / 2, "{twice} of {n} came twice");
}

#[test]
fn stopped_during_an_outage_it_goes_on_where_it_was() {
    let sink = Sink::start(|_| Reply::status(503));
    let stage = Stage::onboarded(&sink.url());
    let agent = stage.start();
    agent.lines(0..1000);
    std::thread::sleep(Duration::from_millis(300));
    agent.lines(1000..1001); // and one that has only just come
    let (status, took) = agent.stop();
    assert!(status.success());
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(!stage.path("run/omsagent.pid").exists());
    sink.script(|_| Reply::ok());
    let agent = stage.start();
    assert!(stage.log().contains("bytes wait in the queue"));
    eventually("all lines", || sink.numbers().len() >= 1001);
    assert_eq!(sink.numbers(), (0..1001).collect::<Vec<_>>());
    assert!(agent.stop().0.success());
}

#[test]
fn a_server_that_never_answers_does_not_delay_the_end() {
    let sink = Sink::start(|_| Reply {
        delay: Duration::from_secs(3600),
        store: false,
        ..Reply::ok()
    });
    let stage = Stage::onboarded(&sink.url());
    let agent = stage.start();
    agent.lines(0..10);
    eventually("a try", || !sink.tried().is_empty());
    let (status, took) = agent.stop();
    assert!(
        status.success() && took < Duration::from_secs(2),
        "{status} {took:?}"
    );
}

#[test]
fn a_full_disk_makes_streams_wait_and_loses_none_of_their_lines() {
    let sink = Sink::start(|_| Reply::status(503));
    let stage = Stage::onboarded(&sink.url());
    // Files may not grow beyond 256 blocks of 512 bytes: writes fail as on a full disk.
    let mut limited = std::process::Command::new("sh");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -S -f 256; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_omsagent"))
        .args(stage.arguments())
        .env("OMSAGENT_CA_FILE", stage.path("ca.pem"));
    let agent = stage.start_as(limited);
    let mut stream = agent.stream();
    // More than the kernel keeps for a connection.
    let padding = "x".repeat(1000);
    let writer = std::thread::spawn(move || {
        for n in 0..20_000 {
            let line = format!("{} {padding}\n", numbered(n).trim_end());
            stream.write_all(line.as_bytes()).unwrap();
        }
    });
    eventually("the complaint", || {
        stage.log().contains("cannot write to the queue")
    });
    std::thread::sleep(Duration::from_millis(500));
    assert!(!writer.is_finished(), "the stream must wait");
    let pid = rustix::process::Pid::from_raw(agent.child.id() as i32);
    let unlimited = rustix::process::Rlimit {
        current: None,
        maximum: None,
    };
    rustix::process::prlimit(pid, rustix::process::Resource::Fsize, unlimited).unwrap();
    sink.script(|_| Reply::ok());
    let until = Instant::now() + PATIENCE;
    while !writer.is_finished() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    eventually("all lines", || sink.numbers().len() >= 20_000);
    assert_eq!(sink.numbers(), (0..20_000).collect::<Vec<_>>());
    assert!(
        stage
            .log()
            .contains("takes data again; 0 messages were lost")
    );
}

#[test]
fn a_full_queue_makes_streams_wait_and_loses_none_of_their_lines() {
    let sink = Sink::start(|_| Reply::status(503));
    let stage = Stage::onboarded(&sink.url());
    stage.change("omsagent.conf", "limit 15m", "limit 64k");
    let agent = stage.start();
    let mut stream = agent.stream();
    let padding = "x".repeat(1000);
    let writer = std::thread::spawn(move || {
        for n in 0..12_000 {
            let line = format!("{} {padding}\n", numbered(n).trim_end());
            stream.write_all(line.as_bytes()).unwrap();
        }
    });
    eventually("the complaint", || {
        stage.log().contains("streams wait for up to 30 s")
    });
    std::thread::sleep(Duration::from_millis(500));
    assert!(!writer.is_finished(), "the stream must wait");
    sink.script(|_| Reply::ok());
    eventually("all lines", || sink.numbers().len() >= 12_000);
    writer.join().unwrap();
    assert_eq!(sink.numbers(), (0..12_000).collect::<Vec<_>>());
    assert!(!stage.log().contains("oldest items are lost"));
    assert!(agent.stop().0.success());
}

#[test]
fn a_dead_destination_whose_queue_is_full_delays_no_other() {
    let (sink, dead) = (
        Sink::start(|_| Reply::ok()),
        Sink::start(|_| Reply::status(503)),
    );
    let stage = Stage::onboarded(&sink.url());
    let admin = std::fs::read_to_string(stage.path("conf/omsadmin.conf")).unwrap();
    let other = admin.replace(&sink.url(), &dead.url());
    assert_ne!(admin, other);
    std::fs::write(stage.path("conf/other.conf"), other).unwrap();
    let main = std::fs::read_to_string(stage.path("conf/omsagent.conf")).unwrap();
    let at = main.find("<match oms.** docker.**>").unwrap();
    let section = main[at..]
        .replace("oms.** docker.**", "oms.syslog.local5.**")
        .replace("omsadmin.conf", "other.conf")
        .replace("out_oms_common", "other")
        .replace("limit 15m", "limit 64k");
    let main = format!("{}{section}\n{}", &main[..at], &main[at..]);
    std::fs::write(stage.path("conf/omsagent.conf"), main).unwrap();
    let agent = stage.start();
    let padding = "x".repeat(1000);
    let to_the_dead = move |n: u32| format!("<174>Oct 11 22:14:15 host dead: {n} {padding}\n");
    // One that goes nowhere else waits; one that feeds both goes on, and so does everybody else.
    let mut alone = agent.stream();
    let line = to_the_dead.clone();
    let writer = std::thread::spawn(move || {
        let mut n = 0;
        while alone.write_all(line(n).as_bytes()).is_ok() {
            n += 1;
        }
    });
    eventually("the complaint", || {
        stage.log().contains("streams wait for up to 30 s")
    });
    std::thread::sleep(Duration::from_millis(300));
    assert!(!writer.is_finished());
    let mut both = agent.stream();
    for n in 0..2000 {
        both.write_all(numbered(n).as_bytes()).unwrap();
        both.write_all(to_the_dead(n).as_bytes()).unwrap();
    }
    agent.lines(2000..2100);
    eventually("the lines of the living", || sink.numbers().len() >= 2100);
    let mut numbers = sink.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..2100).collect::<Vec<_>>());
    assert!(agent.stop().0.success());
    writer.join().unwrap();
}
