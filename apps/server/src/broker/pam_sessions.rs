//! PAM sessions (`pam[session=true]`): the helper processes of logins that stay for the sessions of their
//! users ([`crate::helper`]). A PAM session is opened before the first tunnel, stays open while the client
//! is away and may come back, and is closed once, when the session leaves the table.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use culvert_vocab::UserName;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::auth::{Caller, Methods, Staying};
use super::state::Broker;
use crate::helper::SESSION_CLEAN_UP;
use crate::helper::messages::{Assignment, BrokerToHelper, HelperToBroker, Login};
use crate::helper::process::Process;
use crate::log::{self, Level};
use crate::sessions::SessionKey;

/// Time for modules to open a session.
const OPEN_TIME: Duration = Duration::from_secs(30);
/// Time for all sessions to be closed when the server stops.
const STOP_TIME: Duration = Duration::from_secs(5);

/// Who waits for a session to be open; why it is not.
type Reply = oneshot::Sender<Result<(), String>>;

/// The PAM session of one session, open or to be opened. Dropping this closes it.
#[derive(Debug)]
pub(super) struct PamSession(mpsc::UnboundedSender<Reply>);

impl PamSession {
    /// With a helper that stays; `end` is dropped when it has ended. Call this inside a `LocalSet`.
    pub(super) fn new<T: 'static>(helper: Staying, end: T) -> Self {
        let (open, wishes) = mpsc::unbounded_channel();
        tokio::task::spawn_local(async move {
            serve(helper, wishes).await;
            drop(end);
        });
        Self(open)
    }

    /// Opens it, unless it is open.
    ///
    /// # Errors
    /// The modules do not let it begin; one line for the log.
    pub(super) fn open(&self) -> impl Future<Output = Result<(), String>> + use<> {
        let (reply, opened) = oneshot::channel();
        // If the process has ended, the end of the other channel says so.
        let _nobody = self.0.send(reply);
        async {
            match timeout(OPEN_TIME, opened).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err("its process has ended".to_owned()),
                Err(_) => Err(format!("the modules take more than {} s", OPEN_TIME.as_secs())),
            }
        }
    }

    fn has_ended(&self) -> bool {
        self.0.is_closed()
    }
}

/// Speaks with the helper of a session until nobody wants the session any more, or the helper has ended.
async fn serve(staying: Staying, mut wishes: mpsc::UnboundedReceiver<Reply>) {
    let Staying {
        whose,
        mut helper,
        session_end,
    } = staying;
    let (mut is_open, mut waiting) = (false, Vec::<Reply>::new());
    let problem = loop {
        tokio::select! {
            wish = wishes.recv() => match wish {
                Some(reply) if is_open => drop(reply.send(Ok(()))),
                Some(reply) => {
                    if waiting.is_empty() {
                        // One that is gone says so in place of its next message.
                        let _gone = helper.sender.send(&BrokerToHelper::OpenSession, Vec::new());
                    }
                    waiting.push(reply);
                }
                None => break None,
            },
            message = helper.receive::<HelperToBroker>() => match message {
                Some(HelperToBroker::SessionOpened) => {
                    is_open = true;
                    for reply in waiting.drain(..) {
                        drop(reply.send(Ok(())));
                    }
                }
                Some(HelperToBroker::Log { level, text }) => helper.log(level, &whose, format_args!(": {text}")),
                Some(HelperToBroker::Refused(why)) => break Some(why.map_or_else(String::new, String::from)),
                Some(HelperToBroker::Unavailable(why)) => break Some(why.into()),
                Some(_) => break Some("breaks the protocol".to_owned()),
                None => break Some("has ended".to_owned()),
            },
        }
    };
    match problem {
        None if is_open => close(&whose, helper).await,
        // Modules that are about to open it are not stopped halfway: what they begin is closed.
        None if !waiting.is_empty() => {
            for reply in waiting {
                drop(reply.send(Err("the session ended".to_owned())));
            }
            match opened_late(&whose, &mut helper).await {
                true => close(&whose, helper).await,
                false => drop(helper.ended().await),
            }
        }
        Some(_) if is_open => go_on_without(&whose, helper, wishes, session_end).await,
        problem => {
            // Nobody waits any longer for a process that may take its time to end.
            drop(wishes);
            for reply in waiting {
                drop(reply.send(Err(problem.clone().unwrap_or_default())));
            }
            helper.ended().await;
        }
    }
}

/// Goes on without the helper, which is lost, until nobody wants the session any more: then another one
/// closes it.
async fn go_on_without(
    whose: &str,
    lost: Process,
    mut wishes: mpsc::UnboundedReceiver<Reply>,
    session_end: Login,
) {
    let how = lost.ended().await;
    let text = format!("sec-mod: {whose} {how}: the PAM session goes on without it");
    log::write(Level::Warning, &text);
    while let Some(reply) = wishes.recv().await {
        drop(reply.send(Ok(())));
    }
    match Process::start(Assignment::Login(session_end), ()) {
        Ok(another) => closed(whose, another).await,
        Err(error) => {
            let text = format!("sec-mod: {whose}: the PAM session is not closed: {error}");
            log::write(Level::Error, &text);
        }
    }
}

/// Has the modules told that the session has ended.
async fn close(whose: &str, helper: Process) {
    let _gone = helper.sender.send(&BrokerToHelper::CloseSession, Vec::new());
    closed(whose, helper).await;
}

/// Waits until the modules have opened a session that nobody wants any more; false when they have not.
async fn opened_late(whose: &str, helper: &mut Process) -> bool {
    let opened = async {
        loop {
            match helper.receive().await {
                Some(HelperToBroker::SessionOpened) => return true,
                Some(HelperToBroker::Log { level, text }) => {
                    helper.log(level, whose, format_args!(": {text}"));
                }
                _ => return false,
            }
        }
    };
    let in_time = timeout(SESSION_CLEAN_UP, opened).await;
    in_time.unwrap_or_else(|_| {
        let text =
            format!("sec-mod: {whose}: the PAM session is perhaps not closed: the modules take too long");
        log::write(Level::Error, &text);
        false
    })
}

/// Waits until the modules know that the session has ended, and so has the helper.
async fn closed(whose: &str, mut helper: Process) {
    let last_words = async {
        while let Some(message) = helper.receive().await {
            match message {
                HelperToBroker::SessionClosed => return Ok(()),
                HelperToBroker::Log { level, text } => helper.log(level, whose, format_args!(": {text}")),
                HelperToBroker::Unavailable(why) => return Err(String::from(why)),
                _ => return Err("breaks the protocol".to_owned()),
            }
        }
        Err(String::new())
    };
    let said = timeout(SESSION_CLEAN_UP, last_words).await;
    let how = helper.ended().await;
    let why = match said {
        Ok(Ok(())) => return,
        Ok(Err(why)) if why.is_empty() => how,
        Ok(Err(why)) => why,
        Err(_) => "the modules take too long".to_owned(),
    };
    let text = format!("sec-mod: {whose}: the PAM session is perhaps not closed: {why}");
    log::write(Level::Error, &text);
}

/// All of them.
#[derive(Debug)]
pub(super) struct PamSessions {
    sessions: HashMap<SessionKey, PamSession>,
    alive: mpsc::Sender<Infallible>,
    ended: mpsc::Receiver<Infallible>,
}

impl Default for PamSessions {
    fn default() -> Self {
        let (alive, ended) = mpsc::channel(1);
        Self {
            sessions: HashMap::new(),
            alive,
            ended,
        }
    }
}

impl PamSessions {
    /// Keeps the helper of a login for the session that it has begun.
    pub(super) fn keep(&mut self, key: SessionKey, helper: Staying) {
        let session = PamSession::new(helper, self.alive.clone());
        self.sessions.insert(key, session);
    }

    /// Closes that of a session that has ended, if it has one.
    pub(super) fn close(&mut self, key: SessionKey) {
        self.sessions.remove(&key);
    }

    fn get(&self, key: SessionKey) -> Option<&PamSession> {
        self.sessions.get(&key).filter(|session| !session.has_ended())
    }

    /// Closes all; the result waits until that is done, for a limited time.
    fn close_all(&mut self) -> impl Future<Output = ()> + use<> {
        let Self { mut ended, alive, .. } = std::mem::take(self);
        drop(alive);
        async move {
            let _in_time = timeout(STOP_TIME, ended.recv()).await;
        }
    }
}

impl Broker {
    /// Opens the PAM session of a session that a connection holds, before its tunnel.
    ///
    /// # Errors
    /// The modules do not let it begin; why, for the log.
    pub(super) async fn open_pam_session(
        &self,
        key: SessionKey,
        methods: &Methods,
        user: &UserName,
        caller: Caller,
    ) -> Result<(), String> {
        if self.state.borrow().pam.get(key).is_none() {
            // The helper of the login has ended with the earlier broker, or by accident.
            let Some(helper) = methods.session_helper(user, caller).await? else {
                return Ok(());
            };
            let mut state = self.state.borrow_mut();
            let is_wanted = state.sessions.get(key).is_some() && state.pam.get(key).is_none();
            if is_wanted {
                state.pam.keep(key, helper);
            }
        }
        let opened = self.state.borrow().pam.get(key).map(PamSession::open);
        let opened = match opened {
            Some(opened) => opened.await,
            None => Err("the session ended".to_owned()),
        };
        opened.inspect_err(|_| self.state.borrow_mut().pam.close(key))
    }

    /// Closes all PAM sessions: the broker ends.
    pub(super) async fn close_pam_sessions(&self) {
        let closed = self.state.borrow_mut().pam.close_all();
        closed.await;
    }
}
