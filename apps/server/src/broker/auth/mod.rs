//! How users prove who they are (`specs/server-auth.md` §1).
//!
//! A virtual host has an ordered list of method entries; a login picks one and answers its
//! prompts. Each method is a variant of [`Method`] and of [`Attempt`]; whatever waits (a hash, a
//! file, a network) happens inside `answer`, which never blocks the broker.

mod certificate;
mod groups;
mod helped;
mod oidc;
mod plain;
mod radius;

use std::sync::Arc;

use culvert_password_file::otp::OtpFile;
use culvert_server_config::{AccountingMethod, AuthMethod, Global, Host};
use culvert_vocab::{HttpScheme, SecretString, UserName};
use tokio::sync::Semaphore;

use self::helped::Helped;
use super::load::Load;
use super::oidc::{Provider, Providers};
use super::places::Places;
use super::radius::{RadiusClient, RadiusClients};
use crate::helper::confine::Unprivileged;
use crate::helper::gssapi;
use crate::helper::messages::{GssapiSettings, MethodSettings, PamSettings};
use crate::startup;

pub(super) use certificate::{Certificates, Identity};
pub(super) use groups::{GroupWish, choose, only_eligible, to_choose_from};
pub(super) use helped::Staying;

pub(super) use crate::helper::messages::{ASK_PASSWORD, Accepted, Caller};

/// The service of `acct = pam`, whatever that of the login is.
const PAM_SERVICE: &str = "ocserv";

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
    /// A token of the client is wanted, which gets this one with the request for it.
    Challenge(Option<SecretString>),
    /// The user is who he says.
    Accepted(Box<Accepted>),
    /// Wrong answer; the same prompt may be answered again, a few times. A text for the user, in place of
    /// the usual one.
    Wrong(Option<String>),
    /// Wrong answer, and no other is taken; why, for the log.
    Refused(Option<String>),
    /// The method could not decide; one line for the log. Always a refusal.
    Unavailable(String),
}

/// A method that cannot be used; one line for the administrator.
#[derive(Debug, thiserror::Error)]
pub(super) enum MethodError {
    /// No user for the processes that need no root.
    #[error("{0}")]
    Ids(String),
    /// A file of the method is wrong.
    #[error("{0}")]
    File(String),
}

/// Helper processes with a login at a time.
const HELPERS: usize = 256;
/// Logins that wait for one of them to end.
const HELPER_LINE: usize = 1024;

/// What foreign or slow work may run at a time.
#[derive(Debug, Clone)]
pub(super) struct Workers {
    hashing: Arc<Semaphore>,
    helpers: Places,
    load: Arc<Load>,
    pub(super) radius: RadiusClients,
    providers: Providers,
}

impl Workers {
    /// At most `hashing` password hashes are computed at a time; those that wait count as `load`.
    pub(super) fn new(hashing: usize, load: Arc<Load>) -> Self {
        Self {
            hashing: Arc::new(Semaphore::new(hashing.max(1))),
            helpers: Places::new(HELPERS, HELPER_LINE),
            load,
            radius: RadiusClients::default(),
            providers: Providers::default(),
        }
    }
}

/// What processes become that need no root.
fn rights(global: &Global) -> Result<Unprivileged, MethodError> {
    startup::helper_rights(global).map_err(|error| MethodError::Ids(error.0))
}

/// The method list of a virtual host: entry 0 is the conjunction of its `auth` lines, each
/// `enable-auth` line is one more (`specs/server-auth.md` §1.1).
#[derive(Debug)]
pub(super) struct Methods {
    entries: Vec<Entry>,
    /// `acct = pam`.
    account: Option<Helped>,
    /// `pam[session=true]`, for users who have logged in before.
    session: Option<Helped>,
}

/// What has to succeed together. At least one of both is there.
#[derive(Debug)]
pub(super) struct Entry {
    /// A client certificate.
    pub(super) certificate: bool,
    /// Something else.
    pub(super) method: Option<Method>,
    /// HTTP authentication of the method, in place of a form.
    scheme: Option<HttpScheme>,
}

impl Entry {
    fn new(methods: &[AuthMethod], global: &Global, workers: &Workers) -> Result<Self, MethodError> {
        let mut others = methods
            .iter()
            .filter_map(|method| Method::new(method, global, workers).transpose());
        Ok(Self {
            certificate: methods.contains(&AuthMethod::Certificate),
            method: others.next().transpose()?,
            scheme: methods.iter().find_map(AuthMethod::http_scheme),
        })
    }

    /// Name of the method, as it is configured.
    pub(super) fn name(&self) -> &'static str {
        match &self.method {
            None => "certificate",
            Some(Method::Plain(_)) => "plain",
            Some(Method::Helped(helped)) => helped.name(),
            Some(Method::Radius(_)) => "radius",
            Some(Method::Oidc(_)) => "oidc",
        }
    }

    /// Whether the client may ask for a group: tokens without groups make the wish worthless
    /// (`specs/server-auth.md` §1.6).
    pub(super) fn takes_wish(&self) -> bool {
        match &self.method {
            Some(Method::Oidc(provider)) => provider.names_groups || self.certificate,
            _ => true,
        }
    }

    /// Begins a login. `user` is what the client typed, `identity` whom its certificate, which
    /// this entry wants, speaks of. A method's first prompt follows.
    pub(super) async fn begin(
        &self,
        user: Option<UserName>,
        identity: Option<&Identity>,
        caller: Caller,
    ) -> (Option<Attempt>, Progress) {
        match (&self.method, identity) {
            (Some(method), _) => {
                let (attempt, progress) = method.begin(user, self.certificate, caller).await;
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
                let groups = groups.clone().unwrap_or_default();
                (
                    None,
                    Progress::Accepted(Box::new(Accepted::new(user.clone(), groups))),
                )
            }
            (
                None,
                Some(Identity {
                    user: Err(problem), ..
                }),
            ) => (None, Progress::Unavailable(problem.clone())),
            (None, None) => (None, Progress::Refused(None)),
        }
    }
}

impl Methods {
    pub(super) fn new(host: &Host, global: &Global, workers: &Workers) -> Result<Self, MethodError> {
        let mut entries = vec![Entry::new(&host.auth.required, global, workers)?];
        for method in &host.auth.alternatives {
            entries.push(Entry::new(std::slice::from_ref(method), global, workers)?);
        }
        let account = match host.accounting {
            Some(AccountingMethod::Pam) => {
                let settings = MethodSettings::PamAccount(PamSettings {
                    service: PAM_SERVICE.to_owned(),
                    session: false,
                    tty: None,
                });
                Some(Helped::new(settings, workers, global)?)
            }
            Some(AccountingMethod::Radius(_)) | None => None,
        };
        let mut methods = host.auth.required.iter().chain(&host.auth.alternatives);
        let session = methods.find_map(|method| match method {
            AuthMethod::Pam {
                service,
                session: true,
                tty,
                gid_min: _,
            } => Some(MethodSettings::PamSession(PamSettings {
                service: service.clone(),
                session: true,
                tty: tty.clone(),
            })),
            _ => None,
        });
        let session = session.map(|settings| Helped::new(settings, workers, global));
        Ok(Self {
            entries,
            account,
            session: session.transpose()?,
        })
    }

    /// A helper for the PAM session of a user who has logged in before; `None` when the host opens no such
    /// sessions (any more).
    ///
    /// # Errors
    /// The modules do not let him in; why, for the log.
    pub(super) async fn session_helper(
        &self,
        user: &UserName,
        caller: Caller,
    ) -> Result<Option<Staying>, String> {
        let Some(session) = &self.session else {
            return Ok(None);
        };
        match helped::Attempt::begin(session, Some(user.clone()), caller).await {
            (attempt, Progress::Accepted(accepted)) if accepted.user == *user => {
                let ended = || "the PAM helper has ended".to_owned();
                attempt.into_staying().map(Some).ok_or_else(ended)
            }
            (_, Progress::Accepted(_)) => Err("the PAM modules give the user another name".to_owned()),
            (_, Progress::Refused(why)) => Err(why.unwrap_or_default()),
            (_, Progress::Unavailable(why)) => Err(why),
            _ => Err("the PAM modules have questions".to_owned()),
        }
    }

    /// Whether the user's account is good for a tunnel now, as far as `acct` asks.
    ///
    /// # Errors
    /// It is not; why, for the log.
    pub(super) async fn check_account(&self, user: &UserName, caller: Caller) -> Result<(), String> {
        let Some(account) = &self.account else {
            return Ok(());
        };
        match helped::Attempt::begin(account, Some(user.clone()), caller).await {
            (_, Progress::Accepted(_)) => Ok(()),
            (_, Progress::Refused(why)) => Err(format!(
                "the account of user '{user}' is refused: {}",
                why.unwrap_or_default()
            )),
            (_, Progress::Unavailable(why)) => Err(why),
            _ => Err(format!("the account of user '{user}' cannot be checked")),
        }
    }

    /// Starts what shall be ready before the first login.
    pub(super) fn start(&self) {
        for entry in &self.entries {
            if let Some(Method::Oidc(provider)) = &entry.method {
                provider.start();
            }
        }
    }

    /// The entry for a client with or without a certificate that logs in with this scheme, or
    /// without HTTP authentication (`specs/server-auth.md` §1.3).
    pub(super) fn select(&self, certificate: bool, scheme: Option<HttpScheme>) -> Option<&Entry> {
        self.entries
            .iter()
            .find(|entry| entry.certificate == certificate && entry.scheme == scheme)
    }

    /// True when the user still exists: asked before a session of an earlier process is used.
    /// `certificate`: it was begun with one, and the client has just shown it again.
    pub(super) async fn knows(&self, user: &UserName, certificate: bool) -> bool {
        for entry in self
            .entries
            .iter()
            .filter(|entry| entry.certificate == certificate)
        {
            let known = match &entry.method {
                Some(method) => method.knows(user).await,
                None => certificate,
            };
            if known {
                return true;
            }
        }
        false
    }
}

/// A configured method.
#[derive(Debug, Clone)]
pub(super) enum Method {
    /// A password file, a file of one-time passwords, or both.
    Plain(Arc<plain::Plain>),
    /// One with a helper process for each login.
    Helped(Arc<Helped>),
    /// RADIUS.
    Radius(Arc<radius::Radius>),
    /// OpenID Connect.
    Oidc(Arc<Provider>),
}

impl Method {
    /// `None`: nothing beside the certificate.
    fn new(method: &AuthMethod, global: &Global, workers: &Workers) -> Result<Option<Self>, MethodError> {
        let settings = match method {
            AuthMethod::Plain { passwd, otp, otp_pin } => {
                let otp = otp.as_ref().map(|path| OtpFile::new(path, *otp_pin));
                let plain = plain::Plain::new(passwd.clone(), otp, workers.clone());
                return Ok(Some(Self::Plain(Arc::new(plain))));
            }
            AuthMethod::Pam {
                service,
                session,
                tty,
                gid_min: _,
            } => MethodSettings::Pam(PamSettings {
                service: service.clone(),
                session: *session,
                tty: tty.clone(),
            }),
            AuthMethod::Radius(settings) => {
                let client = RadiusClient::load(&workers.radius, &settings.config, rights(global)?);
                let client = client.map_err(MethodError::File)?;
                let radius = radius::Radius::new(client, settings.clone());
                return Ok(Some(Self::Radius(Arc::new(radius))));
            }
            AuthMethod::Gssapi {
                keytab,
                require_local_user_map,
                tgt_freshness,
                gid_min: _,
            } => {
                let path = gssapi::keytab_path(keytab.as_deref());
                gssapi::read_keytab(&path).map_err(|error| {
                    MethodError::File(format!("gssapi: keytab '{}': {error}", path.display()))
                })?;
                MethodSettings::Gssapi(GssapiSettings {
                    keytab: keytab.clone(),
                    require_local_user_map: *require_local_user_map,
                    tgt_freshness: *tgt_freshness,
                })
            }
            AuthMethod::Oidc { config } => {
                let provider = Provider::load(&workers.providers, config, rights(global)?);
                return provider
                    .map(|provider| Some(Self::Oidc(Arc::new(provider))))
                    .map_err(MethodError::File);
            }
            AuthMethod::Certificate => return Ok(None),
        };
        Ok(Some(Self::Helped(Arc::new(Helped::new(
            settings, workers, global,
        )?))))
    }

    /// Begins a login of `user`; `None` is a name that nobody can have, which goes the way of an
    /// unknown one; `certificate`: one proves the name, too. The first prompt follows.
    async fn begin(&self, user: Option<UserName>, certificate: bool, caller: Caller) -> (Attempt, Progress) {
        match self {
            Self::Plain(plain) => {
                let (attempt, prompt) = plain::Attempt::new(Arc::clone(plain), user, certificate);
                (Attempt::Plain(attempt), prompt)
            }
            Self::Helped(helped) => {
                let (attempt, progress) = helped::Attempt::begin(helped, user, caller).await;
                (Attempt::Helped(attempt), progress)
            }
            Self::Oidc(provider) => {
                let (attempt, challenge) = oidc::Attempt::new(Arc::clone(provider), caller.peer);
                (Attempt::Oidc(attempt), challenge)
            }
            Self::Radius(radius) => {
                let (attempt, prompt) = radius::Attempt::new(Arc::clone(radius), user, caller);
                (Attempt::Radius(attempt), prompt)
            }
        }
    }

    async fn knows(&self, user: &UserName) -> bool {
        match self {
            Self::Plain(plain) => plain.knows(user).await,
            // Only a login could tell.
            Self::Helped(_) | Self::Radius(_) | Self::Oidc(_) => true,
        }
    }
}

/// A login in progress.
pub(super) enum Attempt {
    /// With files.
    Plain(plain::Attempt),
    /// With a helper process.
    Helped(helped::Attempt),
    /// With RADIUS servers.
    Radius(radius::Attempt),
    /// With a token.
    Oidc(oidc::Attempt),
}

impl Attempt {
    /// Takes the answer to the last prompt.
    pub(super) async fn answer(&mut self, answer: SecretString) -> Progress {
        match self {
            Self::Plain(attempt) => attempt.answer(answer).await,
            Self::Helped(attempt) => attempt.answer(answer).await,
            Self::Radius(attempt) => attempt.answer(answer).await,
            Self::Oidc(attempt) => attempt.answer(answer).await,
        }
    }

    /// The helper of a login that was accepted, if it stays for the session.
    pub(super) fn into_staying(self) -> Option<Staying> {
        match self {
            Self::Helped(attempt) => attempt.into_staying(),
            Self::Plain(_) | Self::Radius(_) | Self::Oidc(_) => None,
        }
    }
}
