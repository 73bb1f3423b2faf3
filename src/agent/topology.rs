//! The topology heartbeat (protocol.md 2.1): every 20 minutes, or as often as the service says,
//! the service learns about this host and we learn its news.

use crate::agent::config::Topology;
use crate::agent::figures::Service;
use crate::agent::link::{self, Common};
use crate::agent::output::Control;
use crate::agent::renewal::Renewals;
use crate::agent::usage::Usage;
use crate::base::ids::{AgentGuid, WorkspaceId};
use crate::host::layout::Layout;
use crate::settings::omsadmin::OmsAdmin;
use crate::wire::date::Clock;
use crate::wire::topology::TopologyResponse;
use crate::workspace::exchange::{HeartbeatRequest, heartbeat, renewal_url};
use crate::workspace::renewal::Online;
use anyhow::{Context, Result};
use jiff::Timestamp;
use log::{debug, info, warn};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Intervals that are adopted: 1 minute to 7 days.
const INTERVALS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(604_800);

/// Sends topology heartbeats until told to stop, and renews the client certificate when the service
/// asks for that or its end is near.
pub struct TopologyHeartbeat {
    config: Topology,
    common: Common,
    layout: Layout,
    control: Arc<Control>,
    service: Arc<Service>,
    used: Usage,
    interval: Duration,
    generation: u32,
    renewals: Renewals,
    renewed: Box<dyn Fn() + Send>,
}

impl TopologyHeartbeat {
    /// The first one goes out one interval after the start, as the original's does. `renewed` is
    /// called when there is another pair: everybody has to present that one.
    pub fn new(
        config: Topology,
        common: Common,
        layout: Layout,
        control: Arc<Control>,
        service: Arc<Service>,
        renewed: Box<dyn Fn() + Send>,
    ) -> Self {
        TopologyHeartbeat {
            renewals: Renewals::new(&config.files, Arc::clone(&service)),
            service,
            generation: control.generation(),
            interval: config.interval.max(Duration::from_millis(100)),
            config,
            common,
            layout,
            control,
            used: Usage::now(),
            renewed,
        }
    }

    /// Ends when [`Control::stop`] was called and the thread is unparked.
    pub fn run(mut self) {
        let mut due = Instant::now() + self.interval;
        self.recover();
        self.look();
        loop {
            let next = self.renewals.due().map_or(due, |renewal| renewal.min(due));
            if let Some(left) = next.checked_duration_since(Instant::now()) {
                std::thread::park_timeout(left);
            }
            if self.control.stopping() {
                return;
            }
            let now = self.control.generation();
            if std::mem::replace(&mut self.generation, now) != now {
                self.renewals.hurry();
            }
            if self.renewals.due().is_some_and(|at| at <= Instant::now()) {
                self.renew();
                // Our own word to the others is none to us.
                self.generation = self.control.generation();
            }
            if due <= Instant::now() {
                self.beat();
                due = Instant::now() + self.interval;
            }
        }
    }

    fn beat(&mut self) {
        match self.send() {
            Ok(answer) => {
                self.took(&answer);
                if answer.update_certificate {
                    self.renewals.asked();
                }
            }
            Err(error) => {
                self.service.topology(Err(format!("{error:#}")));
                warn!("topology heartbeat: {error:#}");
            }
        }
        self.recover();
        self.look();
    }

    fn took(&mut self, answer: &TopologyResponse) {
        self.service.topology(Ok(()));
        if let Some(next) = answer.query_interval.filter(|i| INTERVALS.contains(i)) {
            if next != self.interval {
                info!("topology heartbeats each {} s from now on", next.as_secs());
            }
            self.interval = next;
        }
        if let Some(next) = answer.telemetry_interval {
            self.control.telemetry_each(next);
        }
    }

    fn recover(&mut self) {
        if self.renewals.recover() {
            (self.renewed)();
        }
    }

    fn look(&mut self) {
        if let Ok(Some(pair)) = link::identity(&self.config.files) {
            self.renewals.look(&pair, self.interval, Timestamp::now());
        }
    }

    fn send(&mut self) -> Result<TopologyResponse> {
        let files = &self.config.files;
        let (admin, workspace, guid) = who(&files.omsadmin)?;
        let identity = link::identity(files)?.context("the client certificate is missing")?;
        let client = link::client(files, &self.common, identity.clone())?;
        let now = Usage::now();
        let request = HeartbeatRequest {
            workspace: &workspace,
            tld: &admin.url_tld,
            guid: &guid,
            identity: &identity,
            layout: &self.layout,
            telemetry: now.since(&self.used),
            clock: &Clock::System,
        };
        let answer = heartbeat(&client, &request)?;
        self.used = now;
        debug!("topology heartbeat answered");
        if let Err(error) = keep(&files.omsadmin, admin, &answer) {
            // The unit may allow us to read only there; the next onboarding writes them too.
            debug!("new endpoints are not kept: {error:#}");
        }
        Ok(answer)
    }

    fn renew(&mut self) {
        let files = &self.config.files;
        let (admin, workspace, guid) = match who(&files.omsadmin) {
            Ok(known) => known,
            Err(error) => return self.renewals.put_off(&error),
        };
        let online = Online {
            options: link::options(files, &self.common),
            workspace: &workspace,
            tld: &admin.url_tld,
            guid: &guid,
            url: &renewal_url(&admin, &workspace),
            layout: &self.layout,
            telemetry: Usage::now().since(&self.used),
        };
        let Some(answer) = self.renewals.act(&online, (&workspace, &guid)) else {
            return;
        };
        (self.renewed)();
        if let Some(answer) = answer {
            self.took(&answer);
        }
    }
}

/// Whom we are to the service, by omsadmin.conf.
pub(super) fn who(omsadmin: &Path) -> Result<(OmsAdmin, WorkspaceId, AgentGuid)> {
    let admin = OmsAdmin::load(omsadmin)?.context("this workspace is not onboarded")?;
    let workspace = admin.workspace().context("WORKSPACE_ID is no GUID")?;
    let guid = admin.guid().context("AGENT_GUID is no GUID")?;
    Ok((admin, workspace, guid))
}

/// Stores endpoints that have changed.
fn keep(path: &Path, admin: OmsAdmin, answer: &TopologyResponse) -> Result<()> {
    let mut changed = admin.clone();
    if let Some(url) = &answer.certificate_update_endpoint {
        changed.certificate_update_endpoint.clone_from(url);
    }
    if let Some(url) = &answer.dsc_endpoint {
        changed.dsc_endpoint.clone_from(url);
    }
    if changed == admin {
        return Ok(());
    }
    crate::base::files::replace_keeping_look(path, changed.to_text()?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changed_endpoints_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("omsadmin.conf");
        let text = "WORKSPACE_ID=w\nDSC_ENDPOINT=https://a/\nOTHER=1\n";
        std::fs::write(&path, text).unwrap();
        let admin = || OmsAdmin::load(&path).unwrap().unwrap();
        let mut answer = TopologyResponse {
            dsc_endpoint: Some("https://a/".into()),
            ..TopologyResponse::default()
        };
        keep(&path, admin(), &answer).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        answer.dsc_endpoint = Some("https://b/".into());
        keep(&path, admin(), &answer).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.contains("DSC_ENDPOINT=https://b/\n") && text.contains("OTHER=1\n"),
            "{text}"
        );
    }
}
