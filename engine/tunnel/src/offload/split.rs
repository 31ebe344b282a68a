//! Cutting super-packets.

use super::OffloadError;
use super::checksum::Sum;
use super::packet::{Layout, TCP, TCP_CHECKSUM, UDP, UDP_CHECKSUM, UDP_HEADER_LEN, long, put, word};
use super::vnet::{Segmentation, VnetHeader};

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// Cuts one packet of the device into the packets that go over the wire, with complete
/// checksums. Segments are written straight to where they are sealed.
#[derive(Debug)]
pub struct Splitter<'a> {
    packet: &'a [u8],
    kind: Kind,
    /// Octets of all headers, which every segment repeats.
    header_len: usize,
    /// Octets of payload per segment.
    size: usize,
    /// Octets of payload written so far.
    done: usize,
    /// Segments written so far.
    count: u16,
    finished: bool,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Whole,
    Tcp(Layout),
    Udp(Layout),
}

impl<'a> Splitter<'a> {
    /// Looks at a packet; a partial checksum of an unsegmented packet is completed in place.
    ///
    /// # Errors
    /// The headers contradict the packet.
    pub fn new(header: VnetHeader, packet: &'a mut [u8]) -> Result<Self, OffloadError> {
        let (kind, header_len, size) = match header.segmentation {
            Segmentation::None => {
                if let Some(position) = header.partial_checksum {
                    complete_checksum(packet, position)?;
                }
                (Kind::Whole, 0, packet.len())
            }
            Segmentation::Tcp { size } => {
                let layout = Layout::parse(packet).filter(|layout| layout.protocol == TCP);
                let layout = layout.ok_or(OffloadError::Malformed)?;
                let tcp_len = layout.tcp_header_len(packet).ok_or(OffloadError::Malformed)?;
                (Kind::Tcp(layout), layout.transport + tcp_len, usize::from(size))
            }
            Segmentation::Udp { size } => {
                let layout = Layout::parse(packet).filter(|layout| layout.protocol == UDP);
                let layout = layout.ok_or(OffloadError::Malformed)?;
                (
                    Kind::Udp(layout),
                    layout.transport + UDP_HEADER_LEN,
                    usize::from(size),
                )
            }
        };
        if packet.len() < header_len || size == 0 {
            return Err(OffloadError::Malformed);
        }
        Ok(Self {
            packet,
            kind,
            header_len,
            size,
            done: 0,
            count: 0,
            finished: packet.is_empty(),
        })
    }

    /// The packet as the device delivered it.
    pub fn packet(&self) -> &[u8] {
        self.packet
    }

    /// Length of the next segment; `None` when all are written.
    pub fn next_len(&self) -> Option<usize> {
        let left = self.packet.len() - self.header_len - self.done;
        (!self.finished).then(|| self.header_len + left.min(self.size))
    }

    /// Writes the next segment to the start of `out` and returns its length; `None` when all
    /// are written. `out` must have [`Self::next_len`] octets, or the segment is lost.
    pub fn write_next(&mut self, out: &mut [u8]) -> Option<usize> {
        let len = self.next_len()?;
        let payload_len = len - self.header_len;
        let payload_start = self.header_len + self.done;
        let first = self.count == 0;
        let index = self.count;
        let offset = self.done;
        self.done += payload_len;
        self.count = self.count.wrapping_add(1);
        self.finished = self.header_len + self.done >= self.packet.len();

        let out = out.get_mut(..len)?;
        let (header, payload) = out.split_at_mut(self.header_len);
        header.copy_from_slice(&self.packet[..self.header_len]);
        payload.copy_from_slice(&self.packet[payload_start..payload_start + payload_len]);
        match self.kind {
            Kind::Whole => {}
            Kind::Tcp(layout) => {
                let tcp = layout.transport;
                let sequence = long(self.packet, tcp + 4).wrapping_add(offset as u32);
                out[tcp + 4..tcp + 8].copy_from_slice(&sequence.to_be_bytes());
                if !first {
                    out[tcp + 13] &= !CWR;
                }
                if !self.finished {
                    out[tcp + 13] &= !(FIN | PSH);
                }
                finish_segment(
                    &layout,
                    out,
                    word(self.packet, 4).wrapping_add(index),
                    TCP_CHECKSUM,
                );
            }
            Kind::Udp(layout) => {
                put(out, layout.transport + 4, (UDP_HEADER_LEN + payload_len) as u16);
                finish_segment(
                    &layout,
                    out,
                    word(self.packet, 4).wrapping_add(index),
                    UDP_CHECKSUM,
                );
                if word(out, layout.transport + UDP_CHECKSUM) == 0 {
                    // Zero would mean "no checksum" (RFC 768).
                    put(out, layout.transport + UDP_CHECKSUM, 0xffff);
                }
            }
        }
        Some(len)
    }
}

fn finish_segment(layout: &Layout, segment: &mut [u8], identification: u16, checksum_field: usize) {
    layout.set_ip_length(segment, Some(identification));
    put(segment, layout.transport + checksum_field, 0);
    let transport = segment.get(layout.transport..).unwrap_or_default();
    let checksum = layout
        .pseudo_header(segment, transport.len())
        .bytes(transport)
        .finish();
    put(segment, layout.transport + checksum_field, checksum);
}

/// The checksum field holds the sum of the pseudo-header; what follows is added.
fn complete_checksum(packet: &mut [u8], (start, offset): (u16, u16)) -> Result<(), OffloadError> {
    let start = usize::from(start);
    let field = start + usize::from(offset);
    if packet.len() < field + 2 {
        return Err(OffloadError::Malformed);
    }
    let checksum = Sum::default().bytes(&packet[start..]).finish();
    let is_udp = usize::from(offset) == UDP_CHECKSUM;
    put(
        packet,
        field,
        if checksum == 0 && is_udp { 0xffff } else { checksum },
    );
    Ok(())
}
