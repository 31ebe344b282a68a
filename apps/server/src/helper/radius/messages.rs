//! What the broker and the process that speaks RADIUS say to each other after its assignment (see [`crate::helper::service`]).

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use culvert_radius::accounting::AccountedSession;
use culvert_radius::{ClientConfig, Profile, Status};
use culvert_vocab::SafeId;
use serde::{Deserialize, Serialize};

use crate::helper::confine::Unprivileged;
use crate::helper::messages::Assignment;
use crate::helper::service::ServiceAssignment;
use crate::ipc::{Bytes, SecretText, Text};

/// What the process is for: the servers of one client configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RadiusAssignment {
    /// Servers, secrets, times.
    pub(crate) config: ClientConfig,
    /// What the process becomes.
    pub(crate) rights: Unprivileged,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RadiusQuestion {
    /// May this user come in?
    Access(AccessQuestion),
    /// Something to account.
    Account(AccountingRecord),
}

/// A password or the answer to a challenge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AccessQuestion {
    /// User name, without realm.
    pub(crate) user: String,
    /// Password or answer.
    pub(crate) password: SecretText<16384>,
    /// The client's address.
    pub(crate) peer: IpAddr,
    /// The server's address that it came to.
    pub(crate) local: IpAddr,
    /// What the client says that it is.
    pub(crate) user_agent: Text<63>,
    /// Printable name of the session to be.
    pub(crate) session: SafeId,
    /// NAS-Identifier, unless the client configuration has one.
    pub(crate) nas_identifier: Option<String>,
    /// State of the last challenge; empty without one.
    pub(crate) state: Bytes<253>,
}

/// Something to account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AccountingRecord {
    /// What happened.
    pub(crate) status: Status,
    /// To which session; `None`: to the server.
    pub(crate) session: Option<AccountedSession>,
    /// The server's address that the client came to.
    pub(crate) local: Option<IpAddr>,
    /// NAS-Identifier, unless the client configuration has one.
    pub(crate) nas_identifier: Option<String>,
    /// When it happened.
    pub(crate) at: SystemTime,
    /// How long ago that is.
    pub(crate) delay: Duration,
}

/// The answer to a question of its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RadiusAnswer {
    /// What a server said.
    Access(AccessAnswer),
    /// Whether a server has taken a record.
    Accounted(bool),
}

/// What a server said about a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AccessAnswer {
    /// He may come in, with this.
    Accept(Box<Profile>),
    /// He may not; a text for him.
    Reject(Option<Text<1024>>),
    /// One more answer is wanted.
    Challenge {
        /// Goes back with the answer; empty when there was none.
        state: Bytes<253>,
        /// The question.
        message: Option<Text<1024>>,
    },
    /// No server could be asked; one line for the log.
    Unavailable(Text<512>),
}

impl ServiceAssignment for RadiusAssignment {
    type Question = RadiusQuestion;
    type Answer = RadiusAnswer;
    const NAME: &'static str = "radius";
    const TASK: &'static str = "speaks RADIUS";
}

impl From<RadiusAssignment> for Assignment {
    fn from(assignment: RadiusAssignment) -> Self {
        Self::Radius(assignment)
    }
}
