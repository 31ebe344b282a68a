//! The broker, the `sec-mod` of ocserv: passwords, cookies, private keys, TLS sessions and the
//! session store (`specs/server-auth.md` §4, §7.3).
//!
//! Clients never reach it. Each worker has a channel of its own to it ([`conversation`]); main
//! has one ([`state`]). Everything runs on one thread that never blocks: signatures are made on
//! threads of their own ([`keys`]), hashes and files on others.

mod accepted;
mod accounting;
mod auth;
mod certificate;
mod conversation;
mod keys;
mod kkdcp;
mod load;
mod loaded;
mod login;
mod oidc;
mod pam_sessions;
mod places;
mod radius;
mod repeated;
mod service;
mod settings;
mod state;
mod tls_cache;
mod told;
mod trial;
mod tunnel;

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use culvert_server_config::Global;
use culvert_sys::channel::Channel;
use culvert_sys::{process, signal};
use sha2::{Digest as _, Sha256};
use tokio::signal::unix;
use tokio::task::LocalSet;

use self::accounting::Outbox;
use self::auth::Workers;
use self::keys::KeyService;
use self::load::Load;
use self::loaded::Loaded;
use self::state::Broker;
pub(crate) use self::trial::{Console, Trial, run as try_login};
use crate::ipc::Text;
use crate::ipc::link::{self, Receiver};
use crate::ipc::messages::{BrokerToMain, MainToBroker};
use crate::log;
use crate::sessions::journal::{Journal, JournalError};
use crate::sessions::{Moment, SessionTable};

/// Threads for files and other short blocking calls, besides those that hash.
const FILE_THREADS: usize = 4;
/// Most threads that sign.
const SIGNERS_MAX: usize = 256;
/// Interval of expiry when `sec-mod-db-cleanup-time` is not set.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(310);
/// How often due accounting updates are looked for.
const UPDATES: Duration = Duration::from_secs(1);
/// How often, and how long apart, the journal is tried while an earlier broker still ends.
const JOURNAL_TRIES: u32 = 20;
const JOURNAL_PAUSE: Duration = Duration::from_millis(100);

/// How long the broker serves on after SIGTERM.
const TERMINATION_DELAY: Duration = Duration::from_secs(1);

/// What main tells its broker when it starts it.
#[derive(Debug, Clone)]
pub(crate) struct BrokerOptions {
    /// The configuration file; absolute, so that a reload finds it again.
    pub(crate) config: PathBuf,
    /// Where log lines go.
    pub(crate) log: log::Settings,
}

/// The whole life of the broker process; `main` is its channel to main. It ends when main says
/// so or is gone.
pub(crate) fn run(options: BrokerOptions, main: OwnedFd) -> ExitCode {
    log::init(options.log);
    // A terminal's signals are for main, which then says what to do.
    let confined =
        process::set_dumpable(false).and_then(|()| signal::block(&[signal::SIGINT, signal::SIGHUP]));
    if let Err(error) = confined {
        log::write(log::Level::Warning, &format!("sec-mod: {error}"));
    }
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(cpus + FILE_THREADS)
        .build();
    let ended =
        runtime.and_then(|runtime| LocalSet::new().block_on(&runtime, serve(options.config, main, cpus)));
    match ended {
        Ok(code) => code,
        Err(error) => {
            log::write(log::Level::Error, &format!("sec-mod: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Loads everything that the configuration names for the broker, for `--test-config`.
///
/// # Errors
/// One line for the administrator.
pub(crate) fn check(config: &Path) -> Result<(), String> {
    Loaded::load(config, &Workers::new(1, Load::new(1))).map(drop)
}

/// Threads that sign: `sec-mod-scale`, or one per processor.
fn signers(scale: u32, cpus: usize) -> usize {
    match usize::try_from(scale) {
        Ok(scale @ 1..) => scale.min(SIGNERS_MAX),
        Ok(0) | Err(_) => cpus,
    }
}

async fn serve(config: PathBuf, main: OwnedFd, cpus: usize) -> std::io::Result<ExitCode> {
    let (sender, mut receiver) = link::split(Channel::from_fd(main))?;
    let load = Load::new(cpus);
    let workers = Workers::new(cpus, Arc::clone(&load));
    let loaded = match Loaded::load(&config, &workers) {
        Ok(loaded) => loaded,
        Err(problem) => {
            let told = sender.send(&BrokerToMain::Failed(Text::truncated(&problem)), Vec::new());
            if let Err(error) = told {
                log::write(log::Level::Error, &format!("sec-mod: {problem} ({error})"));
            }
            receiver.flushed().await;
            return Ok(ExitCode::FAILURE);
        }
    };
    let interval = loaded
        .config
        .global
        .session_expiry_interval
        .unwrap_or(EXPIRY_INTERVAL);
    let mut sessions = SessionTable::new();
    let journal = open_journal(&journal_path(&config, &loaded.config.global), &mut sessions).await;
    let keys = KeyService::start(signers(loaded.config.global.sec_mod_scale, cpus), &load)?;
    loaded.start();
    let (outbox, accountant) = Outbox::new();
    let broker = Rc::new(Broker::new(
        (config, loaded),
        (keys, workers),
        (sessions, journal),
        sender,
        outbox,
    ));
    tokio::task::spawn_local(accountant.run(Rc::downgrade(&broker)));
    broker.tell_main(&BrokerToMain::Ready);
    log::write(log::Level::Info, "sec-mod: sec-mod initialized");
    broker.begin_accounting();
    let code = converse(&broker, &mut receiver, interval, &load).await;
    broker.close_pam_sessions().await;
    Ok(code)
}

/// Serves main until it says stop or is gone.
async fn converse(broker: &Rc<Broker>, main: &mut Receiver, interval: Duration, load: &Load) -> ExitCode {
    let mut busy = load.watch();
    let mut expiry = tokio::time::interval(interval.max(Duration::from_secs(1)));
    let mut updates = tokio::time::interval(UPDATES);
    let mut terminated = pin!(terminated());
    loop {
        tokio::select! {
            message = main.receive::<MainToBroker>() => match message {
                Ok(Some((message, descriptors))) => {
                    if !broker.handle_main(message, descriptors) {
                        broker.end_accounting().await;
                        return ExitCode::SUCCESS;
                    }
                }
                Ok(None) => {
                    log::write(log::Level::Error, "sec-mod: main has ended");
                    return ExitCode::FAILURE;
                }
                Err(error) => {
                    log::write(log::Level::Error, &format!("sec-mod: main: {error}"));
                    return ExitCode::FAILURE;
                }
            },
            _ = expiry.tick() => broker.expire(),
            _ = updates.tick() => broker.send_updates(),
            Ok(()) = busy.changed() => {
                broker.tell_main(&BrokerToMain::Busy(*busy.borrow_and_update()));
            }
            () = broker.main_lost() => return ExitCode::FAILURE,
            () = &mut terminated => return ExitCode::FAILURE,
        }
    }
}

/// Returns some time after SIGTERM: a service manager sends it to all processes of the server,
/// and then main, which stops in order, shall not find its broker dead first.
async fn terminated() {
    match unix::signal(unix::SignalKind::terminate()) {
        Ok(mut signal) => {
            signal.recv().await;
            tokio::time::sleep(TERMINATION_DELAY).await;
            log::write(log::Level::Notice, "sec-mod: terminated by a signal");
        }
        Err(error) => {
            log::write(log::Level::Warning, &format!("sec-mod: {error}"));
            std::future::pending().await
        }
    }
}

/// The journal lies next to the internal sockets of this server. Servers may have the same
/// `socket-file`, so its name also says which configuration file and control socket are this one's.
fn journal_path(config: &Path, global: &Global) -> PathBuf {
    let config = std::path::absolute(config).unwrap_or_else(|_| config.to_owned());
    let whose = Sha256::new()
        .chain_update(config.as_os_str().as_bytes())
        .chain_update([0])
        .chain_update(global.occtl_socket_file.as_os_str().as_bytes())
        .finalize();
    let mut path = global.socket_file.as_os_str().to_owned();
    path.push(".");
    path.push(
        whose
            .iter()
            .take(4)
            .fold(String::new(), |text, octet| format!("{text}{octet:02x}")),
    );
    path.push(".sessions");
    path.into()
}

async fn open_journal(path: &Path, sessions: &mut SessionTable) -> Option<Journal> {
    for tries in 1.. {
        match Journal::open(path, sessions, Moment::now()) {
            Ok(journal) => return Some(journal),
            Err(JournalError::InUse(_)) if tries < JOURNAL_TRIES => tokio::time::sleep(JOURNAL_PAUSE).await,
            Err(error) => {
                let cause = std::error::Error::source(&error)
                    .map(|cause| format!(": {cause}"))
                    .unwrap_or_default();
                log::write(
                    log::Level::Warning,
                    &format!("sec-mod: {error}{cause}; sessions end with the server"),
                );
                return None;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests;
