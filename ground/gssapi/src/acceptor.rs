//! A server's side.

use std::path::Path;
use std::time::SystemTime;

use zeroize::Zeroizing;

use crate::ffi::{self, Context, Gssapi, Name};
use crate::{GssError, Step};

/// The keys of a server, for Kerberos within SPNEGO.
pub struct Credentials(ffi::Credentials);

impl Credentials {
    /// Loads the library, and the keys of `keytab` or else of the host's. Those of every
    /// principal in there count. MIT's library knows one keytab at a time, so a process loads one.
    ///
    /// # Errors
    /// The library is not there, or there is no key.
    pub fn load(keytab: Option<&Path>) -> Result<Self, GssError> {
        Gssapi::load()?.server_credentials(keytab).map(Self)
    }
}

/// The side of a server towards one client.
pub struct Acceptor<'c> {
    credentials: &'c Credentials,
    context: Context,
    bindings: Option<Vec<u8>>,
    client: Option<Name>,
}

impl<'c> Acceptor<'c> {
    /// At the start. `bindings` name the channel to the client, as application data of channel bindings
    /// (`tls-exporter:` and the value; RFC 5801 §3, RFC 5929). A client that binds itself to a channel must mean
    /// this one; one that does not may come over any. Without a name nothing is looked at.
    pub fn new(credentials: &'c Credentials, bindings: Option<Vec<u8>>) -> Self {
        Self {
            credentials,
            context: credentials.0.library().context(),
            bindings,
            client: None,
        }
    }

    /// Takes the client's token; gives the answer to it.
    ///
    /// # Errors
    /// The client's token is no good; the reason is for the log, not for the client.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, GssError> {
        if self.client.is_some() {
            return Err(GssError::Token("a token after the last one"));
        }
        if input.is_empty() {
            return Err(GssError::Token("an empty token"));
        }
        let bindings = self.bindings.as_deref();
        let ((token, complete), name) = self.context.accept(&self.credentials.0, input, bindings)?;
        if complete && name.is_none() {
            return Err(GssError::Token("a client without a name"));
        }
        self.client = name;
        Ok(Step { token, complete })
    }

    /// Who the client is; `None` until a step was complete.
    pub fn accepted(&self) -> Option<Accepted<'_>> {
        let name = self.client.as_ref()?;
        Some(Accepted {
            name,
            context: &self.context,
        })
    }
}

/// A client whose ticket was accepted.
pub struct Accepted<'a> {
    name: &'a Name,
    context: &'a Context,
}

impl Accepted<'_> {
    /// The principal: `user@REALM`.
    ///
    /// # Errors
    /// The library fails.
    pub fn principal(&self) -> Result<String, GssError> {
        self.name.display()
    }

    /// The user of this host that the principal stands for, by the rules of krb5.conf(5).
    ///
    /// # Errors
    /// There is none.
    pub fn local_user(&self) -> Result<String, GssError> {
        self.name.local()
    }

    /// Protects the integrity of a message for the client, without encryption.
    ///
    /// # Errors
    /// The library fails.
    pub fn wrap(&self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, GssError> {
        self.context.wrap(message)
    }

    /// Checks and opens a message of the client.
    ///
    /// # Errors
    /// The message is forged.
    pub fn unwrap(&self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, GssError> {
        self.context.unwrap(message)
    }

    /// When the client has proven its password or key to the KDC.
    ///
    /// # Errors
    /// The library cannot tell.
    pub fn auth_time(&self) -> Result<SystemTime, GssError> {
        self.context.auth_time()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::sync::{Mutex, MutexGuard};

    use proptest::prelude::*;

    use super::*;
    use crate::TOKEN_MAX;

    /// For the one keytab of the process.
    fn turn() -> MutexGuard<'static, ()> {
        static TURN: Mutex<()> = Mutex::new(());
        TURN.lock().unwrap()
    }

    /// A keytab (version 2) with one AES key of `HTTP/vpn.test@TEST`.
    fn keytab(dir: &Path) -> PathBuf {
        let counted = |text: &[u8]| [&(text.len() as u16).to_be_bytes()[..], text].concat();
        let entry = [
            &2u16.to_be_bytes()[..],
            &counted(b"TEST"),
            &counted(b"HTTP"),
            &counted(b"vpn.test"),
            &1u32.to_be_bytes(),
            &0u32.to_be_bytes(),
            &[1],
            &17u16.to_be_bytes(),
            &counted(&[7; 16]),
        ]
        .concat();
        let content = [&[5, 2][..], &(entry.len() as u32).to_be_bytes(), &entry].concat();
        let path = dir.join("keytab");
        fs::write(&path, content).unwrap();
        path
    }

    #[test]
    fn a_keytab_is_needed() {
        let (_turn, dir) = (turn(), tempfile::tempdir().unwrap());
        let error = Credentials::load(Some(&dir.path().join("absent"))).err().unwrap();
        assert!(
            error.to_string().starts_with("cannot use the keytab: ") && error.to_string().contains("absent"),
            "{error}"
        );
        let empty = dir.path().join("empty");
        fs::write(&empty, [5, 2]).unwrap();
        assert!(Credentials::load(Some(&empty)).is_err());
    }

    #[test]
    fn tokens_that_are_none() {
        let (_turn, dir) = (turn(), tempfile::tempdir().unwrap());
        let credentials = Credentials::load(Some(&keytab(dir.path()))).unwrap();
        let ntlm = b"NTLMSSP\0\x01\0\0\0\x05\x82\x08\0";
        for token in [&b""[..], b"x", ntlm, &[0x60; 100], &vec![0; TOKEN_MAX + 1]] {
            let mut acceptor = Acceptor::new(&credentials, Some(b"tls-exporter:x".to_vec()));
            let result = acceptor.step(token);
            assert!(result.is_err(), "{result:?}");
            assert!(acceptor.accepted().is_none());
        }
    }

    proptest! {
        #[test]
        fn never_panics(tokens in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..3)) {
            let (_turn, dir) = (turn(), tempfile::tempdir().unwrap());
            let credentials = Credentials::load(Some(&keytab(dir.path()))).unwrap();
            let mut acceptor = Acceptor::new(&credentials, Some(b"tls-exporter:x".to_vec()));
            for token in tokens {
                let _ = acceptor.step(&token);
                prop_assert!(acceptor.accepted().is_none());
            }
        }
    }
}
