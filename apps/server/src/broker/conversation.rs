//! The conversation with one worker. Who is on the other side is known by the channel: the
//! source address, and after [`WorkerToBroker::ServerName`] the virtual host. Everything a worker
//! says is checked here; one that breaks the protocol is killed.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use culvert_server_config::CertificateRequest;
use culvert_vocab::SessionId;

use super::auth::Identity;
use super::keys::EndPoint;
use super::loaded::{Loaded, LoadedHost};
use super::state::Broker;
use super::tls_cache::TlsSession;
use crate::ipc::link::{LinkError, Receiver, Sender};
use crate::ipc::messages::{BrokerToMain, BrokerToWorker, ConnectionId, HostIndex, WorkerToBroker};
use crate::ipc::session::ReportName;
use crate::ipc::{Bytes, SecretField, Text};
use crate::log;

/// One handshake needs one signature; the rest is for retries of the client's TLS.
const SIGNATURES: u8 = 4;
/// TLS sessions stored or looked up by one connection.
const TLS_SESSIONS: u8 = 16;
/// Logins begun and cookies tried by one connection: it may send 16 requests.
const LOGINS: u8 = 16;

/// A worker broke the protocol.
pub(super) struct Violation(pub(super) &'static str);

/// How many times a worker may still ask for something.
pub(super) struct Budget(u8);

impl Budget {
    pub(super) fn spend(&mut self, what: &'static str) -> Result<(), Violation> {
        self.0 = self.0.checked_sub(1).ok_or(Violation(what))?;
        Ok(())
    }
}

/// One worker's conversation.
pub(super) struct Conversation {
    pub(super) broker: Rc<Broker>,
    pub(super) id: ConnectionId,
    pub(super) peer: IpAddr,
    /// The server's address that the client came to.
    pub(super) local: IpAddr,
    pub(super) loaded: Rc<Loaded>,
    pub(super) host: Option<usize>,
    /// The source was banned meanwhile.
    pub(super) barred: Rc<Cell<bool>>,
    /// Wrong answers on this connection.
    pub(super) tries: u8,
    pub(super) finished: bool,
    /// HTTP authentication has failed: only a form is left.
    pub(super) http_failed: bool,
    pub(super) signatures: Budget,
    /// The signatures made so far.
    pub(super) signed: Vec<Vec<u8>>,
    /// What the certificate names that the client has been shown, now or when it resumes a TLS session.
    pub(super) end_point: Option<EndPoint>,
    pub(super) certificates: Budget,
    /// Whom the client's certificate speaks of, once it is proven.
    pub(super) identity: Option<Arc<Identity>>,
    /// The client was asked for its group.
    pub(super) group_asked: bool,
    pub(super) tls_sessions: Budget,
    pub(super) logins: Budget,
    received: Budget,
    pub(super) cookies: Budget,
    pub(super) kdc_messages: Budget,
    pub(super) tunnel_asked: bool,
}

impl Conversation {
    pub(super) fn new(
        broker: Rc<Broker>,
        id: ConnectionId,
        (peer, local): (IpAddr, IpAddr),
        loaded: Rc<Loaded>,
        barred: Rc<Cell<bool>>,
    ) -> Self {
        Self {
            broker,
            id,
            peer,
            local,
            loaded,
            host: None,
            barred,
            tries: 0,
            finished: false,
            http_failed: false,
            signatures: Budget(SIGNATURES),
            signed: Vec::new(),
            end_point: None,
            certificates: Budget(1),
            identity: None,
            group_asked: false,
            tls_sessions: Budget(TLS_SESSIONS),
            logins: Budget(LOGINS),
            received: Budget(LOGINS),
            cookies: Budget(LOGINS),
            kdc_messages: Budget(LOGINS),
            tunnel_asked: false,
        }
    }

    /// Answers requests, one at a time, until the worker has gone or is to be killed.
    pub(super) async fn run(mut self, sender: Sender, mut receiver: Receiver) {
        let why = loop {
            let request = match receiver.receive::<WorkerToBroker>().await {
                Ok(Some((request, _none))) => request,
                Ok(None) => return,
                Err(LinkError::Malformed(error)) => break error.to_string(),
                Err(error) => {
                    log::write(log::Level::Debug, &format!("sec-mod: worker channel: {error}"));
                    return;
                }
            };
            match self.handle(request).await {
                Ok(reply) => {
                    if sender.send(&reply, Vec::new()).is_err() {
                        return;
                    }
                }
                Err(Violation(why)) => break why.to_owned(),
            }
        };
        self.broker.tell_main(&BrokerToMain::Kill {
            id: self.id,
            why: Text::truncated(&why),
        });
    }

    async fn handle(&mut self, request: WorkerToBroker) -> Result<BrokerToWorker, Violation> {
        if let WorkerToBroker::ServerName(name) = request {
            return self.server_name(name.as_ref().map(Text::as_str));
        }
        let loaded = Rc::clone(&self.loaded);
        let host = self
            .host
            .and_then(|position| loaded.host(position))
            .ok_or(Violation("request before the server name"))?;
        match request {
            WorkerToBroker::ServerName(_) => Err(Violation("second server name")),
            WorkerToBroker::Sign { key, scheme, message } => self.sign(host, key, scheme, message).await,
            WorkerToBroker::StoreTlsSession { id, data } => self.store_tls(host, id, data),
            WorkerToBroker::FetchTlsSession { id, take } => self.fetch_tls(host, id, take),
            WorkerToBroker::Certificate(proof) => self.certificate(host, *proof).await,
            WorkerToBroker::Login(start) => self.login(host, start).await.map(BrokerToWorker::Login),
            WorkerToBroker::HttpLogin(step) => self.http_login(host, step).await.map(BrokerToWorker::Login),
            WorkerToBroker::LoginAnswer(answer) => {
                self.answer(host, answer.into()).await.map(BrokerToWorker::Login)
            }
            WorkerToBroker::LoginResume { context, answer } => self
                .resume(host, &context, answer.into())
                .await
                .map(BrokerToWorker::Login),
            WorkerToBroker::Received => self.note_received(),
            WorkerToBroker::Join { cookie, claims } => {
                self.join(host, &cookie, &claims).map(BrokerToWorker::Login)
            }
            WorkerToBroker::RecallReport { cookie, name } => self.recall_report(host, &cookie, name),
            WorkerToBroker::KeepReport { cookie, name } => self.keep_report(host, &cookie, name),
            WorkerToBroker::CheckCookie(cookie) => {
                let key = self.session_of(host, &cookie, Instant::now())?;
                Ok(BrokerToWorker::Cookie(key.is_some()))
            }
            WorkerToBroker::Recognise(id) => self.recognise(host, &id),
            WorkerToBroker::EndSession { cookie, claims } => self
                .end_session(host, &cookie, &claims)
                .map(BrokerToWorker::Cookie),
            WorkerToBroker::AskKdc { server, message } => {
                self.ask_kdc(host, server, message.as_slice()).await
            }
            WorkerToBroker::OpenTunnel(request) => {
                self.open_tunnel(host, request).await.map(BrokerToWorker::Tunnel)
            }
        }
    }

    fn server_name(&mut self, name: Option<&str>) -> Result<BrokerToWorker, Violation> {
        if self.host.is_some() {
            return Err(Violation("second server name"));
        }
        let position = self.loaded.host_for(name);
        self.host = Some(position);
        Ok(BrokerToWorker::Host(HostIndex(
            u16::try_from(position).unwrap_or(0),
        )))
    }

    /// The client has got the last answer.
    fn note_received(&mut self) -> Result<BrokerToWorker, Violation> {
        self.received.spend("too many answers received")?;
        self.broker.state.borrow_mut().answered.received(self.id);
        Ok(BrokerToWorker::Noted)
    }

    fn recall_report(
        &mut self,
        host: &LoadedHost,
        cookie: &SessionId,
        name: ReportName,
    ) -> Result<BrokerToWorker, Violation> {
        let now = Instant::now();
        let Some(key) = self.session_of(host, cookie, now)? else {
            return Ok(BrokerToWorker::Cookie(false));
        };
        let state = self.broker.state.borrow();
        let session = state.sessions.get(key);
        let report = session.and_then(|session| session.report(self.peer, now));
        let known = report.filter(|(known, _)| *known == name);
        Ok(BrokerToWorker::Report(known.map(|(_, age)| age)))
    }

    fn keep_report(
        &mut self,
        host: &LoadedHost,
        cookie: &SessionId,
        name: ReportName,
    ) -> Result<BrokerToWorker, Violation> {
        let now = Instant::now();
        let key = self.session_of(host, cookie, now)?;
        if let Some(key) = key {
            let mut state = self.broker.state.borrow_mut();
            state.sessions.keep_report(key, name, self.peer, now);
        }
        Ok(BrokerToWorker::Cookie(key.is_some()))
    }

    /// Whether an id is that of a session or of a login in progress.
    fn recognise(&mut self, host: &LoadedHost, id: &SessionId) -> Result<BrokerToWorker, Violation> {
        self.cookies.spend("too many cookies")?;
        let (name, now) = (host.config.display_name(), Instant::now());
        let state = self.broker.state.borrow();
        let known =
            state.sessions.check(id, name, now).is_ok() || state.pending.knows(id, self.peer, name, now);
        Ok(BrokerToWorker::Cookie(known))
    }

    async fn sign(
        &mut self,
        host: &LoadedHost,
        key: u8,
        scheme: u16,
        message: Bytes<16384>,
    ) -> Result<BrokerToWorker, Violation> {
        self.signatures.spend("too many signatures")?;
        let key = host
            .keys
            .get(usize::from(key))
            .ok_or(Violation("signature with a key that does not exist"))?;
        if host.certificates.is_some() {
            let signed_once = &mut self.broker.state.borrow_mut().signed_once;
            if !signed_once.allow(scheme, message.as_slice()) {
                return Err(Violation("the same handshake twice"));
            }
        }
        let signature = match self
            .broker
            .keys
            .sign(Arc::clone(&key.private), scheme, message.into_vec())
            .await
        {
            Ok(signature) => {
                self.signed.push(signature.clone());
                self.end_point.clone_from(&key.end_point);
                Bytes::new(signature).ok()
            }
            Err(culvert_tls::KeyError::Message) => {
                return Err(Violation("signature of something that is not TLS"));
            }
            Err(error) => {
                log::write(log::Level::Error, &format!("sec-mod: {error}"));
                None
            }
        };
        Ok(BrokerToWorker::Signature(signature))
    }

    /// Hosts that ask for certificates never resume: each connection proves its own.
    fn may_resume(host: &LoadedHost) -> bool {
        host.config
            .auth
            .certificate_request(host.config.cisco_client_compat)
            == CertificateRequest::No
    }

    fn store_tls(
        &mut self,
        host: &LoadedHost,
        id: Bytes<64>,
        data: SecretField<4096>,
    ) -> Result<BrokerToWorker, Violation> {
        self.tls_sessions.spend("too many TLS sessions")?;
        let keep = Self::may_resume(host);
        if keep {
            let client = (self.peer, host.config.display_name());
            let session = TlsSession {
                data: data.into(),
                end_point: self.end_point.clone(),
            };
            let mut state = self.broker.state.borrow_mut();
            state.tls.store(
                client,
                id.into_vec(),
                session,
                host.config.cookie_timeout,
                Instant::now(),
            );
        }
        Ok(BrokerToWorker::Stored(keep))
    }

    fn fetch_tls(
        &mut self,
        host: &LoadedHost,
        id: Bytes<64>,
        take: bool,
    ) -> Result<BrokerToWorker, Violation> {
        self.tls_sessions.spend("too many TLS sessions")?;
        let session = if Self::may_resume(host) {
            let client = (self.peer, host.config.display_name());
            self.broker
                .state
                .borrow_mut()
                .tls
                .fetch(client, id.into_vec(), take, Instant::now())
        } else {
            None
        };
        let data = session.and_then(|session| {
            self.end_point = session.end_point;
            SecretField::new(session.data).ok()
        });
        Ok(BrokerToWorker::TlsSession(data))
    }
}
