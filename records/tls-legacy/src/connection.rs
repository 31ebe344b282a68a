use std::sync::{Arc, Mutex};

use culvert_tls::{Opener, Records, Sealer, TlsError};
use openssl::ssl::{ErrorCode, SslStream};
use rustls::pki_types::{CertificateDer, ServerName};

use crate::description::{description, group_bits, weaknesses};
use crate::elsewhere::KeyElsewhere;
use crate::judge::Judge;
use crate::lacking::forbid_insecure_renegotiation;
use crate::pipe::Pipe;
use crate::records::{LegacyOpener, LegacySealer};
use crate::settings::{LegacyIdentity, LegacySettings, foreign};

/// Largest content of a record.
const PLAINTEXT_MAX: usize = 16384;
/// A Finished message is no longer than this.
const FINISHED_MAX: usize = 64;
/// Smallest Diffie-Hellman group that is acceptable without `--allow-insecure-crypto`.
const GROUP_BITS_MIN: u32 = 1024;

/// A TLS connection of OpenSSL, with the methods of [`culvert_tls::Handshake`].
pub struct LegacyConnection {
    stream: SslStream<Pipe>,
    judge: Arc<Judge>,
    /// The client's key, if it is in hardware.
    key: Option<Arc<KeyElsewhere>>,
    certificates: Vec<CertificateDer<'static>>,
    /// verify_data of our Finished in the first handshake.
    finished: Vec<u8>,
    insecure: bool,
    handshaking: bool,
    peer_closed: bool,
}

impl LegacyConnection {
    /// Starts as client. `name` is sent as SNI unless it is an address.
    ///
    /// # Errors
    /// OpenSSL refuses the settings or the key.
    pub fn client(settings: &LegacySettings, name: ServerName<'static>) -> Result<Self, TlsError> {
        let judge = Arc::new(Judge::new(settings.verifier.clone(), name.clone()));
        let ssl = settings.client(&name, Arc::clone(&judge))?;
        let stream = SslStream::new(ssl, Pipe::default()).map_err(foreign)?;
        let mut connection = Self {
            stream,
            judge,
            key: settings.identity.as_ref().and_then(LegacyIdentity::elsewhere),
            certificates: Vec::new(),
            finished: Vec::new(),
            insecure: settings.insecure,
            handshaking: true,
            peer_closed: false,
        };
        connection.advance()?;
        Ok(connection)
    }

    /// Takes received octets, all of them, and goes on with the handshake.
    ///
    /// # Errors
    /// The handshake failed; [`Self::poll_transmit`] has the alert for the peer.
    pub fn handle_input(&mut self, bytes: &[u8]) -> Result<usize, TlsError> {
        self.stream.get_mut().input.extend(bytes);
        if self.handshaking {
            self.advance()?;
        }
        Ok(bytes.len())
    }

    /// Content of the next record with application data, `None` until more input comes or the
    /// peer has closed. A renegotiation goes on here; [`Self::poll_transmit`] has its messages.
    ///
    /// # Errors
    /// The peer's record is not acceptable; [`Self::poll_transmit`] has the alert for it.
    pub fn poll_plaintext(&mut self) -> Result<Option<Vec<u8>>, TlsError> {
        if self.handshaking || self.peer_closed {
            return Ok(None);
        }
        let mut plaintext = vec![0; PLAINTEXT_MAX];
        match self.stream.ssl_read(&mut plaintext) {
            Ok(len) => {
                plaintext.truncate(len);
                Ok(Some(plaintext))
            }
            Err(error) => match error.code() {
                ErrorCode::WANT_READ | ErrorCode::WANT_WRITE => Ok(None),
                ErrorCode::ZERO_RETURN => {
                    self.peer_closed = true;
                    Ok(None)
                }
                _ => Err(self.failure(error)),
            },
        }
    }

    /// Protects `plaintext` as one record, which waits for [`Self::poll_transmit`].
    ///
    /// # Errors
    /// More than 16384 octets, or a handshake goes on.
    pub fn write_plaintext(&mut self, plaintext: &[u8]) -> Result<(), TlsError> {
        if plaintext.len() > PLAINTEXT_MAX {
            return Err(TlsError::Oversize(plaintext.len()));
        }
        if self.handshaking {
            return Err(TlsError::Handshaking);
        }
        if plaintext.is_empty() {
            return Ok(());
        }
        match self.stream.ssl_write(plaintext) {
            Ok(_) => Ok(()),
            Err(error) if error.code() == ErrorCode::WANT_READ => Err(TlsError::Handshaking),
            Err(error) => Err(self.failure(error)),
        }
    }

    /// All octets that wait to be sent, or `None`.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        let output = std::mem::take(&mut self.stream.get_mut().output);
        (!output.is_empty()).then_some(output)
    }

    /// True until both sides have finished the first handshake.
    pub fn is_handshaking(&self) -> bool {
        self.handshaking
    }

    /// True when the peer has closed its direction and [`Self::poll_plaintext`] has given all data.
    pub fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// The server's certificate and those of its others that lead to its issuer.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// The session in GnuTLS' words, once the handshake is complete.
    pub fn description(&self) -> Option<String> {
        description(self.stream.ssl()).filter(|_| !self.handshaking)
    }

    /// What is weak about the session, in words; empty if nothing is.
    pub fn weaknesses(&self) -> Vec<String> {
        weaknesses(self.stream.ssl())
    }

    /// True when the session is one of TLS 1.3.
    pub fn is_tls13(&self) -> bool {
        self.stream.ssl().version_str() == "TLSv1.3"
    }

    /// Derives key material for another use (RFC 5705 without context).
    ///
    /// # Errors
    /// The handshake is not complete.
    pub fn exporter(&self, label: &str, out: &mut [u8]) -> Result<(), TlsError> {
        if self.handshaking {
            return Err(TlsError::Handshaking);
        }
        self.stream
            .ssl()
            .export_keying_material(out, label, None)
            .map_err(foreign)
    }

    /// verify_data of the client's Finished (tls-unique, RFC 5929 §3); `None` in TLS 1.3.
    pub fn client_finished(&self) -> Option<&[u8]> {
        (!self.finished.is_empty() && !self.is_tls13()).then_some(&self.finished)
    }

    /// Ends the HTTP phase. Everything that [`Self::poll_transmit`] gives must have been taken before.
    ///
    /// # Errors
    /// Output is pending, or the handshake is not complete.
    pub fn into_records(mut self) -> Result<Records, TlsError> {
        if self.handshaking {
            return Err(TlsError::Handshaking);
        }
        let pipe = self.stream.get_mut();
        if !pipe.output.is_empty() {
            return Err(TlsError::PendingOutput);
        }
        let unread = std::mem::take(&mut pipe.input).into();
        let shared = Arc::new(Mutex::new(self.stream));
        Ok(Records {
            sealer: Sealer::foreign(Box::new(LegacySealer(Arc::clone(&shared)))),
            opener: Opener::foreign(Box::new(LegacyOpener(shared))),
            unread,
        })
    }

    fn advance(&mut self) -> Result<(), TlsError> {
        match self.stream.do_handshake() {
            Ok(()) => self.complete(),
            Err(error) if matches!(error.code(), ErrorCode::WANT_READ | ErrorCode::WANT_WRITE) => Ok(()),
            Err(error) => Err(self.failure(error)),
        }
    }

    fn complete(&mut self) -> Result<(), TlsError> {
        let ssl = self.stream.ssl();
        self.certificates = self.judge.accepted();
        let leaf = ssl.peer_certificate().and_then(|leaf| leaf.to_der().ok());
        if leaf.is_none() || self.certificates.first().map(|leaf| leaf.to_vec()) != leaf {
            return Err(TlsError::Foreign(
                "the server's certificate was not verified".into(),
            ));
        }
        if let Some(bits) = group_bits(ssl)
            && bits < GROUP_BITS_MIN
            && !self.insecure
        {
            return Err(TlsError::Foreign(format!(
                "the server's Diffie-Hellman group has only {bits} bits"
            )));
        }
        if !self.insecure {
            forbid_insecure_renegotiation(ssl);
        }
        let mut finished = [0; FINISHED_MAX];
        let len = ssl.finished(&mut finished);
        self.finished = finished.get(..len).unwrap_or_default().to_vec();
        self.handshaking = false;
        Ok(())
    }

    fn failure(&self, error: openssl::ssl::Error) -> TlsError {
        if let Some(refusal) = self.judge.refusal() {
            return TlsError::Tls(refusal);
        }
        if let Some(text) = self.key.as_ref().and_then(|key| key.take_failure()) {
            return TlsError::Foreign(format!("the client's key cannot sign: {text}"));
        }
        match error.ssl_error() {
            Some(stack) => foreign(stack.clone()),
            None => TlsError::Foreign("the server closed the connection".into()),
        }
    }
}
