use std::time::Instant;

use culvert_record::{
    ChannelState, DatagramChannel, DatagramOpened, FrameKind, OpenError, PacketSealer, SealError,
    StreamOpened, StreamOpener, StreamSealer,
};
use culvert_wire::compress::{Method, compress, decompress};

/// Longest packet that is compressed or that a compressed one may hold, in octets
/// (`specs/cstp-dtls.md` §12.2).
const PACKET_MAX: usize = 16384;

/// Stateless compression of a channel: every packet for itself (`specs/cstp-dtls.md` §12).
#[derive(Debug, Clone)]
pub struct Compression {
    method: Method,
    limit: usize,
    scratch: Vec<u8>,
}

impl Compression {
    /// Packets of more than `limit` octets are compressed, where that makes them shorter.
    pub fn new(method: Method, limit: usize) -> Self {
        Self {
            method,
            limit,
            scratch: Vec::new(),
        }
    }

    /// Puts the compressed form in the place of `packet` and returns its length; `None` when the
    /// packet stays as it is.
    fn compress(&mut self, packet: &mut [u8]) -> Option<usize> {
        if packet.len() <= self.limit || packet.len() > PACKET_MAX {
            return None;
        }
        // LZ4 wants room for the worst case.
        let most = packet.len() + packet.len() / 4 + 64;
        if self.scratch.len() < most {
            self.scratch.resize(most, 0);
        }
        let room = self.scratch.get_mut(..most)?;
        let len = compress(self.method, packet, room).filter(|len| *len < packet.len())?;
        packet.get_mut(..len)?.copy_from_slice(room.get(..len)?);
        Some(len)
    }

    /// Restores a packet into `out` and returns its length; `None` when it is malformed, empty or
    /// too long.
    fn decompress(&self, packet: &[u8], out: &mut [u8]) -> Option<usize> {
        let room = out.len().min(PACKET_MAX);
        let len = decompress(self.method, packet, out.get_mut(..room)?).ok()?;
        Some(len).filter(|len| *len > 0)
    }
}

/// A channel, or one half of it, whose packets are compressed on the way out and restored on the
/// way in, if compression was agreed on.
#[derive(Debug)]
pub struct Compressing<T> {
    channel: T,
    compression: Option<Compression>,
}

impl<T> Compressing<T> {
    /// `compression` is what both sides have agreed on for this channel.
    pub fn new(channel: T, compression: Option<Compression>) -> Self {
        Self { channel, compression }
    }

    /// The channel itself.
    pub fn channel(&self) -> &T {
        &self.channel
    }
}

impl<T: PacketSealer> PacketSealer for Compressing<T> {
    fn headroom(&self) -> usize {
        self.channel.headroom()
    }

    fn tailroom(&self) -> usize {
        self.channel.tailroom()
    }

    fn sealed_len(&self, len: usize) -> usize {
        self.channel.sealed_len(len)
    }

    fn seal(&mut self, kind: FrameKind, buffer: &mut [u8], len: usize) -> Result<usize, SealError> {
        if let (FrameKind::Data, Some(compression)) = (kind, &mut self.compression) {
            let start = self.channel.headroom();
            let packet = buffer.get_mut(start..start + len).ok_or(SealError::Buffer)?;
            if let Some(len) = compression.compress(packet) {
                return self.channel.seal(FrameKind::Compressed, buffer, len);
            }
        }
        self.channel.seal(kind, buffer, len)
    }
}

impl<T: StreamSealer> StreamSealer for Compressing<T> {
    fn rekey(&mut self, request_peer: bool, out: &mut Vec<u8>) -> Result<(), SealError> {
        self.channel.rekey(request_peer, out)
    }

    fn wants_rekey(&self) -> bool {
        self.channel.wants_rekey()
    }
}

impl<T: StreamOpener> StreamOpener for Compressing<T> {
    fn open(&mut self, buffer: &mut [u8]) -> Result<StreamOpened, OpenError> {
        self.channel.open(buffer)
    }

    fn decompress(&self, packet: &[u8], out: &mut [u8]) -> Option<usize> {
        self.compression.as_ref()?.decompress(packet, out)
    }
}

impl<T: DatagramChannel> DatagramChannel for Compressing<T> {
    type Sealer = Compressing<T::Sealer>;

    fn take_sealer(&mut self) -> Option<Self::Sealer> {
        let compression = self.compression.clone();
        self.channel
            .take_sealer()
            .map(|sealer| Compressing::new(sealer, compression))
    }

    fn put_sealer(&mut self, sealer: Self::Sealer) {
        self.channel.put_sealer(sealer.channel);
    }

    fn state(&self) -> ChannelState {
        self.channel.state()
    }

    fn is_refused(&self) -> bool {
        self.channel.is_refused()
    }

    fn open(&mut self, now: Instant, datagram: &mut [u8]) -> DatagramOpened {
        self.channel.open(now, datagram)
    }

    fn decompress(&self, packet: &[u8], out: &mut [u8]) -> Option<usize> {
        self.compression.as_ref()?.decompress(packet, out)
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.channel.handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.channel.poll_timeout()
    }

    fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.channel.poll_transmit()
    }

    fn start_rekey(&mut self, now: Instant) -> bool {
        self.channel.start_rekey(now)
    }

    fn send_probe(&mut self, now: Instant) -> bool {
        self.channel.send_probe(now)
    }

    fn description(&self) -> Option<&str> {
        self.channel.description()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const METHODS: [Method; 2] = [Method::Lz4, Method::Lzs];

    #[test]
    fn short_and_incompressible_packets_stay() {
        for method in METHODS {
            let mut compression = Compression::new(method, 100);
            assert_eq!(compression.compress(&mut [7; 100]), None);
            let mut long = [7; 101];
            assert!(compression.compress(&mut long).is_some_and(|len| len < 101));
            // Every octet once: nothing repeats.
            let mut unique: Vec<u8> = (0..=255).collect();
            assert_eq!(compression.compress(&mut unique), None);
            assert!(unique.iter().copied().eq(0..=255));
            assert_eq!(compression.compress(&mut vec![0; PACKET_MAX + 1]), None);
        }
    }

    #[test]
    fn a_bomb_does_not_grow() {
        for method in METHODS {
            let mut packet = vec![0; PACKET_MAX];
            let mut compression = Compression::new(method, 0);
            let len = compression.compress(&mut packet).unwrap();
            let mut small = [0; 1000];
            assert_eq!(compression.decompress(&packet[..len], &mut small), None);
            assert_eq!(compression.decompress(&[], &mut small), None);
        }
    }

    proptest! {
        #[test]
        fn packets_come_back(
            words in proptest::collection::vec(0u8..4, 0..3000),
            junk in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            for method in METHODS {
                let mut compression = Compression::new(method, 64);
                let mut packet = words.clone();
                let mut out = vec![0; PACKET_MAX];
                if let Some(len) = compression.compress(&mut packet) {
                    prop_assert!(len < words.len());
                    let restored = compression.decompress(&packet[..len], &mut out);
                    prop_assert_eq!(restored.map(|len| &out[..len]), Some(&words[..]));
                }
                let _ = compression.decompress(&junk, &mut out);
            }
        }
    }
}
