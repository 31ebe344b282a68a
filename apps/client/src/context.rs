//! What every part of the program needs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use culvert_sys::network_changes::NetworkChanges;

use crate::credentials::Credentials;
use crate::login::Answers;
use crate::net::Trust;
use crate::options::Options;
use crate::output::Output;
use crate::prompt::Console;
use crate::signals::Signals;

/// Options, the streams of messages and questions, signals, and the user's trust.
#[derive(Debug)]
pub(crate) struct Context {
    /// The command line.
    pub(crate) options: Options,
    /// Messages.
    pub(crate) output: Arc<Output>,
    /// Signals.
    pub(crate) signals: Arc<Signals>,
    /// News of the host's network, where there are any.
    pub(crate) changes: Option<NetworkChanges>,
    /// Questions.
    pub(crate) console: Console,
    /// Server certificates.
    pub(crate) trust: Arc<Trust>,
    /// Certificates and keys of the client.
    pub(crate) credentials: Credentials,
    /// What the command line answers, of which some is good for once only.
    pub(crate) answers: Mutex<Answers>,
}

impl Context {
    /// The answers of the command line, to fill one form.
    pub(crate) fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
