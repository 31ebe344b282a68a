//! The conversation with one worker. Who is on the other side is known by the channel: the
//! source address, and after [`WorkerToBroker::ServerName`] the virtual host. Everything a worker
//! says is checked here; one that breaks the protocol is killed.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use culvert_server_config::CertificateRequest;
use culvert_vocab::{GroupName, SecretString, SessionId, UserName};

use super::auth::{ASK_PASSWORD, Attempt, GroupWish, Progress, choose};
use super::loaded::{Loaded, LoadedHost};
use super::settings;
use super::state::Broker;
use crate::ipc::link::{LinkError, Receiver, Sender};
use crate::ipc::messages::{
    BrokerToMain, BrokerToWorker, ConnectionId, HostIndex, LoginFailure, LoginReply, LoginStart, Refusal,
    TunnelReply, TunnelRequest, TunnelWish, WorkerToBroker,
};
use crate::ipc::session::{ClientDescription, VerifiedSession};
use crate::ipc::{Bytes, SecretField, Text};
use crate::log;
use crate::sessions::pending::Pending;
use crate::sessions::{CookiePolicy, Moment, NewSession, OpenLimits};

/// Wrong answers until a login is refused for good (`specs/server-auth.md` §1.8).
const TRIES: u8 = 3;
/// One handshake needs one signature; the rest is for retries of the client's TLS.
const SIGNATURES: u8 = 4;
/// TLS sessions stored or looked up by one connection.
const TLS_SESSIONS: u8 = 16;
/// Logins begun and cookies tried by one connection: it may send 16 requests.
const LOGINS: u8 = 16;
/// Begins the prompt after a wrong answer.
const LOGIN_FAILED: &str = "Login failed.\n";

/// A worker broke the protocol.
struct Violation(&'static str);

/// A login in progress.
pub(super) struct Login {
    attempt: Attempt,
    user: Option<UserName>,
    wish: GroupWish,
    client: ClientDescription,
    tries: u8,
    /// Number of the prompt that was asked.
    prompt: u8,
    /// Time spent in the broker so far.
    spent: Duration,
}

impl Login {
    /// Whose login it claims to be.
    pub(super) fn user(&self) -> Option<&UserName> {
        self.user.as_ref()
    }

    pub(super) fn client(&self) -> &ClientDescription {
        &self.client
    }
}

/// How many times a worker may still ask for something.
struct Budget(u8);

impl Budget {
    fn spend(&mut self, what: &'static str) -> Result<(), Violation> {
        self.0 = self.0.checked_sub(1).ok_or(Violation(what))?;
        Ok(())
    }
}

/// One worker's conversation.
pub(super) struct Conversation {
    broker: Rc<Broker>,
    id: ConnectionId,
    peer: IpAddr,
    loaded: Rc<Loaded>,
    host: Option<usize>,
    /// The source was banned meanwhile.
    barred: Rc<Cell<bool>>,
    /// Wrong answers on this connection.
    tries: u8,
    finished: bool,
    signatures: Budget,
    tls_sessions: Budget,
    logins: Budget,
    cookies: Budget,
    tunnel_asked: bool,
}

impl Conversation {
    pub(super) fn new(
        broker: Rc<Broker>,
        id: ConnectionId,
        peer: IpAddr,
        loaded: Rc<Loaded>,
        barred: Rc<Cell<bool>>,
    ) -> Self {
        Self {
            broker,
            id,
            peer,
            loaded,
            host: None,
            barred,
            tries: 0,
            finished: false,
            signatures: Budget(SIGNATURES),
            tls_sessions: Budget(TLS_SESSIONS),
            logins: Budget(LOGINS),
            cookies: Budget(LOGINS),
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
            WorkerToBroker::Login(start) => self.login(host, start).await.map(BrokerToWorker::Login),
            WorkerToBroker::LoginAnswer(answer) => {
                self.answer(host, answer.into()).await.map(BrokerToWorker::Login)
            }
            WorkerToBroker::LoginResume { context, answer } => self
                .resume(host, &context, answer.into())
                .await
                .map(BrokerToWorker::Login),
            WorkerToBroker::CheckCookie(cookie) => {
                self.cookies.spend("too many cookies")?;
                let state = self.broker.state.borrow();
                let good = state
                    .sessions
                    .check(&cookie, host.config.display_name(), Instant::now())
                    .is_ok();
                Ok(BrokerToWorker::Cookie(good))
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
        let signature = match self
            .broker
            .keys
            .sign(Arc::clone(key), scheme, message.into_vec())
            .await
        {
            Ok(signature) => Bytes::new(signature).ok(),
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
            let mut state = self.broker.state.borrow_mut();
            state.tls.store(
                client,
                id.into_vec(),
                data.into(),
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
        Ok(BrokerToWorker::TlsSession(
            session.and_then(|data| SecretField::new(data).ok()),
        ))
    }

    /// The first step of a login. A second one on the same connection begins anew, and the tries
    /// go on counting.
    async fn login(&mut self, host: &LoadedHost, start: LoginStart) -> Result<LoginReply, Violation> {
        self.logins.spend("too many logins")?;
        if self.tunnel_asked {
            return Err(Violation("login after the tunnel"));
        }
        let now = Instant::now();
        if self
            .broker
            .state
            .borrow_mut()
            .pending
            .take(self.id, now)
            .is_some()
        {
            self.failed(true);
        }
        if self.is_refused() {
            return Ok(LoginReply::Failed(LoginFailure::Credentials));
        }
        let Some(method) = host.methods.for_password() else {
            return Ok(self.refuse(LoginFailure::Internal));
        };
        let id = match culvert_sys::random::array() {
            Ok(bytes) => SessionId::from_bytes(bytes),
            Err(error) => {
                log::write(log::Level::Error, &format!("sec-mod: no random numbers: {error}"));
                return Ok(self.refuse(LoginFailure::Internal));
            }
        };
        let user = UserName::new(start.user.as_str()).ok();
        let (attempt, first) = method.begin(user.clone());
        let wish = start.group.as_ref().map(Text::as_str);
        let pending = Pending {
            id,
            peer: self.peer,
            host: host.config.display_name().to_owned(),
            started: now,
            answered: false,
            login: Login {
                attempt,
                user,
                wish: GroupWish::new(wish, host.config.default_select_group.as_deref()),
                client: start.client,
                tries: self.tries,
                prompt: 0,
                spent: Duration::ZERO,
            },
        };
        match (first, start.password) {
            (Progress::Prompt { .. }, Some(password)) => self.step(host, pending, password.into()).await,
            (progress, _) => self.conclude(host, pending, progress),
        }
    }

    async fn answer(&mut self, host: &LoadedHost, answer: SecretString) -> Result<LoginReply, Violation> {
        self.logins.spend("too many logins")?;
        let pending = self
            .broker
            .state
            .borrow_mut()
            .pending
            .take(self.id, Instant::now());
        match pending {
            Some(pending) if !self.is_refused() => self.step(host, pending, answer).await,
            // Its time is over, or it had to make room, or the source was banned.
            _ => Ok(LoginReply::Failed(LoginFailure::Credentials)),
        }
    }

    async fn resume(
        &mut self,
        host: &LoadedHost,
        context: &SessionId,
        answer: SecretString,
    ) -> Result<LoginReply, Violation> {
        self.logins.spend("too many logins")?;
        if self.is_refused() {
            return Ok(LoginReply::Failed(LoginFailure::Credentials));
        }
        let resumed = {
            let mut state = self.broker.state.borrow_mut();
            state
                .pending
                .resume(context, self.peer, host.config.display_name(), Instant::now())
        };
        let Some(pending) = resumed else {
            return Ok(LoginReply::NotPending);
        };
        self.tries = self.tries.max(pending.login.tries);
        self.step(host, pending, answer).await
    }

    /// Lets the method judge an answer. Meanwhile the login is in no table: it ends with this
    /// connection.
    async fn step(
        &mut self,
        host: &LoadedHost,
        mut pending: Pending<Login>,
        answer: SecretString,
    ) -> Result<LoginReply, Violation> {
        let began = Instant::now();
        pending.answered = true;
        let progress = pending.login.attempt.answer(answer).await;
        pending.login.spent += began.elapsed();
        self.conclude(host, pending, progress)
    }

    fn conclude(
        &mut self,
        host: &LoadedHost,
        mut pending: Pending<Login>,
        progress: Progress,
    ) -> Result<LoginReply, Violation> {
        // The verdict about the source may have come while the method was at work.
        if self.barred.get() {
            return Ok(self.refuse(LoginFailure::Credentials));
        }
        let (message, number) = match progress {
            Progress::Prompt { message, number } => (message, number),
            Progress::Wrong => {
                self.failed(true);
                self.tries = self.tries.saturating_add(1);
                if self.tries >= TRIES {
                    return Ok(self.refuse(LoginFailure::Credentials));
                }
                (format!("{LOGIN_FAILED}{ASK_PASSWORD}"), pending.login.prompt)
            }
            Progress::Unavailable(problem) => {
                log::write(
                    log::Level::Error,
                    &format!("sec-mod: cannot authenticate: {problem}"),
                );
                self.failed(true);
                return Ok(self.refuse(LoginFailure::Credentials));
            }
            Progress::Accepted { user, groups } => return Ok(self.accepted(host, pending, user, &groups)),
        };
        pending.login.tries = self.tries;
        pending.login.prompt = number;
        let context = pending.id.clone();
        let kept = self.broker.state.borrow_mut().pending.insert(self.id, pending);
        if let Err(error) = kept {
            log::write(log::Level::Warning, &format!("sec-mod: {error} ({})", self.peer));
            return Ok(self.refuse(LoginFailure::Internal));
        }
        Ok(LoginReply::Prompt {
            context,
            message: Text::truncated(&message),
            number,
        })
    }

    fn accepted(
        &mut self,
        host: &LoadedHost,
        pending: Pending<Login>,
        user: UserName,
        groups: &[GroupName],
    ) -> LoginReply {
        let Ok(group) = choose(groups, &pending.login.wish) else {
            log::write(
                log::Level::Notice,
                &format!("sec-mod: user '{user}' requested a group that he is no member of"),
            );
            self.failed(false);
            return self.refuse(LoginFailure::Credentials);
        };
        let now = Moment::now();
        let new = NewSession {
            user: user.clone(),
            group: group.clone(),
            host: pending.host,
            peer: self.peer,
            client: pending.login.client,
            cookie: CookiePolicy {
                timeout: host.config.cookie_timeout,
                persistent: host.config.persistent_cookies,
            },
        };
        let mut state = self.broker.state.borrow_mut();
        let (key, evicted) = state.sessions.insert(&pending.id, new, now);
        for key in std::iter::once(key).chain(evicted) {
            state.note(key, now);
        }
        drop(state);
        self.finished = true;
        log::write(
            log::Level::Debug,
            &format!(
                "sec-mod: initiating session for user '{user}' (session: {})",
                pending.id.safe_id().short()
            ),
        );
        self.broker.tell_main(&BrokerToMain::LoggedIn {
            id: self.id,
            user: user.clone(),
            group: group.clone(),
            host: Text::truncated(host.config.display_name()),
            took_ms: u32::try_from(pending.login.spent.as_millis()).unwrap_or(u32::MAX),
        });
        LoginReply::Success {
            cookie: pending.id,
            user,
            group,
        }
    }

    fn is_refused(&self) -> bool {
        self.finished || self.barred.get() || self.tries >= TRIES
    }

    /// No further login on this connection.
    fn refuse(&mut self, failure: LoginFailure) -> LoginReply {
        self.finished = true;
        LoginReply::Failed(failure)
    }

    fn failed(&self, points: bool) {
        self.broker
            .tell_main(&BrokerToMain::LoginFailed { id: self.id, points });
    }

    async fn open_tunnel(
        &mut self,
        host: &LoadedHost,
        request: TunnelRequest,
    ) -> Result<TunnelReply, Violation> {
        if std::mem::replace(&mut self.tunnel_asked, true) {
            return Err(Violation("second tunnel"));
        }
        match self.verify(host, request).await {
            Ok((session, wish)) => {
                self.broker.tell_main(&BrokerToMain::OpenTunnel {
                    id: self.id,
                    session: Box::new(session),
                    wish,
                });
                Ok(TunnelReply::Accepted)
            }
            Err(problem) => {
                log::write(
                    log::Level::Notice,
                    &format!("sec-mod: refused a tunnel to {}: {problem}", self.peer),
                );
                self.failed(false);
                Ok(TunnelReply::Refused(Refusal::NotAcceptable))
            }
        }
    }

    /// Checks a cookie and all limits; the session is in use only when everything is good.
    async fn verify(
        &mut self,
        host: &LoadedHost,
        request: TunnelRequest,
    ) -> Result<(VerifiedSession, TunnelWish), String> {
        let name = host.config.display_name();
        let (user, group, restored) = {
            let state = self.broker.state.borrow();
            let (_, session) = state
                .sessions
                .check(&request.cookie, name, Instant::now())
                .map_err(|error| error.to_string())?;
            (session.user.clone(), session.group.clone(), session.restored)
        };
        if restored && !self.still_exists(host, &user).await {
            return Err(format!(
                "user '{user}' of an earlier session does not exist any more"
            ));
        }
        let config = Arc::clone(&host.config);
        let names = (user.clone(), group.clone());
        let own = tokio::task::spawn_blocking(move || config.settings_for(&names.0, names.1.as_ref()))
            .await
            .map_err(|error| error.to_string())?;
        let (own, notes) = own.map_err(|error| format!("configuration of user '{user}': {error}"))?;
        for note in notes {
            log::write(log::Level::Info, &format!("sec-mod: user '{user}': {note}"));
        }
        let limits = OpenLimits {
            deny_roaming: own.deny_roaming,
            max_same_clients: own.max_same_clients,
            session_timeout: own.session_timeout,
        };
        let now = Moment::now();
        let mut state = self.broker.state.borrow_mut();
        // Looked up again: it may have ended while the files were read.
        let (key, _) = state
            .sessions
            .check(&request.cookie, name, now.monotonic)
            .map_err(|error| error.to_string())?;
        let opened = state
            .sessions
            .open(key, self.id, self.peer, limits, now.monotonic);
        state.note(key, now);
        let opened = opened.map_err(|error| format!("user '{user}': {error}"))?;
        let session = state
            .sessions
            .get(key)
            .ok_or_else(|| "the session ended".to_owned())?;
        let verified = VerifiedSession {
            id: session.id.clone(),
            user: session.user.clone(),
            group: session.group.clone(),
            host: session.host.clone(),
            authenticated_at: session.authenticated_at,
            session_left: opened.left,
            previous: session.addresses,
            settings: settings::for_tunnel(&host.config, &user, group.as_ref(), &request.client, &own),
        };
        let wish = TunnelWish {
            client: request.client,
            hostname: settings::host_label(request.hostname),
            ipv4: request.ipv4,
            ipv6: request.ipv6,
            udp: request.udp,
            tls: request.tls,
        };
        Ok((verified, wish))
    }

    async fn still_exists(&self, host: &LoadedHost, user: &UserName) -> bool {
        match host.methods.for_password() {
            Some(method) => method.knows(user).await,
            None => false,
        }
    }
}
