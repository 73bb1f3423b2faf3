//! The steps that make this host known to the service, and write down who it is to it.

use super::saved::{readable, saved_identity, saved_settings};
use super::way::Way;
use crate::base::files::Look;
use crate::base::files::{self, Owner};
use crate::base::ids::{AgentGuid, WorkspaceId};
use crate::host::{Host, credentials, services, unit};
use crate::plan::backup::Backups;
use crate::plan::steps::WriteFile;
use crate::plan::undo::Undo;
use crate::plan::{Report, Step};
use crate::settings::omsadmin::OmsAdmin;
use crate::wire::date::Clock;
use crate::wire::identity::ClientIdentity;
use crate::wire::metadata::MachineIds;
use crate::workspace::exchange::{self, OnboardAnswer, OnboardRequest};
use crate::workspace::renewal::{self, Held};
use crate::workspace::service::{self, AgentNews, ReadByAgent};
use crate::workspace::{OnboardingRequest, identity, is_onboarded};
use anyhow::{Context, Result};
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

/// What the service agreed to.
pub(super) struct Asked {
    request: OnboardRequest,
    answer: OnboardAnswer,
    /// What is known to the service now must be written before another pair is.
    _held: Option<Held>,
}

pub(super) struct Register {
    pub(super) host: Host,
    pub(super) request: OnboardingRequest,
    pub(super) version: String,
    pub(super) way: Way,
    pub(super) asked: Rc<RefCell<Option<Asked>>>,
}

impl Step for Register {
    fn describe(&self) -> String {
        format!(
            "register this host with workspace {} at {}",
            self.request.id, self.request.domain
        )
    }

    fn satisfied(&self) -> Result<bool> {
        Ok(false)
    }

    fn before(&self, _: &mut Backups) -> Result<Undo> {
        // The service keeps its registration; a repeated onboarding is welcome there.
        Ok(Undo::Nothing)
    }

    fn apply(&mut self, report: &mut dyn Report) -> Result<()> {
        let layout = &self.host.layout;
        let held = renewal::hold(&layout.workspace(&self.request.id).certs())?;
        let known = is_onboarded(layout, &self.request.id)
            .then(|| readable(saved_settings(&self.host, &self.request.id), report))
            .flatten()
            .filter(|conf| {
                let copied = identity::is_copy(conf, &MachineIds::read(layout));
                if copied {
                    report.line("warning\tThis host is a copy of the one that was onboarded: it gets an identity of its own");
                }
                !copied
            })
            .and_then(|conf| conf.guid());
        let kept = match &known {
            Some(guid) => {
                report.line(&format!("info\tReusing previous agent GUID {guid}"));
                readable(saved_identity(&self.host, &self.request.id), report)
            }
            None => None,
        };
        let guid = known.unwrap_or_else(AgentGuid::random);
        let identity = match kept {
            Some(identity) => identity,
            None => {
                report.line("info\tGenerating certificate ...");
                ClientIdentity::generate(&self.request.id, &guid, jiff::Timestamp::now())?
            }
        };
        report.line(&format!("info\tAgent GUID is {guid}"));
        for line in &self.way.told {
            report.line(line);
        }
        let request = OnboardRequest {
            layout: layout.clone(),
            workspace: self.request.id.clone(),
            key: self.request.key.clone(),
            tld: self.request.domain.clone(),
            guid,
            identity,
            ca_file: self.ca_file(),
            proxy: self.way.proxy.clone(),
            agent_version: self.version.clone(),
            azure_resource_id: self.request.azure_resource.clone().unwrap_or_default(),
            clock: Clock::System,
        };
        if self.request.verbose {
            report.line(&exchange::shown(&request));
        }
        let answer = exchange::onboard(&request)?;
        for text in &answer.warnings {
            report.line(&format!("warning\t{text}"));
        }
        if let Some(skew) = answer.skew {
            report.line(&format!(
                "warning\tThe clock of this host is {skew}: correct it"
            ));
        }
        *self.asked.borrow_mut() = Some(Asked {
            request,
            answer,
            _held: held,
        });
        report.line("info\tOnboarding success");
        service::say_who_starts_it(&self.host, &self.request.id, report);
        Ok(())
    }
}

impl Register {
    fn ca_file(&self) -> Option<PathBuf> {
        let saved = self.host.layout.ca_file();
        self.request
            .ca_file
            .clone()
            .or(Some(saved).filter(|p| p.exists()))
    }
}

/// Key, certificate and omsadmin.conf: with their final owner and mode from the first byte, the
/// old ones put back when a later step fails.
pub(super) struct WriteIdentity {
    pub(super) host: Host,
    pub(super) request: OnboardingRequest,
    pub(super) owner: Owner,
    pub(super) asked: Rc<RefCell<Option<Asked>>>,
    pub(super) news: AgentNews,
}

impl Step for WriteIdentity {
    fn describe(&self) -> String {
        let paths = self.host.layout.workspace(&self.request.id);
        format!(
            "write {}, oms.key (0640) and {}",
            paths.cert().display(),
            paths.omsadmin_conf().display()
        )
    }

    fn satisfied(&self) -> Result<bool> {
        Ok(false)
    }

    fn before(&self, backups: &mut Backups) -> Result<Undo> {
        let paths = self.host.layout.workspace(&self.request.id);
        let files = [paths.key(), paths.cert(), paths.omsadmin_conf()];
        let files = files.iter().map(|path| backups.snapshot(path));
        Ok(Undo::All(files.collect::<Result<_>>()?))
    }

    fn apply(&mut self, report: &mut dyn Report) -> Result<()> {
        let asked = self.asked.take().context("the service was not asked")?;
        let paths = self.host.layout.workspace(&self.request.id);
        let conf = self.settings(&asked)?;
        let secret = Look::owned(0o640, self.owner);
        let plain = Look::owned(0o644, self.owner);
        let identity = &asked.request.identity;
        let key = identity.key_pem.expose();
        // A pair that the service manager hands over stays where it is.
        let own = credentials::of(&self.host.layout, &self.request.id).is_none();
        let pair = [
            WriteFile::new(paths.key(), key, secret),
            WriteFile::new(paths.cert(), identity.cert_pem.as_str(), secret),
        ];
        let pair = pair.into_iter().filter(|_| own);
        for step in pair.chain([WriteFile::new(paths.omsadmin_conf(), conf, plain)]) {
            let mut step = ReadByAgent::new(step, &self.news);
            // What cannot be read is another text.
            if !step.satisfied().unwrap_or(false) {
                step.apply(report)?;
            }
        }
        Ok(())
    }
}

impl WriteIdentity {
    /// omsadmin.conf (bundle.md 4.12); lines that somebody added to an earlier one are kept.
    fn settings(&self, asked: &Asked) -> Result<String> {
        // Register has told why, if they cannot be read.
        let before = saved_settings(&self.host, &self.request.id);
        let before = before.ok().flatten().unwrap_or_default();
        let machine = MachineIds::read(&self.host.layout);
        let mut conf = OmsAdmin {
            diagnostic_endpoint: before.diagnostic_endpoint,
            other_lines: before.other_lines,
            ..asked.answer.omsadmin(&asked.request, &machine)
        };
        if !before.log_facility.is_empty() {
            conf.log_facility = before.log_facility;
        }
        conf.to_text()
    }
}

/// What waits to be sent on a copied host is the original's, which sends it itself.
pub(super) struct ForgetQueue {
    pub(super) host: Host,
    pub(super) id: WorkspaceId,
}

impl Step for ForgetQueue {
    fn describe(&self) -> String {
        format!(
            "delete what the host that this one is a copy of had not sent yet for workspace {}",
            self.id
        )
    }
    fn satisfied(&self) -> Result<bool> {
        Ok(!self.host.layout.workspace(&self.id).state().exists())
    }
    fn before(&self, _: &mut Backups) -> Result<Undo> {
        Ok(Undo::Nothing)
    }
    fn apply(&mut self, _: &mut dyn Report) -> Result<()> {
        let _ = services::stop(&self.host, &unit::name(&self.id))?;
        files::remove_tree(&self.host.layout.workspace(&self.id).state()).map(drop)
    }
}
