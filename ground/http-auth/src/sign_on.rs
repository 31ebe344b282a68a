//! Logins that the user has done elsewhere already: at a KDC, in a domain.

use std::fmt;

use zeroize::Zeroizing;

/// Makes the messages of a scheme from a login of the user's own.
pub trait SignOn: fmt::Debug {
    /// The next message, from the other side's last one; `None` at the start. May wait for others.
    ///
    /// # Errors
    /// See [`SignOnError`].
    fn answer(&mut self, challenge: Option<&[u8]>) -> Result<Zeroizing<Vec<u8>>, SignOnError>;
}

/// Why there is no message. The user has been told what there is to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignOnError {
    /// There is no such login, or it is not accepted.
    Failed,
    /// The user wants to end this.
    Stopped,
}
