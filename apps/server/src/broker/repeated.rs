//! Steps of logins that come again (`specs/globalprotect.md` §17.1): a copy gets the answer that the step
//! has got, or waits for the one that it is going to get. Nothing is judged twice, and nothing counts
//! twice: no one-time code, no wrong password.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use culvert_vocab::{SecretString, SessionId};
use tokio::sync::watch;

use super::conversation::Conversation;
use super::loaded::LoadedHost;
use super::login::Login;
use crate::ipc::Text;
use crate::ipc::messages::{ConnectionId, LoginReply, LoginStart};
use crate::ipc::session::ClientDescription;
use crate::log;
use crate::sessions::answered::Step;
use crate::sessions::pending::Pending;

/// Most steps that are judged on although their connections have gone.
pub(super) const ORPHANS: usize = 64;

/// Steps that are being judged: one at most for each connection, and for each that has gone meanwhile.
#[derive(Debug, Default)]
pub(super) struct StepsUnderWay(HashMap<Step, UnderWay>);

#[derive(Debug)]
struct UnderWay {
    /// Where the step has come first.
    connection: ConnectionId,
    answer: watch::Receiver<Option<LoginReply>>,
    /// Held by each copy that waits, too.
    copies: Rc<()>,
}

impl UnderWay {
    fn is_judged(&self) -> bool {
        self.answer.has_changed().is_ok()
    }
}

/// A step that is being judged. Dropped without an answer it lets its copies be judged themselves.
pub(super) struct Judging {
    step: Step,
    answer: watch::Sender<Option<LoginReply>>,
}

/// A copy that waits.
struct Waiting {
    answer: watch::Receiver<Option<LoginReply>>,
    _waits: Rc<()>,
}

impl Waiting {
    /// The answer to the first one; `None`: it gets none.
    async fn answer(mut self) -> Option<LoginReply> {
        let answer = self.answer.wait_for(Option::is_some).await.ok()?;
        answer.clone()
    }
}

impl StepsUnderWay {
    /// A step begins to be judged, unless it is already.
    fn begin(&mut self, step: Step, connection: ConnectionId) -> Option<Judging> {
        self.0.retain(|_, under_way| under_way.is_judged());
        if self.0.contains_key(&step) {
            return None;
        }
        let (sender, receiver) = watch::channel(None);
        let under_way = UnderWay {
            connection,
            answer: receiver,
            copies: Rc::default(),
        };
        self.0.insert(step, under_way);
        Some(Judging { step, answer: sender })
    }

    fn end(&mut self, judging: &Judging, reply: &LoginReply) {
        self.0.remove(&judging.step);
        judging.answer.send_replace(Some(reply.clone()));
    }

    fn copy_of(&self, step: Step) -> Option<Waiting> {
        let under_way = self.0.get(&step).filter(|under_way| under_way.is_judged())?;
        Some(Waiting {
            answer: under_way.answer.clone(),
            _waits: Rc::clone(&under_way.copies),
        })
    }

    fn of(&self, connection: ConnectionId) -> impl Iterator<Item = &UnderWay> {
        let judged = self.0.values().filter(|under_way| under_way.is_judged());
        judged.filter(move |under_way| under_way.connection == connection)
    }

    /// True while a step of this connection is being judged.
    pub(super) fn is_judged_for(&self, connection: ConnectionId) -> bool {
        self.of(connection).next().is_some()
    }

    /// True while a step of this connection is being judged, and copies wait.
    pub(super) fn is_waited_for(&self, connection: ConnectionId) -> bool {
        self.of(connection)
            .any(|under_way| Rc::strong_count(&under_way.copies) > 1)
    }

    /// Number of steps of connections that are not `alive`.
    pub(super) fn orphans(&self, alive: impl Fn(ConnectionId) -> bool) -> usize {
        let judged = self.0.values().filter(|under_way| under_way.is_judged());
        judged.filter(|under_way| !alive(under_way.connection)).count()
    }
}

/// What a client sends with the first step of a login, and with a password in place of a wrong one.
struct FirstStep<'a> {
    user: &'a str,
    password: Option<&'a str>,
    group: &'a str,
    client: &'a ClientDescription,
}

impl Conversation {
    /// The first step of a login, as it may come again.
    pub(super) fn first_step(&self, host: &LoadedHost, start: &LoginStart) -> Option<Step> {
        let password = start.password.as_ref().map(|password| password.secret().expose());
        let first = FirstStep {
            user: start.user.as_str(),
            password,
            group: start.group.as_ref().map_or("", Text::as_str),
            client: &start.client,
        };
        self.named(host, &first).filter(|_| start.repeatable)
    }

    /// An answer on the connection of its login, as it may come again on another one.
    pub(super) fn step_of_answer(
        &self,
        host: &LoadedHost,
        pending: &Pending<Login>,
        answer: &SecretString,
    ) -> Option<Step> {
        let user = pending.login.repeated.as_ref()?;
        // The first question is that for the password: its answer names no login, but the user.
        match pending.login.prompt {
            0 => self.named(
                host,
                &FirstStep {
                    user: user.as_str(),
                    password: Some(answer.expose()),
                    group: "",
                    client: &pending.login.client,
                },
            ),
            _ => self.next_step(host, &pending.id, answer),
        }
    }

    fn named(&self, host: &LoadedHost, first: &FirstStep<'_>) -> Option<Step> {
        let FirstStep {
            user,
            password,
            group,
            client,
        } = first;
        let peer = self.peer.to_string();
        let parts = [
            "start",
            host.config.display_name(),
            &peer,
            user,
            if password.is_some() { "password" } else { "" },
            password.unwrap_or_default(),
            group,
            client.user_agent.as_str(),
            client.device_type.as_str(),
            client.device_platform.as_str(),
            client.computer.as_str(),
        ];
        let state = self.broker.state.borrow();
        state.answered.step(&parts.map(str::as_bytes))
    }

    /// An answer to the prompt of a login, as it may come again.
    pub(super) fn next_step(
        &self,
        host: &LoadedHost,
        context: &SessionId,
        answer: &SecretString,
    ) -> Option<Step> {
        let (name, peer) = (host.config.display_name(), self.peer.to_string());
        let state = self.broker.state.borrow();
        state.answered.step(&[
            b"answer",
            name.as_bytes(),
            peer.as_bytes(),
            context.expose(),
            answer.expose().as_bytes(),
        ])
    }

    /// The answer to a step that has come before, if need be when it has been found. `None`: there is
    /// nothing of the kind, or nothing of use to this client; then the step is to be judged.
    pub(super) async fn answer_to_copy(
        &mut self,
        host: &LoadedHost,
        step: Option<Step>,
    ) -> Option<LoginReply> {
        let step = step?;
        if let Some(reply) = self.answer_again(host, step) {
            return Some(reply);
        }
        loop {
            let copy = self.broker.state.borrow().under_way.copy_of(step)?;
            let peer = self.peer;
            let text =
                format!("sec-mod: a repeated login step from {peer} waits for the answer of the first one");
            log::write(log::Level::Debug, &text);
            let reply = copy.answer().await;
            // Answers that say no are not kept.
            let again = self.answer_again(host, step);
            if let Some(reply) = again.or_else(|| self.take_over(host, reply?)) {
                return Some(reply);
            }
        }
    }

    /// From now on copies of the step wait for [`Self::judged`].
    pub(super) fn judge(&self, step: Option<Step>) -> Option<Judging> {
        let mut state = self.broker.state.borrow_mut();
        state.under_way.begin(step?, self.id)
    }

    /// The step has this answer, and so have its copies.
    pub(super) fn judged(&self, judging: Option<Judging>, reply: LoginReply) -> LoginReply {
        if let Some(judging) = judging {
            self.broker.state.borrow_mut().under_way.end(&judging, &reply);
            if !self.broker.is_connected(self.id) {
                self.broker.detach_login(self.id);
            }
        }
        reply
    }

    /// What was answered to the same step before, as long as the client may not have got it and nothing
    /// has come of it: the same session again, or the same prompt.
    fn answer_again(&mut self, host: &LoadedHost, step: Step) -> Option<LoginReply> {
        let reply = {
            let mut state = self.broker.state.borrow_mut();
            state.answered.again(step, self.id, Instant::now())?
        };
        self.take_over(host, reply)
    }

    /// Makes the answer that another connection has got this one's.
    fn take_over(&mut self, host: &LoadedHost, reply: LoginReply) -> Option<LoginReply> {
        if self.is_refused() {
            return None;
        }
        let (name, now) = (host.config.display_name(), Instant::now());
        let mut state = self.broker.state.borrow_mut();
        match &reply {
            LoginReply::Prompt { context, .. } => {
                let pending = state.pending.resume(context, self.peer, name, now)?;
                let tries = pending.login.tries;
                state.pending.insert(self.id, pending).ok()?;
                drop(state);
                self.tries = self.tries.max(tries);
            }
            LoginReply::Success {
                cookie, user, group, ..
            } => {
                let (_, session) = state.sessions.check(cookie, name, now).ok()?;
                if session.in_use() || !self.has_certificate_of(host, session) {
                    return None;
                }
                drop(state);
                self.finished = true;
                self.logged_in(host, user, group.as_ref(), Duration::ZERO);
            }
            LoginReply::Failed(_) => {
                drop(state);
                self.finished = true;
            }
            LoginReply::NotPending => drop(state),
            // For the connection that was asked only.
            LoginReply::ChooseGroup(_) | LoginReply::Challenge(_) | LoginReply::Fallback => return None,
        }
        log::write(
            log::Level::Debug,
            &format!("sec-mod: a repeated login step from {}", self.peer),
        );
        Some(reply)
    }

    /// Keeps the answer to the last step of a login, whose client may send it again.
    pub(super) fn keep_answer(&self, step: Option<Step>, reply: LoginReply) -> LoginReply {
        if let Some(step) = step {
            let mut state = self.broker.state.borrow_mut();
            state.answered.keep(step, self.id, &reply, Instant::now());
        }
        reply
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::answered::AnsweredSteps;

    const FIRST: ConnectionId = ConnectionId(1);

    #[test]
    fn a_step_that_gets_no_answer_is_begun_anew() {
        let step = AnsweredSteps::new(Some([1; 32])).step(&[b"x"]).unwrap();
        let mut table = StepsUnderWay::default();
        assert!(table.copy_of(step).is_none());
        let judging = table.begin(step, FIRST).unwrap();
        assert!(table.begin(step, ConnectionId(2)).is_none());
        assert!(table.is_judged_for(FIRST) && !table.is_judged_for(ConnectionId(2)));
        let copy = table.copy_of(step).unwrap();
        assert!(table.is_waited_for(FIRST));
        assert_eq!((table.orphans(|_| true), table.orphans(|_| false)), (0, 1));
        // The copy's connection goes, then the first one's task ends.
        drop(copy);
        assert!(!table.is_waited_for(FIRST));
        drop(judging);
        assert!(!table.is_judged_for(FIRST) && table.copy_of(step).is_none());
        assert_eq!(table.orphans(|_| false), 0);
        let judging = table.begin(step, ConnectionId(2)).unwrap();
        table.end(&judging, &LoginReply::NotPending);
        assert!(table.0.is_empty());
    }
}
