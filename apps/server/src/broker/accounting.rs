//! Accounting: records on their way to the servers (`specs/server-auth.md` §3.1).
//!
//! Nothing waits for it. The records of one session go out one after the other; a Start or Stop that
//! no server takes is tried again, for a Stop also by the next server process. Updates are only worth
//! one try, and a newer one takes the place of one that waits.

use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use culvert_radius::Status;
use culvert_server_config::{AccountingMethod, Host};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::radius::{RadiusClient, RadiusClients};
use super::state::Broker;
use crate::helper::confine::Unprivileged;
use crate::helper::radius::messages::AccountingRecord;
use crate::log::{self, Level};
use crate::sessions::Moment;
use crate::sessions::account::Record;

/// Records that wait at most; beyond them no update and no Start is kept.
const WAITING_MAX: usize = 65_536;
/// Records that are under way at a time.
const UNDER_WAY: usize = 256;
/// Pause before the second try; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Time for the Stops of all sessions when the server stops, and for its own end after them.
const STOPS_TIME: Duration = Duration::from_secs(4);
const OFF_TIME: Duration = Duration::from_secs(1);

/// How a virtual host accounts.
#[derive(Debug)]
pub(super) struct Accounting {
    client: RadiusClient,
    nas_identifier: Option<String>,
    /// `acct-required`: no tunnel before a server has taken the Start of its session.
    pub(super) required: bool,
}

impl Accounting {
    /// What `acct` says; `None` when nothing is accounted with RADIUS (blocking).
    ///
    /// # Errors
    /// One line for the administrator.
    pub(super) fn load(
        host: &Host,
        clients: &RadiusClients,
        rights: impl FnOnce() -> Result<Unprivileged, String>,
    ) -> Result<Option<Arc<Self>>, String> {
        let Some(AccountingMethod::Radius(settings)) = &host.accounting else {
            return Ok(None);
        };
        Ok(Some(Arc::new(Self {
            client: RadiusClient::load(clients, &settings.config, rights()?)?,
            nas_identifier: settings.nas_identifier.clone(),
            required: settings.required,
        })))
    }
}

impl Broker {
    /// The server of each host begins, and sends what an earlier one still owes.
    pub(super) fn begin_accounting(&self) {
        let mut state = self.state.borrow_mut();
        let loaded = Rc::clone(&state.loaded);
        for host in loaded.accounted_hosts() {
            state.outbox.send_server(host, Status::On);
        }
        state.send_stops();
    }

    /// Tells what the open sessions have carried, as often as each has to.
    pub(super) fn send_updates(&self) {
        let now = Moment::now();
        let mut state = self.state.borrow_mut();
        for (key, update) in state.sessions.due_updates(now.monotonic) {
            state.outbox.send(update, now.wall);
            state.note(key, now);
        }
    }

    /// All sessions stop, then the server of each host. Takes a limited time; what is left is for the
    /// next server.
    pub(super) async fn end_accounting(&self) {
        let now = Moment::now();
        let (outbox, loaded) = {
            let mut state = self.state.borrow_mut();
            for key in state.sessions.close_accounts(now) {
                state.note(key, now);
            }
            (state.outbox.clone(), Rc::clone(&state.loaded))
        };
        if loaded.accounted_hosts().next().is_none() || !outbox.finish(STOPS_TIME).await {
            return;
        }
        for host in loaded.accounted_hosts() {
            outbox.send_server(host, Status::Off);
        }
        outbox.finish(OFF_TIME).await;
    }
}

/// Something to be sent.
#[derive(Debug, Clone)]
enum Entry {
    /// Of a session.
    Session(Box<Record>),
    /// The server of this virtual host begins or ends.
    Server(String, Status),
}

impl Entry {
    fn host(&self) -> &str {
        match self {
            Self::Session(record) => &record.host,
            Self::Server(host, _) => host,
        }
    }

    fn status(&self) -> Status {
        match self {
            Self::Session(record) => record.status,
            Self::Server(_, status) => *status,
        }
    }
}

enum Command {
    /// Send something that happened at this time. Whoever waits for it learns whether a server has taken
    /// it at the first try, and there is no other.
    Send(Entry, SystemTime, Option<oneshot::Sender<bool>>),
    /// Say when nothing is left to send.
    Finish(oneshot::Sender<()>),
}

/// The way to the accountant.
#[derive(Debug, Clone)]
pub(super) struct Outbox(mpsc::UnboundedSender<Command>);

impl Outbox {
    /// An outbox and the work behind it, which wants to be run on the broker's thread.
    pub(super) fn new() -> (Self, Accountant) {
        let (sender, commands) = mpsc::unbounded_channel();
        let accountant = Accountant {
            commands,
            lines: HashMap::new(),
            beginning: HashSet::new(),
            waiting: 0,
            under_way: JoinSet::new(),
            permits: Arc::new(Semaphore::new(UNDER_WAY)),
            finish: Vec::new(),
        };
        (Self(sender), accountant)
    }

    /// Has a record of a session sent; it happened at this time.
    pub(super) fn send(&self, record: Record, at: SystemTime) {
        self.command(Command::Send(Entry::Session(Box::new(record)), at, None));
    }

    /// The same for a record that somebody waits for. True when a server has taken it.
    pub(super) async fn send_and_wait(&self, record: Record, at: SystemTime) -> bool {
        let (reply, taken) = oneshot::channel();
        self.command(Command::Send(Entry::Session(Box::new(record)), at, Some(reply)));
        taken.await.unwrap_or(false)
    }

    /// Tells that the server of a virtual host begins or ends.
    pub(super) fn send_server(&self, host: &str, status: Status) {
        let entry = Entry::Server(host.to_owned(), status);
        self.command(Command::Send(entry, SystemTime::now(), None));
    }

    /// Waits until everything is sent, for this long at most. True when it is.
    pub(super) async fn finish(&self, limit: Duration) -> bool {
        let (reply, finished) = oneshot::channel();
        self.command(Command::Finish(reply));
        tokio::time::timeout(limit, finished).await.is_ok()
    }

    fn command(&self, command: Command) {
        // The accountant ends with the broker.
        let _broker_ends = self.0.send(command);
    }
}

struct Waiting {
    entry: Entry,
    at: SystemTime,
    tries: u32,
    reply: Option<oneshot::Sender<bool>>,
}

/// Sends records.
pub(super) struct Accountant {
    commands: mpsc::UnboundedReceiver<Command>,
    /// What waits, by session; the first of each line is under way unless its host is beginning.
    lines: HashMap<String, VecDeque<Waiting>>,
    /// Hosts whose servers do not know yet that a new life has begun: a Start must not come first.
    beginning: HashSet<String>,
    waiting: usize,
    /// Lines and whether a server has taken the first record of them.
    under_way: JoinSet<(String, bool)>,
    permits: Arc<Semaphore>,
    finish: Vec<oneshot::Sender<()>>,
}

impl Accountant {
    /// Works until the broker ends.
    pub(super) async fn run(mut self, broker: Weak<Broker>) {
        loop {
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(Command::Send(entry, at, reply)) => {
                        let Some(broker) = broker.upgrade() else { return };
                        self.take(Waiting { entry, at, tries: 0, reply }, &broker);
                    }
                    Some(Command::Finish(reply)) => self.finish.push(reply),
                    None => return,
                },
                Some(done) = self.under_way.join_next() => {
                    let Some(broker) = broker.upgrade() else { return };
                    if let Ok((line, taken)) = done {
                        self.done(&line, taken, &broker);
                    }
                }
            }
            if self.lines.is_empty() {
                for reply in self.finish.drain(..) {
                    let _nobody_waits = reply.send(());
                }
            }
        }
    }

    fn take(&mut self, newer: Waiting, broker: &Rc<Broker>) {
        let entry = &newer.entry;
        let name = match entry {
            Entry::Session(record) => record.session.id.clone(),
            Entry::Server(host, _) => format!("host {host}"),
        };
        let stop = matches!(entry.status(), Status::Stop(_));
        if self.waiting >= WAITING_MAX && !stop {
            let text = format!("sec-mod: accounting: {WAITING_MAX} records wait; one of {name} is lost");
            return log::write(Level::Error, &text);
        }
        if entry.status() == Status::On {
            self.beginning.insert(entry.host().to_owned());
        }
        let line = self.lines.entry(name.clone()).or_default();
        // The first one is under way.
        let last = line.iter_mut().skip(1).last();
        match last.filter(|last| last.entry.status() == Status::Interim) {
            Some(last) => *last = newer,
            None => {
                self.waiting += 1;
                line.push_back(newer);
            }
        }
        if line.len() == 1 {
            self.start(&name, broker);
        }
    }

    /// Sends the first record of a line.
    fn start(&mut self, name: &str, broker: &Rc<Broker>) {
        let Some(first) = self.lines.get(name).and_then(VecDeque::front) else {
            self.lines.remove(name);
            return;
        };
        let server = matches!(first.entry, Entry::Server(..));
        if !server && self.beginning.contains(first.entry.host()) {
            return;
        }
        let loaded = Rc::clone(&broker.state.borrow().loaded);
        let accounting = loaded.accounting_of(first.entry.host());
        let (name, entry, at) = (name.to_owned(), first.entry.clone(), first.at);
        let pause = match first.tries {
            0 => Duration::ZERO,
            tries => FIRST_PAUSE
                .saturating_mul(1 << (tries - 1).min(10))
                .min(LONGEST_PAUSE),
        };
        let permits = Arc::clone(&self.permits);
        self.under_way.spawn_local(async move {
            tokio::time::sleep(pause).await;
            let _permit = permits.acquire_owned().await;
            let taken = match accounting {
                Some(accounting) => accounting.client.account(record(entry, at, &accounting)).await,
                // It is no longer wanted.
                None => true,
            };
            (name, taken)
        });
    }

    fn done(&mut self, name: &str, taken: bool, broker: &Rc<Broker>) {
        let Some(line) = self.lines.get_mut(name) else {
            return;
        };
        let Some(first) = line.front_mut() else { return };
        let worth_another = match first.entry.status() {
            Status::Start | Status::Stop(_) => true,
            Status::Interim | Status::On | Status::Off => false,
        };
        let waited_for = first.reply.take();
        let is_waited_for = waited_for.is_some();
        if let Some(reply) = waited_for {
            let _client_left = reply.send(taken);
        }
        if !taken && worth_another && !is_waited_for {
            if first.tries == 0 {
                let text =
                    format!("sec-mod: accounting: no server has taken a record of {name}; tried again");
                log::write(Level::Warning, &text);
            }
            first.tries += 1;
        } else {
            if !taken && !is_waited_for {
                let text = format!("sec-mod: accounting: no server has taken an update of {name}");
                log::write(Level::Notice, &text);
            }
            if let Some(first) = line.pop_front() {
                self.waiting -= 1;
                self.finished(&first, broker);
            }
        }
        self.start(name, broker);
    }

    fn finished(&mut self, entry: &Waiting, broker: &Rc<Broker>) {
        match &entry.entry {
            Entry::Session(record) if matches!(record.status, Status::Stop(_)) => {
                broker.state.borrow_mut().stop_taken(&record.session.id);
            }
            Entry::Session(_) => {}
            Entry::Server(host, _) => {
                self.beginning.remove(host);
                let of_it = self.lines.iter().filter(|(_, line)| {
                    let first = line.front();
                    first.is_some_and(
                        |first| matches!(&first.entry, Entry::Session(record) if record.host == *host),
                    )
                });
                let names: Vec<String> = of_it.map(|(name, _)| name.clone()).collect();
                for name in names {
                    self.start(&name, broker);
                }
            }
        }
    }
}

fn record(entry: Entry, at: SystemTime, accounting: &Accounting) -> AccountingRecord {
    let status = entry.status();
    let (local, session) = match entry {
        Entry::Session(record) => (Some(record.local), Some(record.session)),
        Entry::Server(..) => (None, None),
    };
    AccountingRecord {
        status,
        session,
        local,
        nas_identifier: accounting.nas_identifier.clone(),
        at,
        delay: SystemTime::now().duration_since(at).unwrap_or_default(),
    }
}
