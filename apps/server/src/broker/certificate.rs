//! A worker hands over what its client has signed.
//!
//! The proof must contain a signature that the broker has just made for the same connection. Those
//! of ECDSA and RSA-PSS are different each time; the others depend on the message alone, so a
//! message is signed with them only once.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use culvert_tls::ClientProof;
use sha2::{Digest, Sha256};

use super::conversation::{Conversation, Violation};
use super::loaded::LoadedHost;
use super::told;
use crate::ipc::messages::{BrokerToWorker, CertificateProof};

/// Messages that are remembered: more than connections come during one login.
const REMEMBERED: usize = 16_384;
/// RSA PKCS #1 with SHA-256, SHA-384, SHA-512, SHA-1; Ed25519.
const REPEATABLE: [u16; 5] = [0x0401, 0x0501, 0x0601, 0x0201, 0x0807];

/// Messages signed in a way that gives the same signature each time.
#[derive(Default)]
pub(super) struct SignedOnce {
    known: HashSet<[u8; 32]>,
    order: VecDeque<[u8; 32]>,
}

impl SignedOnce {
    /// False when this was signed before.
    pub(super) fn allow(&mut self, scheme: u16, message: &[u8]) -> bool {
        if !REPEATABLE.contains(&scheme) {
            return true;
        }
        let digest: [u8; 32] = Sha256::digest(message).into();
        if !self.known.insert(digest) {
            return false;
        }
        self.order.push_back(digest);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

impl Conversation {
    pub(super) async fn certificate(
        &mut self,
        host: &LoadedHost,
        proof: CertificateProof,
    ) -> Result<BrokerToWorker, Violation> {
        self.certificates.spend("second client certificate")?;
        let certificates = host
            .certificates
            .clone()
            .ok_or(Violation("a certificate that was not asked for"))?;
        let proof = ClientProof {
            tls13: proof.tls13,
            transcript: proof.transcript.into_vec(),
            scheme: proof.scheme,
            signature: proof.signature.into_vec(),
        };
        let own = self.signed.clone();
        let judged = tokio::task::spawn_blocking(move || certificates.judge(&proof, &own)).await;
        match judged.map_err(|error| error.to_string()).flatten() {
            Ok(identity) => {
                told::certificate(self.peer, Ok(()));
                self.identity = Some(Arc::new(identity));
                Ok(BrokerToWorker::Certificate(true))
            }
            Err(problem) => {
                told::certificate(self.peer, Err(&problem));
                self.failed(false);
                Ok(BrokerToWorker::Certificate(false))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeatable_signatures_are_made_once() {
        let mut once = SignedOnce::default();
        assert!(once.allow(0x0403, b"a") && once.allow(0x0403, b"a"), "ECDSA");
        assert!(once.allow(0x0401, b"a") && !once.allow(0x0807, b"a"));
        for number in 0..REMEMBERED {
            assert!(once.allow(0x0401, &number.to_le_bytes()));
        }
        assert_eq!(once.known.len(), REMEMBERED);
    }
}
