//! Frames of the tunnel (`specs/cstp-dtls.md` §4, §12.1, §14): in the TLS channel an eight-octet
//! header, in DTLS only the type octet.

use culvert_record::FrameKind;

/// Length of the header of a CSTP frame, in octets.
pub const FRAME_HEADER_LEN: usize = 8;
/// Longest payload of a CSTP frame that is accepted, in octets.
pub const FRAME_PAYLOAD_MAX: usize = 16384;
/// Longest text of a disconnect frame that is used.
const REASON_MAX: usize = 256;

const MAGIC: [u8; 4] = *b"STF\x01";
const DATA: u8 = 0;
const DPD_REQUEST: u8 = 3;
const DPD_RESPONSE: u8 = 4;
const DISCONNECT: u8 = 5;
const KEEPALIVE: u8 = 7;
const COMPRESSED: u8 = 8;
const TERMINATE: u8 = 9;

/// A client ends its session; the cookie becomes invalid.
const BYE_ENDED: u8 = 0xb0;
/// A client disconnects for now and means to come back.
const BYE_TEMPORARY: u8 = 0x91;

/// Octets that are no CSTP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a CSTP frame")]
pub struct BadFrame;

/// Type octet of a frame.
pub fn type_octet(kind: FrameKind) -> u8 {
    match kind {
        FrameKind::Data => DATA,
        FrameKind::Compressed => COMPRESSED,
        FrameKind::ProbeRequest => DPD_REQUEST,
        FrameKind::ProbeResponse => DPD_RESPONSE,
        FrameKind::Keepalive => KEEPALIVE,
        FrameKind::Disconnect => DISCONNECT,
        FrameKind::Other(octet) => octet,
    }
}

/// Kind of a frame with this type octet. Cisco's TERMINATE (9) is a disconnect, too.
pub fn frame_kind(octet: u8) -> FrameKind {
    match octet {
        DATA => FrameKind::Data,
        COMPRESSED => FrameKind::Compressed,
        DPD_REQUEST => FrameKind::ProbeRequest,
        DPD_RESPONSE => FrameKind::ProbeResponse,
        KEEPALIVE => FrameKind::Keepalive,
        DISCONNECT | TERMINATE => FrameKind::Disconnect,
        other => FrameKind::Other(other),
    }
}

/// Header of a CSTP frame with a payload of `len` octets; `None` above 65535.
pub fn frame_header(kind: FrameKind, len: usize) -> Option<[u8; FRAME_HEADER_LEN]> {
    let [s, t, f, one] = MAGIC;
    let [high, low] = u16::try_from(len).ok()?.to_be_bytes();
    Some([s, t, f, one, high, low, type_octet(kind), 0])
}

/// Reads the header of a CSTP frame: kind and payload length.
///
/// # Errors
/// Wrong magic, a last octet that is not 0, or a payload above [`FRAME_PAYLOAD_MAX`].
pub fn parse_frame_header(header: &[u8; FRAME_HEADER_LEN]) -> Result<(FrameKind, usize), BadFrame> {
    let [s, t, f, one, high, low, octet, zero] = *header;
    let len = usize::from(u16::from_be_bytes([high, low]));
    if [s, t, f, one] != MAGIC || zero != 0 || len > FRAME_PAYLOAD_MAX {
        return Err(BadFrame);
    }
    Ok((frame_kind(octet), len))
}

/// What a disconnect frame means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goodbye {
    /// The client logs out: the session and its cookie end.
    Ended {
        /// Its words, control characters replaced.
        reason: String,
    },
    /// The client means to come back; also the empty frame.
    Temporary,
    /// A code without agreed meaning; ocserv treats it as a protocol error and keeps the cookie.
    Unknown {
        /// The code.
        code: u8,
        /// Its words, control characters replaced.
        reason: String,
    },
}

impl Goodbye {
    /// Reads the payload of a disconnect frame.
    pub fn parse(payload: &[u8]) -> Self {
        let Some((&code, text)) = payload.split_first() else {
            return Self::Temporary;
        };
        let text = text.get(..REASON_MAX).unwrap_or(text);
        let reason: String = String::from_utf8_lossy(text)
            .trim_end_matches('\0')
            .chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .collect();
        match code {
            BYE_ENDED => Self::Ended { reason },
            BYE_TEMPORARY => Self::Temporary,
            code => Self::Unknown { code, reason },
        }
    }
}

/// Payload of the frame with which a client logs out.
pub fn bye_payload(reason: &str) -> Vec<u8> {
    let mut payload = vec![BYE_ENDED];
    payload.extend_from_slice(reason.as_bytes());
    payload
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn captured_frames() {
        let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
        for (kind, payload, frame) in [
            (FrameKind::ProbeRequest, &b""[..], "5354460100000300"),
            (FrameKind::ProbeResponse, b"hello", "535446010005040068656c6c6f"),
            (FrameKind::Keepalive, b"", "5354460100000700"),
            (
                FrameKind::Disconnect,
                &bye_payload("Aborted by caller"),
                "5354460100120500b041626f727465642062792063616c6c6572",
            ),
        ] {
            let mut bytes = frame_header(kind, payload.len()).unwrap().to_vec();
            bytes.extend_from_slice(payload);
            assert_eq!(bytes, hex(frame));
            let header = bytes.first_chunk().unwrap();
            assert_eq!(parse_frame_header(header), Ok((kind, payload.len())));
        }
        for bad in ["5854460100000300", "5354460100000301", "53544601ffff0000"] {
            assert_eq!(parse_frame_header(hex(bad).first_chunk().unwrap()), Err(BadFrame));
        }
        assert_eq!(frame_kind(9), FrameKind::Disconnect);
    }

    #[test]
    fn goodbyes() {
        assert_eq!(Goodbye::parse(b""), Goodbye::Temporary);
        assert_eq!(Goodbye::parse(&[0x91]), Goodbye::Temporary);
        assert_eq!(
            Goodbye::parse(b"\xb0bye\x1b\0"),
            Goodbye::Ended {
                reason: "bye?".into()
            }
        );
        assert_eq!(
            Goodbye::parse(&[0xd1]),
            Goodbye::Unknown {
                code: 0xd1,
                reason: String::new()
            }
        );
    }

    proptest! {
        #[test]
        fn never_panics(bytes: [u8; 8], payload in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse_frame_header(&bytes);
            Goodbye::parse(&payload);
        }

        #[test]
        fn types_survive(octet in any::<u8>()) {
            prop_assert_eq!(type_octet(frame_kind(octet)), if octet == 9 { 5 } else { octet });
        }
    }
}
