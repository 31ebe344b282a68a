//! The OATH applet against a card of the test's own.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use aws_lc_rs::{hmac, pbkdf2};
use culvert_token::{Applet, Card, YubikeyError};
use proptest::prelude::*;

/// Key of RFC 4226 and RFC 6238.
const KEY: &[u8] = b"12345678901234567890";
const ID: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
const CARD_CHALLENGE: [u8; 8] = [9; 8];

/// A card with credentials (kind, name) and possibly a PIN; answers come in parts of 20 octets.
#[derive(Default)]
struct Yubikey {
    credentials: Vec<(u8, &'static str)>,
    pin: Option<Vec<u8>>,
    unlocked: bool,
    rest: Vec<u8>,
    counter: u64,
}

impl Yubikey {
    fn key(&self) -> Option<hmac::Key> {
        let mut key = [0; 16];
        let rounds = 1000.try_into().unwrap();
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA1,
            rounds,
            &ID,
            self.pin.as_ref()?,
            &mut key,
        );
        Some(hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key))
    }

    fn part(&mut self) -> Vec<u8> {
        let len = self.rest.len().min(20);
        let mut part: Vec<u8> = self.rest.drain(..len).collect();
        part.extend(if self.rest.is_empty() {
            [0x90, 0]
        } else {
            [0x61, 0]
        });
        part
    }
}

impl Card for Yubikey {
    fn transmit(&mut self, command: &[u8]) -> Result<Vec<u8>, String> {
        self.rest = match command[1] {
            0xa5 => std::mem::take(&mut self.rest),
            0xa4 => {
                self.unlocked = self.pin.is_none();
                let mut answer = vec![0x79, 3, 5, 4, 3, 0x71, 8];
                answer.extend(ID);
                if self.pin.is_some() {
                    answer.extend([0x74, 8]);
                    answer.extend(CARD_CHALLENGE);
                }
                answer
            }
            0xa3 => {
                let key = self.key().unwrap();
                if hmac::verify(&key, &CARD_CHALLENGE, &command[7..27]).is_err() {
                    return Ok(vec![0x6a, 0x80]);
                }
                self.unlocked = true;
                [&[0x75, 20], hmac::sign(&key, &command[29..37]).as_ref()].concat()
            }
            _ if !self.unlocked => return Ok(vec![0x69, 0x82]),
            0xa1 => self
                .credentials
                .iter()
                .fold(Vec::new(), |mut list, (kind, name)| {
                    list.extend([0x72, 1 + name.len() as u8, *kind]);
                    list.extend(name.as_bytes());
                    list
                }),
            0xa2 => {
                let len = usize::from(command[6]);
                let challenge = &command[7 + len..];
                let factor = match challenge {
                    [0x74, 8, time @ ..] => u64::from_be_bytes(time.try_into().unwrap()),
                    [0x74, 0] => {
                        self.counter += 1;
                        self.counter - 1
                    }
                    other => panic!("{other:?}"),
                };
                let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, KEY);
                let tag = hmac::sign(&key, &factor.to_be_bytes());
                let offset = usize::from(tag.as_ref()[19] & 15);
                let digits = if command[7..7 + len].starts_with(b"eight") {
                    8
                } else {
                    6
                };
                [&[0x76, 5, digits], &tag.as_ref()[offset..offset + 4]].concat()
            }
            other => panic!("{other:x}"),
        };
        Ok(self.part())
    }
}

#[test]
fn codes_of_the_rfcs() {
    let mut card = Yubikey {
        credentials: vec![
            (0x11, "counter"),
            (0x21, "time"),
            (0x23, "eight digits and a long name"),
        ],
        ..Yubikey::default()
    };
    for (name, time, code) in [
        (None, 0, "755224"),
        (None, 0, "287082"),
        (Some("time"), 59, "287082"),
        (Some("eight digits and a long name"), 1111111109, "07081804"),
    ] {
        let mut applet = Applet::select(&mut card).unwrap();
        assert!(!applet.is_locked());
        assert_eq!(applet.code(name, time).unwrap(), code.into(), "{name:?}");
    }
    let missing = Applet::select(&mut card).unwrap().code(Some("tim"), 0);
    assert_eq!(missing.err(), Some(YubikeyError::NoCredential));
}

#[test]
fn pins() {
    for (pin, stored) in [
        ("s3cret", b"s3cret".to_vec()),
        ("é", vec![0xe9]),
        ("é", "é".as_bytes().to_vec()),
    ] {
        let mut card = Yubikey {
            credentials: vec![(0x21, "time")],
            pin: Some(stored),
            ..Yubikey::default()
        };
        let mut applet = Applet::select(&mut card).unwrap();
        assert!(applet.is_locked());
        assert_eq!(applet.code(None, 0).err(), Some(YubikeyError::Pin));
        assert_eq!(applet.unlock(&"wrong".into()), Err(YubikeyError::Pin));
        applet.unlock(&pin.into()).unwrap();
        assert_eq!(applet.code(None, 59).unwrap(), "287082".into());
    }
}

/// A card that answers with the next of these.
struct Junk(Vec<Vec<u8>>);

impl Card for Junk {
    fn transmit(&mut self, _: &[u8]) -> Result<Vec<u8>, String> {
        self.0.pop().ok_or_else(|| "gone".into())
    }
}

proptest! {
    #[test]
    fn junk_never_panics(mut answers in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6), good in any::<bool>()) {
        if good {
            for answer in &mut answers {
                answer.extend([0x90, 0]);
            }
        }
        let mut card = Junk(answers);
        if let Ok(mut applet) = Applet::select(&mut card) {
            let _ = applet.unlock(&"pin".into());
            let _ = applet.code(None, 0);
        }
    }
}
