//! What an earlier onboarding left here, and whether it is what is asked for now.

use super::{CA_LIMIT, service_owner, without_prefix};
use crate::base::files::{self, Look};
use crate::base::ids::WorkspaceId;
use crate::base::secret::Secret;
use crate::host::services::ServiceError;
use crate::host::{Host, services, unit};
use crate::plan::Report;
use crate::settings;
use crate::settings::omsadmin::OmsAdmin;
use crate::wire::identity::{ClientIdentity, PEM_LIMIT};
use crate::wire::metadata::MachineIds;
use crate::workspace::{self, OnboardingRequest, identity, is_active, is_onboarded};
use anyhow::Result;
use zeroize::Zeroizing;

/// Is the agent of this workspace running, with the proxy, CA and resource id that were given, and
/// (for a primary) do the links say so? Then there is nothing to onboard: the service is not
/// contacted (bundle.md 6.3 step 6, as intended).
pub fn is_running_as_asked(host: &Host, request: &OnboardingRequest) -> bool {
    let links = || {
        let mut all = host.layout.primary_links(&request.id).into_iter();
        all.all(|(link, target)| {
            std::fs::read_link(link).is_ok_and(|there| there == without_prefix(host, target))
        })
    };
    is_onboarded(&host.layout, &request.id)
        && is_active(host, &request.id)
        && (request.marker.is_some() || links())
        && !is_copied(host, &request.id)
        && is_set_as_asked(host, request).unwrap_or(false)
}

pub(super) fn is_copied(host: &Host, id: &WorkspaceId) -> bool {
    let saved = saved_settings(host, id).ok().flatten();
    saved.is_some_and(|saved| identity::is_copy(&saved, &MachineIds::read(&host.layout)))
}

/// Where only the Azure resource id is another one than asked for, it is written to the
/// workspace's own omsadmin.conf (R22) and the agent reads it; the service is not contacted. True
/// when that was so.
pub fn update_resource(host: &Host, request: &OnboardingRequest) -> Result<bool> {
    let Some(resource) = &request.azure_resource else {
        return Ok(false);
    };
    let without = OnboardingRequest {
        azure_resource: None,
        ..request.clone()
    };
    if !is_running_as_asked(host, &without) {
        return Ok(false);
    }
    let Some(mut conf) = saved_settings(host, &request.id)? else {
        return Ok(false);
    };
    conf.azure_resource_id.clone_from(resource);
    let path = host.layout.workspace(&request.id).omsadmin_conf();
    conf.write(&path, Look::owned(0o644, service_owner(host)?))?;
    match services::restart(host, &unit::name(&request.id)) {
        // Whoever started it restarts it.
        Err(ServiceError::NoManager { .. }) => Ok(true),
        done => done.map(|_| true).map_err(Into::into),
    }
}

/// Is what was given, beside the id and its key, saved already?
fn is_set_as_asked(host: &Host, request: &OnboardingRequest) -> Result<bool> {
    if let Some(line) = &request.proxy
        && !is_saved_proxy(host, line)?
    {
        return Ok(false);
    }
    if let Some(path) = &request.ca_file
        && files::read(path, CA_LIMIT)? != files::read(&host.layout.ca_file(), CA_LIMIT)?
    {
        return Ok(false);
    }
    let marker = host.layout.workspace(&request.id).marker();
    let marker = files::read_text_no_follow(&marker, 4096)?;
    if marker.as_deref().map(str::trim) != request.marker.as_deref().map(str::trim) {
        return Ok(false);
    }
    let Some(resource) = &request.azure_resource else {
        return Ok(true);
    };
    let conf = saved_settings(host, &request.id)?.unwrap_or_default();
    Ok(conf.azure_resource_id == *resource)
}

/// Does proxy.conf say just this, whatever comments and blanks somebody's tool keeps in it?
pub(super) fn is_saved_proxy(host: &Host, line: &Secret) -> Result<bool> {
    let path = host.layout.proxy_conf();
    // Its old place does not count: what is there is on its way to the new one.
    if !path.exists() {
        return Ok(false);
    }
    let asked = settings::proxy::parse(line.expose())?;
    let saved = settings::proxy::load(&path);
    Ok(saved.is_ok_and(|saved| saved.is_some_and(|saved| saved.is_same(&asked))))
}

/// omsadmin.conf of a workspace. Its folder is the service account's: a link there must not make
/// root read, and write out again, what that account must not see.
pub(super) fn saved_settings(host: &Host, id: &WorkspaceId) -> Result<Option<OmsAdmin>> {
    let path = host.layout.workspace(id).omsadmin_conf();
    let text = files::read_text_no_follow(&path, settings::omsadmin::LIMIT)?;
    Ok(text.map(|text| OmsAdmin::parse(&text)))
}

/// Key and certificate of a workspace, read as carefully; `None` when they cannot be used.
pub(super) fn saved_identity(host: &Host, id: &WorkspaceId) -> Result<Option<ClientIdentity>> {
    let pair = workspace::pair(&host.layout, id);
    let cert = files::read_text_no_follow(&pair.cert, PEM_LIMIT)?;
    let key = files::read_no_follow(&pair.key, PEM_LIMIT)?.map(Zeroizing::new);
    let (Some(cert_pem), Some(key)) = (cert, key) else {
        return Ok(None);
    };
    let identity = ClientIdentity {
        cert_pem,
        key_pem: Secret::new(String::from_utf8_lossy(&key)),
    }
    .or_renewed(&host.layout.workspace(id).certs());
    let now = jiff::Timestamp::now();
    let good = identity.fits().unwrap_or(false) && identity.not_after().is_ok_and(|end| end > now);
    Ok(good.then_some(identity))
}

/// What cannot be read of an earlier onboarding is as good as lost: this one replaces it.
pub(super) fn readable<T>(saved: Result<Option<T>>, report: &mut dyn Report) -> Option<T> {
    saved.unwrap_or_else(|e| {
        report.line(&format!("warning\t{e:#}: it is made anew"));
        None
    })
}
