//! How users prove who they are (`specs/server-auth.md` §1).
//!
//! A virtual host has an ordered list of method entries; a login picks one and answers its
//! prompts. Each method is a variant of [`Method`] and of [`Attempt`]; whatever waits (a hash, a
//! file, a network) happens inside `answer`, which never blocks the broker.

mod certificate;
mod groups;
mod plain;

use std::sync::Arc;

use culvert_password_file::otp::OtpFile;
use culvert_server_config::{AuthConfig, AuthMethod};
use culvert_vocab::{GroupName, SecretString, UserName};
use tokio::sync::Semaphore;

pub(super) use certificate::{Certificates, Identity};
pub(super) use groups::{GroupWish, choose, only_eligible, to_choose_from};

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
    entries: Vec<Entry>,
}

/// What has to succeed together. At least one of both is there.
#[derive(Debug)]
pub(super) struct Entry {
    /// A client certificate.
    pub(super) certificate: bool,
    /// Something else.
    pub(super) method: Option<Method>,
}

impl Entry {
    fn new(methods: &[AuthMethod], workers: &Workers) -> Result<Self, Unsupported> {
        let others = methods
            .iter()
            .filter(|method| **method != AuthMethod::Certificate);
        let mut others = others.map(|method| Method::new(method, workers));
        Ok(Self {
            certificate: methods.contains(&AuthMethod::Certificate),
            method: others.next().transpose()?,
        })
    }

    /// Begins a login. `user` is what the client typed, `identity` whom its certificate, which
    /// this entry wants, speaks of. A method's first prompt follows.
    pub(super) fn begin(
        &self,
        user: Option<UserName>,
        identity: Option<&Identity>,
    ) -> (Option<Attempt>, Progress) {
        match (&self.method, identity) {
            (Some(method), _) => {
                let (attempt, progress) = method.begin(user, self.certificate);
                (Some(attempt), progress)
            }
            (
                None,
                Some(Identity {
                    user: Ok(user),
                    groups,
                    ..
                }),
            ) => {
                let (user, groups) = (user.clone(), groups.clone().unwrap_or_default());
                (None, Progress::Accepted { user, groups })
            }
            (
                None,
                Some(Identity {
                    user: Err(problem), ..
                }),
            ) => (None, Progress::Unavailable(problem.clone())),
            (None, None) => (None, Progress::Refused),
        }
    }
}

impl Methods {
    pub(super) fn new(config: &AuthConfig, workers: &Workers) -> Result<Self, Unsupported> {
        let mut entries = vec![Entry::new(&config.required, workers)?];
        for method in &config.alternatives {
            entries.push(Entry::new(std::slice::from_ref(method), workers)?);
        }
        Ok(Self { entries })
    }

    /// The entry for a client with or without a certificate (`specs/server-auth.md` §1.3).
    pub(super) fn select(&self, certificate: bool) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.certificate == certificate)
    }

    /// True when the user still exists: asked before a session of an earlier process is used.
    /// `certificate`: it was begun with one, and the client has just shown it again.
    pub(super) async fn knows(&self, user: &UserName, certificate: bool) -> bool {
        match self.select(certificate) {
            Some(Entry {
                method: Some(method), ..
            }) => method.knows(user).await,
            Some(Entry { method: None, .. }) => certificate,
            None => false,
        }
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
    /// unknown one; `certificate`: one proves the name, too. The first prompt follows.
    fn begin(&self, user: Option<UserName>, certificate: bool) -> (Attempt, Progress) {
        match self {
            Self::Plain(plain) => {
                let (attempt, prompt) = plain::Attempt::new(Arc::clone(plain), user, certificate);
                (Attempt::Plain(attempt), prompt)
            }
        }
    }

    async fn knows(&self, user: &UserName) -> bool {
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
