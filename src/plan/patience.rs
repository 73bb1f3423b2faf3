//! Another package manager may hold the database: unattended upgrades do, for a minute after
//! boot. Then its end is waited for, where the original failed (bundle.md 7.2 R36).

use super::{Report, is_interrupted, lock};
use crate::base::command::{CommandError, Outcome};
use crate::host::layout::Layout;
use crate::host::package_locks::{self, Held};
use crate::host::packages;
use std::time::{Duration, Instant};

/// How often a held lock is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Runs a package command when no lock is in its way, and again as long as the database is locked:
/// up to [`lock::patience`] in all. What the tool says about that is shown once. When the time is
/// over, the outcome's only line says who holds the lock.
pub fn patiently(
    report: &mut dyn Report,
    run: impl FnMut(&mut dyn FnMut(&[u8])) -> Result<Outcome, CommandError>,
) -> Result<Outcome, CommandError> {
    let layout = Layout::new("/");
    waiting(
        lock::patience(),
        report,
        &|| package_locks::held(&layout),
        run,
    )
}

fn waiting(
    patience: Duration,
    report: &mut dyn Report,
    held: &dyn Fn() -> Option<Held>,
    mut run: impl FnMut(&mut dyn FnMut(&[u8])) -> Result<Outcome, CommandError>,
) -> Result<Outcome, CommandError> {
    let began = Instant::now();
    let mut told = false;
    loop {
        // rpm waits by itself, without end: it is not even started.
        let mut holder = held();
        let mut outcome = match &holder {
            Some(held) => Outcome {
                code: 2,
                output: held.line(0),
            },
            None => run(&mut |bytes| {
                if !told {
                    report.tool_output(bytes);
                }
            })?,
        };
        if holder.is_none() && !packages::lock_held(&outcome) {
            if told {
                report.tool_output(outcome.output.as_bytes());
            }
            return Ok(outcome);
        }
        if began.elapsed() >= patience || is_interrupted() {
            holder = holder.or_else(held);
            if let Some(holder) = holder {
                outcome.output = holder.line(began.elapsed().as_secs());
            }
            return Ok(outcome);
        }
        if !told {
            let who = holder.as_ref().map_or(String::new(), |h| {
                let program = h.program.as_deref().unwrap_or("unknown program");
                let pid = h.pid.map_or("?".into(), |pid| pid.to_string());
                format!(" ({program}, process {pid})")
            });
            report.line(&format!(
                "Waiting up to {} s for another package manager to finish{who} ...",
                patience.as_secs()
            ));
            told = true;
        }
        std::thread::sleep(LOOK.min(patience));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::package_locks::Tool;
    use crate::plan::testing::Kept;
    use std::cell::Cell;

    #[test]
    fn a_lock_is_waited_for_and_told_once() {
        let mut left = 2;
        let report = &mut Kept::default();
        let outcome = waiting(Duration::from_secs(60), report, &|| None, |output| {
            let locked = "dpkg: error: dpkg frontend lock was locked by another process\n";
            let (code, text) = if left > 0 { (2, locked) } else { (0, "done\n") };
            left -= 1;
            output(text.as_bytes());
            let output = text.to_owned();
            Ok(Outcome { code, output })
        });
        assert!(outcome.unwrap().ok());
        assert_eq!(report.0.len(), 3, "{:?}", report.0);
        assert!(report.0[1].starts_with("Waiting") && report.0[2] == "done\n");
    }

    fn held_by_apt() -> Held {
        Held {
            path: "/var/lib/dpkg/lock".into(),
            tool: Tool::Dpkg,
            pid: Some(42),
            program: Some("apt".into()),
        }
    }

    #[test]
    fn the_tool_is_not_started_while_a_lock_is_held() {
        let looks = Cell::new(0);
        let held = || {
            looks.set(looks.get() + 1);
            (looks.get() < 3).then(held_by_apt)
        };
        let report = &mut Kept::default();
        let mut runs = 0;
        let outcome = waiting(Duration::from_secs(60), report, &held, |_| {
            runs += 1;
            let output = String::new();
            Ok(Outcome { code: 0, output })
        });
        assert!(outcome.unwrap().ok() && runs == 1);
        assert!(report.0[0].contains("(apt, process 42)"), "{:?}", report.0);
    }

    #[test]
    fn the_end_of_patience_names_the_holder() {
        let report = &mut Kept::default();
        let outcome = waiting(Duration::ZERO, report, &|| Some(held_by_apt()), |_| {
            panic!("not to be run")
        });
        let outcome = outcome.unwrap();
        assert!(!outcome.ok());
        let line = outcome.last_line();
        let parts = ["dpkg", "lock", "42 (apt)", "waited 0 s"];
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
}
