//! Helper processes: each runs one login's foreign code, or waits for its slow network, so that
//! nobody else does (`specs/server-auth.md` §2.3, §7.3). The broker starts them ([`process`]); they hold no
//! keys and nothing of the broker's but one channel.
//!
//! A method is a module here, a variant of [`messages::MethodSettings`] and a line in [`log_in`]. Its code
//! is blocking and does one login.

pub(crate) mod confine;
mod groups;
pub(crate) mod gssapi;
pub(crate) mod messages;
pub(crate) mod oidc;
mod pam;
mod pam_session;
pub(crate) mod process;
pub(crate) mod radius;
pub(crate) mod service;
mod talk;

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use culvert_sys::channel::Channel;
use culvert_sys::epoll::{Events, Interest, Poller};
use culvert_sys::process::Resource;
use culvert_sys::signal::SIGKILL;

use self::messages::{Accepted, Assignment, BrokerToHelper, HelperToBroker, Login, MethodSettings};
use self::talk::{Gone, Talk};
use crate::ipc::Text;
use crate::ipc::link::Blocking;

/// Name of the processes.
pub(crate) const HELPER_TITLE: &str = "ocserv-helper";
/// Memory for data that foreign code may use, in octets.
const DATA_MAX: u64 = 512 << 20;
/// Time between the end of the channel and that of the process, for foreign code to clean up.
const CLEAN_UP: Duration = Duration::from_secs(3);
/// The same for a session, whose modules may have more to do.
pub(crate) const SESSION_CLEAN_UP: Duration = Duration::from_secs(10);

/// How a login ended.
#[derive(Debug)]
enum Outcome {
    /// The user is who he says.
    Accepted(Accepted),
    /// He is not; why, for the log.
    Refused(Option<String>),
    /// The method cannot decide; why, for the log.
    Unavailable(String),
    /// He was, the broker has been told so, and there was no tunnel for a session.
    SessionNotOpened,
    /// The modules know that his session is over.
    SessionClosed,
}

/// Does one login with its method. What the method cannot decide is an [`Outcome`], too; a method
/// that needs no root calls [`confine::unprivileged`] once it has what does.
fn log_in(login: &Login, talk: &mut Talk) -> Result<Outcome, Gone> {
    match &login.method {
        MethodSettings::Pam(settings) => pam::log_in(settings, login, talk),
        MethodSettings::PamAccount(settings) => pam::check_account(settings, login, talk),
        MethodSettings::PamSession(settings) => pam::open_session(settings, login, talk),
        MethodSettings::PamSessionEnd(settings) => pam::close_session(settings, login, talk),
        MethodSettings::Gssapi(settings) => gssapi::log_in(settings, login, talk),
    }
}

/// The whole life of a helper process.
pub(crate) fn run(channel: OwnedFd) -> ExitCode {
    let _best_effort = culvert_sys::process::set_limit(Resource::CoreDump, 0);
    let _best_effort = culvert_sys::process::set_limit(Resource::Data, DATA_MAX);
    let broker = Blocking::new(Channel::from_fd(channel));
    let Ok(Some((BrokerToHelper::Begin(assignment), _))) = broker.receive(None) else {
        return ExitCode::FAILURE;
    };
    match *assignment {
        Assignment::Login(login) => serve_login(broker, &login),
        Assignment::Oidc(settings) => oidc::run(broker, &settings),
        Assignment::Radius(radius) => radius::run(broker.into_channel(), radius),
    }
}

fn serve_login(broker: Blocking, login: &Login) -> ExitCode {
    let deadline = Instant::now() + login.time;
    let stays = Arc::new(AtomicBool::new(false));
    let watched = broker
        .as_fd()
        .try_clone_to_owned()
        .and_then(|channel| watch(channel, deadline, Arc::clone(&stays)));
    let mut talk = Talk::new(broker, deadline, stays);
    let outcome = match watched {
        Ok(()) => log_in(login, &mut talk),
        Err(error) => Ok(Outcome::Unavailable(format!("cannot watch the login: {error}"))),
    };
    let last = match outcome {
        Ok(Outcome::Accepted(accepted)) => HelperToBroker::Accepted(Box::new(accepted)),
        Ok(Outcome::Refused(why)) => HelperToBroker::Refused(why.as_deref().map(Text::truncated)),
        Ok(Outcome::Unavailable(why)) => HelperToBroker::Unavailable(Text::truncated(&why)),
        Ok(Outcome::SessionNotOpened) => return ExitCode::SUCCESS,
        Ok(Outcome::SessionClosed) => HelperToBroker::SessionClosed,
        Err(Gone) => return ExitCode::FAILURE,
    };
    match talk.send(&last) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Gone) => ExitCode::FAILURE,
    }
}

/// Ends this process some time after the broker has closed the channel or the time was over,
/// whatever foreign code is doing then. The broker kills earlier, unless it was killed itself. A
/// process that `stays` has no time.
fn watch(channel: OwnedFd, deadline: Instant, stays: Arc<AtomicBool>) -> io::Result<()> {
    let poller = Poller::new()?;
    poller.add(&channel, 0, Interest::NONE)?;
    let mut events = Events::with_capacity(1);
    let watch = move || {
        let stays = || stays.load(Ordering::Relaxed);
        // A signal ends a wait, too.
        while events.is_empty()
            && (stays() || Instant::now() < deadline)
            && poller.wait(&mut events, (!stays()).then_some(deadline)).is_ok()
        {}
        drop(channel);
        thread::sleep(if stays() { SESSION_CLEAN_UP } else { CLEAN_UP });
        // No exit handlers: foreign code is still running.
        let _nothing_else_to_do = std::process::id()
            .try_into()
            .map(|own| culvert_sys::process::kill(own, SIGKILL));
    };
    thread::Builder::new().name("watch".to_owned()).spawn(watch)?;
    Ok(())
}
