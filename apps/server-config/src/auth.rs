//! `auth`, `enable-auth` and `acct`: methods with bracket sub-options
//! (`specs/server-config.md` §6.1, `specs/server-auth.md` §1.1-1.2).

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How users of a host prove who they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthConfig {
    /// `auth` lines: all of them must succeed. At least one; at most one besides `Certificate`.
    pub required: Vec<AuthMethod>,
    /// `enable-auth` lines: any single one suffices instead.
    pub alternatives: Vec<AuthMethod>,
}

/// Whether TLS asks the client for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CertificateRequest {
    /// No.
    No,
    /// Asked, but the handshake goes on without one.
    Optional,
    /// The handshake fails without one.
    Required,
}

impl AuthConfig {
    /// What TLS has to ask for; `cisco_client_compat` turns "required" into "optional".
    pub fn certificate_request(&self, cisco_client_compat: bool) -> CertificateRequest {
        let mut methods = self.required.iter().chain(&self.alternatives);
        if !methods.any(|method| *method == AuthMethod::Certificate) {
            CertificateRequest::No
        } else if self.alternatives.is_empty() && !cisco_client_compat {
            CertificateRequest::Required
        } else {
            CertificateRequest::Optional
        }
    }
}

/// An authentication method.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthMethod {
    /// A password file, an OTP file, or both. At least one is set.
    Plain {
        /// `ocpasswd` file.
        passwd: Option<PathBuf>,
        /// OTP users file.
        otp: Option<PathBuf>,
    },
    /// PAM.
    Pam {
        /// Groups below this id are not offered.
        gid_min: Option<u32>,
        /// PAM service name.
        service: String,
    },
    /// RADIUS.
    Radius(Radius),
    /// GSSAPI (SPNEGO over HTTP).
    Gssapi {
        /// The server's keys.
        keytab: Option<PathBuf>,
        /// The principal must map to a local user.
        require_local_user_map: bool,
        /// Greatest age of the ticket.
        tgt_freshness: Option<Duration>,
        /// Groups below this id are not offered.
        gid_min: Option<u32>,
    },
    /// A client certificate.
    Certificate,
    /// OpenID Connect bearer tokens.
    Oidc {
        /// JSON configuration.
        config: PathBuf,
    },
}

impl AuthMethod {
    /// The name in the configuration file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Plain { .. } => "plain",
            Self::Pam { .. } => "pam",
            Self::Radius(_) => "radius",
            Self::Gssapi { .. } => "gssapi",
            Self::Certificate => "certificate",
            Self::Oidc { .. } => "oidc",
        }
    }
}

/// Sub-options of `radius`, for authentication or accounting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Radius {
    /// radcli configuration.
    pub config: PathBuf,
    /// Per-user settings come from RADIUS.
    pub groupconfig: bool,
    /// NAS-Identifier attribute.
    pub nas_identifier: Option<String>,
    /// Separates groups in one attribute.
    pub group_separator: GroupSeparator,
}

/// `group-separator` of `radius`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupSeparator {
    /// `;`
    #[default]
    Semicolon,
    /// `,`
    Comma,
}

/// An accounting method.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccountingMethod {
    /// RADIUS accounting.
    Radius(Radius),
    /// PAM account check and session.
    Pam,
}
