//! What was agreed on, in GnuTLS' words, and what is weak about it.

use openssl::nid::Nid;
use openssl::pkey::Id;
use openssl::ssl::SslRef;

use crate::lacking::peer_signature;

/// Fewer bits of a Diffie-Hellman group are called weak.
const GROUP_BITS_GOOD: u32 = 2048;

/// How the primes of the groups of RFC 7919 begin, after 64 ones.
const FFDHE: [u8; 8] = [0xad, 0xf8, 0x54, 0x58, 0xa2, 0xbb, 0x4a, 0x9a];

/// The parts of a cipher suite.
struct Suite {
    key_exchange: String,
    cipher: String,
    mac: String,
}

impl Suite {
    /// From OpenSSL's description, `NAME VERSION Kx=RSA Au=RSA Enc=AES(128) Mac=SHA1`.
    fn parse(description: &str) -> Self {
        let part = |name: &str| {
            let mut words = description.split_whitespace();
            let value = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or("UNKNOWN").to_owned()
        };
        let key_exchange = match part("Kx").as_str() {
            "ECDH" => "ECDHE".into(),
            "DH" => "DHE".into(),
            other => other.to_owned(),
        };
        Self {
            key_exchange,
            cipher: cipher_name(&part("Enc")),
            mac: part("Mac"),
        }
    }
}

/// GnuTLS' name of `AES(128)` and the like.
fn cipher_name(encryption: &str) -> String {
    let (name, bits) = encryption
        .trim_end_matches(')')
        .split_once('(')
        .unwrap_or((encryption, ""));
    match name {
        "AES" | "CAMELLIA" => format!("{name}-{bits}-CBC"),
        "AESGCM" => format!("AES-{bits}-GCM"),
        "AESCCM" => format!("AES-{bits}-CCM"),
        "AESCCM8" => format!("AES-{bits}-CCM-8"),
        "ARIAGCM" => format!("ARIA-{bits}-GCM"),
        "3DES" => "3DES-CBC".into(),
        "RC4" => format!("ARCFOUR-{bits}"),
        "CHACHA20/POLY1305" => "CHACHA20-POLY1305".into(),
        other => other.to_owned(),
    }
}

/// For example `(TLS1.0)-(RSA)-(AES-128-CBC)-(SHA1)` or
/// `(TLS1.2)-(ECDHE-SECP256R1)-(RSA-SHA256)-(AES-128-CBC)-(SHA256)`.
pub(crate) fn description(ssl: &SslRef) -> Option<String> {
    let suite = Suite::parse(&ssl.current_cipher()?.description());
    let version = version(ssl);
    let mut parts = vec![version.clone()];
    if suite.key_exchange == "RSA" {
        parts.push("RSA".into());
    } else {
        parts.extend(group(ssl));
        // Before version 1.2 there was no choice.
        if matches!(version.as_str(), "TLS1.2" | "TLS1.3") {
            parts.extend(signature(ssl, &version));
        }
    }
    parts.push(suite.cipher);
    if suite.mac != "AEAD" {
        parts.push(suite.mac);
    }
    Some(
        parts
            .iter()
            .map(|part| format!("({part})"))
            .collect::<Vec<_>>()
            .join("-"),
    )
}

/// The ephemeral key exchange with its group.
fn group(ssl: &SslRef) -> Option<String> {
    let key = ssl.peer_tmp_key().ok()?;
    if let Ok(group) = key.dh() {
        let kind = match group.prime_p().to_vec().get(8..16) {
            Some(begin) if begin == FFDHE => "FFDHE",
            _ => "CUSTOM",
        };
        return Some(format!("DHE-{kind}{}", key.bits()));
    }
    let curve = match key.id() {
        Id::X25519 => "X25519",
        Id::X448 => "X448",
        _ => curve_name(key.ec_key().ok()?.group().curve_name()?)?,
    };
    Some(format!("ECDHE-{curve}"))
}

fn curve_name(curve: Nid) -> Option<&'static str> {
    match curve {
        Nid::X9_62_PRIME256V1 => Some("SECP256R1"),
        Nid::SECP384R1 => Some("SECP384R1"),
        Nid::SECP521R1 => Some("SECP521R1"),
        _ => None,
    }
}

/// The server's signature. Version 1.3 names the curve, too.
fn signature(ssl: &SslRef, version: &str) -> Option<String> {
    let (kind, hash) = peer_signature(ssl)?;
    let hash = hash.short_name().ok()?;
    let key = ssl.peer_certificate()?.public_key().ok()?;
    Some(match kind {
        Nid::RSAENCRYPTION => format!("RSA-{hash}"),
        Nid::RSASSAPSS if key.id() == Id::RSA => format!("RSA-PSS-RSAE-{hash}"),
        Nid::RSASSAPSS => format!("RSA-PSS-{hash}"),
        Nid::X9_62_ID_ECPUBLICKEY if version == "TLS1.3" => {
            let curve = key.ec_key().ok()?.group().curve_name()?;
            format!("ECDSA-{}-{hash}", curve_name(curve)?)
        }
        Nid::X9_62_ID_ECPUBLICKEY => format!("ECDSA-{hash}"),
        _ if key.id() == Id::ED25519 => "EdDSA-Ed25519".into(),
        _ => return None,
    })
}

/// What a user should know about this connection; empty if nothing is weak.
pub(crate) fn weaknesses(ssl: &SslRef) -> Vec<String> {
    let Some(cipher) = ssl.current_cipher() else {
        return Vec::new();
    };
    let suite = Suite::parse(&cipher.description());
    let mut weak = Vec::new();
    let version = version(ssl);
    if matches!(version.as_str(), "TLS1.0" | "TLS1.1") {
        weak.push(version.replace("TLS", "TLS "));
    }
    if suite.key_exchange == "RSA" {
        weak.push("key exchange by static RSA, without forward secrecy".into());
    }
    if let Some(bits) = group_bits(ssl).filter(|bits| *bits < GROUP_BITS_GOOD) {
        weak.push(format!("a Diffie-Hellman group of {bits} bits"));
    }
    if version == "TLS1.2" && peer_signature(ssl).is_some_and(|(_, hash)| hash == Nid::SHA1) {
        weak.push("a signature with SHA-1".into());
    }
    if suite.mac != "AEAD" {
        weak.push(format!("{} with {}", suite.cipher, suite.mac));
    }
    weak
}

/// Size of the group of a key exchange by Diffie-Hellman in a finite field.
pub(crate) fn group_bits(ssl: &SslRef) -> Option<u32> {
    let key = ssl.peer_tmp_key().ok()?;
    key.dh().ok().map(|_| key.bits())
}

fn version(ssl: &SslRef) -> String {
    match ssl.version_str() {
        "TLSv1" => "TLS1.0".into(),
        other => other.replace("TLSv", "TLS"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_in_gnutls_words() {
        let suite = Suite::parse("AES128-SHA  SSLv3 Kx=RSA  Au=RSA Enc=AES(128)  Mac=SHA1\n");
        assert_eq!(
            (
                suite.key_exchange.as_str(),
                suite.cipher.as_str(),
                suite.mac.as_str()
            ),
            ("RSA", "AES-128-CBC", "SHA1")
        );
        for (openssl, gnutls) in [
            ("AESGCM(256)", "AES-256-GCM"),
            ("3DES(168)", "3DES-CBC"),
            ("RC4(128)", "ARCFOUR-128"),
            ("CHACHA20/POLY1305(256)", "CHACHA20-POLY1305"),
            ("", ""),
        ] {
            assert_eq!(cipher_name(openssl), gnutls);
        }
    }
}
