//! The thread with real files, queues and positions.

use super::*;
use crate::settings::fluent;
use std::fs::{self, OpenOptions};
use std::path::Path;

struct Room {
    dir: tempfile::TempDir,
    control: Arc<Control>,
    running: Option<(Tailing, Arc<Figures>)>,
    queues: Vec<Arc<Queue>>,
    extra: String,
    path: String,
    limit: String,
}

impl Room {
    fn new() -> Room {
        Room::with("read_from_head true")
    }

    fn with(extra: &str) -> Room {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("log")).unwrap();
        Room {
            path: format!("{}/log/*.log", dir.path().display()),
            dir,
            control: Arc::default(),
            running: None,
            queues: Vec::new(),
            extra: extra.to_owned(),
            limit: String::new(),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join("log").join(name)
    }

    fn settings(&self) -> Arc<Settings> {
        let d = self.dir.path().display();
        let text = format!(
            "<source>\n type tail\n path {}\n pos_file {d}/x.pos\n tag oms.blob.CustomLog.B.T.*\n \
             rotate_wait 0.3s\n refresh_interval 1h\n {}\n</source>\n\
             <match oms.**>\n type out_oms_blob\n buffer_path {d}/q*.buffer\n {}\n</match>\n",
            self.path, self.extra, self.limit
        );
        let document = fluent::parse("t", &text, &mut ()).unwrap();
        Arc::new(Settings::from_document(&document, self.dir.path()).unwrap())
    }

    fn start(&mut self) {
        let settings = self.settings();
        if self.queues.is_empty() {
            let output = &settings.outputs[0];
            let (queue, _) = Queue::open(&output.queue, output.limit).unwrap();
            self.queues.push(Arc::new(queue));
        }
        self.control = Arc::default();
        let figures = Arc::new(Figures::new(&settings));
        let tailing = start(&settings, &self.queues, &self.control, &figures);
        self.running = Some((tailing.unwrap().unwrap(), figures));
    }

    fn stop(&mut self) {
        self.control.stop();
        let (tailing, _) = self.running.take().unwrap();
        tailing.end();
    }

    /// Every line in the queue, in its order, of the file with that name or of all.
    fn lines(&self) -> Vec<String> {
        let Some(gathered) = self.queues[0].read_mixed(usize::MAX).unwrap() else {
            return Vec::new();
        };
        let lines = |items: &Vec<u8>| -> Vec<String> {
            let list = [b"[", &items[..], b"]"].concat();
            serde_json::from_slice(&list).unwrap()
        };
        gathered.parts.iter().flat_map(|(_, i)| lines(i)).collect()
    }

    fn wait_for(&self, wanted: &[&str]) {
        let mut wanted: Vec<&str> = wanted.to_vec();
        wanted.sort_unstable();
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let mut lines = self.lines();
            lines.sort_unstable();
            if lines == wanted {
                return;
            }
            assert!(Instant::now() < until, "{lines:?}, not {wanted:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the positions say that the file is done.
    fn wait_saved(&self, name: &str) {
        let path = self.at(name);
        let length = path.metadata().unwrap().len();
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let content = positions::read(&fs::read(self.dir.path().join("x.pos")).unwrap());
            let done = |r: &positions::Record| r.path == path && r.offset == length;
            if content.records.iter().any(done) {
                return;
            }
            assert!(Instant::now() < until, "{:?}", content.records);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.stop();
        }
    }
}

fn append(path: &Path, text: &str) {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

/// A first line by which a file is known.
fn head(name: &str) -> String {
    format!("{name}: a first line that is long enough to know the file by")
}

#[test]
fn lines_come_as_they_are_written_and_half_ones_wait() {
    let mut room = Room::new();
    let log = room.at("a.log");
    append(&log, "one\ntwo\r\nhal");
    room.start();
    room.wait_for(&["one", "two"]);
    append(&log, "f\n\nNUL\0 and \u{e9}\n");
    room.wait_for(&["one", "two", "half", "NUL\0 and \u{e9}"]);
    append(&room.at("b.log"), "another\n");
    room.wait_for(&["one", "two", "half", "NUL\0 and \u{e9}", "another"]);
    let figures = &room.running.as_ref().unwrap().1;
    let seen = figures.snapshot(&room.queues);
    assert_eq!(
        (seen.inputs[0].kind.as_str(), seen.inputs[0].queued),
        ("tail", 5)
    );
    // Nothing twice and nothing lost by an orderly restart.
    room.stop();
    append(&log, "more\n");
    room.start();
    room.wait_for(&["one", "two", "half", "NUL\0 and \u{e9}", "another", "more"]);
}

#[test]
fn from_the_end_unless_told_otherwise_or_new() {
    let mut room = Room::with("");
    let d = room.dir.path().display().to_string();
    room.path = format!("{d}/log/*.log,{d}/log/plain");
    let old = room.at("old.log");
    append(&old, "before\n");
    room.start();
    // It is followed when its position is written down.
    room.wait_saved("old.log");
    append(&old, "after\n");
    append(&room.at("new.log"), "of a new file\n");
    append(&room.at("plain"), "of a plain name\n");
    room.wait_for(&["after", "of a new file", "of a plain name"]);
    room.stop();
    // What is there at a start and not known is not new.
    append(&room.at("third.log"), "while away\n");
    append(&old, "and this\n");
    room.start();
    room.wait_saved("third.log");
    append(&room.at("third.log"), "now\n");
    room.wait_for(&[
        "after",
        "of a new file",
        "of a plain name",
        "and this",
        "now",
    ]);
}

#[test]
fn renamed_files_are_read_to_their_end() {
    let mut room = Room::new();
    let log = room.at("a.log");
    append(&log, "1\n");
    room.start();
    room.wait_for(&["1"]);
    let mut old = OpenOptions::new().append(true).open(&log).unwrap();
    fs::rename(&log, room.at("a.log.1")).unwrap();
    old.write_all(b"2, by its old handle\n").unwrap();
    append(&log, "3\n");
    room.wait_for(&["1", "2, by its old handle", "3"]);
    // Twice in one go: the one in between was never seen under its name.
    append(&log, "4\n");
    fs::rename(&log, room.at("a.log.2")).unwrap();
    append(&log, "5\n");
    fs::rename(&log, room.at("a.log.3")).unwrap();
    append(&log, "6\nlast half");
    let all = ["1", "2, by its old handle", "3", "4", "5", "6"];
    room.wait_for(&all);
    // Half a line of a file that is gone is all there will be of it.
    fs::rename(&log, room.at("a.log.4")).unwrap();
    room.wait_for(&[&all[..], &["last half"]].concat());
}

#[test]
fn rotated_twice_while_nobody_looked() {
    let mut room = Room::new();
    let log = room.at("a.log");
    append(&log, "1\n");
    room.start();
    room.wait_for(&["1"]);
    room.wait_saved("a.log");
    room.stop();
    append(&log, "2\n");
    fs::rename(&log, room.at("a.log.2")).unwrap();
    append(&log, "3\n");
    fs::rename(&log, room.at("a.log.1")).unwrap();
    append(&log, "4\n");
    room.start();
    room.wait_for(&["1", "2", "3", "4"]);
    room.wait_saved("a.log");
    std::thread::sleep(Duration::from_millis(500)); // rotate_wait
    room.stop();
    // And they are not read again.
    room.start();
    append(&log, "5\n");
    room.wait_for(&["1", "2", "3", "4", "5"]);
}

#[test]
fn cut_to_nothing_copied_before_and_written_anew() {
    let mut room = Room::new();
    let log = room.at("a.log");
    let first = head("a");
    append(&log, &format!("{first}\n"));
    room.start();
    room.wait_for(&[&first]);
    room.wait_saved("a.log");
    fs::write(&log, "short\n").unwrap();
    room.wait_for(&[&first, "short"]);
    // Longer than what was read, and other bytes.
    let second = format!("{} and longer than it was", head("b"));
    fs::write(&log, format!("{second}\n")).unwrap();
    room.wait_for(&[&first, "short", &second]);
    room.wait_saved("a.log");
    room.stop();
    // Copied and cut while nobody looked: the rest is in the copy.
    append(&log, "in the copy\n");
    fs::copy(&log, room.at("a.log.1")).unwrap();
    fs::write(&log, "3\n").unwrap();
    room.start();
    room.wait_for(&[&first, "short", &second, "in the copy", "3"]);
}

#[test]
fn cut_again_before_anything_was_read() {
    let mut room = Room::new();
    let log = room.at("a.log");
    let first = head("a");
    append(&log, &format!("{first}\n"));
    room.start();
    room.wait_for(&[&first]);
    fs::write(&log, "").unwrap();
    // It was seen empty when that is written down.
    room.wait_saved("a.log");
    room.stop();
    append(&log, "never seen under its name\n");
    fs::copy(&log, room.at("a.log.1")).unwrap();
    fs::write(&log, "now\n").unwrap();
    room.start();
    room.wait_for(&[&first, "never seen under its name", "now"]);
}

#[test]
fn deleted_and_made_anew_and_a_link_that_is_switched() {
    let mut room = Room::new();
    let log = room.at("a.log");
    append(&log, "1\n");
    room.start();
    room.wait_for(&["1"]);
    fs::remove_file(&log).unwrap();
    append(&log, "2\n");
    room.wait_for(&["1", "2"]);
    let (x, y, link) = (room.at("x"), room.at("y"), room.at("link.log"));
    append(&x, "3\n");
    std::os::unix::fs::symlink(&x, &link).unwrap();
    room.wait_for(&["1", "2", "3"]);
    append(&x, "4\n");
    append(&y, "5\n");
    std::os::unix::fs::symlink(&y, room.at("new")).unwrap();
    fs::rename(room.at("new"), &link).unwrap();
    append(&x, "6\n");
    room.wait_for(&["1", "2", "3", "4", "5", "6"]);
    append(&y, "7\n");
    room.wait_for(&["1", "2", "3", "4", "5", "6", "7"]);
    room.wait_saved("link.log");
    room.stop();
    append(&y, "8\n");
    append(&x, "not followed any more\n");
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(room.at("z"), &link).unwrap();
    append(&room.at("z"), "9\n");
    room.start();
    let all = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let until = Instant::now() + Duration::from_secs(20);
    while !all.iter().all(|l| room.lines().iter().any(|x| x == l)) {
        assert!(Instant::now() < until, "{:?}", room.lines());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_line_that_is_too_long_is_cut_marked_and_counted() {
    let mut room = Room::new();
    let log = room.at("a.log");
    append(&log, &format!("{}\nnext\n", "x".repeat(1 << 20)));
    room.start();
    let cut = format!("{}{}", "x".repeat(lines::LINE_LIMIT), turn::CUT_MARK);
    room.wait_for(&[&cut, "next"]);
    // One without an end: the same, and what follows the end is whole.
    append(&log, &"y".repeat(1 << 20));
    let cut_too = cut.replace('x', "y");
    room.wait_for(&[&cut, "next", &cut_too]);
    append(&log, "yy\nlast\n");
    room.wait_for(&[&cut, "next", &cut_too, "last"]);
    let figures = &room.running.as_ref().unwrap().1;
    assert_eq!(figures.snapshot(&room.queues).inputs[0].cut, 2);
}

#[test]
fn a_full_queue_makes_files_wait() {
    let mut room = Room::new();
    room.limit = "buffer_chunk_limit 64k\n buffer_queue_limit 8".into();
    let log = room.at("a.log");
    let mut text = String::new();
    for n in 0..30_000 {
        text += &format!("line {n:05} with some more words in it\n");
    }
    append(&log, &text);
    room.start();
    let mut taken = Vec::new();
    let until = Instant::now() + Duration::from_secs(60);
    while taken.len() < 30_000 {
        if let Some(gathered) = room.queues[0].read_mixed(100_000).unwrap() {
            taken.extend(room.lines_of(&gathered));
            room.queues[0].delivered(&gathered.whole).unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
        assert!(Instant::now() < until, "{} lines", taken.len());
    }
    assert_eq!(room.queues[0].counts().dropped, 0);
    assert!(taken.is_sorted() && taken.len() == 30_000);
}

impl Room {
    fn lines_of(&self, gathered: &crate::agent::queue::Gathered) -> Vec<String> {
        let mut lines = Vec::new();
        for (_, items) in &gathered.parts {
            let list = [b"[", &items[..], b"]"].concat();
            lines.extend(serde_json::from_slice::<Vec<String>>(&list).unwrap());
        }
        lines
    }
}

#[test]
fn more_files_than_may_be_open() {
    let mut room = Room::new();
    let mut wanted = Vec::new();
    for n in 0..OPEN_LIMIT + 50 {
        append(&room.at(&format!("{n}.log")), &format!("{n}\n"));
        wanted.push(n.to_string());
    }
    room.start();
    let all: Vec<&str> = wanted.iter().map(String::as_str).collect();
    room.wait_for(&all);
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let log = room.dir.path().join("log");
    let of_ours = open.filter(|f| fs::read_link(f.path()).is_ok_and(|p| p.starts_with(&log)));
    assert!(of_ours.count() <= OPEN_LIMIT + 1);
    // One that was closed is read on.
    append(&room.at("0.log"), "more\n");
    room.wait_for(&[&all[..], &["more"]].concat());
}
