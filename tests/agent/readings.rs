//! Counters beside what df, free, ps, who and other files of the kernel say of the same moment, on a
//! host that works: a value must lie between a reading before and a reading after it.

mod disks;

use omsagent::agent::counters::names::{CLASSES, Object};
use omsagent::agent::counters::probe;
use omsagent::agent::counters::sight::{Probe, Sight};
use omsagent::agent::counters::space::Spaces;
use omsagent::agent::counters::value::Instance;
use omsagent::host::layout::Layout;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Between the two looks that rates are of.
const WINDOW: Duration = Duration::from_secs(2);

fn output(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).env("LC_ALL", "C").output();
    let out = out.unwrap_or_else(|e| panic!("{program} is needed here: {e}"));
    String::from_utf8(out.stdout).unwrap()
}

fn number_in(path: impl AsRef<Path>) -> f64 {
    let text = std::fs::read_to_string(path).unwrap();
    text.trim().parse().unwrap()
}

/// What is between two readings.
#[derive(Debug, Clone, Copy)]
struct Span(f64, f64);

impl Span {
    fn of(a: f64, b: f64) -> Span {
        Span(a.min(b), a.max(b))
    }

    fn wider(self, by: f64) -> Span {
        Span(self.0 - by, self.1 + by)
    }

    fn plus(self, other: Span) -> Span {
        Span(self.0 + other.0, self.1 + other.1)
    }

    fn times(self, by: f64) -> Span {
        Span(self.0 * by, self.1 * by)
    }

    /// All that a fraction can be. Of 0 it is 0.
    fn over(self, whole: Span) -> Span {
        let high = if whole.0 > 0.0 {
            self.1 / whole.0
        } else {
            f64::INFINITY
        };
        let low = if whole.1 > 0.0 { self.0 / whole.1 } else { 0.0 };
        Span(if whole.0 > 0.0 { low } else { 0.0 }, high)
    }
}

/// Something that only grows, read around two looks.
#[derive(Debug, Clone, Copy, Default)]
struct Four([f64; 4]);

impl Four {
    /// What it can have grown by between the looks.
    fn grown(self) -> Span {
        let [a, b, c, d] = self.0;
        Span(c - b, d - a)
    }
}

type Reading = BTreeMap<String, f64>;

struct Looks {
    found: Vec<Instance>,
    /// By name of what was read.
    read: BTreeMap<String, Four>,
    elapsed: Span,
}

/// Two looks, and `other` around each of them.
fn looks(object: Object, other: impl Fn() -> Reading) -> Looks {
    let layout = Layout::new("/");
    let mut probe = probe(object, &layout);
    let mut spaces = Spaces::default();
    let mut read: BTreeMap<String, Four> = BTreeMap::new();
    let mut times = Four::default();
    let begun = Instant::now();
    let mut found = Vec::new();
    for n in 0..2 {
        let mut note = |place: usize| {
            times.0[place] = begun.elapsed().as_secs_f64();
            for (key, value) in other() {
                read.entry(key).or_default().0[place] = value;
            }
        };
        note(2 * n);
        found = one(&mut *probe, &layout, &mut spaces);
        note(2 * n + 1);
        if n == 0 {
            std::thread::sleep(WINDOW);
        }
    }
    // The clock was read before the others: what they say can be of a little later.
    let elapsed = Span(times.0[2] - times.0[1], begun.elapsed().as_secs_f64());
    Looks {
        found,
        read,
        elapsed,
    }
}

fn one(probe: &mut dyn Probe, layout: &Layout, spaces: &mut Spaces) -> Vec<Instance> {
    let mut sight = Sight {
        layout,
        now: Instant::now(),
        spaces,
        wanted: &[],
    };
    probe.look(&mut sight).unwrap()
}

fn value(object: Object, instance: &Instance, counter: &str) -> f64 {
    let class = CLASSES.iter().find(|c| c.object == object).unwrap();
    let at = class.counters.iter().position(|c| c.name == counter);
    let value = instance.values[at.unwrap_or_else(|| panic!("{counter}"))];
    let text = value
        .text()
        .unwrap_or_else(|| panic!("{} {counter} is missing", instance.name));
    text.parse().unwrap()
}

fn check(object: Object, instance: &Instance, counter: &str, span: Span) {
    let is = value(object, instance, counter);
    println!(
        "{object:?} `{}` {counter}: {is}, read {:.6} to {:.6}",
        instance.name, span.0, span.1
    );
    assert!(
        span.0 <= is && is <= span.1,
        "{object:?} `{}` {counter} is {is}, not within {span:?}",
        instance.name
    );
}

fn named<'i>(found: &'i [Instance], name: &str) -> &'i Instance {
    let all: Vec<_> = found.iter().map(|i| i.name.as_str()).collect();
    let found = found.iter().find(|i| i.name == name);
    found.unwrap_or_else(|| panic!("no `{name}` in {all:?}"))
}

/// Something to measure: processors and a disk at work.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
    burner: Child,
    dir: tempfile::TempDir,
}

const BURNER: &str = "oms-burner";

impl Load {
    fn start() -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let file = dir.path().join("written");
        let ends = Arc::clone(&stop);
        let writes = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                let mut file = std::fs::File::create(&file).unwrap();
                file.write_all(&[7; 1 << 20]).unwrap();
                file.sync_all().unwrap();
            }
        });
        let ends = Arc::clone(&stop);
        let burns = std::thread::spawn(move || while !ends.load(Ordering::Relaxed) {});
        let script = dir.path().join(BURNER);
        std::fs::write(&script, "#!/bin/sh\nwhile :; do :; done\n").unwrap();
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
        Load {
            stop,
            threads: vec![writes, burns],
            burner: Command::new(&script).spawn().unwrap(),
            dir,
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.burner.kill();
        let _ = self.burner.wait();
        self.threads.drain(..).for_each(|t| t.join().unwrap());
        assert!(self.dir.path().exists());
    }
}

/// Columns of a line of figures, by number.
fn columns(key: &str, text: &str, into: &mut Reading) {
    for (n, field) in text.split_whitespace().enumerate() {
        into.insert(format!("{key}.{n}"), field.parse().unwrap_or(0.0));
    }
}

#[test]
fn processor_beside_the_kernels_ticks() {
    let _load = Load::start();
    let ticks = || {
        let mut read = Reading::new();
        for line in std::fs::read_to_string("/proc/stat").unwrap().lines() {
            if let Some((name, rest)) = line.split_once(' ').filter(|l| l.0.starts_with("cpu")) {
                columns(name, rest, &mut read);
            }
        }
        read
    };
    let looks = looks(Object::Processor, ticks);
    let lines = looks
        .read
        .keys()
        .filter(|k| k.starts_with("cpu") && k.ends_with(".0"));
    assert_eq!(looks.found.len(), lines.count());
    for instance in &looks.found {
        let name = match instance.name.as_str() {
            "_Total" => "cpu".to_owned(),
            number => format!("cpu{number}"),
        };
        let column = |n: usize| looks.read[&format!("{name}.{n}")].grown();
        let sum = |all: &[usize]| all.iter().map(|n| column(*n)).reduce(Span::plus).unwrap();
        let whole = sum(&[0, 1, 2, 3, 4, 5, 6]);
        for (counter, parts) in [
            ("% User Time", &[0][..]),
            ("% Nice Time", &[1]),
            ("% Privileged Time", &[2]),
            ("% Idle Time", &[3]),
            ("% IO Wait Time", &[4]),
            ("% Interrupt Time", &[5]),
            ("% DPC Time", &[6]),
            ("% Processor Time", &[0, 1, 2, 5, 6]),
        ] {
            // Half a percent by rounding; idle and iowait may be corrected backwards by a tick.
            let share = sum(parts).wider(1.0).over(whole).times(100.0).wider(0.5);
            check(Object::Processor, instance, counter, share);
        }
    }
}

#[test]
fn memory_and_system_beside_free_who_and_ps() {
    let _load = Load::start();
    let read = || {
        let mut read = Reading::new();
        for line in output("free", &["-k"]).lines().skip(1) {
            let (name, rest) = line.split_once(':').unwrap();
            columns(name, rest, &mut read);
        }
        for line in std::fs::read_to_string("/proc/vmstat").unwrap().lines() {
            let (name, rest) = line.split_once(' ').unwrap();
            columns(name, rest, &mut read);
        }
        read
    };
    let looks = looks(Object::Memory, read);
    let memory = &looks.found[0];
    assert_eq!((looks.found.len(), memory.name.as_str()), (1, "Memory"));
    // What others do meanwhile.
    let slack = 64.0;
    let mib = |key: &str| {
        let [_, _, a, b] = looks.read[key].0;
        Span::of(a, b).times(1.0 / 1024.0)
    };
    let (total, available) = (mib("Mem.0"), mib("Mem.5").wider(slack));
    let used = Span(total.0 - available.1, total.1 - available.0);
    let check_memory = |counter: &str, span: Span| check(Object::Memory, memory, counter, span);
    check_memory("Available MBytes Memory", available.wider(1.0));
    check_memory("Used Memory MBytes", used.wider(1.0));
    let share = |part: Span| part.over(total).times(100.0).wider(1.0);
    check_memory("% Available Memory", share(available));
    check_memory("% Used Memory", share(used));
    let (swap, swap_used, swap_free) = (mib("Swap.0"), mib("Swap.1"), mib("Swap.2"));
    check_memory("Available MBytes Swap", swap_free.wider(1.0));
    check_memory("Used MBytes Swap Space", swap_used.wider(1.0));
    if swap.1 == 0.0 {
        check_memory("% Used Swap Space", Span(0.0, 0.0));
        check_memory("% Available Swap Space", Span(0.0, 0.0));
    }
    let rate = |key: &str| looks.read[key].grown().over(looks.elapsed);
    let (read, written) = (rate("pgpgin.0"), rate("pgpgout.0"));
    check_memory("Page Reads/sec", read.wider(1.0));
    check_memory("Page Writes/sec", written.wider(1.0));
    check_memory("Pages/sec", read.plus(written).wider(2.0));

    let layout = Layout::new("/");
    let boot = || {
        let at = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap();
        at.tv_sec() as f64
    };
    let count = |text: String| text.lines().count() as f64;
    let others = || {
        let processes = count(output("ps", &["-e", "--no-headers"]));
        (boot(), processes, count(output("who", &[])))
    };
    let before = others();
    let found = one(
        &mut *probe(Object::System, &layout),
        &layout,
        &mut Spaces::default(),
    );
    let after = others();
    let check_system = |counter: &str, span: Span| check(Object::System, &found[0], counter, span);
    check_system("Uptime", Span(before.0, after.0).wider(1.0));
    // The machine works: some come and go.
    check_system("Processes", Span::of(before.1, after.1).wider(25.0));
    check_system("Users", Span::of(before.2, after.2));
    check_system(
        "Free Physical Memory",
        available.times(1024.0).wider(slack * 1024.0),
    );
    check_system("Size Stored In Paging Files", swap.times(1024.0));
    check_system("Free Space in Paging Files", swap_free.times(1024.0));
    let both = available
        .plus(swap_free)
        .times(1024.0)
        .wider(slack * 1024.0);
    check_system("Free Virtual Memory", both);
}

#[test]
fn network_beside_the_interfaces_own_files() {
    let statistics = || {
        let mut read = Reading::new();
        for entry in std::fs::read_dir("/sys/class/net").unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            for entry in std::fs::read_dir(entry.path().join("statistics"))
                .into_iter()
                .flatten()
            {
                let entry = entry.unwrap();
                let key = format!("{name}/{}", entry.file_name().to_str().unwrap());
                read.insert(key, number_in(entry.path()));
            }
        }
        read
    };
    let looks = looks(Object::Network, statistics);
    use nix::net::if_::InterfaceFlags as Flags;
    let mut running: Vec<String> = nix::ifaddrs::getifaddrs()
        .unwrap()
        .filter(|i| i.flags.contains(Flags::IFF_UP | Flags::IFF_RUNNING))
        .filter(|i| !i.flags.contains(Flags::IFF_LOOPBACK))
        .map(|i| i.interface_name)
        .collect();
    running.sort();
    running.dedup();
    let mut names: Vec<_> = looks.found.iter().map(|i| i.name.clone()).collect();
    names.sort();
    assert_eq!(names, running);
    for instance in &looks.found {
        let span = |key: &str| {
            let [_, _, a, b] = looks.read[&format!("{}/{key}", instance.name)].0;
            Span(a, b)
        };
        let (sent, received) = (span("tx_bytes"), span("rx_bytes"));
        for (counter, span) in [
            ("Total Bytes Transmitted", sent),
            ("Total Bytes Received", received),
            ("Total Bytes", sent.plus(received)),
            ("Total Packets Transmitted", span("tx_packets")),
            ("Total Packets Received", span("rx_packets")),
            ("Total Rx Errors", span("rx_errors")),
            ("Total Tx Errors", span("tx_errors")),
            ("Total Collisions", span("collisions")),
        ] {
            check(Object::Network, instance, counter, span);
        }
    }
}

#[test]
fn processes_beside_ps_and_their_own_files() {
    let load = Load::start();
    let pid = load.burner.id();
    let read = || {
        let mut read = Reading::new();
        let ps = output("ps", &["-o", "rss=", "-p", &pid.to_string()]);
        columns("rss", &ps, &mut read);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        for key in ["RssFile", "RssShmem"] {
            let line = status
                .lines()
                .find_map(|l| l.strip_prefix(&format!("{key}:")));
            columns(key, line.unwrap(), &mut read);
        }
        let on_cpu = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
        columns("cpu", &on_cpu, &mut read);
        columns(
            "all",
            &output("ps", &["-e", "--no-headers"])
                .lines()
                .count()
                .to_string(),
            &mut read,
        );
        read
    };
    let looks = looks(Object::Process, read);
    let burners: Vec<_> = looks.found.iter().filter(|i| i.name == BURNER).collect();
    // Other tests of this file may burn, too: ours is the one whose figures fit.
    assert!(!burners.is_empty());
    let late = |key: &str| {
        let [_, _, a, b] = looks.read[key].0;
        Span::of(a, b)
    };
    // The kernel counts pages in batches.
    let used = late("rss.0").wider(512.0);
    let shared = late("RssFile.0").plus(late("RssShmem.0")).wider(512.0);
    let cpu = looks.read["cpu.0"].grown().times(1e-9).over(looks.elapsed);
    // Half a percent of rounding and a tick of 10 ms, for user and system time each.
    let ticks = 100.0 * 0.01 / WINDOW.as_secs_f64();
    let cpu = cpu.times(100.0).wider(2.0 * (0.5 + ticks));
    let of = |i: &Instance, counter: &str| value(Object::Process, i, counter);
    let within = |span: Span, is: f64| span.0 <= is && is <= span.1;
    let fits = burners.iter().any(|i| {
        let busy = of(i, "Pct User Time") + of(i, "Pct Privileged Time");
        println!(
            "`{}`: {busy} % of {cpu:?}, {} KiB of {used:?}, {} KiB shared of {shared:?}",
            i.name,
            of(i, "Used Memory"),
            of(i, "Virtual Shared Memory")
        );
        within(cpu, busy)
            && within(used, of(i, "Used Memory"))
            && within(shared, of(i, "Virtual Shared Memory"))
    });
    assert!(fits);
    let all = late("all.0").wider(25.0);
    let count = looks.found.len() as f64;
    assert!(within(all, count), "{count} processes, ps says {all:?}");
}
