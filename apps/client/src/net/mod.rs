//! The way to the server: names, TCP, TLS with the user's trust, HTTP.

mod client;
mod dial;
mod dump;
mod https;
mod proxy;
mod record_log;
mod resolve;
mod sign_on;
mod tls;
mod trust;

pub(crate) use client::{ExchangeError, HttpClient, Peer, Upgrade};
pub(crate) use https::Https;
pub(crate) use proxy::by_libproxy;
pub(crate) use trust::Trust;

use crate::credentials::LoadFailure;
use crate::signals::Signal;

/// Why there is no connection. What happened has been told to the user already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// A signal wants the client to end (or to reconnect).
    #[error("cancelled by a signal")]
    Interrupted(Signal),
    /// Standard input ended when the user was asked something: the program ends.
    #[error("no input")]
    NoInput,
    /// It did not work.
    #[error("the connection failed")]
    Failed,
}

impl From<LoadFailure> for Failure {
    fn from(failure: LoadFailure) -> Self {
        match failure {
            LoadFailure::NoInput => Self::NoInput,
            LoadFailure::Failed => Self::Failed,
        }
    }
}
