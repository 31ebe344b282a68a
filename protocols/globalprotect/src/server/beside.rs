//! The connection beside a tunnel that does not go over it: the client asks for its host check
//! there, and for the TLS channel when UDP does not work.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use culvert_login::server::{
    Action, AuthAnswer, AuthRequest, BesideEvent, Broken, Claims, FrontEnd as _, Opening as _, Random,
    Refusal, ReportName,
};
use culvert_record::SealError;
use culvert_tls::{ContentType, Opened, Opener, Sealer};
use culvert_vocab::SessionId;
use culvert_wire::http::{Request, RequestReader, Response};

use super::channels::{Announced, Channels, stream};
use super::config_answer::{Grant, config_answer};
use super::front_end::{FrontEnd, TARGET_MAX};
use super::opening::{Opening, Wish};
use crate::data::Sources;
use crate::wire::{EspParameters, START_TUNNEL};

/// Most octets of plaintext in one record.
const RECORD: usize = 16384;

/// Requests of a client whose tunnel is open.
pub(super) struct Beside {
    /// `None` once the connection is the tunnel's.
    tls: Option<(Sealer, Opener)>,
    /// What has come of a record.
    input: Vec<u8>,
    output: VecDeque<Vec<u8>>,
    events: VecDeque<BesideEvent>,
    reader: RequestReader,
    front_end: FrontEnd,
    session: SessionId,
    /// What the client has rightly said of the session.
    claims: Claims,
    /// The last report about its host, and when it was taken.
    report: Option<(ReportName, Instant)>,
    grant: Grant,
    sources: Sources,
}

impl Beside {
    /// Goes on after the configuration has been sent.
    pub(super) fn new(
        now: Instant,
        (sealer, opener): (Sealer, Opener),
        announced: Announced,
        sources: Sources,
    ) -> Self {
        let Announced {
            session,
            claims,
            report,
            grant,
            config,
        } = announced;
        Self {
            tls: Some((sealer, opener)),
            input: Vec::new(),
            output: VecDeque::new(),
            events: VecDeque::new(),
            reader: RequestReader::with_targets(TARGET_MAX),
            front_end: FrontEnd::new(Arc::new(config)),
            session,
            claims,
            report: report.and_then(|(name, age)| Some((name, now.checked_sub(age)?))),
            grant,
            sources,
        }
    }

    /// Opens one record; false when none is there.
    fn next_record(&mut self, now: Instant, random: Random<'_>) -> Result<bool, Broken> {
        let Some((sealer, opener)) = &mut self.tls else {
            return Ok(false);
        };
        let consumed = match opener.open(&mut self.input).map_err(|_| Broken)? {
            Opened::Incomplete { .. } => return Ok(false),
            Opened::Ignored { consumed } => consumed,
            Opened::KeyUpdate { consumed, requested } => {
                if requested {
                    let mut update = Vec::new();
                    sealer.key_update(false, &mut update).map_err(broken)?;
                    self.output.push_back(update);
                }
                consumed
            }
            Opened::Closed { .. } => return Err(Broken),
            Opened::ApplicationData { consumed, payload } => {
                let plaintext = self.input.get(payload).unwrap_or_default();
                let request = self.reader.handle_input(plaintext).map_err(|_| Broken)?;
                self.input.drain(..consumed);
                if let Some(request) = request {
                    self.serve(now, request, random)?;
                }
                return Ok(true);
            }
        };
        self.input.drain(..consumed);
        Ok(true)
    }

    fn serve(&mut self, now: Instant, request: Request, random: Random<'_>) -> Result<(), Broken> {
        let mut action = self.front_end.handle_request(request);
        if let Action::AskBroker(question) = &action
            && let Some(answer) = self.answer(now, question)
        {
            action = self.front_end.handle_answer(answer);
        }
        if let Some(note) = self.front_end.poll_note() {
            self.events.push_back(BesideEvent::Note(note));
        }
        match action {
            Action::Respond { response, close } => {
                self.respond(&response)?;
                if close { Err(Broken) } else { Ok(()) }
            }
            Action::Open(opening) => self.open(opening, random),
            Action::EndSession {
                session,
                claims,
                response,
                otherwise,
            } if session == self.session => {
                let answer = if self.is_as_before(&claims) {
                    response
                } else {
                    otherwise
                };
                self.respond(&answer)?;
                self.events.push_back(BesideEvent::LoggedOut);
                Ok(())
            }
            // Another login, or another session: on another connection.
            Action::AskBroker(_) | Action::EndSession { .. } | Action::CloseSilently => Err(Broken),
        }
    }

    /// A tunnel of this session in place of the present one: with new keys for ESP, or over this connection.
    fn open(&mut self, opening: Opening, random: Random<'_>) -> Result<(), Broken> {
        if *opening.session() != self.session {
            self.respond(&opening.refuse(Refusal::NotAcceptable))?;
            return Err(Broken);
        }
        let fits = self.is_as_before(&opening.claims);
        if !fits {
            let note = "refused a tunnel: user or computer are not those of the session";
            self.events.push_back(BesideEvent::Note(note.to_owned()));
            self.respond(&opening.refuse(Refusal::NotAcceptable))?;
        }
        match opening.wish {
            Wish::Config(_) if !fits => Ok(()),
            Wish::Stream(_) if !fits => Err(Broken),
            Wish::Config(_) => {
                let esp = self.fresh_keys(random);
                self.grant.esp.clone_from(&esp);
                self.respond(&config_answer(&self.grant))?;
                let channels = Channels {
                    esp,
                    sources: self.sources.clone(),
                    beside: None,
                };
                self.events.push_back(BesideEvent::Channels(Box::new(channels)));
                Ok(())
            }
            Wish::Stream(_) => {
                self.write(START_TUNNEL)?;
                let (sealer, opener) = self.tls.take().ok_or(Broken)?;
                let unread = std::mem::take(&mut self.input);
                let stream = stream(sealer, opener, self.sources.clone());
                self.events.push_back(BesideEvent::Stream(stream, unread));
                Ok(())
            }
        }
    }

    /// Answers what the front-end asks of its own session; nothing else is known here.
    fn answer(&mut self, now: Instant, question: &AuthRequest) -> Option<AuthAnswer> {
        let (AuthRequest::VerifyCookie { session }
        | AuthRequest::RecallReport { session, .. }
        | AuthRequest::KeepReport { session, .. }) = question
        else {
            return None;
        };
        if *session != self.session {
            return Some(AuthAnswer::Cookie(false));
        }
        match question {
            AuthRequest::RecallReport { name, .. } => {
                let report = self.report.filter(|(known, _)| known == name);
                let age = report.map(|(_, taken)| now.saturating_duration_since(taken));
                return Some(AuthAnswer::Report(age));
            }
            AuthRequest::KeepReport { name, .. } => {
                self.report = Some((*name, now));
                self.events.push_back(BesideEvent::Report(*name));
            }
            _ => {}
        }
        Some(AuthAnswer::Cookie(true))
    }

    /// True when the client says of the session what it has said before.
    fn is_as_before(&self, claims: &Claims) -> bool {
        let same = |said: &Option<String>, before: &Option<String>| said.is_none() || said == before;
        same(&claims.user, &self.claims.user) && same(&claims.computer, &self.claims.computer)
    }

    /// New keys for ESP, if there were any. Packets still name the session by the same SPI.
    fn fresh_keys(&self, random: Random<'_>) -> Option<EspParameters> {
        let present = self.grant.esp.as_ref()?;
        let algorithms = (present.up.encryption(), present.up.integrity());
        EspParameters::generate(present.port, present.up.spi(), algorithms, random)
    }

    fn respond(&mut self, response: &Response) -> Result<(), Broken> {
        self.write(&response.to_bytes())
    }

    fn write(&mut self, plaintext: &[u8]) -> Result<(), Broken> {
        let (sealer, _) = self.tls.as_mut().ok_or(Broken)?;
        for piece in plaintext.chunks(RECORD) {
            let headroom = sealer.headroom();
            let mut record = vec![0; sealer.sealed_len(piece.len())];
            record
                .get_mut(headroom..headroom + piece.len())
                .ok_or(Broken)?
                .copy_from_slice(piece);
            sealer
                .seal(ContentType::ApplicationData, &mut record, piece.len())
                .map_err(broken)?;
            self.output.push_back(record);
        }
        Ok(())
    }
}

fn broken(_: SealError) -> Broken {
    Broken
}

impl culvert_login::server::Beside for Beside {
    fn handle_input(&mut self, now: Instant, octets: &[u8], random: Random<'_>) -> Result<(), Broken> {
        self.input.extend_from_slice(octets);
        while self.next_record(now, random)? {}
        Ok(())
    }

    fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.output.pop_front()
    }

    fn poll_event(&mut self) -> Option<BesideEvent> {
        self.events.pop_front()
    }
}
