//! How users prove who they are (`specs/server-auth.md` §1).
//!
//! A virtual host has an ordered list of method entries; a login picks one and answers its
//! prompts. Each method is a variant of [`Method`] and of [`Attempt`]; whatever waits (a hash, a
//! file, a network) happens inside `answer`, which never blocks the broker.

mod groups;
mod plain;

use std::sync::Arc;

use culvert_password_file::otp::OtpFile;
use culvert_server_config::{AuthConfig, AuthMethod};
use culvert_vocab::{GroupName, SecretString, UserName};
use tokio::sync::Semaphore;

pub(super) use groups::{GroupWish, choose};

/// Prompt for the password.
pub(super) const ASK_PASSWORD: &str = "Please enter your password.";

/// Where a login stands after a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Progress {
    /// One more answer is wanted; 0 is the password, n the n-th additional one.
    Prompt {
        /// Text of the form.
        message: String,
        /// Number of the prompt.
        number: u8,
    },
    /// The user is who he says, and is a member of these groups, the default one first.
    Accepted {
        /// Name in force; a method may rename.
        user: UserName,
        /// Groups.
        groups: Vec<GroupName>,
    },
    /// Wrong answer; the same prompt may be answered again, a few times.
    Wrong,
    /// Wrong answer, and no other is taken.
    Refused,
    /// The method could not decide; one line for the log. Always a refusal.
    Unavailable(String),
}

/// A method that this server has been told to use and does not have.
#[derive(Debug, thiserror::Error)]
#[error("the authentication method '{0}' is not available in this version")]
pub(super) struct Unsupported(String);

/// What foreign or slow work may run at a time.
#[derive(Debug, Clone)]
pub(super) struct Workers {
    hashing: Arc<Semaphore>,
}

impl Workers {
    /// At most `hashing` password hashes are computed at a time.
    pub(super) fn new(hashing: usize) -> Self {
        Self {
            hashing: Arc::new(Semaphore::new(hashing.max(1))),
        }
    }
}

/// The method list of a virtual host: entry 0 is the conjunction of its `auth` lines, each
/// `enable-auth` line is one more (`specs/server-auth.md` §1.1).
#[derive(Debug)]
pub(super) struct Methods {
    entries: Vec<Method>,
}

impl Methods {
    pub(super) fn new(config: &AuthConfig, workers: &Workers) -> Result<Self, Unsupported> {
        let mut entries = Vec::new();
        match config.required.as_slice() {
            [method] => entries.push(Method::new(method, workers)?),
            // A conjunction has a certificate in it.
            _ => return Err(Unsupported(AuthMethod::Certificate.name().to_owned())),
        }
        for method in &config.alternatives {
            entries.push(Method::new(method, workers)?);
        }
        Ok(Self { entries })
    }

    /// The method of a login with user name and password.
    pub(super) fn for_password(&self) -> Option<&Method> {
        self.entries.first()
    }
}

/// A configured method.
#[derive(Debug, Clone)]
pub(super) enum Method {
    /// A password file, a file of one-time passwords, or both.
    Plain(Arc<plain::Plain>),
}

impl Method {
    fn new(method: &AuthMethod, workers: &Workers) -> Result<Self, Unsupported> {
        match method {
            AuthMethod::Plain { passwd, otp, otp_pin } => {
                let otp = otp.as_ref().map(|path| OtpFile::new(path, *otp_pin));
                let plain = plain::Plain::new(passwd.clone(), otp, workers.hashing.clone());
                Ok(Self::Plain(Arc::new(plain)))
            }
            other => Err(Unsupported(other.name().to_owned())),
        }
    }

    /// Begins a login of `user`; `None` is a name that nobody can have, which goes the way of an
    /// unknown one. The first prompt follows.
    pub(super) fn begin(&self, user: Option<UserName>) -> (Attempt, Progress) {
        match self {
            Self::Plain(plain) => {
                let (attempt, prompt) = plain::Attempt::new(Arc::clone(plain), user, false);
                (Attempt::Plain(attempt), prompt)
            }
        }
    }

    /// True when the user still exists: asked before a session of an earlier process is used.
    pub(super) async fn knows(&self, user: &UserName) -> bool {
        match self {
            Self::Plain(plain) => plain.knows(user).await,
        }
    }
}

/// A login in progress.
#[derive(Debug)]
pub(super) enum Attempt {
    /// With files.
    Plain(plain::Attempt),
}

impl Attempt {
    /// Takes the answer to the last prompt.
    pub(super) async fn answer(&mut self, answer: SecretString) -> Progress {
        match self {
            Self::Plain(attempt) => attempt.answer(answer).await,
        }
    }
}
