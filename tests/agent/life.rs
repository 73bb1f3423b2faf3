//! Starting, being told things, and ending.

use crate::sink::{Reply, Sink};
use crate::stage::{Agent, Stage, eventually, identity};
use nix::sys::signal::Signal;
use std::net::UdpSocket;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Output};

fn run_to_the_end(stage: &Stage) -> Output {
    stage.command().output().unwrap()
}

#[test]
fn the_service_manager_is_told_and_the_pid_file_is_right() {
    let sink = Sink::start(|_| Reply::ok());
    let stage = Stage::onboarded(&sink.url());
    let path = stage.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let mut command = stage.command();
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "200000");
    let agent = stage.start_as(command);
    let told = || {
        let mut buffer = [0; 100];
        let n = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..n].to_vec()).unwrap()
    };
    assert_eq!(told(), "READY=1");
    assert_eq!(told(), "WATCHDOG=1");
    assert_eq!(told(), "WATCHDOG=1");
    let pid_file = stage.path("run/omsagent.pid");
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    assert_eq!(pid.trim_end(), agent.child.id().to_string());
    assert_eq!(pid_file.metadata().unwrap().mode() & 0o7777, 0o644);
    assert!(agent.stop().0.success());
    assert!(!pid_file.exists());
    let mut last = told();
    while last == "WATCHDOG=1" {
        last = told();
    }
    assert_eq!(last, "STOPPING=1");
}

#[test]
fn not_onboarded_it_keeps_everything_and_says_so_once() {
    let sink = Sink::start(|_| Reply::ok());
    let stage = Stage::new();
    std::fs::write(
        stage.path("ca.pem"),
        crate::stage::authority().certificate_pem(),
    )
    .unwrap();
    let agent = stage.start();
    agent.lines(0..10);
    std::thread::sleep(std::time::Duration::from_millis(700));
    let complaints = stage.log().matches("is not onboarded").count();
    assert_eq!(complaints, 2, "once for each output: {}", stage.log());
    stage.onboard(&sink.url());
    eventually("the lines", || {
        sink.numbers() == (0..10).collect::<Vec<_>>()
    });
}

#[test]
fn sighup_reads_the_workspace_anew() {
    let (first, second) = (Sink::start(|_| Reply::ok()), Sink::start(|_| Reply::ok()));
    let stage = Stage::onboarded(&first.url());
    let agent = stage.start();
    agent.lines(0..1);
    eventually("the first line", || first.numbers() == [0]);
    stage.onboard(&second.url());
    agent.signal(Signal::SIGHUP);
    eventually("the reload", || {
        stage.log().contains("reloading certificate")
    });
    agent.lines(1..2);
    eventually("the second line", || second.numbers() == [1]);
    assert_eq!(first.numbers(), [0]);
    assert!(agent.stop().0.success());
}

#[test]
fn a_port_in_use_is_one_clear_line_and_exit_code_1() {
    let stage = Stage::new();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    stage.change("omsagent.d/syslog.conf", "port 0", &format!("port {port}"));
    let done = run_to_the_end(&stage);
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    for wanted in [
        "syslog.conf:2",
        &format!("port {port} (UDP)"),
        "in use",
        "ss -ulnp",
    ] {
        assert!(said.contains(wanted), "{said}");
    }
    assert!(stage.log().contains("[error]: "), "and in the log");
    assert!(!stage.path("run/omsagent.pid").exists());
}

#[test]
fn mistakes_in_the_configuration_name_file_and_line() {
    let stage = Stage::new();
    stage.change("omsagent.d/syslog.conf", "port 0", "port none");
    let done = run_to_the_end(&stage);
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(said.contains("syslog.conf:4: `port` is `none`"), "{said}");
    let done = Command::new(env!("CARGO_BIN_EXE_omsagent"))
        .args(["run", "-c", "/nowhere/omsagent.conf"])
        .output()
        .unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(said.contains("/nowhere/omsagent.conf"), "{said}");
    assert_eq!(done.status.code(), Some(1));
}

#[test]
fn a_second_agent_on_the_same_queue_is_refused() {
    let sink = Sink::start(|_| Reply::ok());
    let stage = Stage::onboarded(&sink.url());
    let agent = stage.start();
    let done = run_to_the_end(&stage);
    let said = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(said.contains("another agent is using it"), "{said}");
    let pid = std::fs::read_to_string(stage.path("run/omsagent.pid")).unwrap();
    assert_eq!(
        pid.trim_end(),
        agent.child.id().to_string(),
        "the first one's stays"
    );
}

#[test]
fn everything_of_a_workspace_is_found_by_its_id() {
    let sink = Sink::start(|_| Reply::ok());
    let stage = Stage::onboarded(&sink.url());
    let root = stage.path("root");
    let layout = omsagent::host::layout::Layout::new(&root);
    let ws = layout.workspace(&crate::stage::WORKSPACE.parse().unwrap());
    for folder in [ws.conf_d(), ws.run(), ws.state(), ws.log()] {
        std::fs::create_dir_all(folder).unwrap();
    }
    std::fs::copy(stage.path("ca.pem"), layout.ca_file()).unwrap();
    for name in [
        "omsagent.conf",
        "omsagent.d/syslog.conf",
        "omsagent.d/heartbeat.conf",
    ] {
        std::fs::copy(stage.path("conf").join(name), ws.conf().join(name)).unwrap();
    }
    let child = Command::new(env!("CARGO_BIN_EXE_omsagent"))
        .args(["run", "--workspace", crate::stage::WORKSPACE, "--root"])
        .arg(&root)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let syslog = "127.0.0.1:0".parse().unwrap();
    let agent = Agent { child, syslog };
    eventually("the pid file", || ws.pid_file().exists());
    eventually("a heartbeat", || {
        sink.taken().iter().any(|u| !u.is_syslog())
    });
    let status = ws.log().join("ODSIngestion.status");
    eventually("the status file", || status.exists());
    assert!(agent.stop().0.success());
}

#[test]
fn secrets_stay_out_of_the_log() {
    let sink = Sink::start(|_| Reply::ok());
    let stage = Stage::onboarded(&sink.url());
    std::fs::write(
        stage.path("conf/proxy.conf"),
        "user:hunter2pass@127.0.0.1:1",
    )
    .unwrap();
    let mut command = stage.command();
    command.arg("-v");
    let agent = stage.start_as(command);
    agent.lines(0..1);
    eventually("a failure", || stage.log().contains("cannot send"));
    let log = stage.log();
    assert!(
        !log.contains("hunter2pass") && !log.contains("PRIVATE KEY"),
        "{log}"
    );
    let key = identity().key_pem.expose();
    let inner = key.lines().nth(1).unwrap();
    assert!(!log.contains(inner));
}
