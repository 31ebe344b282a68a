//! The life of the UDP channel: opening, path MTU, retry (`specs/cstp-dtls.md` §13.3, §16).

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use culvert_anyconnect::data::{Compressing, Compression, DtlsChannel};
use culvert_anyconnect::mtu::Prober;
use culvert_globalprotect::data::{EspChannel, MagicPing};
use culvert_record::{AnyDatagramChannel, erase};
use culvert_sys::udp::UdpSocket;
use culvert_tunnel::DatagramLoss;
use culvert_vocab::Mtu;

use super::ending::Ending;
use super::running::{Running, seconds};
use super::status::{self, DatagramState};
use crate::connect::{COMPRESS_LIMIT, DatagramOffer};

/// Time between two attempts while UDP does not work.
const RETRY: Duration = Duration::from_secs(60);

/// Where the channel stands.
#[derive(Debug)]
enum State {
    /// The server offers none.
    Never,
    /// `--no-dtls`.
    Disabled,
    /// Handshake in progress.
    Connecting,
    /// In use; its path MTU is being found out.
    Probing(Prober),
    /// In use.
    Connected,
    /// Failed; the next attempt is at that time.
    Sleeping(Instant),
}

/// The UDP channel of a session, apart from its packets.
#[derive(Debug)]
pub(super) struct Datagram {
    state: State,
    offer: Option<DatagramOffer>,
    /// Cipher of the channel in use.
    cipher: Option<String>,
}

impl Datagram {
    /// What the server offers, unless the user wants no UDP.
    pub(super) fn new(offer: Option<DatagramOffer>, disabled: bool) -> Self {
        let state = match &offer {
            _ if disabled => State::Disabled,
            None => State::Never,
            Some(_) => State::Connecting,
        };
        Self {
            state,
            offer: offer.filter(|_| !disabled),
            cipher: None,
        }
    }

    /// The offer, if there is one and it may be used.
    pub(super) fn offer(&self) -> Option<&DatagramOffer> {
        self.offer.as_ref()
    }

    /// An attempt begins.
    pub(super) fn connecting(&mut self) {
        self.state = State::Connecting;
        self.cipher = None;
    }

    /// The attempt, or the channel, has failed.
    pub(super) fn failed(&mut self, now: Instant) {
        if self.offer.is_some() {
            self.state = State::Sleeping(now + RETRY);
            self.cipher = None;
        }
    }

    /// There will be no other attempt.
    pub(super) fn disable(&mut self) {
        *self = Self::new(None, true);
    }

    /// The channel is up.
    pub(super) fn established(&mut self, cipher: String) {
        self.cipher = Some(cipher);
        self.state = State::Connected;
    }

    /// The path MTU is to be found out; `mtu` is the most that the channel may carry.
    pub(super) fn probe(&mut self, now: Instant, mtu: Mtu, inner_ipv6: bool) {
        self.state = State::Probing(Prober::new(now, mtu, inner_ipv6));
    }

    /// Name of the record layer; DTLS where there is none.
    pub(super) fn name(&self) -> &'static str {
        self.offer.as_ref().map_or("DTLS", DatagramOffer::name)
    }

    /// [`Self::name`] with the compression.
    pub(super) fn full_name(&self) -> String {
        let compression = self.offer.as_ref().and_then(DatagramOffer::compression);
        status::with_compression(self.name(), compression)
    }

    /// True when nothing is in progress whose result the device would better wait for.
    pub(super) fn is_settled(&self) -> bool {
        !matches!(self.state, State::Connecting | State::Probing(_))
    }

    /// The search for the path MTU, if it goes on.
    pub(super) fn prober(&mut self) -> Option<&mut Prober> {
        match &mut self.state {
            State::Probing(prober) => Some(prober),
            _ => None,
        }
    }

    /// The MTU found, once; the search is then over.
    pub(super) fn take_mtu(&mut self) -> Option<Mtu> {
        let mtu = self.prober()?.finished()?;
        self.state = State::Connected;
        Some(mtu)
    }

    /// True when it is time for another attempt.
    pub(super) fn wants_attempt(&self, now: Instant) -> bool {
        matches!(self.state, State::Sleeping(at) if at <= now)
    }

    /// When [`Self::wants_attempt`] or the prober want to be asked.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Sleeping(at) => Some(*at),
            State::Probing(prober) => prober.poll_timeout(),
            State::Never | State::Disabled | State::Connecting | State::Connected => None,
        }
    }

    /// In the words of the "Configured as" line.
    pub(super) fn status(&self) -> DatagramState {
        match self.state {
            State::Never => DatagramState::Unsuccessful,
            State::Disabled => DatagramState::Disabled,
            State::Connecting | State::Sleeping(_) => DatagramState::InProgress,
            State::Probing(_) | State::Connected => DatagramState::Connected,
        }
    }

    /// Cipher of the channel in use.
    pub(super) fn cipher(&self) -> Option<&str> {
        self.cipher.as_deref()
    }
}

impl Running {
    /// Begins an attempt, if the server offers the channel.
    pub(super) fn start_datagram(&mut self, now: Instant) {
        let Some(offer) = self.datagram.offer() else {
            return;
        };
        let options = &self.context.options;
        let opened = open(offer, self.tunnel.gateway, options.network.udp_port, now);
        let attached = opened.and_then(|(socket, channel)| {
            self.session
                .attach_datagram(now, socket, channel, &[], &mut self.buffers)
        });
        match attached {
            Ok(()) => {
                if let DatagramOffer::Dtls(_) = offer {
                    let timers = self.timers(self.tunnel.config.datagram);
                    self.context.output.debug(&format!(
                        "DTLS initialised. DPD {}, Keepalive {}",
                        seconds(timers.dpd),
                        seconds(timers.keepalive)
                    ));
                }
                self.datagram.connecting();
            }
            Err(error) => {
                self.context
                    .output
                    .error(&format!("Set up UDP failed; using SSL instead: {error}"));
                self.datagram.failed(now);
            }
        }
    }

    /// The channel works.
    pub(super) fn datagram_up(&mut self, now: Instant, cipher: String) {
        let output = &self.context.output;
        let Some(DatagramOffer::Dtls(offer)) = self.datagram.offer() else {
            output.info(&format!("ESP session established with server. {cipher}"));
            self.connector.datagram_established();
            return self.datagram.established(cipher);
        };
        output.info(&format!(
            "Established DTLS connection (using Culvert). Ciphersuite {cipher}."
        ));
        let base_mtu = offer.base_mtu;
        self.datagram.established(cipher);
        self.begin_mtu_search(now, base_mtu);
    }

    /// The attempt has failed; `refused`: the server knows nothing of it.
    pub(super) fn datagram_failed(&mut self, now: Instant, refused: bool) -> Result<(), Ending> {
        let output = &self.context.output;
        if self.is_datagram_only() {
            output.error("Failed to connect ESP tunnel; using HTTPS instead.");
            return self.fall_back();
        }
        match refused {
            true => {
                output.error("The server does not resume the DTLS session (possible MITM attack); using SSL");
                self.session.detach_datagram();
                self.datagram.disable();
            }
            false => {
                output.info("DTLS handshake failed; using SSL");
                self.datagram.failed(now);
            }
        }
        Ok(())
    }

    /// The channel has ended.
    pub(super) fn datagram_lost(&mut self, now: Instant, loss: &DatagramLoss) -> Result<(), Ending> {
        let output = &self.context.output;
        match (loss, self.is_datagram_only()) {
            (DatagramLoss::Seal(_), true) => {
                output.info("The ESP keys are used up");
                self.reconnect()
            }
            (loss, true) => {
                output.error(&format!("ESP connection lost: {loss}"));
                self.fall_back()
            }
            (loss, false) => {
                output.error(&format!("DTLS connection lost: {loss}"));
                self.start_datagram(now);
                Ok(())
            }
        }
    }

    /// The channel's keys are to be renewed.
    pub(super) fn rekey_datagram(&mut self, now: Instant) -> Result<(), Ending> {
        if self.is_datagram_only() {
            self.context.output.info("ESP rekey due");
            return self.reconnect();
        }
        self.start_datagram(now);
        Ok(())
    }
}

/// A socket and a fresh channel for `offer`.
///
/// # Errors
/// The socket could not be made, or the offer cannot be used.
fn open(
    offer: &DatagramOffer,
    server: SocketAddr,
    local_port: u16,
    now: Instant,
) -> io::Result<(UdpSocket, AnyDatagramChannel)> {
    let (port, channel): (u16, AnyDatagramChannel) = match offer {
        DatagramOffer::Dtls(dtls) => {
            let connection = dtls.handshake.begin(now);
            let agreed = dtls.compression;
            let agreed = agreed.map(|method| Compression::new(method, COMPRESS_LIMIT));
            let channel = Compressing::new(DtlsChannel::new(connection), agreed);
            (dtls.port, erase(channel))
        }
        DatagramOffer::Esp(esp) => {
            let keys = &esp.parameters;
            let ping = MagicPing::client(esp.client, esp.gateway)
                .ok_or_else(|| io::Error::other("magic pings between two families"))?;
            let channel = EspChannel::client(&keys.down, &keys.up, ping, now).map_err(io::Error::other)?;
            (keys.port, erase(channel))
        }
    };
    let peer = SocketAddr::new(server.ip(), port);
    let local = (local_port != 0).then(|| match peer {
        SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], local_port)),
        SocketAddr::V6(_) => SocketAddr::from(([0u16; 8], local_port)),
    });
    Ok((UdpSocket::connected(local, peer)?, channel))
}

#[cfg(test)]
mod tests {
    use culvert_vocab::SecretBytes;

    use super::*;
    use crate::connect::{DtlsOffer, Handshake};

    fn offer() -> Option<DatagramOffer> {
        Some(DatagramOffer::Dtls(DtlsOffer {
            port: 443,
            handshake: Handshake::Psk {
                app_id: vec![1; 32],
                key: SecretBytes::new(vec![2; 32]),
            },
            base_mtu: 1500,
            compression: None,
        }))
    }

    #[test]
    fn states_and_their_words() {
        let now = Instant::now();
        assert_eq!(Datagram::new(None, false).status(), DatagramState::Unsuccessful);
        let disabled = Datagram::new(offer(), true);
        assert_eq!(disabled.status(), DatagramState::Disabled);
        assert!(disabled.offer().is_none() && disabled.is_settled());

        let mut datagram = Datagram::new(offer(), false);
        assert!(!datagram.is_settled());
        datagram.failed(now);
        assert!(datagram.is_settled());
        assert_eq!(datagram.status(), DatagramState::InProgress);
        assert!(!datagram.wants_attempt(now + Duration::from_secs(59)));
        assert!(datagram.wants_attempt(now + RETRY));

        datagram.connecting();
        datagram.established("(DTLS1.2)".into());
        assert_eq!(datagram.status(), DatagramState::Connected);
        datagram.probe(now, Mtu::clamped(1400), false);
        assert!(!datagram.is_settled());
        assert_eq!(datagram.cipher(), Some("(DTLS1.2)"));
        let probe = datagram.prober().and_then(Prober::poll_probe).expect("a probe");
        if let Some(prober) = datagram.prober() {
            prober.handle_response(now, probe);
        }
        assert_eq!(datagram.take_mtu(), Some(Mtu::clamped(1400)));
        assert!(datagram.is_settled());
        assert_eq!(datagram.take_mtu(), None);
    }

    #[test]
    fn a_refused_channel_is_not_retried() {
        let now = Instant::now();
        let mut datagram = Datagram::new(offer(), false);
        datagram.disable();
        datagram.failed(now);
        assert!(datagram.is_settled() && !datagram.wants_attempt(now + RETRY));
        assert_eq!(datagram.status(), DatagramState::Disabled);
    }

    #[test]
    fn a_channel_that_was_never_offered_is_not_retried() {
        let now = Instant::now();
        let mut datagram = Datagram::new(None, false);
        datagram.failed(now);
        assert!(!datagram.wants_attempt(now + RETRY));
        assert_eq!(datagram.poll_timeout(), None);
    }
}
