//! Joining runs of received packets into super-packets.

use std::io::IoSlice;
use std::ops::Range;

use super::checksum::Sum;
use super::packet::{Layout, TCP, TCP_CHECKSUM, UDP, UDP_CHECKSUM, UDP_HEADER_LEN, long, put, word};
use super::vnet::{HEADER_LEN, Segmentation, VnetHeader};

/// Most packets in one super-packet.
const SEGMENTS_MAX: usize = 64;
/// Most packets that a [`Coalescer`] holds; flush it then.
pub const PACKETS_MAX: usize = 128;
/// Longest IP packet.
const LENGTH_MAX: usize = 65_535;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const URG: u8 = 0x20;
const CWR: u8 = 0x80;

/// Collects the packets of one receive pass, which stay where they were received, and joins
/// those that continue each other. Packets of one flow keep their order.
#[derive(Debug)]
pub struct Coalescer {
    segments: Vec<Segment>,
    runs: Vec<Run>,
    /// Runs before this index are closed.
    barrier: usize,
    tcp: bool,
    udp: bool,
}

/// One (super-)packet ready for the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    /// Packets that it stands for.
    pub packets: usize,
    /// Octets of these packets.
    pub octets: usize,
}

#[derive(Debug, Clone)]
struct Segment {
    packet: Range<usize>,
    /// Octets of headers.
    header_len: usize,
    /// Index of the next segment of the same run.
    next: Option<usize>,
}

#[derive(Debug, Clone)]
struct Run {
    /// The flow; `None` for packets that are never joined.
    flow: Option<Flow>,
    first: usize,
    last: usize,
    count: usize,
    /// Payload of the first packet, and of every other but the last.
    size: usize,
    /// Octets of all payloads.
    payload: usize,
    /// Nothing may be appended any more.
    closed: bool,
    /// The first packet's checksums were found right.
    verified: bool,
}

/// How a packet relates to others.
enum Class {
    /// It may be joined with others of its flow.
    Joinable(Flow),
    /// It is of a protocol that is never joined.
    Alone,
    /// It belongs to a flow that cannot be told (fragments and the like): nothing that comes
    /// later may overtake it.
    Barrier,
}

/// A parsed packet that may belong to a run.
#[derive(Debug, Clone)]
struct Flow {
    layout: Layout,
    /// Addresses and ports, mixed: different values mean different flows.
    hash: u64,
    header_len: usize,
}

impl Coalescer {
    /// `tcp` and `udp` say which kinds of super-packets the device takes.
    pub fn new(tcp: bool, udp: bool) -> Self {
        Self {
            segments: Vec::with_capacity(PACKETS_MAX),
            runs: Vec::with_capacity(PACKETS_MAX),
            barrier: 0,
            tcp,
            udp,
        }
    }

    /// Changes which kinds of super-packets are made.
    pub fn set_kinds(&mut self, tcp: bool, udp: bool) {
        (self.tcp, self.udp) = (tcp, udp);
    }

    /// True when no more packets should be added before a flush.
    pub fn is_full(&self) -> bool {
        self.segments.len() >= PACKETS_MAX
    }

    /// Adds the packet at `packet` of `buffer`; empty or impossible ranges are ignored.
    pub fn push(&mut self, buffer: &[u8], packet: Range<usize>) {
        let Some(bytes) = buffer.get(packet.clone()).filter(|bytes| !bytes.is_empty()) else {
            return;
        };
        let index = self.segments.len();
        let class = self.classify(bytes);
        let header_len = if let Class::Joinable(flow) = &class {
            flow.header_len
        } else {
            0
        };
        self.segments.push(Segment {
            packet,
            header_len,
            next: None,
        });
        let Class::Joinable(flow) = class else {
            self.runs.push(Run::new(None, index, 0, true));
            if matches!(class, Class::Barrier) {
                self.barrier = self.runs.len();
            }
            return;
        };
        let open = self.runs.get_mut(self.barrier..).unwrap_or_default();
        let same_flow = open.iter_mut().rev().find(|run| {
            run.flow.as_ref().is_some_and(|other| other.hash == flow.hash) && {
                let first = &self.segments[run.first];
                run.flow
                    .as_ref()
                    .is_some_and(|other| other.same(&flow, &buffer[first.packet.clone()], bytes))
            }
        });
        if let Some(run) = same_flow {
            if run.accepts(&self.segments, buffer, &flow, bytes) {
                self.segments[run.last].next = Some(index);
                run.append(index, &flow, bytes);
                return;
            }
            run.closed = true;
        }
        let payload = bytes.len() - flow.header_len;
        let closed = !flow.may_start(bytes);
        self.runs.push(Run::new(Some(flow), index, payload, closed));
    }

    /// Hands every (super-)packet, in order, to `write` as a vnet header and the parts of the
    /// packet, then forgets them all.
    pub fn flush(&mut self, buffer: &mut [u8], mut write: impl FnMut(Joined, &[IoSlice<'_>])) {
        for run in &self.runs {
            let header = run.finish(&self.segments, buffer);
            // The usual case of small packets, without the long list of parts.
            if run.count == 1
                && let Some(packet) = self.segments.get(run.first).map(|first| &first.packet)
            {
                let joined = Joined {
                    packets: 1,
                    octets: packet.len(),
                };
                let packet = buffer.get(packet.clone()).unwrap_or_default();
                write(joined, &[IoSlice::new(&header), IoSlice::new(packet)]);
                continue;
            }
            let mut parts = [IoSlice::new(&[]); SEGMENTS_MAX + 1];
            parts[0] = IoSlice::new(&header);
            let (mut count, mut octets, mut next) = (1, 0, Some(run.first));
            while let Some(segment) = next.and_then(|index| self.segments.get(index)) {
                octets += segment.packet.len();
                let skip = if count == 1 { 0 } else { segment.header_len };
                let part = buffer.get(segment.packet.start + skip..segment.packet.end);
                parts[count] = IoSlice::new(part.unwrap_or_default());
                count += 1;
                next = segment.next;
            }
            write(
                Joined {
                    packets: run.count,
                    octets,
                },
                &parts[..count],
            );
        }
        self.runs.clear();
        self.segments.clear();
        self.barrier = 0;
    }

    fn classify(&self, packet: &[u8]) -> Class {
        let Some(layout) = Layout::parse(packet) else {
            return Class::Barrier;
        };
        if !(layout.protocol == TCP && self.tcp || layout.protocol == UDP && self.udp) {
            return Class::Alone;
        }
        Flow::parse(layout, packet).map_or(Class::Barrier, Class::Joinable)
    }
}

impl Flow {
    /// `None` for packets with IP options, cut off or with octets behind their end.
    fn parse(layout: Layout, packet: &[u8]) -> Option<Self> {
        let told = if layout.ipv6 {
            40 + usize::from(word(packet, 4))
        } else {
            usize::from(word(packet, 2))
        };
        if layout.options || told != packet.len() {
            return None;
        }
        let header_len = match layout.protocol {
            TCP => layout.transport + layout.tcp_header_len(packet)?,
            _ => layout.transport + UDP_HEADER_LEN,
        };
        if packet.len() < header_len {
            return None;
        }
        let mut hash = u64::from(layout.protocol) ^ u64::from(long(packet, layout.transport));
        let addresses = if layout.ipv6 { 8..40 } else { 12..20 };
        for octets in packet.get(addresses)?.chunks_exact(8) {
            let part = octets
                .iter()
                .fold(0, |value, octet| value << 8 | u64::from(*octet));
            hash = (hash.rotate_left(23) ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        Some(Self {
            layout,
            hash,
            header_len,
        })
    }

    /// True when both packets have the same protocol, addresses and ports.
    fn same(&self, other: &Self, own: &[u8], others: &[u8]) -> bool {
        let addresses = if self.layout.ipv6 { 8..40 } else { 12..20 };
        let ports = self.layout.transport..self.layout.transport + 4;
        self.layout == other.layout
            && own.get(addresses.clone()) == others.get(addresses)
            && own.get(ports.clone()) == others.get(ports)
    }

    /// True when other packets may be appended to this one.
    fn may_start(&self, packet: &[u8]) -> bool {
        let payload = packet.len() > self.header_len;
        match self.layout.protocol {
            TCP => payload && self.tcp_flags(packet) & (FIN | SYN | RST | PSH | URG | CWR) == 0,
            _ => payload && self.udp_is_whole(packet),
        }
    }

    fn tcp_flags(&self, packet: &[u8]) -> u8 {
        packet.get(self.layout.transport + 13).copied().unwrap_or(0)
    }

    /// A UDP datagram with a checksum that fills its IP packet.
    fn udp_is_whole(&self, packet: &[u8]) -> bool {
        usize::from(word(packet, self.layout.transport + 4)) == packet.len() - self.layout.transport
            && word(packet, self.layout.transport + UDP_CHECKSUM) != 0
    }

    /// True when IP header and transport checksum are right.
    fn verify(&self, packet: &[u8]) -> bool {
        let ip_header = || Sum::default().bytes(packet.get(..self.layout.transport).unwrap_or_default());
        (self.layout.ipv6 || ip_header().fold() == 0xffff) && self.layout.checksum_is_right(packet)
    }

    /// True when `packet` differs from the run's `first` packet only where the segments of a
    /// super-packet may differ. `index` is its place in the run.
    fn headers_match(&self, first: &[u8], packet: &[u8], index: usize) -> bool {
        let ip_matches = if self.layout.ipv6 {
            first.get(..4) == packet.get(..4) && first.get(6..8) == packet.get(6..8)
        } else {
            let same = first.get(..2) == packet.get(..2) && first.get(6..10) == packet.get(6..10);
            let unfragmentable = word(packet, 6) & 0x4000 != 0;
            let distance = word(packet, 4).wrapping_sub(word(first, 4));
            same && (usize::from(distance) == index || (unfragmentable && distance == 0))
        };
        if self.layout.protocol != TCP || !ip_matches {
            return ip_matches;
        }
        let tcp = self.layout.transport;
        let flags = |packet| self.tcp_flags(packet) & !(FIN | PSH);
        // Acknowledgement, header length and reserved bits, window, urgent pointer, options.
        first.get(tcp + 8..tcp + 13) == packet.get(tcp + 8..tcp + 13)
            && flags(first) == flags(packet)
            && first.get(tcp + 14..tcp + 16) == packet.get(tcp + 14..tcp + 16)
            && first.get(tcp + 18..self.header_len) == packet.get(tcp + 18..self.header_len)
    }
}

impl Run {
    fn new(flow: Option<Flow>, index: usize, size: usize, closed: bool) -> Self {
        Self {
            flow,
            first: index,
            last: index,
            count: 1,
            size,
            payload: size,
            closed,
            verified: false,
        }
    }

    /// True when `packet` continues this run. Checks the cheap things first.
    fn accepts(&mut self, segments: &[Segment], buffer: &[u8], flow: &Flow, packet: &[u8]) -> bool {
        let payload = packet.len() - flow.header_len;
        let fits = payload > 0
            && payload <= self.size
            && self.count < SEGMENTS_MAX
            && flow.header_len + self.payload + payload <= LENGTH_MAX;
        if self.closed || !fits {
            return false;
        }
        let Some(first) = segments
            .get(self.first)
            .and_then(|first| buffer.get(first.packet.clone()))
        else {
            return false;
        };
        let continues = match flow.layout.protocol {
            TCP => {
                let tcp = flow.layout.transport;
                let expected = long(first, tcp + 4).wrapping_add(self.payload as u32);
                let plain = flow.tcp_flags(packet) & (SYN | RST | URG | CWR) == 0;
                plain && self.header_len() == flow.header_len && long(packet, tcp + 4) == expected
            }
            _ => flow.udp_is_whole(packet),
        };
        if !continues || !flow.headers_match(first, packet, self.count) || !flow.verify(packet) {
            return false;
        }
        self.verified = self.verified || flow.verify(first);
        self.verified
    }

    fn append(&mut self, index: usize, flow: &Flow, packet: &[u8]) {
        let payload = packet.len() - flow.header_len;
        self.last = index;
        self.count += 1;
        self.payload += payload;
        let pushed = flow.layout.protocol == TCP && flow.tcp_flags(packet) & (FIN | PSH) != 0;
        self.closed = payload < self.size || pushed;
    }

    fn header_len(&self) -> usize {
        self.flow.as_ref().map_or(0, |flow| flow.header_len)
    }

    /// Turns the first packet's headers into those of the super-packet and returns the vnet
    /// header.
    fn finish(&self, segments: &[Segment], buffer: &mut [u8]) -> [u8; HEADER_LEN] {
        let plain = VnetHeader::PLAIN.to_bytes(false, 0);
        let (Some(flow), Some(first), Some(last)) =
            (&self.flow, segments.get(self.first), segments.get(self.last))
        else {
            return plain;
        };
        if self.count < 2 {
            return plain;
        }
        let layout = &flow.layout;
        let last_flags = buffer
            .get(last.packet.clone())
            .map_or(0, |packet| flow.tcp_flags(packet));
        let Some(header) = buffer.get_mut(first.packet.start..first.packet.start + flow.header_len) else {
            return plain;
        };
        let total = flow.header_len + self.payload;
        let transport_len = total - layout.transport;
        if layout.ipv6 {
            put(header, 4, (total - 40) as u16);
        } else {
            put(header, 2, total as u16);
            put(header, 10, 0);
            let checksum = Sum::default()
                .bytes(header.get(..layout.transport).unwrap_or_default())
                .finish();
            put(header, 10, checksum);
        }
        let size = self.size as u16;
        let (segmentation, checksum_field) = if layout.protocol == TCP {
            if let Some(flags) = header.get_mut(layout.transport + 13) {
                *flags |= last_flags & (FIN | PSH);
            }
            (Segmentation::Tcp { size }, TCP_CHECKSUM)
        } else {
            put(header, layout.transport + 4, transport_len as u16);
            (Segmentation::Udp { size }, UDP_CHECKSUM)
        };
        let pseudo = layout.pseudo_header(header, transport_len).fold();
        put(header, layout.transport + checksum_field, pseudo);
        let partial_checksum = Some((layout.transport as u16, checksum_field as u16));
        VnetHeader {
            segmentation,
            partial_checksum,
        }
        .to_bytes(layout.ipv6, flow.header_len as u16)
    }
}
