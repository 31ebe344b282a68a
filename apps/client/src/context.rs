//! What every part of the program needs.

use std::sync::Arc;

use crate::net::Trust;
use crate::options::Options;
use crate::output::Output;
use crate::prompt::Console;
use crate::signals::Signals;

/// Options, the streams of messages and questions, signals, and the user's trust.
#[derive(Debug)]
pub struct Context {
    /// The command line.
    pub options: Options,
    /// Messages.
    pub output: Arc<Output>,
    /// Signals.
    pub signals: Arc<Signals>,
    /// Questions.
    pub console: Console,
    /// Server certificates.
    pub trust: Arc<Trust>,
}
