//! Worker and broker: keys, logins, cookies.

use std::time::Duration;

use culvert_vocab::{GroupName, HttpScheme, SessionId, UserName};
use serde::{Deserialize, Serialize};

use super::HostIndex;
#[cfg(doc)]
use super::MainToWorker;
use crate::ipc::fields::{Bytes, SecretField, SecretText, Text};
use crate::ipc::link::Message;
use crate::ipc::session::{ChannelBinding, Claims, ClientDescription, ReportName};

/// Requests of a worker on its connection's channel to the broker. No descriptors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerToBroker {
    /// The server name of the ClientHello (lower case), `None` without one. Exactly once, before
    /// every other request. It fixes the virtual host of this connection, and so its keys and
    /// methods. Reply: [`BrokerToWorker::Host`].
    ServerName(Option<Text<255>>),
    /// Signs a TLS handshake message with a key of this connection's host. The broker checks
    /// that the message has the form of one and signs a few times per connection at most.
    /// Reply: [`BrokerToWorker::Signature`].
    Sign {
        /// Which of the host's `server-key`s.
        key: u8,
        /// TLS `SignatureScheme`.
        scheme: u16,
        /// What is to be signed, before hashing.
        message: Bytes<16384>,
    },
    /// Keeps a TLS session for resumption, bound to client address and host.
    /// Reply: [`BrokerToWorker::Stored`].
    StoreTlsSession {
        /// Session id or ticket name.
        id: Bytes<64>,
        /// The TLS library's state, which contains secrets.
        data: SecretField<4096>,
    },
    /// Looks up a TLS session. Reply: [`BrokerToWorker::TlsSession`].
    FetchTlsSession {
        /// Session id or ticket name.
        id: Bytes<64>,
        /// Take it out (single use).
        take: bool,
    },
    /// What the client has signed in the handshake to prove its certificate. At most once.
    /// Reply: [`BrokerToWorker::Certificate`].
    Certificate(Box<CertificateProof>),
    /// Starts a login. Reply: [`BrokerToWorker::Login`].
    Login(LoginStart),
    /// Starts a login by HTTP authentication, or goes on with the one that is pending on this
    /// connection. Reply: [`BrokerToWorker::Login`].
    HttpLogin(HttpLogin),
    /// Answers the prompt of the login that is pending on this connection.
    /// Reply: [`BrokerToWorker::Login`].
    LoginAnswer(SecretText<4096>),
    /// Goes on with a login that another connection of the same source address began
    /// (cookie `webvpncontext`). Behaves like a wrong id when it is not pending.
    /// Reply: [`BrokerToWorker::Login`].
    LoginResume {
        /// The pending login's id, as the client gave it.
        context: SessionId,
        /// The answer to its prompt.
        answer: SecretText<4096>,
    },
    /// The client has got the answer to its last login step: nobody gets it again.
    /// Reply: [`BrokerToWorker::Noted`].
    Received,
    /// A login with the cookie of a session. Reply: [`BrokerToWorker::Login`].
    Join {
        /// The cookie.
        cookie: SessionId,
        /// What the client says of it.
        claims: Claims,
    },
    /// Has a report about the host of this session's client been taken, from this source address?
    /// Reply: [`BrokerToWorker::Report`], or [`BrokerToWorker::Cookie`] with `false`.
    RecallReport {
        /// The cookie.
        cookie: SessionId,
        /// Which report.
        name: ReportName,
    },
    /// A report about the host of this session's client has been taken.
    /// Reply: [`BrokerToWorker::Cookie`].
    KeepReport {
        /// The cookie.
        cookie: SessionId,
        /// Which report.
        name: ReportName,
    },
    /// Is this the cookie of a live session of this host (for `/profiles`)?
    /// Reply: [`BrokerToWorker::Cookie`].
    CheckCookie(SessionId),
    /// Is this the cookie of a live session of this host, or names it a login that a connection of
    /// this source address began (for `camouflage`)? Reply: [`BrokerToWorker::Cookie`].
    Recognise(SessionId),
    /// The client ends its session: the cookie becomes worthless, unless cookies persist, and a
    /// tunnel on another connection ends. Reply: [`BrokerToWorker::Cookie`], whether there was one and
    /// it is as the client says; it ends in any case.
    EndSession {
        /// The cookie.
        cookie: SessionId,
        /// What the client says of it.
        claims: Claims,
    },
    /// Carries a request for a ticket to a KDC. Reply: [`BrokerToWorker::Kdc`].
    AskKdc {
        /// Position in the host's list of `kkdcp` lines.
        server: u8,
        /// The Kerberos message, without its length.
        message: Bytes<65536>,
    },
    /// Asks for the tunnel of a session. At most once per connection.
    /// Reply: [`BrokerToWorker::Tunnel`]; when accepted, main decides on the main channel.
    OpenTunnel(TunnelRequest),
}

/// The end of a handshake with a client certificate, for the broker to judge by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateProof {
    /// TLS 1.3; otherwise 1.2.
    pub tls13: bool,
    /// The handshake messages that the client's signature covers.
    pub transcript: Bytes<98304>,
    /// TLS `SignatureScheme`.
    pub scheme: u16,
    /// The client's signature.
    pub signature: Bytes<2048>,
}

/// First step of a login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginStart {
    /// User name as typed, empty when a certificate says it; the broker validates it (a bad name is a failed login).
    pub user: Text<1024>,
    /// Password, when the form carried one.
    pub password: Option<SecretText<4096>>,
    /// Group wish, already mapped from friendly to real name.
    pub group: Option<Text<1024>>,
    /// What the client says about itself.
    pub client: ClientDescription,
    /// The client may send this step, and those that follow, once more on another connection: it then
    /// gets the same answers.
    pub repeatable: bool,
}

/// A step of a login by HTTP authentication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpLogin {
    /// Scheme of the `Authorization` line.
    pub scheme: HttpScheme,
    /// What the line holds after the scheme; nobody has looked at it.
    pub token: SecretText<16384>,
    /// Group wish, already mapped from friendly to real name.
    pub group: Option<Text<1024>>,
    /// What the client says about itself.
    pub client: ClientDescription,
    /// The connection that the client has to this worker.
    pub channel: ChannelBinding,
}

/// What a client asks for with CONNECT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelRequest {
    /// The session cookie.
    pub cookie: SessionId,
    /// What the client says of the session.
    pub claims: Claims,
    /// What the client says about itself.
    pub client: ClientDescription,
    /// `X-CSTP-Hostname` without domain part: letters, digits and hyphens (checked again by the
    /// broker; a bad one is dropped).
    pub hostname: Option<Text<63>>,
    /// The client wants IPv4.
    pub ipv4: bool,
    /// The client wants IPv6.
    pub ipv6: bool,
    /// The client offered a UDP channel that this host supports.
    pub udp: bool,
    /// Cipher description of the TLS channel, for `occtl`.
    pub tls: Text<128>,
}

/// Replies of the broker to a worker. No descriptors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BrokerToWorker {
    /// The virtual host of this connection.
    Host(HostIndex),
    /// The signature, or `None` when the broker refused.
    Signature(Option<Bytes<2048>>),
    /// Whether the TLS session was kept.
    Stored(bool),
    /// The TLS session, if there is one for this client.
    TlsSession(Option<SecretField<4096>>),
    /// Whether the client's certificate is good.
    Certificate(bool),
    /// Where the login stands.
    Login(LoginReply),
    /// Whether the cookie is good.
    Cookie(bool),
    /// How long ago the report was taken, if it was.
    Report(Option<Duration>),
    /// Answer to [`WorkerToBroker::Received`].
    Noted,
    /// What the KDC answers, without its length; `None` when it does not.
    Kdc(Option<Bytes<65536>>),
    /// Whether a tunnel may be opened.
    Tunnel(TunnelReply),
}

/// Where a login stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoginReply {
    /// One more answer is wanted.
    Prompt {
        /// Id of the pending login, for the `webvpncontext` cookie.
        context: SessionId,
        /// Text of the form.
        message: Text<1024>,
        /// 0 for the password, n for the n-th additional one.
        number: u8,
    },
    /// Logged in.
    Success {
        /// The session cookie.
        cookie: SessionId,
        /// Who.
        user: UserName,
        /// Group in force.
        group: Option<GroupName>,
        /// The last token of HTTP authentication.
        token: Option<SecretText<16384>>,
    },
    /// HTTP authentication goes on with this token for the client.
    Challenge(SecretText<16384>),
    /// HTTP authentication failed; the form is another way in on this connection.
    Fallback,
    /// The certificate is of several groups: the client has to choose one and begin anew.
    ChooseGroup(Vec<GroupName>),
    /// Refused; the connection ends with 401 and this reason.
    Failed(LoginFailure),
    /// [`WorkerToBroker::LoginResume`] named nothing that is pending: start again with the form.
    NotPending,
}

/// Why a login failed, as far as the client may know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoginFailure {
    /// `Authentication failed`
    Credentials,
    /// `No certificate`
    NoCertificate,
    /// `Could not read certificate`
    UnreadableCertificate,
    /// `Internal error`
    Internal,
}

/// Whether a tunnel may be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TunnelReply {
    /// The cookie is good; main answers next ([`MainToWorker::Grant`] or
    /// [`MainToWorker::Refuse`]).
    Accepted,
    /// Refused.
    Refused(Refusal),
}

/// Why there is no tunnel (`specs/server-config.md` §9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// 401 `Cookie is not acceptable`.
    NotAcceptable,
    /// 503 `Server configuration error`.
    Configuration,
    /// 503 `Server error`.
    Server,
}

impl Message for WorkerToBroker {}
impl Message for BrokerToWorker {}
