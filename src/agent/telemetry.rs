//! Agent telemetry (protocol.md 2.3): what the agent uses and how sending goes, told to the service
//! every few minutes. Failures are only logged, and what was gathered for that report is lost.

use crate::agent::config::Telemetry as Config;
use crate::agent::link::{self, Common};
use crate::agent::output::Control;
use crate::agent::quality::{Error, Gathered, Quality};
use crate::agent::topology::who;
use crate::agent::usage::Usage;
use crate::host::layout::Layout;
use crate::wire::metadata;
use crate::wire::topology::Telemetry as Sample;
use crate::workspace::exchange::{HeartbeatError, telemetry};
use anyhow::{Context, Result};
use log::{debug, warn};
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Shortest time between two looks.
const SHORTEST_POLL: Duration = Duration::from_millis(100);
/// Its presence says that omsconfig is switched off.
const DISABLED: &str = "/etc/opt/omi/conf/omsconfig/omshelper_disable";

/// Reports until told to stop.
pub struct Reporter {
    config: Config,
    common: Common,
    layout: Layout,
    control: Arc<Control>,
    gathered: Arc<Gathered>,
    used: Usage,
    samples: Samples,
    told: String,
}

/// Largest and sum of each figure.
#[derive(Debug, Default)]
struct Samples {
    count: u64,
    max: [u64; 4],
    sum: [u64; 4],
}

impl Samples {
    fn add(&mut self, sample: &Sample) {
        let values = [
            sample.used_memory,
            sample.percent_used_memory,
            sample.percent_user_time,
            sample.percent_privileged_time,
        ];
        self.count += 1;
        for (i, value) in values.into_iter().enumerate() {
            let value = value.unwrap_or(0);
            self.max[i] = self.max[i].max(value);
            self.sum[i] = self.sum[i].saturating_add(value);
        }
    }
}

/// The report, keys in the original's order.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(rename = "OSType")]
    os_type: &'static str,
    #[serde(rename = "OSDistro")]
    os_distro: String,
    #[serde(rename = "OSVersion")]
    os_version: String,
    #[serde(rename = "ProcessorArchitecture")]
    processor_architecture: String,
    #[serde(rename = "Region")]
    region: String,
    #[serde(rename = "ResourceId")]
    resource_id: String,
    #[serde(rename = "ConfigMgrEnabled")]
    config_mgr_enabled: &'static str,
    #[serde(rename = "AgentResourceUsage")]
    usage: ResourceUsage,
    #[serde(rename = "AgentQoS")]
    quality: Vec<Quality>,
    #[serde(rename = "AgentError")]
    errors: Vec<Error>,
}

/// `AgentResourceUsage`: ours, and that of OMI's agent, which this one does not need.
#[derive(Debug, Serialize)]
struct ResourceUsage {
    #[serde(rename = "OMSMaxMemory", skip_serializing_if = "Option::is_none")]
    max_memory: Option<u64>,
    #[serde(
        rename = "OMSMaxPercentMemory",
        skip_serializing_if = "Option::is_none"
    )]
    max_percent_memory: Option<u64>,
    #[serde(rename = "OMSMaxUserTime", skip_serializing_if = "Option::is_none")]
    max_user_time: Option<u64>,
    #[serde(rename = "OMSMaxSystemTime", skip_serializing_if = "Option::is_none")]
    max_system_time: Option<u64>,
    #[serde(rename = "OMSAvgMemory")]
    avg_memory: u64,
    #[serde(rename = "OMSAvgPercentMemory")]
    avg_percent_memory: u64,
    #[serde(rename = "OMSAvgUserTime")]
    avg_user_time: u64,
    #[serde(rename = "OMSAvgSystemTime")]
    avg_system_time: u64,
    #[serde(rename = "OMIMaxMemory", skip_serializing_if = "Option::is_none")]
    omi_max_memory: Option<u64>,
    #[serde(
        rename = "OMIMaxPercentMemory",
        skip_serializing_if = "Option::is_none"
    )]
    omi_max_percent_memory: Option<u64>,
    #[serde(rename = "OMIMaxUserTime", skip_serializing_if = "Option::is_none")]
    omi_max_user_time: Option<u64>,
    #[serde(rename = "OMIMaxSystemTime", skip_serializing_if = "Option::is_none")]
    omi_max_system_time: Option<u64>,
    #[serde(rename = "OMIAvgMemory")]
    omi_avg_memory: u64,
    #[serde(rename = "OMIAvgPercentMemory")]
    omi_avg_percent_memory: u64,
    #[serde(rename = "OMIAvgUserTime")]
    omi_avg_user_time: u64,
    #[serde(rename = "OMIAvgSystemTime")]
    omi_avg_system_time: u64,
}

impl From<&Samples> for ResourceUsage {
    fn from(samples: &Samples) -> Self {
        let any = samples.count > 0;
        let [memory, percent, user, system] = samples.max.map(|max| any.then_some(max));
        let mean = samples.sum.map(|sum| sum / samples.count.max(1));
        let none = any.then_some(0);
        ResourceUsage {
            max_memory: memory,
            max_percent_memory: percent,
            max_user_time: user,
            max_system_time: system,
            avg_memory: mean[0],
            avg_percent_memory: mean[1],
            avg_user_time: mean[2],
            avg_system_time: mean[3],
            omi_max_memory: none,
            omi_max_percent_memory: none,
            omi_max_user_time: none,
            omi_max_system_time: none,
            omi_avg_memory: 0,
            omi_avg_percent_memory: 0,
            omi_avg_user_time: 0,
            omi_avg_system_time: 0,
        }
    }
}

impl Reporter {
    /// The first report goes out one interval after the start.
    pub fn new(
        config: Config,
        common: Common,
        layout: Layout,
        control: Arc<Control>,
        gathered: Arc<Gathered>,
    ) -> Self {
        Reporter {
            config,
            common,
            layout,
            control,
            gathered,
            used: Usage::now(),
            samples: Samples::default(),
            told: String::new(),
        }
    }

    /// Ends when [`Control::stop`] was called and the thread is unparked.
    pub fn run(mut self) {
        let poll = self.config.poll_interval.max(SHORTEST_POLL);
        let mut since = Instant::now();
        loop {
            let due = Instant::now() + poll;
            while let Some(left) = due.checked_duration_since(Instant::now()) {
                if self.control.stopping() {
                    return;
                }
                std::thread::park_timeout(left);
            }
            if self.control.stopping() {
                return;
            }
            let now = Usage::now();
            self.samples.add(&now.since(&self.used));
            self.used = now;
            let said = self.control.telemetry_interval();
            if since.elapsed() >= said.unwrap_or(self.config.interval) {
                since = Instant::now();
                self.report();
            }
        }
    }

    fn report(&mut self) {
        match self.send() {
            Ok(()) => {
                debug!("telemetry sent");
                self.told.clear();
            }
            Err(error) => {
                let text = format!("{error:#}");
                if self.told != text {
                    warn!("telemetry could not be sent: {text}");
                    self.told = text;
                }
            }
        }
    }

    fn send(&mut self) -> Result<()> {
        let samples = std::mem::take(&mut self.samples);
        let (quality, errors) = self.gathered.take();
        let files = &self.config.files;
        let (admin, workspace, _) = who(&files.omsadmin)?;
        let os = metadata::operating_system(&self.layout, Sample::default())?;
        let os = os.unwrap_or_default();
        let machine = nix::sys::utsname::uname()?;
        let disabled = self.layout.path(DISABLED).exists();
        let place = self.common.whereabouts.get();
        let report = Report {
            os_type: "Linux",
            os_distro: os.name,
            os_version: os.version,
            processor_architecture: machine.machine().to_string_lossy().into_owned(),
            region: match place.region.is_empty() {
                true => "OnPremise".to_owned(),
                false => place.region.clone(),
            },
            resource_id: place.resource_id(&admin.azure_resource_id),
            config_mgr_enabled: if disabled { "false" } else { "true" },
            usage: ResourceUsage::from(&samples),
            quality,
            errors,
        };
        let body = serde_json::to_vec(&report)?;
        let identity = link::identity(files)?.context("the client certificate is missing")?;
        let client = link::client(files, &self.common, identity)?;
        telemetry(&client, &workspace, &admin.url_tld, &body).map_err(|error| match error {
            HeartbeatError::Status { status, reason, .. } => {
                let reason = reason.map(|r| format!(" ({r})"));
                anyhow::anyhow!(
                    "the service answered {status}{}",
                    reason.unwrap_or_default()
                )
            }
            other => other.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_in_the_order_of_the_original() {
        let mut samples = Samples::default();
        let sample = |memory, user| Sample {
            used_memory: Some(memory),
            percent_used_memory: Some(2),
            percent_user_time: Some(user),
            percent_privileged_time: None,
        };
        let empty = serde_json::to_string(&ResourceUsage::from(&samples)).unwrap();
        assert!(!empty.contains("Max") && empty.contains(r#""OMSAvgMemory":0"#));
        samples.add(&sample(100, 1));
        samples.add(&sample(201, 4));
        let report = Report {
            os_type: "Linux",
            os_distro: "Debian".into(),
            os_version: "12".into(),
            processor_architecture: "x86_64".into(),
            region: "OnPremise".into(),
            resource_id: String::new(),
            config_mgr_enabled: "true",
            usage: ResourceUsage::from(&samples),
            quality: Vec::new(),
            errors: Vec::new(),
        };
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            r#"{"OSType":"Linux","OSDistro":"Debian","OSVersion":"12","ProcessorArchitecture":"x86_64","Region":"OnPremise","ResourceId":"","ConfigMgrEnabled":"true","AgentResourceUsage":{"OMSMaxMemory":201,"OMSMaxPercentMemory":2,"OMSMaxUserTime":4,"OMSMaxSystemTime":0,"OMSAvgMemory":150,"OMSAvgPercentMemory":2,"OMSAvgUserTime":2,"OMSAvgSystemTime":0,"OMIMaxMemory":0,"OMIMaxPercentMemory":0,"OMIMaxUserTime":0,"OMIMaxSystemTime":0,"OMIAvgMemory":0,"OMIAvgPercentMemory":0,"OMIAvgUserTime":0,"OMIAvgSystemTime":0},"AgentQoS":[],"AgentError":[]}"#
        );
    }
}
