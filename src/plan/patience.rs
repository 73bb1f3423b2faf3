//! Another package manager may hold the database: unattended upgrades do, for a minute after
//! boot. Then its end is waited for, where the original failed (bundle.md 7.2 R36).

use crate::base::command::{CommandError, Outcome};
use crate::host::packages;
use crate::plan::{Report, is_interrupted};
use std::time::{Duration, Instant};

/// How long another package manager is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a package command, and again as long as the database is locked. What the tool says about
/// that is shown once.
pub fn patiently(
    report: &mut dyn Report,
    mut run: impl FnMut(&mut dyn FnMut(&[u8])) -> Result<Outcome, CommandError>,
) -> Result<Outcome, CommandError> {
    let deadline = Instant::now() + PATIENCE;
    let mut told = false;
    loop {
        let outcome = run(&mut |bytes| {
            if !told {
                report.tool_output(bytes);
            }
        })?;
        if !packages::lock_held(&outcome) {
            if told {
                report.tool_output(outcome.output.as_bytes());
            }
            return Ok(outcome);
        }
        if Instant::now() >= deadline || is_interrupted() {
            return Ok(outcome);
        }
        if !told {
            report.line(&format!(
                "Waiting up to {} s for another package manager to finish ...",
                PATIENCE.as_secs()
            ));
            told = true;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::Kept;

    #[test]
    fn a_lock_is_waited_for_and_told_once() {
        let mut left = 2;
        let report = &mut Kept::default();
        let outcome = patiently(report, |output| {
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
}
