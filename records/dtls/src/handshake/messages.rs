//! The handshake messages.

use super::Reader;
use crate::record::MAX_PLAINTEXT;
use crate::{Error, Version};

/// Handshake types (RFC 5246 §7.4, RFC 6347 §4.3.2).
pub(crate) mod kind {
    pub(crate) const CLIENT_HELLO: u8 = 1;
    pub(crate) const SERVER_HELLO: u8 = 2;
    pub(crate) const HELLO_VERIFY_REQUEST: u8 = 3;
    pub(crate) const NEW_SESSION_TICKET: u8 = 4;
    pub(crate) const SERVER_KEY_EXCHANGE: u8 = 12;
    pub(crate) const SERVER_HELLO_DONE: u8 = 14;
    pub(crate) const CLIENT_KEY_EXCHANGE: u8 = 16;
    pub(crate) const FINISHED: u8 = 20;
}

/// Extension numbers.
pub(crate) mod extension {
    pub(crate) const ENCRYPT_THEN_MAC: u16 = 22;
    pub(crate) const EXTENDED_MASTER_SECRET: u16 = 23;
    pub(crate) const RECORD_SIZE_LIMIT: u16 = 28;
    pub(crate) const RENEGOTIATION_INFO: u16 = 0xff01;
}

/// Stands in for an empty renegotiation_info (RFC 5746 §3.3).
pub(crate) const EMPTY_RENEGOTIATION_INFO_SCSV: u16 = 0x00ff;

/// Least value of a record_size_limit (RFC 8449 §4).
const MIN_RECORD_LIMIT: u16 = 64;
/// Most extensions taken in a hello; real ones have about ten.
const MAX_EXTENSIONS: usize = 64;

/// An extension: its number and its content.
pub(crate) type Extension = (u16, Vec<u8>);

/// ClientHello, with null compression only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientHello {
    pub(crate) version: u16,
    pub(crate) random: [u8; 32],
    pub(crate) session_id: Vec<u8>,
    pub(crate) cookie: Vec<u8>,
    pub(crate) suites: Vec<u16>,
    pub(crate) extensions: Vec<Extension>,
}

impl ClientHello {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Error> {
        Self::read(body).ok_or(Error::Malformed("ClientHello"))
    }

    fn read(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let version = reader.u16()?;
        let random = reader.array()?;
        let session_id = reader.vector8()?;
        let cookie = reader.vector8()?;
        let mut suite_list = Reader::new(reader.vector16()?);
        let mut suites = Vec::new();
        while !suite_list.is_empty() {
            suites.push(suite_list.u16()?);
        }
        let compression = reader.vector8()?;
        if session_id.len() > 32 || !compression.contains(&0) {
            return None;
        }
        Some(Self {
            version,
            random,
            session_id: session_id.to_vec(),
            cookie: cookie.to_vec(),
            suites,
            extensions: read_extensions(reader)?,
        })
    }

    /// Checks that the client speaks `version`, and its random value.
    pub(crate) fn check(&self, version: Version) -> Result<(), Error> {
        let speaks = match version {
            // Versions of DTLS count downwards.
            Version::Dtls12 | Version::Dtls10 => (0xfe00..=version.wire()).contains(&self.version),
            Version::Dtls09 => self.version == version.wire(),
        };
        if !speaks {
            return Err(Error::Version(self.version));
        }
        match self.random {
            random if random == [0; 32] => Err(Error::ZeroRandom),
            _ => Ok(()),
        }
    }

    /// Most octets of plaintext that the client takes in a record, if it says so (RFC 8449 §4).
    pub(crate) fn record_limit(&self) -> Result<Option<u16>, Error> {
        let Some(content) = self.extension(extension::RECORD_SIZE_LIMIT) else {
            return Ok(None);
        };
        let limit = content.try_into().map(u16::from_be_bytes);
        let limit = limit.ok().filter(|limit| *limit >= MIN_RECORD_LIMIT);
        let limit = limit.ok_or(Error::Malformed("record_size_limit"))?;
        Ok(Some(limit.min(MAX_PLAINTEXT as u16)))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.version.to_be_bytes());
        out.extend_from_slice(&self.random);
        push_vector8(&mut out, &self.session_id);
        push_vector8(&mut out, &self.cookie);
        let suites: Vec<u8> = self.suites.iter().flat_map(|suite| suite.to_be_bytes()).collect();
        push_vector16(&mut out, &suites);
        push_vector8(&mut out, &[0]);
        push_extensions(&mut out, &self.extensions);
        out
    }

    /// Content of an extension.
    pub(crate) fn extension(&self, number: u16) -> Option<&[u8]> {
        find(&self.extensions, number)
    }
}

/// ServerHello.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerHello {
    pub(crate) version: u16,
    pub(crate) random: [u8; 32],
    pub(crate) session_id: Vec<u8>,
    pub(crate) suite: u16,
    pub(crate) extensions: Vec<Extension>,
}

impl ServerHello {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Error> {
        Self::read(body).ok_or(Error::Malformed("ServerHello"))
    }

    fn read(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let version = reader.u16()?;
        let random = reader.array()?;
        let session_id = reader.vector8()?;
        let suite = reader.u16()?;
        let compression = reader.u8()?;
        if session_id.len() > 32 || compression != 0 {
            return None;
        }
        let extensions = read_extensions(reader)?;
        Some(Self {
            version,
            random,
            session_id: session_id.to_vec(),
            suite,
            extensions,
        })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.version.to_be_bytes());
        out.extend_from_slice(&self.random);
        push_vector8(&mut out, &self.session_id);
        out.extend_from_slice(&self.suite.to_be_bytes());
        out.push(0);
        push_extensions(&mut out, &self.extensions);
        out
    }

    /// Content of an extension.
    pub(crate) fn extension(&self, number: u16) -> Option<&[u8]> {
        find(&self.extensions, number)
    }

    /// Checks that there are no extensions but those that `hello` offered.
    pub(crate) fn check_extensions(&self, hello: &ClientHello) -> Result<(), Error> {
        let offered = |number: u16| {
            let by_scsv = number == extension::RENEGOTIATION_INFO
                && hello.suites.contains(&EMPTY_RENEGOTIATION_INFO_SCSV);
            by_scsv || hello.extension(number).is_some()
        };
        match self.extensions.iter().all(|(number, _)| offered(*number)) {
            true => Ok(()),
            false => Err(Error::NotOffered("an extension")),
        }
    }
}

/// The cookie of a HelloVerifyRequest.
pub(crate) fn parse_hello_verify_request(body: &[u8]) -> Result<&[u8], Error> {
    let mut reader = Reader::new(body);
    reader
        .u16()
        .and_then(|_version| reader.vector8())
        .filter(|_| reader.is_empty())
        .ok_or(Error::Malformed("HelloVerifyRequest"))
}

/// A HelloVerifyRequest with `version` and `cookie`.
pub(crate) fn encode_hello_verify_request(version: u16, cookie: &[u8]) -> Vec<u8> {
    let mut out = version.to_be_bytes().to_vec();
    push_vector8(&mut out, cookie);
    out
}

/// Checks a PSK ServerKeyExchange; its content is the identity hint, which nobody needs.
pub(crate) fn check_server_key_exchange(body: &[u8]) -> Result<(), Error> {
    check_vector16(body, "ServerKeyExchange")
}

/// Checks a PSK ClientKeyExchange; its content is the identity, which servers ignore.
pub(crate) fn check_client_key_exchange(body: &[u8]) -> Result<(), Error> {
    check_vector16(body, "ClientKeyExchange")
}

/// A PSK ClientKeyExchange.
pub(crate) fn encode_client_key_exchange(identity: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    push_vector16(&mut out, identity);
    out
}

/// The content of a renegotiation_info extension.
pub(crate) fn parse_renegotiation_info(content: &[u8]) -> Result<&[u8], Error> {
    let mut reader = Reader::new(content);
    reader
        .vector8()
        .filter(|_| reader.is_empty())
        .ok_or(Error::Malformed("renegotiation_info"))
}

/// A record_size_limit extension with our limit.
pub(crate) fn record_size_limit() -> Extension {
    let limit = (MAX_PLAINTEXT as u16).to_be_bytes();
    (extension::RECORD_SIZE_LIMIT, limit.to_vec())
}

/// A renegotiation_info extension.
pub(crate) fn renegotiation_info(verify_data: &[u8]) -> Extension {
    let mut content = Vec::new();
    push_vector8(&mut content, verify_data);
    (extension::RENEGOTIATION_INFO, content)
}

fn check_vector16(body: &[u8], name: &'static str) -> Result<(), Error> {
    let mut reader = Reader::new(body);
    reader
        .vector16()
        .filter(|_| reader.is_empty())
        .map(|_| ())
        .ok_or(Error::Malformed(name))
}

/// The extensions at the end of a hello; none at all are allowed. `None` when an extension appears
/// twice, there are too many, or something follows.
fn read_extensions(mut reader: Reader<'_>) -> Option<Vec<Extension>> {
    let mut extensions = Vec::new();
    if reader.is_empty() {
        return Some(extensions);
    }
    let mut list = Reader::new(reader.vector16()?);
    while !list.is_empty() {
        let number = list.u16()?;
        let content = list.vector16()?;
        if extensions.len() >= MAX_EXTENSIONS || find(&extensions, number).is_some() {
            return None;
        }
        extensions.push((number, content.to_vec()));
    }
    reader.is_empty().then_some(extensions)
}

fn find(extensions: &[Extension], number: u16) -> Option<&[u8]> {
    extensions
        .iter()
        .find(|(other, _)| *other == number)
        .map(|(_, content)| content.as_slice())
}

fn push_extensions(out: &mut Vec<u8>, extensions: &[Extension]) {
    if extensions.is_empty() {
        return;
    }
    let mut list = Vec::new();
    for (number, content) in extensions {
        list.extend_from_slice(&number.to_be_bytes());
        push_vector16(&mut list, content);
    }
    push_vector16(out, &list);
}

/// `content` has at most 255 octets.
fn push_vector8(out: &mut Vec<u8>, content: &[u8]) {
    out.push(content.len() as u8);
    out.extend_from_slice(content);
}

/// `content` has at most 65535 octets.
fn push_vector16(out: &mut Vec<u8>, content: &[u8]) {
    out.extend_from_slice(&(content.len() as u16).to_be_bytes());
    out.extend_from_slice(content);
}
