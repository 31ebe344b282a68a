/// An object on a token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Pkcs11Error {
    /// The text is no URI of this kind; says what is wrong.
    #[error("malformed PKCS#11 URI: {0}")]
    Uri(&'static str),
    /// No token has such an object.
    #[error("The requested data were not available.")]
    NotFound,
    /// No PIN came.
    #[error("Error in provided PIN.")]
    NoPin,
    /// Too many wrong PINs were given, now or before.
    #[error("the PIN is locked")]
    Locked,
    /// A scheme that the key cannot be used with.
    #[error("the token cannot make this signature")]
    Scheme,
    /// The module failed.
    #[error("{0}")]
    Module(#[from] cryptoki::error::Error),
}
