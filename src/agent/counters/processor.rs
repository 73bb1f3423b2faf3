//! Processor: `/proc/stat` (protocol.md 4.3).

use super::sight::{Probe, Sight};
use super::value::{Instance, Value, percent};
use anyhow::Result;

/// Most processors that are looked at.
pub const LIMIT: usize = 8192;
/// user, nice, system, idle, iowait, irq, softirq: the others do not count, in the whole neither.
const COLUMNS: usize = 7;
/// The name of the line for all, which comes last.
const TOTAL: &str = "_Total";

/// Ticks since the start of the host, by processor.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    processors: Vec<(String, [u64; COLUMNS])>,
}

/// Time of processors between two looks.
#[derive(Debug, Default)]
pub struct Processor {
    before: Option<Sample>,
}

impl Probe for Processor {
    fn look(&mut self, sight: &mut Sight<'_>) -> Result<Vec<Instance>> {
        let now = Sample::parse(&sight.text("/proc/stat")?);
        let found = now.values(self.before.as_ref());
        self.before = Some(now);
        Ok(found)
    }
}

impl Sample {
    /// Reads `/proc/stat`.
    pub fn parse(text: &str) -> Sample {
        let mut processors = Vec::new();
        let mut total = None;
        for line in text.lines() {
            let Some(line) = line.strip_prefix("cpu") else {
                continue;
            };
            let mut fields = line.split(' ');
            let name = fields.next().unwrap_or_default();
            let mut ticks = [0; COLUMNS];
            let numbers = fields.filter(|f| !f.is_empty());
            for (tick, number) in ticks.iter_mut().zip(numbers) {
                *tick = number.parse().unwrap_or(0);
            }
            match name {
                "" => total = Some((TOTAL.to_owned(), ticks)),
                _ if processors.len() < LIMIT => processors.push((name.to_owned(), ticks)),
                _ => {}
            }
        }
        processors.extend(total);
        Sample { processors }
    }

    /// What was done since `before`; all 0 when there is no such sample.
    pub fn values(&self, before: Option<&Sample>) -> Vec<Instance> {
        let instance = |(name, now): &(String, [u64; COLUMNS])| {
            let all = before.map_or(&[][..], |b| &b.processors);
            let then = all.iter().find(|(n, _)| n == name).map_or(now, |(_, t)| t);
            let mut spent = [0; COLUMNS];
            for (spent, (now, then)) in spent.iter_mut().zip(now.iter().zip(then)) {
                // iowait may go backwards.
                *spent = now.saturating_sub(*then);
            }
            let [user, nice, system, idle, iowait, irq, softirq] = spent;
            let busy = user + nice + system + irq + softirq;
            let whole = busy + idle + iowait;
            let parts = [idle, user, nice, system, irq, softirq, busy, iowait];
            Instance {
                name: name.clone(),
                values: parts.map(|p| Value::Number(percent(p, whole))).to_vec(),
            }
        };
        self.processors.iter().map(instance).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(instance: &Instance) -> Vec<u64> {
        let number = |v: &Value| match v {
            Value::Number(n) => *n,
            other => panic!("{other:?}"),
        };
        instance.values.iter().map(number).collect()
    }

    #[test]
    fn shares_of_the_time_between_two_looks() {
        let before = Sample::parse(
            "cpu  100 10 50 1000 20 5 5 900 900 900\ncpu0 60 10 30 500 10 5 5 0 0 0\n\
             cpu1 40 0 20 500 10 0 0 0 0 0\nintr 5 1\nctxt 1\n",
        );
        let now = Sample::parse(
            "cpu  140 20 70 1100 30 10 15 999 999 999\ncpu0 160 10 30 500 9 5 5 0 0 0\n\
             cpu1 40 0 20 500 10 0 0 0 0 0\ncpu2 1 2 3 4 5 6 7\n",
        );
        let found = now.values(Some(&before));
        let names: Vec<_> = found.iter().map(|i| i.name.as_str()).collect();
        assert_eq!(names, ["0", "1", "2", "_Total"]);
        // idle, user, nice, system, irq, softirq, busy, iowait of 195 ticks; steal does not count.
        assert_eq!(numbers(&found[3]), [51, 21, 5, 10, 3, 5, 44, 5]);
        // 1 tick of iowait went backwards.
        assert_eq!(numbers(&found[0]), [0, 100, 0, 0, 0, 0, 100, 0]);
        assert_eq!(numbers(&found[1]), [0; 8], "nothing passed");
        assert_eq!(numbers(&found[2]), [0; 8], "it was not there before");
        assert!(now.values(None).iter().all(|i| numbers(i) == [0; 8]));
    }

    #[test]
    fn what_is_no_such_file() {
        assert_eq!(Sample::parse("").values(None), []);
        assert_eq!(Sample::parse("cpu x y\ncpu").processors.len(), 1);
        let many = |n: usize| {
            let text: String = (0..n).map(|i| format!("cpu{i} 1 2 3\n")).collect();
            Sample::parse(&text).processors.len()
        };
        assert_eq!((many(LIMIT), many(LIMIT + 1)), (LIMIT, LIMIT));
    }
}
