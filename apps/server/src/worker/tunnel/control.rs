//! The connection beside a tunnel that does not go over it: a client of GlobalProtect asks for its
//! host check there, and for the TLS channel when UDP does not work.

use std::io;
use std::os::fd::OwnedFd;

use culvert_globalprotect::server::{Action, FrontEnd, Grant, config_answer, start_tunnel};
use culvert_globalprotect::wire::EspParameters;
use culvert_login::server::{AuthAnswer, AuthRequest};
use culvert_sys::{random, tcp};
use culvert_tls::{Handshake, Records};
use culvert_vocab::SessionId;
use culvert_wire::http::{RequestReader, Response};

/// Octets that one turn reads at most.
const READ: usize = 16384;

/// The HTTP side of a session whose tunnel is open.
pub(in crate::worker) struct Control {
    handshake: Handshake,
    reader: RequestReader,
    front_end: FrontEnd,
    session: SessionId,
    grant: Grant,
}

/// What a turn came to.
pub(super) enum Turn {
    /// The client may ask more.
    Wait,
    /// The connection is over.
    Closed,
    /// The connection is the tunnel's TLS channel now.
    Stream(Box<Records>),
    /// These are the keys of ESP now.
    Rekey(EspParameters),
    /// The client has ended its session.
    LoggedOut,
}

impl Control {
    /// Goes on after the configuration `grant` has been sent.
    pub(in crate::worker) fn new(
        handshake: Handshake,
        front_end: FrontEnd,
        session: SessionId,
        grant: Grant,
    ) -> Self {
        Self {
            handshake,
            reader: RequestReader::new(),
            front_end,
            session,
            grant,
        }
    }

    /// A line for the log.
    pub(super) fn poll_note(&mut self) -> Option<String> {
        self.front_end.poll_note()
    }

    /// Reads once, and answers. Never waits.
    pub(super) fn handle_readable(mut self: Box<Self>, tcp: &OwnedFd) -> (Turn, Option<Box<Self>>) {
        let mut buffer = [0; READ];
        let received = match tcp::receive(tcp, &mut buffer) {
            Ok(0) => return (Turn::Closed, None),
            Ok(count) => buffer.get(..count).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return (Turn::Wait, Some(self)),
            Err(_) => return (Turn::Closed, None),
        };
        match self.process(tcp, received) {
            Ok(Some(Step::Stream)) => match self.handshake.into_records() {
                Ok(records) => (Turn::Stream(Box::new(records)), None),
                Err(_) => (Turn::Closed, None),
            },
            Ok(Some(Step::Rekey(esp))) => (Turn::Rekey(esp), Some(self)),
            Ok(Some(Step::LoggedOut)) => (Turn::LoggedOut, None),
            Ok(None) => (Turn::Wait, Some(self)),
            Err(Broken) => (Turn::Closed, None),
        }
    }

    fn process(&mut self, tcp: &OwnedFd, mut received: &[u8]) -> Result<Option<Step>, Broken> {
        let mut step = None;
        while !received.is_empty() {
            let taken = self.handshake.handle_input(received).map_err(|_| Broken)?;
            received = received
                .get(taken..)
                .filter(|rest| rest.len() < received.len())
                .ok_or(Broken)?;
            self.flush(tcp)?;
            while let Some(plaintext) = self.handshake.poll_plaintext().map_err(|_| Broken)? {
                let request = self.reader.handle_input(&plaintext).map_err(|_| Broken)?;
                if let Some(request) = request {
                    let action = self.front_end.handle_request(request);
                    step = self.act(tcp, action)?.or(step);
                }
            }
            if self.handshake.peer_closed() {
                return Err(Broken);
            }
        }
        Ok(step)
    }

    fn act(&mut self, tcp: &OwnedFd, mut action: Action) -> Result<Option<Step>, Broken> {
        loop {
            action = match action {
                Action::AskBroker(AuthRequest::VerifyCookie { session }) => {
                    let good = session == self.session;
                    self.front_end.handle_answer(AuthAnswer::Cookie(good))
                }
                Action::Respond {
                    response,
                    close: false,
                } => {
                    self.respond(tcp, &response)?;
                    return Ok(None);
                }
                Action::OpenTunnel(request) if request.session == self.session => {
                    let esp = self.fresh_keys();
                    self.grant.esp.clone_from(&esp);
                    let answer = config_answer(&self.grant);
                    self.respond(tcp, &answer)?;
                    return Ok(esp.map(Step::Rekey));
                }
                Action::StartStream(session) if session == self.session => {
                    self.handshake
                        .write_plaintext(start_tunnel())
                        .map_err(|_| Broken)?;
                    self.flush(tcp)?;
                    return Ok(Some(Step::Stream));
                }
                Action::Logout { session, response } if session == self.session => {
                    self.respond(tcp, &response)?;
                    return Ok(Some(Step::LoggedOut));
                }
                // Another login, or another session: on another connection.
                _ => return Err(Broken),
            };
        }
    }

    fn fresh_keys(&self) -> Option<EspParameters> {
        let present = self.grant.esp.as_ref()?;
        let algorithms = (present.up.encryption(), present.up.integrity());
        let mut fill = |octets: &mut [u8]| random::fill(octets).is_ok();
        EspParameters::generate(present.port, present.up.spi(), algorithms, &mut fill)
    }

    fn respond(&mut self, tcp: &OwnedFd, response: &Response) -> Result<(), Broken> {
        self.handshake
            .write_plaintext(&response.to_bytes())
            .map_err(|_| Broken)?;
        self.flush(tcp)
    }

    /// A client that does not read the few octets of an answer is not worth waiting for.
    fn flush(&mut self, tcp: &OwnedFd) -> Result<(), Broken> {
        while let Some(bytes) = self.handshake.poll_transmit() {
            match tcp::send(tcp, &bytes) {
                Ok(count) if count == bytes.len() => {}
                Ok(_) | Err(_) => return Err(Broken),
            }
        }
        Ok(())
    }
}

/// What a request leads to.
enum Step {
    Stream,
    Rekey(EspParameters),
    LoggedOut,
}

/// The connection cannot be used any more.
struct Broken;
