//! Memory: `/proc/meminfo` and `/proc/vmstat` (protocol.md 4.4).

use super::sight::{Probe, Sight};
use super::value::{Instance, Value, per_second, percent};
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// KiB in a MiB.
const MIB: u64 = 1024;

/// What there is of it, KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stock {
    /// All.
    pub total: u64,
    /// What programs could have.
    pub available: u64,
    /// Swap.
    pub swap: u64,
    /// Swap that nobody uses.
    pub swap_free: u64,
}

impl Stock {
    /// Reads `/proc/meminfo`; `None` when that says too little.
    pub fn parse(text: &str) -> Option<Stock> {
        let of = |key: &str| -> Option<u64> {
            let line = text.lines().find_map(|l| l.strip_prefix(key))?;
            line.strip_prefix(':')?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        };
        let total = of("MemTotal")?;
        // Kernels before 3.14 leave the sum to us.
        let sum = || {
            let parts = of("MemFree")?.saturating_add(of("Buffers")?);
            Some(parts.saturating_add(of("Cached")?))
        };
        Some(Stock {
            total,
            available: of("MemAvailable").or_else(sum)?.min(total),
            swap: of("SwapTotal").unwrap_or(0),
            swap_free: of("SwapFree").unwrap_or(0),
        })
    }
}

/// KiB that went between memory and block devices since the start of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paging {
    read: u64,
    written: u64,
}

impl Paging {
    /// Reads `/proc/vmstat`.
    pub fn parse(text: &str) -> Option<Paging> {
        let of = |key: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(key))?;
            line.strip_prefix(' ')?.trim().parse().ok()
        };
        Some(Paging {
            read: of("pgpgin")?,
            written: of("pgpgout")?,
        })
    }

    /// Reads the line of `/proc/stat` that kernels without a `/proc/vmstat` have.
    pub fn parse_stat(text: &str) -> Option<Paging> {
        let line = text.lines().find_map(|l| l.strip_prefix("page "))?;
        let mut numbers = line.split_whitespace().map(str::parse);
        Some(Paging {
            read: numbers.next()?.ok()?,
            written: numbers.next()?.ok()?,
        })
    }
}

/// Memory, and paging between two looks.
#[derive(Debug, Default)]
pub struct Memory {
    before: Option<(Instant, Paging)>,
}

impl Probe for Memory {
    fn look(&mut self, sight: &mut Sight<'_>) -> Result<Vec<Instance>> {
        let stock = Stock::parse(&sight.text("/proc/meminfo")?);
        let stock = stock.context("`/proc/meminfo` says nothing of MemTotal or MemAvailable")?;
        let paging = match sight.text("/proc/vmstat") {
            Ok(text) => Paging::parse(&text),
            Err(_) => Paging::parse_stat(&sight.text("/proc/stat")?),
        };
        let since = self.before.map(|(at, then)| (then, sight.now - at));
        let found = values(stock, paging, since);
        self.before = paging.map(|p| (sight.now, p));
        Ok(vec![found])
    }
}

/// The one instance, in the order of 4.9; `since`: paging at an earlier look, and how long ago.
pub fn values(stock: Stock, paging: Option<Paging>, since: Option<(Paging, Duration)>) -> Instance {
    let (total, available) = (stock.total / MIB, stock.available / MIB);
    let used = (stock.total - stock.available) / MIB;
    let swap_used = stock.swap.saturating_sub(stock.swap_free) / MIB;
    let (swap, swap_free) = (stock.swap / MIB, stock.swap_free / MIB);
    let rate = |of: fn(&Paging) -> u64| {
        let now = of(&paging?);
        let (then, elapsed) = match &since {
            Some((then, elapsed)) => (of(then), *elapsed),
            None => (now, Duration::ZERO),
        };
        Some(per_second(now.saturating_sub(then), elapsed))
    };
    let (read, written) = (rate(|p| p.read), rate(|p| p.written));
    let both = read.zip(written).map(|(r, w)| r.saturating_add(w));
    let number = Value::Number;
    Instance {
        name: "Memory".to_owned(),
        values: vec![
            number(available),
            number(percent(available, total)),
            number(used),
            number(percent(used, total)),
            both.into(),
            read.into(),
            written.into(),
            number(swap_free),
            number(percent(swap_free, swap)),
            number(swap_used),
            number(percent(swap_used, swap)),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(instance: &Instance) -> Vec<String> {
        let text = |v: &Value| v.text().unwrap_or_default();
        instance.values.iter().map(text).collect()
    }

    const MEMINFO: &str = "MemTotal:       24684084 kB\nMemFree:        12942632 kB\n\
        MemAvailable:   23895152 kB\nBuffers:          145708 kB\nCached:         10394560 kB\n\
        SwapCached:            0 kB\nSwapTotal:       2097148 kB\nSwapFree:        1048574 kB\n";

    #[test]
    fn mebibytes_are_cut_and_percents_are_of_them() {
        let stock = Stock::parse(MEMINFO).unwrap();
        let before = Paging::parse("pgpgin 1000\npgpgout 5000\n").unwrap();
        let now = Paging::parse("nr_free 1\npgpgin 1599\npgpgout 5060\n").unwrap();
        let found = values(stock, Some(now), Some((before, Duration::from_secs(60))));
        let wanted = [
            "23335", "97", "770", "3", // 788932 KiB are 770.4 MiB
            "10", "9", "1", // 9.98 and 1.0 a second
            "1023", "50", "1023", "50", // of 2047 MiB
        ];
        assert_eq!(texts(&found), wanted);
        let first = values(stock, Some(now), None);
        assert_eq!(texts(&first)[4..7], ["0", "0", "0"]);
        assert_eq!(texts(&values(stock, None, None))[4..7], ["", "", ""]);
    }

    #[test]
    fn older_kernels() {
        let text = "MemTotal: 1048576 kB\nMemFree: 1024 kB\nBuffers: 1024 kB\nCached: 2048 kB\n";
        let stock = Stock::parse(text).unwrap();
        assert_eq!((stock.available, stock.swap), (4096, 0));
        let found = values(stock, Paging::parse_stat("cpu 1\npage 10 20\n"), None);
        assert_eq!(texts(&found)[7..], ["0", "0", "0", "0"], "no swap");
        assert_eq!(Paging::parse_stat("page 10"), None);
        assert_eq!(Paging::parse("pgpgin 1\npgpgoutx 2\n"), None);
        assert_eq!(Stock::parse("MemTotal: 5 kB\nMemFree: 1 kB\n"), None);
        assert_eq!(Stock::parse(""), None);
    }
}
