//! Why an onboarding or a heartbeat came to nothing. Each message is one line: first the words
//! automation compares (protocol.md 1.9), then the cause and what to do.

use crate::wire::date::Skew;
use crate::wire::http::{Cause, HttpError};
use crate::wire::topology::TopologyError;
use std::fmt;

/// The original's words for a transport failure, after its number.
const TRANSPORT_ADVICE: &str = "Check the internet connectivity and the correctness of the \
    workspace ID and shared key or run omsadmin.sh with '-v'";

/// Why this host was not taken in. [`OnboardError::exit_code`] is the legacy code.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OnboardError {
    /// The domain cannot stand in a URL.
    #[error(
        "The domain is not valid. Cause: `{0}` is no host name, like `opinsights.azure.com`, \
        optionally with a port: correct the value of -d."
    )]
    BadDomain(String),
    /// The key cannot be a workspace's.
    #[error("The Shared Key is not valid. Cause: {0}.")]
    BadKey(String),
    /// There is no key.
    #[error(
        "Missing Workspace ID or Shared Key information for onboarding. \
        Cause: the shared key is empty."
    )]
    MissingKey,
    /// 403.
    #[error("Error onboarding. HTTP code 403, Reason: {reason}. Check the Workspace ID, Workspace \
        Key and that the time of the system is correct. Cause: {}.", refusal(reason, *skew))]
    Refused {
        /// The service's reason, or nothing.
        reason: String,
        /// How far the clock is off, when notably.
        skew: Option<Skew>,
    },
    /// Neither 200 nor 403.
    #[error("Error onboarding. HTTP code {0}. Cause: {cause}.", cause = status_cause(*.0))]
    Status(u16),
    /// No answer at all.
    #[error("{}", Transport(.0))]
    Transport(HttpError),
}

/// Not thiserror's `from`: the text holds the cause already, and a chain would say it twice.
impl From<HttpError> for OnboardError {
    fn from(error: HttpError) -> Self {
        OnboardError::Transport(error)
    }
}

impl OnboardError {
    /// The exit code of protocol.md 1.9.
    pub fn exit_code(&self) -> u8 {
        match self {
            OnboardError::BadDomain(_) | OnboardError::BadKey(_) | OnboardError::MissingKey => 3,
            OnboardError::Refused { .. } => 5,
            OnboardError::Status(_) => 6,
            OnboardError::Transport(error) => match error.cause {
                Cause::ProxyAuth | Cause::ProxyConnect | Cause::ProxyDns | Cause::ProxyRefused => 4,
                Cause::Dns => 7,
                _ => 8,
            },
        }
    }
}

struct Transport<'a>(&'a HttpError);

impl fmt::Display for Transport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HttpError { cause, detail } = self.0;
        let number = cause.legacy_number();
        match cause {
            Cause::Dns => f.write_str(
                "Error resolving host during the onboarding request. Check the correctness of \
                 the workspace ID and the internet connectivity, or add a proxy.",
            ),
            Cause::ProxyDns => write!(
                f,
                "Proxy could not be resolved during the onboarding request: curl returned \
                 {number}. Verify the proxy."
            ),
            Cause::ProxyAuth | Cause::ProxyConnect | Cause::ProxyRefused => write!(
                f,
                "Error connecting to OMS service through proxy: curl returned {number}. \
                 Verify the proxy."
            ),
            _ => write!(
                f,
                "Error during the onboarding request: curl returned {number}. \
                 {TRANSPORT_ADVICE}."
            ),
        }?;
        write!(f, " Cause: {detail}")?;
        match remedy(*cause) {
            Some(remedy) => write!(f, ": {remedy}."),
            None => f.write_str("."),
        }
    }
}

/// What to do about a cause, where the detail does not say it already.
fn remedy(cause: Cause) -> Option<&'static str> {
    Some(match cause {
        Cause::Dns => "check the domain given with -d and the name servers of this host",
        Cause::ProxyDns => "correct the host in proxy.conf, or set it again with -p",
        Cause::ProxyConnect => "correct host and port in proxy.conf, or set them again with -p",
        Cause::ProxyAuth => "set them with -p user:password@host:port",
        Cause::ProxyRefused => "let the proxy allow it",
        Cause::Connect | Cause::Timeout => {
            "see that the service runs and that firewalls let this host reach it, or add a proxy \
             with -p"
        }
        Cause::TlsUntrusted => "if this authority is to be trusted, pass it with --ca-file",
        Cause::TlsName => "check the domain given with -d, and what answers at this name",
        Cause::TlsTime => "correct the clock of this host, or renew the certificate",
        Cause::Tls | Cause::Protocol | Cause::Local => return None,
    })
}

fn refusal(reason: &str, skew: Option<Skew>) -> String {
    match skew {
        Some(skew) => {
            format!("the clock of this host is {skew}: correct it and try again")
        }
        None if reason.eq_ignore_ascii_case("ClockSkew") => {
            "the service finds the clock of this host wrong: correct it and try again".to_owned()
        }
        None => "the service does not accept this workspace ID with this key: copy both again \
            from the workspace"
            .to_owned(),
    }
}

fn status_cause(status: u16) -> &'static str {
    match status {
        300..=399 => "something on the way redirects the request, which is not followed",
        404 | 405 => {
            "what answers at this name is not a workspace service: check the domain given with -d"
        }
        429 | 503 => "the service is busy: try again in some minutes",
        500..=599 => "the service, or a proxy before it, has a fault: try again later",
        _ => "the service did not understand, or something on the way answered in its place",
    }
}

/// Why a topology heartbeat failed. The agent logs it and waits for the next interval.
#[derive(Debug, thiserror::Error)]
pub enum HeartbeatError {
    /// 200, with something else than a topology answer.
    #[error("the service's answer to the topology heartbeat cannot be read: {0}")]
    NotUnderstood(#[from] TopologyError),
    /// Another status than 200.
    #[error("the service answered the topology heartbeat with {status}{}", aside(reason, *skew))]
    Status {
        /// HTTP status.
        status: u16,
        /// The service's reason, if it gave one.
        reason: Option<String>,
        /// How far the clock is off, when notably.
        skew: Option<Skew>,
    },
    /// No answer at all.
    #[error("the topology heartbeat could not be sent: {0}")]
    Transport(#[from] HttpError),
}

/// Why the service did not take a new certificate.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// Another status than 200.
    #[error(
        "the service answered the request for a new certificate with {status}{}",
        aside(reason, None)
    )]
    Status {
        /// HTTP status.
        status: u16,
        /// The service's reason, if it gave one.
        reason: Option<String>,
    },
    /// No answer: the service may have taken it all the same.
    #[error("the request for a new certificate was not answered: {0}")]
    Transport(#[from] HttpError),
}

impl RenewError {
    /// Did the service say no? A fault of the service or of the way says nothing.
    pub fn is_refusal(&self) -> bool {
        match self {
            RenewError::Status { status, .. } => {
                matches!(status, 400..=499 | 501) && !matches!(status, 407 | 408 | 429)
            }
            RenewError::Transport(_) => false,
        }
    }
}

impl HeartbeatError {
    /// Did the service say that it does not take this certificate?
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            HeartbeatError::Status {
                status: 401 | 403,
                ..
            }
        )
    }

    /// The maintenance helper's code (protocol.md 1.9): 7, 8 or 9.
    pub fn code(&self) -> u8 {
        match self {
            HeartbeatError::Status { .. } => 7,
            HeartbeatError::Transport(_) => 8,
            HeartbeatError::NotUnderstood(_) => 9,
        }
    }
}

fn aside(reason: &Option<String>, skew: Option<Skew>) -> String {
    let reason = reason.as_ref().map(|r| format!(" ({r})"));
    let skew = skew.map(|s| format!("; the clock of this host is {s}"));
    format!("{}{}", reason.unwrap_or_default(), skew.unwrap_or_default())
}
