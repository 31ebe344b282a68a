//! PAM, with the system's library, which is loaded at run time. A preloaded library with the same
//! functions (pam_wrapper) wins.
//!
//! A transaction is one user's login: [`Transaction::authenticate`], then
//! [`Transaction::check_account`], and perhaps a session between [`Transaction::open_session`] and
//! [`Transaction::close_session`]. What modules ask and say goes to a [`Conversation`].

#[allow(unsafe_code)]
mod ffi;
mod status;

use culvert_vocab::SecretString;

pub use self::ffi::{Pam, Transaction};
pub use self::status::{Status, Verdict};

/// Something that a module asks or says in one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A question; the answer is shown while it is typed.
    Question(String),
    /// A question; the answer is not shown.
    SecretQuestion(String),
    /// An error.
    Error(String),
    /// Any other text.
    Info(String),
}

impl Message {
    /// True when an answer is wanted.
    pub fn is_question(&self) -> bool {
        matches!(self, Self::Question(_) | Self::SecretQuestion(_))
    }
}

/// Who answers modules.
pub trait Conversation {
    /// Answers to the questions among these messages, in order; `None` gives up, and the modules
    /// clean up.
    fn converse(&mut self, messages: &[Message]) -> Option<Vec<SecretString>>;
}

/// What the modules are told about the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// The remote host: PAM_RHOST.
    RemoteHost,
    /// The terminal: PAM_TTY.
    Terminal,
}

/// PAM cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PamError {
    /// The library is not there.
    #[error(transparent)]
    Library(#[from] culvert_sys::library::LibraryError),
    /// The library lacks a function.
    #[error("the PAM library has no function {0}")]
    Function(&'static str),
    /// A text with a NUL in it.
    #[error("a name with a NUL in it")]
    Nul(#[from] std::ffi::NulError),
    /// PAM or one of its modules says no, or fails.
    #[error("{0}")]
    Status(Status),
}
