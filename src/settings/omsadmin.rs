//! omsadmin.conf: what one workspace was onboarded to (protocol.md 1.8, bundle.md 4.12).
//! `KEY=value` lines; read leniently, never run by a shell, though shells may source it.

use crate::base::files::{self, Look};
use crate::base::ids::{AgentGuid, WorkspaceId};
use anyhow::{Result, bail};
use std::fmt::Write as _;
use std::path::Path;

/// Largest omsadmin.conf that is read.
pub const LIMIT: usize = 64 << 10;

/// The one facility the original's tools log to.
pub const LOG_FACILITY: &str = "local0";

/// The content of omsadmin.conf. What is missing is empty, except where `None` says more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OmsAdmin {
    /// `WORKSPACE_ID`.
    pub workspace_id: String,
    /// `AGENT_GUID`.
    pub agent_guid: String,
    /// `LOG_FACILITY`.
    pub log_facility: String,
    /// `CERTIFICATE_UPDATE_ENDPOINT`, a URL.
    pub certificate_update_endpoint: String,
    /// `URL_TLD`, perhaps with a port.
    pub url_tld: String,
    /// `DSC_ENDPOINT`, a URL, without the file's backslashes.
    pub dsc_endpoint: String,
    /// `OMS_ENDPOINT`: where data is posted, a URL.
    pub oms_endpoint: String,
    /// `AZURE_RESOURCE_ID`.
    pub azure_resource_id: String,
    /// `OMSCLOUD_ID`.
    pub omscloud_id: String,
    /// `UUID` as written; `None` (no such line) means that no header is sent.
    pub uuid: Option<String>,
    /// `DIAGNOSTIC_ENDPOINT`, when somebody added it.
    pub diagnostic_endpoint: Option<String>,
    /// Lines we know nothing of (comments, unknown keys): kept on rewriting.
    pub other_lines: Vec<String>,
    /// What a person should know of this file, one line each.
    pub warnings: Vec<String>,
}

impl OmsAdmin {
    /// Reads the file; `None` when there is none, or a blank one.
    pub fn load(path: &Path) -> Result<Option<OmsAdmin>> {
        let text = files::read_text(path, LIMIT)?.unwrap_or_default();
        Ok(Some(OmsAdmin::parse(&text)).filter(|_| !text.trim().is_empty()))
    }

    /// Reads the content. A later line of a key replaces an earlier one, `OMS_ENDPOINT` apart,
    /// where the first one counts.
    pub fn parse(text: &str) -> OmsAdmin {
        let mut conf = OmsAdmin::default();
        for line in text.lines() {
            let line = line.trim();
            let Some((key, value)) = line.split_once('=') else {
                conf.keep(line);
                continue;
            };
            let value = value.trim().to_owned();
            match key {
                "WORKSPACE_ID" => conf.workspace_id = value,
                "AGENT_GUID" => conf.agent_guid = value,
                "LOG_FACILITY" => conf.log_facility = value,
                "CERTIFICATE_UPDATE_ENDPOINT" => conf.certificate_update_endpoint = value,
                "URL_TLD" => conf.url_tld = value,
                "DSC_ENDPOINT" => conf.dsc_endpoint = value.replace('\\', ""),
                "OMS_ENDPOINT" if !conf.oms_endpoint.is_empty() => conf.warnings.push(
                    "omsadmin.conf has several OMS_ENDPOINT lines: the first one counts".into(),
                ),
                "OMS_ENDPOINT" => conf.oms_endpoint = value,
                "AZURE_RESOURCE_ID" => conf.azure_resource_id = value,
                "OMSCLOUD_ID" => conf.omscloud_id = value,
                "UUID" => conf.uuid = Some(value),
                "DIAGNOSTIC_ENDPOINT" => {
                    conf.diagnostic_endpoint = Some(value).filter(|v| !v.is_empty());
                }
                _ => conf.keep(line),
            }
        }
        conf
    }

    fn keep(&mut self, line: &str) {
        if !line.is_empty() {
            self.other_lines.push(line.to_owned());
        }
    }

    /// The workspace, if a valid one is written.
    pub fn workspace(&self) -> Option<WorkspaceId> {
        self.workspace_id.parse().ok()
    }

    /// The agent's GUID, if a valid one is written.
    pub fn guid(&self) -> Option<AgentGuid> {
        self.agent_guid.parse().ok()
    }

    /// Data can be sent: an endpoint and a GUID are there.
    pub fn is_onboarded(&self) -> bool {
        !self.oms_endpoint.is_empty() && !self.agent_guid.is_empty()
    }

    /// The content to write, in the original's order. A value with a line break or another
    /// control character would be a forged line: it is refused.
    pub fn to_text(&self) -> Result<String> {
        let dsc = self.dsc_endpoint.replace('(', "\\(").replace(')', "\\)");
        let uuid = self.uuid.as_deref();
        let mut text = String::new();
        for (key, value) in [
            ("WORKSPACE_ID", Some(self.workspace_id.as_str())),
            ("AGENT_GUID", Some(&self.agent_guid)),
            ("LOG_FACILITY", Some(&self.log_facility)),
            (
                "CERTIFICATE_UPDATE_ENDPOINT",
                Some(&self.certificate_update_endpoint),
            ),
            ("URL_TLD", Some(&self.url_tld)),
            ("DSC_ENDPOINT", Some(&dsc)),
            ("OMS_ENDPOINT", Some(&self.oms_endpoint)),
            ("AZURE_RESOURCE_ID", Some(&self.azure_resource_id)),
            ("OMSCLOUD_ID", Some(&self.omscloud_id)),
            ("UUID", uuid),
            ("DIAGNOSTIC_ENDPOINT", self.diagnostic_endpoint.as_deref()),
        ] {
            let Some(value) = value else { continue };
            if value.chars().any(char::is_control) {
                bail!("cannot write `{key}` to omsadmin.conf: it holds a control character");
            }
            let _ = writeln!(text, "{key}={value}");
        }
        for line in &self.other_lines {
            let _ = writeln!(text, "{line}");
        }
        Ok(text)
    }

    /// Writes the file, atomically, with this mode and owner.
    pub fn write(&self, path: &Path, look: Look) -> Result<()> {
        files::write_atomic(path, self.to_text()?.as_bytes(), look)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "WORKSPACE_ID=11111111-2222-3333-4444-555555555555\n\
        AGENT_GUID=aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee\n\
        LOG_FACILITY=local0\n\
        CERTIFICATE_UPDATE_ENDPOINT=https://w.oms.example/ConfigurationService.Svc/RenewCertificate\n\
        URL_TLD=example.test:8443\n\
        DSC_ENDPOINT=https://h.example/Accounts/w/Nodes\\(AgentId='g'\\)\n\
        OMS_ENDPOINT=https://w.ods.example/OperationalData.svc/PostJsonDataItems\n\
        AZURE_RESOURCE_ID=\n\
        OMSCLOUD_ID=\n\
        UUID=01020304-2222-3333-4444-555555555555\n";

    #[test]
    fn what_is_written_is_what_was_read() {
        let conf = OmsAdmin::parse(WHOLE);
        assert_eq!(
            conf.dsc_endpoint,
            "https://h.example/Accounts/w/Nodes(AgentId='g')"
        );
        assert_eq!(conf.to_text().unwrap(), WHOLE);
        assert!(conf.is_onboarded() && conf.warnings.is_empty());
        assert!(conf.workspace().is_some() && conf.guid().is_some());
    }

    #[test]
    fn unknown_lines_are_kept_and_known_ones_put_in_order() {
        let conf = OmsAdmin::parse(
            "# mine\r\nUUID= x \r\nFOO=bar=baz\r\n\r\nDIAGNOSTIC_ENDPOINT=https://d\r\n\
             WORKSPACE_ID=w\r\nrubbish\r\n",
        );
        assert_eq!(conf.uuid.as_deref(), Some("x"));
        let text = conf.to_text().unwrap();
        assert!(text.starts_with("WORKSPACE_ID=w\nAGENT_GUID=\n"), "{text}");
        assert!(
            text.ends_with("UUID=x\nDIAGNOSTIC_ENDPOINT=https://d\n# mine\nFOO=bar=baz\nrubbish\n"),
            "{text}"
        );
        assert_eq!(OmsAdmin::parse(&text), conf);
        assert!(!conf.is_onboarded());
    }

    #[test]
    fn the_first_endpoint_counts_and_a_missing_uuid_stays_missing() {
        let conf = OmsAdmin::parse("OMS_ENDPOINT=a\nOMS_ENDPOINT=b\nAGENT_GUID=1\nAGENT_GUID=2\n");
        assert_eq!(conf.oms_endpoint, "a");
        assert_eq!(conf.agent_guid, "2");
        assert_eq!(conf.warnings.len(), 1);
        assert_eq!(conf.uuid, None);
        assert!(!conf.to_text().unwrap().contains("UUID"));
    }

    #[test]
    fn a_value_cannot_forge_a_line() {
        let mut conf = OmsAdmin::parse(WHOLE);
        conf.certificate_update_endpoint = "https://x\nOMS_ENDPOINT=https://evil".into();
        let error = conf.to_text().unwrap_err().to_string();
        assert!(error.contains("CERTIFICATE_UPDATE_ENDPOINT"), "{error}");
    }

    #[test]
    fn file_has_a_limit_and_blank_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("omsadmin.conf");
        assert!(OmsAdmin::load(&path).unwrap().is_none());
        std::fs::write(&path, " \n").unwrap();
        assert!(OmsAdmin::load(&path).unwrap().is_none());
        OmsAdmin::parse(WHOLE)
            .write(&path, Look::mode(0o640))
            .unwrap();
        assert_eq!(
            OmsAdmin::load(&path).unwrap().unwrap(),
            OmsAdmin::parse(WHOLE)
        );
        let mut text = WHOLE.as_bytes().to_vec();
        text.resize(LIMIT, b'\n');
        std::fs::write(&path, &text).unwrap();
        assert!(OmsAdmin::load(&path).unwrap().is_some());
        text.push(b'\n');
        std::fs::write(&path, &text).unwrap();
        assert!(OmsAdmin::load(&path).is_err());
    }
}
