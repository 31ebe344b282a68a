//! The end of a login whose method has let the user in: his group, and his session
//! (`specs/server-auth.md` §1.6).

use std::time::Duration;

use culvert_server_config::UsernameCase;
use culvert_vocab::{GroupName, UserName};

use super::auth::{Accepted, Attempt, Identity, choose};
use super::conversation::Conversation;
use super::loaded::LoadedHost;
use super::login::Login;
use super::told;
use crate::ipc::Text;
use crate::ipc::messages::{BrokerToMain, LoginFailure, LoginReply};
use crate::log;
use crate::sessions::pending::Pending;
use crate::sessions::{CookiePolicy, Moment, NewSession};

/// The user is let in by the method, but not by the configuration; the log says why.
struct Unfit {
    /// It costs points.
    points: bool,
}

impl Conversation {
    /// Begins the session of a user, unless his certificate or his groups are against it.
    pub(super) fn accepted(
        &mut self,
        host: &LoadedHost,
        pending: Pending<Login>,
        accepted: Accepted,
    ) -> LoginReply {
        let accepted = Accepted {
            user: host.config.username_case.apply(accepted.user),
            ..accepted
        };
        let shown = self.identity.clone();
        let identity = shown.as_deref().filter(|_| pending.login.certificate);
        match self.group_in_force(host, &pending, identity, &accepted) {
            Ok(group) => self.begin_session(host, pending, identity, accepted, group),
            Err(Unfit { points }) => {
                told::failed(Some(&accepted.user), self.peer);
                self.failed(points);
                self.refuse(LoginFailure::Credentials)
            }
        }
    }

    /// The group of a user whom the method has accepted.
    fn group_in_force(
        &self,
        host: &LoadedHost,
        pending: &Pending<Login>,
        identity: Option<&Identity>,
        accepted: &Accepted,
    ) -> Result<Option<GroupName>, Unfit> {
        let user = &accepted.user;
        if pending.login.certificate
            && let Err(problem) = agrees(identity, user, host.config.username_case)
        {
            log::write(
                log::Level::Info,
                &format!("sec-mod: user '{user}' from {} {problem}", self.peer),
            );
            return Err(Unfit { points: true });
        }
        // With a certificate alone, the groups are its own.
        let allowed = identity
            .filter(|_| pending.login.attempt.is_some())
            .and_then(|identity| identity.groups.as_deref());
        choose(&accepted.groups, allowed, &pending.login.wish).map_err(|_| {
            let wish = pending.login.wish.shown();
            let text = format!("user '{user}' requested group '{wish}' but is not a member");
            told::login(log::Level::Notice, &pending.host, &text);
            Unfit { points: false }
        })
    }

    fn begin_session(
        &mut self,
        host: &LoadedHost,
        pending: Pending<Login>,
        identity: Option<&Identity>,
        accepted: Accepted,
        group: Option<GroupName>,
    ) -> LoginReply {
        let Accepted {
            user, given, token, ..
        } = accepted;
        let now = Moment::now();
        let pam = pending.login.attempt.and_then(Attempt::into_staying);
        let new = NewSession {
            user: user.clone(),
            group: group.clone(),
            host: pending.host,
            peer: self.peer,
            local: self.local,
            client: pending.login.client,
            cookie: CookiePolicy {
                timeout: host.config.cookie_timeout,
                persistent: host.config.persistent_cookies,
            },
            certificate: identity.map(|identity| identity.key),
            given,
            pam_session: pam.is_some(),
        };
        let mut state = self.broker.state.borrow_mut();
        let (key, evicted) = state.sessions.insert(&pending.id, new, now);
        if let Some(helper) = pam {
            state.pam.keep(key, helper);
        }
        for key in std::iter::once(key).chain(evicted) {
            state.note(key, now);
        }
        drop(state);
        self.finished = true;
        let text = format!(
            "auth complete for user '{user}' (session: {}) of group: '{}'",
            pending.id.safe_id().short(),
            group.as_ref().map_or("", GroupName::as_str),
        );
        told::login(log::Level::Info, host.config.display_name(), &text);
        self.logged_in(host, &user, group.as_ref(), pending.login.spent);
        let reply = LoginReply::Success {
            cookie: pending.id,
            user,
            group,
            token,
        };
        self.keep_answer(pending.login.step, reply)
    }

    /// Tells main who has logged in.
    pub(super) fn logged_in(
        &self,
        host: &LoadedHost,
        user: &UserName,
        group: Option<&GroupName>,
        took: Duration,
    ) {
        self.broker.tell_main(&BrokerToMain::LoggedIn {
            id: self.id,
            user: user.clone(),
            group: group.cloned(),
            host: Text::truncated(host.config.display_name()),
            took_ms: u32::try_from(took.as_millis()).unwrap_or(u32::MAX),
        });
    }
}

/// Whether the certificate and the method speak of the same user.
fn agrees(identity: Option<&Identity>, user: &UserName, case: UsernameCase) -> Result<(), String> {
    match identity.map(|identity| &identity.user) {
        Some(Ok(other)) if case.apply(other.clone()) == *user => Ok(()),
        Some(Ok(other)) => Err(format!("presented a certificate which is for user '{other}'")),
        Some(Err(problem)) => Err(format!("presented a certificate without a name: {problem}")),
        None => Err("presented no certificate".to_owned()),
    }
}
