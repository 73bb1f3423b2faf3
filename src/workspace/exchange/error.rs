//! Why an onboarding or a heartbeat came to nothing. Each message is one line: first the words
//! automation compares (protocol.md 1.9), then the cause and what to do.

use super::OnboardCause;
use crate::settings::proxy::Unusable;
use crate::wire::date::Skew;
use crate::wire::http::{Cause, HttpError};
use crate::wire::topology::TopologyError;
use std::fmt;

/// The original's words for a transport failure, after its number.
const TRANSPORT_ADVICE: &str = "Check the internet connectivity and the correctness of the \
    workspace ID and shared key or run omsadmin.sh with '-v'";

/// Why this host was not taken in. The message ends with the name of its [`OnboardCause`].
#[derive(Debug, Clone)]
pub enum OnboardError {
    /// The id is no workspace's.
    BadId(String),
    /// The domain cannot stand in a URL.
    BadDomain(String),
    /// The key cannot be a workspace's.
    BadKey(String),
    /// There is no key.
    MissingKey,
    /// A proxy is set, and cannot be used.
    BadProxy(Unusable),
    /// 403.
    Refused {
        /// The service's reason, or nothing.
        reason: String,
        /// How far the clock is off, when notably.
        skew: Option<Skew>,
    },
    /// Neither 200 nor 403.
    Status(u16),
    /// No answer at all.
    Transport(HttpError),
}

/// The text holds the cause already; a chain would say it twice.
impl std::error::Error for OnboardError {}

impl From<HttpError> for OnboardError {
    fn from(error: HttpError) -> Self {
        OnboardError::Transport(error)
    }
}

impl From<Unusable> for OnboardError {
    fn from(error: Unusable) -> Self {
        OnboardError::BadProxy(error)
    }
}

impl OnboardError {
    /// Which one of the known causes.
    pub fn cause(&self) -> OnboardCause {
        match self {
            OnboardError::BadId(_) => OnboardCause::WorkspaceId,
            OnboardError::BadDomain(_) => OnboardCause::Domain,
            OnboardError::BadKey(_) => OnboardCause::KeyInvalid,
            OnboardError::MissingKey => OnboardCause::KeyMissing,
            OnboardError::BadProxy(_) => OnboardCause::ProxySetting,
            OnboardError::Refused { reason, skew } => OnboardCause::of_refusal(reason, *skew),
            OnboardError::Status(status) => OnboardCause::of_status(*status),
            OnboardError::Transport(error) => OnboardCause::Wire(error.cause),
        }
    }

    /// The exit code of protocol.md 1.9.
    pub fn exit_code(&self) -> u8 {
        self.cause().exit_code()
    }

    fn cause_text(&self) -> String {
        let remedy = self.cause().remedy();
        match self {
            OnboardError::BadId(why) | OnboardError::BadKey(why) => why.clone(),
            OnboardError::MissingKey => "the shared key is empty".to_owned(),
            OnboardError::BadDomain(domain) => format!(
                "`{domain}` is no host name, like `opinsights.azure.com`, optionally with a port: \
                 correct the value of -d"
            ),
            OnboardError::BadProxy(unusable) => unusable.to_string(),
            OnboardError::Refused { skew, .. } => match (self.cause(), skew) {
                (OnboardCause::ClockSkew, Some(skew)) => {
                    format!("the clock of this host is {skew}: correct it and try again")
                }
                (OnboardCause::ClockSkew, None) => {
                    "the service finds the clock of this host wrong: correct it and try again"
                        .to_owned()
                }
                (_, Some(skew)) => format!(
                    "{}; and the clock of this host is {skew}",
                    remedy.unwrap_or_default()
                ),
                (_, None) => remedy.unwrap_or_default().to_owned(),
            },
            OnboardError::Status(_) => remedy.unwrap_or_default().to_owned(),
            OnboardError::Transport(error) => match remedy {
                Some(remedy) => format!("{}: {remedy}", error.detail),
                None => error.detail.clone(),
            },
        }
    }
}

impl fmt::Display for OnboardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OnboardError::BadId(_) => f.write_str("The Workspace ID is not valid."),
            OnboardError::BadDomain(_) => f.write_str("The domain is not valid."),
            OnboardError::BadKey(_) => f.write_str("The Shared Key is not valid."),
            OnboardError::BadProxy(_) => f.write_str("The proxy setting is not valid."),
            OnboardError::MissingKey => {
                f.write_str("Missing Workspace ID or Shared Key information for onboarding.")
            }
            OnboardError::Refused { reason, .. } => write!(
                f,
                "Error onboarding. HTTP code 403, Reason: {reason}. Check the Workspace ID, \
                 Workspace Key and that the time of the system is correct."
            ),
            OnboardError::Status(status) => {
                write!(f, "Error onboarding. HTTP code {status}.")
            }
            OnboardError::Transport(error) => opening(error.cause, f),
        }?;
        let name = self.cause().name();
        write!(f, " Cause: {}. [{name}]", self.cause_text())
    }
}

/// The original's words for a transport failure, with the number that its tool would have named.
fn opening(cause: Cause, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let number = cause.legacy_number();
    match cause {
        Cause::Dns => f.write_str(
            "Error resolving host during the onboarding request. Check the correctness of the \
             workspace ID and the internet connectivity, or add a proxy.",
        ),
        Cause::ProxyDns => write!(
            f,
            "Proxy could not be resolved during the onboarding request: curl returned {number}. \
             Verify the proxy."
        ),
        Cause::ProxyAuth | Cause::ProxyConnect | Cause::ProxyRefused | Cause::ProxyTls => write!(
            f,
            "Error connecting to OMS service through proxy: curl returned {number}. Verify the \
             proxy."
        ),
        _ => write!(
            f,
            "Error during the onboarding request: curl returned {number}. {TRANSPORT_ADVICE}."
        ),
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
