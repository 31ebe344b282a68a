//! Packets that are sent: attributes in order, hidden password, authenticators
//! (RFC 2865 §3, §5.2; RFC 2866 §3; RFC 3579 §3.2; RFC 5997 §3).

use std::net::IpAddr;

use culvert_vocab::{SecretBytes, SecretString};
use hmac::{Hmac, Mac as _};
use md5::{Digest as _, Md5};
use zeroize::Zeroizing;

use crate::attribute::{MESSAGE_AUTHENTICATOR, NAS_IP_ADDRESS, NAS_IPV6_ADDRESS, USER_PASSWORD};
use crate::packet::{HEADER_LEN, PACKET_MAX, VALUE_MAX};

/// Longest password that can be hidden, in octets.
const PASSWORD_MAX: usize = 128;
/// Octets of an MD5 hash, and of a block of a hidden password.
const BLOCK: usize = 16;

/// What a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Access-Request.
    Access,
    /// Accounting-Request.
    Accounting,
    /// Status-Server.
    Status,
}

impl Code {
    /// The code on the wire.
    pub fn number(self) -> u8 {
        match self {
            Self::Access => 1,
            Self::Accounting => 4,
            Self::Status => 12,
        }
    }
}

/// Why a request cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// RFC 2865 §5.2.
    #[error("RADIUS carries passwords of up to {PASSWORD_MAX} octets, this one is longer")]
    PasswordTooLong,
    /// A value does not fit an attribute.
    #[error("the value of attribute {0} is longer than {VALUE_MAX} octets")]
    ValueTooLong(u8),
    /// All attributes together do not fit a packet.
    #[error("the request is longer than {PACKET_MAX} octets")]
    TooLong,
}

#[derive(Debug, Clone)]
enum Value {
    Plain(Vec<u8>),
    Hidden(SecretString),
}

/// A request before it is sealed for one server. It keeps the password in the clear, since each
/// server has a secret of its own.
#[derive(Debug, Clone)]
pub struct Request {
    code: Code,
    attributes: Vec<(u8, Value)>,
}

impl Request {
    /// A request without attributes.
    pub fn new(code: Code) -> Self {
        Self {
            code,
            attributes: Vec::new(),
        }
    }

    /// What it is.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Adds an attribute.
    pub fn push(&mut self, kind: u8, value: impl Into<Vec<u8>>) {
        self.attributes.push((kind, Value::Plain(value.into())));
    }

    /// Adds an integer.
    pub fn push_number(&mut self, kind: u8, value: u32) {
        self.push(kind, value.to_be_bytes());
    }

    /// Adds NAS-IP-Address or NAS-IPv6-Address.
    pub fn push_nas_address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.push(NAS_IP_ADDRESS, address.octets()),
            IpAddr::V6(address) => self.push(NAS_IPV6_ADDRESS, address.octets()),
        }
    }

    /// Adds User-Password, which will be hidden.
    pub fn push_password(&mut self, password: SecretString) {
        self.attributes.push((USER_PASSWORD, Value::Hidden(password)));
    }

    /// The octets for one server. `random` becomes the authenticator, except of accounting
    /// requests. Message-Authenticator comes first, so that a reply to a forged prefix cannot be
    /// made (CVE-2024-3596); accounting requests are authenticated as a whole already.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn seal(
        &self,
        identifier: u8,
        random: [u8; 16],
        secret: &SecretBytes,
    ) -> Result<Sealed, RequestError> {
        let mut octets = Zeroizing::new(vec![self.code.number(), identifier, 0, 0]);
        octets.extend_from_slice(&random);
        let signed = self.code != Code::Accounting;
        if signed {
            octets.extend_from_slice(&[MESSAGE_AUTHENTICATOR, 18]);
            octets.extend_from_slice(&[0; BLOCK]);
        }
        for (kind, value) in &self.attributes {
            let hidden;
            let value = match value {
                Value::Plain(value) => value.as_slice(),
                Value::Hidden(password) => {
                    hidden = hide(password.expose().as_bytes(), &random, secret)?;
                    hidden.as_slice()
                }
            };
            let length = u8::try_from(value.len() + 2).map_err(|_| RequestError::ValueTooLong(*kind))?;
            octets.extend_from_slice(&[*kind, length]);
            octets.extend_from_slice(value);
        }
        let length = u16::try_from(octets.len()).map_err(|_| RequestError::TooLong)?;
        if octets.len() > PACKET_MAX {
            return Err(RequestError::TooLong);
        }
        put(&mut octets, 2, &length.to_be_bytes());
        let authenticator = if signed {
            let code = message_authenticator(secret, &[&octets]);
            put(&mut octets, HEADER_LEN + 2, &code);
            random
        } else {
            put(&mut octets, 4, &[0; BLOCK]);
            let hash = md5(&[&octets, secret.expose()]);
            put(&mut octets, 4, &hash);
            hash
        };
        Ok(Sealed {
            octets,
            authenticator,
        })
    }
}

/// A request as it goes to one server.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The packet.
    pub octets: Zeroizing<Vec<u8>>,
    /// Its authenticator, which a reply answers to.
    pub authenticator: [u8; 16],
}

fn put(octets: &mut [u8], at: usize, value: &[u8]) {
    for (to, from) in octets.iter_mut().skip(at).zip(value) {
        *to = *from;
    }
}

/// User-Password: each block is combined with a hash over the secret and the block before
/// (RFC 2865 §5.2).
fn hide(password: &[u8], authenticator: &[u8; 16], secret: &SecretBytes) -> Result<Vec<u8>, RequestError> {
    if password.len() > PASSWORD_MAX {
        return Err(RequestError::PasswordTooLong);
    }
    let mut hidden = Vec::with_capacity(PASSWORD_MAX);
    let mut before = *authenticator;
    let empty = [&[][..]];
    let blocks = password
        .chunks(BLOCK)
        .chain(empty.into_iter().filter(|_| password.is_empty()));
    for block in blocks {
        let mut mask = md5(&[secret.expose(), &before]);
        for (mask, octet) in mask.iter_mut().zip(block) {
            *mask ^= octet;
        }
        hidden.extend_from_slice(&mask);
        before = mask;
    }
    Ok(hidden)
}

/// MD5 over all parts.
pub(crate) fn md5(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Md5::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// HMAC-MD5 over all parts (RFC 3579 §3.2).
pub(crate) fn message_authenticator(secret: &SecretBytes, parts: &[&[u8]]) -> [u8; 16] {
    match Hmac::<Md5>::new_from_slice(secret.expose()) {
        Ok(mut mac) => {
            for part in parts {
                mac.update(part);
            }
            mac.finalize().into_bytes().into()
        }
        // HMAC takes keys of every length.
        Err(_) => [0; 16],
    }
}
