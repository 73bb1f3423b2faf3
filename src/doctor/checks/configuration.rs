//! The files that people write: omsagent.conf, proxy.conf, ca.pem, the onboarding file.

use super::looks::fragments;
use crate::agent::config::{Note, Settings};
use crate::base::files;
use crate::doctor::finding::{Finding, Fix};
use crate::doctor::patient::{Patient, Ward};
use crate::settings::{fluent, proxy};
use crate::wire::tls;
use anyhow::{Result, bail};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const LIMIT: usize = 1 << 20;

/// omsagent.conf and its fragments, read as the agent reads them.
pub fn agent(patient: &Patient, found: &mut Vec<Finding>) {
    for ward in patient.onboarded() {
        let paths = patient.host.layout.workspace(&ward.id);
        let main = paths.omsagent_conf();
        if !main.exists() {
            found.push(
                Finding::new("config-missing", format!("{} is missing", main.display()))
                    .seen("the agent does not start without it")
                    .of(&ward.id)
                    .fix(Fix::Workspace(ward.id.clone())),
            );
            continue;
        }
        match read(patient, ward, &main, &paths.conf_d()) {
            Err(why) => found.push(
                Finding::new("config-mistake", "the agent's configuration cannot be read")
                    .seen(format!("{why:#}"))
                    .of(&ward.id)
                    .mend("correct the line; `omsagent config check` explains it. A file that is removed comes back by: omsagent doctor --fix"),
            ),
            Ok(settings) => found.extend(warnings(&settings).map(|text| {
                Finding::new("config-ignored", "a part of the configuration has no effect")
                    .seen(text)
                    .of(&ward.id)
                    .mend("correct or remove it; `omsagent config check` explains each line")
            })),
        }
    }
}

fn warnings(settings: &Settings) -> impl Iterator<Item = &str> {
    settings.notes.iter().filter_map(|note| match note {
        Note::Warning(text) => Some(text.as_str()),
        Note::Info(_) => None,
    })
}

/// The folder is the service account's, and what we show are lines of what we read: only plain
/// files in it are read, and nothing that an `@include` could name elsewhere.
fn read(patient: &Patient, ward: &Ward, main: &Path, conf_d: &Path) -> Result<Settings> {
    let mut all = vec![main.to_owned()];
    all.extend(fragments(conf_d));
    for path in &all {
        let text = files::read_text_no_follow(path, LIMIT)?.unwrap_or_default();
        let includes = text
            .lines()
            .filter_map(|l| l.trim().strip_prefix("@include"));
        for glob in includes.map(str::trim) {
            if glob != "omsagent.d/*.conf" || path != main {
                bail!(
                    "`{}` has `@include {glob}`: not followed here",
                    path.display()
                );
            }
        }
    }
    let document = fluent::load(main)?;
    let state = patient.host.layout.workspace(&ward.id).state();
    Ok(Settings::from_document(&document, &state)?)
}

/// proxy.conf, if there is one.
pub fn proxy(patient: &Patient, found: &mut Vec<Finding>) {
    let path = patient.host.layout.proxy_conf();
    if let Err(why) = proxy::load(&path) {
        found.push(
            Finding::new(
                "proxy-mistake",
                format!("{} cannot be used", path.display()),
            )
            .seen(why.to_string())
            .mend("omsadmin.sh -p [user:password@]host:port; or remove the file"),
        );
    }
}

/// ca.pem, if there is one.
pub fn authorities(patient: &Patient, found: &mut Vec<Finding>) {
    let path = patient.host.layout.ca_file();
    if path.exists()
        && let Err(why) = tls::check_ca_file(&path)
    {
        found.push(
            Finding::new("ca-unusable", format!("{} cannot be used", path.display()))
                .seen(why.to_string())
                .mend("put the certificates of your authority there, as PEM; or remove it"),
        );
    }
}

/// An onboarding file holds the workspace's key and is gone after it was used.
pub fn onboarding_file(patient: &Patient, found: &mut Vec<Finding>) {
    let path = patient.host.layout.onboarding_file();
    let Ok(meta) = std::fs::symlink_metadata(&path) else {
        return;
    };
    let path = path.display();
    found.push(
        Finding::new("onboarding-file-left", format!("{path} still holds a key"))
            .seen(format!(
                "mode {:04o}; it was not used, or that failed",
                meta.mode() & 0o7777
            ))
            .mend(format!(
                "onboard with it (omsadmin.sh, without any option), or: rm {path}"
            )),
    );
}
