//! Methods whose work is done by a helper process for each login: see [`crate::helper`].

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use culvert_server_config::Global;
use culvert_vocab::{GROUPS_MAX, SecretString, UserName};
use tokio::time::timeout_at;

use super::{Caller, MethodError, Progress, Workers, rights};
use crate::broker::places::{Place, Places};
use crate::broker::told;
use crate::helper::SESSION_CLEAN_UP;
use crate::helper::confine::Unprivileged;
use crate::helper::messages::{Assignment, BrokerToHelper, HelperToBroker, Login, MethodSettings};
use crate::helper::process::{Process, describe_forbidden};
use crate::ipc::SecretText;
use crate::log;

/// Life of a login when `auth-timeout` sets none.
const TIME: Duration = Duration::from_secs(240);

/// A method with helpers.
#[derive(Debug)]
pub(in crate::broker) struct Helped {
    settings: MethodSettings,
    places: Places,
    /// For methods that need no root.
    rights: Unprivileged,
    /// `auth-timeout`.
    time: Duration,
}

impl Helped {
    /// Name of the method, as it is configured.
    pub(super) fn name(&self) -> &'static str {
        self.settings.name()
    }

    pub(super) fn new(
        settings: MethodSettings,
        workers: &Workers,
        global: &Global,
    ) -> Result<Self, MethodError> {
        Ok(Self {
            settings,
            places: workers.helpers.clone(),
            rights: rights(global)?,
            time: global.auth_timeout.unwrap_or(TIME),
        })
    }
}

/// A login with a helper of its own. Dropping it ends the helper.
pub(in crate::broker) struct Attempt {
    /// Method and user, for the log.
    whose: String,
    deadline: Instant,
    /// `None` once the helper has said its last word.
    helper: Option<Process>,
    /// For helpers that stay for the user's session: what ends it should they be lost.
    session_end: Option<Login>,
    /// The place of the helper, until it is given back or the process has ended.
    place: Rc<Cell<Option<Place>>>,
}

/// A helper that stays for the session of the user whom it has let in.
pub(in crate::broker) struct Staying {
    /// Method and user, for the log.
    pub(in crate::broker) whose: String,
    /// The process.
    pub(in crate::broker) helper: Process,
    /// What another one is for that closes the session, should this one be lost.
    pub(in crate::broker) session_end: Login,
}

impl Attempt {
    /// Begins a login; the method's first prompt follows.
    pub(super) async fn begin(helped: &Helped, user: Option<UserName>, caller: Caller) -> (Self, Progress) {
        let name = user.as_ref().map(told::name);
        let name = name.as_deref().unwrap_or("(no name)");
        let mut attempt = Self {
            whose: format!("{} helper for user '{name}'", helped.settings.name()),
            deadline: Instant::now() + helped.time,
            helper: None,
            session_end: None,
            place: Rc::default(),
        };
        let place = match timeout_at(attempt.deadline.into(), helped.places.take(caller.peer)).await {
            Ok(Some(place)) => place,
            Ok(None) => return attempt.unavailable("has no place: too many logins wait"),
            Err(_) => return attempt.unavailable("has found no place in time"),
        };
        let login = Login {
            method: helped.settings.clone(),
            user,
            caller,
            rights: helped.rights,
            time: attempt.deadline.saturating_duration_since(Instant::now()),
        };
        attempt.place.set(Some(place));
        attempt.session_end = helped.settings.session_end().map(|method| Login {
            method,
            time: SESSION_CLEAN_UP,
            ..login.clone()
        });
        match Process::start(Assignment::Login(login), Rc::clone(&attempt.place)) {
            Ok(helper) => attempt.helper = Some(helper),
            Err(error) => return attempt.unavailable(&format!("does not start: {error}")),
        }
        let progress = attempt.next().await;
        (attempt, progress)
    }

    /// Takes the answer to the last prompt, or the token after the last challenge.
    pub(super) async fn answer(&mut self, answer: SecretString) -> Progress {
        let Ok(answer) = SecretText::new(answer) else {
            return Progress::Refused(Some("the answer is too long".to_owned()));
        };
        let sent = self
            .helper
            .as_ref()
            .map(|helper| helper.sender.send(&BrokerToHelper::Answer(answer), Vec::new()));
        // A helper that is gone says so in place of its next message.
        if let Some(Err(error)) = sent {
            log::write(log::Level::Debug, &format!("sec-mod: {}: {error}", self.whose));
        }
        self.next().await
    }

    /// What the helper says next.
    async fn next(&mut self) -> Progress {
        let Some(mut helper) = self.helper.take() else {
            return Progress::Refused(None);
        };
        loop {
            let message = match timeout_at(self.deadline.into(), helper.receive()).await {
                Ok(Some(message)) => message,
                Ok(None) => {
                    let how = helper.ended().await;
                    return Progress::Unavailable(format!("{} {how}", self.whose));
                }
                Err(_) => return Progress::Unavailable(format!("{} gives no answer in time", self.whose)),
            };
            let progress = match message {
                HelperToBroker::Log { level, text } => {
                    helper.log(level, &self.whose, format_args!(": {text}"));
                    continue;
                }
                HelperToBroker::Forbidden(call) => {
                    let what = describe_forbidden(call);
                    helper.log(log::Level::Error, &self.whose, format_args!(" {what}"));
                    continue;
                }
                HelperToBroker::Prompt { message, number } => Progress::Prompt {
                    message: message.into(),
                    number,
                },
                HelperToBroker::Challenge(token) => Progress::Challenge(token.map(SecretString::from)),
                last => {
                    if let (HelperToBroker::Accepted(accepted), Some(end)) = (&last, &mut self.session_end) {
                        end.user = Some(accepted.user.clone());
                        self.helper = Some(helper);
                    }
                    return self.last(last);
                }
            };
            self.helper = Some(helper);
            return progress;
        }
    }

    /// The helper of a login that was accepted, if it stays. It does not count as a login any more.
    pub(in crate::broker) fn into_staying(self) -> Option<Staying> {
        let (session_end, helper) = (self.session_end?, self.helper?);
        drop(self.place.take());
        Some(Staying {
            whose: self.whose,
            helper,
            session_end,
        })
    }

    fn last(&self, message: HelperToBroker) -> Progress {
        match message {
            HelperToBroker::Accepted(mut accepted) => {
                if accepted.groups.len() > GROUPS_MAX {
                    let text = format!(
                        "sec-mod: {}: groups beyond the first {GROUPS_MAX} are left out",
                        self.whose
                    );
                    log::write(log::Level::Warning, &text);
                    accepted.groups.truncate(GROUPS_MAX);
                }
                // These methods bring none.
                accepted.given = None;
                Progress::Accepted(accepted)
            }
            HelperToBroker::Refused(why) => Progress::Refused(why.map(String::from)),
            HelperToBroker::Unavailable(why) => Progress::Unavailable(format!("{}: {why}", self.whose)),
            _ => Progress::Unavailable(format!("{} breaks the protocol", self.whose)),
        }
    }

    fn unavailable(self, why: &str) -> (Self, Progress) {
        let progress = Progress::Unavailable(format!("{} {why}", self.whose));
        (self, progress)
    }
}
