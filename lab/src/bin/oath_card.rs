//! A YubiKey with three credentials in the virtual reader of `pcscd`: connects to the reader's port on
//! the same host. Arguments: the key of all credentials in hexadecimal digits, and the PIN, if it
//! has one.
//!
//! `lab:alice` is time-based, `lab:touch` wants to be touched and is not, `lab:count` counts.

#![allow(clippy::unwrap_used)]

use std::io::{self, Read, Write};
use std::net::TcpStream;

use aws_lc_rs::{hmac, pbkdf2};
use culvert_token::{Mode, Oath};

/// Where the virtual reader waits for a card.
const READER: (&str, u16) = ("127.0.0.1", 35963);
/// Type (HOTP or TOTP with SHA-1) and name.
const CREDENTIALS: [(u8, &[u8]); 3] = [(0x21, b"lab:alice"), (0x21, b"lab:touch"), (0x11, b"lab:count")];
/// Answer to reset of a YubiKey 4; speaks T=1.
const ATR: &[u8] = b"\x3b\xf8\x13\x00\x00\x81\x31\xfe\x15\x59\x75\x62\x69\x6b\x65\x79\x34\xd4";
/// Its id, with which the key is made of the PIN.
const ID: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
const CHALLENGE: [u8; 8] = [9; 8];

struct Card {
    timed: Oath,
    counted: Oath,
    pin: Option<hmac::Key>,
    unlocked: bool,
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let token = |mode, end: &str| Oath::parse(mode, &format!("0x{}{end}", arguments[0])).unwrap();
    let mut card = Card {
        timed: token(Mode::Totp, ""),
        counted: token(Mode::Hotp, ",0"),
        pin: arguments.get(1).map(|pin| key(pin)),
        unlocked: false,
    };
    let mut reader = TcpStream::connect(READER)?;
    loop {
        let mut len = [0; 2];
        reader.read_exact(&mut len)?;
        let mut message = vec![0; u16::from_be_bytes(len).into()];
        reader.read_exact(&mut message)?;
        let answer = match message.as_slice() {
            // Power and reset.
            [0..=2] => continue,
            [4] => ATR.to_vec(),
            command => card.answer(command),
        };
        let len = u16::try_from(answer.len()).unwrap().to_be_bytes();
        reader.write_all(&[&len, answer.as_slice()].concat())?;
    }
}

fn key(pin: &str) -> hmac::Key {
    let mut key = [0; 16];
    let rounds = 1000.try_into().unwrap();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA1, rounds, &ID, pin.as_bytes(), &mut key);
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key)
}

impl Card {
    /// The applet's answer to a command, with its status.
    fn answer(&mut self, command: &[u8]) -> Vec<u8> {
        let content = match command {
            [0, 0xa4, 4, 0, 7, 0xa0, 0, 0, 5, 0x27, 0x21, 1, ..] => {
                self.unlocked = self.pin.is_none();
                let challenge = [&[0x74, 8], CHALLENGE.as_slice()].concat();
                let challenge = self.pin.as_ref().map_or(Vec::new(), |_| challenge);
                [&b"\x79\x03\x05\x04\x03\x71\x08"[..], &ID, &challenge].concat()
            }
            [0, 0xa4, ..] => return vec![0x6a, 0x82],
            [0, 0xa3, 0, 0, 0x20, 0x75, 20, rest @ ..] => {
                let (proof, own) = rest.split_at(20);
                let Some(key) = &self.pin else {
                    return vec![0x69, 0x84];
                };
                if hmac::verify(key, &CHALLENGE, proof).is_err() {
                    return vec![0x6a, 0x80];
                }
                self.unlocked = true;
                [&[0x75, 20], hmac::sign(key, &own[2..10]).as_ref()].concat()
            }
            _ if !self.unlocked => return vec![0x69, 0x82],
            [0, 0xa1, ..] => CREDENTIALS.iter().fold(Vec::new(), |list, (kind, name)| {
                [&list[..], &[0x72, 1 + name.len() as u8, *kind], name].concat()
            }),
            [0, 0xa2, 0, 1, _, 0x71, len, rest @ ..] => {
                let (name, challenge) = rest.split_at((*len).into());
                let code = match (name, challenge) {
                    (b"lab:alice", [0x74, 8, step @ ..]) => {
                        let step = u64::from_be_bytes(step[..8].try_into().unwrap());
                        self.timed.code_at(step * self.timed.period())
                    }
                    (b"lab:count", [0x74, 0, ..]) => self.counted.next_code().unwrap(),
                    _ => return vec![0x69, 0x85],
                };
                let code: u32 = code.expose().parse().unwrap();
                [&[0x76, 5, 6], code.to_be_bytes().as_slice()].concat()
            }
            _ => return vec![0x6d, 0],
        };
        [content.as_slice(), &[0x90, 0]].concat()
    }
}
