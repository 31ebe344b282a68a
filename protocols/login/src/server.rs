//! The server's side: a protocol turns requests into actions ([`FrontEnd`]) and a client's wish into a
//! tunnel ([`Opening`], [`Channels`]). Who may log in is decided elsewhere, and asked for in these
//! words.

mod front_end;
mod tunnel;

pub use front_end::{Action, ClientDescription, FrontEnd};
pub use tunnel::{
    Beside, BesideEvent, Broken, Channels, Connection, DatagramGrant, Demand, Export, Granted, Link, Opened,
    Opening, Random, Refusal, Stream,
};

use std::time::Duration;

use culvert_vocab::{HttpScheme, SecretString, SessionId};
use serde::{Deserialize, Serialize};

/// What a client says about the session whose cookie it shows. It has to be so; `None`: the client says
/// nothing, or need not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Its user, as the server named him.
    pub user: Option<String>,
    /// The name that the client's host had at the login; empty if it had none.
    pub computer: Option<String>,
}

/// Names a report of a client about its host: the MD5 sum by which the client asks whether it is wanted.
pub type ReportName = [u8; 16];

/// A question to the part of the server that knows users and sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthRequest {
    /// A login begins.
    Start {
        /// User name as typed, empty when a certificate says who it is, at most 1024 octets, not yet validated.
        user: String,
        /// Password, when the client sent one along; at most 4096 octets.
        password: Option<SecretString>,
        /// Wanted group, friendly names already resolved; at most 1024 octets.
        group: Option<String>,
    },
    /// A login by HTTP authentication begins or goes on.
    Http {
        /// The scheme of the `Authorization` line.
        scheme: HttpScheme,
        /// What the line holds after the scheme; at most 16384 octets.
        token: SecretString,
        /// Wanted group, as in [`Self::Start`].
        group: Option<String>,
    },
    /// The answer to the last prompt of a login.
    Continue {
        /// The login, when it began on another connection; `None`: on this one.
        context: Option<SessionId>,
        /// The answer; at most 4096 octets.
        password: SecretString,
    },
    /// A login with the cookie of a session that another login has begun: [`AuthAnswer::Accepted`], or
    /// [`AuthAnswer::NotPending`].
    Join {
        /// The cookie.
        session: SessionId,
        /// What the client says of it.
        claims: Claims,
    },
    /// Is this the cookie of a session?
    VerifyCookie {
        /// The cookie.
        session: SessionId,
    },
    /// Has a report been taken of the session's host, from this client's address?
    /// [`AuthAnswer::Report`], or [`AuthAnswer::Cookie`] when there is no session.
    RecallReport {
        /// The cookie.
        session: SessionId,
        /// Which report.
        name: ReportName,
    },
    /// A report of the session's host has been taken. [`AuthAnswer::Cookie`].
    KeepReport {
        /// The cookie.
        session: SessionId,
        /// Which report.
        name: ReportName,
    },
}

/// The answer to an [`AuthRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthAnswer {
    /// One more password is wanted.
    AskPassword {
        /// Name of the login in progress.
        context: SessionId,
        /// What to show; a text that is empty or begins with `Password:` becomes the usual one.
        message: String,
        /// 0 for the password, n for the n-th additional one.
        number: u8,
    },
    /// The client has to choose one of these groups and begin anew.
    ChooseGroup {
        /// The groups.
        groups: Vec<String>,
    },
    /// HTTP authentication goes on with this token for the client.
    Challenge {
        /// What stands after the scheme in `WWW-Authenticate`.
        token: SecretString,
    },
    /// HTTP authentication failed; the form is another way in.
    Fallback,
    /// Logged in.
    Accepted {
        /// The session; its cookie form is the session cookie.
        session: SessionId,
        /// Its user, as the server names him.
        user: String,
        /// The last token of HTTP authentication, by which the server proves itself.
        token: Option<SecretString>,
    },
    /// Refused.
    Rejected(Rejection),
    /// [`AuthRequest::Continue`] named no login that may be continued here.
    NotPending,
    /// Answer to [`AuthRequest::VerifyCookie`].
    Cookie(bool),
    /// Answer to [`AuthRequest::RecallReport`]: how long ago, if it has.
    Report(Option<Duration>),
}

/// Why a login was refused, as far as the client may know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// Wrong name, password or group, or too many attempts.
    AuthenticationFailed,
    /// An answer without the field that was asked for.
    NoPassword,
    /// A certificate is required.
    NoCertificate,
    /// The certificate does not say who its owner is.
    UnreadableCertificate,
    /// The server could not decide.
    Internal,
}
