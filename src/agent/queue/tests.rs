//! What must hold whatever happens to the files.

use super::frame::Kind;
use super::*;
use proptest::prelude::*;

const SYSLOG: Kind = Kind::new("LINUX_SYSLOGS_BLOB", "LOGMANAGEMENT");
const HEARTBEAT: Kind = Kind::new("HEALTH_ASSESSMENT_BLOB", "LogManagement");

fn frame(kind: &Kind, items: &[&str]) -> Frame {
    let mut frame = Frame::new(kind);
    for item in items {
        frame.push(Origin(1), |out| out.extend_from_slice(item.as_bytes()));
    }
    frame
}

fn put(queue: &Queue, kind: &Kind, items: &[&str]) {
    let mut frame = frame(kind, items);
    queue.append(&mut frame).unwrap();
    assert!(frame.is_empty());
}

fn take(queue: &Queue, limit: usize) -> Option<(String, String)> {
    let batch = queue.read(limit).unwrap()?;
    queue.delivered(&batch).unwrap();
    Some((
        batch.kind.data_type.to_string(),
        String::from_utf8(batch.items).unwrap(),
    ))
}

fn all(queue: &Queue) -> String {
    let mut parts = Vec::new();
    while let Some((_, items)) = take(queue, 1 << 20) {
        if !items.is_empty() {
            parts.push(items);
        }
    }
    parts.join(",")
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "seg"))
        .collect();
    found.sort();
    found
}

#[test]
fn batches_join_frames_of_one_kind_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (queue, recovery) = Queue::open(&dir.path().join("q"), 1 << 20).unwrap();
    assert_eq!(recovery, Recovery::default());
    put(&queue, &SYSLOG, &["{1}", "{2}"]);
    put(&queue, &SYSLOG, &["{3}"]);
    put(&queue, &HEARTBEAT, &["{h}"]);
    put(&queue, &SYSLOG, &["{4}"]);
    let again = queue.read(1000).unwrap().unwrap();
    assert_eq!(
        (again.items.as_slice(), again.count),
        (&b"{1},{2},{3}"[..], 3)
    );
    assert_eq!(take(&queue, 1000).unwrap().1, "{1},{2},{3}");
    assert_eq!(
        take(&queue, 1000).unwrap(),
        ("HEALTH_ASSESSMENT_BLOB".into(), "{h}".into())
    );
    assert_eq!(take(&queue, 1000).unwrap().1, "{4}");
    assert!(take(&queue, 1000).is_none());
    assert_eq!(queue.waiting(), 0);
    let counts = queue.counts();
    assert_eq!(
        (counts.appended, counts.delivered, counts.dropped),
        (5, 5, 0)
    );
    assert_eq!(queue.sent(Origin(1)), 5);
}

#[test]
fn a_batch_has_at_least_one_frame_and_respects_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let (queue, _) = Queue::open(dir.path(), 1 << 20).unwrap();
    put(&queue, &SYSLOG, &["0123456789"]);
    put(&queue, &SYSLOG, &["abc"]);
    put(&queue, &SYSLOG, &["def"]);
    assert_eq!(take(&queue, 5).unwrap().1, "0123456789");
    assert_eq!(take(&queue, 7).unwrap().1, "abc,def");
}

#[test]
fn an_undelivered_rest_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (queue, _) = Queue::open(dir.path(), 1 << 20).unwrap();
        put(&queue, &SYSLOG, &["{1}"]);
        assert_eq!(take(&queue, 1).unwrap().1, "{1}");
        put(&queue, &SYSLOG, &["{2}"]);
        put(&queue, &SYSLOG, &["{3}"]);
        assert!(Queue::open(dir.path(), 1 << 20).is_err(), "one agent only");
    }
    let (queue, recovery) = Queue::open(dir.path(), 1 << 20).unwrap();
    assert!(recovery.waiting > 0 && recovery.torn == 0);
    put(&queue, &SYSLOG, &["{4}"]);
    assert_eq!(all(&queue), "{2},{3},{4}");
    drop(queue);
    let (queue, recovery) = Queue::open(dir.path(), 1 << 20).unwrap();
    assert_eq!(recovery, Recovery::default());
    assert_eq!(all(&queue), "");
}

#[test]
fn cut_anywhere_in_the_last_frame_loses_that_frame_only_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let made = dir.path().join("made");
    let sound;
    {
        let (queue, _) = Queue::open(&made, 1 << 20).unwrap();
        put(&queue, &SYSLOG, &["{1}", "{2}"]);
        sound = std::fs::metadata(&segments(&made)[0]).unwrap().len();
        put(&queue, &SYSLOG, &["{3}", "{OMSF}"]);
    }
    let whole = std::fs::read(&segments(&made)[0]).unwrap();
    let name = segments(&made)[0].file_name().unwrap().to_owned();
    for cut in 0..=whole.len() {
        let copy = dir.path().join(format!("cut{cut}"));
        std::fs::create_dir(&copy).unwrap();
        std::fs::write(copy.join(&name), &whole[..cut]).unwrap();
        let (queue, recovery) = Queue::open(&copy, 1 << 20).unwrap();
        put(&queue, &SYSLOG, &["{new}"]);
        let wanted = match cut as u64 {
            n if n < sound => "{new}",
            n if n < whole.len() as u64 => "{1},{2},{new}",
            _ => "{1},{2},{3},{OMSF},{new}",
        };
        assert_eq!(all(&queue), wanted, "cut at {cut}");
        if (sound..whole.len() as u64).contains(&(cut as u64)) {
            assert_eq!(recovery.torn, cut as u64 - sound, "cut at {cut}");
        }
    }
}

#[test]
fn a_flipped_bit_costs_one_frame() {
    let dir = tempfile::tempdir().unwrap();
    let made = dir.path().join("made");
    {
        let (queue, _) = Queue::open(&made, 1 << 20).unwrap();
        for item in ["{1}", "{2}", "{3}"] {
            put(&queue, &SYSLOG, &[item]);
        }
    }
    let whole = std::fs::read(&segments(&made)[0]).unwrap();
    let name = segments(&made)[0].file_name().unwrap().to_owned();
    for bit in 0..whole.len() * 8 {
        let copy = dir.path().join(format!("bit{bit}"));
        std::fs::create_dir(&copy).unwrap();
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(copy.join(&name), &bytes).unwrap();
        let (queue, _) = Queue::open(&copy, 1 << 20).unwrap();
        put(&queue, &SYSLOG, &["{new}"]);
        let got = all(&queue);
        let lost = ["{1}", "{2}", "{3}"]
            .iter()
            .filter(|i| !got.contains(*i))
            .count();
        assert!(lost <= 1 && got.ends_with("{new}"), "bit {bit}: {got}");
        std::fs::remove_dir_all(&copy).unwrap();
    }
}

#[test]
fn a_damaged_delivery_mark_means_sending_again() {
    for damage in [&b""[..], b"garbage", &[0; 2000]] {
        let dir = tempfile::tempdir().unwrap();
        {
            let (queue, _) = Queue::open(dir.path(), 1 << 20).unwrap();
            put(&queue, &SYSLOG, &["{1}"]);
            take(&queue, 1).unwrap();
            put(&queue, &SYSLOG, &["{2}"]);
        }
        std::fs::write(dir.path().join("delivered"), damage).unwrap();
        let (queue, _) = Queue::open(dir.path(), 1 << 20).unwrap();
        assert_eq!(all(&queue), "{1},{2}");
    }
}

#[test]
fn over_the_limit_the_oldest_go_and_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (queue, _) = Queue::open(dir.path(), SMALLEST_LIMIT).unwrap();
    let total = 3000;
    for i in 0..total {
        put(&queue, &SYSLOG, &[&format!("{{\"item number\":{i:06}}}")]);
        assert!(queue.counts().bytes <= SMALLEST_LIMIT);
    }
    let on_disk: u64 = segments(dir.path())
        .iter()
        .map(|p| p.metadata().unwrap().len())
        .sum();
    assert_eq!(on_disk, queue.counts().bytes);
    let got = all(&queue);
    let kept: Vec<&str> = got.split(',').collect();
    assert!(kept.last().unwrap().contains(&format!("{:06}", total - 1)));
    let dropped = queue.counts().dropped;
    assert!(dropped > 0);
    assert_eq!(kept.len() as u64 + dropped, total);
    assert_eq!(queue.sent(Origin(1)) + dropped, total);
    assert!(
        kept[0].contains(&format!("{dropped:06}")),
        "no gap but the oldest"
    );
}

#[test]
fn a_batch_that_was_dropped_meanwhile_can_be_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (queue, _) = Queue::open(dir.path(), SMALLEST_LIMIT).unwrap();
    put(&queue, &SYSLOG, &["{first}"]);
    let batch = queue.read(100).unwrap().unwrap();
    for _ in 0..200 {
        put(&queue, &SYSLOG, &["x".repeat(1000).as_str()]);
    }
    queue.delivered(&batch).unwrap();
    assert!(!all(&queue).contains("first"));
    assert_eq!(queue.waiting(), 0);
}

#[test]
fn a_frame_that_cannot_be_written_keeps_its_items() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q");
    let (queue, _) = Queue::open(&path, 1 << 20).unwrap();
    std::fs::rename(&path, dir.path().join("away")).unwrap();
    let mut held = frame(&SYSLOG, &["{1}"]);
    assert!(queue.append(&mut held).is_err());
    assert_eq!(held.count(), 1);
    std::fs::rename(dir.path().join("away"), &path).unwrap();
    queue.append(&mut held).unwrap();
    assert_eq!(all(&queue), "{1}");
}

#[test]
fn files_removed_behind_our_back_are_told_and_the_queue_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (queue, _) = Queue::open(dir.path(), 1 << 20).unwrap();
    put(&queue, &SYSLOG, &["{1}"]);
    for path in segments(dir.path()) {
        std::fs::remove_file(path).unwrap();
    }
    let batch = queue.read(100).unwrap().unwrap();
    assert!(batch.count == 0 && batch.skipped > 0);
    queue.delivered(&batch).unwrap();
    assert_eq!(queue.waiting(), 0);
    assert!(queue.read(100).unwrap().is_none());
    put(&queue, &SYSLOG, &["{2}"]);
    put(&queue, &SYSLOG, &["{3}"]);
    assert_eq!(all(&queue), "{2},{3}");
}

#[test]
fn what_was_old_enough_behind_another_kind_does_not_wait_again() {
    let dir = tempfile::tempdir().unwrap();
    let (queue, _) = Queue::open(dir.path(), 1 << 20).unwrap();
    let age = Duration::from_millis(300);
    let other = Kind::new("OTHER", "LogManagement");
    put(&queue, &SYSLOG, &["{1}"]);
    put(&queue, &other, &["{2}"]);
    assert!(queue.wait(1 << 20, age, || false));
    let first = queue.read(1 << 20).unwrap().unwrap();
    assert_eq!(first.items, b"{1}");
    put(&queue, &SYSLOG, &["{3}"]); // young
    queue.delivered(&first).unwrap();
    let begun = Instant::now();
    assert!(queue.wait(1 << 20, Duration::from_secs(60), || false));
    assert!(begun.elapsed() < Duration::from_secs(30));
    let second = queue.read(1 << 20).unwrap().unwrap();
    assert_eq!(second.items, b"{2}");
    queue.delivered(&second).unwrap();
    let begun = Instant::now();
    assert!(queue.wait(1 << 20, age, || false));
    assert!(begun.elapsed() >= Duration::from_millis(250), "young");
}

#[test]
fn waiting_ends_with_data_with_age_and_with_stop() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let dir = tempfile::tempdir().unwrap();
    let (queue, _) = Queue::open(dir.path(), 1 << 20).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let begun = Instant::now();
            let go = queue.wait(1 << 20, Duration::from_millis(100), || {
                stop.load(Ordering::SeqCst)
            });
            (go, begun.elapsed())
        });
        std::thread::sleep(Duration::from_millis(50));
        put(&queue, &SYSLOG, &["{1}"]);
        let (go, took) = waiter.join().unwrap();
        assert!(go && took >= Duration::from_millis(140), "{took:?}");
        assert!(
            queue.wait(1, Duration::from_secs(60), || false),
            "enough at once"
        );
        assert_eq!(all(&queue), "{1}");
        let waiter = scope.spawn(|| queue.wait(1, Duration::ZERO, || stop.load(Ordering::SeqCst)));
        std::thread::sleep(Duration::from_millis(20));
        stop.store(true, Ordering::SeqCst);
        queue.wake();
        assert!(!waiter.join().unwrap());
    });
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u16),
    Take(u16),
    Reopen,
    Sync,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (1..5u8, 1..3000u16).prop_map(|(n, size)| Step::Put(n, size)),
        3 => (1..9000u16).prop_map(Step::Take),
        1 => Just(Step::Reopen),
        1 => Just(Step::Sync),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Against a list in memory: nothing is lost, nothing comes twice, order is kept.
    #[test]
    fn behaves_as_a_list(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let (mut queue, _) = Queue::open(dir.path(), 1 << 20).unwrap();
        let mut model = VecDeque::new();
        let mut number = 0;
        for step in steps {
            match step {
                Step::Put(n, size) => {
                    let mut frame = Frame::new(&SYSLOG);
                    for _ in 0..n {
                        let item = format!("{number:0width$}", width = usize::from(size));
                        frame.push(Origin(1), |out| out.extend_from_slice(item.as_bytes()));
                        model.push_back(item);
                        number += 1;
                    }
                    queue.append(&mut frame).unwrap();
                }
                Step::Take(limit) => match take(&queue, usize::from(limit)) {
                    None => prop_assert!(model.is_empty()),
                    Some((_, items)) => {
                        for item in items.split(',') {
                            prop_assert_eq!(Some(item.to_owned()), model.pop_front());
                        }
                    }
                },
                Step::Reopen => {
                    drop(queue);
                    queue = Queue::open(dir.path(), 1 << 20).unwrap().0;
                }
                Step::Sync => queue.sync().unwrap(),
            }
        }
        let rest = all(&queue);
        let rest: Vec<_> = rest.split(',').filter(|i| !i.is_empty()).collect();
        prop_assert_eq!(rest, Vec::from(model));
        prop_assert_eq!(queue.waiting(), 0);
        prop_assert_eq!(queue.counts().dropped, 0);
    }
}

#[test]
fn kinds_that_take_turns_are_gathered_each_for_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (queue, _) = Queue::open(dir.path(), 1 << 20).unwrap();
    for n in 0..3 {
        put(&queue, &SYSLOG, &[&format!("{{{n}}}")]);
        put(&queue, &HEARTBEAT, &[&format!("[{n}]"), "[]"]);
    }
    let gathered = queue.read_mixed(1 << 20).unwrap().unwrap();
    let parts: Vec<_> = gathered
        .parts
        .iter()
        .map(|(k, i)| (k.clone(), std::str::from_utf8(i).unwrap()))
        .collect();
    assert_eq!(
        parts,
        [(SYSLOG, "{0},{1},{2}"), (HEARTBEAT, "[0],[],[1],[],[2],[]")]
    );
    assert_eq!(gathered.whole.count, 9);
    queue.delivered(&gathered.whole).unwrap();
    assert!(queue.read_mixed(1 << 20).unwrap().is_none());
    assert_eq!(queue.counts().delivered, 9);
    // Not more than asked for, and at least one.
    put(&queue, &SYSLOG, &["{1}"]);
    put(&queue, &HEARTBEAT, &["{2}"]);
    let gathered = queue.read_mixed(4).unwrap().unwrap();
    assert_eq!(gathered.whole.count, 1);
}

#[test]
fn room_is_left_to_those_who_cannot_wait() {
    let dir = tempfile::tempdir().unwrap();
    let (queue, _) = Queue::open(dir.path(), SMALLEST_LIMIT).unwrap();
    assert!(queue.has_room(1 << 20), "an empty one takes anything");
    let item = format!("\"{}\"", "x".repeat(1000));
    let mut put_in = 0;
    while queue.has_room(1100) {
        put(&queue, &SYSLOG, &[&item]);
        put_in += 1;
    }
    assert!(put_in * 1000 < SMALLEST_LIMIT && put_in * 1000 > SMALLEST_LIMIT / 2);
    let counts = queue.counts();
    assert_eq!((counts.appended, counts.dropped), (put_in, 0));
}
