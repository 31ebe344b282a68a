/// The text of a token secret is no good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// `base32:` is followed by something else.
    #[error("Invalid base32 token string")]
    Base32,
    /// Anything else; says what.
    #[error("{0}")]
    Invalid(&'static str),
    /// A PSKC document whose keys are encrypted.
    #[error("encrypted PSKC documents are not supported")]
    EncryptedPskc,
    /// The token is of another kind than the mode says.
    #[error("the token is not of the kind that --token-mode names")]
    OtherMode,
    /// No SecurID token of 81 digits.
    #[error("the token is no SecurID token of 81 digits (others need RSA's own programs)")]
    SecurIdForm,
    /// A digit is wrong.
    #[error("the digits of the SecurID token do not match its checksum")]
    SecurIdCheck,
    /// Device id or password are wrong.
    #[error("Incorrect device ID or password; try again.")]
    SecurIdCredentials,
    /// The counter has reached its end.
    #[error("the counter of the token is used up")]
    Exhausted,
}
