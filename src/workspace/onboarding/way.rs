//! Which way the request takes: through the proxy that counts, and what is said about the choice.

use crate::host::Host;
use crate::settings::proxy::{
    Choice, PROXY_VARIABLES, Proxy, Source, choose, environment, first_of,
};
use crate::workspace::OnboardingRequest;
use crate::workspace::exchange::{self, OnboardError};

/// The proxy, if there is one, and the lines that tell where the setting came from.
pub struct Way {
    pub proxy: Option<Proxy>,
    pub told: Vec<String>,
}

/// What was given counts before proxy.conf, that before its old place, that before the
/// environment. A proxy of the environment becomes what was given: the agent, started by the
/// service manager, has another environment, so it is written to proxy.conf with the rest.
pub fn to_service(host: &Host, request: &mut OnboardingRequest) -> Result<Way, OnboardError> {
    let path = host.layout.proxy_conf();
    let using = |place: &str| format!("info\tUsing proxy settings from '{place}'");
    let aside = |place: &str| {
        let (name, _) = first_of(PROXY_VARIABLES, &environment)?;
        Some(format!("info\t{name} is left aside: {place} comes first"))
    };
    if let Some(line) = &request.proxy {
        let mut told = vec![using(&path.display().to_string())];
        told.extend(aside("the proxy given"));
        let proxy = Some(exchange::check_proxy(line)?);
        return Ok(Way { proxy, told });
    }
    let domain = request.domain.split(':').next().unwrap_or_default();
    let name = format!("{}.oms.{domain}", request.id);
    let choice = choose(&path, &name, &environment)?;
    let mut told = Vec::new();
    match &choice {
        Choice::Direct => {}
        Choice::Exempt { proxy, exemption } => told.push(format!(
            "info\tNot using the proxy of {proxy}: {exemption} names {name}"
        )),
        Choice::Through(found) => {
            let place = found.source.to_string();
            told.push(using(&place));
            match &found.source {
                Source::File(file) => {
                    told.extend(aside(&place));
                    // In a folder that has to give way to the primary workspace's link.
                    let conf = host.layout.etc().join("conf");
                    let is_folder = std::fs::symlink_metadata(&conf).is_ok_and(|m| m.is_dir());
                    if is_folder && file.starts_with(&conf) {
                        request.proxy = Some(found.line.clone());
                    }
                }
                Source::Environment(variable) => {
                    told.push(format!(
                        "info\tThe agent does not see {variable}: the proxy is saved to {}",
                        path.display()
                    ));
                    request.proxy = Some(found.line.clone());
                }
            }
        }
    }
    let proxy = choice.proxy();
    Ok(Way { proxy, told })
}
