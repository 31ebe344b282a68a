//! A login's side of the conversation, as the method's code sees it: it asks and waits.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use culvert_vocab::SecretString;

use super::messages::{Accepted, BrokerToHelper, HelperToBroker};
use crate::ipc::link::Blocking;
use crate::ipc::messages::LogLevel;
use crate::ipc::{SecretText, Text};

/// The client or the broker is gone, or the login's time is over: nobody wants to hear the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the login was given up")]
pub(crate) struct Gone;

/// The conversation of one login.
#[derive(Debug)]
pub(crate) struct Talk {
    broker: Blocking,
    deadline: Instant,
    /// The deadline does not hold any more.
    stays: Arc<AtomicBool>,
}

impl Talk {
    /// With this broker, until `deadline`; [`Self::stay`] sets `stays`.
    pub(super) fn new(broker: Blocking, deadline: Instant, stays: Arc<AtomicBool>) -> Self {
        Self {
            broker,
            deadline,
            stays,
        }
    }

    /// The channel to the broker.
    pub(super) fn channel(&self) -> BorrowedFd<'_> {
        self.broker.as_fd()
    }

    /// Asks the user; 0 is the password, n the n-th additional answer.
    ///
    /// # Errors
    /// See [`Gone`], here and below.
    pub(crate) fn ask(&mut self, message: &str, number: u8) -> Result<SecretString, Gone> {
        let message = Text::truncated(message);
        self.exchange(&HelperToBroker::Prompt { message, number })
    }

    /// Waits for a token of the client, which gets this one first.
    pub(crate) fn challenge(&mut self, token: Option<SecretString>) -> Result<SecretString, Gone> {
        let token = token.map(SecretText::new).transpose().map_err(|_| Gone)?;
        self.exchange(&HelperToBroker::Challenge(token))
    }

    /// Writes a line into the server's log.
    pub(crate) fn log(&self, level: LogLevel, text: &str) {
        let text = Text::truncated(text);
        // If the broker is gone, the next question says so.
        let _gone = self.send(&HelperToBroker::Log { level, text });
    }

    /// Says that the user is who he says, and stays for his session: from now on there is no deadline.
    pub(super) fn stay(&mut self, accepted: Accepted) -> Result<(), Gone> {
        self.stays.store(true, Ordering::Relaxed);
        self.send(&HelperToBroker::Accepted(Box::new(accepted)))
    }

    /// What the broker wants next of a helper that stays; `None` when it has gone.
    pub(super) fn next(&self) -> Option<BrokerToHelper> {
        let (message, _none) = self.broker.receive(None).ok().flatten()?;
        Some(message)
    }

    pub(super) fn send(&self, message: &HelperToBroker) -> Result<(), Gone> {
        self.broker.send(message, &[]).map_err(|_| Gone)
    }

    fn exchange(&mut self, question: &HelperToBroker) -> Result<SecretString, Gone> {
        self.send(question)?;
        match self.broker.receive(Some(self.deadline)) {
            Ok(Some((BrokerToHelper::Answer(answer), _))) => Ok(answer.into()),
            _ => Err(Gone),
        }
    }
}
