//! The client's side: a state machine without input or output, and what it asks for.

use std::time::Duration;

use culvert_vocab::{Form, SecretString};
use culvert_wire::http::{Request, Response, ResponseError};
use culvert_wire::url::ServerUrl;

/// Most redirects in a row that a login follows.
pub const REDIRECTS_MAX: u32 = 10;
/// Most name servers of one kind that a client uses: a resolver asks no more (resolv.conf(5)).
pub const NAME_SERVERS_MAX: usize = 3;

/// Why a login failed, in words for the user.
pub type LoginError = Box<dyn std::error::Error + Send + Sync>;

/// The login of a protocol. Every call answers with what is to be done next.
pub trait Login {
    /// Begins.
    ///
    /// # Errors
    /// The login has failed.
    fn start(&mut self) -> Result<Step, LoginError>;

    /// Goes on with the response to an [`Exchange`].
    ///
    /// # Errors
    /// The login has failed.
    fn handle_response(&mut self, response: Response) -> Result<Step, LoginError>;

    /// The response to an [`Exchange`] could not be read.
    ///
    /// # Errors
    /// The login has failed.
    fn handle_bad_response(&mut self, error: ResponseError) -> Result<Step, LoginError>;

    /// The connection of an [`Exchange`] broke before there was a response. What to do about it;
    /// `None` ends the login.
    fn handle_lost_connection(&mut self) -> Option<Step> {
        None
    }

    /// The user chose this value of the form's [`Form::group_field`], before the other fields
    /// are asked. [`Step::Exchange`]: the form is requested anew; [`Step::Form`]: the same form,
    /// with the fields that this choice needs.
    ///
    /// # Errors
    /// The login has failed.
    fn select_group(&mut self, value: &str) -> Result<Step, LoginError>;

    /// The form has been filled: values in its fields, for selects the value of a choice.
    ///
    /// # Errors
    /// The login has failed.
    fn handle_form(&mut self, form: Form) -> Result<Step, LoginError>;

    /// Something has come that may be the result of the [`SignIn`]: the target of a request to
    /// its port, or a line of its program or the user.
    fn handle_browser(&mut self, _result: &str) -> Returned {
        Returned::Stranger
    }

    /// The program of a [`HostScan`] has ended.
    ///
    /// # Errors
    /// The login has failed, or was not waiting for this.
    fn handle_host_scan(&mut self) -> Result<Step, LoginError> {
        Err("the login is not waiting for a host scan".into())
    }

    /// The time of [`Step::Wait`] is over.
    ///
    /// # Errors
    /// The login has failed, or was not waiting for this.
    fn handle_timeout(&mut self) -> Result<Step, LoginError> {
        Err("the login is not waiting".into())
    }

    /// The next line for the log.
    fn poll_message(&mut self) -> Option<Message>;
}

/// What the driver has to do next.
#[derive(Debug)]
pub enum Step {
    /// Exchange a request for a response, then [`Login::handle_response`] (or
    /// [`Login::handle_bad_response`] when it cannot be parsed).
    Exchange(Exchange),
    /// Show this form and have it filled, then [`Login::handle_form`]; a driver that asks for
    /// the group first calls [`Login::select_group`] in between.
    Form(Form),
    /// Have the user sign in with a browser, then [`Login::handle_browser`].
    Browser(SignIn),
    /// Have this host examined, then [`Login::handle_host_scan`].
    HostScan(HostScan),
    /// Wait so long, then [`Login::handle_timeout`].
    Wait(Duration),
    /// Logged in.
    Done(LoggedIn),
}

/// A sign-in with a browser.
#[derive(Debug)]
pub struct SignIn {
    /// What to open; a text of the server.
    pub url: String,
    /// How the result comes back.
    pub result: SignInResult,
    /// Texts to show before, and fields that are asked afterwards.
    pub form: Form,
}

/// How the result of a [`SignIn`] gets from the browser to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignInResult {
    /// The browser is sent to this TCP port of the loopback interface.
    Loopback {
        /// The port.
        port: u16,
    },
    /// The program that stands in for a browser writes it, or the user pastes it.
    Text {
        /// What the user has to look for.
        hint: String,
        /// What to say when neither can happen.
        otherwise: String,
    },
}

/// What [`Login::handle_browser`] makes of what came.
#[derive(Debug)]
pub enum Returned {
    /// It is not the result: go on waiting.
    Stranger,
    /// The sign-in is over.
    Over {
        /// How the login goes on.
        step: Box<Step>,
        /// An `https` URL where the browser wants to go.
        next_page: Option<String>,
    },
}

/// A program has to examine this host (`specs/anyconnect.md` §8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostScan {
    /// The server's program, where it has one. Never to be run unless the user wants that.
    pub program: Option<Vec<u8>>,
    /// The server's name for this scan.
    pub ticket: String,
    /// Secret of the scan.
    pub token: SecretString,
    /// Group of the login; empty if none was given.
    pub group: String,
    /// The server.
    pub server: ServerUrl,
    /// Where on it the scan finds what it needs: a path, or empty.
    pub start: String,
}

/// One HTTP exchange.
#[derive(Debug)]
pub struct Exchange {
    /// Host and port to talk to.
    pub server: ServerUrl,
    /// The request.
    pub request: Request,
    /// Close an open connection first, even to the same host.
    pub fresh: bool,
}

/// End of a login.
#[derive(Debug)]
pub struct LoggedIn {
    /// What `--cookieonly` prints and `--cookie` takes.
    pub cookie: SecretString,
    /// The host to connect to.
    pub server: ServerUrl,
}

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Importance.
    pub level: MessageLevel,
    /// Text, possibly of the server: sanitise it before it reaches a terminal.
    pub text: String,
}

/// Importance of a [`Message`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageLevel {
    /// Always shown.
    Error,
    /// Shown by default.
    Info,
    /// Shown with `-v`.
    Debug,
}
