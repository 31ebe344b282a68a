//! What the broker and its helpers say to each other. A helper runs foreign code or waits for a
//! network, so the broker takes nothing from it but these bounded, validated messages.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use culvert_vocab::{GroupName, SafeId, UserName};
use serde::{Deserialize, Serialize};

use super::confine::Unprivileged;
use super::oidc::messages::OidcSettings;
use super::radius::messages::RadiusAssignment;
use crate::ipc::messages::LogLevel;
use crate::ipc::session::{ChannelBinding, GivenSettings};
use crate::ipc::{Bytes, Message, SecretText, Text};

/// Prompt for the password.
pub(crate) const ASK_PASSWORD: &str = "Please enter your password.";

/// Messages of the broker to a helper. No descriptors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BrokerToHelper {
    /// The first message, once: what this process is for.
    Begin(Box<Assignment>),
    /// The answer to a prompt, or the token that follows a challenge, as the client sent it.
    Answer(SecretText<16384>),
    /// To a helper that stays after [`HelperToBroker::Accepted`]: the user's session begins.
    OpenSession,
    /// The session has ended, and the helper ends, too.
    CloseSession,
}

/// What a helper process is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Assignment {
    /// One login.
    Login(Login),
    /// All logins with the tokens of one provider.
    Oidc(OidcSettings),
    /// All logins and all accounting with one RADIUS configuration.
    Radius(RadiusAssignment),
}

/// One login with one method.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Login {
    /// The method and its settings.
    pub(crate) method: MethodSettings,
    /// The name that the client typed; `None` when the method says who it is, and for a name that
    /// nobody can have.
    pub(crate) user: Option<UserName>,
    /// Whose login it is.
    pub(crate) caller: Caller,
    /// What a method without need of root becomes.
    pub(crate) rights: Unprivileged,
    /// Longest life of the process.
    pub(crate) time: Duration,
}

/// A method that runs in helpers, with what it needs of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MethodSettings {
    /// PAM.
    Pam(PamSettings),
    /// PAM's account management alone, without any question (`acct = pam`).
    PamAccount(PamSettings),
    /// A PAM session for a user who is known already: the helper of his login has ended.
    PamSession(PamSettings),
    /// The end of a PAM session whose helper has been lost.
    PamSessionEnd(PamSettings),
    /// GSSAPI.
    Gssapi(GssapiSettings),
}

impl MethodSettings {
    /// The name in the configuration file.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Pam(_) | Self::PamAccount(_) | Self::PamSession(_) | Self::PamSessionEnd(_) => "pam",
            Self::Gssapi(_) => "gssapi",
        }
    }

    /// What ends the session of a user, should the helper be lost that stays for it after it has accepted
    /// the user; `None` when none stays.
    pub(crate) fn session_end(&self) -> Option<Self> {
        match self {
            Self::Pam(settings) if !settings.session => None,
            Self::Pam(settings) | Self::PamSession(settings) => Some(Self::PamSessionEnd(settings.clone())),
            Self::PamAccount(_) | Self::PamSessionEnd(_) | Self::Gssapi(_) => None,
        }
    }
}

/// Settings of PAM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PamSettings {
    /// Name of the PAM service.
    pub(crate) service: String,
    /// The helper stays after the login, and opens and closes a session.
    pub(crate) session: bool,
    /// What modules are told of the terminal.
    pub(crate) tty: Option<String>,
}

/// Settings of GSSAPI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GssapiSettings {
    /// The server's keys; `None`: the host's.
    pub(crate) keytab: Option<PathBuf>,
    /// The principal must stand for a user of the system, whose name counts then.
    pub(crate) require_local_user_map: bool,
    /// Greatest age of a ticket.
    pub(crate) tgt_freshness: Option<Duration>,
}

/// Whose login it is, beside the user's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Caller {
    /// The client's address.
    pub(crate) peer: IpAddr,
    /// The server's address that it came to.
    pub(crate) local: IpAddr,
    /// What the client says that it is.
    pub(crate) user_agent: Text<63>,
    /// Name of the virtual host.
    pub(crate) host: Text<255>,
    /// Printable name of the session to be.
    pub(crate) session: SafeId,
    /// The TLS connection of a login by HTTP authentication.
    pub(crate) channel: Option<Channel>,
}

/// What names a client's TLS connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Channel {
    /// Its own name, by the word of the worker.
    pub(crate) unique: ChannelBinding,
    /// "tls-server-end-point" (RFC 5929 §4), by what the broker has signed; `None` where it is not
    /// defined.
    pub(crate) end_point: Option<Bytes<64>>,
}

/// Messages of a helper with a login to the broker. No descriptors. [`Self::Accepted`],
/// [`Self::Refused`] and [`Self::Unavailable`] are last ones; a helper that stays for a session says one
/// of them, or [`Self::SessionOpened`], once more after [`BrokerToHelper::OpenSession`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum HelperToBroker {
    /// One more answer is wanted; 0 is the password, n the n-th additional one.
    Prompt {
        /// Text of the form.
        message: Text<1024>,
        /// Number of the prompt.
        number: u8,
    },
    /// A token is wanted; this one goes to the client with the request for it.
    Challenge(Option<SecretText<16384>>),
    /// The user is who he says.
    Accepted(Box<Accepted>),
    /// He is not, and no other answer is taken. The text is for the log.
    Refused(Option<Text<512>>),
    /// The method cannot decide; the text is for the log.
    Unavailable(Text<512>),
    /// The session is open.
    SessionOpened,
    /// The last one of a helper that has told the modules that the session has ended.
    SessionClosed,
    /// Sent by the handler of a forbidden system call: its number, little end first.
    Forbidden([u8; 4]),
    /// A line for the log.
    Log {
        /// Severity.
        level: LogLevel,
        /// The text.
        text: Text<512>,
    },
}

/// What a successful login says about its user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Accepted {
    /// Name in force; a method may rename.
    pub(crate) user: UserName,
    /// Groups, the default one first.
    pub(crate) groups: Vec<GroupName>,
    /// Settings of the session that the method brings.
    pub(crate) given: Option<Box<GivenSettings>>,
    /// Last token for the client.
    pub(crate) token: Option<SecretText<16384>>,
}

impl Accepted {
    /// A user of these groups, and nothing more.
    pub(crate) fn new(user: UserName, groups: Vec<GroupName>) -> Self {
        Self {
            user,
            groups,
            given: None,
            token: None,
        }
    }
}

impl Message for BrokerToHelper {}
impl Message for HelperToBroker {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ipc::{decode, encode};

    #[test]
    fn messages_are_read_back() {
        let accepted = Accepted::new(
            UserName::new("bob").unwrap(),
            vec![GroupName::new("staff").unwrap()],
        );
        let message = HelperToBroker::Accepted(Box::new(accepted));
        assert_eq!(decode(&encode(&message).unwrap()), Ok(message));
    }

    proptest! {
        /// Whatever foreign code makes a helper say.
        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _read = decode::<HelperToBroker>(&bytes);
            let _read = decode::<BrokerToHelper>(&bytes);
        }
    }
}
