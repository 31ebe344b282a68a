//! Probes: they prove that the channel works, and keep proving it (`specs/esp.md` §7).

use crate::packet::NextHeader;

/// The probes of a protocol, as one end sees them.
pub trait Probe: Send + 'static {
    /// The payload of the next request; `None` at an end that only answers.
    fn request(&mut self) -> Option<(NextHeader, Vec<u8>)>;

    /// What a payload is that was received; `None` for data.
    fn examine(&self, next_header: NextHeader, payload: &[u8]) -> Option<Examined>;
}

/// A payload that is no data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Examined {
    /// The peer answers a request.
    Answer,
    /// The peer asks; this is to be sent back.
    Request(NextHeader, Vec<u8>),
    /// Not to be delivered.
    Foreign,
}

/// The probes of Juniper NC and Pulse: one octet 00, which is also the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteProbe {
    asks: bool,
    next_header: NextHeader,
}

impl ByteProbe {
    /// The client's end, over IPv4 or IPv6.
    pub fn client(outer_ipv6: bool) -> Self {
        Self {
            asks: true,
            next_header: family(outer_ipv6),
        }
    }

    /// The server's end, over IPv4 or IPv6.
    pub fn server(outer_ipv6: bool) -> Self {
        Self {
            asks: false,
            next_header: family(outer_ipv6),
        }
    }
}

fn family(outer_ipv6: bool) -> NextHeader {
    if outer_ipv6 {
        NextHeader::Ipv6
    } else {
        NextHeader::Ipv4
    }
}

impl Probe for ByteProbe {
    fn request(&mut self) -> Option<(NextHeader, Vec<u8>)> {
        self.asks.then(|| (self.next_header, vec![0]))
    }

    fn examine(&self, _next_header: NextHeader, payload: &[u8]) -> Option<Examined> {
        match (payload, self.asks) {
            ([0], true) => Some(Examined::Answer),
            ([0], false) => Some(Examined::Request(self.next_header, vec![0])),
            _ => None,
        }
    }
}
