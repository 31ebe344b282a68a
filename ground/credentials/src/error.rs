/// A key or certificate file is no good, or not with this passphrase.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// What comes out with this passphrase makes no sense, or the integrity check fails.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// The file is damaged; says where.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// A format or algorithm that is not supported; says which.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// Nothing in the file looks like a private key.
    #[error("no private key found")]
    NoKey,
    /// Nothing in the file looks like a certificate.
    #[error("No certificate found in file")]
    NoCertificate,
    /// Deriving the key would take too long or too much memory.
    #[error("the key derivation asks for too much work ({0})")]
    TooCostly(&'static str),
}
