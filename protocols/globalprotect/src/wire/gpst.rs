//! Frames of the TLS tunnel (`specs/globalprotect.md` §11).

/// Octets of a frame's header.
pub const FRAME_HEADER_LEN: usize = 16;
/// Longest payload of a frame that is accepted, in octets: no client takes more.
pub const FRAME_PAYLOAD_MAX: usize = 16384;

const MAGIC: [u8; 4] = [0x1a, 0x2b, 0x3c, 0x4d];
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const KEEPALIVE: [u8; 2] = [0, 0];

/// Header of a frame that carries this packet; of a keepalive when it is empty. `None` above
/// 65535 octets.
pub fn frame_header(packet: &[u8]) -> Option<[u8; FRAME_HEADER_LEN]> {
    let mut header = [0; FRAME_HEADER_LEN];
    let (ethertype, flag) = match packet.first() {
        None => (KEEPALIVE, 0),
        Some(octet) if octet >> 4 == 6 => (IPV6, 1),
        Some(_) => (IPV4, 1),
    };
    let [length_high, length_low] = u16::try_from(packet.len()).ok()?.to_be_bytes();
    let ([m0, m1, m2, m3], [e0, e1]) = (MAGIC, ethertype);
    let start = [m0, m1, m2, m3, e0, e1, length_high, length_low, flag];
    header.iter_mut().zip(start).for_each(|(to, octet)| *to = octet);
    Some(header)
}

/// Reads a frame's header: whether it is a packet, and the payload's length. The flags mean
/// nothing. `None`: not a header, or a payload above [`FRAME_PAYLOAD_MAX`].
pub fn parse_frame_header(header: &[u8]) -> Option<(bool, usize)> {
    let (magic, rest) = header.split_first_chunk::<4>()?;
    let (ethertype, rest) = rest.split_first_chunk::<2>()?;
    let (length, _flags) = rest.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    if *magic != MAGIC || length > FRAME_PAYLOAD_MAX {
        return None;
    }
    match *ethertype {
        IPV4 | IPV6 => Some((length > 0, length)),
        KEEPALIVE => Some((false, length)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;

    /// What becomes of the frames in a stream.
    fn read(mut stream: &[u8]) -> Result<Vec<Vec<u8>>, ()> {
        let mut packets = Vec::new();
        while let Some((header, rest)) = stream.split_at_checked(FRAME_HEADER_LEN) {
            let (is_packet, len) = parse_frame_header(header).ok_or(())?;
            let Some((payload, rest)) = rest.split_at_checked(len) else {
                break;
            };
            if is_packet {
                packets.push(payload.to_vec());
            }
            stream = rest;
        }
        Ok(packets)
    }

    #[test]
    fn vectors() {
        let text = include_str!("../../tests/vectors/gpst-frames.txt");
        let mut seen = 0;
        for block in text.split("\n\n").filter(|block| block.starts_with("name")) {
            seen += 1;
            let lines = |key: &str| -> Vec<String> {
                block
                    .lines()
                    .filter_map(|line| line.strip_prefix(key)?.strip_prefix(" = ").map(str::to_owned))
                    .collect()
            };
            let stream = HEXLOWER.decode(lines("record").concat().as_bytes()).unwrap();
            let packets = read(&stream);
            match lines("name")[0].as_str() {
                "IPv4 data" | "data with flags 00" | "one frame in two records" => {
                    assert_eq!(packets.unwrap().len(), 1, "{block}")
                }
                "IPv6 data" => {
                    let packets = packets.unwrap();
                    assert_eq!(frame_header(&packets[0]).unwrap(), stream[..16]);
                }
                "two frames in one record" => assert_eq!(packets.unwrap().len(), 2),
                "wrong magic" | "unknown ethertype 0806" => assert_eq!(packets, Err(())),
                // Keepalives, an empty packet, and what waits for the rest of a frame.
                _ => assert_eq!(packets, Ok(Vec::new()), "{block}"),
            }
        }
        assert!(seen >= 13, "{seen}");
        assert_eq!(
            HEXLOWER.encode(&frame_header(&[]).unwrap()),
            "1a2b3c4d000000000000000000000000"
        );
    }

    proptest! {
        #[test]
        fn never_panics(header in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse_frame_header(&header);
        }

        #[test]
        fn round_trip(packet in prop::collection::vec(any::<u8>(), 0..2000)) {
            let header = frame_header(&packet).unwrap();
            prop_assert_eq!(parse_frame_header(&header), Some((!packet.is_empty(), packet.len())));
        }
    }
}
