//! Lines of files, all the way: to the hub's tables, and through whatever happens to file and agent.

use crate::hub::{Hub, Member};
use crate::sink::{Reply, Sink};
use crate::stage::{PATIENCE, Stage, eventually, number_in};
use omsagent::hub::Reader;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn append(path: &Path, text: &str) {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

fn configure(stage: &Stage, text: &str) {
    std::fs::write(stage.path("conf/omsagent.d/files.conf"), text).unwrap();
}

fn rows(hub: &Hub, sql: &str) -> Vec<String> {
    let reader = Reader::open(&hub.folder).unwrap();
    reader.query(sql).unwrap().to_json()
}

/// As omsconfig writes it (protocol.md 7.6), by our own templates.
#[test]
fn a_custom_log_arrives_in_its_table_with_the_files_real_name() {
    let hub = Hub::start();
    let member = Member::new(&hub, 300);
    let stage = hub.stage(&member, "20m");
    std::fs::create_dir(stage.path("files")).unwrap();
    let log = stage.path("files/app.log");
    let name = format!("CUSTOM_LOG_BLOB.App_CL_{}", hub.ws);
    configure(
        &stage,
        &format!(
            "<source>\n  type sudo_tail\n  path {}/*.log\n  pos_file {}\n  read_from_head false\n  \
             run_interval 60\n  tag oms.blob.CustomLog.{name}.*\n  format none\n</source>\n",
            stage.text("files"),
            stage.text("state/App.pos"),
        ),
    );
    append(&log, "before\n");
    let agent = stage.start();
    eventually("its position", || {
        std::fs::read_to_string(stage.path("state/App.pos")).is_ok_and(|t| t.contains("app.log"))
    });
    append(&log, "one \"line\"\nh\u{e9}llo \u{1}\n");
    append(&log, "half");
    let all = "SELECT Type, RawData, FilePath FROM CustomLog";
    eventually("two rows", || rows(&hub, all).len() == 2);
    let path = log.display();
    assert_eq!(
        rows(&hub, all),
        [
            format!(r#"{{"Type":"App_CL","RawData":"one \"line\"","FilePath":"{path}"}}"#),
            format!(r#"{{"Type":"App_CL","RawData":"héllo \u0001","FilePath":"{path}"}}"#),
        ]
    );
    // Whichever step fails: the lines arrive.
    for times in 1..=4 {
        hub.faults(&format!(
            "[[fault]]\non = 'blob'\nstatus = 503\ntimes = {times}\n"
        ));
        append(&log, &format!("\nafter {times} faults"));
        let sql = format!(
            "SELECT 1 FROM CustomLog WHERE RawData = 'after {} faults'",
            times - 1
        );
        eventually("the row", || times == 1 || hub.count(&sql) > 0);
    }
    append(&log, "\n");
    eventually("the last", || {
        hub.count("SELECT 1 FROM CustomLog WHERE RawData = 'after 4 faults'") > 0
    });
    eventually("the status file", || {
        let status = std::fs::read_to_string(stage.path("log/ODSIngestionBlob.status"));
        status.is_ok_and(|s| s.contains(r#""operation": "ODSIngestionBlob", "success": "true""#))
    });
    assert!(agent.stop().0.success());
}

#[test]
fn custom_json_of_files_in_several_formats() {
    let hub = Hub::start();
    let member = Member::new(&hub, 300);
    let stage = hub.stage(&member, "20m");
    std::fs::create_dir(stage.path("files")).unwrap();
    let source = |name: &str, tag: &str, more: &str| {
        format!(
            "<source>\n  type tail\n  path {}\n  pos_file {}\n  tag {tag}\n  read_from_head true\n{more}</source>\n",
            stage.text(&format!("files/{name}")),
            stage.text("state/all.pos"),
        )
    };
    configure(
        &stage,
        &[
            source("a", "oms.api.Json", "  format json\n  path_key file\n"),
            source(
                "b",
                "oms.api.Csv.when",
                "  format csv\n  keys n,when,text\n  types n:integer\n  keep_time_key true\n",
            ),
            source("c", "oms.api.Plain", "  format /^(?<x>.*)$/\n"),
            format!(
                "<match oms.api.**>\n{}</match>\n",
                stage.output("out_oms_api", "api")
            ),
        ]
        .concat(),
    );
    append(
        &stage.path("files/a"),
        "{\"time\":1,\"z\":1.50,\"a\":[1]}\nnot JSON\n",
    );
    append(&stage.path("files/b"), "7,2031-08-09,\"a,b\"\n");
    append(&stage.path("files/c"), "any line\n");
    let agent = stage.start();
    let of = |table: &str| {
        rows(
            &hub,
            &format!("SELECT item FROM items WHERE data_type = '{table}'"),
        )
    };
    eventually("three rows", || {
        hub.count("SELECT 1 FROM items WHERE ip_name = 'CustomJSON'") == 3
    });
    let item = |text: &str| [serde_json::json!({ "item": text }).to_string()];
    let file = stage.text("files/a");
    assert_eq!(
        of("Json_CL"),
        item(&format!(r#"{{"z":1.50,"a":[1],"file":"{file}"}}"#))
    );
    assert_eq!(
        of("Csv_CL"),
        item(r#"{"n":7,"when":"2031-08-09","text":"a,b"}"#)
    );
    assert_eq!(of("Plain_CL"), item(r#"{"message":"any line"}"#));
    let log = stage.log();
    assert!(log.contains("pattern not match: \"not JSON\""), "{log}");
    assert!(
        log.contains("files.conf:27: parameter `format` is left out: regular"),
        "{log}"
    );
    assert!(agent.stop().0.success());
}

/// What came to the sink.
#[derive(Default)]
struct Taken {
    numbers: BTreeSet<u32>,
    twice: u64,
}

type Shared = Arc<Mutex<Taken>>;

/// Numbered lines of one file, with a rotation now and then.
struct Writer {
    path: PathBuf,
    /// Its numbers are `first`, `first + step`, ...
    first: u32,
    step: u32,
    count: u32,
    each: u32,
}

impl Writer {
    fn line(&self, n: u32) -> String {
        format!("number={:07} of some words\n", self.first + n * self.step)
    }

    /// Writes all; `rotate` is called each so many lines with the number of the rotation and that of
    /// the last line, and gives what is written to from then on.
    fn write(&self, mut rotate: impl FnMut(u32, u32) -> Option<PathBuf>) {
        let mut path = self.path.clone();
        let open = |path: &Path| {
            OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .unwrap()
        };
        let mut file = open(&path);
        for n in 0..self.count {
            if n > 0 && n % self.each == 0 {
                drop(file);
                path = rotate(n / self.each, self.first + (n - 1) * self.step)
                    .unwrap_or_else(|| self.path.clone());
                file = open(&path);
            }
            file.write_all(self.line(n).as_bytes()).unwrap();
            if n % 25 == 24 {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

fn number(name: &str, usual: u32) -> u32 {
    std::env::var(name).map_or(usual, |n| n.parse().unwrap())
}

fn numbered(path: &Path, generation: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{generation}"));
    name.into()
}

/// An agent's stage that follows `files/*.log` and sends to a sink that counts.
fn followed() -> (Stage, Shared) {
    let taken: Shared = Arc::default();
    let sink = {
        let taken = Arc::clone(&taken);
        Sink::start(move |upload| {
            let mut taken = taken.lock().unwrap();
            for n in upload.records() {
                if !taken.numbers.insert(n) {
                    taken.twice += 1;
                }
            }
            Reply {
                forget: true,
                ..Reply::ok()
            }
        })
    };
    let stage = Stage::onboarded(&sink.url());
    std::fs::create_dir(stage.path("files")).unwrap();
    configure(
        &stage,
        &format!(
            "<source>\n  type tail\n  path {}/*.log\n  pos_file {}\n  tag oms.api.App\n  read_from_head true\n  \
             refresh_interval 1\n  rotate_wait 1\n</source>\n<match oms.api.**>\n{}</match>\n",
            stage.text("files"),
            stage.text("state/files.pos"),
            stage.output("out_oms_api", "api")
        ),
    );
    (stage, taken)
}

/// `OMSAGENT_TAIL_LINES` and `OMSAGENT_TAIL_KILLS` make it long (`tests/sweep/tail.sh`).
#[test]
fn killed_at_random_it_loses_no_line_of_files_that_are_rotated() {
    let (lines, kills) = (
        number("OMSAGENT_TAIL_LINES", 20_000),
        number("OMSAGENT_TAIL_KILLS", 5),
    );
    let (stage, taken) = followed();
    let at = |name: &str| stage.path("files").join(name);
    let each = (lines / 4 / 10).clamp(1, 5000);
    let writer = |name: &str, first| Writer {
        path: at(name),
        first,
        step: 4,
        count: lines / 4,
        each,
    };
    let has = |n: u32| taken.lock().unwrap().numbers.contains(&n);
    let done = AtomicBool::new(false);
    let begun = Instant::now();
    let mut restarts = 0;
    std::thread::scope(|scope| {
        let renaming = writer("renamed.log", 0);
        let copying = writer("copied.log", 1);
        let deleting = writer("deleted.log", 2);
        let linking = writer("linked.log", 3);
        let writers = [
            scope.spawn(move || {
                let path = renaming.path.clone();
                renaming.write(|n, _| {
                    // As logrotate does: the older one moves on, then the newest.
                    if n % 2 == 0 {
                        let _ =
                            std::fs::rename(numbered(&path, n - 1), numbered(&path, n + 100_000));
                    }
                    std::fs::rename(&path, numbered(&path, n)).unwrap();
                    None
                });
            }),
            scope.spawn(move || {
                let path = copying.path.clone();
                copying.write(|n, _| {
                    std::fs::copy(&path, numbered(&path, n)).unwrap();
                    File::options()
                        .write(true)
                        .open(&path)
                        .unwrap()
                        .set_len(0)
                        .unwrap();
                    None
                });
            }),
            scope.spawn(move || {
                let path = deleting.path.clone();
                deleting.write(|_, last| {
                    // Nobody can read a file that is gone: it goes when it has been read.
                    while !has(last) {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    std::fs::remove_file(&path).unwrap();
                    None
                });
            }),
            scope.spawn(move || {
                let link = linking.path.clone();
                let target = |n: u32| link.with_file_name(format!("target-{n:05}"));
                File::create(target(0)).unwrap();
                std::os::unix::fs::symlink(target(0), &link).unwrap();
                linking.write(|n, last| {
                    // A target that the link left again before it was ever seen cannot be known.
                    let first = last - (linking.each - 1) * linking.step;
                    while !has(first) {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    File::create(target(n)).unwrap();
                    let new = link.with_file_name("new");
                    std::os::unix::fs::symlink(target(n), &new).unwrap();
                    std::fs::rename(&new, &link).unwrap();
                    None
                });
            }),
        ];
        let stage = &stage;
        let done = &done;
        let killer = scope.spawn(move || {
            let mut agent = stage.start();
            let mut killed = 0;
            while !done.load(Ordering::SeqCst) || killed < kills {
                let wait = random();
                std::thread::sleep(Duration::from_millis(150 + wait % 700));
                if killed < kills {
                    agent.kill();
                    killed += 1;
                    agent = stage.start();
                }
            }
            (agent, killed)
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::SeqCst);
        let (agent, killed) = killer.join().unwrap();
        restarts = killed;
        let until = Instant::now() + PATIENCE + Duration::from_millis(u64::from(lines / 20));
        while taken.lock().unwrap().numbers.len() < (lines / 4 * 4) as usize
            && Instant::now() < until
        {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(agent.stop().0.success());
    });
    let taken = taken.lock().unwrap();
    let lost = |first: u32| {
        let all = (0..lines / 4).map(|n| first + n * 4);
        all.filter(|n| !taken.numbers.contains(n)).count()
    };
    let lost: Vec<usize> = (0..4).map(lost).collect();
    println!(
        "tail: {} lines, {} rotations, {restarts} kills, {:.0} s: lost {} renamed, {} copied and cut, {} deleted, {} linked; {} twice",
        lines / 4 * 4,
        4 * (lines / 4 / each),
        begun.elapsed().as_secs_f64(),
        lost[0],
        lost[1],
        lost[2],
        lost[3],
        taken.twice
    );
    assert_eq!(lost, [0, 0, 0, 0], "{}", stage.log());
}

/// Copying and cutting while somebody writes: what came between the two is nowhere any more. All that
/// still stands in a file has arrived.
#[test]
fn what_copying_and_cutting_loses_is_what_no_file_has() {
    let lines = number("OMSAGENT_TAIL_LINES", 20_000);
    let (stage, taken) = followed();
    let log = stage.path("files/a.log");
    let agent = stage.start();
    let done = AtomicBool::new(false);
    let mut cuts = 0;
    std::thread::scope(|scope| {
        let writer = Writer {
            path: log.clone(),
            first: 0,
            step: 1,
            count: lines,
            each: u32::MAX,
        };
        let done = &done;
        scope.spawn(move || {
            writer.write(|_, _| None);
            done.store(true, Ordering::SeqCst);
        });
        eventually("the file", || log.exists());
        while !done.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(100 + random() % 300));
            cuts += 1;
            std::fs::copy(&log, numbered(&log, cuts)).unwrap();
            File::options()
                .write(true)
                .open(&log)
                .unwrap()
                .set_len(0)
                .unwrap();
        }
    });
    let mut standing = BTreeSet::new();
    for entry in std::fs::read_dir(stage.path("files")).unwrap().flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap();
        standing.extend(text.lines().filter_map(number_in));
    }
    let missing = || standing.difference(&taken.lock().unwrap().numbers).count();
    let until = Instant::now() + PATIENCE;
    while missing() > 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    let missing = missing();
    let nowhere = lines as usize - taken.lock().unwrap().numbers.len() - missing;
    println!(
        "tail: {lines} lines, {cuts} times copied and cut under a writer that does not wait: {nowhere} in no file any more and not sent, {missing} in a file and not sent"
    );
    assert_eq!(missing, 0, "{}", stage.log());
    assert!(agent.stop().0.success());
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    let mut random = File::open("/dev/urandom").unwrap();
    std::io::Read::read_exact(&mut random, &mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}
