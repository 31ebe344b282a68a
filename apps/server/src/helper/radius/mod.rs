//! The process that speaks RADIUS: one for each client configuration, for all logins and all
//! accounting with it. It lives as long as the configuration is in use, since what it knows of its
//! servers (who is silent, who signs) is of use to all. It has the shared secrets and nothing else.

mod connection;
pub(crate) mod messages;
mod servers;
pub(crate) mod tls;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use culvert_radius::client::SubmitError;
use culvert_radius::{
    AccessRequest, AccountingRequest, ClientConfig, ConfigError, Dictionary, Event, Outcome, Profile, Reply,
    Request, RequestKey,
};
use culvert_sys::channel::Channel;
use culvert_sys::netns::NetworkNamespace;
use culvert_sys::sandbox::Helper;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use self::connection::End;
use self::messages::{
    AccessAnswer, AccessQuestion, AccountingRecord, RadiusAnswer, RadiusAssignment, RadiusQuestion,
};
use self::servers::{Kind, Servers};
use super::confine;
use super::service::{BrokerToService, QuestionNumber, ServiceToBroker};
use crate::ipc::link::{self, Blocking, LinkError, Sender};
use crate::ipc::messages::LogLevel;
use crate::ipc::{Bytes, Text};

/// Inputs that wait to be handled; who has more waits.
const INPUTS: usize = 256;
/// Time to wait when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// Something from outside, other than the broker's messages.
enum Input {
    /// A datagram of a server came to the socket of this number.
    Datagram(Kind, usize, u16, Vec<u8>),
    /// Nobody listens where a server should.
    Refused(Kind, usize),
    /// The connection of this number to a server has ended.
    Ended(Kind, usize, u16, End),
    /// The address of a server, if it has one.
    Found(Kind, usize, io::Result<SocketAddr>),
}

/// The whole life of the process.
pub(super) fn run(channel: Channel, assignment: RadiusAssignment) -> ExitCode {
    let dictionary = assignment
        .config
        .dictionary
        .as_deref()
        .map(Dictionary::load)
        .transpose();
    let namespace = assignment.config.namespace.as_deref();
    let joined = namespace.map_or(Ok(()), |name| {
        NetworkNamespace::named(name).and_then(NetworkNamespace::join)
    });
    if let Err(error) = joined {
        return give_up(channel, &format!("cannot use its network namespace: {error}"));
    }
    let left_out = RefCell::new(Vec::new());
    let forbidden = ServiceToBroker::<RadiusAnswer>::Forbidden([0; 4]);
    let confined = confine::unprivileged(
        assignment.rights,
        Helper::Service,
        channel.as_fd(),
        &forbidden,
        &|text| left_out.borrow_mut().push(text.to_owned()),
    );
    if let Err(error) = confined {
        return give_up(channel, &format!("cannot give up root: {error}"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build();
    let Ok(runtime) = runtime else {
        return ExitCode::FAILURE;
    };
    let started = Started {
        config: assignment.config,
        dictionary,
        left_out: left_out.take(),
    };
    let served = LocalSet::new().block_on(&runtime, serve(channel, started));
    // Threads that look up names may hang.
    runtime.shutdown_background();
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// What the process has from the time before it was confined.
struct Started {
    config: ClientConfig,
    dictionary: Result<Option<Dictionary>, ConfigError>,
    /// Why parts of the confinement are missing.
    left_out: Vec<String>,
}

/// Answers the broker's questions until it has gone.
async fn serve(channel: Channel, started: Started) -> Result<(), LinkError> {
    let (sender, mut receiver) = link::split(channel)?;
    let (inputs, mut inbox) = mpsc::channel(INPUTS);
    // The broker has tried the settings of TLS.
    let servers = |kind| {
        Servers::new(kind, &started.config, &inputs).map_err(|error| LinkError::Io(io::Error::other(error)))
    };
    let mut process = Process {
        auth: servers(Kind::Auth)?,
        acct: servers(Kind::Acct)?,
        config: started.config,
        dictionary: Dictionary::default(),
        broker: sender,
        questions: HashMap::new(),
    };
    for text in started.left_out {
        process.log(LogLevel::Error, &text);
    }
    match started.dictionary {
        Ok(dictionary) => process.dictionary = dictionary.unwrap_or_default(),
        Err(error) => process.log(LogLevel::Warning, &format!("attributes have no names: {error}")),
    }
    loop {
        let due = process.next_due();
        tokio::select! {
            message = receiver.receive::<BrokerToService<RadiusQuestion>>() => match message? {
                Some((message, _none)) => process.handle_message(message),
                None => return Ok(()),
            },
            Some(input) = inbox.recv() => process.handle_input(input),
            () = tokio::time::sleep_until(due.into()) => process.handle_timeout(),
        }
        process.settle();
    }
}

/// Tells the administrator why there is no such process.
fn give_up(channel: Channel, text: &str) -> ExitCode {
    let (level, text) = (LogLevel::Error, Text::truncated(text));
    let _broker_gone =
        Blocking::new(channel).send(&ServiceToBroker::<RadiusAnswer>::Log { level, text }, &[]);
    ExitCode::FAILURE
}

struct Process {
    config: ClientConfig,
    dictionary: Dictionary,
    broker: Sender,
    auth: Servers,
    acct: Servers,
    questions: HashMap<(bool, RequestKey), QuestionNumber>,
}

impl Process {
    fn handle_message(&mut self, message: BrokerToService<RadiusQuestion>) {
        match message {
            BrokerToService::Ask(number, question) => match *question {
                RadiusQuestion::Access(question) => {
                    let request = self.access_request(question);
                    self.ask(number, Kind::Auth, request.into());
                }
                RadiusQuestion::Account(record) => {
                    let request = self.accounting_request(record);
                    self.ask(number, Kind::Acct, request.into());
                }
            },
            BrokerToService::Forget(number) => {
                let found = self.questions.iter().find(|(_, other)| **other == number);
                if let Some((&(accounting, key), _)) = found {
                    self.questions.remove(&(accounting, key));
                    let kind = if accounting { Kind::Acct } else { Kind::Auth };
                    self.servers(kind).client.cancel(key);
                }
            }
        }
    }

    fn access_request(&self, question: AccessQuestion) -> AccessRequest {
        let config = &self.config;
        AccessRequest {
            user: config.full_name(&question.user),
            password: question.password.into(),
            nas_address: Some(config.nas_address.unwrap_or(question.local)),
            nas_identifier: config.nas_identifier.clone().or(question.nas_identifier),
            calling_station: question.peer,
            session: question.session.to_string(),
            connect_info: question.user_agent.into(),
            state: question.state.into_vec(),
        }
    }

    fn accounting_request(&self, record: AccountingRecord) -> AccountingRequest {
        let config = &self.config;
        let session = record.session.map(|mut session| {
            session.user = config.full_name(&session.user);
            session
        });
        AccountingRequest {
            status: record.status,
            session,
            nas_identifier: config.nas_identifier.clone().or(record.nas_identifier),
            nas_address: config
                .nas_address
                .or(record.local)
                .or_else(|| self.acct.local_address()),
            at: record.at,
            delay: record.delay,
        }
    }

    fn ask(&mut self, number: QuestionNumber, kind: Kind, request: Request) {
        match self.servers(kind).client.submit(Instant::now(), request) {
            Ok(key) => {
                self.questions.insert((kind == Kind::Acct, key), number);
            }
            Err(error) => self.cannot_ask(number, kind, error),
        }
    }

    fn cannot_ask(&mut self, number: QuestionNumber, kind: Kind, error: SubmitError) {
        let text = match (error, kind) {
            (SubmitError::NoServer, Kind::Auth) => "there is no 'authserver' in its configuration".to_owned(),
            (SubmitError::NoServer, Kind::Acct) => "there is no 'acctserver' in its configuration".to_owned(),
            (error, _) => error.to_string(),
        };
        match kind {
            Kind::Auth => {
                let answer = AccessAnswer::Unavailable(Text::truncated(&text));
                self.answer(number, RadiusAnswer::Access(answer));
            }
            Kind::Acct => {
                self.log(LogLevel::Error, &format!("cannot account: {text}"));
                self.answer(number, RadiusAnswer::Accounted(false));
            }
        }
    }

    fn handle_input(&mut self, input: Input) {
        match input {
            Input::Datagram(kind, server, socket, datagram) => {
                self.servers(kind).handle_input(server, socket, &datagram);
            }
            Input::Refused(kind, server) => {
                self.servers(kind).client.handle_refused(Instant::now(), server);
            }
            Input::Ended(kind, server, number, end) => {
                let (level, text) = self.servers(kind).handle_ended(server, number, &end);
                self.log(level, &text);
            }
            Input::Found(kind, server, found) => {
                if let Some(problem) = self.servers(kind).handle_found(server, found) {
                    self.log(LogLevel::Warning, &problem);
                }
            }
        }
    }

    fn handle_timeout(&mut self) {
        let now = Instant::now();
        self.auth.client.handle_timeout(now);
        self.acct.client.handle_timeout(now);
    }

    fn next_due(&self) -> Instant {
        let dues = [&self.auth, &self.acct].map(|servers| servers.client.poll_timeout());
        let due = dues.into_iter().flatten().min();
        due.unwrap_or_else(|| Instant::now() + IDLE)
    }

    /// Sends what there is to send and tells what happened.
    fn settle(&mut self) {
        for kind in [Kind::Auth, Kind::Acct] {
            while let Some(event) = self.servers(kind).client.poll_event() {
                self.handle_event(kind, event);
            }
            self.servers(kind).flush();
        }
    }

    fn handle_event(&mut self, kind: Kind, event: Event) {
        match event {
            Event::Done(key, outcome) => {
                if let Some(number) = self.questions.remove(&(kind == Kind::Acct, key)) {
                    let answer = match kind {
                        Kind::Auth => RadiusAnswer::Access(self.access_answer(outcome)),
                        Kind::Acct => RadiusAnswer::Accounted(outcome == Outcome::Reply(Reply::Acknowledged)),
                    };
                    self.answer(number, answer);
                }
            }
            Event::Dead(server) => {
                let name = self.servers(kind).name(server);
                let seconds = self.config.dead_time.as_secs();
                let text = format!("server {name} does not answer; others are asked for {seconds} s");
                self.log(LogLevel::Warning, &text);
                self.servers(kind).look_up(server);
            }
            Event::Alive(server) => {
                let name = self.servers(kind).name(server);
                self.log(LogLevel::Notice, &format!("server {name} answers again"));
            }
            Event::Note(server, text) => {
                let name = self.servers(kind).name(server);
                self.log(LogLevel::Warning, &format!("server {name}: {text}"));
            }
        }
    }

    fn access_answer(&self, outcome: Outcome) -> AccessAnswer {
        let text = |message: Option<String>| message.as_deref().map(Text::truncated);
        match outcome {
            Outcome::Reply(Reply::Accept(profile)) => {
                self.log_ignored(&profile);
                AccessAnswer::Accept(profile)
            }
            Outcome::Reply(Reply::Reject(message)) => AccessAnswer::Reject(text(message)),
            Outcome::Reply(Reply::Challenge { state, message }) => AccessAnswer::Challenge {
                state: Bytes::new(state).unwrap_or_default(),
                message: text(message),
            },
            Outcome::Reply(Reply::Acknowledged) | Outcome::NoAnswer => {
                AccessAnswer::Unavailable(Text::truncated("no server answers"))
            }
        }
    }

    fn log_ignored(&self, profile: &Profile) {
        if profile.ignored.is_empty() {
            return;
        }
        let names = profile.ignored.iter();
        let names: Vec<String> = names
            .map(|(vendor, kind)| self.dictionary.name(*vendor, *kind))
            .collect();
        let text = format!("attributes that mean nothing here: {}", names.join(", "));
        self.log(LogLevel::Debug, &text);
    }

    fn servers(&mut self, kind: Kind) -> &mut Servers {
        match kind {
            Kind::Auth => &mut self.auth,
            Kind::Acct => &mut self.acct,
        }
    }

    fn log(&self, level: LogLevel, text: &str) {
        let text = Text::truncated(text);
        self.tell(&ServiceToBroker::Log { level, text });
    }

    fn answer(&self, number: QuestionNumber, answer: RadiusAnswer) {
        self.tell(&ServiceToBroker::Answer(number, answer));
    }

    /// A broker that is gone ends this process with its next message.
    fn tell(&self, message: &ServiceToBroker<RadiusAnswer>) {
        let _broker_gone = self.broker.send(message, Vec::new());
    }
}
