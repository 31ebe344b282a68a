//! Packets built the plain way: every field written out, checksums word by word.

/// Everything that a TCP or UDP packet of the tests is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) ipv6: bool,
    pub(crate) flow: u8,
    pub(crate) tos: u8,
    pub(crate) ttl: u8,
    pub(crate) id: u16,
    pub(crate) dont_fragment: bool,
    /// IPv4 options or an IPv6 destination options header, in units of 4 (8) octets.
    pub(crate) ip_options: u8,
    pub(crate) transport: Transport,
    pub(crate) payload: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp {
        sequence: u32,
        ack: u32,
        flags: u8,
        window: u16,
        options: Vec<u8>,
    },
    Udp,
}

impl Packet {
    pub(crate) fn ip_len(&self) -> usize {
        if self.ipv6 {
            40 + usize::from(self.ip_options) * 8
        } else {
            20 + usize::from(self.ip_options) * 4
        }
    }

    /// The packet with complete checksums.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.build(true)
    }

    /// The packet as the kernel hands it over unsegmented: the sum of the pseudo-header in the
    /// checksum field.
    pub(crate) fn partial(&self) -> Vec<u8> {
        self.build(false)
    }

    fn build(&self, complete: bool) -> Vec<u8> {
        let protocol = if matches!(self.transport, Transport::Tcp { .. }) {
            6u8
        } else {
            17
        };
        let mut transport = self.transport_header();
        let field = if protocol == 6 { 16 } else { 6 };
        transport.extend_from_slice(&self.payload);
        let mut pseudo = self.addresses();
        pseudo.extend_from_slice(&(transport.len() as u32).to_be_bytes());
        pseudo.extend_from_slice(&[0, 0, 0, protocol]);
        let sum = if complete {
            let covered = [pseudo, transport.clone()].concat();
            match !ones_sum(&covered) {
                0 if protocol == 17 => 0xffff,
                sum => sum,
            }
        } else {
            ones_sum(&pseudo)
        };
        transport[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        let mut packet = self.ip_header(protocol, transport.len());
        packet.extend_from_slice(&transport);
        packet
    }

    fn transport_header(&self) -> Vec<u8> {
        let mut header = vec![0x12, self.flow, 0x00, 0x50];
        match &self.transport {
            Transport::Tcp {
                sequence,
                ack,
                flags,
                window,
                options,
            } => {
                header.extend_from_slice(&sequence.to_be_bytes());
                header.extend_from_slice(&ack.to_be_bytes());
                header.extend_from_slice(&[((20 + options.len()) / 4) as u8 * 16, *flags]);
                header.extend_from_slice(&window.to_be_bytes());
                header.extend_from_slice(&[0; 4]);
                header.extend_from_slice(options);
            }
            Transport::Udp => {
                header.extend_from_slice(&((8 + self.payload.len()) as u16).to_be_bytes());
                header.extend_from_slice(&[0; 2]);
            }
        }
        header
    }

    fn addresses(&self) -> Vec<u8> {
        let (mut from, mut to) = if self.ipv6 {
            (vec![0xfd; 16], vec![0xfc; 16])
        } else {
            (vec![10, 0, 0, 1], vec![10, 0, 9, 9])
        };
        *from.last_mut().unwrap() = self.flow;
        *to.last_mut().unwrap() = 7;
        [from, to].concat()
    }

    fn ip_header(&self, protocol: u8, rest: usize) -> Vec<u8> {
        let total = self.ip_len() + rest;
        if self.ipv6 {
            let next = if self.ip_options > 0 { 60 } else { protocol };
            let mut header = vec![0x60 | self.tos >> 4, self.tos << 4, 0xab, 0xcd];
            header.extend_from_slice(&((total - 40) as u16).to_be_bytes());
            header.extend_from_slice(&[next, self.ttl]);
            header.extend_from_slice(&self.addresses());
            if self.ip_options > 0 {
                // Destination options: one PadN that fills the header.
                let len = usize::from(self.ip_options) * 8;
                let mut extension = vec![0; len];
                extension[..4].copy_from_slice(&[protocol, self.ip_options - 1, 1, (len - 4) as u8]);
                header.extend_from_slice(&extension);
            }
            return header;
        }
        let mut header = vec![0x45 + self.ip_options, self.tos];
        header.extend_from_slice(&(total as u16).to_be_bytes());
        header.extend_from_slice(&self.id.to_be_bytes());
        header.extend_from_slice(&[
            if self.dont_fragment { 0x40 } else { 0 },
            0,
            self.ttl,
            protocol,
            0,
            0,
        ]);
        header.extend_from_slice(&self.addresses());
        // No-operation options.
        header.extend_from_slice(&vec![1; usize::from(self.ip_options) * 4]);
        let sum = !ones_sum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    }

    /// The packets that this one stands for when it is cut after every `size` octets of payload
    /// (what the kernel's own segmentation does).
    pub(crate) fn cut(&self, size: usize) -> Vec<Packet> {
        let count = self.payload.len().div_ceil(size);
        let cut = |(index, payload): (usize, &[u8])| {
            let mut segment = self.clone();
            segment.payload = payload.to_vec();
            segment.id = self.id.wrapping_add(index as u16);
            if let Transport::Tcp { sequence, flags, .. } = &mut segment.transport {
                *sequence = sequence.wrapping_add((index * size) as u32);
                if index > 0 {
                    *flags &= !0x80;
                }
                if index + 1 < count {
                    *flags &= !0x09;
                }
            }
            segment
        };
        self.payload.chunks(size).enumerate().map(cut).collect()
    }
}

/// RFC 1071, word by word.
pub(crate) fn ones_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
