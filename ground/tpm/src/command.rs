//! Commands and responses (TPM 2.0 Library, part 1, §18; part 3).

use zeroize::Zeroizing;

use crate::TpmError;
use crate::marshal::{Reader, Writer};

const NO_SESSIONS: u16 = 0x8001;
const SESSIONS: u16 = 0x8002;
/// TPM_RS_PW: the authorization is a password.
const PASSWORD_SESSION: u32 = 0x4000_0009;
const CONTINUE_SESSION: u8 = 1;
const SUCCESS: u32 = 0;
/// Octets of a response's header.
const HEADER_LEN: usize = 10;

/// One command.
pub(crate) struct Command<'a> {
    /// For errors.
    pub(crate) name: &'static str,
    /// TPM_CC.
    pub(crate) code: u32,
    pub(crate) handles: &'a [u32],
    /// Password of the first handle; `None` where it needs no authorization.
    pub(crate) auth: Option<&'a [u8]>,
    pub(crate) parameters: &'a [u8],
    /// The response begins with a handle.
    pub(crate) gives_handle: bool,
}

/// What a TPM answers with success.
pub(crate) struct Response {
    /// The new object's.
    pub(crate) handle: Option<u32>,
    pub(crate) parameters: Zeroizing<Vec<u8>>,
}

impl Command<'_> {
    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut body = Writer::default();
        for handle in self.handles {
            body.u32(*handle);
        }
        if let Some(auth) = self.auth {
            let mut session = Writer::default();
            session
                .u32(PASSWORD_SESSION)
                .sized(&[])
                .u8(CONTINUE_SESSION)
                .sized(auth);
            let session = Zeroizing::new(session.0);
            body.u32(u32::try_from(session.len()).unwrap_or(u32::MAX))
                .octets(&session);
        }
        body.octets(self.parameters);
        let body = Zeroizing::new(body.0);
        let tag = if self.auth.is_some() {
            SESSIONS
        } else {
            NO_SESSIONS
        };
        let mut command = Writer(Vec::with_capacity(HEADER_LEN + body.len()));
        command
            .u16(tag)
            .u32(u32::try_from(HEADER_LEN + body.len()).unwrap_or(u32::MAX))
            .u32(self.code)
            .octets(&body);
        Zeroizing::new(command.0)
    }

    /// Reads the answer to this command.
    pub(crate) fn response(&self, bytes: &[u8]) -> Result<Response, TpmError> {
        let mut reader = Reader::new(bytes);
        let tag = reader.u16()?;
        let len = reader.u32()?;
        if usize::try_from(len).ok() != Some(bytes.len()) {
            return Err(TpmError::Answer);
        }
        let code = reader.u32()?;
        if code != SUCCESS {
            return Err(TpmError::Refused {
                command: self.name,
                code,
            });
        }
        let handle = match self.gives_handle {
            true => Some(reader.u32()?),
            false => None,
        };
        let parameters = match tag {
            SESSIONS => {
                let len = usize::try_from(reader.u32()?).map_err(|_| TpmError::Answer)?;
                reader.octets(len)?
            }
            NO_SESSIONS => reader.rest(),
            _ => return Err(TpmError::Answer),
        };
        Ok(Response {
            handle,
            parameters: Zeroizing::new(parameters.to_vec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COMMAND: Command<'static> = Command {
        name: "TPM2_Load",
        code: 0x157,
        handles: &[0x8100_0001],
        auth: Some(b"pw"),
        parameters: &[0xaa],
        gives_handle: true,
    };

    #[test]
    fn a_password_session() {
        let expected =
            b"\x80\x02\0\0\0\x1e\0\0\x01\x57\x81\0\0\x01\0\0\0\x0b\x40\0\0\x09\0\0\x01\0\x02pw\xaa";
        assert_eq!(COMMAND.to_bytes().as_slice(), expected);
    }

    #[test]
    fn refusals_tell_wrong_passwords_apart() {
        let refused = |code: u32| {
            let bytes = [&[0x80, 1, 0, 0, 0, 10][..], &code.to_be_bytes()].concat();
            COMMAND.response(&bytes).err().unwrap()
        };
        for wrong in [0x98e, 0x9a2, 0x8e, 0xa2] {
            assert!(refused(wrong).is_wrong_auth(), "{wrong:x}");
        }
        for other in [0x921, 0x18b, 0x84, 0x0e, 0x10e] {
            assert!(!refused(other).is_wrong_auth(), "{other:x}");
        }
    }

    proptest! {
        #[test]
        fn responses_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), whole in any::<bool>()) {
            let mut bytes = bytes;
            if whole && bytes.len() >= HEADER_LEN {
                let len = bytes.len() as u32;
                bytes[2..6].copy_from_slice(&len.to_be_bytes());
                bytes[6..10].fill(0);
            }
            let _ = COMMAND.response(&bytes);
        }
    }
}
