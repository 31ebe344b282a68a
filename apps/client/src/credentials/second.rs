//! The second certificate (`specs/client.md` §8.8).

use std::fmt;
use std::sync::Arc;

use culvert_anyconnect::client::{SecondCertificate, SecondProof, SignatureHash};
use rustls::SignatureScheme;

use crate::context::Context;

/// The certificate of `--mca-certificate`, loaded when a server asks for it.
pub(crate) struct Second(Arc<Context>);

impl Second {
    /// `None` if the user gave no second certificate.
    pub(crate) fn of_options(context: &Arc<Context>) -> Option<Arc<dyn SecondCertificate>> {
        let given = context.options.credentials.secondary.is_some();
        given.then(|| Arc::new(Self(Arc::clone(context))) as Arc<dyn SecondCertificate>)
    }
}

impl SecondCertificate for Second {
    fn prove(&self, hashes: &[SignatureHash], challenge: &[u8]) -> Option<SecondProof> {
        let identity = self.0.credentials.second_identity(&self.0).ok().flatten()?;
        let failed = |text: &str| {
            let text = format!("Failed to sign with the second client certificate: {text}");
            self.0.output.error(&text);
        };
        for hash in hashes {
            let Some(signer) = identity.key.choose_scheme(&schemes(*hash)) else {
                continue;
            };
            return match signer.sign(challenge) {
                Ok(signature) => Some(SecondProof {
                    chain: identity.cert.iter().map(|der| der.to_vec()).collect(),
                    hash: *hash,
                    signature,
                }),
                Err(error) => {
                    failed(&error.to_string());
                    None
                }
            };
        }
        failed("the server offers no hash algorithm that goes with its key");
        None
    }
}

impl fmt::Debug for Second {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Second(..)")
    }
}

fn schemes(hash: SignatureHash) -> [SignatureScheme; 2] {
    match hash {
        SignatureHash::Sha512 => [
            SignatureScheme::RSA_PKCS1_SHA512,
            SignatureScheme::ECDSA_NISTP521_SHA512,
        ],
        SignatureHash::Sha384 => [
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::ECDSA_NISTP384_SHA384,
        ],
        SignatureHash::Sha256 => [
            SignatureScheme::RSA_PKCS1_SHA256,
            SignatureScheme::ECDSA_NISTP256_SHA256,
        ],
    }
}
