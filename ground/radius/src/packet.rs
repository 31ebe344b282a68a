//! Octets of a packet: header and attributes (RFC 2865 §3, §5, §5.26).

/// Longest packet, in octets.
pub const PACKET_MAX: usize = 4096;
/// Octets of code, identifier, length and authenticator.
pub const HEADER_LEN: usize = 20;
/// Longest value of an attribute, in octets.
pub const VALUE_MAX: usize = 253;

/// Why octets are no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Fewer octets than a header has, or than the length field says.
    #[error("the packet is cut short")]
    Short,
    /// The length field is below 20 or above 4096.
    #[error("a packet cannot be {0} octets long")]
    Length(u16),
    /// An attribute is shorter than its own header or reaches beyond the packet.
    #[error("an attribute has a wrong length")]
    Attribute,
}

/// A packet whose attributes fill it exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    octets: &'a [u8],
    code: u8,
    identifier: u8,
    authenticator: [u8; 16],
    attributes: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a datagram. What follows the packet's own length is padding and left out.
    ///
    /// # Errors
    /// See [`Malformed`].
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Malformed> {
        let (&[code, identifier, high, low], rest) =
            datagram.split_first_chunk::<4>().ok_or(Malformed::Short)?;
        let length = u16::from_be_bytes([high, low]);
        if !(HEADER_LEN..=PACKET_MAX).contains(&usize::from(length)) {
            return Err(Malformed::Length(length));
        }
        let octets = datagram.get(..usize::from(length)).ok_or(Malformed::Short)?;
        let (authenticator, _) = rest.split_first_chunk::<16>().ok_or(Malformed::Short)?;
        let attributes = octets.get(HEADER_LEN..).unwrap_or_default();
        let mut rest = Attributes(attributes);
        while rest.next().is_some() {}
        if !rest.0.is_empty() {
            return Err(Malformed::Attribute);
        }
        Ok(Self {
            octets,
            code,
            identifier,
            authenticator: *authenticator,
            attributes,
        })
    }

    /// All octets, without padding.
    pub fn octets(&self) -> &'a [u8] {
        self.octets
    }

    /// The code (RFC 2865 §3).
    pub fn code(&self) -> u8 {
        self.code
    }

    /// Matches a reply with its request.
    pub fn identifier(&self) -> u8 {
        self.identifier
    }

    /// The authenticator field.
    pub fn authenticator(&self) -> [u8; 16] {
        self.authenticator
    }

    /// All attributes in order.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes(self.attributes)
    }

    /// Values of all attributes of this type.
    pub fn values(&self, kind: u8) -> impl Iterator<Item = &'a [u8]> {
        self.attributes()
            .filter(move |attribute| attribute.kind == kind)
            .map(|attribute| attribute.value)
    }
}

/// An attribute: type and value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Type.
    pub kind: u8,
    /// Value, at most 253 octets.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// Vendor and sub-attributes of a Vendor-Specific attribute that has the usual form; what is
    /// malformed ends the list.
    pub fn vendor_attributes(&self) -> Option<(u32, Attributes<'a>)> {
        let (vendor, rest) = self.value.split_first_chunk::<4>()?;
        Some((u32::from_be_bytes(*vendor), Attributes(rest)))
    }
}

/// Attributes one after the other. Ends at the first one that is malformed.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let &[kind, length, ..] = self.0 else { return None };
        let (attribute, rest) = self.0.split_at_checked(usize::from(length))?;
        let value = attribute.get(2..)?;
        self.0 = rest;
        Some(Attribute { kind, value })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(attributes: &[u8]) -> Vec<u8> {
        let mut octets = vec![2, 7, 0, 0];
        octets.extend([9; 16]);
        octets.extend(attributes);
        let length = (octets.len() as u16).to_be_bytes();
        octets[2..4].copy_from_slice(&length);
        octets
    }

    #[test]
    fn attributes_fill_the_packet() {
        let octets = packet(&[18, 4, b'h', b'i', 25, 2]);
        let read = Packet::parse(&octets).unwrap();
        assert_eq!((read.code(), read.identifier()), (2, 7));
        let all: Vec<_> = read.attributes().map(|a| (a.kind, a.value)).collect();
        assert_eq!(all, [(18, &b"hi"[..]), (25, &b""[..])]);

        let mut padded = octets.clone();
        padded.extend([1, 2, 3]);
        assert_eq!(Packet::parse(&padded).unwrap().octets(), &octets[..]);
    }

    #[test]
    fn odd_lengths() {
        for (attributes, why) in [
            (&[18, 0][..], "length 0"),
            (&[18, 1], "length 1"),
            (&[18, 5, b'h', b'i'], "beyond the packet"),
            (&[18], "a type alone"),
        ] {
            assert_eq!(
                Packet::parse(&packet(attributes)),
                Err(Malformed::Attribute),
                "{why}"
            );
        }
        let mut long = packet(&[]);
        long[2..4].copy_from_slice(&4097u16.to_be_bytes());
        long.resize(4097, 0);
        assert_eq!(Packet::parse(&long), Err(Malformed::Length(4097)));
        assert_eq!(Packet::parse(&packet(&[])[..19]), Err(Malformed::Short));
        assert_eq!(Packet::parse(&[]), Err(Malformed::Short));
    }

    proptest! {
        #[test]
        fn never_panics(octets in proptest::collection::vec(any::<u8>(), 0..300), sane in any::<bool>()) {
            let mut octets = octets;
            if sane && octets.len() >= HEADER_LEN {
                let length = (octets.len() as u16).to_be_bytes();
                octets[2..4].copy_from_slice(&length);
            }
            if let Ok(packet) = Packet::parse(&octets) {
                let total: usize = packet.attributes().map(|a| a.value.len() + 2).sum();
                prop_assert_eq!(total + HEADER_LEN, packet.octets().len());
                for (_, list) in packet.attributes().filter_map(|a| a.vendor_attributes()) {
                    list.for_each(drop);
                }
            }
        }
    }
}
