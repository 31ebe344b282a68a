//! TLS handshake and HTTP, up to CONNECT.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use culvert_anyconnect::server::{ClientClass, ClientInfo};
use culvert_login::server::{AuthAnswer, AuthRequest, Claims, Rejection};
use culvert_tls::{Acceptor, CHANNEL_BINDING_LABEL, CHANNEL_BINDING_LEN, Handshake, Negotiated, Version};
use culvert_vocab::{GroupName, SessionId};
use culvert_wire::http::{Request, RequestReader, Response};

use super::broker::Broker;
use super::front_end::{Action, FrontEnds, said};
use super::hand_over::Opened;
use super::open::{Connection, open};
use super::protocols::Wish;
use super::stream::{End, Stream};
use super::tls;
use crate::ipc::fields::{Bytes, SecretText, Text};
use crate::ipc::messages::{
    BrokerToWorker, HttpLogin, LogLevel, LoginFailure, LoginReply, LoginStart, SpawnRequest, WorkerToBroker,
};
use crate::ipc::session::{ChannelBinding, ClientDescription};
use crate::ipc::snapshot::{HostSnapshot, Snapshot};

/// Most octets of plaintext in one TLS record.
const RECORD: usize = 16384;

/// Serves a client until its tunnel is open.
pub(super) fn run(
    snapshot: &Snapshot,
    request: &SpawnRequest,
    broker: &Arc<Broker>,
    mut stream: Stream,
) -> Result<Opened, End> {
    let (handshake, host, certificate) = handshake(snapshot, broker, &mut stream)?;
    let mut session = Session {
        front_end: FrontEnds::new(snapshot, host, certificate),
        host,
        handshake,
        broker,
        stream,
        unconfirmed: false,
    };
    if let Some(description) = session.handshake.description() {
        session
            .stream
            .reporter()
            .log(LogLevel::Debug, &format!("TLS handshake completed {description}"));
    }
    let wish = session.serve()?;
    let Session {
        handshake, stream, ..
    } = session;
    let connection = Connection {
        snapshot,
        spawn: request,
        broker,
        handshake,
        stream,
    };
    match wish {
        Wish::AnyConnect(connect) => open(connect, connection),
        Wish::GlobalProtect(opening) => open(opening, connection),
    }
}

fn handshake<'s>(
    snapshot: &'s Snapshot,
    broker: &Arc<Broker>,
    stream: &mut Stream,
) -> Result<(Handshake, &'s HostSnapshot, bool), End> {
    let mut buffer = [0; 16384];
    let mut acceptor = Acceptor::new();
    let hello = loop {
        let count = stream.read(&mut buffer)?;
        match acceptor.handle_input(buffer.get(..count).unwrap_or_default()) {
            Ok(Some(hello)) => break hello,
            Ok(None) => {}
            Err(error) => {
                let _client_may_be_gone = stream.write(&acceptor.poll_transmit().unwrap_or_default());
                return Err(error.into());
            }
        }
    };
    let index = broker.host(hello.server_name())?;
    let host = snapshot
        .hosts
        .get(usize::from(index.0))
        .ok_or(End::Protocol("an unknown virtual host"))?;
    let configured = tls::config(host, broker)?;
    let mut handshake = match hello.into_handshake(&configured.config) {
        Ok(handshake) => handshake,
        Err((error, alert)) => {
            let _client_may_be_gone = stream.write(&alert);
            return Err(error.into());
        }
    };
    flush(&mut handshake, stream)?;
    while handshake.is_handshaking() {
        let count = stream.read(&mut buffer)?;
        feed(&mut handshake, stream, buffer.get(..count).unwrap_or_default())?;
    }
    let certificate = configured.certificate.load(Ordering::Relaxed);
    Ok((handshake, host, certificate))
}

fn feed(handshake: &mut Handshake, stream: &mut Stream, mut bytes: &[u8]) -> Result<(), End> {
    while !bytes.is_empty() {
        let taken = handshake.handle_input(bytes);
        let flushed = flush(handshake, stream);
        match taken? {
            // Two records of data wait already: more than any client sends before an answer.
            0 => return Err(End::Http("data beyond a request".to_owned())),
            taken => bytes = bytes.get(taken..).unwrap_or_default(),
        }
        flushed?;
    }
    Ok(())
}

/// Sends what TLS wants to be sent.
fn flush(handshake: &mut Handshake, stream: &mut Stream) -> Result<(), End> {
    while let Some(bytes) = handshake.poll_transmit() {
        stream.write(&bytes)?;
    }
    Ok(())
}

/// Sends octets, in as few records and segments as possible.
pub(super) fn send(handshake: &mut Handshake, stream: &mut Stream, plaintext: &[u8]) -> Result<(), End> {
    for piece in plaintext.chunks(RECORD) {
        handshake.write_plaintext(piece)?;
    }
    flush(handshake, stream)
}

/// Sends a response.
fn respond(handshake: &mut Handshake, stream: &mut Stream, response: &Response) -> Result<(), End> {
    send(handshake, stream, &response.to_bytes())
}

/// Sends a last response and closes TLS in an orderly way.
pub(super) fn respond_and_close(handshake: &mut Handshake, stream: &mut Stream, response: &Response) {
    if respond(handshake, stream, response).is_ok() {
        handshake.close_notify();
        let _client_may_be_gone = flush(handshake, stream);
    }
}

struct Session<'b> {
    front_end: FrontEnds<'b>,
    host: &'b HostSnapshot,
    handshake: Handshake,
    broker: &'b Broker,
    stream: Stream,
    /// The client has got an answer to a login step that it may send again, as far as nobody knows better.
    unconfirmed: bool,
}

/// True for a telephone's login by something that does not call itself one
/// (`specs/anyconnect.md` §5.5).
fn is_unlikely_phone(request: &Request) -> bool {
    let mut client = ClientInfo::default();
    client.update(&request.headers);
    request.target == "/svc" && client.class != ClientClass::IpPhone
}

impl<'b> Session<'b> {
    /// Answers requests until one asks for the tunnel.
    fn serve(&mut self) -> Result<Wish<'b>, End> {
        let mut reader = RequestReader::with_targets(self.front_end.target_max());
        let mut buffer = [0; 16384];
        loop {
            while let Some(plaintext) = self.handshake.poll_plaintext()? {
                let request = match reader.handle_input(&plaintext) {
                    Ok(Some(request)) => request,
                    Ok(None) => continue,
                    Err(error) => {
                        if let Some(response) = self.front_end.answer_to_junk() {
                            respond_and_close(&mut self.handshake, &mut self.stream, &response);
                        }
                        return Err(End::Http(error.to_string()));
                    }
                };
                self.confirm()?;
                self.log_request(&request);
                if let Some(wish) = self.answer(request)? {
                    return Ok(wish);
                }
            }
            if self.handshake.peer_closed() {
                self.confirm()?;
                return Err(End::PeerClosed);
            }
            let count = self.stream.read(&mut buffer)?;
            feed(
                &mut self.handshake,
                &mut self.stream,
                buffer.get(..count).unwrap_or_default(),
            )?;
        }
    }

    fn log_request(&self, request: &Request) {
        let reporter = self.stream.reporter();
        reporter.log_request(request, self.front_end.has_secret_query(&request.target));
        if !self.host.phones && is_unlikely_phone(request) {
            let text = "a login as a telephone, without cisco-svc-client-compat";
            reporter.log(LogLevel::Info, text);
        }
    }

    /// Answers a request, unless it is one for the tunnel.
    fn answer(&mut self, request: Request) -> Result<Option<Wish<'b>>, End> {
        let is_connect = request.method == "CONNECT";
        let mut action = self.front_end.handle_request(request);
        if is_connect && matches!(action, Action::Respond { .. }) {
            self.stream.reporter().log(LogLevel::Warning, "no cookie found");
        }
        loop {
            if let Some(note) = self.front_end.poll_note() {
                self.stream.reporter().log(LogLevel::Info, &note);
            }
            action = match action {
                Action::Respond {
                    response,
                    close: false,
                } => {
                    respond(&mut self.handshake, &mut self.stream, &response)?;
                    return Ok(None);
                }
                Action::Respond {
                    response,
                    close: true,
                } => {
                    respond_and_close(&mut self.handshake, &mut self.stream, &response);
                    return Err(End::Answered);
                }
                Action::AskBroker(question) => {
                    let answer = self.ask(question)?;
                    self.front_end.handle_answer(answer)
                }
                Action::AskKdc { server, message } => self.ask_kdc(server, message)?,
                Action::Recognise(id) => {
                    let known = self.broker.quick(&WorkerToBroker::Recognise(id))?;
                    let known = known == BrokerToWorker::Cookie(true);
                    self.front_end.handle_recognition(known)
                }
                Action::EndSession {
                    session,
                    claims,
                    response,
                    otherwise,
                } => {
                    let ended = self.end_session(session, &claims)?;
                    let answer = if ended { response } else { otherwise };
                    respond(&mut self.handshake, &mut self.stream, &answer)?;
                    return Ok(None);
                }
                Action::Open(wish) => return Ok(Some(wish)),
                Action::CloseSilently => {
                    return Err(End::Http("a request that gets no answer".to_owned()));
                }
            };
        }
    }

    /// The client logs out. False when there is no such session, or it is not as the client says.
    fn end_session(&self, session: SessionId, claims: &Claims) -> Result<bool, End> {
        let end = WorkerToBroker::EndSession {
            cookie: session,
            claims: said(claims),
        };
        let ended = self.broker.quick(&end)? == BrokerToWorker::Cookie(true);
        if ended {
            let text = "the client has logged out";
            self.stream.reporter().log(LogLevel::Info, text);
        }
        Ok(ended)
    }

    /// The client has gone on, or closed TLS in an orderly way: it has got the last answer.
    fn confirm(&mut self) -> Result<(), End> {
        if std::mem::take(&mut self.unconfirmed) {
            self.broker.quick(&WorkerToBroker::Received)?;
        }
        Ok(())
    }

    /// Has a message carried to a KDC.
    fn ask_kdc(&self, server: usize, message: Vec<u8>) -> Result<Action<'b>, End> {
        let (Ok(server), Ok(message)) = (u8::try_from(server), Bytes::new(message)) else {
            return Ok(self.front_end.handle_kdc_reply(None));
        };
        match self.broker.quick(&WorkerToBroker::AskKdc { server, message })? {
            BrokerToWorker::Kdc(reply) => Ok(self
                .front_end
                .handle_kdc_reply(reply.as_ref().map(Bytes::as_slice))),
            _ => Err(End::Protocol("the broker's answer does not fit")),
        }
    }

    fn ask(&mut self, question: AuthRequest) -> Result<AuthAnswer, End> {
        let repeatable = self.front_end.repeats_steps();
        let request = to_broker(question, self.front_end.describe(), repeatable, &self.handshake);
        let Some(request) = request else {
            // Longer than any name or password may be.
            return Ok(AuthAnswer::Rejected(Rejection::AuthenticationFailed));
        };
        let answer = match self.broker.patient(&request, &mut self.stream) {
            Ok(answer) => answer,
            Err(End::Late) => {
                let text = "the login was not decided by auth-timeout";
                self.stream.reporter().log(LogLevel::Warning, text);
                return Ok(AuthAnswer::Rejected(Rejection::AuthenticationFailed));
            }
            Err(end) => return Err(end),
        };
        let goes_on =
            |reply: &LoginReply| matches!(reply, LoginReply::Prompt { .. } | LoginReply::Success { .. });
        self.unconfirmed = repeatable && matches!(&answer, BrokerToWorker::Login(reply) if goes_on(reply));
        of_broker(answer)
    }
}

/// The protocol's form of an answer.
fn of_broker(answer: BrokerToWorker) -> Result<AuthAnswer, End> {
    let reply = match answer {
        BrokerToWorker::Login(reply) => reply,
        BrokerToWorker::Cookie(good) => return Ok(AuthAnswer::Cookie(good)),
        BrokerToWorker::Report(age) => return Ok(AuthAnswer::Report(age)),
        _ => return Err(End::Protocol("the broker's answer does not fit")),
    };
    Ok(match reply {
        LoginReply::Prompt {
            context,
            message,
            number,
        } => AuthAnswer::AskPassword {
            context,
            message: message.as_str().to_owned(),
            number,
        },
        LoginReply::Success {
            cookie, user, token, ..
        } => AuthAnswer::Accepted {
            session: cookie,
            user: user.to_string(),
            token: token.map(Into::into),
        },
        LoginReply::Challenge(token) => AuthAnswer::Challenge { token: token.into() },
        LoginReply::Fallback => AuthAnswer::Fallback,
        LoginReply::Failed(failure) => AuthAnswer::Rejected(match failure {
            LoginFailure::Credentials => Rejection::AuthenticationFailed,
            LoginFailure::Internal => Rejection::Internal,
            LoginFailure::NoCertificate => Rejection::NoCertificate,
            LoginFailure::UnreadableCertificate => Rejection::UnreadableCertificate,
        }),
        LoginReply::ChooseGroup(groups) => AuthAnswer::ChooseGroup {
            groups: groups.iter().map(GroupName::to_string).collect(),
        },
        LoginReply::NotPending => AuthAnswer::NotPending,
    })
}

/// The broker's form of a question; `None` when it exceeds what the broker takes.
fn to_broker(
    question: AuthRequest,
    client: ClientDescription,
    repeatable: bool,
    handshake: &Handshake,
) -> Option<WorkerToBroker> {
    Some(match question {
        AuthRequest::Start {
            user,
            password,
            group,
        } => WorkerToBroker::Login(LoginStart {
            user: Text::new(user).ok()?,
            password: password.map(SecretText::new).transpose().ok()?,
            group: group.map(Text::new).transpose().ok()?,
            client,
            repeatable,
        }),
        AuthRequest::Http { scheme, token, group } => WorkerToBroker::HttpLogin(HttpLogin {
            scheme,
            token: SecretText::new(token).ok()?,
            group: group.map(Text::new).transpose().ok()?,
            client,
            channel: channel(handshake),
        }),
        AuthRequest::Continue {
            context: None,
            password,
        } => WorkerToBroker::LoginAnswer(SecretText::new(password).ok()?),
        AuthRequest::Continue {
            context: Some(context),
            password,
        } => WorkerToBroker::LoginResume {
            context,
            answer: SecretText::new(password).ok()?,
        },
        AuthRequest::Join { session, claims } => WorkerToBroker::Join {
            cookie: session,
            claims: said(&claims),
        },
        AuthRequest::VerifyCookie { session } => WorkerToBroker::CheckCookie(session),
        AuthRequest::RecallReport { session, name } => WorkerToBroker::RecallReport {
            cookie: session,
            name,
        },
        AuthRequest::KeepReport { session, name } => WorkerToBroker::KeepReport {
            cookie: session,
            name,
        },
    })
}

/// What names the client's connection.
fn channel(handshake: &Handshake) -> ChannelBinding {
    if let Some(name) = handshake.client_finished() {
        return ChannelBinding::Unique(name);
    }
    let is_tls13 = |negotiated: Negotiated| negotiated.version == Version::Tls13;
    let mut name = [0; CHANNEL_BINDING_LEN];
    match handshake.negotiated().is_some_and(is_tls13)
        && handshake.exporter(CHANNEL_BINDING_LABEL, &mut name).is_ok()
    {
        true => ChannelBinding::Exporter(name),
        false => ChannelBinding::Nameless,
    }
}
