//! What was agreed on, in GnuTLS' words, and what is weak about it.

use openssl::ssl::SslRef;

/// Fewer bits of a Diffie-Hellman group are called weak.
const GROUP_BITS_GOOD: u32 = 2048;

/// The parts of a cipher suite.
struct Suite {
    key_exchange: String,
    authentication: String,
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
            authentication: part("Au"),
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

/// For example `(TLS1.0)-(RSA)-(AES-128-CBC)-(SHA1)`.
pub(crate) fn description(ssl: &SslRef) -> Option<String> {
    let suite = Suite::parse(&ssl.current_cipher()?.description());
    let mut text = format!("({})", version(ssl));
    if suite.key_exchange != "any" {
        match suite.key_exchange.as_str() {
            "RSA" => text.push_str("-(RSA)"),
            exchange => text.push_str(&format!("-({exchange}-{})", suite.authentication)),
        }
    }
    text.push_str(&format!("-({})", suite.cipher));
    if suite.mac != "AEAD" {
        text.push_str(&format!("-({})", suite.mac));
    }
    Some(text)
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
