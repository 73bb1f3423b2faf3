//! A renewal that an administrator asks for, beside the agent or without one.

use super::{Begin, Online, Renewal, renew};
use crate::base::files;
use crate::base::ids::WorkspaceId;
use crate::host::{Host, reread, services, unit};
use crate::settings::omsadmin::{self, OmsAdmin};
use crate::settings::{installinfo, proxy};
use crate::wire::http::Options;
use crate::wire::identity::ClientIdentity;
use crate::wire::tls::{CA_FILE_VARIABLE, choose_ca_file};
use crate::wire::topology::Telemetry;
use crate::wire::upload::user_agent;
use crate::workspace::exchange::{CONNECT_TIMEOUT, READ_TIMEOUT, renewal_url};
use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use std::path::{Path, PathBuf};

/// Renews the certificate of `id` in `certs` (or in the workspace's folder) and has the running
/// agent take the new one. When it is valid until.
pub fn by_hand(host: &Host, id: &WorkspaceId, certs: Option<&Path>) -> Result<Timestamp> {
    let layout = &host.layout;
    let paths = layout.workspace(id);
    let conf = paths.omsadmin_conf();
    let text = files::read_text_no_follow(&conf, omsadmin::LIMIT)?;
    let admin = text.map(|text| OmsAdmin::parse(&text)).unwrap_or_default();
    let guid = admin.guid().with_context(|| {
        format!(
            "`{}` names no agent: onboard the workspace first",
            conf.display()
        )
    })?;
    let variable = std::env::var_os(CA_FILE_VARIABLE).map(PathBuf::from);
    let info = installinfo::load(&layout.installinfo());
    let version = info.map_or(installinfo::UNKNOWN_VERSION.to_owned(), |i| i.data_version);
    let service = format!("{id}.oms.{}", admin.url_tld);
    let options = Options {
        identity: None,
        ca_file: choose_ca_file(None, variable, &layout.ca_file()),
        proxy: proxy::choose(&layout.proxy_conf(), &service, &proxy::environment)?.proxy(),
        user_agent: user_agent(&version),
        connect_timeout: CONNECT_TIMEOUT,
        read_timeout: READ_TIMEOUT,
    };
    let own = paths.certs();
    let folder = certs.unwrap_or(&own);
    let online = Online {
        options,
        workspace: id,
        tld: &admin.url_tld,
        guid: &guid,
        url: &renewal_url(&admin, id),
        layout,
        telemetry: Telemetry::default(),
    };
    let make = || ClientIdentity::generate(id, &guid, Timestamp::now());
    match renew(folder, &online, Begin::New, make)? {
        Renewal::Done(_) => {}
        Renewal::Nothing | Renewal::Busy => bail!("the agent is just renewing it"),
        Renewal::Refused(why) => bail!("{why}; the present certificate stays"),
        Renewal::Unsettled(why) => bail!(
            "{why}; it is open which certificate the service knows: both are kept, the agent (or this command) asks again"
        ),
    }
    let pair = ClientIdentity::load_no_follow(folder)?.context("the new certificate is gone")?;
    match certs {
        // Handed over at the start only.
        Some(_) if services::is_active(host, &unit::name(id))? => {
            let _ = services::restart(host, &unit::name(id))?;
        }
        Some(_) => {}
        None => {
            reread::reread(host, id)?;
        }
    }
    pair.not_after()
}
