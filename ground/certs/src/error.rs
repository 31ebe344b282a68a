/// A certificate or a file with certificates is no good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertError {
    /// Not a DER certificate.
    #[error("malformed certificate")]
    Malformed,
    /// The PEM text is damaged.
    #[error("malformed PEM: {0}")]
    Pem(String),
    /// No certificate in the file.
    #[error("no certificate found in PEM form")]
    NotFound,
    /// More certificates than a chain may have.
    #[error("more than {0} certificates in the chain")]
    TooMany(usize),
    /// None of the certificates belongs to the private key.
    #[error("the private key does not match the certificate")]
    KeyMismatch,
    /// Not a certificate revocation list.
    #[error("malformed certificate revocation list")]
    MalformedList,
    /// A list of an issuer that did not sign it.
    #[error("wrong signature of a certificate revocation list")]
    ListSignature,
}
