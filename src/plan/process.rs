//! Which process it was: a number alone is used again, after a while and after a boot.

use serde::{Deserialize, Serialize};

/// A process of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it started, in the kernel's ticks since the boot (proc(5), `stat` field 22).
    pub start: u64,
    /// The boot that it belongs to.
    pub boot: String,
}

impl Process {
    /// This one.
    pub fn own() -> Process {
        Process::of(std::process::id()).unwrap_or(Process {
            pid: std::process::id(),
            start: 0,
            boot: boot(),
        })
    }

    /// The one that has this number now.
    pub fn of(pid: u32) -> Option<Process> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Process {
            pid,
            start: start(&stat)?,
            boot: boot(),
        })
    }

    /// Does it still run? Where /proc does not say, nothing else does.
    pub fn is_alive(&self) -> bool {
        Process::of(self.pid).as_ref() == Some(self)
    }
}

fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// The command's name, the second field, may hold blanks and brackets: counted from its end. One
/// that is dead and not yet waited for is no process any more.
fn start(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let start = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_used_again_is_another_process() {
        let own = Process::own();
        assert!(own.start > 0 && own.is_alive());
        let earlier = Process { start: 1, ..own };
        assert!(!earlier.is_alive());
        let stat = "7 (a ) b) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0";
        assert_eq!(start(stat), Some(4711));
        assert_eq!(start(&stat.replace(" S ", " Z ")), None);
    }

    #[test]
    fn one_that_ended_is_gone() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let process = Process::of(child.id()).unwrap();
        assert!(process.is_alive());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.is_alive());
    }
}
