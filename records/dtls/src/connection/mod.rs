//! One DTLS association: records in, records out, timers.

mod handshake;

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Instant;

use culvert_record::ChannelState;

use crate::config::{ClientConfig, Random, ResumptionConfig, ServerConfig, SystemRandom};
use crate::handshake::Agreement;
use crate::handshake::exchange::{Exchange, LastFlight, Role};
use crate::record::{Epochs, HEADER_LEN, InEpoch, Opener, RecordHeader, Sealer, content_type};
use crate::{AlertDescription, Error};

/// Level of an alert that ends the association.
const FATAL: u8 = 2;
const WARNING: u8 = 1;

/// One DTLS association with one peer: handshake and both record halves.
///
/// Drive it like this: give every received datagram to [`Self::open_record`] until it is used up;
/// call [`Self::handle_timeout`] at [`Self::poll_timeout`]; after both, send everything that
/// [`Self::poll_transmit`] has. Once [`Self::state`] is `Established`, [`Self::seal_application`]
/// makes records of application data.
pub struct Connection {
    pub(crate) role: Role,
    pub(crate) random: Box<dyn Random>,
    pub(crate) status: Status,
    pub(crate) write: Epochs<Sealer>,
    pub(crate) read: Epochs<Opener>,
    pub(crate) exchange: Option<Exchange>,
    /// The last flight of the complete handshake, if it was ours, until the peer is known to have it.
    pub(crate) final_flight: Option<LastFlight>,
    /// When packets of the previous epoch are no longer taken.
    old_epoch_until: Option<Instant>,
    /// An alert that nothing authenticated.
    peer_alert: Option<AlertDescription>,
    outgoing: VecDeque<Vec<u8>>,
}

/// How far the association is.
pub(crate) enum Status {
    Connecting,
    Established { agreement: Agreement, since: Instant },
    Failed(Error),
}

/// What [`Connection::open_record`] found at the beginning of a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// Nothing for the application in the next `consumed` octets (handshake, replay, junk).
    Nothing {
        /// Octets to skip; at least 1 unless the datagram is empty.
        consumed: usize,
    },
    /// Application data, decrypted in place.
    Application {
        /// Octets to skip once the payload has been used.
        consumed: usize,
        /// Position of the payload in the buffer given.
        payload: Range<usize>,
    },
}

impl Connection {
    /// A client; it has its ClientHello ready in [`Self::poll_transmit`]. With a configuration that
    /// cannot be used, the state is `Failed` at once.
    pub fn client(config: ClientConfig, now: Instant) -> Self {
        Self::client_with_random(config, now, Box::new(SystemRandom))
    }

    /// As [`Self::client`], with another source of random octets for the handshake.
    pub fn client_with_random(config: ClientConfig, now: Instant, random: Box<dyn Random>) -> Self {
        Self::begin(Role::Client(config), now, random)
    }

    /// A server that waits for a ClientHello; the handshake's time limit starts now. With a
    /// configuration that cannot be used, the state is `Failed` at once.
    pub fn server(config: ServerConfig, now: Instant) -> Self {
        Self::server_with_random(config, now, Box::new(SystemRandom))
    }

    /// As [`Self::server`], with another source of random octets for the handshake.
    pub fn server_with_random(config: ServerConfig, now: Instant, random: Box<dyn Random>) -> Self {
        Self::begin(Role::Server(config), now, random)
    }

    /// A client that resumes a session; as [`Self::client`] otherwise. It has no rehandshake.
    pub fn resuming_client(config: ResumptionConfig, now: Instant) -> Self {
        Self::resuming_client_with_random(config, now, Box::new(SystemRandom))
    }

    /// As [`Self::resuming_client`], with another source of random octets for the handshake.
    pub fn resuming_client_with_random(
        config: ResumptionConfig,
        now: Instant,
        random: Box<dyn Random>,
    ) -> Self {
        Self::begin(Role::ResumingClient(config), now, random)
    }

    /// A server that resumes a session; as [`Self::server`] otherwise.
    pub fn resuming_server(config: ResumptionConfig, now: Instant) -> Self {
        Self::resuming_server_with_random(config, now, Box::new(SystemRandom))
    }

    /// As [`Self::resuming_server`], with another source of random octets for the handshake.
    pub fn resuming_server_with_random(
        config: ResumptionConfig,
        now: Instant,
        random: Box<dyn Random>,
    ) -> Self {
        Self::begin(Role::ResumingServer(config), now, random)
    }

    fn begin(role: Role, now: Instant, random: Box<dyn Random>) -> Self {
        let valid = role.validate();
        let plain = Sealer::plain(role.version());
        let mut connection = Self::new(
            role,
            random,
            Status::Connecting,
            Epochs::new(plain),
            Epochs::new(Opener::plain()),
        );
        if let Err(error) = valid.and_then(|()| connection.begin_handshake(now)) {
            connection.fail(error);
        }
        connection
    }

    fn new(
        role: Role,
        random: Box<dyn Random>,
        status: Status,
        write: Epochs<Sealer>,
        read: Epochs<Opener>,
    ) -> Self {
        Self {
            role,
            random,
            status,
            write,
            read,
            exchange: None,
            final_flight: None,
            old_epoch_until: None,
            peer_alert: None,
            outgoing: VecDeque::new(),
        }
    }

    /// Present state. A rehandshake leaves the state `Established`.
    pub fn state(&self) -> ChannelState {
        match self.status {
            Status::Connecting => ChannelState::Connecting,
            Status::Established { .. } => ChannelState::Established,
            Status::Failed(_) => ChannelState::Failed,
        }
    }

    /// Why the state is [`ChannelState::Failed`].
    pub fn failure(&self) -> Option<&Error> {
        match &self.status {
            Status::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// Octets to leave free before the application data. May change with a rehandshake.
    pub fn headroom(&self) -> usize {
        self.write.active.headroom()
    }

    /// Most octets that a record adds after the application data. May change with a rehandshake.
    pub fn tailroom(&self) -> usize {
        self.write.active.tailroom()
    }

    /// Length of the record for `len` octets of application data.
    pub fn sealed_len(&self, len: usize) -> usize {
        self.write.active.sealed_len(len)
    }

    /// Most octets that a record adds to application data.
    pub fn record_overhead(&self) -> usize {
        self.headroom() + self.tailroom()
    }

    /// Opens the next record of a received datagram in place; the caller repeats with the rest
    /// until the datagram is used up, then sends what [`Self::poll_transmit`] has.
    /// Invalid records are dropped silently.
    pub fn open_record(&mut self, now: Instant, datagram: &mut [u8]) -> Opened {
        let nothing = Opened::Nothing {
            consumed: datagram.len(),
        };
        let Some(header) = RecordHeader::parse(datagram) else {
            return nothing;
        };
        let consumed = HEADER_LEN + usize::from(header.length);
        let Some(fragment) = datagram.get_mut(HEADER_LEN..consumed) else {
            return nothing;
        };
        if matches!(self.status, Status::Failed(_)) {
            return nothing;
        }
        let Some(opener) = self.read.get_mut(header.epoch) else {
            return Opened::Nothing { consumed };
        };
        let Ok(range) = opener.open(&header, fragment) else {
            return Opened::Nothing { consumed };
        };
        if header.content_type == content_type::APPLICATION_DATA {
            if self.accept_application_data(header.epoch) {
                let payload = HEADER_LEN + range.start..HEADER_LEN + range.end;
                return Opened::Application { consumed, payload };
            }
            return Opened::Nothing { consumed };
        }
        let content = fragment.get(range).unwrap_or_default();
        let handled = match header.content_type {
            content_type::HANDSHAKE => self.handle_handshake(now, header.epoch, content),
            content_type::ALERT => self.handle_alert(header.epoch, content),
            // A ChangeCipherSpec says nothing that the epochs of the records do not say.
            _ => Ok(()),
        };
        if let Err(error) = handled {
            self.fail(error);
        }
        Opened::Nothing { consumed }
    }

    /// The next datagram of the handshake, or alert, to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.outgoing.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called; `None` when nothing is pending.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let exchange = self.exchange.as_ref().map(Exchange::poll_timeout);
        exchange.into_iter().chain(self.old_epoch_until).min()
    }

    /// Retransmits or gives up; to be called at or after [`Self::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.old_epoch_until.is_some_and(|until| until <= now) {
            self.old_epoch_until = None;
            self.read.old = None;
        }
        let Some(exchange) = &mut self.exchange else {
            return;
        };
        if exchange.give_up_at() <= now {
            let error = self.peer_alert.map_or(Error::Timeout, Error::TimeoutAfterAlert);
            self.fail(error);
        } else if exchange.is_retransmission_due(now) {
            self.retransmit();
        }
    }

    /// Begins a rehandshake inside the association (client only). Data flows on meanwhile.
    /// Returns false when this is a server, not established, already in a rehandshake, or the
    /// peer lacks secure renegotiation.
    pub fn start_rekey(&mut self, now: Instant) -> bool {
        let Status::Established { agreement, .. } = &self.status else {
            return false;
        };
        let may = agreement.secure_renegotiation
            && matches!(self.role, Role::Client(_))
            && self.exchange.is_none()
            && self.write.active.epoch() < u16::MAX;
        if may && let Err(error) = self.begin_handshake(now) {
            self.fail(error);
        }
        may
    }

    /// True while a rehandshake is under way.
    pub fn is_rekeying(&self) -> bool {
        self.state() == ChannelState::Established && self.exchange.is_some()
    }

    /// Description as GnuTLS prints it, e.g. `(DTLS1.2)-(PSK)-(AES-256-GCM)`; `None` unless
    /// established.
    pub fn description(&self) -> Option<&'static str> {
        match &self.status {
            Status::Established { agreement, .. } => Some(
                agreement
                    .parameters
                    .suite
                    .description(agreement.parameters.version),
            ),
            _ => None,
        }
    }

    /// Ends the association: queues a close_notify alert; the state becomes `Failed`.
    pub fn close(&mut self) {
        if !matches!(self.status, Status::Failed(_)) {
            self.fail(Error::Closed);
        }
    }

    /// Application data counts once the Finished of its epoch was verified.
    fn accept_application_data(&mut self, epoch: u16) -> bool {
        let active = self.read.active.epoch();
        if epoch == active && epoch != 0 {
            // The peer sends in the new epoch, so it has our Finished.
            self.final_flight = None;
            self.write.old = None;
        }
        let old = self.read.old.as_ref().map(InEpoch::epoch);
        epoch != 0 && (epoch == active || Some(epoch) == old)
    }

    fn handle_alert(&mut self, epoch: u16, content: &[u8]) -> Result<(), Error> {
        let [level, description] = *content else {
            return Ok(());
        };
        let description = AlertDescription(description);
        if epoch == 0 {
            // Anybody may have sent it: it ends nothing, but may explain a timeout.
            self.peer_alert = Some(description);
            return Ok(());
        }
        match description {
            AlertDescription::CLOSE_NOTIFY => Err(Error::ClosedByPeer),
            AlertDescription::NO_RENEGOTIATION if self.exchange.is_some() => Err(Error::Alert(description)),
            _ if level == FATAL => Err(Error::Alert(description)),
            _ => Ok(()),
        }
    }

    fn fail(&mut self, error: Error) {
        if let Some(alert) = error.alert() {
            let level = if alert == AlertDescription::CLOSE_NOTIFY {
                WARNING
            } else {
                FATAL
            };
            self.send_alert(level, alert);
        }
        self.exchange = None;
        self.final_flight = None;
        self.old_epoch_until = None;
        self.status = Status::Failed(error);
    }

    fn send_alert(&mut self, level: u8, description: AlertDescription) {
        let sealer = &mut self.write.active;
        let mut record = vec![0; sealer.headroom()];
        record.extend_from_slice(&[level, description.0]);
        record.resize(record.len() + sealer.tailroom(), 0);
        // Without sequence numbers there is no alert either; the peer will notice the silence.
        if let Ok(len) = sealer.seal(content_type::ALERT, &mut record, 2) {
            record.truncate(len);
            self.outgoing.push_back(record);
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
