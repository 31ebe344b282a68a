//! What a session tells its application.

use std::fmt;
use std::io;

use culvert_record::{FrameKind, OpenError, SealError};

use crate::pace::Passed;
use crate::policy::Channel;

/// Something that the application has to know or decide.
#[derive(Debug)]
pub enum Event {
    /// The peer closed the stream, which is detached.
    StreamClosed,
    /// The stream broke and is detached.
    StreamFailed(StreamError),
    /// The peer does not answer on the stream, which is detached.
    StreamDead,
    /// Keys are old: rekey the stream or make a new tunnel. A datagram channel that can renew
    /// its keys by itself has done so without this event.
    RekeyDue(Channel),
    /// The candidate is established and carries data from now on.
    DatagramUp {
        /// Its cipher.
        description: String,
    },
    /// The candidate failed or was refused, and is detached.
    DatagramFailed {
        /// The peer refuses it: another attempt would fare no better.
        refused: bool,
    },
    /// The active datagram channel is gone; data goes over the stream.
    DatagramLost(DatagramLoss),
    /// The peer ends the session.
    Disconnect {
        /// Where it said so.
        channel: Channel,
        /// Reason in the protocol's own form.
        reason: Vec<u8>,
    },
    /// No user data for the idle timeout.
    IdleTimeout,
    /// The session's time is up.
    SessionTimeout,
    /// The peer answered a probe.
    ProbeResponse {
        /// Where.
        channel: Channel,
        /// Octets of the answer's payload.
        payload_len: usize,
    },
    /// The peer's probe on the datagram channel was larger than the MTU and was answered in full
    /// size: the path carries more.
    LargeProbe {
        /// Octets of its payload.
        size: usize,
    },
    /// A datagram was larger than the path allows and was dropped.
    DatagramTooLarge {
        /// Octets of the datagram.
        size: usize,
    },
    /// A frame that means nothing to the packet path.
    Frame {
        /// Where it came from.
        channel: Channel,
        /// Its kind.
        kind: FrameKind,
        /// Its payload.
        payload: Vec<u8>,
    },
    /// The device is gone and detached.
    DeviceFailed(io::Error),
    /// A feature was switched off; worth a line at `-v`. Comes once per feature and socket.
    Notice(Notice),
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The connection broke.
    #[error("connection: {0}")]
    Io(#[source] io::Error),
    /// The peer sent what is no record.
    #[error(transparent)]
    Open(OpenError),
    /// Nothing can be sealed any more.
    #[error(transparent)]
    Seal(SealError),
}

/// Why the active datagram channel ended.
#[derive(Debug, thiserror::Error)]
pub enum DatagramLoss {
    /// The peer does not answer.
    #[error("dead peer detection")]
    Dead,
    /// The peer closed it, or a renewal of the keys failed.
    #[error("closed by the peer")]
    Closed,
    /// Nothing can be sent.
    #[error("sending failed: {0}")]
    Io(#[source] io::Error),
    /// The keys are used up.
    #[error(transparent)]
    Seal(SealError),
}

/// Why a frame was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// There is no such channel (yet).
    #[error("the channel is not open")]
    Closed,
    /// The datagram would be larger than the path allows.
    #[error("the frame is larger than the path allows")]
    TooLarge,
    /// Too many frames wait for a blocked socket already.
    #[error("too many frames wait for the socket")]
    Full,
    /// The frame could not be sealed or sent; an event tells more.
    #[error("the channel failed")]
    Failed,
}

/// A feature that the system lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// `UDP_SEGMENT` does not work on this socket or with datagrams of this size.
    NoSegmentation,
    /// `UDP_GRO` does not work on this socket.
    NoReceiveOffload,
    /// The device has no vnet header.
    NoVnetHeader,
    /// The device has no UDP super-packets.
    NoUdpSuperPackets,
    /// The device refused a super-packet.
    NoSuperPackets,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSegmentation => {
                "UDP segmentation offload does not work on this path; sending datagrams one by one"
            }
            Self::NoReceiveOffload => "UDP receive offload is not available",
            Self::NoVnetHeader => "the tun device has no segmentation offload",
            Self::NoUdpSuperPackets => "the tun device has no UDP segmentation offload",
            Self::NoSuperPackets => "the tun device refused a super-packet; writing packets one by one",
        })
    }
}

/// What passed the device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Packets written to the device (RX of the tunnel).
    pub received_packets: u64,
    /// Octets of these.
    pub received_octets: u64,
    /// Packets read from the device (TX of the tunnel).
    pub sent_packets: u64,
    /// Octets of these.
    pub sent_octets: u64,
    /// Packets of either direction that were dropped.
    pub dropped: u64,
    /// Calls that brought packets, from the device or from a transport.
    pub reads: u64,
}

impl Statistics {
    /// What has passed in both directions.
    pub fn passed(&self) -> Passed {
        Passed {
            packets: self.received_packets + self.sent_packets,
            reads: self.reads,
        }
    }
}
