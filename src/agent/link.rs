//! The way to the service: who we are and where to send, read from the workspace's files.

use crate::agent::azure::Whereabouts;
use crate::agent::config::Files;
use crate::agent::quality::Gathered;
use crate::settings::{omsadmin::OmsAdmin, proxy};
use crate::wire::http::{Client, HttpError, Options};
use crate::wire::identity::ClientIdentity;
use crate::wire::upload::{AgentHeaders, user_agent};
use anyhow::{Context, Result, bail};
use log::warn;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// TCP and TLS handshake (protocol.md 3.1).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// The whole answer (protocol.md 3.1).
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// What is the same for all ways of one process.
#[derive(Debug, Clone)]
pub struct Common {
    /// Of the agent, for the headers.
    pub version: String,
    /// CAs trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Where senders tell how it goes, if anybody wants to know.
    pub gathered: Option<Arc<Gathered>>,
    /// Where this machine is.
    pub whereabouts: Whereabouts,
}

/// An open way.
pub struct Link {
    /// Keeps a connection.
    pub client: Client,
    /// `OMS_ENDPOINT`.
    pub url: String,
    /// What each upload says about us.
    pub headers: AgentHeaders,
    /// `AGENT_GUID`.
    pub agent: String,
    plain: Options,
    storage: Option<Client>,
}

impl Link {
    /// Reads the files anew. The error is for people, and means: try again later.
    pub fn open(files: &Files, common: &Common) -> Result<Link> {
        let not_onboarded = || {
            format!(
                "this workspace is not onboarded (`{}`): run `omsadmin.sh -w ID -s KEY`",
                files.omsadmin.display()
            )
        };
        let admin = OmsAdmin::load(&files.omsadmin)?.filter(OmsAdmin::is_onboarded);
        let admin = admin.with_context(not_onboarded)?;
        for text in &admin.warnings {
            warn!("{text}");
        }
        let identity = identity(files)?.with_context(not_onboarded)?;
        let plain = options(files, common);
        let client = Client::new(Options {
            identity: Some(identity),
            ..plain.clone()
        })?;
        let place = common.whereabouts.get();
        Ok(Link {
            client,
            url: admin.oms_endpoint,
            headers: AgentHeaders {
                version: common.version.clone(),
                resource_id: place.resource_id(&admin.azure_resource_id),
                region: place.region,
                cloud_id: admin.omscloud_id,
                uuid: admin.uuid,
            },
            agent: admin.agent_guid,
            plain,
            storage: None,
        })
    }

    /// A client for where blobs are, which needs no certificate of ours (protocol.md 3.10, step 2).
    pub fn storage(&mut self) -> Result<&Client, HttpError> {
        let client = match self.storage.take() {
            Some(client) => client,
            None => Client::new(self.plain.clone())?,
        };
        Ok(self.storage.insert(client))
    }
}

/// A client that presents `identity`, through the proxy if there is one.
pub fn client(files: &Files, common: &Common, identity: ClientIdentity) -> Result<Client> {
    Ok(Client::new(Options {
        identity: Some(identity),
        ..options(files, common)
    })?)
}

/// How a client connects, whoever it says it is.
pub fn options(files: &Files, common: &Common) -> Options {
    let proxy = match proxy::choose(&files.proxy, &service_host(files), &proxy::environment) {
        Ok(choice) => choice.proxy(),
        Err(error) => {
            warn!("{error}; no proxy is used");
            None
        }
    };
    Options {
        identity: None,
        ca_file: common.ca_file.clone(),
        proxy,
        user_agent: user_agent(&common.version),
        connect_timeout: CONNECT_TIMEOUT,
        read_timeout: READ_TIMEOUT,
    }
}

/// The host of `OMS_ENDPOINT`; empty when there is none.
fn service_host(files: &Files) -> String {
    let admin = OmsAdmin::load(&files.omsadmin).ok().flatten();
    let url = admin.map(|admin| admin.oms_endpoint).unwrap_or_default();
    let authority = url.split("://").nth(1).unwrap_or_default();
    let host = authority.split(['/', ':']).next();
    host.unwrap_or_default().to_owned()
}

/// The pair, wherever the configuration says it is; `None` when a part is missing.
pub fn identity(files: &Files) -> Result<Option<ClientIdentity>> {
    let folder = |path: &Path, name: &str| {
        path.file_name()
            .filter(|n| *n == name)
            .and(path.parent())
            .map(Path::to_owned)
    };
    let (cert, key) = (
        folder(&files.cert, "oms.crt"),
        folder(&files.key, "oms.key"),
    );
    match (cert, key) {
        (Some(cert), Some(key)) if cert == key => ClientIdentity::load(&cert),
        _ => bail!(
            "`cert_path` and `key_path` must be `oms.crt` and `oms.key` of one folder (`{}`, `{}`)",
            files.cert.display(),
            files.key.display()
        ),
    }
}
