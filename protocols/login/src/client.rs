//! The client's side: a state machine without input or output, and what it asks for.

use culvert_vocab::{Form, SecretString};
use culvert_wire::http::{Request, Response, ResponseError};
use culvert_wire::url::ServerUrl;

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

    /// The response to an [`Exchange`] could not be read. (A failed connection is not for here:
    /// it ends the login.)
    ///
    /// # Errors
    /// The login has failed.
    fn handle_bad_response(&mut self, error: ResponseError) -> Result<Step, LoginError>;

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
    /// Logged in.
    Done(LoggedIn),
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
