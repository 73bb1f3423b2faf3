//! SIGHUP: a new configuration is taken by the same process, and no message is lost.

use crate::sink::{Reply, Sink};
use crate::stage::{Agent, Stage, eventually, numbered};
use nix::sys::signal::Signal;
use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

fn readies(stage: &Stage) -> usize {
    stage.log().matches("[info]: ready").count()
}

/// Something that makes the configuration another one, each time.
fn another(stage: &Stage, n: u32) {
    let text = format!(
        "<source>\n  type oms_heartbeat\n  interval {n}h\n  tag oms.heartbeat\n</source>\n"
    );
    std::fs::write(stage.path("conf/omsagent.d/zz.conf"), text).unwrap();
}

fn reload(agent: &Agent, stage: &Stage) {
    let before = readies(stage);
    agent.signal(Signal::SIGHUP);
    eventually("readiness again", || readies(stage) > before);
}

#[test]
fn a_flood_of_messages_over_three_reloads_is_whole() {
    const LINES: u32 = 3000;
    let sink = Sink::start(|_| Reply::ok());
    let stage = Stage::onboarded(&sink.url());
    let mut agent = stage.start();
    let (udp, tcp) = (agent.syslog, agent.stream());
    let sender = std::thread::spawn(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut tcp = tcp;
        for n in 0..LINES {
            if n % 2 == 0 {
                socket.send_to(numbered(n).as_bytes(), udp).unwrap();
            } else {
                // Cut in the middle: half a line is held when the program changes.
                let line = numbered(n);
                let (head, tail) = line.as_bytes().split_at(line.len() / 2);
                tcp.write_all(head).unwrap();
                if n % 50 == 1 {
                    std::thread::sleep(Duration::from_millis(10));
                }
                tcp.write_all(tail).unwrap();
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    });
    for n in 1..=3 {
        another(&stage, n);
        reload(&agent, &stage);
    }
    assert!(!sender.is_finished(), "the reloads came too late to matter");
    sender.join().unwrap();
    eventually("every line", || {
        let mut numbers = sink.numbers();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.len() == LINES as usize
    });
    assert_eq!(agent.child.try_wait().unwrap(), None, "the same process");
    let pid = std::fs::read_to_string(stage.path("run/omsagent.pid")).unwrap();
    assert_eq!(pid.trim_end(), agent.child.id().to_string());
    let log = stage.log();
    assert!(!log.contains("[error]") && !log.contains("in use"), "{log}");
    assert!(agent.stop().0.success());
}

#[test]
fn what_others_drop_into_the_folder_is_taken_up() {
    let sink = Sink::start(|_| Reply::ok());
    let stage = Stage::onboarded(&sink.url());
    let agent = stage.start();
    agent.lines(0..1);
    eventually("the first line", || sink.numbers() == [0]);
    std::fs::write(
        stage.path("conf/omsagent.d/cef.conf"),
        "<source>\n  type syslog\n  port 0\n  bind 127.0.0.2\n  tag oms.security\n</source>\n\
         <source>\n  type nosuch\n</source>\n",
    )
    .unwrap();
    let before = stage.log().len();
    reload(&agent, &stage);
    let log = stage.log();
    let new = &log[before..];
    let address = new
        .lines()
        .find_map(|l| l.split("for syslog on 127.0.0.2:").nth(1));
    let port: u16 = address.unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(new.contains("cef.conf:7: a source of type `nosuch` is not known"));
    // The old one has kept its port.
    assert!(new.contains(&format!(
        "listening for syslog on {} (udp, tcp)",
        agent.syslog
    )));
    agent.lines(1..2);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .send_to(numbered(2).as_bytes(), ("127.0.0.2", port))
        .unwrap();
    eventually("both", || {
        let mut numbers = sink.numbers();
        numbers.sort_unstable();
        numbers == [0, 1, 2]
    });
    // Told once: not by another reload, whether it changes something or not.
    agent.signal(Signal::SIGHUP);
    another(&stage, 1);
    reload(&agent, &stage);
    assert_eq!(stage.log().matches("type `nosuch` is not known").count(), 1);
    // And away again: the port is free.
    std::fs::remove_file(stage.path("conf/omsagent.d/cef.conf")).unwrap();
    reload(&agent, &stage);
    UdpSocket::bind(("127.0.0.2", port)).unwrap();
    assert!(agent.stop().0.success());
}

#[test]
fn a_broken_configuration_leaves_the_old_one_at_work() {
    let sink = Sink::start(|_| Reply::ok());
    let stage = Stage::onboarded(&sink.url());
    let agent = stage.start();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let file = "conf/omsagent.d/new.conf";
    let unusable = stage.text("ca.pem");
    for (text, why) in [
        (
            "<source>\n type syslog\n port none\n</source>\n".to_owned(),
            "new.conf:3: `port` is `none`",
        ),
        ("<source>\n".to_owned(), "new.conf"),
        (
            format!("<source>\n type syslog\n bind 127.0.0.1\n port {port}\n</source>\n"),
            "in use by another program",
        ),
        (
            format!("<match x.**>\n type out_oms\n buffer_path {unusable}/q*.buffer\n</match>\n"),
            "Not a directory",
        ),
    ] {
        std::fs::write(stage.path(file), &text).unwrap();
        let before = stage.log().len();
        agent.signal(Signal::SIGHUP);
        eventually("a word about it", || {
            stage.log()[before..].contains("the configuration stays as it was")
        });
        let log = stage.log();
        let warnings = log[before..].lines().filter(|l| l.contains("[warn]"));
        assert_eq!(warnings.count(), 1, "{log}");
        assert!(log[before..].contains(why), "{why}: {log}");
    }
    assert_eq!(readies(&stage), 1);
    agent.lines(0..5);
    eventually("the lines", || sink.numbers() == [0, 1, 2, 3, 4]);
    assert!(agent.stop().0.success());
}

#[test]
fn the_service_manager_is_told_of_a_reload() {
    let sink = Sink::start(|_| Reply::ok());
    let stage = Stage::onboarded(&sink.url());
    let path = stage.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut command = stage.command();
    command.env("NOTIFY_SOCKET", &path);
    let agent = stage.start_as(command);
    let told = || {
        let mut buffer = [0; 100];
        let n = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..n].to_vec()).unwrap()
    };
    assert_eq!(told(), "READY=1");
    for changes in [false, true] {
        if changes {
            another(&stage, 1);
        }
        agent.signal(Signal::SIGHUP);
        let first = told();
        let stamp = first.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(stamp.parse::<u64>().unwrap() > 0);
        assert_eq!(told(), "READY=1");
    }
    // SIGTERM in the middle of it is not lost.
    another(&stage, 2);
    agent.signal(Signal::SIGHUP);
    agent.signal(Signal::SIGTERM);
    let mut agent = agent;
    let status = agent.child.wait().unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn sockets_in_the_file_system_are_kept_and_let_go() {
    let sink = Sink::start(|_| Reply::ok());
    let stage = Stage::onboarded(&sink.url());
    let (one, two) = (stage.path("run/one.sock"), stage.path("run/two.sock"));
    let local = format!("port 0\n  path {}", one.display());
    stage.change("omsagent.d/syslog.conf", "port 0", &local);
    let streams = format!(
        "<source>\n  type syslog\n  protocol_type unix\n  path {}\n  tag oms.syslog\n</source>\n",
        two.display()
    );
    let file = stage.path("conf/omsagent.d/two.conf");
    std::fs::write(&file, streams).unwrap();
    let agent = stage.start();
    let sender = UnixDatagram::unbound().unwrap();
    sender.connect(&one).unwrap();
    let mut stream = std::os::unix::net::UnixStream::connect(&two).unwrap();
    let half = numbered(1);
    let (head, tail) = half.as_bytes().split_at(20);
    sender.send(numbered(0).as_bytes()).unwrap();
    stream.write_all(head).unwrap();
    another(&stage, 1);
    reload(&agent, &stage);
    // The same connections go on.
    stream.write_all(tail).unwrap();
    sender.send(numbered(2).as_bytes()).unwrap();
    eventually("all three", || {
        let mut numbers = sink.numbers();
        numbers.sort_unstable();
        numbers == [0, 1, 2]
    });
    std::fs::remove_file(file).unwrap();
    reload(&agent, &stage);
    assert!(one.exists() && !two.exists());
    assert!(agent.stop().0.success());
    assert!(!one.exists());
}
