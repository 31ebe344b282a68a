//! What the broker and a process for OpenID Connect say to each other. No descriptors.

use culvert_vocab::{GroupName, UserName};
use serde::{Deserialize, Serialize};

use crate::ipc::messages::LogLevel;
use crate::ipc::{Message, SecretText, Text};

/// What the process is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OidcSettings {
    /// The text of the file of `oidc[config=FILE]`, which the broker has understood.
    pub(crate) config: Text<65536>,
    /// User and group to change to: `run-as-user`.
    pub(crate) ids: (u32, u32),
}

/// Messages of the broker, after the first one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BrokerToOidc {
    /// Judge a client's token.
    Judge {
        /// Names the question in its answer.
        number: u64,
        /// The token, as it came.
        token: SecretText<16384>,
    },
}

/// Messages to the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OidcToBroker {
    /// The answer to a question.
    Judged {
        /// Which.
        number: u64,
        /// The answer.
        verdict: Verdict,
    },
    /// A line for the log.
    Log {
        /// Severity.
        level: LogLevel,
        /// The text.
        text: Text<512>,
    },
}

/// What a token is worth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verdict {
    /// It is good.
    Accepted {
        /// Whom it speaks of.
        user: UserName,
        /// His groups; none without `group_claim`.
        groups: Vec<GroupName>,
    },
    /// It is not; why, for the log.
    Refused(Text<512>),
    /// Nobody knows; why, for the log.
    Unavailable(Text<512>),
}

impl Message for BrokerToOidc {}
impl Message for OidcToBroker {}
