//! What the poller is asked for.

use std::os::fd::AsFd;
use std::time::Instant;

use culvert_record::{DatagramChannel, StreamOpener, StreamSealer};
use culvert_sys::epoll::{Interest, Poller};

use super::transport::Stream;
use super::{DATAGRAMS, DEVICE, STREAM, Session};
use crate::policy::Channel;

impl<S: StreamSealer, O: StreamOpener, D: DatagramChannel> Session<S, O, D> {
    /// Tells the poller what is wanted: the device is read only while the channel that would
    /// carry its packets takes them; the transports only while the device does.
    pub(super) fn update_interests(&mut self, now: Instant) {
        let data_channel = self.policy.data_channel(now);
        if self
            .loan
            .as_ref()
            .is_some_and(|loan| data_channel != Some(loan.channel))
        {
            return self.recall(now);
        }
        let stream_blocked = self.stream.as_ref().is_some_and(Stream::is_blocked);
        let datagram_blocked = self
            .active_datagram()
            .is_some_and(|datagram| datagram.blocked.is_some());
        self.policy.set_blocked(Channel::Stream, stream_blocked);
        self.policy.set_blocked(Channel::Datagram, datagram_blocked);
        let readable = match data_channel {
            _ if self.loan.is_some() => false,
            Some(Channel::Stream) => !stream_blocked,
            Some(Channel::Datagram) => !datagram_blocked,
            None => false,
        };
        let device_full = self.device.as_ref().is_some_and(|slot| !slot.backlog.is_empty());
        let (poller, base) = (&self.poller, self.token_base);
        if let Some(slot) = self.device.as_mut() {
            let wanted = Interest {
                readable,
                writable: device_full,
            };
            change_interest(poller, &slot.device, base + DEVICE, &mut slot.interest, wanted);
        }
        if let Some(stream) = self.stream.as_mut() {
            let wanted = Interest {
                readable: !device_full,
                writable: stream_blocked,
            };
            change_interest(
                poller,
                &stream.socket,
                base + STREAM,
                &mut stream.interest,
                wanted,
            );
        }
        for (index, slot) in self.datagrams.iter_mut().enumerate() {
            let Some(datagram) = slot else { continue };
            let wanted = Interest {
                readable: !device_full,
                writable: datagram.blocked.is_some(),
            };
            let token = base + DATAGRAMS + index as u64;
            if datagram.interest != wanted && datagram.socket.set_interest(poller, token, wanted).is_ok() {
                datagram.interest = wanted;
            }
        }
    }
}

fn change_interest(poller: &Poller, fd: impl AsFd, token: u64, present: &mut Interest, wanted: Interest) {
    // A registered descriptor cannot be refused; if it were, the next change tries again.
    if *present != wanted && poller.modify(fd, token, wanted).is_ok() {
        *present = wanted;
    }
}
