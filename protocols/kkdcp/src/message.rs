//! `KDC-PROXY-MESSAGE ::= SEQUENCE { kerb-message [0] OCTET STRING, target-domain [1]
//! GeneralString OPTIONAL, dclocator-hint [2] INTEGER OPTIONAL }` in DER, and what is in it: a
//! Kerberos message with its length before it (RFC 4120 §7.2.2).

use culvert_wire::der::{GENERAL_STRING, INTEGER, OCTET_STRING, SEQUENCE, element};

/// Longest Kerberos message, in octets.
pub const MESSAGE_MAX: usize = 65536;
/// Longest name of a realm, in octets.
const REALM_MAX: usize = 127;

/// `[0]`, `[1]`, `[2]`, constructed.
const FIELDS: [u8; 3] = [0xa0, 0xa1, 0xa2];
/// `AS-REQ`, `TGS-REQ`: the application tags 10 and 12.
const REQUESTS: [u8; 2] = [0x6a, 0x6c];
/// `KRB-ERROR`, application tag 30.
const ERROR: u8 = 0x7e;
/// `error-code [6] INTEGER` KRB_ERR_RESPONSE_TOO_BIG.
const TOO_BIG: [u8; 5] = [0xa6, 3, INTEGER, 1, 52];

/// What is no request for a KDC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// Not the structure above, or not in DER.
    #[error("DER decoding error")]
    Encoding,
    /// The Kerberos message is no request for a ticket.
    #[error("this kind of message is not forwarded")]
    Kind,
}

/// What a client wants to have carried to a KDC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyMessage<'a> {
    /// The Kerberos message, an AS-REQ or a TGS-REQ, without its length.
    pub message: &'a [u8],
    /// Name of the realm, if the client gives it.
    pub realm: Option<&'a str>,
}

impl<'a> ProxyMessage<'a> {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// See [`BadMessage`].
    pub fn parse(body: &'a [u8]) -> Result<Self, BadMessage> {
        Self::read(body)
            .ok_or(BadMessage::Encoding)
            .and_then(|this| is_allowed(this.message).then_some(this).ok_or(BadMessage::Kind))
    }

    fn read(body: &'a [u8]) -> Option<Self> {
        let mut all = Reader(body);
        let mut sequence = Reader(all.take(SEQUENCE)?);
        let framed = Reader(sequence.take(FIELDS[0])?).only(OCTET_STRING)?;
        let realm = match sequence.next_is(FIELDS[1]) {
            true => Some(Reader(sequence.take(FIELDS[1])?).only(GENERAL_STRING)?),
            false => None,
        };
        if sequence.next_is(FIELDS[2]) {
            Reader(sequence.take(FIELDS[2])?).only(INTEGER)?;
        }
        let (length, message) = framed.split_first_chunk::<4>()?;
        let whole = u32::from_be_bytes(*length) as usize == message.len();
        let realm = match realm {
            Some(realm) => Some(std::str::from_utf8(realm).ok().filter(|realm| is_realm(realm))?),
            None => None,
        };
        (all.0.is_empty() && sequence.0.is_empty() && whole && message.len() <= MESSAGE_MAX)
            .then_some(Self { message, realm })
    }
}

fn is_realm(text: &str) -> bool {
    (1..=REALM_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// True for what is forwarded to a KDC: requests for tickets.
pub fn is_allowed(message: &[u8]) -> bool {
    message.len() <= MESSAGE_MAX && message.first().is_some_and(|tag| REQUESTS.contains(tag))
}

/// True for the answer of a KDC that has more to say than fits a datagram.
pub fn is_too_big(reply: &[u8]) -> bool {
    reply.first() == Some(&ERROR) && reply.windows(TOO_BIG.len()).any(|window| window == TOO_BIG)
}

/// The body of the response that carries a KDC's message, given without its length.
pub fn encode_reply(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let framed = [&length.to_be_bytes()[..], message].concat();
    element(SEQUENCE, &element(FIELDS[0], &element(OCTET_STRING, &framed)))
}

/// Elements of DER, one after the other.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn next_is(&self, tag: u8) -> bool {
        self.0.first() == Some(&tag)
    }

    /// The content of the next element, which has this tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (length, rest) = match self.0 {
            [found, ..] if *found != tag => return None,
            [_, short @ 0..=0x7f, rest @ ..] => (usize::from(*short), rest),
            [_, 0x81, length @ 0x80..=0xff, rest @ ..] => (usize::from(*length), rest),
            [_, 0x82, high @ 1..=0xff, low, rest @ ..] => {
                (usize::from(u16::from_be_bytes([*high, *low])), rest)
            }
            [_, 0x83, high @ 1..=0xff, middle, low, rest @ ..] => {
                let length = u32::from_be_bytes([0, *high, *middle, *low]);
                (length as usize, rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(content)
    }

    /// The content of the only element, which has this tag.
    fn only(mut self, tag: u8) -> Option<&'a [u8]> {
        let content = self.take(tag)?;
        self.0.is_empty().then_some(content)
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER_PERMISSIVE;
    use proptest::prelude::*;

    use super::*;

    fn vector(text: &str) -> Vec<u8> {
        HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).unwrap()
    }

    fn request() -> Vec<u8> {
        vector(include_str!("../tests/vectors/kkdcp-request.hex"))
    }

    #[test]
    fn captured_request() {
        let body = request();
        let parsed = ProxyMessage::parse(&body).unwrap();
        assert_eq!((parsed.message.len(), parsed.realm), (0xb8, Some("SATEST.REALM")));
        assert_eq!(parsed.message[0], 0x6a);
        let with_hint = [
            &[SEQUENCE, 0x81, body[2] + 5][..],
            &body[3..],
            &[0xa2, 3, INTEGER, 1, 0],
        ];
        assert_eq!(ProxyMessage::parse(&with_hint.concat()), Ok(parsed));
    }

    #[test]
    fn captured_reply() {
        let body = vector(include_str!("../tests/vectors/kkdcp-reply.hex"));
        let start = body.len() - 0x31f;
        assert_eq!(encode_reply(&body[start..]), body);
        assert!(!is_too_big(&body[start..]));
        assert!(is_too_big(&[&[ERROR, 9][..], &TOO_BIG, &[1]].concat()));
    }

    #[test]
    fn requests_that_are_none() {
        let good = request();
        let changed = |position: usize, octet: u8| {
            let mut body = good.clone();
            body[position] = octet;
            body
        };
        let framed = |message: &[u8]| encode_reply(message);
        for body in [
            vec![],
            vec![0x30, 0x80, 0, 0],
            good[..good.len() - 1].to_vec(),
            [&good[..], &[0]].concat(),
            // Indefinite length, a length that is longer than it has to be, another length within.
            changed(1, 0x80),
            changed(2, 0xd1),
            changed(12, 0xb7),
            changed(5, 0xc0),
            // A realm with a zero, another tag of the realm.
            changed(good.len() - 1, 0),
            changed(good.len() - 14, 0x0c),
        ] {
            assert_eq!(ProxyMessage::parse(&body), Err(BadMessage::Encoding), "{body:x?}");
        }
        // A change of password (AP-REQ in a length of its own), an empty message.
        for message in [&[0x6e, 0][..], &[0, 4], &[], &[0x6b; 70]] {
            assert_eq!(ProxyMessage::parse(&framed(message)), Err(BadMessage::Kind));
        }
        let large = framed(&vec![0x6a; MESSAGE_MAX + 1]);
        assert_eq!(ProxyMessage::parse(&large), Err(BadMessage::Encoding));
        let largest = framed(&vec![0x6a; MESSAGE_MAX]);
        assert!(ProxyMessage::parse(&largest).is_ok());
    }

    proptest! {
        #[test]
        fn never_panics(body in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = ProxyMessage::parse(&body);
        }

        #[test]
        fn changed_octets(position in 0usize..213, octet in any::<u8>()) {
            let mut body = request();
            body[position] = octet;
            if let Ok(parsed) = ProxyMessage::parse(&body) {
                prop_assert!(parsed.message.len() == 0xb8);
            }
        }

        #[test]
        fn what_is_written_is_read(message in prop::collection::vec(any::<u8>(), 0..70000)) {
            let message = [&[0x6c][..], &message].concat();
            let body = encode_reply(&message);
            match message.len() <= MESSAGE_MAX {
                true => prop_assert_eq!(ProxyMessage::parse(&body).unwrap().message, &message),
                false => prop_assert!(ProxyMessage::parse(&body).is_err()),
            }
        }
    }
}
