use std::ops::Range;

use aws_lc_rs::aead::{Aad, Nonce};
use culvert_record::OpenError;
use serde::{Deserialize, Serialize};

use crate::protection::{
    ALERT, APPLICATION_DATA, EXPLICIT_NONCE_LEN, HANDSHAKE, HEADER_LEN, KeyState, MAX_PLAINTEXT, Protection,
    TAG_LEN, tls12_additional_data,
};
use crate::{TlsError, Version};

/// Octets that a TLS 1.3 record may be longer than its plaintext (RFC 8446 §5.2).
const TLS13_EXPANSION: usize = 256;
/// Records in a row that may come without application data. A peer that sends more keeps us busy
/// for nothing (CVE-2019-9512 and its kin).
const IDLE_RECORDS_MAX: u8 = 32;
/// Longest NewSessionTicket message: its fields at their limits (RFC 8446 §4.6.1).
const TICKET_MAX: usize = 2 * 65535 + 255 + 16;

/// Octets before the body of a handshake message: its kind and length.
const MESSAGE_HEADER_LEN: usize = 4;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;
const WARNING: u8 = 1;

/// What [`Opener::open`] found at the start of a buffer. `consumed` is the length of the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// Not a whole record yet.
    Incomplete {
        /// Octets wanted in all, from the start of the buffer.
        need: usize,
    },
    /// Data of the application.
    ApplicationData {
        /// Octets to drop when the payload has been used.
        consumed: usize,
        /// Where the payload lies in the buffer; never empty.
        payload: Range<usize>,
    },
    /// The peer renewed its keys.
    KeyUpdate {
        /// Octets to drop.
        consumed: usize,
        /// The peer asks for our keys to be renewed, too ([`crate::Sealer::key_update`] without
        /// request).
        requested: bool,
    },
    /// Nothing of interest (a session ticket, an empty record, a warning).
    Ignored {
        /// Octets to drop.
        consumed: usize,
    },
    /// The peer closed its direction in an orderly way; nothing follows.
    Closed {
        /// Octets to drop.
        consumed: usize,
    },
}

/// Receiving half of a TLS connection: opens one record at a time, in place, without allocation.
pub(crate) struct KeyedOpener {
    protection: Protection,
    progress: Progress,
}

/// The part of an [`Opener`] that is not keys.
#[derive(Serialize, Deserialize)]
pub(crate) struct Progress {
    /// The peer is the server; only servers issue tickets.
    from_server: bool,
    /// Records since the last one with application data.
    idle_records: u8,
    /// A message whose end has not come.
    message: Message,
}

/// What has come of a handshake message that spans records.
#[derive(Default, Serialize, Deserialize)]
struct Message {
    header: [u8; MESSAGE_HEADER_LEN],
    /// Octets of the header so far; 0 between two messages.
    header_len: usize,
    /// Octets of the body still to come, once the header is whole.
    left: usize,
}

impl Progress {
    pub(crate) fn new(from_server: bool) -> Self {
        Self {
            from_server,
            idle_records: 0,
            message: Message::default(),
        }
    }
}

/// The readable part of one record after decryption.
struct Plain {
    content_type: u8,
    range: Range<usize>,
}

impl KeyedOpener {
    pub(crate) fn new(state: KeyState, progress: Progress) -> Result<Self, TlsError> {
        Ok(Self {
            protection: Protection::new(state)?,
            progress,
        })
    }

    pub(crate) fn into_parts(self) -> (KeyState, Progress) {
        (self.protection.into_state(), self.progress)
    }

    /// Opens the record at the start of `buffer`, at most one per call.
    ///
    /// # Errors
    /// Every error ends the connection. [`OpenError::Alert`] is the peer's,
    /// [`OpenError::Renegotiation`] a handshake message in TLS 1.2.
    pub(crate) fn open(&mut self, buffer: &mut [u8]) -> Result<Opened, OpenError> {
        let Some((header, _)) = buffer.split_first_chunk::<HEADER_LEN>() else {
            return Ok(Opened::Incomplete { need: HEADER_LEN });
        };
        let header = *header;
        let [content_type, major, _, high, low] = header;
        let len = usize::from(u16::from_be_bytes([high, low]));
        if major != 3 || len > self.len_max() {
            return Err(OpenError::Malformed);
        }
        let consumed = HEADER_LEN + len;
        let Some(record) = buffer.get_mut(..consumed) else {
            return Ok(Opened::Incomplete { need: consumed });
        };
        let plain = match self.protection.version() {
            Version::Tls13 => self.open_tls13(content_type, &header, record)?,
            Version::Tls12 => self.open_tls12(content_type, record)?,
        };
        if plain.range.len() > MAX_PLAINTEXT {
            return Err(OpenError::Malformed);
        }
        let opened = match plain.content_type {
            APPLICATION_DATA if plain.range.is_empty() => Opened::Ignored { consumed },
            APPLICATION_DATA => {
                if self.progress.message.header_len != 0 {
                    return Err(OpenError::Malformed);
                }
                self.progress.idle_records = 0;
                return Ok(Opened::ApplicationData {
                    consumed,
                    payload: plain.range,
                });
            }
            ALERT => self.alert(record.get(plain.range).unwrap_or_default(), consumed)?,
            HANDSHAKE => self.handshake(record.get(plain.range).unwrap_or_default(), consumed)?,
            _ => return Err(OpenError::Malformed),
        };
        self.progress.idle_records += 1;
        if self.progress.idle_records > IDLE_RECORDS_MAX {
            return Err(OpenError::Malformed);
        }
        Ok(opened)
    }

    fn len_max(&self) -> usize {
        MAX_PLAINTEXT
            + match self.protection.version() {
                Version::Tls13 => TLS13_EXPANSION,
                Version::Tls12 => self.protection.explicit_nonce_len() + TAG_LEN,
            }
    }

    /// RFC 8446 §5.2: the real content type is the last octet that is not zero.
    fn open_tls13(&mut self, content_type: u8, header: &[u8], record: &mut [u8]) -> Result<Plain, OpenError> {
        if content_type != APPLICATION_DATA {
            return Err(OpenError::Malformed);
        }
        let nonce = Nonce::assume_unique_for_key(self.protection.nonce_bytes());
        let sealed = record.get_mut(HEADER_LEN..).ok_or(OpenError::Malformed)?;
        let inner = self
            .protection
            .aead()
            .open_in_place(nonce, Aad::from(header), sealed)
            .map_err(|_| OpenError::Authentication)?;
        let end = inner
            .iter()
            .rposition(|octet| *octet != 0)
            .ok_or(OpenError::Malformed)?;
        let content_type = inner[end];
        self.protection.advance().ok_or(OpenError::Malformed)?;
        Ok(Plain {
            content_type,
            range: HEADER_LEN..HEADER_LEN + end,
        })
    }

    /// RFC 5246 §6.2.3.3, RFC 5288 §3, RFC 7905 §2.
    fn open_tls12(&mut self, content_type: u8, record: &mut [u8]) -> Result<Plain, OpenError> {
        let start = HEADER_LEN + self.protection.explicit_nonce_len();
        let plain_len = record
            .len()
            .checked_sub(start + TAG_LEN)
            .ok_or(OpenError::Malformed)?;
        let (head, sealed) = record.split_at_mut_checked(start).ok_or(OpenError::Malformed)?;
        let nonce = match head
            .get(HEADER_LEN..)
            .and_then(|head| head.first_chunk::<EXPLICIT_NONCE_LEN>())
        {
            Some(explicit) => self.protection.explicit_nonce(*explicit),
            None => Nonce::assume_unique_for_key(self.protection.nonce_bytes()),
        };
        let claimed = u16::try_from(plain_len).map_err(|_| OpenError::Malformed)?;
        let additional = tls12_additional_data(self.protection.sequence(), content_type, claimed);
        self.protection
            .aead()
            .open_in_place(nonce, Aad::from(additional), sealed)
            .map_err(|_| OpenError::Authentication)?;
        self.protection.advance().ok_or(OpenError::Malformed)?;
        Ok(Plain {
            content_type,
            range: start..start + plain_len,
        })
    }

    fn alert(&self, alert: &[u8], consumed: usize) -> Result<Opened, OpenError> {
        let &[level, description] = alert else {
            return Err(OpenError::Malformed);
        };
        match (self.protection.version(), description) {
            (_, CLOSE_NOTIFY) => Ok(Opened::Closed { consumed }),
            (Version::Tls13, USER_CANCELED) => Ok(Opened::Ignored { consumed }),
            (Version::Tls12, _) if level == WARNING => Ok(Opened::Ignored { consumed }),
            _ => Err(OpenError::Alert(description)),
        }
    }

    /// Messages after the handshake: tickets, which are skipped, and KeyUpdate, which must end
    /// its record (RFC 8446 §5.1). Any may begin in an earlier record.
    fn handshake(&mut self, mut octets: &[u8], consumed: usize) -> Result<Opened, OpenError> {
        if self.protection.version() == Version::Tls12 {
            return Err(OpenError::Renegotiation);
        }
        if octets.is_empty() {
            return Err(OpenError::Malformed);
        }
        let mut requested = None;
        while let Some((first, rest)) = octets.split_first() {
            if requested.is_some() {
                return Err(OpenError::Malformed);
            }
            let message = &mut self.progress.message;
            if let Some(octet) = message.header.get_mut(message.header_len) {
                *octet = *first;
                message.header_len += 1;
                octets = rest;
                if message.header_len == MESSAGE_HEADER_LEN {
                    message.left = body_len(message.header, self.progress.from_server)?;
                }
            } else {
                let here = message.left.min(octets.len());
                message.left -= here;
                octets = octets.get(here..).unwrap_or_default();
                if message.header[0] == KEY_UPDATE {
                    requested = Some(match first {
                        0 => false,
                        1 => true,
                        _ => return Err(OpenError::Malformed),
                    });
                }
            }
            let message = &mut self.progress.message;
            if message.header_len == MESSAGE_HEADER_LEN && message.left == 0 {
                *message = Message::default();
            }
        }
        let Some(requested) = requested else {
            return Ok(Opened::Ignored { consumed });
        };
        self.protection.update().ok_or(OpenError::Malformed)?;
        Ok(Opened::KeyUpdate { consumed, requested })
    }
}

/// Octets of the body of the handshake message that begins so.
fn body_len(header: [u8; MESSAGE_HEADER_LEN], from_server: bool) -> Result<usize, OpenError> {
    let [kind, high, mid, low] = header;
    let len = usize::from(high) << 16 | usize::from(mid) << 8 | usize::from(low);
    match kind {
        NEW_SESSION_TICKET if from_server && len <= TICKET_MAX => Ok(len),
        KEY_UPDATE if len == 1 => Ok(len),
        _ => Err(OpenError::Malformed),
    }
}
