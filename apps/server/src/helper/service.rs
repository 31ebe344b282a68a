//! Services: processes that live as long as their configuration, and answer many questions. What
//! broker ([`crate::broker`]) and process say to each other after the assignment. No descriptors.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::messages::Assignment;
use crate::ipc::messages::LogLevel;
use crate::ipc::{Message, Text};

/// What a service is for; a kind of service is known by the type of it.
pub(crate) trait ServiceAssignment: Clone + PartialEq + Into<Assignment> + 'static {
    /// What it is asked.
    type Question: Serialize + DeserializeOwned;
    /// What it says.
    type Answer: Serialize + DeserializeOwned;
    /// Before its lines in the log.
    const NAME: &'static str;
    /// What the process does, for the log.
    const TASK: &'static str;
}

/// Names a question; an answer has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct QuestionNumber(pub(crate) u64);

/// Messages of the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BrokerToService<Q> {
    /// Answer this.
    Ask(QuestionNumber, Box<Q>),
    /// Nobody waits for this answer any more.
    Forget(QuestionNumber),
}

/// Messages of the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ServiceToBroker<A> {
    /// The answer to a question.
    Answer(QuestionNumber, A),
    /// Sent by the handler of a forbidden system call: its number, little end first.
    Forbidden([u8; 4]),
    /// A line for the log.
    Log {
        /// Severity.
        level: LogLevel,
        /// The text.
        text: Text<512>,
    },
}

impl<Q: Serialize + DeserializeOwned> Message for BrokerToService<Q> {}
impl<A: Serialize + DeserializeOwned> Message for ServiceToBroker<A> {}
