//! Logins that the user has done elsewhere: his Kerberos tickets, and his domain's by `ntlm_auth`
//! (`specs/client.md` §11.3).

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use culvert_gssapi::{GssError, Initiator, Step};
use culvert_http_auth::{Authenticator, Credentials, Schemes, SignOn, SignOnError};
use culvert_sys::epoll::Interest;
use data_encoding::BASE64;
use zeroize::Zeroizing;

use super::tls::Tls;
use crate::context::Context;
use crate::prompt::reason;
use crate::signals::{Signal, WaitError};

/// The program of Samba's winbind that speaks NTLM with the user's cached log-in.
const NTLM_AUTH: &str = "/usr/bin/ntlm_auth";
/// Longest time for its answer.
const NTLM_AUTH_TIME: Duration = Duration::from_secs(20);
/// Longest line that is taken from it.
const LINE_MAX: usize = 65536;

/// What all logins of one authentication share: where signals go that come while they wait.
pub(super) struct Elsewhere<'c> {
    context: &'c Context,
    stopped: Cell<Option<Signal>>,
    /// What tickets are bound to.
    channel: RefCell<Option<Vec<u8>>>,
}

impl<'c> Elsewhere<'c> {
    pub(super) fn new(context: &'c Context) -> Self {
        Self {
            context,
            stopped: Cell::new(None),
            channel: RefCell::default(),
        }
    }

    /// Tickets from now on are good over this TLS connection only; `None`: over any.
    pub(super) fn bind(&self, channel: Option<&Tls>) {
        let name = channel.and_then(Tls::channel_binding);
        *self.channel.borrow_mut() = name.map(|(kind, name)| [kind.as_bytes(), b":", &name].concat());
    }

    /// An authentication towards `host` with all that the user has.
    pub(super) fn authenticator<'s>(
        &'s self,
        schemes: Schemes,
        credentials: Option<&Credentials>,
        token: Option<culvert_vocab::SecretString>,
        host: &str,
    ) -> Authenticator<'s> {
        let variable = |name: &str| std::env::var(name).ok().filter(|user| !user.is_empty());
        let user = credentials
            .map(|credentials| credentials.user.clone())
            .filter(|user| !user.is_empty())
            .or_else(|| variable("NTLMUSER"))
            .or_else(|| variable("USER"));
        let ticket = self.ticket(format!("HTTP@{host}"));
        let domain = Domain {
            elsewhere: self,
            user: user.unwrap_or_default(),
            helper: None,
        };
        Authenticator::new(schemes, credentials.cloned(), token)
            .with_ticket(ticket)
            .with_domain(domain)
    }

    /// The user's tickets, for this service.
    pub(super) fn ticket<'s>(&'s self, service: String) -> Ticket<'s, 'c> {
        Ticket {
            elsewhere: self,
            service,
            initiator: None,
        }
    }

    /// The signal that ended the authentication.
    pub(super) fn stopped(&self) -> Signal {
        self.stopped.take().unwrap_or(Signal::Terminate)
    }

    fn wait(&self, descriptor: BorrowedFd<'_>, deadline: Option<Instant>) -> Result<(), SignOnError> {
        let waited = self
            .context
            .signals
            .wait(&[(descriptor, Interest::READ)], deadline);
        waited.map_err(|error| match error {
            WaitError::Interrupted(signal) => {
                self.stopped.set(Some(signal));
                SignOnError::Stopped
            }
            error => self.failed(&error.to_string()),
        })
    }

    fn failed(&self, text: &str) -> SignOnError {
        self.context.output.error(text);
        SignOnError::Failed
    }
}

/// A login that also protects messages once it is complete.
pub(super) trait Protector: SignOn {
    /// Protects the integrity of a message.
    fn wrap(&self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, SignOnError>;

    /// Checks and opens a message of the other side.
    fn unwrap(&self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, SignOnError>;
}

/// The user's Kerberos tickets.
pub(super) struct Ticket<'s, 'c> {
    elsewhere: &'s Elsewhere<'c>,
    service: String,
    /// `None` before the first message, and after a failure.
    initiator: Option<Initiator>,
}

impl Ticket<'_, '_> {
    /// Has the library work in a thread of its own, because it cannot be interrupted while it
    /// waits for a KDC.
    fn step(&mut self, mut initiator: Initiator, challenge: Option<&[u8]>) -> Result<Step, SignOnError> {
        let failed = |error: io::Error| self.elsewhere.failed(&reason(&error));
        let challenge = challenge.map(<[u8]>::to_vec);
        let (done, finish) = io::pipe().map_err(failed)?;
        let worker = thread::Builder::new()
            .name("gssapi".into())
            .spawn(move || {
                let step = initiator.step(challenge.as_deref());
                drop(finish);
                (initiator, step)
            })
            .map_err(failed)?;
        self.elsewhere.wait(done.as_fd(), None)?;
        let (initiator, step) = worker
            .join()
            .map_err(|_| self.elsewhere.failed("GSSAPI: the library failed"))?;
        self.initiator = Some(initiator);
        step.map_err(|error| self.elsewhere.failed(&format!("GSSAPI: {error}")))
    }
}

impl SignOn for Ticket<'_, '_> {
    fn answer(&mut self, challenge: Option<&[u8]>) -> Result<Zeroizing<Vec<u8>>, SignOnError> {
        let initiator = match (self.initiator.take(), challenge) {
            (_, None) => Initiator::new(&self.service, self.elsewhere.channel.take()).map_err(|error| {
                let text = format!("GSSAPI: {error}");
                match error {
                    // Nobody has to have the library.
                    GssError::Library(_) => self.elsewhere.context.output.debug(&text),
                    _ => self.elsewhere.context.output.error(&text),
                }
                SignOnError::Failed
            })?,
            (Some(initiator), Some(_)) => initiator,
            (None, Some(_)) => return Err(SignOnError::Failed),
        };
        self.step(initiator, challenge).map(|step| step.token)
    }
}

impl Ticket<'_, '_> {
    fn protect(
        &self,
        work: impl FnOnce(&Initiator) -> Result<Zeroizing<Vec<u8>>, GssError>,
    ) -> Result<Zeroizing<Vec<u8>>, SignOnError> {
        let initiator = self.initiator.as_ref().ok_or(SignOnError::Failed)?;
        work(initiator).map_err(|error| self.elsewhere.failed(&format!("GSSAPI: {error}")))
    }
}

impl Protector for Ticket<'_, '_> {
    fn wrap(&self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, SignOnError> {
        self.protect(|initiator| initiator.wrap(message))
    }

    fn unwrap(&self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, SignOnError> {
        self.protect(|initiator| initiator.unwrap(message))
    }
}

impl std::fmt::Debug for Ticket<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

/// The user's login in a domain.
struct Domain<'s, 'c> {
    elsewhere: &'s Elsewhere<'c>,
    /// Perhaps as `DOMAIN\user`.
    user: String,
    helper: Option<NtlmAuth>,
}

impl SignOn for Domain<'_, '_> {
    fn answer(&mut self, challenge: Option<&[u8]>) -> Result<Zeroizing<Vec<u8>>, SignOnError> {
        let mut helper = match (self.helper.take(), challenge) {
            (_, None) => NtlmAuth::start(&self.user).map_err(|error| {
                // Nobody has to have the program.
                let text = format!("{NTLM_AUTH}: {}", reason(&error));
                self.elsewhere.context.output.debug(&text);
                SignOnError::Failed
            })?,
            (Some(helper), Some(_)) => helper,
            (None, Some(_)) => return Err(SignOnError::Failed),
        };
        let question = match challenge {
            None => Zeroizing::new("YR\n".to_owned()),
            Some(challenge) => Zeroizing::new(format!("TT {}\n", BASE64.encode(challenge))),
        };
        let line = helper.ask(self.elsewhere, &question)?;
        let message = message(&line, challenge.is_some())
            .ok_or_else(|| self.elsewhere.failed("ntlm_auth: no cached login of the user"))?;
        self.helper = Some(helper);
        Ok(message)
    }
}

impl std::fmt::Debug for Domain<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Domain")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// The message in a line of `ntlm_auth`: `YR` first, then `KK` or `AF`.
fn message(line: &str, last: bool) -> Option<Zeroizing<Vec<u8>>> {
    let (word, text) = line.trim_end().split_once(' ')?;
    let wanted = match last {
        false => word == "YR",
        true => matches!(word, "KK" | "AF"),
    };
    let text = text.split(' ').next().unwrap_or_default();
    let message = BASE64.decode(text.as_bytes()).ok().filter(|_| wanted)?;
    Some(Zeroizing::new(message))
}

/// The running program; it ends with this value.
struct NtlmAuth {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl NtlmAuth {
    fn start(user: &str) -> io::Result<Self> {
        let mut command = Command::new(NTLM_AUTH);
        command.args(["--helper-protocol", "ntlmssp-client-1", "--use-cached-creds"]);
        match user.split_once('\\') {
            Some((domain, user)) => command.args(["--username", user, "--domain", domain]),
            None => command.args(["--username", user]),
        };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(input), Some(output)) => Ok(Self { child, input, output }),
            _ => Err(io::Error::other("no pipes")),
        }
    }

    /// Says a line and gives the one that comes back.
    fn ask(&mut self, elsewhere: &Elsewhere<'_>, line: &str) -> Result<Zeroizing<String>, SignOnError> {
        let failed = |error: io::Error| elsewhere.failed(&format!("ntlm_auth: {}", reason(&error)));
        self.input.write_all(line.as_bytes()).map_err(failed)?;
        let deadline = Instant::now() + NTLM_AUTH_TIME;
        let mut answer = Zeroizing::new(Vec::new());
        let mut buffer = Zeroizing::new([0; 4096]);
        while !answer.ends_with(b"\n") {
            elsewhere.wait(self.output.as_fd(), Some(deadline))?;
            let count = self.output.read(buffer.as_mut_slice()).map_err(failed)?;
            if count == 0 || answer.len() > LINE_MAX {
                return Err(elsewhere.failed("ntlm_auth: no answer"));
            }
            answer.extend_from_slice(buffer.get(..count).unwrap_or_default());
        }
        Ok(Zeroizing::new(String::from_utf8_lossy(&answer).into_owned()))
    }
}

impl Drop for NtlmAuth {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ntlm_auth() {
        let octets = |line: &str, last: bool| message(line, last).map(|octets| octets.to_vec());
        assert_eq!(octets("YR Zmlyc3Q=\n", false), Some(b"first".to_vec()));
        assert_eq!(octets("KK bGFzdA==\n", true), Some(b"last".to_vec()));
        assert_eq!(octets("AF bGFzdA== user\n", true), Some(b"last".to_vec()));
        // Messages of the wrong kind, a wish for the password, an error, nonsense.
        for line in ["KK bGFzdA==\n", "PW\n", "BH NT_STATUS_OK\n", "YR !\n", "\n", ""] {
            assert_eq!(octets(line, false), None, "{line}");
        }
        assert_eq!(octets("YR Zmlyc3Q=\n", true), None);
    }
}
