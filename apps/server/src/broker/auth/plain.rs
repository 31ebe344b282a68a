//! The method `plain`: a password file (`specs/server-auth.md` §2.1).

use std::path::Path;
use std::sync::Arc;

use culvert_password_file::{PasswordFile, Verdict};
use culvert_vocab::{SecretString, UserName};
use tokio::sync::Semaphore;

use super::Progress;

/// A password file and the right to compute its hashes.
#[derive(Debug)]
pub(in crate::broker) struct Plain {
    file: Arc<PasswordFile>,
    hashing: Arc<Semaphore>,
}

impl Plain {
    pub(super) fn new(path: &Path, hashing: Arc<Semaphore>) -> Self {
        Self {
            file: Arc::new(PasswordFile::new(path)),
            hashing,
        }
    }

    /// Runs `work` on a thread for blocking calls, a few at a time: a modern hash takes 100 ms.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&PasswordFile) -> T + Send + 'static,
    ) -> Result<T, String> {
        let permit = Arc::clone(&self.hashing)
            .acquire_owned()
            .await
            .map_err(|error| error.to_string())?;
        let file = Arc::clone(&self.file);
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&file)
        })
        .await
        .map_err(|error| error.to_string())
    }

    pub(super) async fn knows(&self, user: &UserName) -> bool {
        let user = user.clone();
        self.run(move |file| file.contains(user.as_str()))
            .await
            .is_ok_and(|known| known)
    }
}

/// A login with a password.
#[derive(Debug)]
pub(in crate::broker) struct Attempt {
    plain: Arc<Plain>,
    /// `None`: a name that nobody can have. The work is the same as for an unknown user.
    user: Option<UserName>,
}

impl Attempt {
    pub(super) fn new(plain: Arc<Plain>, user: Option<UserName>) -> Self {
        // The file's own separator cannot be part of a name in it.
        let user = user.filter(|user| !user.as_str().contains(':'));
        Self { plain, user }
    }

    pub(super) async fn answer(&mut self, password: SecretString) -> Progress {
        let user = self.user.clone();
        let verdict = self
            .plain
            .run(move |file| file.verify(user.as_ref().map_or("", |user| user.as_str()), &password))
            .await;
        match (verdict, &self.user) {
            (Ok(Ok(Verdict::Accepted { groups })), Some(user)) => Progress::Accepted {
                user: user.clone(),
                groups,
            },
            (Ok(Ok(_)), _) => Progress::Wrong,
            (Ok(Err(error)), _) => Progress::Unavailable(error.to_string()),
            (Err(error), _) => Progress::Unavailable(error),
        }
    }
}
