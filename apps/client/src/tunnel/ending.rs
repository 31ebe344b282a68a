use std::time::{Duration, Instant};

use culvert_record::FrameKind;
use culvert_tunnel::Channel;

use super::running::Running;
use crate::output::Output;
use crate::signals::Signal;

/// How long the goodbye may wait for a blocked socket.
const GOODBYE_MAX: Duration = Duration::from_secs(2);

/// Why a session is over (`specs/client.md` §3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The parent of `--background`: the session goes on in the child.
    InBackground,
    /// SIGINT or SIGTERM.
    UserEnded,
    /// SIGHUP: the session stays valid on the server.
    Detached,
    /// A signal before the tunnel was up.
    Cancelled,
    /// The first CONNECT failed.
    ConnectFailed,
    /// The server does not accept the cookie (any more).
    CookieRejected,
    /// A reconnect gave other addresses.
    AddressChanged,
    /// The server ended the session.
    ServerEnded,
    /// No reconnect within `--reconnect-timeout`.
    ReconnectFailed,
    /// The server is not content with this host, or could not be told about it.
    HostCheckFailed,
    /// The tun device, or the program of `--script-tun`, is gone.
    DeviceLost,
    /// The tunnel could not be set up; the text says why.
    Setup(String),
}

impl Ending {
    /// The ending that a signal asks for in the data phase; `None` for signals that do not end it.
    pub(crate) fn of_signal(signal: Signal) -> Option<Self> {
        match signal {
            Signal::Terminate => Some(Self::UserEnded),
            Signal::Detach => Some(Self::Detached),
            Signal::Statistics | Signal::Reconnect => None,
        }
    }

    /// What the server is told; `None` when it is to keep the session, or cannot be told.
    pub(crate) fn goodbye(&self) -> Option<&'static str> {
        match self {
            Self::UserEnded => Some("Aborted by caller"),
            Self::ServerEnded => Some("Server request"),
            Self::HostCheckFailed => Some("HIP check or report failed"),
            Self::DeviceLost => Some("Client connection terminated"),
            Self::Setup(_) => Some("Set up tun device failed"),
            Self::AddressChanged => Some("Address changed"),
            Self::InBackground
            | Self::Detached
            | Self::Cancelled
            | Self::ConnectFailed
            | Self::CookieRejected
            | Self::ReconnectFailed => None,
        }
    }

    /// Shows the final message and returns the exit code.
    pub(crate) fn report(&self, output: &Output) -> u8 {
        match self {
            Self::InBackground => {}
            Self::UserEnded => output.info("User cancelled (SIGINT/SIGTERM); exiting."),
            Self::Detached => output.info("User detached from session (SIGHUP); exiting."),
            Self::Cancelled => output.error("User cancelled (SIGINT/SIGTERM); exiting."),
            Self::ConnectFailed => output.error("Unknown error; exiting."),
            Self::CookieRejected | Self::AddressChanged => {
                output.error("Cookie was rejected by server; exiting.")
            }
            Self::ServerEnded => output.error("Session terminated by server; exiting."),
            Self::ReconnectFailed => output.error("CSTP reconnect failed; exiting"),
            Self::HostCheckFailed => output.error("HIP check or report failed; exiting."),
            Self::DeviceLost => output.error("Unrecoverable I/O error; exiting."),
            Self::Setup(text) => {
                output.error(text);
                output.error("Set up tun device failed; exiting.");
            }
        }
        match self {
            Self::InBackground | Self::UserEnded | Self::Detached => 0,
            Self::CookieRejected | Self::AddressChanged => 2,
            Self::Cancelled
            | Self::ConnectFailed
            | Self::ServerEnded
            | Self::ReconnectFailed
            | Self::HostCheckFailed
            | Self::DeviceLost
            | Self::Setup(_) => 1,
        }
    }
}

impl Running {
    /// Tells the server that the session is over, if it is to know, and waits a little until that
    /// has been sent.
    pub(super) fn say_goodbye(&mut self, ending: &Ending) {
        let Some(reason) = ending.goodbye() else {
            return;
        };
        let Some(bye) = self.connector.log_out(reason) else {
            return;
        };
        let give_up = Instant::now() + GOODBYE_MAX;
        let sent = self.session.send(
            Instant::now(),
            Channel::Stream,
            FrameKind::Disconnect,
            &bye,
            &mut self.buffers,
        );
        if sent.is_err() {
            return;
        }
        while !self.session.stream_flushed() && Instant::now() < give_up {
            if self.poller.wait(&mut self.events, Some(give_up)).is_err() {
                return;
            }
            for index in 0..self.events.len() {
                if let Some(event) = self
                    .events
                    .get(index)
                    .filter(|event| self.session.owns(event.token))
                {
                    self.session
                        .handle_ready(Instant::now(), event, &mut self.buffers);
                }
            }
            // Nothing that happens now matters any more.
            while self.session.poll_event().is_some() {}
        }
    }
}
