//! One handshake under way: a side's state machine with its reassembly, its last flight and timers.

use std::time::Instant;

use super::client::{Client, client_hello};
use super::flight::{FlightMessage, Retransmission};
use super::messages::ClientHello;
use super::reassembly::{Fragment, Message, Reassembly};
use super::resumption::{ResumingClient, ResumingServer, resuming_hello};
use super::server::Server;
use super::{Agreement, Step};
use crate::config::{ClientConfig, Random, ResumptionConfig, ServerConfig};
use crate::{Error, Version};

/// A handshake under way.
pub(crate) struct Exchange {
    side: Side,
    reassembly: Reassembly,
    last_flight: LastFlight,
    give_up_at: Instant,
}

/// The flight that was sent last, kept to be sent again.
pub(crate) struct LastFlight {
    pub(crate) messages: Vec<FlightMessage>,
    pub(crate) retransmission: Retransmission,
}

/// Which side this is, with its configuration.
#[derive(Debug, Clone)]
pub(crate) enum Role {
    Client(ClientConfig),
    Server(ServerConfig),
    ResumingClient(ResumptionConfig),
    ResumingServer(ResumptionConfig),
}

enum Side {
    Client(Client),
    Server(Server),
    ResumingClient(ResumingClient),
    ResumingServer(ResumingServer),
}

impl Role {
    /// Checks the configuration.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        match self {
            Self::Client(config) => config.validate(),
            Self::Server(config) => config.validate(),
            Self::ResumingClient(config) | Self::ResumingServer(config) => config.validate(),
        }
    }

    /// Version of the protocol.
    pub(crate) fn version(&self) -> Version {
        match self {
            Self::Client(_) | Self::Server(_) => Version::Dtls12,
            Self::ResumingClient(config) | Self::ResumingServer(config) => config.version,
        }
    }

    fn timers(&self) -> (std::time::Duration, std::time::Duration) {
        match self {
            Self::Client(config) => (config.first_retransmission, config.handshake_limit),
            Self::Server(config) => (config.first_retransmission, config.handshake_limit),
            Self::ResumingClient(config) | Self::ResumingServer(config) => {
                (config.first_retransmission, config.handshake_limit)
            }
        }
    }

    pub(crate) fn mtu(&self) -> usize {
        match self {
            Self::Client(config) => config.mtu,
            Self::Server(config) => config.mtu,
            Self::ResumingClient(config) | Self::ResumingServer(config) => config.mtu,
        }
    }
}

impl Exchange {
    /// Begins a handshake in `epoch`. Returns the first flight too: a client's ClientHello, nothing
    /// for a server.
    pub(crate) fn begin(
        role: &Role,
        epoch: u16,
        previous: Option<Agreement>,
        now: Instant,
        random: &mut dyn Random,
    ) -> Result<(Self, Vec<FlightMessage>), Error> {
        match role {
            Role::Client(config) => {
                let hello = client_hello(config, previous.as_ref(), random)?;
                Ok(Self::begin_client(role, hello, epoch, previous, now))
            }
            Role::ResumingClient(config) => {
                let hello = resuming_hello(config, random)?;
                Ok(Self::begin_client(role, hello, epoch, previous, now))
            }
            Role::Server(_) => {
                let side = Side::Server(Server::new(epoch, previous));
                Ok((Self::new(role, side, now), Vec::new()))
            }
            Role::ResumingServer(config) => {
                let side = Side::ResumingServer(ResumingServer::new(config.version));
                Ok((Self::new(role, side, now), Vec::new()))
            }
        }
    }

    /// Begins a client's handshake with a given ClientHello.
    pub(crate) fn begin_client(
        role: &Role,
        hello: ClientHello,
        epoch: u16,
        previous: Option<Agreement>,
        now: Instant,
    ) -> (Self, Vec<FlightMessage>) {
        let (side, flight) = match role {
            Role::ResumingClient(config) => {
                let mut client = ResumingClient::new(hello, config.version);
                let flight = client.hello_flight();
                (Side::ResumingClient(client), flight)
            }
            _ => {
                let mut client = Client::new(hello, epoch, previous);
                let flight = client.hello_flight();
                (Side::Client(client), flight)
            }
        };
        (Self::new(role, side, now), flight)
    }

    fn new(role: &Role, side: Side, now: Instant) -> Self {
        let (first_retransmission, limit) = role.timers();
        Self {
            side,
            reassembly: Reassembly::default(),
            last_flight: LastFlight {
                messages: Vec::new(),
                retransmission: Retransmission::new(first_retransmission),
            },
            give_up_at: now + limit,
        }
    }

    /// Takes a fragment; then [`Self::poll_message`] has what it completed. True when the peer
    /// repeats its last flight and ours must be sent again.
    pub(crate) fn insert(&mut self, fragment: &Fragment<'_>, now: Instant) -> bool {
        let repeats = Some(fragment.message_seq) == self.reassembly.last_seq();
        if repeats && fragment.is_last() && !self.last_flight.messages.is_empty() {
            return self.last_flight.retransmission.answers_repeat(now);
        }
        self.reassembly.insert(fragment);
        false
    }

    /// The next whole message in order.
    pub(crate) fn poll_message(&mut self) -> Option<Message> {
        self.reassembly.pop()
    }

    /// Takes a message of the peer.
    pub(crate) fn handle(
        &mut self,
        message: &Message,
        role: &Role,
        random: &mut dyn Random,
    ) -> Result<Step, Error> {
        match (&mut self.side, role) {
            (Side::Client(client), Role::Client(config)) => client.handle(message, config),
            (Side::Server(server), Role::Server(config)) => server.handle(message, config, random),
            (Side::ResumingClient(client), Role::ResumingClient(config)) => {
                let step = client.handle(message, config)?;
                Ok(self.skip_change_cipher_spec(step, config.version))
            }
            (Side::ResumingServer(server), Role::ResumingServer(config)) => {
                let step = server.handle(message, config, random)?;
                Ok(self.skip_change_cipher_spec(step, config.version))
            }
            // A connection never changes its role.
            _ => Err(Error::UnexpectedMessage(message.kind)),
        }
    }

    /// After the hellos the peer's next message is its ChangeCipherSpec, which has a number of its
    /// own in DTLS 0.9. The epoch of Finished says all that it says.
    fn skip_change_cipher_spec(&mut self, step: Step, version: Version) -> Step {
        if step.new_epoch.is_some() && version == Version::Dtls09 {
            self.reassembly.skip();
        }
        step
    }

    /// Remembers a flight that was just sent and awaits an answer. A server's HelloVerifyRequest
    /// is never repeated by itself: it is the client's to repeat (RFC 6347 §4.2.1).
    pub(crate) fn sent(&mut self, flight: Vec<FlightMessage>, now: Instant) {
        self.last_flight.messages = flight;
        if matches!(&self.side, Side::Server(server) if server.awaits_hello()) {
            self.last_flight.retransmission.sent_final(now);
        } else {
            self.last_flight.retransmission.sent_new(now);
        }
    }

    pub(crate) fn last_flight(&self) -> &[FlightMessage] {
        &self.last_flight.messages
    }

    /// The end: what is left is the flight that was just sent, if that was the last one.
    pub(crate) fn into_last_flight(mut self, flight: Vec<FlightMessage>, now: Instant) -> Option<LastFlight> {
        self.last_flight.messages = flight;
        self.last_flight.retransmission.sent_final(now);
        Some(self.last_flight).filter(|flight| !flight.messages.is_empty())
    }

    /// Whether the last flight has to go out again because its time has come.
    pub(crate) fn is_retransmission_due(&mut self, now: Instant) -> bool {
        self.last_flight.retransmission.is_due(now)
    }

    pub(crate) fn give_up_at(&self) -> Instant {
        self.give_up_at
    }

    /// When something is to be done next.
    pub(crate) fn poll_timeout(&self) -> Instant {
        match self.last_flight.retransmission.next_at() {
            Some(at) => at.min(self.give_up_at),
            None => self.give_up_at,
        }
    }
}
