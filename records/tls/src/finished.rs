//! The client's Finished message of TLS 1.2: the channel binding "tls-unique" (RFC 5929 §3), which
//! rustls does not give away.

use aws_lc_rs::{digest, hmac};
use culvert_vocab::SecretBytes;

use crate::Cipher;
use crate::protection::{HANDSHAKE, HEADER_LEN};

/// Octets of a Finished message's verify_data (RFC 5246 §7.4.9).
pub(crate) const VERIFY_DATA_LEN: usize = 12;
/// A handshake that is longer is not kept: certificates take a few thousand octets.
const TRANSCRIPT_MAX: usize = 256 * 1024;
/// Content type of the message that precedes a Finished.
const CHANGE_CIPHER_SPEC: u8 = 20;

/// The handshake messages of both sides up to the client's Finished, as they pass.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    messages: Vec<u8>,
    complete: bool,
}

impl Transcript {
    /// Takes whole records of one side; `from_client`: of the client.
    pub(crate) fn records(&mut self, from_client: bool, mut records: &[u8]) {
        while !self.complete
            && let Some(&[content_type, _, _, high, low]) = records.first_chunk::<HEADER_LEN>()
        {
            let len = HEADER_LEN + usize::from(u16::from_be_bytes([high, low]));
            let Some((record, rest)) = records.split_at_checked(len) else {
                return;
            };
            self.complete = from_client && content_type == CHANGE_CIPHER_SPEC;
            if !self.complete {
                self.record(record);
            }
            records = rest;
        }
    }

    fn record(&mut self, record: &[u8]) {
        let fits = self.messages.len() + record.len() <= TRANSCRIPT_MAX;
        if !self.complete && fits && record.first() == Some(&HANDSHAKE) {
            self.messages
                .extend_from_slice(record.get(HEADER_LEN..).unwrap_or_default());
        }
    }

    /// verify_data of the client's Finished; `None` before that has been sent or received.
    pub(crate) fn client_finished(
        &self,
        cipher: Cipher,
        master_secret: &SecretBytes,
    ) -> Option<[u8; VERIFY_DATA_LEN]> {
        // In TLS 1.2 the suites with AES-256-GCM are those with SHA-384 (RFC 5289).
        let (hash, mac) = match cipher {
            Cipher::Aes256Gcm => (&digest::SHA384, hmac::HMAC_SHA384),
            Cipher::Aes128Gcm | Cipher::ChaCha20Poly1305 => (&digest::SHA256, hmac::HMAC_SHA256),
        };
        let hash = digest::digest(hash, &self.messages);
        let seed = [b"client finished".as_slice(), hash.as_ref()].concat();
        // The first block of P_hash (RFC 5246 §5) is longer than what is needed.
        let key = hmac::Key::new(mac, master_secret.expose());
        let first = hmac::sign(&key, &seed);
        let block = hmac::sign(&key, &[first.as_ref(), &seed].concat());
        self.complete
            .then(|| block.as_ref().first_chunk().copied())
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(content_type: u8, content: &[u8]) -> Vec<u8> {
        let mut record = vec![content_type, 3, 3, 0, content.len() as u8];
        record.extend_from_slice(content);
        record
    }

    #[test]
    fn messages_count_until_the_clients_change_cipher_spec() {
        let secret = SecretBytes::new(vec![7; 48]);
        let finished = |records: &[(bool, Vec<u8>)]| {
            let mut transcript = Transcript::default();
            for (sent, record) in records {
                transcript.records(*sent, record);
            }
            transcript.client_finished(Cipher::Aes256Gcm, &secret)
        };
        let hellos = [(true, record(22, b"hello")), (false, record(22, b"server"))];
        assert_eq!(finished(&hellos), None);
        let both = [record(22, b"key"), record(20, &[1]), record(22, b"sealed")].concat();
        let whole = finished(&[hellos.to_vec(), vec![(true, both)]].concat());
        assert!(whole.is_some());
        // How messages lie in records does not count, alerts do not, and what follows does not.
        let split = [
            hellos.to_vec(),
            vec![
                (false, record(21, &[1, 0])),
                (
                    true,
                    [record(22, b"k"), record(22, b"ey"), record(20, &[1])].concat(),
                ),
                (false, record(22, b"sealed")),
            ],
        ];
        assert_eq!(finished(&split.concat()), whole);
    }
}
