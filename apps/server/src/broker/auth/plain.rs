//! The method `plain`: a password file, a file of one-time passwords, or both
//! (`specs/server-auth.md` §2.1-2.2).

use std::path::PathBuf;
use std::sync::Arc;

use chrono::Local;
use culvert_password_file::otp::OtpFile;
use culvert_password_file::{Credential, PasswordFile, PasswordFileCache};
use culvert_vocab::{GroupName, SecretString, UserName};

use super::{ASK_PASSWORD, Accepted, Progress, Workers};
use crate::log::{self, Level};

/// Prompt for the one-time password.
const ASK_OTP: &str = "Please enter your OTP password.";

/// The files, and the right to compute hashes.
#[derive(Debug)]
pub(in crate::broker) struct Plain {
    passwords: Option<PasswordFileCache>,
    otp: Option<OtpFile>,
    workers: Workers,
}

impl Plain {
    /// At least one of the files is there.
    pub(super) fn new(passwords: Option<PathBuf>, otp: Option<OtpFile>, workers: Workers) -> Self {
        Self {
            passwords: passwords.map(PasswordFileCache::new),
            otp,
            workers,
        }
    }

    /// Runs `work` on a thread for blocking calls, a few at a time: a modern hash takes 100 ms.
    async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let _waiting = self.workers.load.wait();
        let permit = Arc::clone(&self.workers.hashing)
            .acquire_owned()
            .await
            .map_err(|error| error.to_string())?;
        let plain = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&plain)
        });
        done.await.map_err(|error| error.to_string())?
    }

    pub(super) async fn knows(self: &Arc<Self>, user: &UserName) -> bool {
        let user = user.clone();
        let known = self.run(move |plain| match (&plain.passwords, &plain.otp) {
            (Some(file), _) => current(file).map(|file| file.account(user.as_str()).is_some()),
            (None, Some(otp)) => Ok(otp.knows(user.as_str())),
            (None, None) => Ok(false),
        });
        known.await.is_ok_and(|known| known)
    }
}

fn current(file: &PasswordFileCache) -> Result<Arc<PasswordFile>, String> {
    file.current()
        .map_err(|error| format!("{}: {error}", file.path().display()))
}

/// What is asked at the moment.
#[derive(Debug, Clone)]
enum Stage {
    /// The password; of users without one, the one-time password.
    Password,
    /// The one-time password, of a member of these groups.
    Otp(Vec<GroupName>),
}

/// What came of an answer.
enum Judged {
    Accepted(Vec<GroupName>),
    /// The password was right; the one-time password is asked next.
    HalfWay(Vec<GroupName>),
    Wrong,
}

/// A login.
#[derive(Debug)]
pub(in crate::broker) struct Attempt {
    plain: Arc<Plain>,
    /// `None`: a name that nobody can have. The work is the same as for an unknown user.
    user: Option<UserName>,
    /// A certificate must prove the user's name, too: accounts may go without a password.
    certificate: bool,
    stage: Stage,
}

impl Attempt {
    pub(super) fn new(plain: Arc<Plain>, user: Option<UserName>, certificate: bool) -> (Self, Progress) {
        // The file's own separator cannot be part of a name in it.
        let user = user.filter(|user| plain.passwords.is_none() || !user.as_str().contains(':'));
        let (stage, message) = match plain.passwords {
            Some(_) => (Stage::Password, ASK_PASSWORD),
            None => (Stage::Otp(Vec::new()), ASK_OTP),
        };
        let attempt = Self {
            plain,
            user,
            certificate,
            stage,
        };
        let prompt = Progress::Prompt {
            message: message.to_owned(),
            number: 0,
        };
        (attempt, prompt)
    }

    pub(super) async fn answer(&mut self, answer: SecretString) -> Progress {
        let (user, stage, certificate) = (self.user.clone(), self.stage.clone(), self.certificate);
        let name = user.clone();
        let judged = self.plain.run(move |plain| {
            let name = name.as_ref().map_or("", UserName::as_str);
            match stage {
                Stage::Password => plain.judge_password(name, &answer, certificate),
                Stage::Otp(groups) => Ok(match plain.is_otp(name, &answer)? {
                    true => Judged::Accepted(groups),
                    false => Judged::Wrong,
                }),
            }
        });
        match (judged.await, user) {
            (Ok(Judged::Accepted(groups)), Some(user)) => {
                Progress::Accepted(Box::new(Accepted::new(user, groups)))
            }
            (Ok(Judged::HalfWay(groups)), Some(_)) => {
                self.stage = Stage::Otp(groups);
                Progress::Prompt {
                    message: ASK_OTP.to_owned(),
                    number: 1,
                }
            }
            // One-time passwords are not guessed at.
            (Ok(_), _) if matches!(self.stage, Stage::Otp(_)) => Progress::Refused(None),
            (Ok(_), _) => Progress::Wrong(None),
            (Err(problem), _) => Progress::Unavailable(problem),
        }
    }
}

impl Plain {
    /// Judges the answer to the first prompt. Nobody gets in with the name alone: an account
    /// without a password needs a one-time password or a certificate.
    fn judge_password(&self, name: &str, answer: &SecretString, certificate: bool) -> Result<Judged, String> {
        let Some(file) = &self.passwords else {
            return Ok(Judged::Wrong);
        };
        let file = current(file)?;
        let verified = file.verify(name, answer.expose().as_bytes());
        let Some(account) = file.account(name) else {
            return Ok(Judged::Wrong);
        };
        let groups = account
            .groups()
            .iter()
            .filter_map(|group| GroupName::new(group).ok())
            .collect();
        Ok(match (account.credential(), &self.otp) {
            (Credential::Empty, Some(_)) if self.is_otp(name, answer)? => Judged::Accepted(groups),
            (Credential::Empty, None) if certificate => Judged::Accepted(groups),
            (Credential::Empty, None) => {
                log::write(
                    Level::Error,
                    &format!("sec-mod: user '{name}' has neither a password nor another factor"),
                );
                Judged::Wrong
            }
            (Credential::Password, Some(_)) if verified => Judged::HalfWay(groups),
            (Credential::Password, None) if verified => Judged::Accepted(groups),
            _ => Judged::Wrong,
        })
    }

    /// True when this is the user's next one-time password, which is used up then.
    fn is_otp(&self, name: &str, answer: &SecretString) -> Result<bool, String> {
        match &self.otp {
            Some(otp) => otp
                .check(name, answer.expose().as_bytes(), Local::now())
                .map_err(|error| error.to_string()),
            None => Ok(false),
        }
    }
}
