/// What went wrong with a TLS connection. After any error the connection is over; what
/// `poll_transmit` still gives (an alert) should be sent.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// rustls refused the peer's message, the certificate or the configuration.
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    /// The peer's octets are not a TLS record.
    #[error("the peer does not speak TLS")]
    NotTls,
    /// A record after the handshake is none that may come there.
    #[error(transparent)]
    Record(#[from] culvert_record::OpenError),
    /// More than one record's worth of plaintext was to be written at once.
    #[error("{0} octets do not fit one TLS record")]
    Oversize(usize),
    /// The connection cannot be taken over before its pending output has been sent.
    #[error("TLS output is still waiting to be sent")]
    PendingOutput,
    /// The handshake is not complete.
    #[error("the TLS handshake is not complete")]
    Handshaking,
    /// The negotiated cipher is none that the record layer knows.
    #[error("the negotiated TLS cipher is not supported by the record layer")]
    Cipher,
    /// The traffic secrets of TLS 1.3 were not seen, or do not match the keys in use.
    #[error("the TLS traffic secrets are not known")]
    TrafficSecrets,
    /// A [`crate::HandOver`] whose parts do not fit together.
    #[error("malformed hand-over of TLS record keys")]
    HandOver,
    /// The server of a TLS 1.2 connection wants another handshake, which rustls does not do.
    #[error("the server asked for a renegotiation")]
    Renegotiation,
    /// What another TLS library says.
    #[error("{0}")]
    Foreign(String),
    /// Nothing is left to negotiate with.
    #[error("no TLS {0} is enabled that this program supports")]
    NothingEnabled(&'static str),
}

/// A private key could not be loaded or will not sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No private key in the file.
    #[error("no private key found in PEM form")]
    NotFound,
    /// The key is protected by a passphrase.
    #[error("the private key is encrypted")]
    Encrypted,
    /// Not a key of a kind that TLS servers use, or damaged.
    #[error("the private key is damaged or of an unsupported kind (RSA, ECDSA and Ed25519 are supported)")]
    Unsupported,
    /// The public key is damaged or of an unsupported kind.
    #[error("the public key is damaged or of an unsupported kind (RSA, ECDSA and Ed25519 are supported)")]
    PublicKey,
    /// The key cannot make this kind of signature.
    #[error("the private key cannot make signatures of scheme {0:#06x}")]
    Scheme(u16),
    /// The message is not what a TLS server signs in a handshake.
    #[error("refused to sign: not a TLS server's handshake signature")]
    Message,
    /// The signature operation failed.
    #[error("signing failed")]
    Signing,
}

/// The holder of a private key refused a signature or could not be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("remote signature failed: {0}")]
pub struct RemoteSignError(pub String);
