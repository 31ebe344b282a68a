//! A look into the first datagram of a client, for the server's demultiplexer
//! (`specs/cstp-dtls.md` §7.3).

use crate::handshake::Reader;

/// A datagram with a ClientHello that AnyConnect servers take has at least this many octets.
const MIN_LEN: usize = 93;
/// Record versions of a first record: DTLS 1.0, 1.2 and Cisco's.
const FIRST_VERSIONS: [u16; 3] = [0xfeff, 0xfefd, 0x0100];
/// Content type of handshake records.
const HANDSHAKE: u8 = 22;
/// Handshake type of a ClientHello.
const CLIENT_HELLO: u8 = 1;
/// Extension with the App-ID, in place of the session id.
const APP_ID_EXTENSION: u16 = 48018;
/// Longest session id or App-ID.
const MAX_IDENTIFIER: usize = 32;

/// Why a datagram names no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Not a handshake record: possibly data of a session whose client changed its address.
    #[error("not a DTLS handshake record")]
    NotHandshake,
    /// Too short to be a ClientHello.
    #[error("too short for a DTLS ClientHello")]
    Short,
    /// Not a well-formed, unfragmented ClientHello.
    #[error("malformed DTLS ClientHello")]
    Malformed,
    /// The random value is all zero (GnuTLS 3.6.3-3.6.12).
    #[error("the random value of the DTLS ClientHello is all zero")]
    ZeroRandom,
    /// Neither extension 48018 nor the session id holds 1 to 32 octets.
    #[error("the DTLS ClientHello names no session")]
    NoIdentifier,
}

/// The identifier (App-ID or session id, 1 to 32 octets) in the ClientHello that `datagram`
/// begins with. `psk` says whether the App-ID extension counts (`dtls-psk` of the server).
///
/// # Errors
/// See [`HelloError`]; every such datagram is to be dropped, but [`HelloError::NotHandshake`] may
/// belong to a known session.
pub fn hello_identifier(datagram: &[u8], psk: bool) -> Result<&[u8], HelloError> {
    match datagram.first() {
        None => return Err(HelloError::Short),
        Some(&HANDSHAKE) => {}
        Some(_) => return Err(HelloError::NotHandshake),
    }
    if datagram.len() < MIN_LEN {
        return Err(HelloError::Short);
    }
    let hello = Hello::parse(datagram).ok_or(HelloError::Malformed)?;
    if hello.random.iter().all(|&octet| octet == 0) {
        return Err(HelloError::ZeroRandom);
    }
    let identifier = match hello.app_id {
        Some(app_id) if psk => app_id,
        _ => hello.session_id,
    };
    if identifier.is_empty() || identifier.len() > MAX_IDENTIFIER {
        return Err(HelloError::NoIdentifier);
    }
    Ok(identifier)
}

struct Hello<'a> {
    random: &'a [u8],
    session_id: &'a [u8],
    app_id: Option<&'a [u8]>,
}

impl<'a> Hello<'a> {
    /// `None` unless the datagram begins with a record of epoch 0 that holds a whole ClientHello.
    fn parse(datagram: &'a [u8]) -> Option<Self> {
        let (header, rest) = datagram.split_at_checked(13)?;
        let version = u16::from_be_bytes([*header.get(1)?, *header.get(2)?]);
        if !FIRST_VERSIONS.contains(&version) || header.get(3..5)? != [0, 0] {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([*header.get(11)?, *header.get(12)?]));
        let mut reader = Reader::new(rest.get(..length)?);
        if reader.u8()? != CLIENT_HELLO {
            return None;
        }
        let length = reader.u24()?;
        let _message_seq = reader.u16()?;
        if reader.u24()? != 0 || reader.u24()? != length {
            return None;
        }
        let mut body = Reader::new(reader.take(length)?);
        let _version = body.u16()?;
        let random = body.take(32)?;
        let session_id = body.vector8()?;
        let _cookie = body.vector8()?;
        let _suites = body.vector16()?;
        let _compression = body.vector8()?;
        let mut app_id = None;
        if !body.is_empty() {
            let mut extensions = Reader::new(body.vector16()?);
            while !extensions.is_empty() {
                let kind = extensions.u16()?;
                let content = extensions.vector16()?;
                if kind == APP_ID_EXTENSION {
                    app_id = Some(Reader::new(content).vector8()?);
                }
            }
        }
        Some(Self {
            random,
            session_id,
            app_id,
        })
    }
}
