//! A server's side.

use std::path::Path;
use std::time::SystemTime;

use zeroize::Zeroizing;

use crate::ffi::{self, Context, Gssapi, Name};
use crate::{GssError, Step};

/// The keys of a server, for Kerberos within SPNEGO.
pub struct Credentials {
    keys: ffi::Credentials,
    /// For a look at a ticket before it counts; not with every library.
    trial: Option<ffi::Credentials>,
}

impl Credentials {
    /// Loads the library, and the keys of `keytab` or else of the host's. Those of every
    /// principal in there count. MIT's library knows one keytab at a time, so a process loads one.
    ///
    /// # Errors
    /// The library is not there, or there is no key.
    pub fn load(keytab: Option<&Path>) -> Result<Self, GssError> {
        let library = Gssapi::load()?;
        Ok(Self {
            keys: library.server_credentials(keytab)?,
            trial: library.trial_credentials()?,
        })
    }
}

/// What names the channel to a client, as application data of channel bindings (kind, colon and value;
/// RFC 5801 §3, RFC 5929). A client that binds itself to a channel must mean this one; one that does not
/// may come over any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// A name of this channel and no other, as `tls-exporter:` and the value; empty: it has none.
    pub unique: Vec<u8>,
    /// The name of its end on this side, as `tls-server-end-point:` and the value. Only MIT's library
    /// takes it beside the other one.
    pub end_point: Option<Vec<u8>>,
}

/// The side of a server towards one client.
pub struct Acceptor<'c> {
    credentials: &'c Credentials,
    context: Context,
    channel: Option<Channel>,
    /// Sees each token first, as if the channel had the name of its end alone; `None` once that is
    /// wrong.
    trial: Option<Context>,
    client: Option<Name>,
}

impl<'c> Acceptor<'c> {
    /// At the start. Without a `channel` nothing is looked at.
    pub fn new(credentials: &'c Credentials, channel: Option<Channel>) -> Self {
        let library = credentials.keys.library();
        let end_point = channel.as_ref().and_then(|channel| channel.end_point.as_ref());
        Self {
            credentials,
            context: library.context(),
            trial: end_point.map(|_| library.context()),
            channel,
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
        let means_end_point = self.means_end_point(input);
        let bindings = self.channel.as_ref().map(|channel| match &channel.end_point {
            Some(end_point) if means_end_point => end_point.as_slice(),
            _ => channel.unique.as_slice(),
        });
        let ((token, complete), name) = self.context.accept(&self.credentials.keys, input, bindings)?;
        if complete && name.is_none() {
            return Err(GssError::Token("a client without a name"));
        }
        self.client = name;
        Ok(Step { token, complete })
    }

    /// Whether the client's token is good for the channel's end by name. The library compares with one name
    /// at a time, and takes a ticket once; nothing of a trial counts but this answer.
    fn means_end_point(&mut self, input: &[u8]) -> bool {
        let keys = self.credentials.trial.as_ref();
        let end_point = self
            .channel
            .as_ref()
            .and_then(|channel| channel.end_point.as_deref());
        let (Some(keys), Some(trial)) = (keys, &mut self.trial) else {
            return false;
        };
        let good = trial.accept(keys, input, end_point).is_ok();
        if !good {
            self.trial = None;
        }
        good
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

    fn channel() -> Option<Channel> {
        Some(Channel {
            unique: b"tls-exporter:x".to_vec(),
            end_point: Some(b"tls-server-end-point:x".to_vec()),
        })
    }

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
            let mut acceptor = Acceptor::new(&credentials, channel());
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
            let mut acceptor = Acceptor::new(&credentials, channel());
            for token in tokens {
                let _ = acceptor.step(&token);
                prop_assert!(acceptor.accepted().is_none());
            }
        }
    }
}
