//! From the command line to the exit code (`specs/client.md` §3).

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use culvert_netcfg::Paths;
use culvert_sys::libproxy::LibProxy;
use culvert_sys::network_changes::NetworkChanges;
use culvert_sys::user;
use culvert_vocab::SecretString;
use culvert_wire::url::ServerUrl;

use crate::context::Context;
use crate::credentials::Credentials;
use crate::login::{self, Answers, TwoPhase, cookie_line};
use crate::net::{HttpClient, Peer, Trust, by_libproxy};
use crate::options::{self, CookieMode, Host, Options, Proxy, Stop, UserIds};
use crate::output::{Output, printable};
use crate::process::{self, PidFile};
use crate::profile::{self, NoProfile};
use crate::prompt::{Console, Lines, reason};
use crate::protocol;
use crate::signals::Signals;
use crate::token::{Generator, NoToken};
use crate::tunnel;

/// Runs the program with these arguments, the program's name first, and returns the exit code.
pub fn run(arguments: &[OsString]) -> u8 {
    if arguments.len() > 2 && arguments.get(1).is_some_and(|word| word == "--autocomplete") {
        return complete(arguments);
    }
    let mut machine = Machine::default();
    let options = match options::parse(arguments, &mut machine) {
        Ok(options) => options,
        Err(stop) => return report(&stop),
    };
    process::harden(arguments);
    match start(options, machine.lines) {
        Ok(code) => code,
        Err(text) => {
            say(io::stderr(), &format!("{text}\n"));
            1
        }
    }
}

fn start(mut options: Options, lines: Lines) -> Result<u8, String> {
    use_profile(&mut options)?;
    let server = ServerUrl::parse(&options.server).map_err(|error| error.to_string())?;
    use_proxy(&mut options, &server)?;
    let server = server.with_default_path(options.login.user_group.as_deref().unwrap_or_default());
    let signals = Signals::new().map_err(|error| format!("Failed to set up signal handling: {error}"))?;
    let signals = Arc::new(signals);
    let output = Arc::new(Output::new(&options.output, options.result_on_stdout()));
    let console = Console::new(
        lines,
        Arc::clone(&signals),
        options.output.level > 0,
        options.login.non_interactive,
        options.login.password.is_some(),
    );
    let trust = Trust::new(options.trust.clone(), console.clone(), Arc::clone(&output));
    Ok(session(
        &Arc::new(Context {
            answers: Mutex::new(Answers::new(&options.login)),
            changes: NetworkChanges::open().ok(),
            credentials: Credentials::default(),
            options,
            output,
            signals,
            console,
            trust,
        }),
        server,
    ))
}

/// Looks the server up in the file of `--xmlconfig`: users name servers as it does. Notices go
/// where they do not mix with a result.
fn use_profile(options: &mut Options) -> Result<(), String> {
    let Some(path) = options.login.profile.as_ref().filter(|_| !options.server_is_url) else {
        return Ok(());
    };
    let name = options.server.clone();
    let raw = format!("Treating host \"{name}\" as a raw hostname");
    let notice = match profile::read(path) {
        Ok(content) if content.is_empty() => format!("File {} is empty\n{raw}", path.display()),
        Ok(content) => match profile::find(&content, &name) {
            Ok(Some(entry)) => {
                let mut notice = format!("Host \"{name}\" has address \"{}\"", entry.address);
                if let Some(group) = &entry.user_group {
                    notice += &format!("\nHost \"{name}\" has UserGroup \"{group}\"");
                }
                options.server = entry.address;
                options.login.user_group = entry.user_group.or(options.login.user_group.take());
                let notice = format!("{}\n", printable(&notice));
                match options.result_on_stdout() {
                    true => say(io::stderr(), &notice),
                    false => say(io::stdout(), &notice),
                }
                return Ok(());
            }
            Ok(None) => format!("Host \"{name}\" not listed in config; treating as raw hostname"),
            Err(_) => format!("Failed to parse XML config file {}\n{raw}", path.display()),
        },
        Err(error @ NoProfile::Unopened(..)) => format!("{error}\n{raw}"),
        Err(error @ NoProfile::Unread(..)) => return Err(error.to_string()),
    };
    say(io::stderr(), &format!("{}\n", printable(&notice)));
    Ok(())
}

/// Settles the proxy: that of the options, else that of the environment. Datagrams do not pass
/// through proxies.
fn use_proxy(options: &mut Options, server: &ServerUrl) -> Result<(), String> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let network = &mut options.network;
    let url = variable("https_proxy");
    if network.libproxy {
        let library = LibProxy::load()
            .map_err(|error| format!("libproxy is not available ({}): {}", error.name, error.reason))?;
        options.tunnel.no_dtls |= by_libproxy(library, server).is_some();
        return Ok(());
    }
    if network.proxy.is_none()
        && !network.no_proxy
        && !url.is_empty()
        && !options::is_excepted(&variable("no_proxy"), server.host_name())
    {
        network.proxy = Some(Proxy::parse(&url).map_err(|error| error.to_string())?);
    }
    options.tunnel.no_dtls |= network.proxy.is_some();
    Ok(())
}

/// Login, result of the login, tunnel.
fn session(context: &Arc<Context>, server: ServerUrl) -> u8 {
    let mut http = HttpClient::new(Arc::clone(context));
    let mut protocol = match protocol::of(context) {
        Ok(protocol) => protocol,
        Err(text) => {
            context.output.error(&text);
            return 1;
        }
    };
    let given = context.options.login.cookie.clone();
    let (cookie, server) = match given {
        Some(cookie) => (cookie, server),
        None if use_token(context).is_err() => return 1,
        None => match protocol.log_in(context, &mut http, server) {
            Ok(done) => (done.cookie, done.server),
            Err(failed) => {
                if !matches!(failed, login::LoginFailure::NoInput) {
                    say(io::stderr(), "Failed to complete authentication\n");
                }
                return 1;
            }
        },
    };
    match show_result(context, &cookie, &server, http.peer()) {
        Err(text) => {
            context.output.error(&text);
            return 1;
        }
        Ok(Next::End) => return 0,
        Ok(Next::Connect) => {}
    }
    let connector = match protocol.connector(context, http, server, &cookie) {
        Ok(connector) => connector,
        Err(text) => {
            context.output.error(&text);
            return 1;
        }
    };
    let process = &context.options.process;
    let pid_file = process
        .pid_file
        .as_deref()
        .filter(|_| process.background)
        .map(PidFile::open);
    let pid_file = match pid_file.transpose() {
        Ok(pid_file) => pid_file,
        Err(text) => {
            context.output.error(&text);
            return 1;
        }
    };
    repair_network(context);
    tunnel::run(context, connector, pid_file)
}

/// Gets the token ready, which may mean questions.
fn use_token(context: &Arc<Context>) -> Result<(), NoToken> {
    let token = Generator::of_options(context)?;
    context.answers().set_token(token);
    Ok(())
}

enum Next {
    Connect,
    End,
}

/// Prints what `--authenticate`, `--cookieonly` or `--printcookie` ask for.
fn show_result(
    context: &Context,
    cookie: &SecretString,
    server: &ServerUrl,
    peer: Option<&Peer>,
) -> Result<Next, String> {
    let (text, next) = match context.options.login.cookie_mode {
        CookieMode::Connect => return Ok(Next::Connect),
        CookieMode::Only => (cookie_line(cookie), Next::End),
        CookieMode::PrintAndConnect => (cookie_line(cookie), Next::Connect),
        CookieMode::Authenticate => (TwoPhase { cookie, server, peer }.assignments(), Next::End),
    };
    let text = zeroize::Zeroizing::new(text.map_err(|error| error.to_string())?);
    write_out(&text)?;
    Ok(next)
}

/// Undoes what a client left behind that was killed together with its guard.
fn repair_network(context: &Context) {
    let (repaired, failures) = culvert_netcfg::repair(&Paths::default().state_dir);
    for journal in repaired {
        let text = format!("Restored the network after a crash ({})", journal.display());
        context.output.info(&text);
    }
    for failure in failures {
        context.output.error(&failure);
    }
}

fn report(stop: &Stop) -> u8 {
    match stop {
        Stop::Version => return show(&options::version_text()),
        Stop::Help => {
            show(&options::help_text());
        }
        Stop::Usage(text) => {
            say(io::stderr(), &format!("{text}\n"));
            show(&options::help_text());
        }
        Stop::Error(text) => say(io::stderr(), &format!("{text}\n")),
    }
    1
}

/// Writes what was asked for to stdout. The exit code says whether it could be written.
fn show(text: &str) -> u8 {
    match write_out(text) {
        Ok(()) => 0,
        Err(text) => {
            say(io::stderr(), &format!("{text}\n"));
            1
        }
    }
}

fn write_out(text: &str) -> Result<(), String> {
    let mut stdout = io::stdout();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| format!("Failed to write to standard output: {}", reason(&error)))
}

/// Writes a message to a stream that nobody may be reading any more.
fn say(mut stream: impl Write, text: &str) {
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
}

fn complete(arguments: &[OsString]) -> u8 {
    let words: Vec<String> = arguments
        .iter()
        .enumerate()
        .filter(|(index, _)| *index != 1)
        .map(|(_, word)| word.to_string_lossy().into_owned())
        .collect();
    let position = std::env::var("COMP_CWORD")
        .ok()
        .and_then(|position| position.parse().ok());
    match position.and_then(|position| options::complete(&words, position)) {
        Some(candidates) => {
            let text: String = candidates
                .iter()
                .map(|candidate| format!("{candidate}\n"))
                .collect();
            show(&text)
        }
        None => 1,
    }
}

/// The real machine.
#[derive(Debug, Default)]
struct Machine {
    lines: Lines,
}

impl Host for Machine {
    fn warn(&mut self, text: &str) {
        say(io::stderr(), &format!("{text}\n"));
    }

    fn read_line(&mut self) -> Result<SecretString, String> {
        self.lines.next(None)
    }

    fn read_file(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn home(&mut self) -> Option<PathBuf> {
        std::env::var_os("HOME")
            .filter(|home| !home.is_empty())
            .map(PathBuf::from)
    }

    fn user_by_name(&mut self, name: &str) -> Option<UserIds> {
        ids(user::by_name(name))
    }

    fn user_by_id(&mut self, uid: u32) -> Option<UserIds> {
        ids(user::by_uid(uid))
    }
}

fn ids(found: io::Result<Option<user::User>>) -> Option<UserIds> {
    let user = found.ok()??;
    Some(UserIds {
        uid: user.uid,
        gid: user.gid,
    })
}
