//! Why an onboarding fails: one cause, one name, one exit code (protocol.md 1.9), one remedy. The
//! table of docs/exit-codes.md has the same rows.

use crate::wire::date::Skew;
use crate::wire::http::Cause as Wire;

/// A cause. Its name ends the message, and is what people and programs look it up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnboardCause {
    /// The workspace id is no GUID.
    WorkspaceId,
    /// The shared key is missing.
    KeyMissing,
    /// The shared key cannot be a workspace's.
    KeyInvalid,
    /// The domain cannot stand in a URL.
    Domain,
    /// The proxy setting cannot be read.
    ProxySetting,
    /// 403: the clock.
    ClockSkew,
    /// 403: the service has no such workspace.
    UnknownWorkspace,
    /// 403: the key is not the workspace's.
    WrongKey,
    /// 403: the workspace or the agent is switched off.
    Disabled,
    /// 403: name, vendor or version of the system are missing.
    IncompleteSystem,
    /// 403: what arrived is not what was sent.
    Altered,
    /// 403 for a reason that is not known here.
    Refused,
    /// 403 without a reason: no workspace service answers like that.
    Forbidden,
    /// 3xx.
    Redirected,
    /// 404, 405.
    NotTheService,
    /// 429, 503.
    Busy,
    /// Other 5xx.
    ServiceFault,
    /// Any other status.
    OddStatus,
    /// No answer.
    Wire(Wire),
}

use OnboardCause as C;

impl OnboardCause {
    /// All of them.
    pub fn all() -> impl Iterator<Item = OnboardCause> {
        [
            C::WorkspaceId,
            C::KeyMissing,
            C::KeyInvalid,
            C::Domain,
            C::ProxySetting,
            C::ClockSkew,
            C::UnknownWorkspace,
            C::WrongKey,
            C::Disabled,
            C::IncompleteSystem,
            C::Altered,
            C::Refused,
            C::Forbidden,
            C::Redirected,
            C::NotTheService,
            C::Busy,
            C::ServiceFault,
            C::OddStatus,
        ]
        .into_iter()
        .chain(Wire::ALL.map(C::Wire))
    }

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            C::WorkspaceId => "workspace-id",
            C::KeyMissing => "key-missing",
            C::KeyInvalid => "key-invalid",
            C::Domain => "domain",
            C::ProxySetting => "proxy-setting",
            C::ClockSkew => "clock-skew",
            C::UnknownWorkspace => "unknown-workspace",
            C::WrongKey => "wrong-key",
            C::Disabled => "disabled",
            C::IncompleteSystem => "incomplete-system",
            C::Altered => "altered",
            C::Refused => "refused",
            C::Forbidden => "forbidden",
            C::Redirected => "redirected",
            C::NotTheService => "not-the-service",
            C::Busy => "busy",
            C::ServiceFault => "service-fault",
            C::OddStatus => "odd-status",
            C::Wire(Wire::Dns) => "dns",
            C::Wire(Wire::ProxyDns) => "proxy-dns",
            C::Wire(Wire::ProxyConnect) => "proxy-connect",
            C::Wire(Wire::ProxyTls) => "proxy-tls",
            C::Wire(Wire::ProxyAuth) => "proxy-auth",
            C::Wire(Wire::ProxyRefused) => "proxy-refused",
            C::Wire(Wire::Connect) => "connect",
            C::Wire(Wire::TlsUntrusted) => "tls-untrusted",
            C::Wire(Wire::TlsName) => "tls-name",
            C::Wire(Wire::TlsTime) => "tls-time",
            C::Wire(Wire::TlsOld) => "tls-old",
            C::Wire(Wire::NotTls) => "not-tls",
            C::Wire(Wire::Tls) => "tls",
            C::Wire(Wire::Timeout) => "timeout",
            C::Wire(Wire::Protocol) => "not-http",
            C::Wire(Wire::Local) => "local",
        }
    }

    /// The exit code of protocol.md 1.9.
    pub fn exit_code(self) -> u8 {
        match self {
            C::WorkspaceId | C::KeyMissing | C::KeyInvalid | C::Domain => 3,
            C::ProxySetting
            | C::Wire(
                Wire::ProxyDns
                | Wire::ProxyConnect
                | Wire::ProxyTls
                | Wire::ProxyAuth
                | Wire::ProxyRefused,
            ) => 4,
            C::ClockSkew
            | C::UnknownWorkspace
            | C::WrongKey
            | C::Disabled
            | C::IncompleteSystem
            | C::Altered
            | C::Refused
            | C::Forbidden => 5,
            C::Redirected | C::NotTheService | C::Busy | C::ServiceFault | C::OddStatus => 6,
            C::Wire(Wire::Dns) => 7,
            C::Wire(_) => 8,
        }
    }

    /// What to do, where the message does not hold it already.
    pub(super) fn remedy(self) -> Option<&'static str> {
        Some(match self {
            C::Wire(Wire::Dns) => {
                "check the domain given with -d and the name servers of this host"
            }
            C::Wire(Wire::ProxyDns) => "correct the host in proxy.conf, or set it again with -p",
            C::Wire(Wire::ProxyConnect) => {
                "correct host and port in proxy.conf, or set them again with -p"
            }
            C::Wire(Wire::ProxyTls) => {
                "trust the proxy's authority with --ca-file, or write http:// if it speaks no TLS"
            }
            C::Wire(Wire::ProxyAuth) => "set them with -p user:password@host:port",
            C::Wire(Wire::ProxyRefused) => "let the proxy allow it",
            C::Wire(Wire::Connect | Wire::Timeout) => {
                "see that the service runs and that firewalls let this host reach it, or add a \
                 proxy with -p"
            }
            C::Wire(Wire::TlsUntrusted) => {
                "if a proxy or firewall opens the connection (TLS inspection), that is its \
                 authority: let it leave this name alone; if the authority is to be trusted, pass \
                 it with --ca-file"
            }
            C::Wire(Wire::TlsName) => {
                "check the domain given with -d, and what answers at this name"
            }
            C::Wire(Wire::TlsTime) => "correct the clock of this host, or renew the certificate",
            C::Wire(Wire::TlsOld) => {
                "TLS 1.2 is the least that is used; let the service, or what inspects TLS before \
                 it, speak it"
            }
            C::Wire(Wire::NotTls) => "check the domain given with -d and its port",
            C::Redirected => "something on the way redirects the request, which is not followed",
            C::NotTheService => {
                "what answers at this name is not a workspace service: check the domain given with \
                 -d"
            }
            C::Busy => "the service is busy: try again in some minutes",
            C::ServiceFault => "the service, or a proxy before it, has a fault: try again later",
            C::OddStatus => {
                "the service did not understand, or something on the way answered in its place"
            }
            C::UnknownWorkspace => {
                "the service knows no workspace of this ID: copy it again from the workspace"
            }
            C::WrongKey => {
                "the key is not one of this workspace's: copy ID and key again from the workspace"
            }
            C::Disabled => {
                "the workspace, or this agent, is switched off at the service: have it switched on \
                 there"
            }
            C::IncompleteSystem => {
                "the service misses name, vendor or version of this system: see /etc/os-release"
            }
            C::Altered => {
                "the request did not arrive as it was sent: something on the way changes it, like \
                 a proxy that opens TLS"
            }
            C::Refused => {
                "the service does not accept this workspace ID with this key: copy both again from \
                 the workspace"
            }
            C::Forbidden => {
                "the answer gives no reason: the service does not accept this workspace ID with \
                 this key, or a proxy or firewall on the way answered in its place"
            }
            C::WorkspaceId
            | C::KeyMissing
            | C::KeyInvalid
            | C::Domain
            | C::ProxySetting
            | C::ClockSkew
            | C::Wire(Wire::Tls | Wire::Protocol | Wire::Local) => return None,
        })
    }

    /// What a 403 means: by its reason (the hub's are in docs/hub.md; of the original's service
    /// `ClockSkew` is known), by the measured clock where the reason says nothing known.
    pub(super) fn of_refusal(reason: &str, skew: Option<Skew>) -> OnboardCause {
        let known = [
            ("ClockSkew", C::ClockSkew),
            ("InvalidDate", C::ClockSkew),
            ("UnknownWorkspace", C::UnknownWorkspace),
            ("WorkspaceMismatch", C::Altered),
            ("InvalidWorkspaceKey", C::WrongKey),
            ("InvalidAuthorization", C::WrongKey),
            ("WorkspaceDisabled", C::Disabled),
            ("AgentDisabled", C::Disabled),
            ("IncompleteOperatingSystem", C::IncompleteSystem),
            ("InvalidContentHash", C::Altered),
            ("MissingHeader", C::Altered),
            ("InvalidCertificate", C::Altered),
            ("CertificateMismatch", C::Altered),
        ];
        let known = known
            .iter()
            .find(|(text, _)| reason.eq_ignore_ascii_case(text));
        match known {
            Some((_, cause)) => *cause,
            None if skew.is_some() => C::ClockSkew,
            None if reason.is_empty() => C::Forbidden,
            None => C::Refused,
        }
    }

    pub(super) fn of_status(status: u16) -> OnboardCause {
        match status {
            300..=399 => C::Redirected,
            404 | 405 => C::NotTheService,
            429 | 503 => C::Busy,
            500..=599 => C::ServiceFault,
            _ => C::OddStatus,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of the page's table: name, exit code.
    fn page() -> Vec<(String, u8)> {
        let page = include_str!("../../../docs/exit-codes.md");
        let section = page.split("## Why an onboarding failed").nth(1).unwrap();
        let section = section.split("\n## ").next().unwrap();
        let row = |line: &str| {
            let mut cells = line.strip_prefix("| `")?.split('|');
            let name = cells.next()?.trim().trim_end_matches('`').to_owned();
            let code = cells.next()?.trim().parse().ok()?;
            let said = cells.next()?.trim();
            let advice = cells.next()?.trim();
            assert!(!said.is_empty() && !advice.is_empty(), "{line}");
            Some((name, code))
        };
        section.lines().filter_map(row).collect()
    }

    #[test]
    fn the_page_has_every_cause_once_with_its_code() {
        let mut told: Vec<(String, u8)> = OnboardCause::all()
            .map(|cause| (cause.name().to_owned(), cause.exit_code()))
            .collect();
        let mut written = page();
        let count = told.len();
        told.sort_unstable();
        told.dedup();
        assert_eq!(told.len(), count, "two causes of one name");
        written.sort_unstable();
        assert_eq!(written, told);
    }

    #[test]
    fn a_reason_counts_before_the_clock() {
        let off = Some(Skew(jiff::SignedDuration::from_mins(9)));
        let of = |reason, skew| OnboardCause::of_refusal(reason, skew).name();
        assert_eq!(of("InvalidWorkspaceKey", off), "wrong-key");
        assert_eq!(of("clockskew", None), "clock-skew");
        assert_eq!(of("Something", off), "clock-skew");
        assert_eq!(of("Something", None), "refused");
        assert_eq!(of("", None), "forbidden");
    }
}
