//! Authentication with a second certificate (`specs/anyconnect.md` §6.1).

use std::fmt;

use culvert_wire::der::{EXPLICIT_0, SEQUENCE, SET, element, integer};
use culvert_wire::xml::Element;
use data_encoding::BASE64;

/// Characters per line of base64.
const LINE_LEN: usize = 64;
/// DER object identifiers of PKCS#7: signedData and data.
const SIGNED_DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02";
const DATA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01";

/// Hash functions that a server may offer for the signature, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureHash {
    /// SHA-512.
    Sha512,
    /// SHA-384.
    Sha384,
    /// SHA-256.
    Sha256,
}

impl SignatureHash {
    const ALL: [Self; 3] = [Self::Sha512, Self::Sha384, Self::Sha256];

    fn name(self) -> &'static str {
        match self {
            Self::Sha512 => "sha512",
            Self::Sha384 => "sha384",
            Self::Sha256 => "sha256",
        }
    }
}

/// The proof that the user has the second certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecondProof {
    /// DER certificates, the user's first, then its issuers.
    pub chain: Vec<Vec<u8>>,
    /// Hash function of the signature.
    pub hash: SignatureHash,
    /// Over the challenge: PKCS#1 v1.5 for RSA, DER for ECDSA.
    pub signature: Vec<u8>,
}

/// Who has the second certificate and its key.
pub trait SecondCertificate: fmt::Debug + Send + Sync {
    /// Signs the challenge (not its hash) with the first of `hashes` that the key can use. `None`
    /// if that is impossible; the user has been told why. It may block for a passphrase.
    fn prove(&self, hashes: &[SignatureHash], challenge: &[u8]) -> Option<SecondProof>;
}

/// The hash functions of `multiple-client-cert-request`, best first; unknown ones do not count.
pub(super) fn hashes(request: &Element) -> Vec<SignatureHash> {
    let offered: Vec<String> = request
        .elements()
        .filter(|element| element.name == "hash-algorithm")
        .map(|element| element.text().trim().to_owned())
        .collect();
    let all = SignatureHash::ALL.into_iter();
    all.filter(|hash| offered.iter().any(|name| name == hash.name()))
        .collect()
}

/// The `auth` element of the answer.
pub(super) fn auth_element(proof: &SecondProof) -> Element {
    let chain = |store: &str| Element::new("client-cert-chain").with_attribute("cert-store", store);
    let certificate = Element::new("client-cert")
        .with_attribute("cert-format", "pkcs7")
        .with_text(base64(&pkcs7(&proof.chain)));
    let signature = Element::new("client-cert-auth-signature")
        .with_attribute("hash-algorithm-chosen", proof.hash.name())
        .with_text(base64(&proof.signature));
    Element::new("auth")
        .with_child(chain("1M").with_child(Element::new("client-cert-sent-via-protocol")))
        .with_child(chain("1U").with_child(certificate).with_child(signature))
}

/// DER PKCS#7 SignedData with certificates and nothing else (RFC 2315 §9.1).
fn pkcs7(chain: &[Vec<u8>]) -> Vec<u8> {
    let version = integer(&[1]);
    let no_members = element(SET, &[]);
    let content = element(SEQUENCE, DATA);
    let certificates = element(EXPLICIT_0, &chain.concat());
    let signed = [version, no_members.clone(), content, certificates, no_members].concat();
    let signed = element(EXPLICIT_0, &element(SEQUENCE, &signed));
    element(SEQUENCE, &[SIGNED_DATA, &signed].concat())
}

fn base64(octets: &[u8]) -> String {
    let text = BASE64.encode(octets);
    let lines = text.as_bytes().chunks(LINE_LEN);
    let lines: Vec<_> = lines.map(String::from_utf8_lossy).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_in_lines() {
        let text = base64(&[0; 60]);
        assert_eq!(text.lines().map(str::len).collect::<Vec<_>>(), [64, 16]);
    }

    /// The DER that GnuTLS made, but for the type of the empty content inside.
    #[test]
    fn certificates_as_the_reference_packs_them() {
        let reply =
            culvert_wire::xml::parse(include_bytes!("../../tests/vectors/multicert-reply.xml")).unwrap();
        let chains = reply.child("auth").unwrap();
        let packed = chains
            .elements()
            .nth(1)
            .unwrap()
            .child("client-cert")
            .unwrap()
            .text();
        let packed: String = packed.split_whitespace().collect();
        let mut theirs = BASE64.decode(packed.as_bytes()).unwrap();
        let start = theirs
            .windows(4)
            .position(|window| window == [0x30, 0x82, 0x01, 0x6f])
            .unwrap()
            - 4;
        let end = theirs.len() - 2;
        let ours = pkcs7(&[theirs[start..end].to_vec()]);
        let content = theirs
            .windows(11)
            .position(|window| window[..10] == DATA[..10] && window[10] == 5)
            .unwrap();
        theirs[content + 10] = 1;
        assert_eq!(ours, theirs);
    }
}
