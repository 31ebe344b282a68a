//! RSA SecurID software tokens in their numeric form, "CTF version 2" (`specs/client.md` §9.3).

use std::fmt;

use aes::Aes128;
use aes::cipher::generic_array::GenericArray;
use aes::cipher::{BlockDecrypt, BlockEncrypt, KeyInit};
use chrono::{DateTime, Datelike, Timelike};
use culvert_vocab::{SecretBytes, SecretString};
use zeroize::Zeroizing;

use crate::TokenError;

/// Digits of a token.
const TOKEN_LEN: usize = 81;
/// Version and serial number, before the octal digits.
const HEAD_LEN: usize = 13;
/// Version, serial number and data, before the check digits.
const CHECKED_LEN: usize = 76;
/// 2000-01-01, in days since 1970.
const EPOCH_DAYS: u64 = 10957;
const SECONDS_PER_DAY: u64 = 86400;
/// What the key of the seed ends in.
const SEED_KEY_END: [u8; 6] = [0xd8, 0xf5, 0x32, 0x53, 0x82, 0x89];

const HAS_PASSWORD: u16 = 1 << 13;
const HAS_DEVICE_ID: u16 = 1 << 12;
const IS_128_BIT: u16 = 1 << 14;
const IS_TIME_DERIVED: u16 = 1 << 9;

type Block = [u8; 16];

/// A token as it was handed out, possibly locked to a device or by a password.
#[derive(Clone, PartialEq, Eq)]
pub struct SecurId {
    serial: [u8; 12],
    encrypted_seed: SecretBytes,
    flags: u16,
    expiry_days: u64,
    seed_hash: u16,
    device_hash: u16,
    /// Octets to which a device id is filled up for its hash.
    device_len: usize,
}

/// A token that gives codes.
#[derive(Clone, PartialEq, Eq)]
pub struct UnlockedSecurId {
    serial: [u8; 12],
    seed: SecretBytes,
    flags: u16,
    expiry_days: u64,
}

impl SecurId {
    /// Reads 81 digits, with or without dashes, or one of the URLs that carry them.
    ///
    /// # Errors
    /// The text is something else, a newer form of token, or mistyped.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let (digits, device_len) = match text.split_once("ctfData=") {
            Some((start, data)) => {
                let data = data.strip_prefix("3D").unwrap_or(data);
                let data = data.split('&').next().unwrap_or_default();
                // Tokens for these are bound to longer ids.
                let long = start.starts_with("http://") || start.contains(".iphone:");
                (data.replace("%2D", "-"), if long { 40 } else { 32 })
            }
            None => (text.to_owned(), 32),
        };
        let digits = Zeroizing::new(digits);
        let octets: Zeroizing<Vec<u8>> =
            Zeroizing::new(digits.bytes().filter(|octet| *octet != b'-').collect());
        if octets.len() != TOKEN_LEN || !octets.iter().all(u8::is_ascii_digit) {
            return Err(TokenError::SecurIdForm);
        }
        let (checked, check) = octets.split_at(CHECKED_LEN);
        let (head, data) = checked.split_at(HEAD_LEN);
        let (Some((b'1' | b'2', serial)), Ok(check)) = (head.split_first(), octal(check)) else {
            return Err(TokenError::SecurIdForm);
        };
        if mac15(checked) != (check as u16) {
            return Err(TokenError::SecurIdCheck);
        }
        // 189 bits, the first in the highest place.
        let mut bits = Zeroizing::new(Vec::with_capacity(3 * data.len()));
        for digit in data {
            let value = octal(&[*digit])?;
            bits.extend([value & 4 != 0, value & 2 != 0, value & 1 != 0]);
        }
        let number = |from: usize, len: usize| -> u64 {
            let bits = bits.iter().skip(from).take(len);
            bits.fold(0, |number, bit| number << 1 | u64::from(*bit))
        };
        let seed = (0..16).map(|index| number(8 * index, 8) as u8).collect();
        Ok(Self {
            serial: serial.try_into().map_err(|_| TokenError::SecurIdForm)?,
            encrypted_seed: SecretBytes::new(seed),
            flags: number(128, 16) as u16,
            expiry_days: number(144, 14),
            seed_hash: number(159, 15) as u16,
            device_hash: number(174, 15) as u16,
            device_len,
        })
    }

    /// A password is needed to unlock it.
    pub fn wants_password(&self) -> bool {
        self.flags & HAS_PASSWORD != 0
    }

    /// The id of its device is needed to unlock it.
    pub fn wants_device_id(&self) -> bool {
        self.flags & HAS_DEVICE_ID != 0
    }

    /// Makes the token usable. What it does not want is ignored.
    ///
    /// # Errors
    /// Device id or password are wrong, or the token works in another way.
    pub fn unlock(&self, device_id: &str, password: &SecretString) -> Result<UnlockedSecurId, TokenError> {
        if self.flags & IS_128_BIT == 0 || self.flags & IS_TIME_DERIVED == 0 {
            return Err(TokenError::SecurIdForm);
        }
        let mut device: Vec<u8> = match self.wants_device_id() {
            true => device_id.bytes().filter(u8::is_ascii_hexdigit).collect(),
            false => Vec::new(),
        };
        device.make_ascii_uppercase();
        if self.wants_device_id() {
            let mut filled = device.clone();
            filled.resize(self.device_len.max(device.len()), 0);
            if mac15(&filled) != self.device_hash {
                return Err(TokenError::SecurIdCredentials);
            }
        }
        let password = match self.wants_password() {
            true => password.expose().as_bytes(),
            false => &[],
        };
        let key = mac(&Zeroizing::new([password, &device, &SEED_KEY_END].concat()));
        let mut seed = GenericArray::default();
        let encrypted: &Block = self
            .encrypted_seed
            .expose()
            .first_chunk()
            .ok_or(TokenError::SecurIdForm)?;
        seed.copy_from_slice(encrypted);
        Aes128::new(&key.into()).decrypt_block(&mut seed);
        match mac15(&seed) == self.seed_hash {
            true => Ok(UnlockedSecurId {
                serial: self.serial,
                seed: SecretBytes::new(seed.to_vec()),
                flags: self.flags,
                expiry_days: self.expiry_days,
            }),
            false => Err(TokenError::SecurIdCredentials),
        }
    }
}

impl UnlockedSecurId {
    /// Seconds for which a code is good.
    pub fn interval(&self) -> u64 {
        if self.flags & 3 == 0 { 30 } else { 60 }
    }

    /// False after the last day of the token.
    pub fn is_valid_at(&self, time: u64) -> bool {
        time / SECONDS_PER_DAY <= EPOCH_DAYS + self.expiry_days
    }

    /// True for a PIN that tokens take: four to eight digits.
    pub fn is_pin(pin: &SecretString) -> bool {
        let pin = pin.expose();
        (4..=8).contains(&pin.len()) && pin.bytes().all(|octet| octet.is_ascii_digit())
    }

    /// The code at a time, in seconds since 1970, with the PIN in it, or in front of it for tokens
    /// that do not compute with one.
    ///
    /// # Errors
    /// There is no such time.
    pub fn code_at(&self, time: u64, pin: &SecretString) -> Result<SecretString, TokenError> {
        let seconds = i64::try_from(time).map_err(|_| TokenError::Exhausted)?;
        let date = DateTime::from_timestamp(seconds, 0).ok_or(TokenError::Exhausted)?;
        let (minute, second) = (date.minute(), date.second());
        let half = self.interval() == 30;
        let counted = if half { minute & !1 } else { minute & !3 };
        let year = u32::try_from(date.year()).map_err(|_| TokenError::Exhausted)?;
        let parts = [
            year / 100,
            year % 100,
            date.month(),
            date.day(),
            date.hour(),
            counted,
        ];
        let mut stamp = [0; 8];
        for (octet, part) in stamp.iter_mut().zip(parts) {
            *octet = bcd(part);
        }
        let mut key: Block = *self.seed.expose().first_chunk().ok_or(TokenError::SecurIdForm)?;
        for len in [2, 3, 4, 5, 8] {
            key = aes(&key, &self.block(&stamp, len));
        }
        let word = match half {
            true => 2 * (minute & 1) + u32::from(second >= 30),
            false => minute & 3,
        };
        let start = 4 * word as usize;
        let octets = key.get(start..).and_then(|rest| rest.first_chunk());
        let mut number = u32::from_be_bytes(*octets.ok_or(TokenError::Exhausted)?);
        key.fill(0);
        let with_pin = self.flags >> 3 & 3 >= 2;
        let pin = pin.expose();
        let mut pin_digits = pin.bytes().rev().map(|octet| octet.wrapping_sub(b'0'));
        let mut code: Vec<u8> = Vec::new();
        for _ in 0..(self.flags >> 6 & 7) + 1 {
            let added = pin_digits.next().filter(|_| with_pin).unwrap_or_default();
            code.push(b'0' + ((number % 10) as u8 + added) % 10);
            number /= 10;
        }
        code.reverse();
        let code = Zeroizing::new(String::from_utf8(code).map_err(|_| TokenError::SecurIdForm)?);
        Ok(match with_pin {
            true => code.as_str().into(),
            false => format!("{pin}{}", *code).into(),
        })
    }

    /// What is encrypted with the key of the step before: `len` octets of the time, the serial
    /// number.
    fn block(&self, stamp: &[u8; 8], len: usize) -> Block {
        let mut block = [0xbb; 16];
        for (index, octet) in block.iter_mut().enumerate().take(8) {
            *octet = stamp.get(index).copied().filter(|_| index < len).unwrap_or(0xaa);
        }
        let (pairs, _) = self.serial.as_chunks::<2>();
        for (octet, [high, low]) in block.iter_mut().skip(8).zip(pairs.iter().skip(2)) {
            *octet = (high & 0x0f) << 4 | (low & 0x0f);
        }
        block
    }
}

impl fmt::Debug for SecurId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecurId(..)")
    }
}

impl fmt::Debug for UnlockedSecurId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnlockedSecurId(..)")
    }
}

fn bcd(number: u32) -> u8 {
    (((number / 10 % 10) << 4) | (number % 10)) as u8
}

fn octal(digits: &[u8]) -> Result<u32, TokenError> {
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'7' => Ok(number << 3 | u32::from(digit - b'0')),
        _ => Err(TokenError::SecurIdForm),
    })
}

fn aes(key: &Block, block: &Block) -> Block {
    let mut out = GenericArray::from(*block);
    Aes128::new(key.into()).encrypt_block(&mut out);
    out.into()
}

/// The token's own hash: each block of the message is a key.
fn mac(message: &[u8]) -> Block {
    fn step(work: &mut Block, key: &Block) {
        let mixed = aes(key, work);
        work.iter_mut()
            .zip(mixed)
            .for_each(|(octet, mixed)| *octet ^= mixed);
    }
    let mut work = [0xff; 16];
    let chunks = message.chunks(16);
    let before_last = chunks.len().saturating_sub(1);
    for chunk in chunks {
        let mut block = [0; 16];
        block
            .iter_mut()
            .zip(chunk)
            .for_each(|(octet, value)| *octet = *value);
        step(&mut work, &block);
    }
    if before_last % 2 == 1 {
        step(&mut work, &[0; 16]);
    }
    step(&mut work, &(8 * message.len() as u128).to_be_bytes());
    let key = work;
    step(&mut work, &key);
    work
}

fn mac15(message: &[u8]) -> u16 {
    let [high, low, ..] = mac(message);
    u16::from_be_bytes([high, low]) >> 1
}
