//! The key schedule of TLS 1.2 (RFC 5246 §5, §6.3, §8.1; RFC 4279 §2; RFC 7627 §4;
//! `specs/cstp-dtls.md` §9.4) and, for DTLS 0.9, of TLS 1.0 (RFC 2246 §5, §7.4.9).

use aws_lc_rs::{digest, hmac};
use culvert_vocab::SecretBytes;
use md5::{Digest as _, Md5};
use zeroize::Zeroize;

use super::VerifyData;
use crate::CipherSuite;
use crate::record::DirectionKeys;
use crate::suite::PrfHash;

/// Octets of a master secret.
pub(crate) const MASTER_SECRET_LEN: usize = 48;

/// The master secret of one handshake.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MasterSecret {
    secret: SecretBytes,
    hash: PrfHash,
}

/// The key block, cut into the keys of the two sides.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KeyBlock {
    pub(crate) client: DirectionKeys,
    pub(crate) server: DirectionKeys,
}

/// The premaster secret of a plain PSK key exchange. `psk` has at most 65535 octets.
pub(crate) fn psk_premaster(psk: &SecretBytes) -> SecretBytes {
    let psk = psk.expose();
    let length = (psk.len() as u16).to_be_bytes();
    let mut premaster = Vec::with_capacity(2 * (2 + psk.len()));
    premaster.extend_from_slice(&length);
    premaster.resize(2 + psk.len(), 0);
    premaster.extend_from_slice(&length);
    premaster.extend_from_slice(psk);
    SecretBytes::new(premaster)
}

impl MasterSecret {
    /// From the two random values.
    pub(crate) fn derive(
        hash: PrfHash,
        premaster: &SecretBytes,
        client: &[u8; 32],
        server: &[u8; 32],
    ) -> Self {
        Self::new(hash, premaster, b"master secret", &[client, server])
    }

    /// The extended master secret, from the hash of all messages up to ClientKeyExchange.
    pub(crate) fn derive_extended(hash: PrfHash, premaster: &SecretBytes, session_hash: &[u8]) -> Self {
        Self::new(hash, premaster, b"extended master secret", &[session_hash])
    }

    /// That of an earlier session, to be resumed.
    pub(crate) fn given(hash: PrfHash, secret: SecretBytes) -> Self {
        Self { secret, hash }
    }

    fn new(hash: PrfHash, premaster: &SecretBytes, label: &[u8], seeds: &[&[u8]]) -> Self {
        Self {
            secret: prf(hash, premaster, label, seeds, MASTER_SECRET_LEN),
            hash,
        }
    }

    pub(crate) fn key_block(&self, suite: CipherSuite, client: &[u8; 32], server: &[u8; 32]) -> KeyBlock {
        let (mac_key_len, key_len, iv_len) = (suite.mac_key_len(), suite.key_len(), suite.iv_len());
        let len = 2 * (mac_key_len + key_len + iv_len);
        let block = prf(self.hash, &self.secret, b"key expansion", &[server, client], len);
        let mut rest = block.expose();
        let mut cut = |len: usize| {
            let (head, tail) = rest.split_at(len);
            rest = tail;
            SecretBytes::new(head.to_vec())
        };
        let [client_mac_key, server_mac_key] = [cut(mac_key_len), cut(mac_key_len)];
        let [client_key, server_key] = [cut(key_len), cut(key_len)];
        let [client_iv, server_iv] = [cut(iv_len), cut(iv_len)];
        KeyBlock {
            client: DirectionKeys {
                mac_key: client_mac_key,
                key: client_key,
                iv: client_iv,
            },
            server: DirectionKeys {
                mac_key: server_mac_key,
                key: server_key,
                iv: server_iv,
            },
        }
    }

    /// verify_data of the client's Finished message.
    pub(crate) fn client_finished(&self, handshake_hash: &[u8]) -> VerifyData {
        self.verify_data(b"client finished", handshake_hash)
    }

    /// verify_data of the server's Finished message.
    pub(crate) fn server_finished(&self, handshake_hash: &[u8]) -> VerifyData {
        self.verify_data(b"server finished", handshake_hash)
    }

    fn verify_data(&self, label: &[u8], handshake_hash: &[u8]) -> VerifyData {
        let mut verify_data = VerifyData::default();
        let output = prf(
            self.hash,
            &self.secret,
            label,
            &[handshake_hash],
            verify_data.len(),
        );
        verify_data.copy_from_slice(output.expose());
        verify_data
    }
}

/// Hash of handshake messages.
pub(crate) fn handshake_hash(hash: PrfHash, messages: &[u8]) -> Vec<u8> {
    let digest = |algorithm| digest::digest(algorithm, messages).as_ref().to_vec();
    match hash {
        PrfHash::Md5Sha1 => {
            let md5 = Md5::digest(messages).to_vec();
            [md5, digest(&digest::SHA1_FOR_LEGACY_USE_ONLY)].concat()
        }
        PrfHash::Sha256 => digest(&digest::SHA256),
        PrfHash::Sha384 => digest(&digest::SHA384),
    }
}

/// The pseudorandom function: P_hash (RFC 5246 §5), or that of MD5 and that of SHA-1 (RFC 2246 §5).
fn prf(hash: PrfHash, secret: &SecretBytes, label: &[u8], seeds: &[&[u8]], len: usize) -> SecretBytes {
    let secret = secret.expose();
    let seed = [&[label], seeds].concat().concat();
    match hash {
        PrfHash::Md5Sha1 => {
            let half = secret.len().div_ceil(2);
            let (for_md5, for_sha1) = (&secret[..half], &secret[secret.len() - half..]);
            let md5 = p_hash(|parts| hmac_md5(for_md5, parts), &seed, len);
            let sha1 = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, for_sha1);
            let sha1 = p_hash(|parts| sign(&sha1, parts), &seed, len);
            let octets = md5.expose().iter().zip(sha1.expose());
            SecretBytes::new(octets.map(|(md5, sha1)| md5 ^ sha1).collect())
        }
        PrfHash::Sha256 | PrfHash::Sha384 => {
            let algorithm = match hash {
                PrfHash::Sha384 => hmac::HMAC_SHA384,
                _ => hmac::HMAC_SHA256,
            };
            let key = hmac::Key::new(algorithm, secret);
            p_hash(|parts| sign(&key, parts), &seed, len)
        }
    }
}

/// `len` octets of P_hash (RFC 5246 §5); `hmac` is keyed with the secret.
fn p_hash(hmac: impl Fn(&[&[u8]]) -> Vec<u8>, seed: &[u8], len: usize) -> SecretBytes {
    let mut output = Vec::with_capacity(len + digest::MAX_OUTPUT_LEN);
    let mut a = hmac(&[seed]);
    while output.len() < len {
        output.extend_from_slice(&hmac(&[&a, seed]));
        a = hmac(&[&a]);
    }
    output.truncate(len);
    SecretBytes::new(output)
}

fn sign(key: &hmac::Key, parts: &[&[u8]]) -> Vec<u8> {
    let mut context = hmac::Context::with_key(key);
    parts.iter().for_each(|part| context.update(part));
    context.sign().as_ref().to_vec()
}

/// HMAC-MD5 (RFC 2104), which aws-lc-rs lacks. `key` is shorter than a block.
fn hmac_md5(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    const BLOCK: usize = 64;
    let keyed = |pad: u8| {
        let mut block = [pad; BLOCK];
        block.iter_mut().zip(key).for_each(|(octet, key)| *octet ^= key);
        let hash = Md5::new_with_prefix(block);
        block.zeroize();
        hash
    };
    let mut inner = keyed(0x36);
    parts.iter().for_each(|part| inner.update(part));
    keyed(0x5c).chain_update(inner.finalize()).finalize().to_vec()
}
