//! What the broker and a process for OpenID Connect say to each other
//! (see [`crate::helper::service`]).

use culvert_vocab::{GroupName, UserName};
use serde::{Deserialize, Serialize};

use crate::helper::confine::Unprivileged;
use crate::helper::messages::Assignment;
use crate::helper::service::ServiceAssignment;
use crate::ipc::{SecretText, Text};

/// What the process is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OidcSettings {
    /// The text of the file of `oidc[config=FILE]`, which the broker has understood.
    pub(crate) config: Text<65536>,
    /// What the process becomes.
    pub(crate) rights: Unprivileged,
}

/// A client's token to be judged, as it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token(pub(crate) SecretText<16384>);

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

impl ServiceAssignment for OidcSettings {
    type Question = Token;
    type Answer = Verdict;
    const NAME: &'static str = "oidc";
    const TASK: &'static str = "judges tokens";
}

impl From<OidcSettings> for Assignment {
    fn from(settings: OidcSettings) -> Self {
        Self::Oidc(settings)
    }
}
