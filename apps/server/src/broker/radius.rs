//! The broker's side of RADIUS: questions to the process that speaks it ([`crate::helper::radius`]).
//! It is started with the first question, and again after it has died.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use culvert_radius::ClientConfig;
use tokio::sync::{mpsc, oneshot};

use crate::bans;
use crate::helper::messages::Assignment;
use crate::helper::process::Process;
use crate::helper::radius::messages::{
    AccessAnswer, AccessQuestion, AccountingRecord, BrokerToRadius, QuestionNumber, RadiusAssignment,
    RadiusToBroker,
};
use crate::ipc::Text;
use crate::log::{self, Level};

/// Questions that wait for the process to take them.
const QUESTIONS: usize = 1024;
/// Logins of one source (IPv6: its /64) that wait for a server at a time.
const PER_SOURCE: usize = 64;
/// A process that lives shorter is not started again at once.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);

/// The process for one client configuration. Dropping the last handle ends it.
pub(super) struct RadiusClient {
    assignment: RadiusAssignment,
    questions: mpsc::Sender<Question>,
    /// The other end, until the first question.
    unserved: Mutex<Option<mpsc::Receiver<Question>>>,
    next_number: AtomicU64,
    /// Logins under way by source.
    sources: Mutex<HashMap<IpAddr, usize>>,
}

impl fmt::Debug for RadiusClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RadiusClient").finish_non_exhaustive()
    }
}

/// All clients in use: a configuration that did not change keeps its process over a reload.
#[derive(Debug, Clone, Default)]
pub(super) struct RadiusClients(Arc<Mutex<Vec<Weak<RadiusClient>>>>);

impl RadiusClients {
    /// The client for a file of radcli or freeradius-client (blocking).
    ///
    /// # Errors
    /// One line for the administrator.
    pub(super) fn load(&self, path: &Path, ids: (u32, u32)) -> Result<Arc<RadiusClient>, String> {
        let (config, notes) = ClientConfig::load(path).map_err(|error| format!("radius: {error}"))?;
        for note in notes {
            log::write(Level::Warning, &format!("sec-mod: radius: {note}"));
        }
        let dictionary: Option<PathBuf> = config.dictionary.clone();
        let assignment = RadiusAssignment {
            config,
            dictionary,
            ids,
        };
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|client| client.strong_count() > 0);
        let mut known = clients.iter().filter_map(Weak::upgrade);
        if let Some(client) = known.find(|client| client.assignment == assignment) {
            return Ok(client);
        }
        let (questions, receiver) = mpsc::channel(QUESTIONS);
        let client = Arc::new(RadiusClient {
            assignment,
            questions,
            unserved: Mutex::new(Some(receiver)),
            next_number: AtomicU64::new(1),
            sources: Mutex::default(),
        });
        clients.push(Arc::downgrade(&client));
        Ok(client)
    }
}

enum Question {
    Access(QuestionNumber, Box<AccessQuestion>, oneshot::Sender<AccessAnswer>),
    Account(QuestionNumber, Box<AccountingRecord>, oneshot::Sender<bool>),
    Forget(QuestionNumber),
}

/// Tells the process when nobody waits any more.
struct Waiting<'a> {
    client: &'a RadiusClient,
    number: QuestionNumber,
    answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.answered {
            // Otherwise the question ends with its time.
            let _full = self.client.questions.try_send(Question::Forget(self.number));
        }
    }
}

/// The right of a source to one more login; dropping it gives it back.
struct Place<'a> {
    sources: &'a Mutex<HashMap<IpAddr, usize>>,
    source: IpAddr,
}

impl<'a> Place<'a> {
    fn take(sources: &'a Mutex<HashMap<IpAddr, usize>>, peer: IpAddr) -> Option<Self> {
        let source = bans::key(peer);
        let mut counts = sources.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(source).or_default();
        if *count >= PER_SOURCE {
            return None;
        }
        *count += 1;
        Some(Self { sources, source })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut counts = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.source);
            }
        }
    }
}

impl RadiusClient {
    /// Whether a user may come in.
    pub(super) async fn ask(&self, question: AccessQuestion) -> AccessAnswer {
        let Some(_place) = Place::take(&self.sources, question.peer) else {
            let text = "too many logins of its source wait for an answer";
            return AccessAnswer::Unavailable(Text::truncated(text));
        };
        let (number, mut waiting) = self.number();
        let (reply, answer) = oneshot::channel();
        self.submit(Question::Access(number, Box::new(question), reply))
            .await;
        let answer = answer.await;
        waiting.answered = true;
        answer.unwrap_or_else(|_| {
            let text = "the process that speaks RADIUS has ended";
            AccessAnswer::Unavailable(Text::truncated(text))
        })
    }

    /// True when a server has taken this record.
    pub(super) async fn account(&self, record: AccountingRecord) -> bool {
        let (number, mut waiting) = self.number();
        let (reply, answer) = oneshot::channel();
        self.submit(Question::Account(number, Box::new(record), reply))
            .await;
        let answer = answer.await;
        waiting.answered = true;
        answer.unwrap_or(false)
    }

    fn number(&self) -> (QuestionNumber, Waiting<'_>) {
        let number = QuestionNumber(self.next_number.fetch_add(1, Ordering::Relaxed));
        let waiting = Waiting {
            client: self,
            number,
            answered: false,
        };
        (number, waiting)
    }

    async fn submit(&self, question: Question) {
        let unserved = self
            .unserved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(questions) = unserved {
            tokio::task::spawn_local(serve(self.assignment.clone(), questions));
        }
        // If nobody takes it, its reply says so.
        let _nobody = self.questions.send(question).await;
    }
}

/// Who waits for an answer of the process.
#[derive(Default)]
struct Asked {
    access: HashMap<QuestionNumber, oneshot::Sender<AccessAnswer>>,
    account: HashMap<QuestionNumber, oneshot::Sender<bool>>,
}

/// Passes questions on to the process, and answers back.
async fn serve(assignment: RadiusAssignment, mut questions: mpsc::Receiver<Question>) {
    let mut process: Option<Process> = None;
    let mut asked = Asked::default();
    let mut may_start = Instant::now();
    loop {
        let message = async {
            match &mut process {
                Some(process) => process.receive::<RadiusToBroker>().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            question = questions.recv() => {
                let Some(question) = question else { return };
                if process.is_none() {
                    tokio::time::sleep_until(may_start.into()).await;
                    may_start = Instant::now() + SHORTEST_LIFE;
                    process = start(&assignment);
                }
                asked.pass(question, process.as_ref());
            }
            message = message => match message {
                Some(message) => asked.answer(message),
                None => {
                    // Whoever waits learns it by the end of his channel.
                    asked = Asked::default();
                    if let Some(process) = process.take() {
                        let how = process.ended().await;
                        log::write(Level::Error, &format!("sec-mod: the process that speaks RADIUS {how}"));
                    }
                }
            }
        }
    }
}

fn start(assignment: &RadiusAssignment) -> Option<Process> {
    match Process::start(Assignment::Radius(assignment.clone()), ()) {
        Ok(process) => Some(process),
        Err(error) => {
            log::write(Level::Error, &format!("sec-mod: radius: {error}"));
            None
        }
    }
}

impl Asked {
    fn pass(&mut self, question: Question, process: Option<&Process>) {
        let Some(process) = process else { return };
        let message = match question {
            Question::Access(number, question, reply) => {
                self.access.insert(number, reply);
                BrokerToRadius::Access(number, question)
            }
            Question::Account(number, record, reply) => {
                self.account.insert(number, reply);
                BrokerToRadius::Account(number, record)
            }
            Question::Forget(number) => {
                self.access.remove(&number);
                self.account.remove(&number);
                BrokerToRadius::Forget(number)
            }
        };
        if let Err(error) = process.sender.send(&message, Vec::new()) {
            log::write(Level::Error, &format!("sec-mod: radius: {error}"));
            if let BrokerToRadius::Access(number, _) | BrokerToRadius::Account(number, _) = message {
                self.access.remove(&number);
                self.account.remove(&number);
            }
        }
    }

    fn answer(&mut self, message: RadiusToBroker) {
        match message {
            RadiusToBroker::Access(number, answer) => {
                if let Some(reply) = self.access.remove(&number) {
                    let _client_left = reply.send(answer);
                }
            }
            RadiusToBroker::Accounted(number, taken) => {
                if let Some(reply) = self.account.remove(&number) {
                    let _server_stops = reply.send(taken);
                }
            }
            RadiusToBroker::Log { level, text } => log::write(level, &format!("sec-mod: radius: {text}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_does_not_take_all() {
        let sources = Mutex::default();
        let take = |address: &str| Place::take(&sources, address.parse().unwrap());
        let mut places: Vec<_> = (0..PER_SOURCE).map(|_| take("2001:db8::1").unwrap()).collect();
        assert!(take("2001:db8::2").is_none(), "the same /64");
        assert!(take("2001:db8:0:1::1").is_some());
        assert!(take("192.0.2.1").is_some());
        places.pop();
        assert!(take("2001:db8::2").is_some());
        places.clear();
        assert!(sources.lock().unwrap().is_empty());
    }
}
