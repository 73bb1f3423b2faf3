//! Process: `/proc/PID/stat` and `/proc/PID/statm` (protocol.md 4.8).

use super::sight::{Probe, Sight};
use super::value::{Instance, Value, share};
use anyhow::Result;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Most processes that are told of.
pub const LIMIT: usize = 16_384;
/// Most bytes of a `/proc/PID/stat` that are looked at; it has some 52 numbers.
const STAT: usize = 2048;
/// Its place among the counters: the only one that needs a second file.
const SHARED: usize = 0;

/// What a process has used at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Its number.
    pid: u32,
    /// When it began: the number may be another one's by now.
    begun: u64,
    /// Ticks.
    user: u64,
    /// Ticks.
    system: u64,
}

/// `/proc/PID/stat` of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// As items call it.
    pub name: String,
    used: Used,
    /// Resident pages.
    resident: u64,
    /// It has no memory of its own: a thread of the kernel, or a zombie.
    bare: bool,
}

impl Stat {
    /// Reads it; `None` when it is cut or something else.
    pub fn parse(pid: u32, bytes: &[u8]) -> Option<Stat> {
        // The name may have brackets and blanks in it; what comes after has none.
        let open = bytes.iter().position(|b| *b == b'(')?;
        let close = bytes.iter().rposition(|b| *b == b')')?;
        let name = String::from_utf8_lossy(bytes.get(open + 1..close)?);
        let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?; // field 3
        let mut field = |skipped: usize| fields.nth(skipped)?.parse::<u64>().ok();
        let (user, system) = (field(10)?, field(0)?); // 14, 15
        let begun = field(6)?; // 22
        let bare = field(0) == Some(0); // 23
        let resident = field(0).unwrap_or(0); // 24
        let name = match state {
            "Z" => format!("[{name}] <defunct>"),
            _ => name.into_owned(),
        };
        Some(Stat {
            name,
            used: Used {
                pid,
                begun,
                user,
                system,
            },
            resident,
            bare,
        })
    }
}

/// How the kernel counts.
#[derive(Debug, Clone, Copy)]
pub struct Units {
    /// Ticks in a second.
    pub ticks: u64,
    /// Bytes in a page.
    pub page: u64,
}

impl Units {
    /// Of this kernel.
    pub fn here() -> Units {
        Units {
            ticks: rustix::param::clock_ticks_per_second().max(1),
            page: rustix::param::page_size() as u64,
        }
    }

    /// In the order of 4.9; `since`: an earlier look at the same process, and how long ago.
    pub fn values(
        self,
        stat: Stat,
        shared: Option<u64>,
        since: Option<(Used, Duration)>,
    ) -> Instance {
        let percent = |of: fn(&Used) -> u64| {
            let (then, elapsed) = since.unwrap_or((stat.used, Duration::ZERO));
            let ticks = of(&stat.used).saturating_sub(of(&then));
            let whole = u128::from(self.ticks) * elapsed.as_nanos();
            Value::Number(share(u128::from(ticks) * 1_000_000_000, whole))
        };
        let kib = |pages: u64| pages.saturating_mul(self.page) / 1024;
        Instance {
            values: vec![
                shared.map(kib).into(),
                percent(|u| u.user),
                percent(|u| u.system),
                Value::Number(kib(stat.resident)),
            ],
            name: stat.name,
        }
    }
}

/// All processes, and what they used between two looks.
#[derive(Debug)]
pub struct Processes {
    units: Units,
    /// By number.
    before: Vec<Used>,
    at: Option<Instant>,
}

impl Processes {
    /// None was seen yet.
    pub fn new(units: Units) -> Processes {
        Processes {
            units,
            before: Vec::new(),
            at: None,
        }
    }
}

impl Probe for Processes {
    fn look(&mut self, sight: &mut Sight<'_>) -> Result<Vec<Instance>> {
        let mut pids: Vec<u32> = Vec::with_capacity(self.before.len());
        for pid in sight.processes()?.take(LIMIT) {
            // The kernel tells them in order; nothing has to move.
            pids.insert(pids.partition_point(|p| *p < pid), pid);
        }
        let elapsed = self.at.map(|at| sight.now - at);
        let (mut found, mut used) = (
            Vec::with_capacity(pids.len()),
            Vec::with_capacity(pids.len()),
        );
        let (folder, mut buffer, mut file) = (sight.folder("/proc")?, [0; STAT], String::new());
        for pid in pids {
            file.clear();
            let _ = write!(file, "{pid}/stat");
            // It may have ended since.
            let stat = folder.small(&file, &mut buffer);
            let Some(stat) = stat.and_then(|bytes| Stat::parse(pid, bytes)) else {
                continue;
            };
            file.push('m');
            let shared = match (sight.wants(SHARED), stat.bare) {
                (true, true) => Some(0),
                (true, false) => folder.small(&file, &mut buffer).and_then(third),
                (false, _) => None,
            };
            let then = self.before.binary_search_by_key(&pid, |u| u.pid);
            let then = then.ok().map(|n| self.before[n]);
            let then = then.filter(|u| u.begun == stat.used.begun);
            used.push(stat.used);
            found.push(self.units.values(stat, shared, then.zip(elapsed)));
        }
        (self.before, self.at) = (used, Some(sight.now));
        Ok(found)
    }
}

/// The third number of a `/proc/PID/statm`: shared pages.
fn third(statm: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(statm).ok()?;
    text.split(' ').nth(2)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::sight::tests::Scene;
    use super::*;

    const UNITS: Units = Units {
        ticks: 100,
        page: 4096,
    };

    fn stat(name: &str, state: &str, (user, system): (u64, u64), begun: u64) -> String {
        format!(
            "812 ({name}) {state} 1 812 812 0 -1 4194560 2113 0 5 0 {user} {system} 0 0 20 0 1 0 {begun} 15994880 1761 18446744073709551615 1 1 0"
        )
    }

    fn texts(instance: &Instance) -> Vec<String> {
        let text = |v: &Value| v.text().unwrap_or_default();
        instance.values.iter().map(text).collect()
    }

    #[test]
    fn names_with_brackets_and_those_of_the_dead() {
        let name = |text: &str| Stat::parse(1, text.as_bytes()).map(|s| s.name);
        assert_eq!(name(&stat("sshd", "S", (1, 2), 3)).unwrap(), "sshd");
        assert_eq!(
            name(&stat("a) R (b c", "S", (1, 2), 3)).unwrap(),
            "a) R (b c"
        );
        assert_eq!(name(&stat("sh", "Z", (1, 2), 3)).unwrap(), "[sh] <defunct>");
        for bad in [
            "",
            "1 (x",
            "1 (x) S",
            ") (",
            "1 (x) S 1 2 3 4 5 6 7 8 9 10 a b",
        ] {
            assert_eq!(name(bad), None, "{bad}");
        }
        let raw = Stat::parse(
            1,
            &[
                b"1 (\xff) " as &[u8],
                &stat("", "S", (1, 2), 3).as_bytes()[7..],
            ]
            .concat(),
        );
        assert_eq!(raw.unwrap().name, "\u{fffd}");
    }

    #[test]
    fn shares_of_one_processor_rounded_and_capped() {
        let of = |user, system| Stat::parse(812, stat("x", "R", (user, system), 5).as_bytes());
        let then = of(100, 50).unwrap().used;
        let since = |seconds| Some((then, Duration::from_secs(seconds)));
        // 250 and 25 ticks in 10 s: 25 % and 2.5 %.
        let found = UNITS.values(of(350, 75).unwrap(), Some(300), since(10));
        assert_eq!(texts(&found), ["1200", "25", "3", "7044"]);
        let found = UNITS.values(of(5000, 50).unwrap(), None, since(10));
        assert_eq!(
            texts(&found),
            ["", "100", "0", "7044"],
            "on many processors at once"
        );
        let found = UNITS.values(of(5000, 50).unwrap(), Some(0), None);
        assert_eq!(
            texts(&found),
            ["0", "0", "0", "7044"],
            "seen for the first time"
        );
    }

    #[test]
    fn every_process_is_an_instance_and_numbers_are_used_again() {
        let scene = Scene::new();
        let put = |pid: u32, text: String| {
            scene.write(&format!("/proc/{pid}/stat"), text);
            scene.write(
                &format!("/proc/{pid}/statm"),
                "3905 1761 1200 300 0 500 0\n",
            );
        };
        put(9, stat("a", "S", (0, 0), 1));
        put(10, stat("a", "S", (0, 0), 2));
        put(200, stat("b", "S", (0, 0), 3));
        scene.folder("/proc/300"); // it has just ended
        scene.folder("/proc/net");
        let mut all = Processes::new(UNITS);
        let names =
            |found: &[Instance]| -> Vec<String> { found.iter().map(|i| i.name.clone()).collect() };
        let first = scene.look_at(&mut all, Duration::ZERO).unwrap();
        assert_eq!(names(&first), ["a", "a", "b"]);
        assert_eq!(texts(&first[0]), ["4800", "0", "0", "7044"]);
        put(10, stat("a", "S", (500, 100), 2));
        put(200, stat("c", "S", (500, 100), 99)); // another process by now
        let second = scene.look_at(&mut all, Duration::from_secs(10)).unwrap();
        assert_eq!(texts(&second[0])[1..3], ["0", "0"]);
        assert_eq!(texts(&second[1])[1..3], ["50", "10"]);
        assert_eq!(
            (names(&second)[2].as_str(), &texts(&second[2])[1..3]),
            ("c", &["0".to_owned(), "0".to_owned()][..])
        );
    }

    #[test]
    fn the_second_file_is_read_only_when_there_is_something_in_it_that_is_asked_for() {
        let scene = Scene::new();
        scene.write("/proc/9/stat", stat("a", "S", (0, 0), 1));
        scene.write("/proc/9/statm", "3905 1761 1200 300 0 500 0\n");
        let kernels = stat("k", "I", (0, 0), 1).replace(" 15994880 1761 ", " 0 0 ");
        scene.write("/proc/8/stat", kernels);
        let found = scene.look(&mut Processes::new(UNITS)).unwrap();
        assert_eq!(texts(&found[0]), ["0", "0", "0", "0"]);
        assert_eq!(texts(&found[1]), ["4800", "0", "0", "7044"]);
        let mut all = Processes::new(UNITS);
        let found = scene
            .look_for(&mut all, &[false, true, true, true])
            .unwrap();
        assert_eq!(found[0].values[SHARED], Value::Missing);
    }
}
