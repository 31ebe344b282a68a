//! Record layers behind pointers: a program that speaks several protocols carries them all with
//! one packet path. The call costs nothing beside the cipher.

use std::any::Any;
use std::time::Instant;

use crate::{
    ChannelState, DatagramChannel, DatagramOpened, FrameKind, OpenError, PacketSealer, SealError,
    StreamOpened, StreamOpener, StreamSealer,
};

impl<T: PacketSealer + ?Sized> PacketSealer for Box<T> {
    fn headroom(&self) -> usize {
        (**self).headroom()
    }

    fn tailroom(&self) -> usize {
        (**self).tailroom()
    }

    fn sealed_len(&self, len: usize) -> usize {
        (**self).sealed_len(len)
    }

    fn seal(&mut self, kind: FrameKind, buffer: &mut [u8], len: usize) -> Result<usize, SealError> {
        (**self).seal(kind, buffer, len)
    }

    fn prepare(&mut self, kind: FrameKind, buffer: &mut [u8], len: usize) -> Result<usize, SealError> {
        (**self).prepare(kind, buffer, len)
    }

    fn complete(&mut self, records: &mut [u8], lengths: &mut dyn Iterator<Item = usize>) {
        (**self).complete(records, lengths);
    }
}

impl<T: StreamOpener + ?Sized> StreamOpener for Box<T> {
    fn open(&mut self, buffer: &mut [u8]) -> Result<StreamOpened, OpenError> {
        (**self).open(buffer)
    }

    fn decompress(&self, packet: &[u8], out: &mut [u8]) -> Option<usize> {
        (**self).decompress(packet, out)
    }
}

impl<T: StreamSealer + ?Sized> StreamSealer for Box<T> {
    fn rekey(&mut self, request_peer: bool, out: &mut Vec<u8>) -> Result<(), SealError> {
        (**self).rekey(request_peer, out)
    }

    fn wants_rekey(&self) -> bool {
        (**self).wants_rekey()
    }
}

/// A datagram channel of any protocol.
pub type AnyDatagramChannel = Box<dyn DatagramChannel<Sealer = Box<dyn PacketSealer>>>;

/// Forgets which channel this is.
pub fn erase(channel: impl DatagramChannel) -> AnyDatagramChannel {
    Box::new(Erased(channel))
}

/// A channel whose sealing half is behind a pointer.
struct Erased<T>(T);

impl<T: DatagramChannel> PacketSealer for Erased<T> {
    fn headroom(&self) -> usize {
        self.0.headroom()
    }

    fn tailroom(&self) -> usize {
        self.0.tailroom()
    }

    fn sealed_len(&self, len: usize) -> usize {
        self.0.sealed_len(len)
    }

    fn seal(&mut self, kind: FrameKind, buffer: &mut [u8], len: usize) -> Result<usize, SealError> {
        self.0.seal(kind, buffer, len)
    }

    fn prepare(&mut self, kind: FrameKind, buffer: &mut [u8], len: usize) -> Result<usize, SealError> {
        self.0.prepare(kind, buffer, len)
    }

    fn complete(&mut self, records: &mut [u8], lengths: &mut dyn Iterator<Item = usize>) {
        self.0.complete(records, lengths);
    }
}

/// What a pointer and [`Erased`] hand on to the channel behind them.
macro_rules! delegate {
    ($self:ident => $inner:expr) => {
        fn state(&$self) -> ChannelState {
            $inner.state()
        }

        fn is_refused(&$self) -> bool {
            $inner.is_refused()
        }

        fn open(&mut $self, now: Instant, datagram: &mut [u8]) -> DatagramOpened {
            $inner.open(now, datagram)
        }

        fn check_run(&$self, run: &[u8], segment: usize) -> u64 {
            $inner.check_run(run, segment)
        }

        fn open_checked(&mut $self, now: Instant, datagram: &mut [u8]) -> DatagramOpened {
            $inner.open_checked(now, datagram)
        }

        fn decompress(&$self, packet: &[u8], out: &mut [u8]) -> Option<usize> {
            $inner.decompress(packet, out)
        }

        fn handle_timeout(&mut $self, now: Instant) {
            $inner.handle_timeout(now);
        }

        fn poll_timeout(&$self) -> Option<Instant> {
            $inner.poll_timeout()
        }

        fn poll_transmit(&mut $self) -> Option<Vec<u8>> {
            $inner.poll_transmit()
        }

        fn start_rekey(&mut $self, now: Instant) -> bool {
            $inner.start_rekey(now)
        }

        fn send_probe(&mut $self, now: Instant) -> bool {
            $inner.send_probe(now)
        }

        fn description(&$self) -> Option<&str> {
            $inner.description()
        }
    };
}

impl<T: DatagramChannel> DatagramChannel for Erased<T> {
    type Sealer = Box<dyn PacketSealer>;

    fn take_sealer(&mut self) -> Option<Box<dyn PacketSealer>> {
        Some(Box::new(self.0.take_sealer()?))
    }

    fn put_sealer(&mut self, sealer: Box<dyn PacketSealer>) {
        let sealer: Box<dyn Any> = sealer;
        // What comes back is what was taken; anything else would leave the channel unable to send.
        if let Ok(sealer) = sealer.downcast::<T::Sealer>() {
            self.0.put_sealer(*sealer);
        }
    }

    delegate!(self => self.0);
}

impl<T: DatagramChannel + ?Sized> DatagramChannel for Box<T> {
    type Sealer = T::Sealer;

    fn take_sealer(&mut self) -> Option<T::Sealer> {
        (**self).take_sealer()
    }

    fn put_sealer(&mut self, sealer: T::Sealer) {
        (**self).put_sealer(sealer);
    }

    delegate!(self => (**self));
}
