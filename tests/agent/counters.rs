//! Performance counters: from a source's lines to rows at the hub.

use crate::hub::{Hub, Member};
use crate::sink::{Reply, Sink};
use crate::stage::{Stage, binary, eventually};
use std::process::Command;

fn source(object: &str, more: &str) -> String {
    format!(
        "<source>\n  type oms_omi\n  object_name \"{object}\"\n  interval 1s\n{more}</source>\n"
    )
}

const OBJECTS: [&str; 7] = [
    "Processor",
    "Memory",
    "Network",
    "Logical Disk",
    "Physical Disk",
    "System",
    "Process",
];

#[test]
fn all_objects_arrive_at_the_hub() {
    let hub = Hub::start();
    let stage = hub.stage(&Member::new(&hub, 300), "20m");
    // The portal's own form for one of them.
    let mut text = source(
        "Processor",
        "  instance_regex \".*\"\n  counter_name_regex \"(% Processor Time|% Privileged Time)\"\n",
    );
    OBJECTS[1..].iter().for_each(|o| text += &source(o, ""));
    text += &source("Memory", "  counter_name_regex (\n"); // that one is left out, no other
    std::fs::write(stage.path("conf/omsagent.d/perf.conf"), text).unwrap();
    let agent = stage.start();
    // What a host without a disk or a network has none of is not waited for.
    let there = |o: &&&str| !matches!(**o, "Network" | "Logical Disk" | "Physical Disk");
    let rows = |object: &str| {
        hub.count(&format!(
            "SELECT DISTINCT TimeGenerated FROM Perf WHERE ObjectName = '{object}'"
        ))
    };
    for object in OBJECTS.iter().filter(there) {
        eventually(object, || rows(object) >= 2);
    }
    let numbers = |sql: &str| {
        let query = ["hub", "query", "--json", "--data"];
        let data = hub.temp.path().join("hub");
        let out = Command::new(binary())
            .args(query)
            .arg(data)
            .arg(sql)
            .output();
        let out = out.unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        String::from_utf8(out.stdout).unwrap()
    };
    let names =
        numbers("SELECT DISTINCT CounterName FROM Perf WHERE ObjectName = 'Processor' ORDER BY 1");
    assert!(names.contains("% Privileged Time") && names.contains("% Processor Time"));
    assert!(!names.contains("% Idle Time"), "{names}");
    assert_eq!(
        hub.count("SELECT DISTINCT CounterName FROM Perf WHERE ObjectName = 'Memory'"),
        11
    );
    let odd = "SELECT * FROM Perf WHERE typeof(CounterValue) NOT IN ('integer', 'real')
               OR CounterValue < 0 OR (CounterName LIKE '%\\%%' ESCAPE '\\' AND CounterValue > 100)
               OR Computer = '' OR InstanceName = ''";
    assert_eq!(hub.count(odd), 0, "{}", numbers(odd));
    let own = "SELECT * FROM Perf WHERE ObjectName = 'Process' AND InstanceName = 'omsagent'
         AND CounterName = 'Used Memory kBytes' AND CounterValue > 1000";
    assert!(hub.count(own) > 0, "we are one of the processes");
    let log = stage.log();
    let told = log
        .lines()
        .filter(|l| l.contains("a source of type `oms_omi` is left out"));
    assert_eq!(told.count(), 1, "{log}");
    assert!(agent.stop().0.success());
}

#[test]
fn a_reload_takes_another_selection_and_status_counts() {
    let sink = Sink::start(|_| Reply::ok());
    let stage = Stage::onboarded(&sink.url());
    let conf = stage.path("conf/omsagent.d/perf.conf");
    std::fs::write(&conf, source("Memory", "  counter_name_regex Swap\n")).unwrap();
    let agent = stage.start();
    let seen = |what: &str| {
        sink.taken()
            .iter()
            .flat_map(|u| u.items())
            .any(|item| item.to_string().contains(what))
    };
    eventually("swap", || seen("% Used Swap Space"));
    assert!(!seen("% Used Memory"));
    std::fs::write(&conf, source("Memory", "  counter_name_regex Memory\n")).unwrap();
    agent.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("memory", || seen("% Used Memory"));
    let figures = {
        use std::io::Read;
        let mut socket = std::os::unix::net::UnixStream::connect(stage.path("run/omsagent.sock"));
        let mut text = String::new();
        socket.as_mut().unwrap().read_to_string(&mut text).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let inputs = figures["inputs"].as_array().unwrap();
    let ours = inputs.iter().find(|i| i["type"] == "oms_omi").unwrap();
    assert_eq!(ours["tag"], "oms.omi");
    assert!(ours["queued"].as_u64().unwrap() >= 1 && ours["dropped"] == 0);
    assert!(agent.stop().0.success());
}
