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
    /// The counter has reached its end.
    #[error("the counter of the token is used up")]
    Exhausted,
}
