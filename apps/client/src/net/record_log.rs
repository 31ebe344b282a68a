//! `--gnutls-debug`: the TLS records of a connection's HTTP phase, on standard error.

use std::collections::VecDeque;

use crate::prompt::Console;

/// Octets of a record's header.
const HEADER_LEN: usize = 5;

/// Follows the records of one direction.
#[derive(Debug, Default)]
struct Direction {
    header: Vec<u8>,
    /// Octets of the present record that are still to come.
    body_left: usize,
    /// Begin of the body, for the name of a handshake message.
    described: bool,
    encrypted: bool,
}

/// What passes in both directions.
#[derive(Debug)]
pub(super) struct RecordLog {
    console: Console,
    sent: Direction,
    received: Direction,
}

impl RecordLog {
    /// A log for one connection, if the user wants one.
    pub(super) fn new(console: &Console, level: u32) -> Option<Self> {
        (level > 0).then(|| Self {
            console: console.clone(),
            sent: Direction::default(),
            received: Direction::default(),
        })
    }

    pub(super) fn sent(&mut self, bytes: &[u8]) {
        for line in self.sent.follow(bytes) {
            self.console.write(&format!("TLS > {line}\n"));
        }
    }

    pub(super) fn received(&mut self, bytes: &[u8]) {
        for line in self.received.follow(bytes) {
            self.console.write(&format!("TLS < {line}\n"));
        }
    }
}

impl Direction {
    /// A line for each record that begins in these octets.
    fn follow(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut rest: VecDeque<u8> = bytes.iter().copied().collect();
        while let Some(octet) = rest.front().copied() {
            if self.header.len() < HEADER_LEN {
                self.header.push(octet);
                rest.pop_front();
                if let &[_, _, _, high, low] = self.header.as_slice() {
                    self.body_left = usize::from(u16::from_be_bytes([high, low]));
                    self.described = false;
                }
                if self.header.len() < HEADER_LEN || self.body_left > 0 {
                    continue;
                }
            }
            if !std::mem::replace(&mut self.described, true) {
                lines.push(self.describe(octet));
            }
            let here = self.body_left.min(rest.len());
            rest.drain(..here);
            self.body_left -= here;
            if self.body_left == 0 {
                self.header.clear();
            }
        }
        lines
    }

    /// The present record; `first` is the first octet of its body.
    fn describe(&mut self, first: u8) -> String {
        let &[content_type, major, minor, high, low] = self.header.as_slice() else {
            return String::new();
        };
        let len = u16::from_be_bytes([high, low]);
        let name = match content_type {
            20 => "change_cipher_spec",
            21 => "alert",
            22 => "handshake",
            23 => "application_data",
            _ => "unknown",
        };
        let message = match (content_type, first) {
            (22, _) if self.encrypted => ", encrypted",
            (22, 0) => ", HelloRequest",
            (22, 1) => ", ClientHello",
            (22, 2) => ", ServerHello",
            (22, 4) => ", NewSessionTicket",
            (22, 11) => ", Certificate",
            (22, 12) => ", ServerKeyExchange",
            (22, 13) => ", CertificateRequest",
            (22, 14) => ", ServerHelloDone",
            (22, 15) => ", CertificateVerify",
            (22, 16) => ", ClientKeyExchange",
            _ => "",
        };
        self.encrypted |= content_type == 20;
        format!("{name} (version {major}.{minor}, {len} octets{message})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_in_pieces() {
        let bytes = [
            &[22, 3, 1, 0, 3, 1, 0, 0][..],
            &[20, 3, 3, 0, 1, 1],
            &[22, 3, 3, 0, 2, 9, 9],
        ]
        .concat();
        let mut whole = Direction::default();
        let lines = whole.follow(&bytes);
        assert_eq!(
            lines,
            [
                "handshake (version 3.1, 3 octets, ClientHello)",
                "change_cipher_spec (version 3.3, 1 octets)",
                "handshake (version 3.3, 2 octets, encrypted)",
            ]
        );
        let mut pieces = Direction::default();
        let by_octet: Vec<String> = bytes.chunks(1).flat_map(|octet| pieces.follow(octet)).collect();
        assert_eq!(by_octet, lines);
    }

    proptest! {
        #[test]
        fn anything_ends(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut direction = Direction::default();
            prop_assert!(direction.follow(&bytes).len() <= bytes.len());
        }
    }
}
