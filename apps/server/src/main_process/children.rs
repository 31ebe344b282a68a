//! The broker and the zygote: this program, executed again under another name.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use culvert_sys::channel::Channel;
use culvert_sys::process::CommandExt as _;
use culvert_sys::signal::{SIGKILL, SIGTERM};

use crate::ipc::fields::Text;
use crate::ipc::link::{Blocking, LinkError};
use crate::ipc::messages::{BrokerToMain, MainToZygote, ZygoteToMain};
use crate::log::{self, Level};
use crate::startup::{BROKER_TITLE, CHANNEL_NUMBER, ZYGOTE_TITLE};

/// Longest time that a child may take to get ready.
const START_TIME: Duration = Duration::from_secs(60);

/// Who workers are and what they see.
#[derive(Debug, Clone)]
pub(crate) struct Confinement {
    /// User and group.
    pub(crate) ids: (u32, u32),
    /// Their root directory (`chroot-dir`).
    pub(crate) root: Option<PathBuf>,
}

/// A child that is ready.
pub(crate) struct Started {
    /// Its process.
    pub(crate) child: Child,
    /// The channel to it.
    pub(crate) channel: Blocking,
}

/// A child that does not get ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChildError {
    /// It could not be executed.
    #[error("error: cannot start {title}: {cause}")]
    Start {
        /// Its name.
        title: &'static str,
        /// Why not.
        cause: io::Error,
    },
    /// It says why it cannot serve.
    #[error("{0}")]
    Failed(String),
    /// It ended, or says something else.
    #[error("error: {title} ended while starting")]
    Ended {
        /// Its name.
        title: &'static str,
    },
    /// The channel failed.
    #[error("error: {title} does not start: {cause}")]
    Channel {
        /// Its name.
        title: &'static str,
        /// What happened.
        cause: LinkError,
    },
}

/// Starts the broker and waits until it has loaded keys, methods and journal.
///
/// # Errors
/// See [`ChildError`].
pub(crate) fn start_broker(arguments: &[OsString], daemon: bool) -> Result<Started, ChildError> {
    log::write(Level::Info, "main: Starting 1 instances of ocserv-sm");
    // The broker writes its journal when its channel closes, so it gets SIGTERM only.
    let started = start(BROKER_TITLE, arguments, daemon, SIGTERM)?;
    match receive::<BrokerToMain>(BROKER_TITLE, &started)? {
        BrokerToMain::Ready => Ok(started),
        BrokerToMain::Failed(why) if why.as_str().starts_with("error: ") => {
            Err(ChildError::Failed(why.to_string()))
        }
        BrokerToMain::Failed(why) => Err(ChildError::Failed(format!("error: {why}"))),
        _ => Err(ChildError::Ended { title: BROKER_TITLE }),
    }
}

/// Starts the zygote and waits until it is confined.
///
/// # Errors
/// See [`ChildError`].
pub(crate) fn start_zygote(
    arguments: &[OsString],
    daemon: bool,
    confinement: &Confinement,
) -> Result<Started, ChildError> {
    let started = launch_zygote(arguments, daemon, confinement)?;
    loop {
        match receive::<ZygoteToMain>(ZYGOTE_TITLE, &started)? {
            ZygoteToMain::Ready => return Ok(started),
            ZygoteToMain::Log { level, text } => log::write(level, &format!("worker: {text}")),
            _ => return Err(ChildError::Ended { title: ZYGOTE_TITLE }),
        }
    }
}

/// Starts the zygote, which will say when it is ready.
///
/// # Errors
/// It cannot be started.
pub(crate) fn launch_zygote(
    arguments: &[OsString],
    daemon: bool,
    confinement: &Confinement,
) -> Result<Started, ChildError> {
    let started = start(ZYGOTE_TITLE, arguments, daemon, SIGKILL)?;
    let (uid, gid) = confinement.ids;
    let root = confinement.root.as_ref();
    let root = root.map(|path| Text::truncated(&path.to_string_lossy()));
    started
        .channel
        .send(&MainToZygote::Confine { uid, gid, root }, &[])
        .map_err(|cause| ChildError::Channel {
            title: ZYGOTE_TITLE,
            cause,
        })?;
    Ok(started)
}

fn start(
    title: &'static str,
    arguments: &[OsString],
    daemon: bool,
    death_signal: i32,
) -> Result<Started, ChildError> {
    let failed = |cause| ChildError::Start { title, cause };
    let (near, far) = Channel::pair().map_err(failed)?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0(title)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .pass_descriptors(vec![(far.into_fd(), CHANNEL_NUMBER)])
        .parent_death_signal(death_signal)
        .default_signals();
    if daemon {
        command.stderr(Stdio::null());
    }
    let child = command.spawn().map_err(failed)?;
    Ok(Started {
        child,
        channel: Blocking::new(near),
    })
}

fn receive<M: crate::ipc::Message>(title: &'static str, started: &Started) -> Result<M, ChildError> {
    match started.channel.receive::<M>(Some(Instant::now() + START_TIME)) {
        Ok(Some((message, _))) => Ok(message),
        Ok(None) => Err(ChildError::Ended { title }),
        Err(cause) => Err(ChildError::Channel { title, cause }),
    }
}

/// Logs how a child ended, and reaps it if it has.
pub(crate) fn log_end(name: &str, child: &mut Child) {
    match child.try_wait() {
        Ok(Some(status)) => log::write(Level::Error, &format!("main: {name} ended: {status}")),
        Ok(None) => {}
        Err(error) => log::write(Level::Debug, &format!("main: cannot wait for {name}: {error}")),
    }
}
