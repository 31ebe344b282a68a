use culvert_vocab::SecretBytes;
use culvert_wire::der::{INTEGER, OCTET_STRING, SEQUENCE};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use zeroize::Zeroizing;

use crate::ber::{Reader, is_one_sequence};
use crate::legacy_pem::DekInfo;
use crate::pem::Block;
use crate::scheme::Scheme;
use crate::{CredentialError, Passphrase, pem};

const WHAT: &str = "private key";

/// How a private key is packed; decides what the user is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFormat {
    /// In the clear.
    Plain,
    /// PEM with `DEK-Info`.
    EncryptedPem,
    /// PKCS#8 with PBES1 or PBES2, in PEM form.
    EncryptedPkcs8Pem,
    /// The same in DER form.
    EncryptedPkcs8Der,
}

/// A private key of a file (`specs/client.md` §8.1), not opened yet.
#[derive(Debug, Clone)]
pub struct KeyFile {
    content: SecretBytes,
    protection: Protection,
}

#[derive(Debug, Clone)]
enum Protection {
    None(Structure),
    Pem(DekInfo, Structure),
    Pkcs8(Scheme, KeyFormat),
}

/// Structures of a key in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Structure {
    Pkcs1,
    Sec1,
    Pkcs8,
}

impl KeyFile {
    /// Recognises the first private key of a PEM file, or a DER file.
    ///
    /// # Errors
    /// There is no key, or it is damaged or of an unsupported kind.
    pub fn parse(file: &[u8]) -> Result<Self, CredentialError> {
        for block in pem::blocks(file) {
            if let Some(key) = Self::from_block(block)? {
                return Ok(key);
            }
        }
        if is_one_sequence(file) {
            return Self::from_der(file);
        }
        Err(CredentialError::NoKey)
    }

    /// How it is packed.
    pub fn format(&self) -> KeyFormat {
        match self.protection {
            Protection::None(_) => KeyFormat::Plain,
            Protection::Pem(..) => KeyFormat::EncryptedPem,
            Protection::Pkcs8(_, format) => format,
        }
    }

    /// The key, wiped when dropped. For [`KeyFormat::Plain`] the passphrase does not matter.
    ///
    /// # Errors
    /// [`CredentialError::WrongPassphrase`], or the algorithms are not supported.
    pub fn open(
        &self,
        passphrase: &Passphrase,
    ) -> Result<Zeroizing<PrivateKeyDer<'static>>, CredentialError> {
        let content = self.content.expose();
        let key = match &self.protection {
            Protection::None(structure) => structure.key(content),
            Protection::Pem(dek_info, structure) => structure.key(&dek_info.decrypt(content, passphrase)?),
            Protection::Pkcs8(scheme, _) => Structure::Pkcs8.key(&scheme.decrypt(content, passphrase)?),
        };
        Ok(Zeroizing::new(key))
    }

    fn from_block(block: Block) -> Result<Option<Self>, CredentialError> {
        let unsupported = |what: &str| Err(CredentialError::Unsupported(what.to_owned()));
        let structure = match block.label.as_str() {
            "RSA PRIVATE KEY" => Structure::Pkcs1,
            "EC PRIVATE KEY" => Structure::Sec1,
            "PRIVATE KEY" => Structure::Pkcs8,
            "ENCRYPTED PRIVATE KEY" => {
                let content = block.content.ok_or(CredentialError::Malformed(WHAT))?;
                return Self::encrypted_pkcs8(content.expose(), KeyFormat::EncryptedPkcs8Pem).map(Some);
            }
            "DSA PRIVATE KEY" => return unsupported("a DSA key"),
            "TSS KEY BLOB" => return unsupported("a TPM 1.2 key"),
            "TSS2 PRIVATE KEY" | "TSS2 KEY BLOB" => return unsupported("a TPM 2.0 key"),
            _ => return Ok(None),
        };
        let content = block.content.ok_or(CredentialError::Malformed(WHAT))?;
        let protection = match &block.dek_info {
            Some(text) => Protection::Pem(DekInfo::parse(text)?, structure),
            None if is_one_sequence(content.expose()) => Protection::None(structure),
            None => return Err(CredentialError::Malformed(WHAT)),
        };
        Ok(Some(Self { content, protection }))
    }

    /// Tells the structures by their first members.
    fn from_der(der: &[u8]) -> Result<Self, CredentialError> {
        let mut reader = Reader::new(der, WHAT).enter(SEQUENCE)?;
        if reader.peek() == Some(SEQUENCE) {
            return Self::encrypted_pkcs8(der, KeyFormat::EncryptedPkcs8Der);
        }
        // 0 to 2 in the known structures; 3 is a PKCS#12 file.
        if reader.unsigned().map_err(|_| CredentialError::NoKey)? > 2 {
            return Err(CredentialError::NoKey);
        }
        let structure = match reader.peek() {
            Some(INTEGER) => Structure::Pkcs1,
            Some(OCTET_STRING) => Structure::Sec1,
            Some(SEQUENCE) => Structure::Pkcs8,
            _ => return Err(CredentialError::NoKey),
        };
        Ok(Self {
            content: der.to_vec().into(),
            protection: Protection::None(structure),
        })
    }

    /// EncryptedPrivateKeyInfo (RFC 5958 §3).
    fn encrypted_pkcs8(der: &[u8], format: KeyFormat) -> Result<Self, CredentialError> {
        let mut info = Reader::new(der, WHAT).enter(SEQUENCE)?;
        let algorithm = info.content(SEQUENCE)?;
        // A certificate begins the same way.
        if info.peek() != Some(OCTET_STRING) {
            return Err(CredentialError::NoKey);
        }
        let scheme = Scheme::parse(algorithm)?;
        Ok(Self {
            content: info.content(OCTET_STRING)?.to_vec().into(),
            protection: Protection::Pkcs8(scheme, format),
        })
    }
}

impl Structure {
    fn key(self, der: &[u8]) -> PrivateKeyDer<'static> {
        let der = der.to_vec();
        match self {
            Self::Pkcs1 => PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(der)),
            Self::Sec1 => PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(der)),
            Self::Pkcs8 => PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der)),
        }
    }
}
