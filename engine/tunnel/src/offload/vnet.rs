//! `struct virtio_net_hdr`, which precedes every packet of a TUN device with IFF_VNET_HDR.

use super::OffloadError;

/// Octets of the header.
pub const HEADER_LEN: usize = culvert_sys::tun::VNET_HEADER_LEN;

const NEEDS_CHECKSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCP_V4: u8 = 1;
const GSO_TCP_V6: u8 = 4;
const GSO_UDP: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// What the packet after the header stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segmentation {
    /// Itself.
    None,
    /// TCP segments with at most `size` octets of payload.
    Tcp {
        /// Payload of a segment, in octets.
        size: u16,
    },
    /// UDP datagrams with `size` octets of payload, the last possibly less.
    Udp {
        /// Payload of a datagram, in octets.
        size: u16,
    },
}

/// The header, as far as it means something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VnetHeader {
    /// How the packet is to be cut.
    pub segmentation: Segmentation,
    /// Where checksumming starts and where, relative to that, the result goes; `None` when the
    /// checksum is complete.
    pub partial_checksum: Option<(u16, u16)>,
}

impl VnetHeader {
    /// An ordinary packet.
    pub const PLAIN: Self = Self {
        segmentation: Segmentation::None,
        partial_checksum: None,
    };

    /// Reads the header at the start of `bytes`.
    ///
    /// # Errors
    /// Too short, or a segmentation that was not negotiated.
    pub fn parse(bytes: &[u8]) -> Result<Self, OffloadError> {
        let header = bytes.first_chunk::<HEADER_LEN>().ok_or(OffloadError::Malformed)?;
        let [flags, kind, _, _, size @ .., start0, start1, offset0, offset1] = *header;
        let size = u16::from_ne_bytes(size);
        let segmentation = match kind & !GSO_ECN {
            GSO_NONE => Segmentation::None,
            GSO_TCP_V4 | GSO_TCP_V6 => Segmentation::Tcp { size },
            GSO_UDP => Segmentation::Udp { size },
            _ => return Err(OffloadError::Segmentation),
        };
        let partial_checksum = (flags & NEEDS_CHECKSUM != 0).then(|| {
            (
                u16::from_ne_bytes([start0, start1]),
                u16::from_ne_bytes([offset0, offset1]),
            )
        });
        Ok(Self {
            segmentation,
            partial_checksum,
        })
    }

    /// The header's octets for a packet whose headers take `header_len` octets.
    pub fn to_bytes(self, ipv6: bool, header_len: u16) -> [u8; HEADER_LEN] {
        let (kind, size) = match self.segmentation {
            Segmentation::None => (GSO_NONE, 0),
            Segmentation::Tcp { size } if ipv6 => (GSO_TCP_V6, size),
            Segmentation::Tcp { size } => (GSO_TCP_V4, size),
            Segmentation::Udp { size } => (GSO_UDP, size),
        };
        let (flags, (start, offset)) = self
            .partial_checksum
            .map_or((0, (0, 0)), |position| (NEEDS_CHECKSUM, position));
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = flags;
        bytes[1] = kind;
        for (slot, value) in bytes[2..]
            .chunks_exact_mut(2)
            .zip([header_len, size, start, offset])
        {
            slot.copy_from_slice(&value.to_ne_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        for segmentation in [
            Segmentation::None,
            Segmentation::Tcp { size: 1380 },
            Segmentation::Udp { size: 1200 },
        ] {
            for partial_checksum in [None, Some((20, 16)), Some((40, 6))] {
                let header = VnetHeader {
                    segmentation,
                    partial_checksum,
                };
                for ipv6 in [false, true] {
                    assert_eq!(VnetHeader::parse(&header.to_bytes(ipv6, 40)), Ok(header));
                }
            }
        }
    }

    #[test]
    fn unknown_kinds_are_refused() {
        assert_eq!(VnetHeader::parse(&[0; 9]), Err(OffloadError::Malformed));
        assert_eq!(
            VnetHeader::parse(&[0, 3, 0, 0, 0, 0, 0, 0, 0, 0]),
            Err(OffloadError::Segmentation)
        );
    }
}
