//! Security contexts: the exchange of tokens, and messages under the keys that it has agreed on.

use std::ptr::{null, null_mut};
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use super::types::{Handle, RawBindings, RawBuffer, SPNEGO};
use super::{Credentials, ERRORS, Gssapi, Name, TICKET};
use crate::{GssError, TOKEN_MAX};

const COMPLETE: u32 = 0;
const CONTINUE_NEEDED: u32 = 1;
/// Routine error: the channel bindings of both sides differ.
const BAD_BINDINGS: u32 = 4 << 16;
/// Both sides prove who they are.
const MUTUAL: u32 = 2;

impl Gssapi {
    /// A context at its start.
    pub(crate) fn context(self) -> Context {
        Context {
            library: self,
            handle: null_mut(),
        }
    }
}

/// A security context of either side.
pub(crate) struct Context {
    library: Gssapi,
    /// Null before the first call.
    handle: Handle,
}

/// A token for the other side, and whether the context is complete.
pub(crate) type Turn = (Zeroizing<Vec<u8>>, bool);

impl Context {
    /// The initiator's next step, with the user's own tickets; `bindings` name the channel.
    pub(crate) fn init(
        &mut self,
        target: &Name,
        input: Option<&[u8]>,
        bindings: Option<&[u8]>,
    ) -> Result<Turn, GssError> {
        let input = checked(input.unwrap_or_default())?;
        let bindings = bindings.map(RawBindings::of);
        let first = self.handle.is_null();
        let (mut minor, mut output) = (0, RawBuffer::empty());
        // SAFETY: the context and the name are the library's own; the other pointers lead to live
        // values of the right types, or are null where that means the default.
        let major = unsafe {
            (self.library.init_context)(
                &raw mut minor,
                null_mut(),
                &raw mut self.handle,
                target.handle,
                &raw const SPNEGO,
                MUTUAL,
                0,
                bindings.as_ref().map_or(null(), std::ptr::from_ref),
                &raw const input,
                null_mut(),
                &raw mut output,
                null_mut(),
                null_mut(),
            )
        };
        let token = self.library.take(output);
        self.library
            .check(TICKET, major, minor)
            .map_err(|error| match first {
                true => self.library.no_ticket().unwrap_or(error),
                false => error,
            })?;
        Ok((token, major & CONTINUE_NEEDED == COMPLETE))
    }

    /// The acceptor's next step; the initiator's name when the context is complete. An initiator that
    /// binds itself to a channel must have named that of `bindings`. Delegated credentials are not
    /// taken.
    pub(crate) fn accept(
        &mut self,
        keys: &Credentials,
        input: &[u8],
        bindings: Option<&[u8]>,
    ) -> Result<(Turn, Option<Name>), GssError> {
        let input = checked(input)?;
        let bindings = bindings.map(RawBindings::of);
        let (mut minor, mut output, mut name) = (0, RawBuffer::empty(), null_mut());
        // SAFETY: as above.
        let major = unsafe {
            (self.library.accept_context)(
                &raw mut minor,
                &raw mut self.handle,
                keys.handle,
                &raw const input,
                bindings.as_ref().map_or(null(), std::ptr::from_ref),
                &raw mut name,
                null_mut(),
                &raw mut output,
                null_mut(),
                null_mut(),
                null_mut(),
            )
        };
        let token = self.library.take(output);
        let name = (!name.is_null()).then_some(Name {
            library: self.library,
            handle: name,
        });
        if major & ERRORS == BAD_BINDINGS {
            return Err(GssError::Bindings);
        }
        self.library
            .check("the client's ticket is not accepted", major, minor)?;
        let complete = major & CONTINUE_NEEDED == COMPLETE;
        Ok(((token, complete), name.filter(|_| complete)))
    }

    /// When the initiator got its first ticket; only of a complete context.
    pub(crate) fn auth_time(&self) -> Result<SystemTime, GssError> {
        // MIT writes 32 bits, Heimdal 64.
        let (mut minor, mut time) = (0, 0i64);
        // SAFETY: a context of the library, and room for either of the two.
        let major = unsafe { (self.library.extract_auth_time)(&raw mut minor, self.handle, &raw mut time) };
        self.library
            .check("cannot tell the age of the client's ticket", major, minor)?;
        let written = match cfg!(target_endian = "big") && time > i64::from(u32::MAX) {
            true => time >> 32,
            false => time,
        };
        let seconds = u64::try_from(written).unwrap_or(0);
        Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    /// Protects the integrity of a message (RFC 2743 §2.3.3).
    pub(crate) fn wrap(&self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, GssError> {
        let (mut minor, mut output) = (0, RawBuffer::empty());
        let input = RawBuffer::of(message);
        // SAFETY: a context of the library; the other pointers lead to live values.
        let major = unsafe {
            (self.library.wrap)(
                &raw mut minor,
                self.handle,
                0,
                0,
                &raw const input,
                null_mut(),
                &raw mut output,
            )
        };
        let wrapped = self.library.take(output);
        self.library.check("cannot protect a message", major, minor)?;
        Ok(wrapped)
    }

    /// Checks and opens a message of the other side.
    pub(crate) fn unwrap(&self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, GssError> {
        let (mut minor, mut output) = (0, RawBuffer::empty());
        let input = checked(message)?;
        // SAFETY: as above.
        let major = unsafe {
            (self.library.unwrap)(
                &raw mut minor,
                self.handle,
                &raw const input,
                &raw mut output,
                null_mut(),
                null_mut(),
            )
        };
        let opened = self.library.take(output);
        self.library.check("a forged message", major, minor)?;
        Ok(opened)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            let mut minor = 0;
            // SAFETY: owned by this value, released once.
            unsafe { (self.library.delete_context)(&raw mut minor, &raw mut self.handle, null_mut()) };
        }
    }
}

// SAFETY: both libraries let an object be used by one thread after another.
unsafe impl Send for Context {}

fn checked(octets: &[u8]) -> Result<RawBuffer, GssError> {
    match octets.len() > TOKEN_MAX {
        true => Err(GssError::Token("the other side's token is too large")),
        false => Ok(RawBuffer::of(octets)),
    }
}
