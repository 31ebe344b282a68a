use std::fmt;

use rustls::{NamedGroup, SignatureScheme};

use crate::{Cipher, Version};

/// What a handshake agreed on. `Display` gives GnuTLS' session description, for example
/// `(TLS1.3)-(ECDHE-SECP256R1)-(RSA-PSS-RSAE-SHA256)-(AES-256-GCM)`
/// (`specs/server-tools.md` §3.7). The hybrid group is written `ECDHE-X25519MLKEM768`; parts that
/// a resumed session does not have are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiated {
    /// Protocol version.
    pub version: Version,
    /// Record protection.
    pub cipher: Cipher,
    /// Key exchange group; `None` for a resumed TLS 1.2 session.
    pub group: Option<NamedGroup>,
    /// Scheme of the server's signature; `None` for a resumed session.
    pub signature: Option<SignatureScheme>,
    /// The session was resumed.
    pub resumed: bool,
}

impl fmt::Display for Negotiated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.version {
            Version::Tls12 => "(TLS1.2)",
            Version::Tls13 => "(TLS1.3)",
        })?;
        if let Some(group) = self.group {
            write!(f, "-(ECDHE-{})", group_name(group))?;
        }
        if let Some(signature) = self.signature {
            write!(f, "-({})", signature_name(self.version, signature))?;
        }
        f.write_str(match self.cipher {
            Cipher::Aes128Gcm => "-(AES-128-GCM)",
            Cipher::Aes256Gcm => "-(AES-256-GCM)",
            Cipher::ChaCha20Poly1305 => "-(CHACHA20-POLY1305)",
        })
    }
}

fn group_name(group: NamedGroup) -> &'static str {
    match group {
        NamedGroup::secp256r1 => "SECP256R1",
        NamedGroup::secp384r1 => "SECP384R1",
        NamedGroup::secp521r1 => "SECP521R1",
        NamedGroup::X25519 => "X25519",
        NamedGroup::X448 => "X448",
        NamedGroup::X25519MLKEM768 => "X25519MLKEM768",
        _ => "UNKNOWN",
    }
}

/// GnuTLS' name. Before TLS 1.3 an ECDSA scheme does not fix the curve, so its name lacks it.
fn signature_name(version: Version, scheme: SignatureScheme) -> &'static str {
    match (scheme, version) {
        (SignatureScheme::RSA_PKCS1_SHA1, _) => "RSA-SHA1",
        (SignatureScheme::RSA_PKCS1_SHA256, _) => "RSA-SHA256",
        (SignatureScheme::RSA_PKCS1_SHA384, _) => "RSA-SHA384",
        (SignatureScheme::RSA_PKCS1_SHA512, _) => "RSA-SHA512",
        (SignatureScheme::RSA_PSS_SHA256, _) => "RSA-PSS-RSAE-SHA256",
        (SignatureScheme::RSA_PSS_SHA384, _) => "RSA-PSS-RSAE-SHA384",
        (SignatureScheme::RSA_PSS_SHA512, _) => "RSA-PSS-RSAE-SHA512",
        (SignatureScheme::Unknown(0x0809), _) => "RSA-PSS-SHA256",
        (SignatureScheme::Unknown(0x080a), _) => "RSA-PSS-SHA384",
        (SignatureScheme::Unknown(0x080b), _) => "RSA-PSS-SHA512",
        (SignatureScheme::ECDSA_NISTP256_SHA256, Version::Tls12) => "ECDSA-SHA256",
        (SignatureScheme::ECDSA_NISTP384_SHA384, Version::Tls12) => "ECDSA-SHA384",
        (SignatureScheme::ECDSA_NISTP521_SHA512, Version::Tls12) => "ECDSA-SHA512",
        (SignatureScheme::ECDSA_NISTP256_SHA256, Version::Tls13) => "ECDSA-SECP256R1-SHA256",
        (SignatureScheme::ECDSA_NISTP384_SHA384, Version::Tls13) => "ECDSA-SECP384R1-SHA384",
        (SignatureScheme::ECDSA_NISTP521_SHA512, Version::Tls13) => "ECDSA-SECP521R1-SHA512",
        (SignatureScheme::ED25519, _) => "EdDSA-Ed25519",
        _ => "UNKNOWN",
    }
}
