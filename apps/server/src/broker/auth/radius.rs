//! The method `radius` (`specs/server-auth.md` §2.4). The servers are asked by a process of their own
//! ([`crate::helper::radius`]); here is what their answers mean for a login.

use std::sync::Arc;

use culvert_radius::Profile;
use culvert_radius::attribute::SERVICE_FRAMED;
use culvert_server_config::{GroupSeparator, Radius as Configured};
use culvert_vocab::{SecretString, UserName};

use super::{ASK_PASSWORD, Accepted, Caller, Progress};
use crate::broker::radius::RadiusClient;
use crate::helper::radius::messages::{AccessAnswer, AccessQuestion};
use crate::ipc::session::GivenSettings;
use crate::ipc::{Bytes, SecretText};
use crate::log::{self, Level};

/// Questions that a server may ask after the password.
const ROUNDS_MAX: u8 = 16;
/// Longest password that RADIUS carries, in octets (RFC 2865 §5.2).
const PASSWORD_MAX: usize = 128;

/// Servers, and how their answers are understood.
#[derive(Debug)]
pub(in crate::broker) struct Radius {
    client: Arc<RadiusClient>,
    settings: Configured,
}

impl Radius {
    pub(super) fn new(client: Arc<RadiusClient>, settings: Configured) -> Self {
        Self { client, settings }
    }
}

/// A login. Dropping it while a server is asked takes the question back.
#[derive(Debug)]
pub(in crate::broker) struct Attempt {
    radius: Arc<Radius>,
    /// `None`: a name that nobody can have; no server is asked for it.
    user: Option<UserName>,
    caller: Caller,
    /// State of the last challenge.
    state: Bytes<253>,
    /// The last question and its number.
    message: String,
    number: u8,
    /// Challenges so far.
    rounds: u8,
}

impl Attempt {
    pub(super) fn new(radius: Arc<Radius>, user: Option<UserName>, caller: Caller) -> (Self, Progress) {
        let attempt = Self {
            radius,
            user,
            caller,
            state: Bytes::default(),
            message: ASK_PASSWORD.to_owned(),
            number: 0,
            rounds: 0,
        };
        let prompt = attempt.prompt();
        (attempt, prompt)
    }

    fn prompt(&self) -> Progress {
        Progress::Prompt {
            message: self.message.clone(),
            number: self.number,
        }
    }

    pub(super) async fn answer(&mut self, answer: SecretString) -> Progress {
        let Some(user) = self.user.clone() else {
            return self.wrong(None);
        };
        if answer.expose().len() > PASSWORD_MAX {
            return Progress::Refused(Some(format!(
                "RADIUS has no passwords beyond {PASSWORD_MAX} octets"
            )));
        }
        let Ok(password) = SecretText::new(answer) else {
            return Progress::Refused(None);
        };
        let question = AccessQuestion {
            user: user.as_str().to_owned(),
            password,
            peer: self.caller.peer,
            local: self.caller.local,
            user_agent: self.caller.user_agent.clone(),
            session: self.caller.session.clone(),
            nas_identifier: self.radius.settings.nas_identifier.clone(),
            state: std::mem::take(&mut self.state),
        };
        match self.radius.client.ask(question).await {
            AccessAnswer::Accept(profile) => self.accepted(user, *profile),
            AccessAnswer::Reject(message) => self.wrong(message.map(String::from)),
            AccessAnswer::Challenge { state, message } => self.challenged(state, message.map(String::from)),
            AccessAnswer::Unavailable(why) => {
                let path = self.radius.settings.config.display();
                Progress::Unavailable(format!("radius ({path}), user '{user}': {why}"))
            }
        }
    }

    /// Nobody guesses at the answer of a challenge.
    fn wrong(&self, message: Option<String>) -> Progress {
        match self.rounds {
            0 => Progress::Wrong(message),
            _ => Progress::Refused(None),
        }
    }

    fn challenged(&mut self, state: Bytes<253>, message: Option<String>) -> Progress {
        let Some(message) = message.filter(|_| !state.as_slice().is_empty()) else {
            return Progress::Unavailable("radius: a challenge without State or Reply-Message".to_owned());
        };
        if self.rounds == ROUNDS_MAX {
            return Progress::Refused(Some(format!("more than {ROUNDS_MAX} challenges")));
        }
        self.rounds += 1;
        let asks_password = message
            .get(.."password:".len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case("password:"));
        let message = if asks_password {
            ASK_PASSWORD.to_owned()
        } else {
            message
        };
        if message != self.message {
            self.number = self.number.saturating_add(1);
            self.message = message;
        }
        self.state = state;
        self.prompt()
    }

    fn accepted(&self, user: UserName, profile: Profile) -> Progress {
        let settings = &self.radius.settings;
        if profile
            .service_type
            .is_some_and(|service| service != SERVICE_FRAMED)
        {
            log::write(
                Level::Notice,
                &format!("sec-mod: radius: user '{user}' is for another service than Framed"),
            );
            return self.wrong(None);
        }
        if let Some(problem) = profile.problems.first().filter(|_| settings.groupconfig) {
            return Progress::Unavailable(format!("radius: the settings of user '{user}': {problem}"));
        }
        let separator = match settings.group_separator {
            GroupSeparator::Semicolon => ';',
            GroupSeparator::Comma => ',',
        };
        let (groups, too_many) = profile.groups(separator);
        if too_many {
            let text = format!("sec-mod: radius: user '{user}' has too many groups; the rest is left out");
            log::write(Level::Warning, &text);
        }
        let given = given(profile, settings.override_interim_updates);
        Progress::Accepted(Box::new(Accepted {
            given: Some(Box::new(given)),
            ..Accepted::new(user, groups)
        }))
    }
}

fn given(profile: Profile, override_interim_updates: bool) -> GivenSettings {
    GivenSettings {
        ipv4: profile.ipv4,
        ipv4_prefix: profile.ipv4_prefix,
        ipv6: profile.ipv6,
        routes: profile.routes,
        dns: profile.dns,
        session_timeout: profile.session_timeout,
        idle_timeout: profile.idle_timeout,
        stats_report: profile.interim_interval.filter(|_| !override_interim_updates),
        rx_per_second: profile.rx_per_second,
        tx_per_second: profile.tx_per_second,
        classes: profile
            .classes
            .into_iter()
            .filter_map(|class| Bytes::new(class).ok())
            .collect(),
    }
}
