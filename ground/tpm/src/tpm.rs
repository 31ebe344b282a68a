//! What a key needs of the TPM.

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512};
use zeroize::Zeroizing;

use crate::command::{Command, Response};
use crate::file::{KeyFile, Parent};
use crate::marshal::{Reader, Writer};
use crate::public::{
    ALG_ECDSA, ALG_NULL, ALG_SHA1, ALG_SHA256, ALG_SHA384, ALG_SHA512, Public, parent_template,
};
use crate::{Interface, TpmError, Transport};

const CREATE_PRIMARY: u32 = 0x131;
const LOAD: u32 = 0x157;
const RSA_DECRYPT: u32 = 0x159;
const SIGN: u32 = 0x15d;
const FLUSH_CONTEXT: u32 = 0x165;
const READ_PUBLIC: u32 = 0x173;
/// TPM_ST_HASHCHECK and TPM_RH_NULL: the digest was not made by the TPM.
const NO_TICKET: (u16, u32) = (0x8024, 0x4000_0007);

/// A connection to the TPM with the objects that it has made there; they go with it.
pub(crate) struct Tpm<'a> {
    interface: &'a Interface,
    transport: Box<dyn Transport>,
    objects: Vec<u32>,
}

impl<'a> Tpm<'a> {
    pub(crate) fn open(interface: &'a Interface) -> Result<Self, TpmError> {
        Ok(Self {
            interface,
            transport: interface.open()?,
            objects: Vec::new(),
        })
    }

    fn run(&mut self, command: &Command<'_>) -> Result<Response, TpmError> {
        let bytes = self.transport.exchange(&command.to_bytes());
        let bytes = bytes.map_err(|cause| self.interface.failed(cause))?;
        let response = command.response(&bytes)?;
        self.objects.extend(response.handle);
        Ok(response)
    }

    /// True when wrong passwords of a persistent key count.
    pub(crate) fn counts_attempts(&mut self, handle: u32) -> Result<bool, TpmError> {
        let response = self.run(&Command {
            name: "TPM2_ReadPublic",
            code: READ_PUBLIC,
            handles: &[handle],
            auth: None,
            parameters: &[],
            gives_handle: false,
        })?;
        Public::parse(Reader::new(&response.parameters).sized()?).map(|public| public.counts_attempts())
    }

    /// The key that wraps the key of a file. A hierarchy needs its password here, a persistent key
    /// only for [`Self::load`].
    pub(crate) fn parent(&mut self, file: &KeyFile, auth: &[u8]) -> Result<u32, TpmError> {
        let hierarchy = match file.parent {
            Parent::Persistent(handle) => return Ok(handle),
            Parent::Hierarchy(handle) => handle,
        };
        let mut parameters = Writer::default();
        // No password and no data of ours; the template; nothing to attest.
        parameters
            .sized(&[0; 4])
            .sized(&parent_template(file.legacy))
            .sized(&[])
            .u32(0);
        let response = self.run(&Command {
            name: "TPM2_CreatePrimary",
            code: CREATE_PRIMARY,
            handles: &[hierarchy],
            auth: Some(auth),
            parameters: &parameters.0,
            gives_handle: true,
        })?;
        response.handle.ok_or(TpmError::Answer)
    }

    /// Loads the key of a file.
    pub(crate) fn load(&mut self, file: &KeyFile, parent: u32, auth: &[u8]) -> Result<u32, TpmError> {
        let mut parameters = Writer::default();
        parameters.sized(&file.private).sized(&file.public.area);
        let response = self.run(&Command {
            name: "TPM2_Load",
            code: LOAD,
            handles: &[parent],
            auth: Some(auth),
            parameters: &parameters.0,
            gives_handle: true,
        })?;
        response.handle.ok_or(TpmError::Answer)
    }

    /// The bare RSA operation.
    pub(crate) fn rsa_decrypt(
        &mut self,
        key: u32,
        auth: &[u8],
        input: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let mut parameters = Writer::default();
        parameters.sized(input).u16(ALG_NULL).sized(&[]);
        let response = self.run(&Command {
            name: "TPM2_RSA_Decrypt",
            code: RSA_DECRYPT,
            handles: &[key],
            auth: Some(auth),
            parameters: &parameters.0,
            gives_handle: false,
        })?;
        let output = Reader::new(&response.parameters).sized()?;
        Ok(Zeroizing::new(output.to_vec()))
    }

    /// A signature over a digest: one number for RSA, two for ECDSA.
    pub(crate) fn sign(
        &mut self,
        key: u32,
        auth: &[u8],
        scheme: u16,
        hash: &'static Algorithm,
        digest: &[u8],
    ) -> Result<Vec<Vec<u8>>, TpmError> {
        let mut parameters = Writer::default();
        parameters
            .sized(digest)
            .u16(scheme)
            .u16(hash_id(hash)?)
            .u16(NO_TICKET.0)
            .u32(NO_TICKET.1)
            .sized(&[]);
        let response = self.run(&Command {
            name: "TPM2_Sign",
            code: SIGN,
            handles: &[key],
            auth: Some(auth),
            parameters: &parameters.0,
            gives_handle: false,
        })?;
        let mut reader = Reader::new(&response.parameters);
        let (_scheme, _hash) = (reader.u16()?, reader.u16()?);
        let numbers = if scheme == ALG_ECDSA { 2 } else { 1 };
        (0..numbers).map(|_| Ok(reader.sized()?.to_vec())).collect()
    }
}

impl Drop for Tpm<'_> {
    /// Without a resource manager objects would stay.
    fn drop(&mut self) {
        for handle in std::mem::take(&mut self.objects) {
            // The connection may be broken, and that has been reported.
            let _ = self.run(&Command {
                name: "TPM2_FlushContext",
                code: FLUSH_CONTEXT,
                handles: &[handle],
                auth: None,
                parameters: &[],
                gives_handle: false,
            });
        }
    }
}

fn hash_id(hash: &'static Algorithm) -> Result<u16, TpmError> {
    if hash == &SHA256 {
        Ok(ALG_SHA256)
    } else if hash == &SHA384 {
        Ok(ALG_SHA384)
    } else if hash == &SHA512 {
        Ok(ALG_SHA512)
    } else if hash == &SHA1_FOR_LEGACY_USE_ONLY {
        Ok(ALG_SHA1)
    } else {
        Err(TpmError::Scheme)
    }
}
