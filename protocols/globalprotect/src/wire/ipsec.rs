//! The `ipsec` block: algorithms, SPIs and keys of the ESP channel (`specs/globalprotect.md` §9.3,
//! `specs/esp.md` §4).

use culvert_esp::{Association, Encryption, Integrity, Spi};
use culvert_vocab::{SecretBytes, SecretString};
use culvert_wire::xml::Element;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};

/// Why there is no ESP, in words for the user.
type NoEsp = String;

/// Everything that opens the ESP channel, besides addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EspParameters {
    /// UDP port of the gateway.
    pub port: u16,
    /// From the client to the gateway.
    pub up: Association,
    /// From the gateway to the client.
    pub down: Association,
}

/// Name of an encryption algorithm.
pub fn encryption_name(algorithm: Encryption) -> &'static str {
    match algorithm {
        Encryption::Aes128Cbc => "aes-128-cbc",
        Encryption::Aes256Cbc => "aes-256-cbc",
    }
}

/// Encryption algorithm of this name.
pub fn parse_encryption(name: &str) -> Option<Encryption> {
    match name {
        "aes-128-cbc" | "aes128" => Some(Encryption::Aes128Cbc),
        "aes-256-cbc" => Some(Encryption::Aes256Cbc),
        _ => None,
    }
}

/// Name of an integrity algorithm.
pub fn integrity_name(algorithm: Integrity) -> &'static str {
    match algorithm {
        Integrity::HmacMd5 => "md5",
        Integrity::HmacSha1 => "sha1",
        Integrity::HmacSha256 => "sha256",
    }
}

/// Integrity algorithm of this name.
pub fn parse_integrity(name: &str) -> Option<Integrity> {
    match name {
        "md5" => Some(Integrity::HmacMd5),
        "sha1" => Some(Integrity::HmacSha1),
        "sha256" => Some(Integrity::HmacSha256),
        _ => None,
    }
}

impl EspParameters {
    /// Reads the block.
    ///
    /// # Errors
    /// What is missing, unknown or wrong: no ESP then.
    pub fn parse(ipsec: &Element) -> Result<Self, String> {
        let name = child_text(ipsec, "enc-algo")?;
        let encryption =
            parse_encryption(&name).ok_or_else(|| format!("Unknown ESP encryption algorithm: {name}"))?;
        let name = child_text(ipsec, "hmac-algo")?;
        let integrity = parse_integrity(&name).ok_or_else(|| format!("Unknown ESP MAC algorithm: {name}"))?;
        let association = |direction: &str| {
            let made = Association::new(
                spi(&child_text(ipsec, &format!("{direction}-spi"))?)?,
                encryption,
                key(ipsec, &format!("ekey-{direction}"))?,
                integrity,
                key(ipsec, &format!("akey-{direction}"))?,
            );
            made.map_err(|error| format!("ESP keys for {direction}: {error}"))
        };
        let port = child_text(ipsec, "udp-port")?;
        Ok(Self {
            port: port
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| format!("ESP port '{port}' is no port"))?,
            up: association("c2s")?,
            down: association("s2c")?,
        })
    }

    /// Fresh keys; `random` fills octets with unpredictable values and tells whether it could.
    /// `up` is the SPI by which the gateway finds the session.
    pub fn generate(
        port: u16,
        up: Spi,
        (encryption, integrity): (Encryption, Integrity),
        random: &mut dyn FnMut(&mut [u8]) -> bool,
    ) -> Option<Self> {
        let mut association = |spi: Option<Spi>| {
            let mut octets = |len: usize| {
                let mut key = vec![0; len];
                random(&mut key).then(|| SecretBytes::new(key))
            };
            let spi = match spi {
                Some(spi) => spi,
                None => Spi::from_random(*octets(4)?.expose().first_chunk()?),
            };
            let (encryption_key, integrity_key) =
                (octets(encryption.key_len())?, octets(integrity.key_len())?);
            Association::new(spi, encryption, encryption_key, integrity, integrity_key).ok()
        };
        Some(Self {
            port,
            up: association(Some(up))?,
            down: association(None)?,
        })
    }

    /// Writes the block.
    pub fn to_element(&self) -> Element {
        let text = |name: &str, text: String| Element::new(name).with_text(text);
        let key = |name: &str, key: &SecretBytes| {
            Element::new(name)
                .with_child(text("bits", (key.len() * 8).to_string()))
                .with_child(text("val", HEXLOWER.encode(key.expose())))
        };
        let spi = |name: &str, spi: Spi| text(name, format!("0x{:08x}", spi.get()));
        Element::new("ipsec")
            .with_child(text("udp-port", self.port.to_string()))
            .with_child(text("ipsec-mode", "esp-tunnel".into()))
            .with_child(text("enc-algo", encryption_name(self.up.encryption()).into()))
            .with_child(text("hmac-algo", integrity_name(self.up.integrity()).into()))
            .with_child(spi("c2s-spi", self.up.spi()))
            .with_child(spi("s2c-spi", self.down.spi()))
            .with_child(key("akey-s2c", self.down.integrity_key()))
            .with_child(key("ekey-s2c", self.down.encryption_key()))
            .with_child(key("akey-c2s", self.up.integrity_key()))
            .with_child(key("ekey-c2s", self.up.encryption_key()))
    }
}

fn child_text(element: &Element, name: &str) -> Result<String, NoEsp> {
    element
        .child(name)
        .map(|child| child.text().trim().to_owned())
        .filter(|text| !text.is_empty())
        .ok_or_else(|| format!("the ESP configuration has no {name}"))
}

fn spi(text: &str) -> Result<Spi, NoEsp> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u32::from_str_radix(digits, 16)
        .ok()
        .and_then(Spi::new)
        .ok_or_else(|| format!("'{text}' is no ESP SPI"))
}

fn key(ipsec: &Element, name: &str) -> Result<SecretBytes, NoEsp> {
    let element = ipsec
        .child(name)
        .ok_or_else(|| format!("the ESP configuration has no {name}"))?;
    let bits = child_text(element, "bits")?;
    let digits = SecretString::new(child_text(element, "val")?);
    let key = HEXLOWER_PERMISSIVE
        .decode(digits.expose().as_bytes())
        .map(SecretBytes::new)
        .map_err(|_| format!("{name} is no hexadecimal number"))?;
    if bits.parse() == Ok(key.len() * 8) {
        Ok(key)
    } else {
        Err(format!("{name} has {} bits instead of {bits}", key.len() * 8))
    }
}

#[cfg(test)]
mod tests {
    use culvert_wire::xml;
    use proptest::prelude::*;

    use super::*;

    const BLOCK: &str = "<ipsec><udp-port>4501</udp-port><ipsec-mode>esp-tunnel</ipsec-mode><enc-algo>aes-128-cbc</enc-algo>\
        <hmac-algo>sha1</hmac-algo><c2s-spi>0x11110001</c2s-spi><s2c-spi>0x22220001</s2c-spi>\
        <akey-s2c><bits>160</bits><val>c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3</val></akey-s2c>\
        <ekey-s2c><bits>128</bits><val>404142434445464748494a4b4c4d4e4f</val></ekey-s2c>\
        <akey-c2s><bits>160</bits><val>808182838485868788898a8b8c8d8e8f90919293</val></akey-c2s>\
        <ekey-c2s><bits>128</bits><val>000102030405060708090a0b0c0d0e0f</val></ekey-c2s></ipsec>";

    fn parse(text: &str) -> Result<EspParameters, NoEsp> {
        EspParameters::parse(&xml::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn round_trip() {
        let parameters = parse(BLOCK).unwrap();
        assert_eq!((parameters.port, parameters.up.spi().get()), (4501, 0x1111_0001));
        let mut text = String::new();
        parameters.to_element().write_to(&mut text);
        assert_eq!(text, BLOCK);
    }

    #[test]
    fn fresh_keys_differ_in_both_directions() {
        let mut next = 0;
        let mut random = |octets: &mut [u8]| {
            next += 1;
            octets.fill(next);
            true
        };
        let algorithms = (Encryption::Aes256Cbc, Integrity::HmacSha256);
        let up = Spi::from_random([9; 4]);
        let made = EspParameters::generate(443, up, algorithms, &mut random).unwrap();
        assert_eq!((made.up.spi(), made.port), (up, 443));
        assert_ne!(made.up.encryption_key(), made.down.encryption_key());
        assert_ne!(made.up.integrity_key(), made.down.integrity_key());
        assert_eq!(EspParameters::generate(443, up, algorithms, &mut |_| false), None);
    }

    #[test]
    fn whatever_is_wrong_leaves_no_esp() {
        for (from, to) in [
            ("4501", "0"),
            ("4501", "70000"),
            ("aes-128-cbc", "aes-128-gcm"),
            ("sha1", "sha512"),
            ("0x11110001", "0x00000001"),
            ("0x11110001", "zz"),
            ("<bits>128</bits>", "<bits>129</bits>"),
            ("404142434445464748494a4b4c4d4e4f", "40414243"),
            ("404142434445464748494a4b4c4d4e4f", "4"),
            ("<ekey-c2s>", "<x>"),
        ] {
            assert!(parse(&BLOCK.replacen(from, to, 1)).is_err(), "{from} {to}");
        }
        assert!(
            parse(
                &BLOCK
                    .replace("0x11110001", "11110001")
                    .replace("aes-128-cbc", "aes128")
            )
            .is_ok()
        );
    }

    proptest! {
        #[test]
        fn never_panics(at: prop::sample::Index, junk in "[ -~]{0,8}") {
            let mut text = BLOCK.to_owned();
            let at = at.index(text.len());
            text.replace_range(at..at, &junk);
            if let Ok(root) = xml::parse(text.as_bytes()) {
                let _ = EspParameters::parse(&root);
            }
        }
    }
}
