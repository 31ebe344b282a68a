//! `ocserv test-auth`: one login through the configured methods, without a server. The code that
//! judges is the broker's.

use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use culvert_server_config::AuthMethod;
use culvert_vocab::{GroupName, HttpScheme, SecretString, SessionId, UserName};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use super::auth::{Accepted, Caller, Entry, GroupWish, Progress, Staying, Workers, choose};
use super::load::Load;
use super::loaded::{Loaded, LoadedHost};
use super::login::TRIES;
use super::pam_sessions::PamSession;
use super::settings;
use crate::ipc::Text;

/// What to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trial {
    /// The configuration file.
    pub(crate) config: PathBuf,
    /// Name of a virtual host; the default one otherwise.
    pub(crate) host: Option<String>,
    /// The client has shown a good certificate of the user.
    pub(crate) certificate: bool,
    /// HTTP authentication in place of the form.
    pub(crate) scheme: Option<HttpScheme>,
    /// The group that the client asks for.
    pub(crate) group: Option<String>,
    /// Who logs in; empty when the method says it.
    pub(crate) user: String,
}

/// Where the answers come from and the report goes.
pub(crate) trait Console {
    /// The answer to a question; `None`: there is none.
    fn ask(&mut self, question: &str) -> Option<SecretString>;
    /// A line of the report.
    fn say(&mut self, line: fmt::Arguments<'_>);
}

/// Tries it. True when the user would get his tunnel.
///
/// # Errors
/// There is nothing to try it with; one line for the administrator.
pub(crate) fn run(trial: &Trial, console: &mut dyn Console) -> Result<bool, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    LocalSet::new().block_on(&runtime, log_in(trial, console))
}

async fn log_in(trial: &Trial, console: &mut dyn Console) -> Result<bool, String> {
    let loaded = Loaded::load(&trial.config, &Workers::new(1, Load::new(1)))?;
    let host = choose_host(&loaded, trial.host.as_deref())?;
    let name = host.config.display_name();
    let Some(entry) = host.methods.select(trial.certificate, trial.scheme) else {
        return Err(format!(
            "vhost:{name}: no 'auth' or 'enable-auth' line is for this kind of login (lines: {})",
            lines(host)
        ));
    };
    console.say(format_args!("virtual host '{name}', lines: {}", lines(host)));
    let id = culvert_sys::random::array().map_err(|error| error.to_string())?;
    let caller = Caller {
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        local: IpAddr::V4(Ipv4Addr::LOCALHOST),
        user_agent: Text::truncated("ocserv test-auth"),
        host: Text::truncated(name),
        session: SessionId::from_bytes(id).safe_id(),
        channel: None,
    };
    let began = Instant::now();
    let Some((accepted, staying)) = prove(entry, trial, caller.clone(), console).await else {
        return Ok(false);
    };
    let allowed =
        settle(host, trial, &accepted, caller, console).await && try_session(staying, console).await;
    let outcome = if allowed {
        "the login succeeds"
    } else {
        "the login fails"
    };
    console.say(format_args!("{outcome} (after {})", Seconds(began.elapsed())));
    Ok(allowed)
}

/// The steps until the method has decided.
async fn prove(
    entry: &Entry,
    trial: &Trial,
    caller: Caller,
    console: &mut dyn Console,
) -> Option<(Accepted, Option<Staying>)> {
    let user = UserName::new(&trial.user).ok();
    if user.is_none() && trial.scheme.is_none() {
        console.say(format_args!(
            "'{}' is no valid user name",
            trial.user.escape_debug()
        ));
    }
    if entry.certificate {
        console.say(format_args!(
            "a good certificate of the user is taken for granted"
        ));
    }
    if entry.method.is_none() {
        return user.map(|user| (Accepted::new(user, Vec::new()), None));
    }
    let mut began = Instant::now();
    let (attempt, mut progress) = entry.begin(user, None, caller).await;
    let mut attempt = attempt?;
    let mut question = String::new();
    let mut wrong = 0;
    loop {
        report(&progress, Seconds(began.elapsed()), console);
        match progress {
            Progress::Prompt { message, .. } => question = message,
            Progress::Challenge(_) => question = "Token:".to_owned(),
            Progress::Wrong(_) => {
                wrong += 1;
                if wrong >= TRIES {
                    console.say(format_args!("refused: {TRIES} wrong answers"));
                    return None;
                }
            }
            Progress::Refused(_) | Progress::Unavailable(_) => return None,
            Progress::Accepted(accepted) => return Some((*accepted, attempt.into_staying())),
        }
        let Some(answer) = console.ask(&question) else {
            console.say(format_args!("no answer: given up"));
            return None;
        };
        began = Instant::now();
        progress = attempt.answer(answer).await;
    }
}

/// One step, and how long it took.
fn report(progress: &Progress, took: Seconds, console: &mut dyn Console) {
    let after = |why: &Option<String>| why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    match progress {
        Progress::Prompt { message, number } => {
            console.say(format_args!("{took}  prompt {number}: {message}"));
        }
        Progress::Challenge(token) => {
            let with = match token {
                Some(_) => " with a token for the client",
                None => "",
            };
            console.say(format_args!("{took}  a token of the client is wanted{with}"));
        }
        Progress::Wrong(text) => console.say(format_args!("{took}  wrong answer{}", after(text))),
        Progress::Refused(why) => console.say(format_args!("{took}  refused{}", after(why))),
        Progress::Unavailable(why) => console.say(format_args!("{took}  cannot decide: {why}")),
        Progress::Accepted(accepted) => {
            console.say(format_args!("{took}  accepted as '{}'", accepted.user));
        }
    }
}

/// What follows from the method's decision: group, account and settings.
async fn settle(
    host: &LoadedHost,
    trial: &Trial,
    accepted: &Accepted,
    caller: Caller,
    console: &mut dyn Console,
) -> bool {
    let user = &accepted.user;
    if trial.certificate && user.as_str() != trial.user {
        console.say(format_args!(
            "the certificate is of another user: '{}'",
            trial.user
        ));
        return false;
    }
    let wish = GroupWish::new(
        trial.group.as_deref(),
        host.config.default_select_group.as_deref(),
    );
    console.say(format_args!("groups: {}", Names(&accepted.groups)));
    let Ok(group) = choose(&accepted.groups, None, &wish) else {
        console.say(format_args!(
            "the user is no member of the group that is asked for"
        ));
        return false;
    };
    console.say(format_args!(
        "group in force: {}",
        group.as_ref().map_or("none", GroupName::as_str)
    ));
    let began = Instant::now();
    if host.config.accounting.is_some() {
        let checked = host.methods.check_account(user, caller).await;
        let took = Seconds(began.elapsed());
        if let Err(problem) = checked {
            console.say(format_args!("{took}  no tunnel: {problem}"));
            return false;
        }
    }
    match host.config.settings_for(user, group.as_ref()) {
        Ok((mut own, notes)) => {
            for note in notes {
                console.say(format_args!("{note}"));
            }
            if let Some(given) = accepted
                .given
                .as_deref()
                .filter(|_| host.config.config_comes_from_radius())
            {
                settings::apply_given(&mut own, given, host.config.append_routes);
                console.say(format_args!("settings of the method: {given:?}"));
            }
            true
        }
        Err(error) => {
            console.say(format_args!("no tunnel: configuration of user '{user}': {error}"));
            false
        }
    }
}

/// Opens and closes the PAM session of a login that has one.
async fn try_session(staying: Option<Staying>, console: &mut dyn Console) -> bool {
    let Some(staying) = staying else { return true };
    let began = Instant::now();
    let (end, ended) = oneshot::channel::<Infallible>();
    let session = PamSession::new(staying, end);
    let opened = session.open().await;
    drop(session);
    let _closed = ended.await;
    let took = Seconds(began.elapsed());
    match opened {
        Ok(()) => console.say(format_args!("{took}  the PAM session opens and closes")),
        Err(problem) => {
            console.say(format_args!(
                "{took}  no tunnel: the PAM session does not open: {problem}"
            ));
            return false;
        }
    }
    true
}

fn choose_host<'l>(loaded: &'l Loaded, name: Option<&str>) -> Result<&'l LoadedHost, String> {
    let position = match name {
        None => Some(0),
        Some(name) => loaded.config.hosts().position(|host| host.display_name() == name),
    };
    position
        .and_then(|position| loaded.host(position))
        .ok_or_else(|| format!("there is no virtual host '{}'", name.unwrap_or_default()))
}

/// The host's lines, as in `auth = pam, enable-auth = certificate`.
fn lines(host: &LoadedHost) -> String {
    let line = |option: &'static str| move |method: &AuthMethod| format!("{option} = {}", method.name());
    let auth = &host.config.auth;
    let required = auth.required.iter().map(line("auth"));
    let all: Vec<String> = required
        .chain(auth.alternatives.iter().map(line("enable-auth")))
        .collect();
    all.join(", ")
}

struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} s", self.0.as_secs_f64())
    }
}

struct Names<'g>(&'g [GroupName]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (index, name) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{name}")?;
        }
        Ok(())
    }
}
