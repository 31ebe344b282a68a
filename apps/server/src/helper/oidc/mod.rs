//! OpenID Connect (`specs/server-auth.md` §2.6): a process that lives as long as its configuration,
//! gets the provider's keys, and judges the tokens of clients with them. One thread judges and
//! never waits for the network; tokens that may need newer keys wait for the other one.

mod fetch;
pub(crate) mod messages;

use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use culvert_oidc::{Config, KeySet, TokenError, jwks_location, verify};
use culvert_sys::sandbox::Helper;
use culvert_vocab::SecretString;

use self::fetch::Fetcher;
use self::messages::{OidcSettings, Token, Verdict};
use super::confine;
use super::service::{BrokerToService, QuestionNumber, ServiceToBroker};
use crate::ipc::Text;
use crate::ipc::link::Blocking;
use crate::ipc::messages::LogLevel;

/// Pause after a failure to get the keys.
const PAUSE: Duration = Duration::from_secs(10);
/// Smallest `minimum_jwk_refresh_time`.
const REFRESH_MIN: Duration = Duration::from_secs(1);
/// Tokens that wait for keys.
const WAITING_MAX: usize = 256;

/// The whole life of the process.
pub(super) fn run(broker: Blocking, settings: &OidcSettings) -> ExitCode {
    let tell = |text: &str| {
        let text = Text::truncated(text);
        let level = LogLevel::Error;
        let _broker_gone = broker.send(&ServiceToBroker::<Verdict>::Log { level, text }, &[]);
    };
    let config = match Config::parse(settings.config.as_str().as_bytes()) {
        Ok(config) => config,
        Err(error) => {
            tell(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    // The store of certificates may be for root only.
    let fetcher = Fetcher::new();
    let forbidden = ServiceToBroker::<Verdict>::Forbidden([0; 4]);
    let confined = confine::unprivileged(
        settings.rights,
        Helper::Service,
        broker.as_fd(),
        &forbidden,
        &tell,
    );
    if let Err(error) = confined {
        tell(&format!("cannot give up root: {error}"));
        return ExitCode::FAILURE;
    }
    let service = Arc::new(Service {
        config,
        broker,
        state: Mutex::new(State::new(Instant::now())),
        wanted: Condvar::new(),
    });
    let getting = Arc::clone(&service);
    let started = thread::Builder::new()
        .name("keys".to_owned())
        .spawn(move || getting.get_keys(&fetcher));
    if started.is_err() {
        return ExitCode::FAILURE;
    }
    while let Ok(Some((message, _))) = service.broker.receive::<BrokerToService<Token>>(None) {
        match message {
            BrokerToService::Ask(number, token) => service.judge(number, token.0.into()),
            BrokerToService::Forget(number) => service.state().waiting.retain(|(other, _)| *other != number),
        }
    }
    ExitCode::SUCCESS
}

struct Service {
    config: Config,
    broker: Blocking,
    state: Mutex<State>,
    wanted: Condvar,
}

/// What is known of the keys.
struct State {
    keys: Option<Arc<KeySet>>,
    /// Getting them is under way or due.
    wanted: bool,
    /// When it may be tried again.
    next: Instant,
    /// Why there are none.
    problem: String,
    /// Tokens that may need newer ones.
    waiting: Vec<(QuestionNumber, SecretString)>,
}

impl State {
    fn new(now: Instant) -> Self {
        Self {
            keys: None,
            wanted: true,
            next: now,
            problem: String::new(),
            waiting: Vec::new(),
        }
    }
}

impl Service {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers at once, or lets the token wait for keys.
    fn judge(&self, number: QuestionNumber, token: SecretString) {
        let mut state = self.state();
        if Instant::now() >= state.next && !state.wanted {
            state.wanted = true;
            self.wanted.notify_one();
        }
        let verdict = self.verdict(&state, &token);
        let may_change = state.wanted
            && match &verdict {
                Err(TokenError::UnknownKey(_)) => true,
                Err(_) => false,
                Ok(verdict) => matches!(verdict, Verdict::Unavailable(_)),
            };
        if may_change && state.waiting.len() < WAITING_MAX {
            state.waiting.push((number, token));
            return;
        }
        drop(state);
        self.answer(number, verdict);
    }

    /// The verdict with the keys of now.
    fn verdict(&self, state: &State, token: &SecretString) -> Result<Verdict, TokenError> {
        let Some(keys) = &state.keys else {
            let text = format!("the keys of the provider are not known: {}", state.problem);
            return Ok(Verdict::Unavailable(Text::truncated(&text)));
        };
        let user = verify(&self.config, keys, token, SystemTime::now())?;
        Ok(Verdict::Accepted {
            user: user.name,
            groups: user.groups,
        })
    }

    fn answer(&self, number: QuestionNumber, verdict: Result<Verdict, TokenError>) {
        let verdict = verdict.unwrap_or_else(|error| Verdict::Refused(Text::truncated(&error.to_string())));
        // If the broker is gone, the other thread ends this process.
        let _gone = self.broker.send(&ServiceToBroker::Answer(number, verdict), &[]);
    }

    fn log(&self, level: LogLevel, text: &str) {
        let text = Text::truncated(text);
        let _gone = self
            .broker
            .send(&ServiceToBroker::<Verdict>::Log { level, text }, &[]);
    }

    /// Gets the keys whenever they are wanted. Old ones stay until there are new ones.
    fn get_keys(&self, fetcher: &Result<Fetcher, String>) {
        loop {
            let state = self.state();
            let waited = self.wanted.wait_while(state, |state| !state.wanted);
            drop(waited);
            let got = match fetcher {
                Ok(fetcher) => self.fetch(fetcher),
                Err(problem) => Err(problem.clone()),
            };
            let (level, text) = match &got {
                Ok(_) => (LogLevel::Debug, "the keys of the provider are here".to_owned()),
                Err(problem) => (LogLevel::Warning, format!("no keys of the provider: {problem}")),
            };
            self.log(level, &text);
            let mut state = self.state();
            state.wanted = false;
            match got {
                Ok(keys) => {
                    state.keys = Some(Arc::new(keys));
                    state.next = Instant::now() + self.config.minimum_refresh.max(REFRESH_MIN);
                }
                Err(problem) => {
                    state.problem = problem;
                    state.next = Instant::now() + PAUSE;
                }
            }
            for (number, token) in std::mem::take(&mut state.waiting) {
                self.answer(number, self.verdict(&state, &token));
            }
        }
    }

    fn fetch(&self, fetcher: &Fetcher) -> Result<KeySet, String> {
        let discovery = &self.config.discovery;
        let failed = |what: &dyn std::fmt::Display| format!("{}: {what}", discovery.host_header());
        let document = fetcher.get(discovery).map_err(|error| failed(&error))?;
        let location = jwks_location(&document).map_err(|error| failed(&error))?;
        let failed = |what: &dyn std::fmt::Display| format!("{}: {what}", location.host_header());
        let document = fetcher.get(&location).map_err(|error| failed(&error))?;
        KeySet::parse(&document).map_err(|error| failed(&error))
    }
}
