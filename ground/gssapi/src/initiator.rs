//! A user's side.

use std::fmt;

use zeroize::Zeroizing;

use crate::ffi::{Context, Gssapi, Name};
use crate::{GssError, Step};

/// The side of a user who has tickets and wants to be known to a service. Nothing is delegated.
pub struct Initiator {
    target: Name,
    context: Context,
    /// Application data of the channel bindings (RFC 5801 §3), as `tls-exporter:` and the value.
    bindings: Option<Vec<u8>>,
    complete: bool,
}

impl Initiator {
    /// Loads the library; `service` is as `HTTP@host`. `bindings` are the application data of the channel
    /// bindings, as `tls-exporter:` and the value (RFC 5801 §3, RFC 5929); a service that looks at them refuses
    /// who carries the tokens over another channel.
    ///
    /// # Errors
    /// The library is not there or does not take the name.
    pub fn new(service: &str, bindings: Option<Vec<u8>>) -> Result<Self, GssError> {
        let library = Gssapi::load()?;
        Ok(Self {
            target: library.service(service)?,
            context: library.context(),
            bindings,
            complete: false,
        })
    }

    /// The next token, from the other side's last one; `None` at the start. May wait for a KDC.
    ///
    /// # Errors
    /// There is no ticket, or the other side's token is no good.
    pub fn step(&mut self, input: Option<&[u8]>) -> Result<Step, GssError> {
        if self.complete {
            return Err(GssError::Token("a token after the last one"));
        }
        let (token, complete) = self.context.init(&self.target, input, self.bindings.as_deref())?;
        self.complete = complete;
        Ok(Step { token, complete })
    }

    /// Protects the integrity of a message, without encryption.
    ///
    /// # Errors
    /// The context is not complete, or the library fails.
    pub fn wrap(&self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, GssError> {
        self.completed()?.wrap(message)
    }

    /// Checks and opens a message of the other side.
    ///
    /// # Errors
    /// The context is not complete, or the message is forged.
    pub fn unwrap(&self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, GssError> {
        self.completed()?.unwrap(message)
    }

    fn completed(&self) -> Result<&Context, GssError> {
        match self.complete {
            true => Ok(&self.context),
            false => Err(GssError::Token("a message before the last token")),
        }
    }
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initiator")
            .field("complete", &self.complete)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_without_a_complete_context() {
        let initiator = Initiator::new("HTTP@vpn.test", None).unwrap();
        assert_eq!(format!("{initiator:?}"), "Initiator { complete: false, .. }");
        let early = Err(GssError::Token("a message before the last token"));
        assert_eq!(initiator.wrap(b"x"), early);
        assert_eq!(initiator.unwrap(b"x"), early);
    }
}
