//! `[HASH:][base32:|0x]SECRET[,COUNTER]` (`specs/client.md` §9.2).

use culvert_vocab::SecretString;
use data_encoding::{BASE32, BASE32_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use zeroize::Zeroizing;

use crate::TokenError;
use crate::oath::{DIGITS, Hash, Mode, Oath, PERIOD, Spelling};

/// How the octets of a key are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Raw,
    Hex,
    Base32,
}

const HASHES: [(&str, Hash); 3] = [
    ("sha1:", Hash::Sha1),
    ("sha256:", Hash::Sha256),
    ("sha512:", Hash::Sha512),
];

pub(crate) fn parse(mode: Mode, text: &str) -> Result<Oath, TokenError> {
    let (hash, text) = hash_and_rest(text);
    let (secret, counter) = match text.rsplit_once(',').filter(|_| mode == Mode::Hotp) {
        Some((secret, counter)) => (secret, self::counter(counter)?),
        None => (text, 0),
    };
    let (encoding, key) = if let Some(base32) = secret.strip_prefix("base32:") {
        (Encoding::Base32, decode_base32(base32)?)
    } else if let Some(hex) = secret.strip_prefix("0x") {
        (Encoding::Hex, decode_hex(hex)?)
    } else {
        (Encoding::Raw, secret.as_bytes().to_vec())
    };
    if key.is_empty() {
        return Err(TokenError::Invalid("the secret is empty"));
    }
    Ok(Oath {
        mode,
        hash,
        key: key.into(),
        digits: DIGITS,
        period: PERIOD,
        counter,
        spelling: Spelling::Secret(encoding),
    })
}

/// The form in which a counter-based secret is kept. The hash stays, unlike in the reference,
/// whose tokens stop working after the first code.
pub(crate) fn write(token: &Oath, encoding: Encoding) -> SecretString {
    let hash = match token.hash {
        Hash::Sha1 => "",
        Hash::Sha256 => "sha256:",
        Hash::Sha512 => "sha512:",
    };
    let key = token.key.expose();
    let key = Zeroizing::new(match encoding {
        Encoding::Base32 => format!("base32:{}", BASE32.encode(key)),
        Encoding::Hex => format!("0x{}", HEXLOWER.encode(key)),
        Encoding::Raw => String::from_utf8_lossy(key).into_owned(),
    });
    format!("{hash}{}{}", *key, counter_suffix(token)).into()
}

fn counter_suffix(token: &Oath) -> String {
    match token.mode {
        Mode::Hotp => format!(",{}", token.counter),
        Mode::Totp => String::new(),
    }
}

fn hash_and_rest(text: &str) -> (Hash, &str) {
    for (prefix, hash) in HASHES {
        let start = text.get(..prefix.len());
        if start.is_some_and(|start| start.eq_ignore_ascii_case(prefix)) {
            return (hash, text.get(prefix.len()..).unwrap_or_default());
        }
    }
    (Hash::Sha1, text)
}

/// A number as strtol with base 0 reads it; nothing is zero.
pub(crate) fn counter(text: &str) -> Result<u64, TokenError> {
    let text = text.trim();
    let number = if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        u64::from_str_radix(hex, 16)
    } else if text.len() > 1 && text.starts_with('0') {
        u64::from_str_radix(text, 8)
    } else if text.is_empty() {
        Ok(0)
    } else {
        text.parse()
    };
    number
        .ok()
        .filter(|counter| i64::try_from(*counter).is_ok())
        .ok_or(TokenError::Invalid("the counter is no number"))
}

/// Base32 in either case, padding optional.
pub(crate) fn decode_base32(text: &str) -> Result<Vec<u8>, TokenError> {
    let upper = Zeroizing::new(text.trim_end_matches('=').to_ascii_uppercase());
    BASE32_NOPAD
        .decode(upper.as_bytes())
        .or_else(|_| decode_base32_with_stray_bits(&upper))
        .map_err(|_| TokenError::Base32)
}

/// Secrets in the field have bits in the last character that belong to no octet.
fn decode_base32_with_stray_bits(text: &str) -> Result<Vec<u8>, ()> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    if matches!(text.len() % 8, 1 | 3 | 6) {
        return Err(());
    }
    let mut octets = Vec::with_capacity(text.len());
    let (mut bits, mut value) = (0, 0_u32);
    for character in text.bytes() {
        let digit = alphabet.iter().position(|known| *known == character).ok_or(())?;
        value = (value << 5 | digit as u32) & 0xfff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            octets.push((value >> bits & 0xff) as u8);
        }
    }
    Ok(octets)
}

/// Hex; an odd number of digits gets a zero in front.
fn decode_hex(text: &str) -> Result<Vec<u8>, TokenError> {
    let even = Zeroizing::new(match text.len() % 2 {
        0 => text.to_owned(),
        _ => format!("0{text}"),
    });
    HEXLOWER_PERMISSIVE
        .decode(even.as_bytes())
        .map_err(|_| TokenError::Invalid("the secret is no hexadecimal number"))
}
