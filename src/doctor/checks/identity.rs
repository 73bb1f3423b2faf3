//! Who this host is to the service: certificate, key, omsadmin.conf.

use crate::base::files;
use crate::base::secret::Secret;
use crate::doctor::finding::Finding;
use crate::doctor::patient::{Patient, Ward};
use crate::settings::omsadmin::{self, OmsAdmin};
use crate::wire::certificate::Facts;
use crate::wire::identity::{ClientIdentity, PEM_LIMIT};
use crate::wire::metadata::MachineIds;
use crate::wire::renewal::Stage;
use crate::workspace::{self, identity};
use jiff::{SignedDuration, Timestamp};
use std::path::Path;
use std::time::Duration;

/// Less than this left is worth a word.
const SOON: SignedDuration = SignedDuration::from_hours(30 * 24);
/// A renewal takes seconds.
const UNSETTLED: Duration = Duration::from_secs(600);
const AGAIN: &str = "onboard again: omsadmin.sh -w ID -s KEY";

/// Certificate and key: there, of one pair, of this workspace, valid now.
pub fn pair(patient: &Patient, found: &mut Vec<Finding>) {
    for ward in patient.onboarded() {
        pair_of(patient, ward, Timestamp::now(), found);
    }
}

fn pair_of(patient: &Patient, ward: &Ward, now: Timestamp, found: &mut Vec<Finding>) {
    let pair = workspace::pair(&patient.host.layout, &ward.id);
    let mut say = |id, what: String, seen: String| {
        let mend = match id {
            "certificate-expires" => format!("omsagent identity renew {}", ward.id),
            _ => AGAIN.to_owned(),
        };
        found.push(Finding::new(id, what).seen(seen).of(&ward.id).mend(mend));
    };
    let cert = read(&pair.cert);
    let key = read(&pair.key);
    for (id, path, text) in [
        ("certificate-missing", &pair.cert, &cert),
        ("key-missing", &pair.key, &key),
    ] {
        if matches!(text, Ok(None)) {
            let what = format!("{} is missing or empty", path.display());
            say(
                id,
                what,
                "the service does not know this host without it".into(),
            );
        }
    }
    let (cert_pem, key_pem) = match (cert, key) {
        (Ok(Some(cert)), Ok(Some(key))) => (cert, key),
        (Err(why), _) | (_, Err(why)) => {
            let what = format!("the key pair of {} cannot be read", pair.cert.display());
            return say("certificate-unreadable", what, why);
        }
        _ => return,
    };
    let identity = ClientIdentity {
        cert_pem: cert_pem.expose().to_owned(),
        key_pem,
    };
    let facts = identity.cert_der().and_then(|der| Ok(Facts::read(&der)?));
    let facts = match facts {
        Ok(facts) => facts,
        Err(why) => {
            let what = format!("{} is no certificate", pair.cert.display());
            return say("certificate-unreadable", what, format!("{why:#}"));
        }
    };
    let path = pair.cert.display().to_string();
    if facts.not_after < now {
        let what = format!("the certificate {path} has expired");
        say(
            "certificate-expired",
            what,
            format!("it was valid until {}", facts.not_after),
        );
    } else if facts.not_after.duration_since(now) < SOON {
        let what = format!("the certificate {path} expires soon");
        say(
            "certificate-expires",
            what,
            format!("it is valid until {}", facts.not_after),
        );
    }
    if facts.not_before > now {
        let what = format!("the certificate {path} is not valid yet");
        let seen = format!(
            "it is valid from {}, and this host's clock says {now}",
            facts.not_before
        );
        say("certificate-not-yet", what, seen);
    }
    let named = facts
        .subject
        .common_names()
        .any(|cn| cn.eq_ignore_ascii_case(ward.id.as_str()));
    if !named {
        let what = format!("the certificate {path} is another workspace's");
        say(
            "certificate-foreign",
            what,
            format!("it is for {}", facts.subject),
        );
    }
    match identity.fits() {
        Ok(true) => {}
        Ok(false) => {
            let what = format!("{} is not the key of {path}", pair.key.display());
            say(
                "certificate-mismatch",
                what,
                "their public keys differ".into(),
            );
        }
        Err(why) => {
            let what = format!("{} is no usable key", pair.key.display());
            say("certificate-unreadable", what, format!("{why:#}"));
        }
    }
}

/// A renewal that does not come to its end.
pub fn renewal(patient: &Patient, found: &mut Vec<Finding>) {
    for ward in patient.onboarded() {
        let certs = patient.host.layout.workspace(&ward.id).certs();
        let problem = ward.figures.as_ref().ok();
        let problem = problem.and_then(|f| f.renewal_problem.clone());
        let begun = [Stage::Offered, Stage::Known]
            .iter()
            .filter_map(|stage| std::fs::symlink_metadata(stage.path(&certs)).ok())
            .filter_map(|meta| meta.modified().ok()?.elapsed().ok())
            .find(|age| *age > UNSETTLED);
        let seen = match (problem, begun) {
            (Some(problem), _) => problem,
            (None, Some(age)) => format!(
                "a new one was made {} minutes ago and is not confirmed",
                age.as_secs() / 60
            ),
            (None, None) => continue,
        };
        let what = "the client certificate should be renewed and is not";
        found.push(
            Finding::new("certificate-renewal", what)
                .seen(seen)
                .of(&ward.id)
                .mend(format!(
                    "the agent tries again; at once: omsagent identity renew {}",
                    ward.id
                )),
        );
    }
}

/// `None`: not there, or blank. The folder is the service account's: no link is followed.
fn read(path: &Path) -> Result<Option<Secret>, String> {
    let bytes = files::read_no_follow(path, PEM_LIMIT).map_err(|e| format!("{e:#}"))?;
    let bytes = bytes.map(zeroize::Zeroizing::new);
    let text = bytes.map(|b| Secret::new(String::from_utf8_lossy(&b)));
    Ok(text.filter(|t| !t.expose().trim().is_empty()))
}

/// omsadmin.conf as the agent needs it.
pub fn settings(patient: &Patient, found: &mut Vec<Finding>) {
    let machine = MachineIds::read(&patient.host.layout);
    for ward in patient.onboarded() {
        let path = patient.host.layout.workspace(&ward.id).omsadmin_conf();
        let saved = match files::read_text_no_follow(&path, omsadmin::LIMIT) {
            Err(why) => Err(format!("{why:#}")),
            Ok(None) => Err("it is missing".to_owned()),
            Ok(Some(text)) => {
                let saved = OmsAdmin::parse(&text);
                lacks(&saved, ward).map_or(Ok(saved), Err)
            }
        };
        let (id, what, seen) = match saved {
            Err(seen) => (
                "settings-broken",
                format!("{} cannot be used", path.display()),
                seen,
            ),
            Ok(saved) if identity::is_copy(&saved, &machine) => (
                "host-copied",
                "this host is a copy of the one that was onboarded".to_owned(),
                "two hosts speak with one identity: the hardware id in omsadmin.conf is another machine's"
                    .to_owned(),
            ),
            Ok(_) => continue,
        };
        found.push(Finding::new(id, what).seen(seen).of(&ward.id).mend(AGAIN));
    }
}

fn lacks(admin: &OmsAdmin, ward: &Ward) -> Option<String> {
    if !admin.is_onboarded() {
        return Some("OMS_ENDPOINT or AGENT_GUID is missing in it".into());
    }
    if admin.guid().is_none() {
        return Some("AGENT_GUID is no GUID".into());
    }
    let same = |id: &str| id.eq_ignore_ascii_case(ward.id.as_str());
    (!same(&admin.workspace_id)).then(|| {
        let id: String = admin.workspace_id.chars().take(64).collect();
        format!("WORKSPACE_ID is `{id}`, not that of its folder")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{AgentGuid, WorkspaceId};
    use crate::doctor::asking::Silent;
    use crate::doctor::endpoints::Role;
    use crate::host::Host;
    use crate::host::layout::Layout;

    fn ids(of: &dyn Fn(&Path, &ClientIdentity, &ClientIdentity), days: i64) -> Vec<&'static str> {
        let dir = tempfile::tempdir().unwrap();
        let id: WorkspaceId = "11111111-2222-3333-4444-555555555555".parse().unwrap();
        let host = Host::detect(Layout::new(dir.path()));
        let certs = host.layout.workspace(&id).certs();
        std::fs::create_dir_all(&certs).unwrap();
        let make =
            || ClientIdentity::generate(&id, &AgentGuid::random(), Timestamp::now()).unwrap();
        let (one, other) = (make(), make());
        std::fs::write(certs.join("oms.crt"), &one.cert_pem).unwrap();
        std::fs::write(certs.join("oms.key"), one.key_pem.expose()).unwrap();
        of(&certs, &one, &other);
        let ward = Ward {
            id,
            unit: None,
            figures: Err(Silent::Absent),
            onboarded: true,
        };
        let patient = Patient::admit(host, Role::Agent);
        let now = Timestamp::now() + SignedDuration::from_hours(24 * days);
        let mut found = Vec::new();
        pair_of(&patient, &ward, now, &mut found);
        found.iter().map(|f| f.id).collect()
    }

    #[test]
    fn every_fault_of_a_pair_has_its_name() {
        let nothing = |_: &Path, _: &ClientIdentity, _: &ClientIdentity| {};
        assert!(ids(&nothing, 1).is_empty());
        assert_eq!(ids(&nothing, 340), ["certificate-expires"]);
        assert_eq!(ids(&nothing, 370), ["certificate-expired"]);
        assert_eq!(ids(&nothing, -3), ["certificate-not-yet"]);
        let other_key = |dir: &Path, _: &ClientIdentity, other: &ClientIdentity| {
            std::fs::write(dir.join("oms.key"), other.key_pem.expose()).unwrap();
        };
        assert_eq!(ids(&other_key, 1), ["certificate-mismatch"]);
        let no_key = |dir: &Path, _: &ClientIdentity, _: &ClientIdentity| {
            std::fs::write(dir.join("oms.key"), "\n").unwrap();
        };
        assert_eq!(ids(&no_key, 1), ["key-missing"]);
        let garbage = |dir: &Path, _: &ClientIdentity, _: &ClientIdentity| {
            std::fs::write(dir.join("oms.crt"), "no PEM").unwrap();
        };
        assert_eq!(ids(&garbage, 1), ["certificate-unreadable"]);
    }
}
