//! What every part of the program needs.

use std::sync::Arc;

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
    /// Questions.
    pub(crate) console: Console,
    /// Server certificates.
    pub(crate) trust: Arc<Trust>,
}
