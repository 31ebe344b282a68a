//! The broker's side of OpenID Connect: tokens for the process that judges them
//! ([`crate::helper::oidc`]). It is started with the server, and again with the next token after it has died.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use culvert_oidc::Config;
use tokio::sync::{mpsc, oneshot};

use crate::helper::messages::Assignment;
use crate::helper::oidc::messages::{BrokerToOidc, OidcSettings, OidcToBroker, Verdict};
use crate::helper::process::Process;
use crate::ipc::{SecretText, Text};
use crate::log::{self, Level};

/// Tokens that wait for the process to take them.
const QUESTIONS: usize = 1024;
/// A process that lives shorter is not started again at once.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);
/// Longest time for a verdict: two documents, after names that resolve slowly.
const TIME: Duration = Duration::from_secs(30);

/// The process for one provider. Dropping the last handle ends it.
pub(super) struct Provider {
    settings: OidcSettings,
    /// The tokens name the groups of their users.
    pub(super) names_groups: bool,
    questions: mpsc::Sender<Question>,
    /// The other end, until the process is started.
    unserved: Mutex<Option<mpsc::Receiver<Question>>>,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").finish_non_exhaustive()
    }
}

/// A token, and who waits for the verdict.
type Question = (SecretText<16384>, oneshot::Sender<Verdict>);

/// All providers in use: one whose file did not change keeps its process and its keys over a reload.
#[derive(Debug, Clone, Default)]
pub(super) struct Providers(Arc<Mutex<Vec<Weak<Provider>>>>);

impl Providers {
    /// The provider for the file of `oidc[config=FILE]` (blocking).
    ///
    /// # Errors
    /// One line for the administrator.
    pub(super) fn load(&self, path: &Path, ids: (u32, u32)) -> Result<Arc<Provider>, String> {
        let named = |error: &dyn fmt::Display| format!("oidc: {}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| named(&error))?;
        let config = Config::parse(text.as_bytes()).map_err(|error| named(&error))?;
        if let Some(warning) = config.warning() {
            log::write(Level::Warning, &format!("sec-mod: {}", named(&warning)));
        }
        let config_text = Text::new(text).map_err(|error| named(&error))?;
        let settings = OidcSettings {
            config: config_text,
            ids,
        };
        let mut providers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        providers.retain(|provider| provider.strong_count() > 0);
        let mut known = providers.iter().filter_map(Weak::upgrade);
        if let Some(provider) = known.find(|provider| provider.settings == settings) {
            return Ok(provider);
        }
        let (questions, receiver) = mpsc::channel(QUESTIONS);
        let provider = Arc::new(Provider {
            settings,
            names_groups: config.group_claim.is_some(),
            questions,
            unserved: Mutex::new(Some(receiver)),
        });
        providers.push(Arc::downgrade(&provider));
        Ok(provider)
    }
}

impl Provider {
    /// Starts the process, if that has not happened yet: the keys shall be there when they are needed.
    pub(super) fn start(&self) {
        let unserved = self
            .unserved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(questions) = unserved {
            tokio::task::spawn_local(serve(self.settings.clone(), questions));
        }
    }

    /// What a token is worth.
    pub(super) async fn judge(&self, token: SecretText<16384>) -> Verdict {
        self.start();
        let (reply, verdict) = oneshot::channel();
        let judged = async {
            // If nobody takes it, the end of the other channel says so.
            let _nobody = self.questions.send((token, reply)).await;
            verdict.await
        };
        let why = match tokio::time::timeout(TIME, judged).await {
            Ok(Ok(verdict)) => return verdict,
            Ok(Err(_)) => "the process that judges tokens has ended",
            Err(_) => "the process that judges tokens gives no answer in time",
        };
        Verdict::Unavailable(Text::truncated(why))
    }
}

/// Passes tokens on to the process, and verdicts back.
async fn serve(settings: OidcSettings, mut questions: mpsc::Receiver<Question>) {
    let mut may_start = Instant::now() + SHORTEST_LIFE;
    let mut process = start(&settings);
    let mut asked: HashMap<u64, oneshot::Sender<Verdict>> = HashMap::new();
    let mut number = 0;
    loop {
        let message = async {
            match &mut process {
                Some(process) => process.receive::<OidcToBroker>().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            question = questions.recv() => {
                let Some((token, reply)) = question else { return };
                if process.is_none() {
                    tokio::time::sleep_until(may_start.into()).await;
                    may_start = Instant::now() + SHORTEST_LIFE;
                    process = start(&settings);
                }
                let Some(process) = &process else { continue };
                asked.retain(|_, reply| !reply.is_closed());
                number += 1;
                match process.sender.send(&BrokerToOidc::Judge { number, token }, Vec::new()) {
                    Ok(()) => drop(asked.insert(number, reply)),
                    Err(error) => log::write(Level::Error, &format!("sec-mod: oidc: {error}")),
                }
            }
            message = message => match message {
                Some(OidcToBroker::Judged { number, verdict }) => {
                    if let Some(reply) = asked.remove(&number) {
                        let _client_left = reply.send(verdict);
                    }
                }
                Some(OidcToBroker::Log { level, text }) => log::write(level, &format!("sec-mod: oidc: {text}")),
                None => {
                    // Whoever waits learns it by the end of his channel.
                    asked.clear();
                    if let Some(process) = process.take() {
                        let how = process.ended().await;
                        log::write(Level::Error, &format!("sec-mod: the process that judges tokens {how}"));
                    }
                }
            }
        }
    }
}

fn start(settings: &OidcSettings) -> Option<Process> {
    match Process::start(Assignment::Oidc(settings.clone()), ()) {
        Ok(process) => Some(process),
        Err(error) => {
            log::write(Level::Error, &format!("sec-mod: oidc: {error}"));
            None
        }
    }
}
