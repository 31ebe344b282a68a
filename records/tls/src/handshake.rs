use std::io::{self, Read, Write};
use std::sync::Arc;

use culvert_vocab::SecretBytes;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConnection, Connection, ConnectionTrafficSecrets, HandshakeKind, ProtocolVersion, ServerConfig,
    ServerConnection,
};

use crate::finished::{Transcript, VERIFY_DATA_LEN};
use crate::opener::{KeyedOpener, Progress};
use crate::protection::{HANDSHAKE, HEADER_LEN, KeyState, MAX_PLAINTEXT, next_secret, traffic_keys};
use crate::secret_log::{SecretLog, TrafficSecrets};
use crate::signature::{NotingResolver, NotingVerifier, SeenScheme};
use crate::{Cipher, ClientSettings, Negotiated, Opener, Sealer, TlsError, Version};

/// Largest body of a record in any version (RFC 5246 §6.2.3).
const BODY_MAX: usize = MAX_PLAINTEXT + 2048;
/// Octets kept until they are decrypted: two records.
const INPUT_MAX: usize = 2 * (HEADER_LEN + BODY_MAX);
/// Generations of TLS 1.3 keys that are searched at a take-over. Peers do not update keys during
/// the HTTP phase; a handful covers those that do.
const GENERATIONS_MAX: usize = 16;

/// Label of the exporter that names a channel of TLS 1.3 (RFC 9266 §2); no context.
pub const CHANNEL_BINDING_LABEL: &str = "EXPORTER-Channel-Binding";
/// Octets of that name.
pub const CHANNEL_BINDING_LEN: usize = 32;

/// A TLS connection in its first phase: handshake and HTTP.
///
/// Received octets go in by [`Self::handle_input`]; [`Self::poll_plaintext`] gives the content of
/// one record at a time, so the caller can stop exactly after the record that ended the HTTP
/// exchange and call [`Self::into_records`]. Octets to send come out of [`Self::poll_transmit`].
pub struct Handshake {
    connection: Connection,
    secrets: Arc<SecretLog>,
    seen: SeenScheme,
    input: Vec<u8>,
    peer_closed: bool,
    /// For TLS 1.2.
    transcript: Transcript,
    /// Opens what rustls opens after a handshake of TLS 1.3: a message whose beginning rustls has at the
    /// take-over, and of which it does not tell, must be known.
    follower: Option<KeyedOpener>,
}

/// A connection after the take-over.
pub struct Records {
    /// Seals what is sent.
    pub sealer: Sealer,
    /// Opens what is received.
    pub opener: Opener,
    /// Octets that were received but not opened yet; they come before anything else.
    pub unread: Vec<u8>,
}

impl Handshake {
    /// Starts as client. `name` is sent as SNI unless it is an address.
    ///
    /// # Errors
    /// The settings leave nothing to negotiate.
    pub fn client(settings: &ClientSettings, name: ServerName<'static>) -> Result<Self, TlsError> {
        let seen = SeenScheme::default();
        let secrets = Arc::new(SecretLog::default());
        let verifier = NotingVerifier {
            inner: settings.verifier.clone(),
            seen: seen.clone(),
        };
        let mut config = settings.config(Arc::new(verifier))?;
        config.key_log = secrets.clone();
        let connection = ClientConnection::new(Arc::new(config), name)?;
        Ok(Self::new(connection.into(), secrets, seen, Vec::new()))
    }

    /// Starts as server with one configuration whatever the client's SNI; see
    /// [`crate::Acceptor`] for the choice by name.
    ///
    /// # Errors
    /// rustls refuses the configuration.
    pub fn server(config: &ServerConfig) -> Result<Self, TlsError> {
        Self::serve(config, (&[], Vec::new()), |config| {
            Ok(ServerConnection::new(config)?)
        })
    }

    /// Makes a server connection from a clone of `config` that reports to this object alone.
    ///
    /// `hello` are the records of the ClientHello if rustls has them already, `input` what follows.
    pub(crate) fn serve(
        config: &ServerConfig,
        (hello, input): (&[u8], Vec<u8>),
        start: impl FnOnce(Arc<ServerConfig>) -> Result<ServerConnection, TlsError>,
    ) -> Result<Self, TlsError> {
        let seen = SeenScheme::default();
        let secrets = Arc::new(SecretLog::default());
        let mut config = config.clone();
        config.cert_resolver = Arc::new(NotingResolver {
            inner: config.cert_resolver.clone(),
            seen: seen.clone(),
        });
        config.key_log = secrets.clone();
        let mut handshake = Self::new(start(Arc::new(config))?.into(), secrets, seen, input);
        handshake.transcript.records(true, hello);
        Ok(handshake)
    }

    fn new(mut connection: Connection, secrets: Arc<SecretLog>, seen: SeenScheme, input: Vec<u8>) -> Self {
        // With a limit rustls would take a part of a record's plaintext.
        connection.set_buffer_limit(None);
        Self {
            connection,
            secrets,
            seen,
            input,
            peer_closed: false,
            transcript: Transcript::default(),
            follower: None,
        }
    }

    /// Takes received octets and goes on with the handshake. Returns how many were taken: all,
    /// unless two records' worth of data waits for [`Self::poll_plaintext`].
    ///
    /// # Errors
    /// The handshake failed; [`Self::poll_transmit`] has the alert for the peer.
    pub fn handle_input(&mut self, bytes: &[u8]) -> Result<usize, TlsError> {
        let mut taken = 0;
        loop {
            let room = INPUT_MAX.saturating_sub(self.input.len());
            let rest = bytes.get(taken..).unwrap_or_default();
            let part = rest.get(..room).unwrap_or(rest);
            self.input.extend_from_slice(part);
            taken += part.len();
            while self.connection.is_handshaking() && self.process_record()? {}
            if part.is_empty() || taken == bytes.len() {
                return Ok(taken);
            }
        }
    }

    /// Content of the next record with application data, `None` until more input comes or the
    /// peer has closed.
    ///
    /// # Errors
    /// The peer's record is not acceptable; [`Self::poll_transmit`] has the alert for it.
    pub fn poll_plaintext(&mut self) -> Result<Option<Vec<u8>>, TlsError> {
        loop {
            let mut plaintext = Vec::new();
            match self.connection.reader().read_to_end(&mut plaintext) {
                // Only the peer's close_notify makes an end; otherwise rustls would block here.
                Ok(_) => self.peer_closed = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(TlsError::NotTls),
            }
            if !plaintext.is_empty() {
                return Ok(Some(plaintext));
            }
            if !self.process_record()? {
                return Ok(None);
            }
        }
    }

    /// Protects `plaintext` as one record, which waits for [`Self::poll_transmit`].
    ///
    /// # Errors
    /// More than 16384 octets, or the handshake is not complete.
    pub fn write_plaintext(&mut self, plaintext: &[u8]) -> Result<(), TlsError> {
        if plaintext.len() > MAX_PLAINTEXT {
            return Err(TlsError::Oversize(plaintext.len()));
        }
        if self.connection.is_handshaking() {
            return Err(TlsError::Handshaking);
        }
        match self.connection.writer().write(plaintext) {
            Ok(written) if written == plaintext.len() => Ok(()),
            _ => Err(TlsError::PendingOutput),
        }
    }

    /// All octets that wait to be sent, or `None`.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.queue_key_update();
        let mut out = Vec::new();
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut out) {
                Ok(written) if written > 0 => {}
                _ => break,
            }
        }
        self.transcript.records(self.is_client(), &out);
        (!out.is_empty()).then_some(out)
    }

    /// True until both sides have finished the handshake.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// True when the peer has closed its direction and [`Self::poll_plaintext`] has given all data.
    pub fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Queues the alert that closes our direction.
    pub fn close_notify(&mut self) {
        self.connection.send_close_notify();
    }

    fn is_client(&self) -> bool {
        matches!(self.connection, Connection::Client(_))
    }

    /// The peer's certificate chain as sent, leaf first; empty if it sent none.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        self.connection.peer_certificates().unwrap_or_default()
    }

    /// Server side: the name in the client's SNI.
    pub fn server_name(&self) -> Option<&str> {
        match &self.connection {
            Connection::Server(server) => server.server_name(),
            Connection::Client(_) => None,
        }
    }

    /// What was agreed on, once the handshake is complete.
    pub fn negotiated(&self) -> Option<Negotiated> {
        if self.connection.is_handshaking() {
            return None;
        }
        let version = match self.connection.protocol_version()? {
            ProtocolVersion::TLSv1_2 => Version::Tls12,
            ProtocolVersion::TLSv1_3 => Version::Tls13,
            _ => return None,
        };
        let resumed = self.connection.handshake_kind() == Some(HandshakeKind::Resumed);
        Some(Negotiated {
            version,
            cipher: Cipher::of_suite(self.connection.negotiated_cipher_suite()?.suite())?,
            group: self
                .connection
                .negotiated_key_exchange_group()
                .map(|group| group.name()),
            signature: self.seen.get().copied().filter(|_| !resumed),
            resumed,
        })
    }

    /// The session in GnuTLS' words, see [`Negotiated`].
    pub fn description(&self) -> Option<String> {
        self.negotiated().map(|negotiated| negotiated.to_string())
    }

    /// Derives key material for another use (RFC 5705 without context, RFC 8446 §7.5 with an
    /// empty one), for instance the DTLS key (`specs/cstp-dtls.md` §9.1).
    ///
    /// # Errors
    /// The handshake is not complete, or `out` is empty.
    pub fn exporter(&self, label: &str, out: &mut [u8]) -> Result<(), TlsError> {
        self.connection
            .export_keying_material(out, label.as_bytes(), None)?;
        Ok(())
    }

    /// verify_data of the client's Finished in a full handshake of TLS 1.2 (tls-unique, RFC 5929
    /// §3); `None` in TLS 1.3, in a resumed session, and before the handshake is complete.
    pub fn client_finished(&self) -> Option<[u8; VERIFY_DATA_LEN]> {
        let Negotiated {
            version: Version::Tls12,
            cipher,
            resumed: false,
            ..
        } = self.negotiated()?
        else {
            return None;
        };
        self.transcript.client_finished(cipher, &self.secrets.master()?)
    }

    /// Takes the record keys out of rustls. Everything that [`Self::poll_transmit`] gives must
    /// have been taken before.
    ///
    /// # Errors
    /// Output is pending, the handshake is not complete, or the keys cannot be had.
    pub fn into_records(mut self) -> Result<Records, TlsError> {
        if self.connection.is_handshaking() {
            return Err(TlsError::Handshaking);
        }
        self.queue_key_update();
        if self.connection.wants_write() {
            return Err(TlsError::PendingOutput);
        }
        let Negotiated { version, cipher, .. } = self.negotiated().ok_or(TlsError::Cipher)?;
        let (ours, theirs) = self.traffic_secrets();
        let progress = match self.follower.take() {
            Some(follower) => follower.into_parts().1,
            None => Progress::new(self.is_client()),
        };
        let extracted = self.connection.dangerous_extract_secrets()?;
        let (sequence, secrets) = extracted.tx;
        let sending = key_state(version, cipher, sequence, &secrets, ours)?;
        let (sequence, secrets) = extracted.rx;
        let receiving = key_state(version, cipher, sequence, &secrets, theirs)?;
        Ok(Records {
            sealer: Sealer::new(sending)?,
            opener: Opener::new(receiving, progress)?,
            unread: self.input,
        })
    }

    /// rustls holds its answer to a KeyUpdate back until the next write, although it has switched
    /// keys already; a write of nothing brings it out.
    fn queue_key_update(&mut self) {
        if !self.connection.is_handshaking() {
            // An error has been reported by the call that caused it.
            let _ = self.connection.writer().write(&[]);
        }
    }

    /// Gives the first whole record of the input to rustls. False when there is none.
    fn process_record(&mut self) -> Result<bool, TlsError> {
        let Some(record_len) = whole_record(&self.input)? else {
            return Ok(false);
        };
        let mut record = self.input.get(..record_len).unwrap_or_default();
        let is_client = self.is_client();
        self.transcript.records(!is_client, record);
        let tls12 = self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_2);
        if is_client && tls12 && !self.connection.is_handshaking() && record.first() == Some(&HANDSHAKE) {
            return Err(TlsError::Renegotiation);
        }
        let tls13 = self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        let followed = (tls13 && !self.connection.is_handshaking()).then(|| record.to_vec());
        while !record.is_empty() {
            match self.connection.read_tls(&mut record) {
                Ok(read) if read > 0 => {}
                // After close_notify rustls reads no more; what follows has no meaning.
                Ok(_) => break,
                Err(_) => return Err(TlsError::NotTls),
            }
        }
        self.input.drain(..record_len);
        let state = self.connection.process_new_packets()?;
        if let Some(record) = followed.filter(|_| !state.peer_has_closed()) {
            self.follow(record)?;
        }
        Ok(true)
    }

    /// Opens a record with application keys that rustls has just taken.
    fn follow(&mut self, mut record: Vec<u8>) -> Result<(), TlsError> {
        let mut follower = match self.follower.take() {
            Some(follower) => follower,
            None => self.start_following()?,
        };
        follower.open(&mut record)?;
        self.follower = Some(follower);
        Ok(())
    }

    fn start_following(&self) -> Result<KeyedOpener, TlsError> {
        let Negotiated { version, cipher, .. } = self.negotiated().ok_or(TlsError::Cipher)?;
        let (_, theirs) = self.traffic_secrets();
        let secret = theirs.ok_or(TlsError::TrafficSecrets)?;
        let (key, iv) = traffic_keys(cipher, &secret).ok_or(TlsError::TrafficSecrets)?;
        let first = KeyState {
            version,
            cipher,
            key,
            iv,
            sequence: 0,
            traffic_secret: Some(secret),
        };
        KeyedOpener::new(first, Progress::new(self.is_client()))
    }

    /// First generation of the secrets for what we send and for what the peer sends.
    fn traffic_secrets(&self) -> (Option<SecretBytes>, Option<SecretBytes>) {
        let TrafficSecrets { client, server } = self.secrets.traffic();
        match self.is_client() {
            true => (client, server),
            false => (server, client),
        }
    }
}

/// Length of the record at the start of `input`, `None` while it is incomplete.
pub(crate) fn whole_record(input: &[u8]) -> Result<Option<usize>, TlsError> {
    let Some(&[content_type, major, _, high, low]) = input.first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    let len = usize::from(u16::from_be_bytes([high, low]));
    if !(20..=24).contains(&content_type) || major != 3 || len > BODY_MAX {
        return Err(TlsError::NotTls);
    }
    let record_len = HEADER_LEN + len;
    Ok((input.len() >= record_len).then_some(record_len))
}

/// Keys of one direction, with the traffic secret of the right generation.
fn key_state(
    version: Version,
    cipher: Cipher,
    sequence: u64,
    secrets: &ConnectionTrafficSecrets,
    first_secret: Option<SecretBytes>,
) -> Result<KeyState, TlsError> {
    let (key, iv) = match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (key, iv),
        _ => return Err(TlsError::Cipher),
    };
    let key = SecretBytes::new(key.as_ref().to_vec());
    let traffic_secret = match version {
        Version::Tls12 => None,
        Version::Tls13 => Some(current_secret(cipher, &key, first_secret).ok_or(TlsError::TrafficSecrets)?),
    };
    let iv = iv.as_ref().try_into().map_err(|_| TlsError::Cipher)?;
    Ok(KeyState {
        version,
        cipher,
        key,
        iv,
        sequence,
        traffic_secret,
    })
}

/// The generation of the traffic secret that `key` belongs to: the peer may have updated its keys
/// while rustls was in charge.
fn current_secret(cipher: Cipher, key: &SecretBytes, first: Option<SecretBytes>) -> Option<SecretBytes> {
    let mut secret = first?;
    for _ in 0..GENERATIONS_MAX {
        if traffic_keys(cipher, &secret)?.0 == *key {
            return Some(secret);
        }
        secret = next_secret(cipher, &secret)?;
    }
    None
}
