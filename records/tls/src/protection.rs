//! Keys of one direction: nonces, key schedule of TLS 1.3, and the sizes that depend on them.

use aws_lc_rs::aead::{self, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use culvert_vocab::SecretBytes;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{Cipher, TlsError, Version};

/// Octets of a record header.
pub(crate) const HEADER_LEN: usize = 5;
/// Most octets of plaintext in one record (RFC 8446 §5.1).
pub(crate) const MAX_PLAINTEXT: usize = 1 << 14;
/// Octets of the authentication tag of all supported ciphers.
pub(crate) const TAG_LEN: usize = 16;
/// Octets of the nonce that TLS 1.2 sends with every AES-GCM record (RFC 5288 §3).
pub(crate) const EXPLICIT_NONCE_LEN: usize = 8;

/// Content types of records (RFC 8446 §5.1).
pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const APPLICATION_DATA: u8 = 23;

/// Everything about the keys of one direction that another process needs to go on.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(crate) struct KeyState {
    #[zeroize(skip)]
    pub(crate) version: Version,
    #[zeroize(skip)]
    pub(crate) cipher: Cipher,
    pub(crate) key: SecretBytes,
    pub(crate) iv: [u8; NONCE_LEN],
    /// Number of the next record.
    pub(crate) sequence: u64,
    /// TLS 1.3 only: what the next generation of keys is made of.
    pub(crate) traffic_secret: Option<SecretBytes>,
}

/// Keys of one direction, ready for use.
pub(crate) struct Protection {
    state: KeyState,
    aead: LessSafeKey,
}

impl Protection {
    pub(crate) fn new(state: KeyState) -> Result<Self, TlsError> {
        if (state.version == Version::Tls13) != state.traffic_secret.is_some() {
            return Err(TlsError::HandOver);
        }
        let aead = aead_key(state.cipher, state.key.expose()).ok_or(TlsError::HandOver)?;
        Ok(Self { state, aead })
    }

    pub(crate) fn into_state(self) -> KeyState {
        self.state
    }

    pub(crate) fn version(&self) -> Version {
        self.state.version
    }

    pub(crate) fn cipher(&self) -> Cipher {
        self.state.cipher
    }

    pub(crate) fn aead(&self) -> &LessSafeKey {
        &self.aead
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.state.sequence
    }

    /// Octets that precede the ciphertext in a record, after the header.
    pub(crate) fn explicit_nonce_len(&self) -> usize {
        match (self.state.version, self.state.cipher) {
            (Version::Tls12, Cipher::Aes128Gcm | Cipher::Aes256Gcm) => EXPLICIT_NONCE_LEN,
            _ => 0,
        }
    }

    /// Nonce of the present record. TLS 1.2 leaves the explicit part of AES-GCM to the sender;
    /// rustls builds it in the same way, so a take-over never repeats one.
    pub(crate) fn nonce_bytes(&self) -> [u8; NONCE_LEN] {
        let mut nonce = self.state.iv;
        for (octet, number) in nonce[NONCE_LEN - 8..]
            .iter_mut()
            .zip(self.state.sequence.to_be_bytes())
        {
            *octet ^= number;
        }
        nonce
    }

    /// Nonce of a received record that carries its own explicit part.
    pub(crate) fn explicit_nonce(&self, explicit: [u8; EXPLICIT_NONCE_LEN]) -> Nonce {
        let mut nonce = self.state.iv;
        nonce[NONCE_LEN - EXPLICIT_NONCE_LEN..].copy_from_slice(&explicit);
        Nonce::assume_unique_for_key(nonce)
    }

    /// The record is done. `None` when the numbers are used up.
    pub(crate) fn advance(&mut self) -> Option<()> {
        self.state.sequence = self.state.sequence.checked_add(1)?;
        Some(())
    }

    /// Switches to the next generation of keys (RFC 8446 §7.2). Only for TLS 1.3.
    pub(crate) fn update(&mut self) -> Option<()> {
        let secret = next_secret(self.state.cipher, self.state.traffic_secret.as_ref()?)?;
        let (key, iv) = traffic_keys(self.state.cipher, &secret)?;
        self.aead = aead_key(self.state.cipher, key.expose())?;
        self.state.key = key;
        self.state.iv = iv;
        self.state.sequence = 0;
        self.state.traffic_secret = Some(secret);
        Some(())
    }
}

/// Additional data of a TLS 1.2 record (RFC 5246 §6.2.3.3).
pub(crate) fn tls12_additional_data(sequence: u64, content_type: u8, len: u16) -> [u8; 13] {
    let mut data = [0; 13];
    data[..8].copy_from_slice(&sequence.to_be_bytes());
    data[8] = content_type;
    data[9..11].copy_from_slice(&[3, 3]);
    data[11..].copy_from_slice(&len.to_be_bytes());
    data
}

/// Record header (RFC 8446 §5.1).
pub(crate) fn record_header(content_type: u8, len: u16) -> [u8; HEADER_LEN] {
    let [high, low] = len.to_be_bytes();
    [content_type, 3, 3, high, low]
}

/// Keys and nonce base of a TLS 1.3 traffic secret (RFC 8446 §7.3).
pub(crate) fn traffic_keys(cipher: Cipher, secret: &SecretBytes) -> Option<(SecretBytes, [u8; NONCE_LEN])> {
    let key = expand_label(cipher, secret, b"key", aead_algorithm(cipher).key_len())?;
    let iv = expand_label(cipher, secret, b"iv", NONCE_LEN)?;
    Some((SecretBytes::new(key.to_vec()), iv.as_slice().try_into().ok()?))
}

/// The traffic secret that follows `secret` (RFC 8446 §7.2).
pub(crate) fn next_secret(cipher: Cipher, secret: &SecretBytes) -> Option<SecretBytes> {
    let next = expand_label(cipher, secret, b"traffic upd", secret.len())?;
    Some(SecretBytes::new(next.to_vec()))
}

/// HKDF-Expand-Label with an empty context (RFC 8446 §7.1).
fn expand_label(
    cipher: Cipher,
    secret: &SecretBytes,
    label: &[u8],
    len: usize,
) -> Option<Zeroizing<Vec<u8>>> {
    let algorithm = match cipher {
        Cipher::Aes256Gcm => hkdf::HKDF_SHA384,
        Cipher::Aes128Gcm | Cipher::ChaCha20Poly1305 => hkdf::HKDF_SHA256,
    };
    const PREFIX: &[u8] = b"tls13 ";
    let out_len = u16::try_from(len).ok()?.to_be_bytes();
    let label_len = [u8::try_from(PREFIX.len() + label.len()).ok()?];
    let info: [&[u8]; 5] = [&out_len, &label_len, PREFIX, label, &[0]];
    let mut out = Zeroizing::new(vec![0; len]);
    hkdf::Prk::new_less_safe(algorithm, secret.expose())
        .expand(&info, OutputLen(len))
        .and_then(|okm| okm.fill(&mut out))
        .ok()?;
    Some(out)
}

struct OutputLen(usize);

impl hkdf::KeyType for OutputLen {
    fn len(&self) -> usize {
        self.0
    }
}

fn aead_algorithm(cipher: Cipher) -> &'static aead::Algorithm {
    match cipher {
        Cipher::Aes128Gcm => &aead::AES_128_GCM,
        Cipher::Aes256Gcm => &aead::AES_256_GCM,
        Cipher::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
    }
}

fn aead_key(cipher: Cipher, key: &[u8]) -> Option<LessSafeKey> {
    UnboundKey::new(aead_algorithm(cipher), key)
        .ok()
        .map(LessSafeKey::new)
}
