//! TPMT_PUBLIC (TPM 2.0 Library, part 2, §12.2.4): kind and attributes of a key.

use culvert_wire::der::{SEQUENCE, bit_string, element, integer};

use crate::TpmError;
use crate::marshal::{Reader, Writer};

pub(crate) const ALG_RSA: u16 = 0x0001;
pub(crate) const ALG_SHA1: u16 = 0x0004;
pub(crate) const ALG_AES: u16 = 0x0006;
pub(crate) const ALG_SHA256: u16 = 0x000b;
pub(crate) const ALG_SHA384: u16 = 0x000c;
pub(crate) const ALG_SHA512: u16 = 0x000d;
pub(crate) const ALG_NULL: u16 = 0x0010;
pub(crate) const ALG_RSASSA: u16 = 0x0014;
pub(crate) const ALG_RSAPSS: u16 = 0x0016;
pub(crate) const ALG_ECDSA: u16 = 0x0018;
pub(crate) const ALG_ECC: u16 = 0x0023;
pub(crate) const ALG_CFB: u16 = 0x0043;

const FIXED_TPM: u32 = 1 << 1;
const FIXED_PARENT: u32 = 1 << 4;
const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
const USER_WITH_AUTH: u32 = 1 << 6;
const NO_DA: u32 = 1 << 10;
const RESTRICTED: u32 = 1 << 16;
const DECRYPT: u32 = 1 << 17;

/// Exponent of a key that states none.
const EXPONENT_DEFAULT: u32 = 65537;

/// Parameters that tell keys apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Rsa {
        /// The one scheme that the key is limited to, or [`ALG_NULL`].
        scheme: u16,
        exponent: u32,
    },
    Ecc(Curve),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    /// Octets of a coordinate.
    fn len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// DER OID.
    fn oid(self) -> &'static [u8] {
        match self {
            Self::P256 => b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07",
            Self::P384 => b"\x06\x05\x2b\x81\x04\x00\x22",
            Self::P521 => b"\x06\x05\x2b\x81\x04\x00\x23",
        }
    }
}

/// The public area of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Public {
    /// As the TPM wants it back.
    pub(crate) area: Vec<u8>,
    pub(crate) kind: Kind,
    attributes: u32,
    /// Modulus, or x and y in full length behind each other.
    pub(crate) number: Vec<u8>,
}

impl Public {
    /// Reads the content of a TPM2B_PUBLIC.
    pub(crate) fn parse(area: &[u8]) -> Result<Self, TpmError> {
        Self::read(area).map_err(|error| match error {
            TpmError::Answer => TpmError::Malformed,
            other => other,
        })
    }

    fn read(area: &[u8]) -> Result<Self, TpmError> {
        let mut reader = Reader::new(area);
        let algorithm = reader.u16()?;
        let _name_algorithm = reader.u16()?;
        let attributes = reader.u32()?;
        let _policy = reader.sized()?;
        if reader.u16()? != ALG_NULL {
            // A key for wrapping: bits and mode of its cipher.
            reader.u32()?;
        }
        let scheme = reader.u16()?;
        if scheme != ALG_NULL {
            let _hash = reader.u16()?;
        }
        let (kind, number) = match algorithm {
            ALG_RSA => {
                let _bits = reader.u16()?;
                let exponent = match reader.u32()? {
                    0 => EXPONENT_DEFAULT,
                    exponent => exponent,
                };
                (Kind::Rsa { scheme, exponent }, reader.sized()?.to_vec())
            }
            ALG_ECC => {
                let curve = match reader.u16()? {
                    3 => Curve::P256,
                    4 => Curve::P384,
                    5 => Curve::P521,
                    _ => return Err(TpmError::Kind),
                };
                if reader.u16()? != ALG_NULL {
                    let _kdf_hash = reader.u16()?;
                }
                let coordinates = [reader.sized()?, reader.sized()?];
                let mut point = Vec::with_capacity(2 * curve.len());
                for coordinate in coordinates {
                    let zeroes = curve.len().checked_sub(coordinate.len()).ok_or(TpmError::Kind)?;
                    point.resize(point.len() + zeroes, 0);
                    point.extend_from_slice(coordinate);
                }
                (Kind::Ecc(curve), point)
            }
            _ => return Err(TpmError::Kind),
        };
        Ok(Self {
            area: area.to_vec(),
            kind,
            attributes,
            number,
        })
    }

    /// The key can be used with a password and without a policy.
    pub(crate) fn may_use_password(&self) -> bool {
        self.attributes & USER_WITH_AUTH != 0
    }

    /// Wrong passwords count towards a lock-out.
    pub(crate) fn counts_attempts(&self) -> bool {
        self.attributes & NO_DA == 0
    }

    /// The bare RSA operation is allowed.
    pub(crate) fn may_decrypt(&self) -> bool {
        self.attributes & DECRYPT != 0
    }

    /// DER SubjectPublicKeyInfo.
    pub(crate) fn spki(&self) -> Vec<u8> {
        let (algorithm, key) = match self.kind {
            Kind::Rsa { exponent, .. } => {
                let numbers = [integer(&self.number), integer(&exponent.to_be_bytes())].concat();
                let algorithm = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00".to_vec();
                (algorithm, element(SEQUENCE, &numbers))
            }
            Kind::Ecc(curve) => {
                let algorithm = [b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01", curve.oid()].concat();
                (algorithm, [&[4], self.number.as_slice()].concat())
            }
        };
        element(
            SEQUENCE,
            &[element(SEQUENCE, &algorithm), bit_string(&key)].concat(),
        )
    }
}

/// The template of the key that wraps others under a hierarchy (`specs/client.md` §8.5).
pub(crate) fn parent_template(legacy: bool) -> Vec<u8> {
    const P256: u16 = 3;
    let fixed = if legacy { 0 } else { FIXED_TPM | FIXED_PARENT };
    let attributes = USER_WITH_AUTH | RESTRICTED | DECRYPT | NO_DA | SENSITIVE_DATA_ORIGIN | fixed;
    let mut area = Writer::default();
    area.u16(ALG_ECC)
        .u16(ALG_SHA256)
        .u32(attributes)
        .sized(&[])
        .u16(ALG_AES)
        .u16(128)
        .u16(ALG_CFB)
        .u16(ALG_NULL)
        .u16(P256)
        .u16(ALG_NULL)
        .sized(&[])
        .sized(&[]);
    area.0
}
