//! Which addresses a machine must reach, by its role, as the network documentation of the original
//! lists them. A wildcard of those lists is looked at by a name that is below it.

use crate::base::ids::WorkspaceId;
use crate::settings::omsadmin::OmsAdmin;
use crate::wire::upload::{self, DEFAULT_TLD};

/// What a machine does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    /// It sends its own data.
    #[default]
    Agent,
    /// Of Operations Manager.
    ManagementServer,
    /// Of Operations Manager.
    Console,
}

/// One address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// An https URL.
    pub url: String,
    /// Port 80 must be open too.
    pub plain_too: bool,
}

impl Endpoint {
    fn https(host: &str) -> Endpoint {
        Endpoint {
            url: format!("https://{host}/"),
            plain_too: false,
        }
    }

    fn both(host: &str) -> Endpoint {
        Endpoint {
            plain_too: true,
            ..Endpoint::https(host)
        }
    }
}

/// What the agent of one workspace must reach: its own two services; in the public cloud also the
/// storage and automation services that those send it to.
pub fn of_workspace(id: &WorkspaceId, admin: &OmsAdmin) -> Vec<Endpoint> {
    let tld = admin.url_tld.as_str();
    let https = |url: String| Endpoint {
        url,
        plain_too: false,
    };
    let mut found = Vec::new();
    if !tld.is_empty() {
        found.push(https(upload::oms_url(id, tld)));
    }
    if !admin.oms_endpoint.is_empty() {
        found.push(https(admin.oms_endpoint.clone()));
    }
    if tld == DEFAULT_TLD {
        found.push(Endpoint::https("scadvisorcontent.blob.core.windows.net"));
        found.push(Endpoint::https(&format!(
            "{id}.agentsvc.azure-automation.net"
        )));
    }
    found
}

/// What a machine of Operations Manager must reach.
pub fn of_role(role: Role, workspaces: &[WorkspaceId]) -> Vec<Endpoint> {
    let mut found = Vec::new();
    match role {
        Role::Agent => {}
        Role::ManagementServer => {
            found.extend(
                [
                    "service.systemcenteradvisor.com",
                    "data.systemcenteradvisor.com",
                    "scadvisor.accesscontrol.windows.net",
                    "scadvisorservice.accesscontrol.windows.net",
                    "scadvisorcontent.blob.core.windows.net",
                ]
                .map(Endpoint::https),
            );
            for id in workspaces {
                found.push(Endpoint::https(&format!("{id}.service.{DEFAULT_TLD}")));
                found.push(Endpoint::https(&format!("{id}.ods.{DEFAULT_TLD}")));
                found.push(Endpoint::https(&format!(
                    "{id}.agentsvc.azure-automation.net"
                )));
            }
        }
        Role::Console => {
            found.push(Endpoint::both("service.systemcenteradvisor.com"));
            found.extend(
                [
                    "login.live.com",
                    "www.microsoft.com",
                    "login.microsoftonline.com",
                    "mms.microsoft.com",
                    "login.windows.net",
                    "portal.loganalytics.io",
                    "api.loganalytics.io",
                    "docs.loganalytics.io",
                ]
                .map(Endpoint::both),
            );
            for id in workspaces {
                found.push(Endpoint::https(&format!("{id}.service.{DEFAULT_TLD}")));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_of_ones_own_needs_its_own_names_only() {
        let id: WorkspaceId = "11111111-2222-3333-4444-555555555555".parse().unwrap();
        let mut admin = OmsAdmin {
            url_tld: "hub.test".into(),
            oms_endpoint: upload::ods_url(&id, "hub.test"),
            ..OmsAdmin::default()
        };
        assert_eq!(of_workspace(&id, &admin).len(), 2);
        admin.url_tld = DEFAULT_TLD.into();
        assert_eq!(of_workspace(&id, &admin).len(), 4);
        assert!(of_role(Role::Agent, &[]).is_empty());
        assert_eq!(of_role(Role::Console, std::slice::from_ref(&id)).len(), 10);
        assert_eq!(of_role(Role::ManagementServer, &[id]).len(), 8);
    }
}
