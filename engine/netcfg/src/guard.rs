//! The process that changes the network, and restores it when the client has gone, however it
//! went. It keeps the privileges that the client may give up.
//!
//! The client starts its own program again with [`VARIABLE`] in the environment and a socket as
//! standard input; [`run_if_asked`] then does nothing but carry out [`Request`]s until the socket's
//! end.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::Duration;

use culvert_sys::signal;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::apply::{apply, keep_outside};
use crate::journal::Journal;
use crate::plan::{Plan, TunnelRoute};
use crate::undo::{repair, undo};
use crate::{Error, chain};

/// Environment variable that turns a process into a guard: the path of the journal.
pub const VARIABLE: &str = "CULVERT_NETCFG_GUARD";
/// Longest time for a request: resolvers and `resolvconf` may take a few seconds each.
const ANSWER_MAX: Duration = Duration::from_secs(45);
/// Longest request, in octets: [`crate::ROUTES_MAX`] networks, twice, and as many obsolete ones.
const REQUEST_MAX: u64 = 4 << 20;

/// What the guard is asked to do. A client that has given up its privileges can ask for no more
/// than this, for the device and with the files of its journal.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Configure everything, again after a reconnect.
    Apply {
        /// How it is to be.
        plan: Plan,
        /// Routes of an earlier plan that have to go.
        obsolete: Vec<TunnelRoute>,
    },
    /// Route these networks as the host would without the tunnel.
    KeepOutside(Vec<IpNet>),
}

/// Warnings, or why it failed.
type Reply = Result<Vec<String>, String>;

/// The running guard of a [`crate::Configured`].
#[derive(Debug)]
pub(crate) struct Guard {
    child: Child,
    channel: BufReader<UnixStream>,
    /// Requests so far: the number of the present one.
    count: u64,
}

impl Guard {
    pub(crate) fn spawn(journal: &Path) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(ANSWER_MAX))?;
        ours.set_write_timeout(Some(ANSWER_MAX))?;
        let child = Command::new("/proc/self/exe")
            .arg0("openconnect-netcfg")
            .env(VARIABLE, journal)
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .process_group(0)
            .spawn()?;
        Ok(Self {
            child,
            channel: BufReader::new(ours),
            count: 0,
        })
    }

    /// Has something done, and returns the warnings.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<Vec<String>, Error> {
        self.exchange(request)
            .map_err(Error::Guard)?
            .map_err(Error::Refused)
    }

    fn exchange(&mut self, request: &Request) -> io::Result<Reply> {
        self.count += 1;
        send(self.channel.get_ref(), &(self.count, request))?;
        loop {
            let mut line = String::new();
            if self.channel.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // The answer to a question that nobody waited for any more is of no interest.
            let (number, reply): (u64, Reply) = serde_json::from_str(&line)?;
            if number == self.count {
                return Ok(reply);
            }
        }
    }

    /// Lets the guard restore the network now and waits until it has. An error is that of a guard
    /// that has not.
    pub(crate) fn finish(mut self) -> io::Result<ExitStatus> {
        self.channel.get_ref().shutdown(Shutdown::Both)?;
        self.child.wait()
    }
}

fn send(mut channel: &UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    channel.write_all(&line)
}

/// To be called first in `main`: acts as guard if this process was started as one.
pub fn run_if_asked() -> Option<ExitCode> {
    let journal: OsString = std::env::var_os(VARIABLE)?;
    Some(run(&PathBuf::from(journal)))
}

fn run(path: &Path) -> ExitCode {
    // A service manager signals the whole group when it stops the client; the guard has to
    // outlive that.
    let stopping = [signal::SIGHUP, signal::SIGINT, signal::SIGQUIT, signal::SIGTERM];
    if let Err(error) = signal::block(&stopping) {
        eprintln!("cannot block signals: {error}");
    }
    if let Err(error) = serve(path) {
        eprintln!("cannot serve the client: {error}");
    }
    let mut failures = undo(path);
    if let Some(dir) = path.parent() {
        // What others could not undo because of this client.
        failures.extend(repair(dir).1);
    }
    for failure in &failures {
        eprintln!("{failure}");
    }
    match failures.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Carries out requests until the client has gone.
fn serve(path: &Path) -> io::Result<()> {
    let mut journal = Journal::open(path)?;
    let channel = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut requests = BufReader::new(channel.try_clone()?);
    while let Some((number, request)) = next_request(&mut requests)? {
        let reply: Reply = match request {
            Request::Apply { plan, obsolete } => apply(&mut journal, &plan, &obsolete),
            Request::KeepOutside(nets) => keep_outside(&mut journal, &nets).map(|()| Vec::new()),
        }
        .map_err(|error| chain(&error));
        match send(&channel, &(number, reply)) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            sent => sent?,
        }
    }
    Ok(())
}

/// The next request with its number; `None` when the client has gone. The client may be in the hands
/// of somebody who wants to fill the guard's memory.
fn next_request(requests: &mut impl BufRead) -> io::Result<Option<(u64, Request)>> {
    let mut line = String::new();
    match requests.take(REQUEST_MAX).read_line(&mut line) {
        Ok(0) => return Ok(None),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
        Err(error) => return Err(error),
    }
    Ok(Some(serde_json::from_str(&line)?))
}

#[cfg(test)]
mod tests {
    use culvert_vocab::{Mtu, TunnelConfig};

    use super::*;
    use crate::ROUTES_MAX;

    #[test]
    fn requests_have_a_bound() {
        let endless = vec![b' '; usize::try_from(REQUEST_MAX).unwrap() + 100];
        let mut rest = endless.as_slice();
        assert!(next_request(&mut rest).is_err());
        assert_eq!(rest.len(), 100, "no more than the bound is read");
        assert!(next_request(&mut &b""[..]).unwrap().is_none());
        assert!(next_request(&mut &b"{}\n"[..]).is_err());
    }

    #[test]
    fn the_largest_plan_fits() {
        let mut config = TunnelConfig::new(Mtu::clamped(1400));
        let longest: IpNet = "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128".parse().unwrap();
        config.ipv6 = Some(culvert_vocab::AddressV6 {
            address: "fd00::7".parse().unwrap(),
            prefix_len: 64,
        });
        config.includes = vec![longest; ROUTES_MAX / 2];
        config.excludes = vec![longest; ROUTES_MAX / 2];
        let plan = Plan::new(&config, std::net::Ipv4Addr::LOCALHOST.into()).unwrap();
        let route = TunnelRoute {
            net: longest,
            metric: u32::MAX,
        };
        let request = Request::Apply {
            plan,
            obsolete: vec![route; ROUTES_MAX],
        };
        let mut line = serde_json::to_vec(&(u64::MAX, request)).unwrap();
        line.push(b'\n');
        assert!(next_request(&mut line.as_slice()).unwrap().is_some());
    }
}
