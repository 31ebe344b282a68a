//! Answers to steps of logins that may not have reached their clients (`specs/globalprotect.md` §17.1).
//!
//! A client whose connection breaks sends its request again on another one. A one-time code would be
//! refused then, although nobody else has used it. So who sends the same step from the same address, word
//! for word, gets the same answer, and no second one: the same session, or the same question. That lasts
//! for some seconds, and only until the client has shown that it got the answer.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::SessionKey;
use crate::ipc::messages::{ConnectionId, LoginReply};

/// Time for which an answer is kept.
pub(crate) const KEPT: Duration = Duration::from_secs(10);
/// Most answers kept; what comes beyond is not.
const TOTAL: usize = 1024;

/// A step of a login: a keyed hash of all that the client has sent, and from where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Step([u8; 32]);

/// All answers that are kept, each known by its step.
#[derive(Debug, Default)]
pub(crate) struct AnsweredSteps {
    /// Without it nothing is kept.
    secret: Option<[u8; 32]>,
    entries: HashMap<Step, Entry>,
}

#[derive(Debug)]
struct Entry {
    /// Which connection got it last.
    connection: ConnectionId,
    /// The session, or the login that goes on.
    key: SessionKey,
    until: Instant,
    reply: LoginReply,
}

impl AnsweredSteps {
    /// An empty table. `secret` is random; `None`: there are no random numbers.
    pub(crate) fn new(secret: Option<[u8; 32]>) -> Self {
        Self {
            secret,
            entries: HashMap::new(),
        }
    }

    /// The step that consists of these parts.
    pub(crate) fn step(&self, parts: &[&[u8]]) -> Option<Step> {
        let mut hash = Sha256::new_with_prefix(self.secret?);
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Some(Step(hash.finalize().into()))
    }

    /// Keeps the answer to a step, which `connection` gets, in place of those to earlier steps of the same
    /// login. Answers that say no are not kept.
    pub(crate) fn keep(&mut self, step: Step, connection: ConnectionId, reply: &LoginReply, now: Instant) {
        let (LoginReply::Prompt { context: id, .. } | LoginReply::Success { cookie: id, .. }) = reply else {
            return;
        };
        let key = SessionKey::of(id);
        self.forget_login(key);
        if self.entries.len() >= TOTAL {
            self.expire(now);
        }
        if self.entries.len() < TOTAL {
            let entry = Entry {
                connection,
                key,
                until: now + KEPT,
                reply: reply.clone(),
            };
            self.entries.insert(step, entry);
        }
    }

    /// The answer to a step, which `connection` gets now.
    pub(crate) fn again(&mut self, step: Step, connection: ConnectionId, now: Instant) -> Option<LoginReply> {
        let entry = self.entries.get_mut(&step).filter(|entry| now < entry.until)?;
        entry.connection = connection;
        Some(entry.reply.clone())
    }

    /// The client has got what this connection answered.
    pub(crate) fn received(&mut self, connection: ConnectionId) {
        self.entries.retain(|_, entry| entry.connection != connection);
    }

    /// The session is used, or the login goes on: its client has got the answer.
    pub(crate) fn forget_login(&mut self, key: SessionKey) {
        self.entries.retain(|_, entry| entry.key != key);
    }

    /// Forgets what is over.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.entries.retain(|_, entry| now < entry.until);
    }
}

#[cfg(test)]
mod tests {
    use culvert_vocab::{SessionId, UserName};

    use super::*;

    const CONNECTION: ConnectionId = ConnectionId(1);

    fn success(id: u8) -> LoginReply {
        LoginReply::Success {
            cookie: SessionId::from_bytes([id; 32]),
            user: UserName::new("test").unwrap(),
            group: None,
            token: None,
        }
    }

    #[test]
    fn the_same_step_has_the_same_answer_for_a_while() {
        let (mut table, now) = (AnsweredSteps::new(Some([1; 32])), Instant::now());
        let step = table.step(&[b"user", b"code"]).unwrap();
        for other in [
            &[b"usercode".as_slice()][..],
            &[b"userc", b"ode"],
            &[b"user", b"Code"],
        ] {
            assert_ne!(table.step(other), Some(step));
        }
        assert_ne!(
            AnsweredSteps::new(Some([2; 32])).step(&[b"user", b"code"]),
            Some(step)
        );
        assert_eq!(table.again(step, CONNECTION, now), None);
        table.keep(step, CONNECTION, &success(1), now);
        for _ in 0..2 {
            assert_eq!(table.again(step, CONNECTION, now), Some(success(1)));
        }
        let almost = now + KEPT - Duration::from_millis(1);
        assert_eq!(table.again(step, CONNECTION, almost), Some(success(1)));
        assert_eq!(table.again(step, CONNECTION, now + KEPT), None);
        table.expire(now + KEPT);
        assert!(table.entries.is_empty());
    }

    #[test]
    fn whoever_got_the_answer_gets_it_no_more() {
        let (mut table, now) = (AnsweredSteps::new(Some([1; 32])), Instant::now());
        let step = table.step(&[b"user", b"code"]).unwrap();
        table.keep(step, CONNECTION, &success(1), now);
        // The connection that broke says nothing any more; the one that has repeated the step does.
        assert!(table.again(step, ConnectionId(2), now).is_some());
        table.received(CONNECTION);
        assert!(table.again(step, ConnectionId(2), now).is_some());
        table.received(ConnectionId(2));
        assert_eq!(table.again(step, CONNECTION, now), None);
        table.keep(step, CONNECTION, &success(1), now);
        table.forget_login(SessionKey::of(&SessionId::from_bytes([1; 32])));
        assert_eq!(table.again(step, CONNECTION, now), None);
    }

    #[test]
    fn refusals_are_not_kept_and_the_table_is_bounded() {
        let (mut table, now) = (AnsweredSteps::new(Some([1; 32])), Instant::now());
        let step = table.step(&[b"x"]).unwrap();
        table.keep(step, CONNECTION, &LoginReply::NotPending, now);
        assert_eq!(table.again(step, CONNECTION, now), None);
        for number in 0..TOTAL as u64 + 10 {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_be_bytes());
            let reply = LoginReply::Prompt {
                context: SessionId::from_bytes(id),
                message: Default::default(),
                number: 1,
            };
            let step = table.step(&[&number.to_be_bytes()]).unwrap();
            table.keep(step, CONNECTION, &reply, now);
        }
        assert_eq!(table.entries.len(), TOTAL);
        assert_eq!(AnsweredSteps::new(None).step(&[b"x"]), None);
    }
}
