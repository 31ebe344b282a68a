//! How servers are reached: `serv-type` and the `tls-` options.

use std::path::{Path, PathBuf};

use culvert_vocab::SecretBytes;
use serde::{Deserialize, Serialize};

use super::{ConfigError, lines};

/// The secret of all servers by TLS (RFC 6614 §2.3).
pub(super) const SECRET_OF_TLS: &[u8] = b"radsec";
/// Longest file for TLS, in octets.
const FILE_MAX: usize = 24 << 10;

/// How requests reach servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transport {
    /// Datagrams (RFC 2865).
    Udp,
    /// Connections (RFC 6613).
    Tcp,
    /// Connections with TLS (RFC 6614).
    Tls(Box<TlsSettings>),
}

/// Settings of TLS. The contents of files are not looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsSettings {
    /// `tls-ca-file`: PEM of those who issue the servers' certificates.
    pub authorities: Vec<u8>,
    /// `tls-cert-file`: PEM of our certificate and its issuers; empty without one.
    pub certificate: Vec<u8>,
    /// `tls-key-file`: PEM of its key; empty without one.
    pub key: SecretBytes,
    /// `tls-verify-hostname = no`: the certificate may be for another name.
    pub any_name: bool,
}

/// Files of TLS.
#[derive(Debug, Default)]
pub(super) struct TlsFiles {
    pub(super) authorities: Option<PathBuf>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) any_name: bool,
}

impl TlsFiles {
    /// Reads the files; `path` is the one that names them.
    pub(super) fn load(&self, path: &Path) -> Result<TlsSettings, ConfigError> {
        let missing = |problem: &str| ConfigError::Missing {
            path: path.to_owned(),
            problem: problem.to_owned(),
        };
        let authorities = self
            .authorities
            .as_deref()
            .ok_or_else(|| missing("'serv-type tls' needs 'tls-ca-file'"))?;
        if self.certificate.is_some() != self.key.is_some() {
            return Err(missing("'tls-cert-file' and 'tls-key-file' belong together"));
        }
        let read_if = |path: &Option<PathBuf>| path.as_deref().map(read).transpose();
        Ok(TlsSettings {
            authorities: read(authorities)?.expose().to_vec(),
            certificate: read_if(&self.certificate)?.unwrap_or_default().expose().to_vec(),
            key: read_if(&self.key)?.unwrap_or_default(),
            any_name: self.any_name,
        })
    }
}

fn read(path: &Path) -> Result<SecretBytes, ConfigError> {
    let text = lines::read(path)?;
    if text.len() > FILE_MAX {
        return Err(ConfigError::TooLarge(path.to_owned()));
    }
    Ok(SecretBytes::new(text.as_bytes().to_vec()))
}

/// Whether this is a pre-shared key of TLS, in an option or in the servers file.
pub(super) fn is_psk(secret: &SecretBytes) -> bool {
    [&b"psk@"[..], b"psk:"]
        .iter()
        .any(|begin| secret.expose().starts_with(begin))
}
