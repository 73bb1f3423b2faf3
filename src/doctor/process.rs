//! One process as /proc shows it to anybody: age, memory, processor time (proc(5)).

use std::path::Path;
use std::time::Duration;

/// What a process uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Time since it began.
    pub age: Duration,
    /// Resident memory.
    pub rss_kib: u64,
    /// Processor time, user and system.
    pub cpu: Duration,
    /// `T` and `t` are stopped.
    pub state: char,
    /// Who runs it.
    pub uid: u32,
}

/// Looks at it; `None` when there is none.
pub fn look(pid: u32) -> Option<Process> {
    use std::os::unix::fs::MetadataExt;
    let dir = format!("/proc/{pid}");
    let stat = std::fs::read_to_string(format!("{dir}/stat")).ok()?;
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
    let ticks = ticks.ok().flatten().unwrap_or(100).max(1) as f64;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    let page = page.ok().flatten().unwrap_or(4096).max(1024) as u64;
    let uid = std::fs::metadata(&dir).ok()?.uid();
    parse(pid, uid, &stat, uptime, ticks, page)
}

fn parse(pid: u32, uid: u32, stat: &str, uptime: f64, ticks: f64, page: u64) -> Option<Process> {
    // The name, in brackets, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let number = |i: usize| fields.get(i)?.parse::<u64>().ok();
    let seconds = |n: u64| Duration::from_secs_f64(n as f64 / ticks);
    let begun = number(19)? as f64 / ticks;
    Some(Process {
        pid,
        uid,
        state: fields.first()?.chars().next()?,
        age: Duration::try_from_secs_f64(uptime - begun).unwrap_or_default(),
        rss_kib: number(21)? * (page / 1024),
        cpu: seconds(number(11)?.checked_add(number(12)?)?),
    })
}

/// The name a process goes by; `?` when it is gone.
pub fn name(pid: u32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| !c.is_control()).collect();
    if name.is_empty() { "?".into() } else { name }
}

/// The agent that runs with this configuration file, where no service manager can be asked.
pub fn agent_of(config: &Path) -> Option<u32> {
    let wanted = config.as_os_str().as_encoded_bytes();
    let mut pids = std::fs::read_dir("/proc").ok()?.filter_map(|entry| {
        let entry = entry.ok()?;
        entry.file_name().to_str()?.parse::<u32>().ok()
    });
    pids.find(|pid| {
        std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| is_agent(&line, wanted))
    })
}

fn is_agent(cmdline: &[u8], config: &[u8]) -> bool {
    let mut words = cmdline.split(|b| *b == 0);
    let program = words.next().unwrap_or_default();
    let program = program.rsplit(|b| *b == b'/').next().unwrap_or_default();
    let mut words = words.peekable();
    let runs = words.next_if(|w| *w == b"run").is_some() || program.starts_with(b"omsagent-");
    program.starts_with(b"omsagent") && runs && words.any(|word| word == config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 4 0 500 9000000 \
                    1024 18446744073709551615";
        let seen = parse(7, 3, stat, 25.0, 100.0, 4096).unwrap();
        assert_eq!(seen.age, Duration::from_secs(20));
        assert_eq!(seen.cpu, Duration::from_secs(2));
        assert_eq!((seen.rss_kib, seen.state, seen.uid), (4096, 'S', 3));
        assert!(parse(7, 3, "7 (x", 1.0, 100.0, 4096).is_none());
        assert!(look(std::process::id()).unwrap().rss_kib > 100);
        assert!(look(u32::MAX).is_none());
    }

    #[test]
    fn an_agent_is_known_by_its_words() {
        let line = |words: &[&str]| words.join("\0").into_bytes();
        for (words, wanted) in [
            (
                &["/opt/omsagent", "run", "-c", "/e/omsagent.conf"][..],
                true,
            ),
            (
                &["/opt/omsagent-1", "-d", "x", "-c", "/e/omsagent.conf"],
                true,
            ),
            (
                &["/opt/omsagent", "config", "-c", "/e/omsagent.conf"],
                false,
            ),
            (&["vi", "/e/omsagent.conf"], false),
            (&["/opt/omsagent", "run", "-c", "/e/other.conf"], false),
        ] {
            let is = is_agent(&line(words), b"/e/omsagent.conf");
            assert_eq!(is, wanted, "{words:?}");
        }
    }
}
