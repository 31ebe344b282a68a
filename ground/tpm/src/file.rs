use x509_parser::der_parser::asn1_rs::{Any, FromDer, Tag};
use x509_parser::pem::Pem;

use crate::TpmError;
use crate::marshal::Reader;
use crate::public::Public;

/// OID content of 2.23.133.10.1.3, loadable key.
const LOADABLE_KEY: &[u8] = &[0x67, 0x81, 0x05, 0x0a, 0x01, 0x03];
/// OID content of 2.23.133.10.2, the type of legacy files.
const LEGACY_KEY: &[u8] = &[0x67, 0x81, 0x05, 0x0a, 0x02];
/// TPM_RH_OWNER.
const OWNER: u32 = 0x4000_0001;
/// First of the persistent handles; they take 24 bits.
const PERSISTENT: u32 = 0x8100_0000;
/// More octets are no key.
const FILE_MAX: usize = 64 * 1024;

/// What wraps a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parent {
    /// A key made each time under this hierarchy.
    Hierarchy(u32),
    /// A key that the TPM keeps.
    Persistent(u32),
}

impl Parent {
    fn of(handle: u32) -> Result<Self, TpmError> {
        match handle {
            _ if handle & 0xff00_0000 == PERSISTENT => Ok(Self::Persistent(handle)),
            _ if hierarchy_name(handle).is_some() => Ok(Self::Hierarchy(handle)),
            _ => Err(TpmError::Parent(handle)),
        }
    }
}

/// The name of a hierarchy.
pub(crate) fn hierarchy_name(handle: u32) -> Option<&'static str> {
    Some(match handle {
        OWNER => "owner",
        0x4000_0007 => "null",
        0x4000_000b => "endorsement",
        0x4000_000c => "platform",
        _ => return None,
    })
}

/// A key file of a TPM 2.0, in either of its forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// The older form, whose parent is made from another template.
    pub(crate) legacy: bool,
    /// The key has no password.
    pub(crate) empty_auth: bool,
    pub(crate) parent: Parent,
    pub(crate) public: Public,
    /// Content of the TPM2B_PRIVATE.
    pub(crate) private: Vec<u8>,
}

impl KeyFile {
    /// Reads the first such key of a PEM file; `None` if there is none.
    ///
    /// # Errors
    /// The key is damaged, of an unsupported kind, or needs what is not supported.
    pub fn parse(pem: &[u8]) -> Result<Option<Self>, TpmError> {
        if pem.len() > FILE_MAX {
            return Ok(None);
        }
        for block in Pem::iter_from_buffer(pem) {
            // What is no PEM may still be a key of another kind.
            let Ok(block) = block else { return Ok(None) };
            match block.label.as_str() {
                "TSS2 PRIVATE KEY" => return Self::from_der(&block.contents, LOADABLE_KEY).map(Some),
                "TSS2 KEY BLOB" => return Self::from_der(&block.contents, LEGACY_KEY).map(Some),
                _ => {}
            }
        }
        Ok(None)
    }

    fn from_der(der: &[u8], oid: &[u8]) -> Result<Self, TpmError> {
        let malformed = |_| TpmError::Malformed;
        let (_, sequence) = Any::from_der(der).map_err(malformed)?;
        if sequence.tag() != Tag::Sequence {
            return Err(TpmError::Malformed);
        }
        let legacy = oid == LEGACY_KEY;
        let (mut empty_auth, mut parent, mut policy) = (false, None, false);
        let mut octets: Vec<&[u8]> = Vec::new();
        let mut rest = sequence.data;
        let mut first = true;
        while !rest.is_empty() {
            let (after, element) = Any::from_der(rest).map_err(malformed)?;
            rest = after;
            if std::mem::take(&mut first) {
                if element.tag() != Tag::Oid || element.data != oid {
                    return Err(TpmError::Malformed);
                }
                continue;
            }
            let context = (element.class() == x509_parser::der_parser::asn1_rs::Class::ContextSpecific)
                .then(|| element.tag().0);
            match (context, legacy) {
                (Some(0), _) => empty_auth = inner(element.data)?.data.iter().any(|octet| *octet != 0),
                (Some(1), true) => parent = Some(number(inner(element.data)?.data)?),
                (Some(2), true) => octets.insert(0, inner(element.data)?.data),
                // Policy, secret and authPolicy of newer writers: an empty policy asks for nothing.
                (Some(1), false) => policy |= !inner(element.data)?.data.is_empty(),
                (Some(_), _) => {}
                (None, _) if element.tag() == Tag::Integer => parent = Some(number(element.data)?),
                (None, _) if element.tag() == Tag::OctetString => octets.push(element.data),
                (None, _) => return Err(TpmError::Malformed),
            }
        }
        let parent = match parent {
            Some(handle) => handle,
            None if legacy => OWNER,
            None => return Err(TpmError::Malformed),
        };
        let &[public, private] = octets.as_slice() else {
            return Err(TpmError::Malformed);
        };
        let sized = |octets| Reader::new(octets).sized().map_err(|_| TpmError::Malformed);
        let public = Public::parse(sized(public)?)?;
        if policy || !public.may_use_password() {
            return Err(TpmError::Policy);
        }
        Ok(Self {
            legacy,
            empty_auth,
            parent: Parent::of(parent)?,
            public,
            private: sized(private)?.to_vec(),
        })
    }

    /// DER SubjectPublicKeyInfo.
    pub fn spki(&self) -> Vec<u8> {
        self.public.spki()
    }
}

/// The element inside an explicit tag.
fn inner(content: &[u8]) -> Result<Any<'_>, TpmError> {
    Any::from_der(content)
        .map(|(_, element)| element)
        .map_err(|_| TpmError::Malformed)
}

/// An INTEGER as a handle. Some writers forget the zero before a high bit.
fn number(content: &[u8]) -> Result<u32, TpmError> {
    let content = match content {
        [0, rest @ ..] if rest.len() == 4 => rest,
        other => other,
    };
    if content.is_empty() || content.len() > 4 {
        return Err(TpmError::Malformed);
    }
    Ok(content
        .iter()
        .fold(0, |number, octet| number << 8 | u32::from(*octet)))
}
