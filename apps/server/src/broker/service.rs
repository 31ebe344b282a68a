//! The broker's side of services ([`crate::helper::service`]): a process for each assignment, which
//! is started when it is needed, asked by many, and started again with the next question after it
//! has died.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::places::Places;
use crate::helper::process::{Process, describe_forbidden};
use crate::helper::service::{BrokerToService, QuestionNumber, ServiceAssignment, ServiceToBroker};
use crate::log::{self, Level};

/// Questions that wait for the process to take them.
const QUESTIONS: usize = 1024;
/// Questions for clients that are under way at a time, and that wait for one of them to end.
const UNDER_WAY: usize = 512;
const LINE: usize = 1024;
/// A process that lives shorter is not started again at once.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);

/// Why there is no answer; for the log, after the name of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAnswer {
    /// The client's source asks too much.
    #[error("too many logins of its source wait for an answer")]
    TooMany,
    /// The process has ended, or does not start.
    #[error("its process has ended")]
    Ended,
    /// The process hangs.
    #[error("its process gives no answer in time")]
    Late,
}

/// The process for one assignment. Dropping the last handle ends it.
pub(super) struct Service<A: ServiceAssignment> {
    assignment: A,
    questions: mpsc::Sender<Command<A>>,
    /// The other end, until the process is started.
    unserved: Mutex<Option<mpsc::Receiver<Command<A>>>>,
    next_number: AtomicU64,
    places: Places,
}

impl<A: ServiceAssignment> fmt::Debug for Service<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("name", &A::NAME)
            .finish_non_exhaustive()
    }
}

/// All services of a kind that are in use: an assignment that did not change keeps its process, and
/// what it has learnt, over a reload.
#[derive(Debug, Clone)]
pub(super) struct Services<A: ServiceAssignment>(Arc<Mutex<Vec<Weak<Service<A>>>>>);

impl<A: ServiceAssignment> Default for Services<A> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<A: ServiceAssignment> Services<A> {
    /// The service with this assignment; its process is not started by this.
    pub(super) fn get(&self, assignment: A) -> Arc<Service<A>> {
        let mut services = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        services.retain(|service| service.strong_count() > 0);
        let mut known = services.iter().filter_map(Weak::upgrade);
        if let Some(service) = known.find(|service| service.assignment == assignment) {
            return service;
        }
        let (questions, receiver) = mpsc::channel(QUESTIONS);
        let service = Arc::new(Service {
            assignment,
            questions,
            unserved: Mutex::new(Some(receiver)),
            next_number: AtomicU64::new(1),
            places: Places::new(UNDER_WAY, LINE),
        });
        services.push(Arc::downgrade(&service));
        service
    }
}

enum Command<A: ServiceAssignment> {
    Ask(QuestionNumber, Box<A::Question>, oneshot::Sender<A::Answer>),
    Forget(QuestionNumber),
}

/// Tells the process when nobody waits any more.
struct Waiting<'a, A: ServiceAssignment> {
    service: &'a Service<A>,
    number: QuestionNumber,
    answered: bool,
}

impl<A: ServiceAssignment> Drop for Waiting<'_, A> {
    fn drop(&mut self) {
        if !self.answered {
            // Otherwise the question ends with its time.
            let _full = self.service.questions.try_send(Command::Forget(self.number));
        }
    }
}

impl<A: ServiceAssignment> Service<A> {
    /// Starts the process, if that has not happened yet.
    pub(super) fn start(&self) {
        let unserved = self
            .unserved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(questions) = unserved {
            tokio::task::spawn_local(serve(self.assignment.clone(), questions));
        }
    }

    /// Asks for a client at `peer`, who waits for his turn when his source or all ask much.
    ///
    /// # Errors
    /// See [`NoAnswer`], here and below.
    pub(super) async fn ask_for(
        &self,
        peer: IpAddr,
        question: A::Question,
        time: Duration,
    ) -> Result<A::Answer, NoAnswer> {
        let asked = async {
            let _place = self.places.take(peer).await.ok_or(NoAnswer::TooMany)?;
            self.ask(question).await
        };
        let limited = tokio::time::timeout(time, asked).await;
        limited.unwrap_or(Err(NoAnswer::Late))
    }

    /// Asks for the server itself.
    pub(super) async fn ask(&self, question: A::Question) -> Result<A::Answer, NoAnswer> {
        self.start();
        let number = QuestionNumber(self.next_number.fetch_add(1, Ordering::Relaxed));
        let mut waiting = Waiting {
            service: self,
            number,
            answered: false,
        };
        let (reply, answer) = oneshot::channel();
        let command = Command::Ask(number, Box::new(question), reply);
        // If nobody takes it, the end of the other channel says so.
        let _nobody = self.questions.send(command).await;
        let answer = answer.await;
        waiting.answered = true;
        answer.map_err(|_| NoAnswer::Ended)
    }
}

/// Who waits for an answer.
type Asked<A> = HashMap<QuestionNumber, oneshot::Sender<<A as ServiceAssignment>::Answer>>;

/// Passes questions on to the process, and answers back.
async fn serve<A: ServiceAssignment>(assignment: A, mut questions: mpsc::Receiver<Command<A>>) {
    let mut may_start = Instant::now() + SHORTEST_LIFE;
    let mut process = start(&assignment);
    let mut asked = Asked::<A>::new();
    loop {
        let message = async {
            match &mut process {
                Some(process) => process.receive::<ServiceToBroker<A::Answer>>().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            command = questions.recv() => {
                let Some(command) = command else { return };
                if process.is_none() && matches!(command, Command::Ask(..)) {
                    tokio::time::sleep_until(may_start.into()).await;
                    may_start = Instant::now() + SHORTEST_LIFE;
                    process = start(&assignment);
                }
                if let Some(process) = &process {
                    pass(command, process, &mut asked);
                }
            }
            message = message => match message {
                Some(ServiceToBroker::Answer(number, answer)) => {
                    if let Some(reply) = asked.remove(&number) {
                        let _client_left = reply.send(answer);
                    }
                }
                Some(ServiceToBroker::Forbidden(call)) => {
                    let (whose, what) = (format!("the process that {}", A::TASK), describe_forbidden(call));
                    if let Some(process) = &mut process {
                        process.log(Level::Error, &whose, format_args!(" {what}"));
                    }
                }
                Some(ServiceToBroker::Log { level, text }) => {
                    if let Some(process) = &mut process {
                        process.log(level, A::NAME, format_args!(": {text}"));
                    }
                }
                None => {
                    // Whoever waits learns it by the end of his channel.
                    asked.clear();
                    if let Some(process) = process.take() {
                        let how = process.ended().await;
                        log::write(Level::Error, &format!("sec-mod: the process that {} {how}", A::TASK));
                    }
                }
            }
        }
    }
}

fn start<A: ServiceAssignment>(assignment: &A) -> Option<Process> {
    match Process::start(assignment.clone().into(), ()) {
        Ok(process) => Some(process),
        Err(error) => {
            log::write(Level::Error, &format!("sec-mod: {}: {error}", A::NAME));
            None
        }
    }
}

fn pass<A: ServiceAssignment>(command: Command<A>, process: &Process, asked: &mut Asked<A>) {
    let (number, message) = match command {
        Command::Ask(number, question, reply) => {
            asked.insert(number, reply);
            (number, BrokerToService::Ask(number, question))
        }
        Command::Forget(number) => {
            if asked.remove(&number).is_none() {
                return;
            }
            (number, BrokerToService::Forget(number))
        }
    };
    if let Err(error) = process.sender.send(&message, Vec::new()) {
        log::write(Level::Error, &format!("sec-mod: {}: {error}", A::NAME));
        asked.remove(&number);
    }
}
