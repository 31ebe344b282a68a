//! Hash functions for TLS 1.3 that remember what they have hashed: rustls tells a verifier the
//! hash of the handshake messages only.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::LazyLock;

use aws_lc_rs::digest;
use rustls::crypto::CipherSuiteCommon;
use rustls::crypto::hash::{Context, Hash, HashAlgorithm, Output};
use rustls::{SupportedCipherSuite, Tls13CipherSuite};

/// Results that are remembered: rustls asks for the signature's check right after the hash.
const REMEMBERED: usize = 2;
/// Handshakes are no longer than this, in octets.
const TRANSCRIPT_MAX: usize = 96 * 1024;

thread_local! {
    static RESULTS: RefCell<VecDeque<(Vec<u8>, Vec<u8>)>> = const { RefCell::new(VecDeque::new()) };
}

/// What was hashed on this thread a moment ago with the result that `message` ends in.
pub(super) fn preimage_of_end(message: &[u8]) -> Option<Vec<u8>> {
    RESULTS.with_borrow_mut(|results| {
        let found = results.iter().position(|(hash, _)| message.ends_with(hash))?;
        let (_, preimage) = results.remove(found)?;
        results.clear();
        Some(preimage)
    })
}

/// The same suite with a hash function that remembers. Suites of TLS 1.2 stay: their verifier
/// gets the messages themselves.
pub(crate) fn recording(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    static SUITES: LazyLock<Vec<Tls13CipherSuite>> = LazyLock::new(|| {
        rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES
            .iter()
            .filter_map(|suite| suite.tls13())
            .map(|suite| Tls13CipherSuite {
                common: CipherSuiteCommon {
                    suite: suite.common.suite,
                    hash_provider: match suite.common.hash_provider.algorithm() {
                        HashAlgorithm::SHA384 => &SHA384,
                        _ => &SHA256,
                    },
                    confidentiality_limit: suite.common.confidentiality_limit,
                },
                hkdf_provider: suite.hkdf_provider,
                aead_alg: suite.aead_alg,
                quic: None,
            })
            .collect()
    });
    SUITES
        .iter()
        .find(|other| other.common.suite == suite.suite())
        .map_or(suite, SupportedCipherSuite::Tls13)
}

static SHA256: RecordingHash = RecordingHash(&digest::SHA256, HashAlgorithm::SHA256);
static SHA384: RecordingHash = RecordingHash(&digest::SHA384, HashAlgorithm::SHA384);

struct RecordingHash(&'static digest::Algorithm, HashAlgorithm);

impl Hash for RecordingHash {
    fn start(&self) -> Box<dyn Context> {
        Box::new(Recording {
            hash: digest::Context::new(self.0),
            hashed: Vec::new(),
        })
    }

    fn hash(&self, data: &[u8]) -> Output {
        Output::new(digest::digest(self.0, data).as_ref())
    }

    fn output_len(&self) -> usize {
        self.0.output_len()
    }

    fn algorithm(&self) -> HashAlgorithm {
        self.1
    }
}

#[derive(Clone)]
struct Recording {
    hash: digest::Context,
    hashed: Vec<u8>,
}

impl Context for Recording {
    fn fork_finish(&self) -> Output {
        let hash = self.hash.clone().finish();
        RESULTS.with_borrow_mut(|results| {
            results.truncate(REMEMBERED - 1);
            results.push_front((hash.as_ref().to_vec(), self.hashed.clone()));
        });
        Output::new(hash.as_ref())
    }

    fn fork(&self) -> Box<dyn Context> {
        Box::new(self.clone())
    }

    fn finish(self: Box<Self>) -> Output {
        Output::new(self.hash.finish().as_ref())
    }

    fn update(&mut self, data: &[u8]) {
        self.hash.update(data);
        if self.hashed.len() + data.len() <= TRANSCRIPT_MAX {
            self.hashed.extend(data);
        }
    }
}
