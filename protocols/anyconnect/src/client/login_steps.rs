//! What a login needs to know, and why it fails.

use std::sync::Arc;

use culvert_login::client::REDIRECTS_MAX;
use culvert_vocab::TokenKind;
use culvert_wire::http::ResponseError;
use culvert_wire::url::{ServerUrl, UrlError};

use super::login_form::FormProblem;
use super::platform::Platform;
use super::profile::ProfileHash;
use super::second_certificate::SecondCertificate;
use super::strap::{StrapError, StrapKeys};

/// Forms in a row with nothing to ask, after which the login ends.
pub(super) const EMPTY_FORMS_MAX: u32 = 3;

/// What a login needs to know.
#[derive(Debug, Clone)]
pub struct LoginConfig {
    /// Where to begin; `--usergroup` is its path already.
    pub server: ServerUrl,
    /// `User-Agent`.
    pub user_agent: String,
    /// Client version in documents and headers (`--version-string`).
    pub version: String,
    /// `--os`.
    pub platform: Platform,
    /// `--authgroup`: asked for in the first request, and chosen if a form has it as a value.
    pub group: Option<String>,
    /// False for `--no-xmlpost`.
    pub xml_post: bool,
    /// Announce browser sign-in; false for `--no-external-auth`.
    pub external_auth: bool,
    /// Keys to announce, if possession can be proved on CONNECT; `None` for
    /// `--no-external-auth`.
    pub strap: Option<StrapKeys>,
    /// The client shows a certificate in TLS.
    pub certificate: bool,
    /// The second certificate for multiple-certificate authentication, if there is one.
    pub second_certificate: Option<Arc<dyn SecondCertificate>>,
    /// The user's software token, whose codes go into fields that want them.
    pub token: Option<TokenKind>,
    /// False for `--no-passwd`: a form ends the login.
    pub passwords: bool,
    /// A browser stands ready (`--external-browser`): authentication in HTTP headers is not
    /// offered.
    pub browser: bool,
    /// What happens when the server wants this host examined.
    pub host_scan: HostScanRule,
    /// `--xmlconfig`: the user keeps the XML profile, and has this one, if any.
    pub profile: Option<Option<ProfileHash>>,
}

/// What happens when the server wants this host examined (`specs/anyconnect.md` §8).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HostScanRule {
    /// The login fails.
    #[default]
    Refuse,
    /// `--csd-wrapper`: a program of the user does it.
    Wrapper,
    /// `--csd-user` alone: the server's program does it.
    Program,
}

/// Why a login failed. The texts are for users.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// 401 or 403.
    #[error("Unexpected {0} result from server")]
    Permission(u16),
    /// 405.
    #[error("Unexpected 405 result from server")]
    NotSupported,
    /// Another status.
    #[error("Unexpected {0} result from server")]
    Status(u16),
    /// Status 200 without a body.
    #[error("Unexpected empty response body from server")]
    EmptyBody,
    /// The body is no login document.
    #[error("{0}")]
    Document(String),
    /// The server insists on a client certificate.
    #[error("{0}")]
    Certificate(&'static str),
    /// The response could not be read at all.
    #[error(transparent)]
    Response(#[from] ResponseError),
    /// A redirect or form action that cannot be followed.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// More redirects than any server needs.
    #[error("Too many redirects (more than {REDIRECTS_MAX})")]
    Redirects,
    /// A cookie that is none, or too many of them.
    #[error("Invalid cookie offered by server")]
    SetCookie,
    /// A form that cannot be used.
    #[error(transparent)]
    Form(#[from] FormProblem),
    /// The server's form asks for nothing; its message says why.
    #[error("{0}")]
    NoFields(String),
    /// A form came although `--no-passwd` forbids it.
    #[error("Asked for password but '--no-passwd' set")]
    PasswordsDisabled,
    /// The guard against a server that never gets on.
    #[error("{EMPTY_FORMS_MAX} consecutive empty forms, aborting loop")]
    EmptyForms,
    /// The group changes with every form.
    #[error("the server asks for another group again and again")]
    GroupLoop,
    /// A host scan is required.
    #[error(
        "Error: Server asked us to run CSD hostscan.\nYou need to provide a suitable --csd-wrapper argument."
    )]
    HostScan,
    /// A host scan by the server's program is required.
    #[error(
        "Error: Server asked us to download and run a 'Cisco Secure Desktop' trojan.\nNothing is run: \
         name a program of your own with --csd-wrapper, or a user who may run the server's with --csd-user."
    )]
    HostScanProgram,
    /// The server never judges the scan.
    #[error("The server does not finish its host scan")]
    HostScanEndless,
    /// A browser sign-in is required.
    #[error("No SSO handler")]
    Browser,
    /// A second certificate is required.
    #[error(
        "Server asked for a second client certificate (multiple-certificate authentication); none was configured."
    )]
    SecondCertificate,
    /// The second certificate cannot be used; the user knows why.
    #[error("The second client certificate cannot be used")]
    SecondCertificateUnusable,
    /// The login succeeded, yet there is no cookie.
    #[error("the server reports success but gave no webvpn cookie")]
    NoCookie,
    /// The key that goes with the cookie cannot be written.
    #[error(transparent)]
    Strap(#[from] StrapError),
    /// The driver called at a moment when nothing of the kind was asked; a bug of the caller.
    #[error("the login is not waiting for this")]
    OutOfTurn,
}

impl LoginError {
    /// True when the response makes no sense, as that of a server that does not know XML.
    pub(super) fn is_nonsense(&self) -> bool {
        matches!(
            self,
            Self::Status(_)
                | Self::EmptyBody
                | Self::Document(_)
                | Self::Certificate(_)
                | Self::Response(_)
                | Self::Url(_)
                | Self::SetCookie
                | Self::Form(_)
        )
    }
}
