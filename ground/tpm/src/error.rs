/// A key of a TPM cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TpmError {
    /// The file is no key of a TPM, or damaged.
    #[error("malformed TPM2 key file")]
    Malformed,
    /// The parent is neither a hierarchy nor a persistent key.
    #[error("Invalid TPM2 parent handle 0x{0:08x}")]
    Parent(u32),
    /// The key may only be used under a policy.
    #[error("the TPM2 key needs an authorization policy, which is not supported")]
    Policy,
    /// Neither RSA nor a NIST curve.
    #[error("the TPM2 key is of an unsupported kind (RSA and ECDSA with P-256, P-384, P-521 are supported)")]
    Kind,
    /// The key cannot make this kind of signature.
    #[error("the TPM2 key cannot make signatures of this scheme")]
    Scheme,
    /// The TPM cannot be reached.
    #[error("cannot talk to the TPM at {place}")]
    Device {
        /// Device or address.
        place: String,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// What came is no answer of a TPM.
    #[error("malformed answer of the TPM")]
    Answer,
    /// The TPM refuses a command.
    #[error("the TPM refused {command}: response code 0x{code:03x}")]
    Refused {
        /// The command.
        command: &'static str,
        /// TPM_RC (TPM 2.0 Library, part 2, §6.6).
        code: u32,
    },
    /// No password came.
    #[error("no password for the TPM2 key")]
    NoAuth,
}

impl TpmError {
    /// True when the password was wrong: TPM_RC_AUTH_FAIL or TPM_RC_BAD_AUTH, of whatever session.
    pub(crate) fn is_wrong_auth(&self) -> bool {
        const AUTH_FAIL: u32 = 0x8e;
        const BAD_AUTH: u32 = 0xa2;
        // Format one: bits 8 to 11 number a handle, session or parameter, bit 6 tells which.
        matches!(self, Self::Refused { code, .. } if matches!(code & 0xbf, AUTH_FAIL | BAD_AUTH) && code & 0x80 != 0)
    }
}
