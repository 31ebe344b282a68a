//! The method `radius` (`specs/server-auth.md` §2.4). The servers are asked by a process of their own
//! ([`crate::helper::radius`]); here is what their answers mean for a login.

use std::sync::Arc;

use culvert_radius::Profile;
use culvert_radius::attribute::SERVICE_FRAMED;
use culvert_server_config::{GroupSeparator, Radius as Configured};
use culvert_vocab::{SecretString, UserName};

use super::{ASK_PASSWORD, Accepted, Caller, Progress};
use crate::broker::radius::RadiusClient;
use crate::broker::told;
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
    client: RadiusClient,
    settings: Configured,
}

impl Radius {
    pub(super) fn new(client: RadiusClient, settings: Configured) -> Self {
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
        match self.radius.client.ask(self.caller.peer, question).await {
            AccessAnswer::Accept(profile) => self.accepted(user, *profile),
            AccessAnswer::Reject(message) => self.wrong(message.map(String::from)),
            AccessAnswer::Challenge { state, message } => self.challenged(state, message.map(String::from)),
            AccessAnswer::Unavailable(why) => {
                let (path, user) = (self.radius.settings.config.display(), told::name(&user));
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
        let (groups, too_many) = profile.groups(separator, settings.filter_id);
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
        pool: profile.pool,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::radius::RadiusClients;
    use crate::helper::confine::Unprivileged;
    use crate::ipc::Text;

    fn attempt(groupconfig: bool) -> Attempt {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("radiusclient.conf");
        std::fs::write(&config, "authserver 127.0.0.1:1:secret\n").unwrap();
        let rights = Unprivileged {
            uid: 65534,
            gid: 65534,
            filtered: true,
        };
        let client = RadiusClient::load(&RadiusClients::default(), &config, rights).unwrap();
        let settings = Configured {
            config,
            groupconfig,
            nas_identifier: None,
            group_separator: GroupSeparator::Semicolon,
            override_interim_updates: false,
            pools: None,
            filter_id: false,
            required: false,
        };
        let caller = Caller {
            peer: "198.51.100.7".parse().unwrap(),
            local: "192.0.2.1".parse().unwrap(),
            user_agent: Text::default(),
            host: Text::truncated("default"),
            session: culvert_vocab::SessionId::from_bytes([1; 32]).safe_id(),
            channel: None,
        };
        let user = UserName::new("alice").ok();
        Attempt::new(Arc::new(Radius::new(client, settings)), user, caller).0
    }

    fn challenge(attempt: &mut Attempt, state: &[u8], message: Option<&str>) -> Progress {
        let state = Bytes::new(state.to_vec()).unwrap();
        attempt.challenged(state, message.map(str::to_owned))
    }

    #[test]
    fn challenges() {
        let mut attempt = attempt(false);
        assert_eq!(attempt.wrong(None), Progress::Wrong(None));
        for (state, message) in [(&b""[..], Some("Token")), (b"s", None)] {
            let progress = challenge(&mut attempt, state, message);
            assert!(matches!(progress, Progress::Unavailable(_)), "{progress:?}");
        }
        let texts = ["Token", "Token", "password: ", "Next"];
        let prompts = [("Token", 1), ("Token", 1), (ASK_PASSWORD, 2), ("Next", 3)];
        for (text, (message, number)) in texts.into_iter().zip(prompts) {
            let message = message.to_owned();
            let prompt = Progress::Prompt { message, number };
            assert_eq!(challenge(&mut attempt, b"s", Some(text)), prompt);
        }
        assert_eq!(
            attempt.wrong(Some("no".into())),
            Progress::Refused(None),
            "no guessing"
        );
        for _ in texts.len()..usize::from(ROUNDS_MAX) {
            let progress = challenge(&mut attempt, b"s", Some("More"));
            assert!(matches!(progress, Progress::Prompt { .. }));
        }
        let progress = challenge(&mut attempt, b"s", Some("More"));
        assert!(matches!(progress, Progress::Refused(Some(_))), "{progress:?}");
    }

    #[test]
    fn what_lets_nobody_in() {
        let user = || UserName::new("alice").unwrap();
        let profile = |service_type, problems: &[&str]| Profile {
            service_type,
            problems: problems.iter().map(|text| (*text).to_owned()).collect(),
            ..Profile::default()
        };
        let accepted = |groupconfig, profile| attempt(groupconfig).accepted(user(), profile);
        assert!(matches!(
            accepted(true, profile(None, &[])),
            Progress::Accepted(_)
        ));
        assert!(matches!(
            accepted(true, profile(Some(2), &[])),
            Progress::Accepted(_)
        ));
        for service in [0, 1, 8] {
            assert_eq!(
                accepted(false, profile(Some(service), &[])),
                Progress::Wrong(None)
            );
        }
        assert!(matches!(
            accepted(true, profile(None, &["x"])),
            Progress::Unavailable(_)
        ));
        assert!(matches!(
            accepted(false, profile(None, &["x"])),
            Progress::Accepted(_)
        ));
    }
}
