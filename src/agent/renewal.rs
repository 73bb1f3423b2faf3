//! When the client certificate is renewed, and what is said about it (docs/agent.md). How, so that
//! nothing can be lost: [`crate::workspace::renewal`].

use crate::agent::config::Files;
use crate::agent::figures::Service as Figures;
use crate::agent::output::jitter;
use crate::base::ids::{AgentGuid, WorkspaceId};
use crate::wire::identity::ClientIdentity;
use crate::wire::topology::TopologyResponse;
use crate::workspace::renewal::{self, Begin, RENEW_BEFORE, Renewal, Service};
use jiff::{SignedDuration, Timestamp};
use log::{info, warn};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An unsettled renewal is tried again after this, twice as long each time.
const UNSETTLED: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// A service that refused is asked again after this, twice as long each time.
const REFUSED: (Duration, Duration) = (Duration::from_secs(3600), Duration::from_secs(86_400));
/// Hosts that were onboarded at once do not renew at once: one of so many heartbeats' time.
const SPREAD: u32 = 12;
/// With less than this left there is no time for that.
const LAST_DAY: SignedDuration = SignedDuration::from_hours(24);

/// Why a renewal is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// One was begun.
    Begun,
    /// The service asked.
    Asked,
    /// The certificate ends soon.
    Ends,
    /// The service refused; it is asked again.
    Again,
}

/// The renewals of one workspace.
pub struct Renewals {
    /// `None`: the pair is not ours to change.
    certs: Option<PathBuf>,
    due: Option<(Instant, Why)>,
    failures: u32,
    told_fixed: bool,
    figures: Arc<Figures>,
}

impl Renewals {
    /// For the pair of `files`.
    pub fn new(files: &Files, figures: Arc<Figures>) -> Self {
        let certs = files.cert.parent().map(Path::to_owned);
        Renewals {
            certs: certs.filter(|_| !files.handed_over),
            due: None,
            failures: 0,
            told_fixed: false,
            figures,
        }
    }

    /// Completes what a crash cut short. True: there is another pair in place now.
    pub fn recover(&mut self) -> bool {
        let Some(certs) = &self.certs else {
            return false;
        };
        let recovered = renewal::recover(certs).unwrap_or_else(|error| {
            warn!("a renewed certificate cannot be put in place: {error:#}");
            false
        });
        if recovered {
            info!("the renewed certificate is in place, as it was left to be at the last run");
        }
        if renewal::is_begun(certs) && self.due.is_none() {
            self.due = Some((Instant::now(), Why::Begun));
        }
        recovered
    }

    /// When to call [`Renewals::act`].
    pub fn due(&self) -> Option<Instant> {
        self.due.map(|(at, _)| at)
    }

    /// Somebody has mended something: do not wait.
    pub fn hurry(&mut self) {
        if let Some((at, _)) = &mut self.due {
            *at = Instant::now();
        }
    }

    /// The service asks for a new certificate.
    pub fn asked(&mut self) {
        if self.fixed("the service asks for a new certificate") {
            return;
        }
        // What was refused is not tried at each heartbeat.
        if self.due.is_none_or(|(_, why)| why == Why::Ends) {
            self.due = Some((Instant::now(), Why::Asked));
        }
    }

    /// Looks at the end of the certificate.
    pub fn look(&mut self, pair: &ClientIdentity, interval: Duration, now: Timestamp) {
        let Ok(end) = pair.not_after() else {
            return;
        };
        let left = end.duration_since(now);
        if left >= RENEW_BEFORE || self.due.is_some() {
            return;
        }
        let day = end.strftime("%Y-%m-%d").to_string();
        if self.fixed(&format!("the certificate ends on {day}")) {
            return;
        }
        let wait = match left < LAST_DAY {
            true => Duration::ZERO,
            false => interval.saturating_mul(SPREAD).mul_f64(part()),
        };
        info!(
            "the client certificate ends on {day}: asking for a new one in {} s",
            wait.as_secs()
        );
        self.due = Some((Instant::now() + wait, Why::Ends));
    }

    /// Is the pair one that we cannot change? Said once.
    fn fixed(&mut self, why: &str) -> bool {
        if self.certs.is_some() {
            return false;
        }
        if !self.told_fixed {
            self.told_fixed = true;
            let text = "the certificate comes from the service manager (LoadCredential=) and \
                        cannot be renewed here: renew it where it is kept, as root: \
                        `omsagent identity renew WORKSPACE --certs DIR`";
            warn!("{why}; {text}");
            self.figures.renewal(Some(text.to_owned()));
        }
        true
    }

    /// It cannot even be tried.
    pub fn put_off(&mut self, error: &anyhow::Error) {
        self.refused(&format!("{error:#}"));
    }

    /// Renews. When there is a new pair: what the service answered to it, if anything.
    pub fn act(
        &mut self,
        service: &dyn Service,
        (workspace, guid): (&WorkspaceId, &AgentGuid),
    ) -> Option<Option<Box<TopologyResponse>>> {
        let (Some(certs), Some((_, why))) = (self.certs.clone(), self.due) else {
            return None;
        };
        let begin = match why {
            Why::Begun => Begin::Nothing,
            Why::Asked | Why::Ends | Why::Again => Begin::New,
        };
        let make = || ClientIdentity::generate(workspace, guid, Timestamp::now());
        match renewal::renew(&certs, service, begin, make) {
            Ok(outcome) => self.took(outcome),
            Err(error) => {
                self.refused(&format!("{error:#}"));
                None
            }
        }
    }

    fn took(&mut self, outcome: Renewal) -> Option<Option<Box<TopologyResponse>>> {
        match outcome {
            Renewal::Nothing => {
                self.settle();
                None
            }
            Renewal::Done(answer) => {
                self.settle();
                info!("the client certificate was renewed");
                Some(answer)
            }
            Renewal::Busy => {
                self.due = Some((Instant::now() + Duration::from_secs(30), Why::Begun));
                None
            }
            Renewal::Unsettled(reason) => {
                let wait = self.back_off(UNSETTLED, Why::Begun);
                if self.failures == 1 {
                    warn!(
                        "the client certificate is being renewed, and it is open which one the service knows: {reason}; both are kept, next try in {} s",
                        wait.as_secs()
                    );
                }
                self.figures.renewal(Some(format!("not settled: {reason}")));
                None
            }
            Renewal::Refused(reason) => {
                self.refused(&reason);
                None
            }
        }
    }

    fn refused(&mut self, reason: &str) {
        let wait = self.back_off(REFUSED, Why::Again);
        warn!(
            "the client certificate was not renewed: {reason}; the present one stays, next try in {:.1} h",
            wait.as_secs_f64() / 3600.0
        );
        self.figures.renewal(Some(reason.to_owned()));
    }

    fn back_off(&mut self, (first, longest): (Duration, Duration), why: Why) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let wait = jitter(first.saturating_mul(factor).min(longest));
        self.failures = self.failures.saturating_add(1);
        self.due = Some((Instant::now() + wait, why));
        wait
    }

    fn settle(&mut self) {
        self.due = None;
        self.failures = 0;
        self.figures.renewal(None);
    }
}

/// A random number from 0 to 1.
fn part() -> f64 {
    let random = uuid::Uuid::new_v4().as_u128() as u16; // of its random bits
    f64::from(random) / f64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renewals(handed_over: bool) -> (tempfile::TempDir, Renewals) {
        let dir = tempfile::tempdir().unwrap();
        let files = Files {
            omsadmin: dir.path().join("omsadmin.conf"),
            cert: dir.path().join("oms.crt"),
            key: dir.path().join("oms.key"),
            proxy: dir.path().join("proxy.conf"),
            handed_over,
        };
        let renewals = Renewals::new(&files, Arc::default());
        (dir, renewals)
    }

    fn pair(made: Timestamp) -> ClientIdentity {
        let ws = "11111111-2222-3333-4444-555555555555".parse().unwrap();
        ClientIdentity::generate(&ws, &AgentGuid::random(), made).unwrap()
    }

    #[test]
    fn less_than_thirty_days_are_noticed_and_spread() {
        let made: Timestamp = "2031-01-01T00:00:00Z".parse().unwrap();
        let pair = pair(made);
        let days = |n: i64| made + SignedDuration::from_hours(24 * n);
        let interval = Duration::from_secs(1200);
        let wait = |now| {
            let (_dir, mut renewals) = renewals(false);
            renewals.look(&pair, interval, now);
            let due = renewals.due()?;
            Some(due.saturating_duration_since(Instant::now()))
        };
        assert_eq!(wait(days(334)), None);
        let spread: Vec<_> = (0..8).map(|_| wait(days(336)).unwrap()).collect();
        assert!(spread.iter().all(|w| *w <= interval * SPREAD));
        assert!(spread.iter().any(|w| *w != spread[0]), "{spread:?}");
        assert_eq!(wait(days(365)), Some(Duration::ZERO));
        assert_eq!(wait(days(400)), Some(Duration::ZERO));
    }

    #[test]
    fn a_refusal_is_not_answered_by_asking_at_each_heartbeat() {
        let (_dir, mut renewals) = renewals(false);
        renewals.asked();
        assert!(renewals.due().unwrap() <= Instant::now());
        let hours = |r: &Renewals| {
            let wait = r.due().unwrap().saturating_duration_since(Instant::now());
            wait.as_secs_f64() / 3600.0
        };
        for (n, most) in [1.0, 2.0, 4.0, 8.0, 16.0, 24.0, 24.0]
            .into_iter()
            .enumerate()
        {
            assert!(renewals.took(Renewal::Refused("no".into())).is_none());
            let wait = hours(&renewals);
            assert!((0.87 * most..=1.13 * most).contains(&wait), "{n}: {wait}");
            renewals.asked();
            assert_eq!(hours(&renewals).round(), wait.round());
        }
        renewals.hurry();
        assert!(renewals.due().unwrap() <= Instant::now());
        renewals.took(Renewal::Done(None));
        assert_eq!(renewals.due(), None);
    }

    #[test]
    fn a_pair_that_the_service_manager_hands_over_is_left_alone() {
        let (_dir, mut renewals) = renewals(true);
        renewals.asked();
        renewals.look(
            &pair("2001-01-01T00:00:00Z".parse().unwrap()),
            Duration::ZERO,
            Timestamp::now(),
        );
        assert!(renewals.due().is_none() && renewals.told_fixed);
        assert!(!renewals.recover());
    }
}
