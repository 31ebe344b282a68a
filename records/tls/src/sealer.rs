use aws_lc_rs::aead::{Aad, Nonce};
use culvert_record::SealError;

use crate::protection::{
    ALERT, APPLICATION_DATA, HANDSHAKE, HEADER_LEN, KeyState, MAX_PLAINTEXT, Protection, TAG_LEN,
    record_header, tls12_additional_data,
};
use crate::{Cipher, TlsError, Version};

/// AES-GCM blocks after which a TLS 1.3 sender should renew its keys: 2^24 records of full size
/// (RFC 8446 §5.5).
const BLOCKS_PER_KEY: u64 = 1 << 34;

/// What a record carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentType {
    /// An alert.
    Alert,
    /// Handshake messages.
    Handshake,
    /// Data of the application.
    ApplicationData,
}

impl ContentType {
    fn octet(self) -> u8 {
        match self {
            Self::Alert => ALERT,
            Self::Handshake => HANDSHAKE,
            Self::ApplicationData => APPLICATION_DATA,
        }
    }
}

/// Seals one record at a time under keys of our own, in place, without allocation.
pub(crate) struct KeyedSealer {
    protection: Protection,
    /// Cipher blocks sealed under the present keys.
    blocks: u64,
}

impl KeyedSealer {
    pub(crate) fn new(state: KeyState) -> Result<Self, TlsError> {
        Ok(Self {
            protection: Protection::new(state)?,
            blocks: 0,
        })
    }

    pub(crate) fn into_state(self) -> KeyState {
        self.protection.into_state()
    }

    /// Octets to leave free before the payload.
    pub(crate) fn headroom(&self) -> usize {
        HEADER_LEN + self.protection.explicit_nonce_len()
    }

    /// Octets that the record adds after the payload.
    pub(crate) fn tailroom(&self) -> usize {
        self.inner_type_len() + TAG_LEN
    }

    /// Octets on the wire of a payload of `len` octets.
    pub(crate) fn sealed_len(&self, len: usize) -> usize {
        self.headroom() + len + self.tailroom()
    }

    /// Seals `buffer[headroom..headroom + len]` in place; the finished record begins at
    /// `buffer[0]` and is as long as the returned number says.
    ///
    /// # Errors
    /// The buffer is smaller than [`Self::sealed_len`], the payload larger than 16384 octets, or
    /// the sequence numbers are used up. The buffer must not be sent then.
    pub(crate) fn seal(
        &mut self,
        content_type: ContentType,
        buffer: &mut [u8],
        len: usize,
    ) -> Result<usize, SealError> {
        if len > MAX_PLAINTEXT {
            return Err(SealError::Oversize);
        }
        let headroom = self.headroom();
        let sealed_len = self.sealed_len(len);
        let record = buffer.get_mut(..sealed_len).ok_or(SealError::Buffer)?;
        let wire_len = u16::try_from(sealed_len - HEADER_LEN).map_err(|_| SealError::Oversize)?;
        let sequence = self.protection.sequence();
        let nonce = self.protection.nonce_bytes();
        self.protection.advance().ok_or(SealError::Exhausted)?;

        let (head, body) = record.split_at_mut(headroom);
        let (text, tag) = body.split_at_mut(len + self.inner_type_len());
        let sealed = match self.protection.version() {
            Version::Tls13 => {
                let header = record_header(APPLICATION_DATA, wire_len);
                head.copy_from_slice(&header);
                if let Some(inner_type) = text.last_mut() {
                    *inner_type = content_type.octet();
                }
                self.encrypt(nonce, &header, text)
            }
            Version::Tls12 => {
                let (header, explicit) = head.split_at_mut(HEADER_LEN);
                header.copy_from_slice(&record_header(content_type.octet(), wire_len));
                explicit.copy_from_slice(&nonce[nonce.len() - explicit.len()..]);
                let plain_len = u16::try_from(len).map_err(|_| SealError::Oversize)?;
                self.encrypt(
                    nonce,
                    &tls12_additional_data(sequence, content_type.octet(), plain_len),
                    text,
                )
            }
        };
        tag.copy_from_slice(&sealed.ok_or(SealError::Buffer)?);
        self.blocks += (len / 16 + 2) as u64;
        Ok(sealed_len)
    }

    /// True when the keys have protected as much as one key should and [`Self::key_update`] is due.
    pub(crate) fn wants_key_update(&self) -> bool {
        self.protection.version() == Version::Tls13
            && self.protection.cipher() != Cipher::ChaCha20Poly1305
            && self.blocks >= BLOCKS_PER_KEY
    }

    /// Appends a KeyUpdate message to `out` and switches to new keys; `request_peer` asks the peer
    /// to renew its own. TLS 1.2 has no such message: nothing happens.
    ///
    /// # Errors
    /// See [`Self::seal`].
    pub(crate) fn key_update(&mut self, request_peer: bool, out: &mut Vec<u8>) -> Result<(), SealError> {
        if self.protection.version() == Version::Tls12 {
            return Ok(());
        }
        self.append(
            ContentType::Handshake,
            &[24, 0, 0, 1, u8::from(request_peer)],
            out,
        )?;
        self.protection.update().ok_or(SealError::Exhausted)?;
        self.blocks = 0;
        Ok(())
    }

    /// Appends the alert that closes this direction in an orderly way.
    ///
    /// # Errors
    /// See [`Self::seal`].
    pub(crate) fn close_notify(&mut self, out: &mut Vec<u8>) -> Result<(), SealError> {
        const WARNING: u8 = 1;
        const CLOSE_NOTIFY: u8 = 0;
        self.append(ContentType::Alert, &[WARNING, CLOSE_NOTIFY], out)
    }

    fn append(
        &mut self,
        content_type: ContentType,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let headroom = self.headroom();
        let mut record = vec![0; self.sealed_len(payload.len())];
        record
            .get_mut(headroom..headroom + payload.len())
            .ok_or(SealError::Buffer)?
            .copy_from_slice(payload);
        self.seal(content_type, &mut record, payload.len())?;
        out.extend_from_slice(&record);
        Ok(())
    }

    fn inner_type_len(&self) -> usize {
        match self.protection.version() {
            Version::Tls13 => 1,
            Version::Tls12 => 0,
        }
    }

    fn encrypt(&self, nonce: [u8; 12], additional: &[u8], text: &mut [u8]) -> Option<[u8; TAG_LEN]> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .protection
            .aead()
            .seal_in_place_separate_tag(nonce, Aad::from(additional), text)
            .ok()?;
        tag.as_ref().try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use culvert_vocab::SecretBytes;

    use super::*;

    fn almost_worn(version: Version, cipher: Cipher) -> KeyedSealer {
        let state = KeyState {
            version,
            cipher,
            key: SecretBytes::new(vec![1; if cipher == Cipher::Aes128Gcm { 16 } else { 32 }]),
            iv: [2; 12],
            sequence: 0,
            traffic_secret: (version == Version::Tls13).then(|| SecretBytes::new(vec![3; 48])),
        };
        KeyedSealer {
            blocks: BLOCKS_PER_KEY - 1,
            ..KeyedSealer::new(state).unwrap()
        }
    }

    /// RFC 8446 §5.5; TLS 1.2 cannot renew its keys, and ChaCha20-Poly1305 need not.
    #[test]
    fn a_key_protects_a_limited_number_of_blocks() {
        for (version, cipher, limited) in [
            (Version::Tls13, Cipher::Aes128Gcm, true),
            (Version::Tls13, Cipher::Aes256Gcm, true),
            (Version::Tls13, Cipher::ChaCha20Poly1305, false),
            (Version::Tls12, Cipher::Aes256Gcm, false),
        ] {
            let mut sealer = almost_worn(version, cipher);
            assert!(!sealer.wants_key_update());
            let mut record = vec![0; sealer.sealed_len(16)];
            sealer
                .seal(ContentType::ApplicationData, &mut record, 16)
                .unwrap();
            assert_eq!(sealer.wants_key_update(), limited, "{version:?} {cipher:?}");
            sealer.key_update(false, &mut Vec::new()).unwrap();
            assert!(!sealer.wants_key_update());
        }
    }
}
