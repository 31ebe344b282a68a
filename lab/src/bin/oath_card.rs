//! A YubiKey with one time-based credential, `lab:alice`, in the virtual reader of `pcscd`: connects
//! to the reader's port on the same host. Argument: the key in hexadecimal digits.

#![allow(clippy::unwrap_used)]

use std::io::{self, Read, Write};
use std::net::TcpStream;

use culvert_token::{Mode, Oath};

/// Where the virtual reader waits for a card.
const READER: (&str, u16) = ("127.0.0.1", 35963);
const NAME: &[u8] = b"lab:alice";
/// Answer to reset of a YubiKey 4; speaks T=1.
const ATR: &[u8] = b"\x3b\xf8\x13\x00\x00\x81\x31\xfe\x15\x59\x75\x62\x69\x6b\x65\x79\x34\xd4";

fn main() -> io::Result<()> {
    let key = std::env::args().nth(1).unwrap();
    let token = Oath::parse(Mode::Totp, &format!("0x{key}")).unwrap();
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
            command => answer(command, &token),
        };
        let len = u16::try_from(answer.len()).unwrap().to_be_bytes();
        reader.write_all(&[&len, answer.as_slice()].concat())?;
    }
}

/// The applet's answer to a command, with its status.
fn answer(command: &[u8], token: &Oath) -> Vec<u8> {
    let content = match command {
        [0, 0xa4, 4, 0, 7, 0xa0, 0, 0, 5, 0x27, 0x21, 1, ..] => {
            b"\x79\x03\x05\x04\x03\x71\x08\x01\x02\x03\x04\x05\x06\x07\x08".to_vec()
        }
        [0, 0xa4, ..] => return vec![0x6a, 0x82],
        [0, 0xa1, ..] => [&[0x72, 1 + NAME.len() as u8, 0x21], NAME].concat(),
        [0, 0xa2, 0, 1, _, 0x71, len, rest @ ..] => {
            let (name, challenge) = rest.split_at((*len).into());
            assert_eq!((name, &challenge[..2]), (NAME, &[0x74, 8][..]));
            let step = u64::from_be_bytes(challenge[2..10].try_into().unwrap());
            let code: u32 = token.code_at(step * token.period()).expose().parse().unwrap();
            [&[0x76, 5, 6], code.to_be_bytes().as_slice()].concat()
        }
        _ => return vec![0x6d, 0],
    };
    [content.as_slice(), &[0x90, 0]].concat()
}
