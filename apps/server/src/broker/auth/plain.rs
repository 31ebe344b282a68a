//! The method `plain`: a password file (`specs/server-auth.md` §2.1).

use std::path::Path;
use std::sync::Arc;

use culvert_password_file::{PasswordFile, PasswordFileCache};
use culvert_vocab::{GroupName, SecretString, UserName};
use tokio::sync::Semaphore;

use super::Progress;

/// A password file and the right to compute its hashes.
#[derive(Debug)]
pub(in crate::broker) struct Plain {
    file: Arc<PasswordFileCache>,
    hashing: Arc<Semaphore>,
}

impl Plain {
    pub(super) fn new(path: &Path, hashing: Arc<Semaphore>) -> Self {
        Self {
            file: Arc::new(PasswordFileCache::new(path)),
            hashing,
        }
    }

    /// Runs `work` with the present file on a thread for blocking calls, a few at a time: a
    /// modern hash takes 100 ms.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&PasswordFile) -> T + Send + 'static,
    ) -> Result<T, String> {
        let permit = Arc::clone(&self.hashing)
            .acquire_owned()
            .await
            .map_err(|error| error.to_string())?;
        let file = Arc::clone(&self.file);
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let current = file
                .current()
                .map_err(|error| format!("{}: {error}", file.path().display()))?;
            Ok(work(&current))
        });
        done.await.map_err(|error| error.to_string())?
    }

    pub(super) async fn knows(&self, user: &UserName) -> bool {
        let user = user.clone();
        self.run(move |file| file.account(user.as_str()).is_some())
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
        let checked = self
            .plain
            .run(move |file| check(file, user.as_ref(), &password))
            .await;
        match (checked, &self.user) {
            (Ok(Some(groups)), Some(user)) => Progress::Accepted {
                user: user.clone(),
                groups,
            },
            (Ok(_), _) => Progress::Wrong,
            (Err(problem), _) => Progress::Unavailable(problem),
        }
    }
}

/// The groups of `user` if `password` is right. An account without a password needs a second
/// factor, which this method has not: nobody gets in with the name alone.
fn check(file: &PasswordFile, user: Option<&UserName>, password: &SecretString) -> Option<Vec<GroupName>> {
    let name = user.map_or("", UserName::as_str);
    if !file.verify(name, password.expose().as_bytes()) {
        return None;
    }
    let account = file.account(name)?;
    Some(
        account
            .groups()
            .iter()
            .filter_map(|group| GroupName::new(group).ok())
            .collect(),
    )
}
