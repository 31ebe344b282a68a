//! Logins: prompts and answers, tries, groups, and the session at the end
//! (`specs/server-auth.md` §1.4-1.8).

use std::time::{Duration, Instant};

use culvert_vocab::{GroupName, HttpScheme, SecretString, SessionId, UserName};

use super::auth::{
    ASK_PASSWORD, Attempt, Caller, Entry, GroupWish, Identity, Progress, only_eligible, to_choose_from,
};
use super::conversation::{Conversation, Violation};
use super::loaded::LoadedHost;
use super::told;
use crate::helper::messages::Channel;
use crate::ipc::messages::{BrokerToMain, HttpLogin, LoginFailure, LoginReply, LoginStart};
use crate::ipc::session::{ChannelBinding, ClientDescription};
use crate::ipc::{Bytes, SecretText, Text};
use crate::log;
use crate::sessions::SessionKey;
use crate::sessions::answered::Step;
use crate::sessions::pending::Pending;

/// Wrong answers until a login is refused for good (`specs/server-auth.md` §1.8).
pub(super) const TRIES: u8 = 3;
/// Begins the prompt after a wrong answer.
const LOGIN_FAILED: &str = "Login failed.\n";

/// A login in progress.
pub(super) struct Login {
    /// `None`: a certificate alone.
    pub(super) attempt: Option<Attempt>,
    /// It goes by HTTP authentication, not by a form.
    pub(super) scheme: Option<HttpScheme>,
    /// A certificate must be shown, too.
    pub(super) certificate: bool,
    pub(super) user: Option<UserName>,
    pub(super) wish: GroupWish,
    pub(super) client: ClientDescription,
    /// Its client may repeat steps; the name that it typed.
    pub(super) repeated: Option<Text<1024>>,
    /// The last step, if its answer is to be kept.
    pub(super) step: Option<Step>,
    pub(super) tries: u8,
    /// Number of the prompt that was asked.
    pub(super) prompt: u8,
    /// Time spent in the broker so far.
    pub(super) spent: Duration,
}

/// The first step of a login.
struct Beginning {
    /// How it goes on.
    scheme: Option<HttpScheme>,
    /// The name that the client typed.
    user: Option<UserName>,
    /// What it sent with that: a password, or a token.
    answer: Option<SecretString>,
    group: Option<Text<1024>>,
    client: ClientDescription,
    /// The client's TLS connection, where that matters.
    channel: Option<ChannelBinding>,
    /// See [`Login::repeated`].
    repeated: Option<Text<1024>>,
    step: Option<Step>,
}

impl Conversation {
    /// The first step of a login. A second one on the same connection begins anew, and the tries
    /// go on counting.
    pub(super) async fn login(
        &mut self,
        host: &LoadedHost,
        start: LoginStart,
    ) -> Result<LoginReply, Violation> {
        self.spend_login()?;
        let step = self.first_step(host, &start);
        if let Some(reply) = self.answer_to_copy(host, step).await {
            return Ok(reply);
        }
        if self.take_pending().is_some() {
            self.failed(true);
        }
        let judging = self.judge(step);
        let beginning = Beginning {
            repeated: start.repeatable.then(|| start.user.clone()),
            step,
            scheme: None,
            user: UserName::new(start.user.as_str())
                .ok()
                .map(|user| host.config.username_case.apply(user)),
            answer: start.password.map(SecretString::from),
            group: start.group,
            client: start.client,
            channel: None,
        };
        let reply = self.begin(host, beginning).await?;
        Ok(self.judged(judging, reply))
    }

    /// A step of a login by HTTP authentication: the first one, or the next one of the login that is
    /// pending.
    pub(super) async fn http_login(
        &mut self,
        host: &LoadedHost,
        step: HttpLogin,
    ) -> Result<LoginReply, Violation> {
        self.spend_login()?;
        match self.take_pending() {
            Some(pending) if pending.login.scheme == Some(step.scheme) && !self.is_refused() => {
                return self.step(host, pending, step.token.into()).await;
            }
            Some(_) => self.failed(true),
            None => {}
        }
        let beginning = Beginning {
            scheme: Some(step.scheme),
            user: None,
            answer: Some(step.token.into()),
            group: step.group,
            client: step.client,
            channel: Some(step.channel),
            repeated: None,
            step: None,
        };
        self.begin(host, beginning).await
    }

    fn spend_login(&mut self) -> Result<(), Violation> {
        self.logins.spend("too many logins")?;
        if self.tunnel_asked {
            return Err(Violation("login after the tunnel"));
        }
        Ok(())
    }

    fn take_pending(&mut self) -> Option<Pending<Login>> {
        let mut state = self.broker.state.borrow_mut();
        state.pending.take(self.id, Instant::now())
    }

    async fn begin(&mut self, host: &LoadedHost, start: Beginning) -> Result<LoginReply, Violation> {
        let now = Instant::now();
        if self.is_refused() || (start.scheme.is_some() && self.http_failed) {
            return Ok(LoginReply::Failed(LoginFailure::Credentials));
        }
        let identity = self.identity.clone();
        let Some(entry) = host.methods.select(identity.is_some(), start.scheme) else {
            return Ok(self.refuse(LoginFailure::NoCertificate));
        };
        let wish = match self.wish(host, entry, identity.as_deref(), start.group.as_ref()) {
            Ok(wish) => wish,
            Err(groups) => return Ok(LoginReply::ChooseGroup(groups)),
        };
        let id = match culvert_sys::random::array() {
            Ok(bytes) => SessionId::from_bytes(bytes),
            Err(error) => {
                log::write(log::Level::Error, &format!("sec-mod: no random numbers: {error}"));
                return Ok(self.refuse(LoginFailure::Internal));
            }
        };
        let user = start.user;
        self.say_begun(host, entry, &id, user.as_ref(), &wish);
        let caller = self.caller(host, &id, &start.client, start.channel);
        let (attempt, first) = entry.begin(user.clone(), identity.as_deref(), caller).await;
        let pending = Pending {
            id,
            peer: self.peer,
            host: host.config.display_name().to_owned(),
            started: now,
            answered: false,
            login: Login {
                attempt,
                scheme: start.scheme,
                certificate: entry.certificate,
                user,
                wish,
                client: start.client,
                repeated: start.repeated,
                step: start.step,
                tries: self.tries,
                prompt: 0,
                spent: now.elapsed(),
            },
        };
        match (first, start.answer) {
            (Progress::Prompt { .. } | Progress::Challenge(None), Some(answer)) => {
                self.step(host, pending, answer).await
            }
            (progress, _) => self.conclude(host, pending, progress),
        }
    }

    /// Who asks, for the method.
    fn caller(
        &self,
        host: &LoadedHost,
        id: &SessionId,
        client: &ClientDescription,
        channel: Option<ChannelBinding>,
    ) -> Caller {
        let end_point = || Bytes::new(self.end_point.as_deref()?.to_vec()).ok();
        Caller {
            peer: self.peer,
            local: self.local,
            user_agent: client.user_agent.clone(),
            host: Text::truncated(host.config.display_name()),
            session: id.safe_id(),
            channel: channel.map(|unique| Channel {
                unique,
                end_point: end_point(),
            }),
        }
    }

    /// The group that the client wants, or the groups that its user has to choose from.
    fn wish(
        &mut self,
        host: &LoadedHost,
        entry: &Entry,
        identity: Option<&Identity>,
        group: Option<&Text<1024>>,
    ) -> Result<GroupWish, Vec<GroupName>> {
        let wish = GroupWish::new(
            group.filter(|_| entry.takes_wish()).map(Text::as_str),
            host.config.default_select_group.as_deref(),
        );
        match identity.filter(|_| entry.method.is_none()) {
            Some(identity) => self.group_of_certificate(host, identity, wish),
            None => Ok(wish),
        }
    }

    pub(super) async fn answer(
        &mut self,
        host: &LoadedHost,
        answer: SecretString,
    ) -> Result<LoginReply, Violation> {
        self.logins.spend("too many logins")?;
        match self.take_pending() {
            Some(pending) if pending.login.scheme.is_some() => {
                Err(Violation("a password in place of a token"))
            }
            Some(mut pending) if !self.is_refused() => {
                let step = self.step_of_answer(host, &pending, &answer);
                pending.login.step = step;
                let judging = self.judge(step);
                let reply = self.step(host, pending, answer).await?;
                Ok(self.judged(judging, reply))
            }
            // Its time is over, or it had to make room, or the source was banned.
            _ => Ok(LoginReply::Failed(LoginFailure::Credentials)),
        }
    }

    pub(super) async fn resume(
        &mut self,
        host: &LoadedHost,
        context: &SessionId,
        answer: SecretString,
    ) -> Result<LoginReply, Violation> {
        self.logins.spend("too many logins")?;
        if self.is_refused() {
            return Ok(LoginReply::Failed(LoginFailure::Credentials));
        }
        let step = self.next_step(host, context, &answer);
        if let Some(reply) = self.answer_to_copy(host, step).await {
            return Ok(reply);
        }
        let resumed = {
            let mut state = self.broker.state.borrow_mut();
            state
                .pending
                .resume(context, self.peer, host.config.display_name(), Instant::now())
        };
        let Some(mut pending) = resumed.filter(|pending| pending.login.scheme.is_none()) else {
            return Ok(LoginReply::NotPending);
        };
        pending.login.step = step.filter(|_| pending.login.repeated.is_some());
        self.tries = self.tries.max(pending.login.tries);
        let judging = self.judge(pending.login.step);
        let reply = self.step(host, pending, answer).await?;
        Ok(self.judged(judging, reply))
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
        // Whoever answers has got the prompt.
        let key = SessionKey::of(&pending.id);
        self.broker.state.borrow_mut().answered.forget_login(key);
        let progress = match &mut pending.login.attempt {
            Some(attempt) => attempt.answer(answer).await,
            None => Progress::Refused(None),
        };
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
            Progress::Wrong(text) => {
                self.wrong(&pending, None);
                if self.tries >= TRIES {
                    told::failed(pending.login.user.as_ref(), self.peer);
                    return Ok(self.refuse(LoginFailure::Credentials));
                }
                // Each wrong answer counts.
                pending.login.step = None;
                let text = text.unwrap_or_else(|| format!("{LOGIN_FAILED}{ASK_PASSWORD}"));
                (text, pending.login.prompt)
            }
            Progress::Refused(why) => {
                self.wrong(&pending, why.as_deref());
                return Ok(self.refuse_or_fall_back(host, &pending, LoginFailure::Credentials));
            }
            Progress::Challenge(token) => return Ok(self.challenge(pending, token)),
            Progress::Unavailable(problem) => {
                log::write(
                    log::Level::Error,
                    &format!("sec-mod: cannot authenticate: {problem}"),
                );
                self.failed(true);
                // Without a method there was only the certificate to be read.
                let why = match pending.login.attempt {
                    Some(_) => LoginFailure::Internal,
                    None => LoginFailure::UnreadableCertificate,
                };
                return Ok(self.refuse_or_fall_back(host, &pending, why));
            }
            Progress::Accepted(accepted) => return Ok(self.accepted(host, pending, *accepted)),
        };
        pending.login.tries = self.tries;
        pending.login.prompt = number;
        let (context, step) = (pending.id.clone(), pending.login.step);
        let kept = self.broker.state.borrow_mut().pending.insert(self.id, pending);
        if let Err(error) = kept {
            log::write(log::Level::Warning, &format!("sec-mod: {error} ({})", self.peer));
            return Ok(self.refuse(LoginFailure::Internal));
        }
        let reply = LoginReply::Prompt {
            context,
            message: Text::truncated(&message),
            number,
        };
        Ok(self.keep_answer(step, reply))
    }

    /// Keeps the login for the client's next token.
    fn challenge(&mut self, mut pending: Pending<Login>, token: Option<SecretString>) -> LoginReply {
        // A method that has another token to ask for has one to send, too.
        let Some(token) = token.and_then(|token| SecretText::new(token).ok()) else {
            return self.refuse(LoginFailure::Internal);
        };
        pending.login.tries = self.tries;
        let kept = self.broker.state.borrow_mut().pending.insert(self.id, pending);
        if let Err(error) = kept {
            log::write(log::Level::Warning, &format!("sec-mod: {error} ({})", self.peer));
            return self.refuse(LoginFailure::Internal);
        }
        LoginReply::Challenge(token)
    }

    /// A failed ticket leaves the form, if the host has one (`specs/server-auth.md` §1.3).
    fn refuse_or_fall_back(
        &mut self,
        host: &LoadedHost,
        pending: &Pending<Login>,
        why: LoginFailure,
    ) -> LoginReply {
        let form = host.methods.select(self.identity.is_some(), None);
        let falls_back = pending.login.scheme == Some(HttpScheme::Negotiate)
            && form.is_some_and(|entry| entry.method.is_some())
            && self.tries < TRIES;
        if !falls_back {
            if why == LoginFailure::Credentials {
                told::failed(pending.login.user.as_ref(), self.peer);
            }
            return self.refuse(why);
        }
        self.http_failed = true;
        LoginReply::Fallback
    }

    /// The group of a login with a certificate alone (`specs/server-auth.md` §1.6), or the groups
    /// that its user has to choose from, which he is asked once.
    fn group_of_certificate(
        &mut self,
        host: &LoadedHost,
        identity: &Identity,
        wish: GroupWish,
    ) -> Result<GroupWish, Vec<GroupName>> {
        let groups = identity.groups.as_deref().unwrap_or_default();
        if wish != GroupWish::None {
            return Ok(wish);
        }
        let offered: Vec<_> = host
            .config
            .select_group
            .iter()
            .map(|group| group.name.clone())
            .collect();
        match to_choose_from(groups, &offered) {
            Some(choice) if !std::mem::replace(&mut self.group_asked, true) => Err(choice),
            Some(_) => Ok(GroupWish::None),
            None => Ok(only_eligible(groups, &offered).map_or(GroupWish::None, GroupWish::Group)),
        }
    }

    /// A wrong answer: for the log, the points and the tries.
    fn wrong(&mut self, pending: &Pending<Login>, why: Option<&str>) {
        let user = pending.login.user.as_ref().map(told::name);
        let user = user.as_deref().unwrap_or("(no valid name)");
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        let text = format!(
            "sec-mod: failed authentication attempt for user '{user}' from {}{why}",
            self.peer
        );
        log::write(log::Level::Info, &text);
        self.failed(true);
        self.tries = self.tries.saturating_add(1);
    }

    fn say_begun(
        &self,
        host: &LoadedHost,
        entry: &Entry,
        id: &SessionId,
        user: Option<&UserName>,
        wish: &GroupWish,
    ) {
        let (host, id) = (host.config.display_name(), id.safe_id());
        let (method, id) = (entry.name(), id.short());
        let text = format!("using '{method}' authentication to authenticate user (session: {id})");
        told::login(log::Level::Info, host, &text);
        let with = match &self.identity {
            Some(_) => " (with cert)",
            None => "",
        };
        let (user, group) = (user.map(told::name).unwrap_or_default(), wish.shown());
        let peer = self.peer;
        let text =
            format!("auth init{with} for user '{user}' (session: {id}) of group: '{group}' from '{peer}'");
        told::login(log::Level::Debug, host, &text);
    }

    pub(super) fn is_refused(&self) -> bool {
        self.finished || self.barred.get() || self.tries >= TRIES
    }

    /// No further login on this connection.
    pub(super) fn refuse(&mut self, failure: LoginFailure) -> LoginReply {
        self.finished = true;
        LoginReply::Failed(failure)
    }

    pub(super) fn failed(&self, points: bool) {
        self.broker
            .tell_main(&BrokerToMain::LoginFailed { id: self.id, points });
    }
}
