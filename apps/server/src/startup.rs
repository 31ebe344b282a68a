//! From the command line to a running process (`specs/server-config.md` §2, §4).
//!
//! One program, five roles. Main executes itself as broker and as zygote, the broker executes itself as
//! helpers; the role is the name it is started under. Daemonizing is another execution, too: no process forks with state in it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use culvert_server_config::{Config, Global, SyslogFacility};
use culvert_sys::process::{self, CommandExt as _, Resource};
use culvert_sys::{mem, signal, user};

use crate::broker::{self, BrokerOptions};
use crate::cli::{self, Options};
use crate::helper::confine::Unprivileged;
use crate::helper::{self, HELPER_TITLE};
use crate::log::{self, Level};
use crate::main_process::{
    self, Confinement, Fixed, Listeners, PidFile, Prepared, send_snapshot, snapshot, start_broker,
    start_zygote,
};
use crate::test_auth;
use crate::zygote;

/// Name of the main process.
const MAIN_TITLE: &str = "ocserv-main";
/// Name of the broker.
pub(crate) const BROKER_TITLE: &str = "ocserv-sm";
/// Name of zygote and workers.
pub(crate) const ZYGOTE_TITLE: &str = "ocserv-worker";
/// Descriptor of the channel to main in broker and zygote, and of the status pipe in a daemon.
pub(crate) const CHANNEL_NUMBER: RawFd = 3;

/// Where the configuration is looked for when the default file does not exist.
const OTHER_CONFIG: &str = "/etc/ocserv.conf";
/// Descriptors beside those of clients.
const SPARE_DESCRIPTORS: u64 = 256;
/// Descriptors per client: for main the channel and the process or the device; for a pool process
/// connection, device, channel and a UDP socket.
const DESCRIPTORS_PER_CLIENT: u64 = 4;
/// Clients that are expected without `max-clients`.
pub(crate) const USUAL_CLIENTS: u64 = 8192;

/// Why the server does not start: what to print.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Runs the program: the whole of `ocserv`.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Whoever started this may have left signals blocked, and a server that SIGTERM cannot stop
    // is of no use.
    if let Err(error) = signal::unblock_all() {
        eprintln!("cannot unblock signals: {error}");
    }
    let mut arguments = arguments.into_iter();
    let name = arguments.next().unwrap_or_default();
    let arguments: Vec<OsString> = arguments.collect();
    let role = Path::new(&name)
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    match role {
        BROKER_TITLE | ZYGOTE_TITLE => run_child(role, arguments),
        HELPER_TITLE => run_helper(),
        _ if arguments.first().is_some_and(|first| first == test_auth::COMMAND) => {
            test_auth::run(arguments.into_iter().skip(1))
        }
        MAIN_TITLE => run_main(arguments, process::inherited(CHANNEL_NUMBER)),
        _ => run_main(arguments, None),
    }
}

fn run_child(role: &str, arguments: Vec<OsString>) -> ExitCode {
    let Some(channel) = process::inherited(CHANNEL_NUMBER) else {
        eprintln!("{role}: this process is started by ocserv only");
        return ExitCode::FAILURE;
    };
    let Ok(cli::Command::Serve(options)) = cli::parse(arguments) else {
        return ExitCode::FAILURE;
    };
    let _cosmetic = process::set_title(role);
    harden(&options);
    if role == ZYGOTE_TITLE {
        zygote::run(channel)
    } else {
        run_broker(&options, channel)
    }
}

fn run_helper() -> ExitCode {
    let Some(channel) = process::inherited(CHANNEL_NUMBER) else {
        eprintln!("{HELPER_TITLE}: this process is started by ocserv only");
        return ExitCode::FAILURE;
    };
    let _cosmetic = process::set_title(HELPER_TITLE);
    harden(&Options::default());
    helper::run(channel)
}

fn run_broker(options: &Options, channel: OwnedFd) -> ExitCode {
    let Some(config) = options.config.clone() else {
        return ExitCode::FAILURE;
    };
    // Main has resolved level and facility.
    let log = options.log_settings(0, log::facility_number(SyslogFacility::Daemon));
    broker::run(BrokerOptions { config, log }, channel)
}

/// The main process. `status` is the pipe on which a daemon tells its starter that it serves.
fn run_main(arguments: Vec<OsString>, status: Option<OwnedFd>) -> ExitCode {
    let outcome = match cli::parse(arguments.clone()) {
        Ok(cli::Command::Version) => {
            eprint!("{}", cli::version());
            return ExitCode::SUCCESS;
        }
        Ok(cli::Command::Help) => {
            eprint!("{}", cli::USAGE);
            return ExitCode::SUCCESS;
        }
        Ok(cli::Command::Test(options)) => test(&options).map(|()| 0),
        Ok(cli::Command::Serve(options)) if options.foreground || status.is_some() => serve(&options, status),
        Ok(cli::Command::Serve(_)) => daemonize(arguments),
        Err(error) => Err(Failure(error.to_string())),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(Failure(text)) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

/// Executes this program again as a daemon and returns once it serves.
fn daemonize(arguments: Vec<OsString>) -> Result<u8, Failure> {
    let (mut status, far) = io::pipe()?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0(MAIN_TITLE)
        .args(arguments)
        .stdin(Stdio::null())
        .pass_descriptors(vec![(OwnedFd::from(far), CHANNEL_NUMBER)])
        .new_session();
    let mut child = command.spawn()?;
    // The copy of the pipe in `command` would keep it open.
    drop(command);
    let mut ready = [0];
    if status.read_exact(&mut ready).is_ok() {
        return Ok(0);
    }
    let code = child.wait()?.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.unwrap_or(1).max(1))
}

/// `--test-config`: everything that can be checked without root.
fn test(options: &Options) -> Result<(), Failure> {
    let (config, path) = load(options)?;
    let _confinement = confinement(&config.global)?;
    snapshot(&config, config.global.log_level)?;
    broker::check(&path).map_err(|why| match why.starts_with("error: ") {
        true => Failure(why),
        false => Failure(format!("error: {why}")),
    })
}

/// Starts the processes, opens the sockets, and serves.
fn serve(options: &Options, status: Option<OwnedFd>) -> Result<u8, Failure> {
    let daemon = status.is_some();
    // Before anything is opened under their numbers. The status pipe of a daemon has such a number, and
    // its process id is not the one that the sockets are for.
    let inherited = main_process::inherited_sockets();
    let (config, config_path) = load(options)?;
    if user::effective_uid() != 0 {
        return Err(Failure("This server requires root access to operate.".to_owned()));
    }
    let confinement = confinement(&config.global)?;
    let log_level = options.debug.unwrap_or(config.global.log_level);
    let facility = log::facility_number(config.global.syslog_facility);
    log::init(options.log_settings(config.global.log_level, facility));
    let public = snapshot(&config, log_level)?;
    // Before `chdir /`: the path may be relative.
    let pid_path = pid_path(options, &config.global)?;
    become_main(options, daemon)?;
    // Before the broker starts: it has a channel per client, too, and inherits the limit.
    let clients_max = allow_descriptors(&config.global)?;
    let arguments = options.for_children(&config_path, &config.global);
    let broker = start_broker(&arguments, daemon)?;
    let zygote = start_zygote(&arguments, daemon, &confinement)?;
    send_snapshot(&public, |message| zygote.channel.send(message, &[]))?;
    let listeners = Listeners::open(&config.global, inherited)?;
    tell(&listeners.notes, daemon);
    let pid_file = pid_path.map(|path| PidFile::create(&path)).transpose()?;
    let fixed = Fixed {
        device: config.global.device.clone(),
        device_group: main_process::free_group()?,
        clients_max,
        listen_namespace: listeners.namespace.clone(),
        udp_port: listeners.udp.first().map(|(_, address)| address.port()),
        confinement,
        log_level,
        broker_pid: broker.child.id(),
        child_arguments: arguments,
        daemon,
    };
    let control = config
        .global
        .use_occtl
        .then(|| config.global.occtl_socket_file.clone());
    let prepared = Prepared {
        config,
        config_path,
        fixed,
        broker,
        zygote,
        listeners,
        control,
        pid_file,
    };
    let code = main_process::run(prepared, || {
        if let Some(status) = status {
            announce(status);
        }
        main_process::tell_ready();
    })?;
    Ok(code)
}

/// The pid file that the command line names, or else the configuration.
fn pid_path(options: &Options, global: &Global) -> io::Result<Option<PathBuf>> {
    let path = match (&options.pid_file, &global.pid_file) {
        (Some(path), Some(_)) => {
            eprintln!("note: skipping 'pid-file' config option");
            Some(path)
        }
        (Some(path), None) | (None, Some(path)) => Some(path),
        (None, None) => None,
    };
    path.map(std::path::absolute).transpose()
}

/// Makes this process what main is: directory, group, title, what it lets others see, and its umask.
fn become_main(options: &Options, daemon: bool) -> io::Result<()> {
    if daemon && !options.no_chdir {
        std::env::set_current_dir("/")?;
    }
    if !daemon {
        // A daemon leads a session and so a group already.
        let _may_be_leader_already = process::lead_group();
    }
    let _cosmetic = process::set_title(MAIN_TITLE);
    harden(options);
    mem::single_arena();
    let _old_mask = process::set_umask(0o066);
    Ok(())
}

/// Raises the limit of descriptors to what the clients need; returns for how many clients there are enough.
fn allow_descriptors(global: &Global) -> io::Result<usize> {
    let clients = global.max_clients.map_or(USUAL_CLIENTS, u64::from);
    let wanted = clients * DESCRIPTORS_PER_CLIENT + SPARE_DESCRIPTORS;
    let allowed = process::raise_limit(Resource::Descriptors, wanted)?;
    let enough = allowed.saturating_sub(SPARE_DESCRIPTORS) / DESCRIPTORS_PER_CLIENT;
    if allowed < wanted && global.max_clients.is_some() {
        eprintln!(
            "warning: {allowed} open files are allowed: enough for {enough} clients, not for max-clients = {clients} (LimitNOFILE)"
        );
    }
    // A few also where nearly nothing is allowed: then `accept` finds out.
    Ok(usize::try_from(enough).unwrap_or(usize::MAX).max(16))
}

/// Notes about the start: printed, or logged where nobody reads what is printed.
fn tell(notes: &[String], daemon: bool) {
    for note in notes {
        if daemon {
            log::write(Level::Info, &format!("main: {note}"));
        } else {
            eprintln!("{note}");
        }
    }
}

/// Tells the starter of a daemon that it may leave.
fn announce(status: OwnedFd) {
    if let Err(error) = process::detach_standard_streams() {
        log::write(
            Level::Warning,
            &format!("main: cannot leave the terminal: {error}"),
        );
    }
    // Nobody waits any more when the starter was killed.
    let _starter_gone = File::from(status).write_all(b"1");
}

/// Reads the configuration and prints what there is to say about it.
fn load(options: &Options) -> Result<(Config, PathBuf), Failure> {
    let path = match &options.config {
        Some(path) => path.clone(),
        None if File::open(cli::DEFAULT_CONFIG).is_err() && File::open(OTHER_CONFIG).is_ok() => {
            OTHER_CONFIG.into()
        }
        None => cli::DEFAULT_CONFIG.into(),
    };
    if let Err(error) = File::open(&path) {
        let text = format!(
            "error: cannot access config file: {}\nUsage: ocserv [-c config]\nUse ocserv --help for more information.",
            path.display()
        );
        log::write(Level::Debug, &error.to_string());
        return Err(Failure(text));
    }
    let (config, notes) = Config::load(&path)?;
    for note in notes {
        eprintln!("{note}");
    }
    Ok((config, std::path::absolute(path)?))
}

/// Who the workers are and which root they have.
fn confinement(global: &Global) -> Result<Confinement, Failure> {
    let ids = worker_ids(global)?;
    let root = global
        .chroot_dir
        .as_deref()
        .map(std::path::absolute)
        .transpose()?;
    Ok(Confinement { ids, root })
}

/// What helpers become that need no root.
pub(crate) fn helper_rights(global: &Global) -> Result<Unprivileged, Failure> {
    let (uid, gid) = worker_ids(global)?;
    let filtered = global.isolate_workers;
    Ok(Unprivileged { uid, gid, filtered })
}

/// Identity of the workers: the configured one, else `nobody`.
pub(crate) fn worker_ids(global: &Global) -> Result<(u32, u32), Failure> {
    let name = global.run_as_user.as_deref().unwrap_or("nobody");
    let Some(user) = user::by_name(name)? else {
        return Err(Failure(format!("error: unknown user: {name}")));
    };
    if user.uid == 0 {
        eprintln!("warning: run-as-user is root: workers are not separated from the server by their user");
    }
    let gid = match &global.run_as_group {
        Some(name) => match user::group_by_name(name)? {
            Some(group) => group.gid,
            None => return Err(Failure(format!("error: unknown group: {name}"))),
        },
        None => user.gid,
    };
    Ok((user.uid, gid))
}

fn harden(options: &Options) {
    if !options.traceable {
        let _best_effort = process::set_dumpable(false);
        let _best_effort = process::set_limit(Resource::CoreDump, 0);
    }
    // Descriptors of whoever started us are none of our children's business.
    let _best_effort = process::close_on_exec_from(CHANNEL_NUMBER);
}
