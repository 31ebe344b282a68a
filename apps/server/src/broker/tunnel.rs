//! CONNECT: from a cookie to a verified session (`specs/server-auth.md` §4.3).

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use culvert_server_config::{CertRebind, SessionSettings};
use culvert_vocab::{GroupName, SessionId, UserName};

use super::auth::Caller;
use super::conversation::{Conversation, Violation};
use super::loaded::LoadedHost;
use super::settings;
use super::told;
use crate::ipc::Text;
use crate::ipc::messages::{BrokerToMain, LoginReply, Refusal, TunnelReply, TunnelRequest, TunnelWish};
use crate::ipc::session::{Claims, CloseReason, GivenSettings, VerifiedSession};
use crate::log;
use crate::sessions::{CookieError, Moment, OpenLimits, Opened, Session, SessionKey};

/// Why there is no tunnel: for the client, and for the log.
struct Refused {
    refusal: Refusal,
    why: Why,
}

/// The reason, as the log has it.
enum Why {
    Problem(String),
    /// There is no such session, or none any more.
    NoSession,
    /// Main has been told, who says it.
    TooManyClients,
}

impl From<String> for Refused {
    fn from(problem: String) -> Self {
        Self {
            refusal: Refusal::NotAcceptable,
            why: Why::Problem(problem),
        }
    }
}

impl From<CookieError> for Refused {
    fn from(error: CookieError) -> Self {
        let why = match error {
            CookieError::Unknown => Why::NoSession,
            error => Why::Problem(error.to_string()),
        };
        let refusal = Refusal::NotAcceptable;
        Self { refusal, why }
    }
}

/// What is known of a session before its files are read.
struct Known {
    user: UserName,
    group: Option<GroupName>,
    /// What RADIUS has given, if the configuration of users comes from there.
    given: Option<Box<GivenSettings>>,
    /// It comes from an earlier server; whether a certificate began it.
    restored: Option<bool>,
}

impl Known {
    /// The settings of its user: of his files, and what he was given.
    async fn settings(&self, host: &LoadedHost) -> Result<SessionSettings, Refused> {
        let config = Arc::clone(&host.config);
        let (user, group) = (self.user.clone(), self.group.clone());
        let pool = self.given.as_ref().and_then(|given| given.pool.clone());
        let own = tokio::task::spawn_blocking(move || {
            config.settings_in_pool(&user, group.as_ref(), pool.as_ref())
        });
        let own = own.await.map_err(|error| error.to_string())?;
        let user = &self.user;
        let (mut own, notes) = own.map_err(|error| format!("configuration of user '{user}': {error}"))?;
        for note in notes {
            log::write(log::Level::Info, &format!("sec-mod: user '{user}': {note}"));
        }
        if let Some(given) = &self.given {
            settings::apply_given(&mut own, given, host.config.append_routes);
        }
        Ok(own)
    }
}

/// A client says of a session what is not so; for the log.
struct NotAsClaimed<'a>(&'a Session, &'a Claims);

impl fmt::Display for NotAsClaimed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(session, claims) = self;
        let user = claims.user.as_ref().map_or(session.user.as_str(), Text::as_str);
        let computer = claims.computer.as_ref().unwrap_or(&session.client.computer);
        write!(
            f,
            "the cookie is of user '{}' on '{}', not of '{}' on '{}'",
            session.user,
            log::printable(session.client.computer.as_str()),
            log::printable(user),
            log::printable(computer.as_str()),
        )
    }
}

impl Conversation {
    pub(super) async fn open_tunnel(
        &mut self,
        host: &LoadedHost,
        request: TunnelRequest,
    ) -> Result<TunnelReply, Violation> {
        if std::mem::replace(&mut self.tunnel_asked, true) {
            return Err(Violation("second tunnel"));
        }
        match self.verify(host, request).await {
            Ok((session, wish)) => {
                let open = BrokerToMain::OpenTunnel {
                    id: self.id,
                    session: Box::new(session),
                    wish,
                };
                if self.broker.tell_main(&open) {
                    return Ok(TunnelReply::Accepted);
                }
                // Thousands of routes do not fit a message: this user's problem, nobody else's.
                self.broker
                    .state
                    .borrow_mut()
                    .sessions
                    .refused(self.id, Instant::now());
                Ok(TunnelReply::Refused(Refusal::Configuration))
            }
            Err(Refused { refusal, why }) => {
                match why {
                    Why::Problem(problem) => {
                        let text = format!("sec-mod: refused a tunnel to {}: {problem}", self.peer);
                        log::write(log::Level::Notice, &text);
                    }
                    Why::NoSession => told::no_session(),
                    Why::TooManyClients => {}
                }
                self.failed(false);
                Ok(TunnelReply::Refused(refusal))
            }
        }
    }

    /// Checks a cookie and all limits; the session is in use only when everything is good.
    async fn verify(
        &mut self,
        host: &LoadedHost,
        request: TunnelRequest,
    ) -> Result<(VerifiedSession, TunnelWish), Refused> {
        let known = self.known_session(host, &request)?;
        let user = &known.user;
        if let Some(certificate) = known.restored
            && !host.methods.knows(user, certificate).await
        {
            return Err(format!("user '{user}' of an earlier session does not exist any more").into());
        }
        let caller = Caller {
            peer: self.peer,
            local: self.local,
            user_agent: request.client.user_agent.clone(),
            host: Text::truncated(host.config.display_name()),
            session: request.cookie.safe_id(),
            channel: None,
        };
        host.methods.check_account(user, caller.clone()).await?;
        let own = known.settings(host).await?;
        let (key, opened) = self.hold(host, &request.cookie, user, &own)?;
        self.begin_pam_and_account(host, key, user, caller).await?;
        let state = self.broker.state.borrow();
        let session = state
            .sessions
            .get(key)
            .ok_or_else(|| "the session ended".to_owned())?;
        told::opened(session);
        let verified = VerifiedSession {
            id: session.id.clone(),
            user: session.user.clone(),
            group: session.group.clone(),
            host: session.host.clone(),
            authenticated_at: session.authenticated_at,
            session_left: opened.left,
            previous: session.addresses,
            accounted: host.accounting.is_some(),
            report: session.report(self.peer, Instant::now()),
            settings: settings::for_tunnel(
                host,
                user,
                known.group.as_ref(),
                &request.client,
                &own,
                known.given.as_deref(),
            ),
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

    /// The session of a cookie that is good on this connection, if it is as the client says.
    fn known_session(&self, host: &LoadedHost, request: &TunnelRequest) -> Result<Known, Refused> {
        let mut state = self.broker.state.borrow_mut();
        state.answered.forget_login(SessionKey::of(&request.cookie));
        let (_, session) =
            state
                .sessions
                .check(&request.cookie, host.config.display_name(), Instant::now())?;
        if !self.has_certificate_of(host, session) {
            return Err(format!(
                "user '{}' does not come with the certificate that logged in",
                session.user
            )
            .into());
        }
        if !session.is_as_claimed(&request.claims) {
            return Err(NotAsClaimed(session, &request.claims).to_string().into());
        }
        let from_radius = host.config.config_comes_from_radius();
        Ok(Known {
            user: session.user.clone(),
            group: session.group.clone(),
            given: session.given.clone().filter(|_| from_radius),
            restored: session.restored.then_some(session.certificate.is_some()),
        })
    }

    /// Lets this connection hold the session, if its limits allow that.
    fn hold(
        &self,
        host: &LoadedHost,
        cookie: &SessionId,
        user: &UserName,
        own: &SessionSettings,
    ) -> Result<(SessionKey, Opened), Refused> {
        let limits = OpenLimits {
            deny_roaming: own.deny_roaming,
            max_same_clients: own.max_same_clients,
            session_timeout: own.session_timeout,
            update_interval: own.stats_report_time,
        };
        let now = Moment::now();
        let mut state = self.broker.state.borrow_mut();
        // Looked up again: it may have ended while the files were read.
        let (key, _) = state
            .sessions
            .check(cookie, host.config.display_name(), now.monotonic)?;
        let opened = state
            .sessions
            .open(key, self.id, self.peer, limits, now.monotonic);
        state.note(key, now);
        match opened {
            Ok(opened) => Ok((key, opened)),
            Err(CookieError::TooMany(max)) => {
                if let Some(session) = state.sessions.get(key) {
                    self.say_too_many(session, max);
                }
                Err(Refused {
                    refusal: Refusal::NotAcceptable,
                    why: Why::TooManyClients,
                })
            }
            Err(error) => Err(format!("user '{user}': {error}").into()),
        }
    }

    /// As ocserv tells it, whose sessions begin before their connections are counted.
    fn say_too_many(&self, session: &Session, max: u32) {
        told::opened(session);
        self.broker.tell_main(&BrokerToMain::TooManyClients {
            id: self.id,
            user: session.user.clone(),
            host: Text::truncated(&session.host),
            max,
        });
        told::closed(&session.user, &session.id);
    }

    /// Begins what has to be there before the tunnel: the PAM session and the account. Otherwise the
    /// session is unused again.
    async fn begin_pam_and_account(
        &self,
        host: &LoadedHost,
        key: SessionKey,
        user: &UserName,
        caller: Caller,
    ) -> Result<(), Refused> {
        let has_pam_session = {
            let state = self.broker.state.borrow();
            state.sessions.get(key).is_some_and(|session| session.pam_session)
        };
        if has_pam_session {
            let session = self
                .broker
                .open_pam_session(key, &host.methods, user, caller)
                .await;
            if let Err(problem) = session {
                let mut state = self.broker.state.borrow_mut();
                state.sessions.refused(self.id, Instant::now());
                state.note(key, Moment::now());
                return Err(format!("the PAM session of user '{user}' does not open: {problem}").into());
            }
        }
        let accounting = host.accounting.as_ref();
        if accounting.is_some_and(|accounting| accounting.required) && !self.account(key).await {
            // The cookie is good: the client may come back.
            return Err(Refused {
                refusal: Refusal::Server,
                why: Why::Problem(format!(
                    "no accounting server has taken the Start of user '{user}' (acct-required)"
                )),
            });
        }
        Ok(())
    }

    /// Whether a server has taken the Start of the session, now or before; otherwise the session is
    /// unused again.
    async fn account(&self, key: SessionKey) -> bool {
        let now = Moment::now();
        let (start, outbox) = {
            let mut state = self.broker.state.borrow_mut();
            let start = state.sessions.open_account_early(self.id, now.monotonic);
            state.note(key, now);
            (start, state.outbox.clone())
        };
        let Some(start) = start else { return true };
        let taken = outbox.send_and_wait(start, now.wall).await;
        if !taken {
            let now = Moment::now();
            let mut state = self.broker.state.borrow_mut();
            state.sessions.forget_account(self.id);
            state.sessions.refused(self.id, now.monotonic);
            state.note(key, now);
        }
        taken
    }

    /// The session of a cookie, if it is good on this connection.
    pub(super) fn session_of(
        &mut self,
        host: &LoadedHost,
        cookie: &SessionId,
        now: Instant,
    ) -> Result<Option<SessionKey>, Violation> {
        self.cookies.spend("too many cookies")?;
        let state = self.broker.state.borrow();
        let found = state.sessions.check(cookie, host.config.display_name(), now);
        let found = found
            .ok()
            .filter(|(_, session)| self.has_certificate_of(host, session));
        Ok(found.map(|(key, _)| key))
    }

    /// A login with the cookie of a session.
    pub(super) fn join(
        &mut self,
        host: &LoadedHost,
        cookie: &SessionId,
        claims: &Claims,
    ) -> Result<LoginReply, Violation> {
        let key = self.session_of(host, cookie, Instant::now())?;
        let mut state = self.broker.state.borrow_mut();
        let session = key.and_then(|key| state.sessions.get(key));
        let Some(session) = session.filter(|_| !self.barred.get()) else {
            drop(state);
            self.failed(false);
            return Ok(LoginReply::NotPending);
        };
        if !session.is_as_claimed(claims) {
            let problem = NotAsClaimed(session, claims);
            let text = format!("sec-mod: refused a login by cookie from {}: {problem}", self.peer);
            log::write(log::Level::Notice, &text);
            drop(state);
            self.failed(false);
            return Ok(LoginReply::NotPending);
        }
        let reply = LoginReply::Success {
            cookie: cookie.clone(),
            user: session.user.clone(),
            group: session.group.clone(),
            token: None,
        };
        state.answered.forget_login(SessionKey::of(cookie));
        Ok(reply)
    }

    /// The client logs out on a connection that is not its tunnel's. False when there is no such session,
    /// or it is not as the client says.
    pub(super) fn end_session(
        &mut self,
        host: &LoadedHost,
        cookie: &SessionId,
        claims: &Claims,
    ) -> Result<bool, Violation> {
        self.cookies.spend("too many cookies")?;
        let now = Moment::now();
        let mut state = self.broker.state.borrow_mut();
        let name = host.config.display_name();
        let Ok((key, session)) = state.sessions.check(cookie, name, now.monotonic) else {
            return Ok(false);
        };
        let as_claimed = session.is_as_claimed(claims);
        if !as_claimed {
            let problem = NotAsClaimed(session, claims);
            let text = format!(
                "sec-mod: a log-out from {} that does not fit: {problem}",
                self.peer
            );
            log::write(log::Level::Notice, &text);
        }
        let connections = match host.config.persistent_cookies {
            true => state.sessions.holders(key),
            false => state.remove(key, CloseReason::UserLogout, now),
        };
        drop(state);
        if !connections.is_empty() {
            self.broker.tell_main(&BrokerToMain::Disconnect(connections));
        }
        Ok(as_claimed)
    }

    /// True when the client has the certificate that the session was begun with, if any.
    /// AnyConnect may come back without it, which only `cisco-client-compat` allows.
    pub(super) fn has_certificate_of(&self, host: &LoadedHost, session: &Session) -> bool {
        match (session.certificate, &self.identity) {
            (Some(key), Some(identity)) => {
                let host = &host.config;
                let of_user = |name: &UserName| host.username_case.apply(name.clone()) == session.user;
                identity.key == key
                    || (host.cert_rebind == CertRebind::Name && identity.user.as_ref().is_ok_and(of_user))
            }
            (Some(_), None) => host.config.cisco_client_compat,
            (None, _) => true,
        }
    }
}
