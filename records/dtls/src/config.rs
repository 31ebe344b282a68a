//! What the two sides are told before a handshake.

use std::time::Duration;

use culvert_vocab::SecretBytes;

use crate::handshake::keys::MASTER_SECRET_LEN;
use crate::{CipherSuite, Error, Version};

/// Largest handshake datagram unless configured otherwise: fits every IPv6 path (1280 - 40 - 8).
const DEFAULT_MTU: usize = 1232;
/// Longest session id.
const MAX_SESSION_ID: usize = 32;
/// Longest vector with a length of two octets.
const MAX_VECTOR: usize = u16::MAX as usize;

/// What a client is told.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The pre-shared key (`specs/cstp-dtls.md` §9.1), at most 65535 octets.
    pub psk: SecretBytes,
    /// PSK identity, at most 65535 octets; AnyConnect uses `psk`.
    pub identity: Vec<u8>,
    /// Sent as session id: the App-ID of AnyConnect, at most 32 octets, or empty.
    pub app_id: Vec<u8>,
    /// Suites to offer, most wanted first.
    pub suites: Vec<CipherSuite>,
    /// Largest handshake datagram in octets (UDP payload). Application data is not limited by it.
    pub mtu: usize,
    /// Offer the extended master secret.
    pub extended_master_secret: bool,
    /// Offer encrypt-then-MAC for the CBC suites.
    pub encrypt_then_mac: bool,
    /// First retransmission of a flight; doubles each time.
    pub first_retransmission: Duration,
    /// Longest time that a handshake may take.
    pub handshake_limit: Duration,
}

impl ClientConfig {
    /// The usual configuration: identity `psk`, all suites, retransmission after 1 s, 12 s in all.
    pub fn new(psk: SecretBytes, app_id: Vec<u8>) -> Self {
        Self {
            psk,
            identity: b"psk".to_vec(),
            app_id,
            suites: CipherSuite::PSK.to_vec(),
            mtu: DEFAULT_MTU,
            extended_master_secret: true,
            encrypt_then_mac: true,
            first_retransmission: Duration::from_secs(1),
            handshake_limit: Duration::from_secs(12),
        }
    }

    /// Checks that every field fits its message.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if self.app_id.len() > MAX_SESSION_ID {
            return Err(Error::Configuration("the App-ID is longer than 32 octets"));
        }
        if self.identity.len() > MAX_VECTOR {
            return Err(Error::Configuration(
                "the PSK identity is longer than 65535 octets",
            ));
        }
        validate_common(&self.psk, &self.suites)
    }
}

/// What a server is told.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The pre-shared key of this client. The identity that the client sends is ignored, as
    /// ocserv does: the client was found by its App-ID.
    pub psk: SecretBytes,
    /// Suites to accept, most wanted first; the first that the client offers is taken.
    pub suites: Vec<CipherSuite>,
    /// Largest handshake datagram in octets (UDP payload). Application data is not limited by it.
    pub mtu: usize,
    /// Agree to the extended master secret when the client offers it.
    pub extended_master_secret: bool,
    /// Agree to encrypt-then-MAC when the client offers it.
    pub encrypt_then_mac: bool,
    /// Demand a cookie (HelloVerifyRequest) before answering. AnyConnect does not: its App-ID
    /// takes that role.
    pub cookie_exchange: bool,
    /// A rehandshake sooner than this after the previous handshake ends the association.
    pub min_rehandshake_interval: Option<Duration>,
    /// First retransmission of a flight; doubles each time.
    pub first_retransmission: Duration,
    /// Longest time that a handshake may take.
    pub handshake_limit: Duration,
}

impl ServerConfig {
    /// The usual configuration: all suites, no cookie, retransmission after 400 ms, 60 s in all.
    pub fn new(psk: SecretBytes) -> Self {
        Self {
            psk,
            suites: CipherSuite::PSK.to_vec(),
            mtu: DEFAULT_MTU,
            extended_master_secret: true,
            encrypt_then_mac: true,
            cookie_exchange: false,
            min_rehandshake_interval: None,
            first_retransmission: Duration::from_millis(400),
            handshake_limit: Duration::from_secs(60),
        }
    }

    /// Checks that every field fits its message.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        validate_common(&self.psk, &self.suites)
    }
}

fn validate_common(psk: &SecretBytes, suites: &[CipherSuite]) -> Result<(), Error> {
    if psk.is_empty() || psk.len() > MAX_VECTOR {
        return Err(Error::Configuration(
            "the pre-shared key must have 1 to 65535 octets",
        ));
    }
    validate_suites(suites, &CipherSuite::PSK)
}

fn validate_suites(suites: &[CipherSuite], possible: &[CipherSuite]) -> Result<(), Error> {
    if suites.is_empty() {
        return Err(Error::Configuration("no cipher suite is allowed"));
    }
    match suites.iter().all(|suite| possible.contains(suite)) {
        true => Ok(()),
        false => Err(Error::Configuration(
            "a cipher suite of another kind of handshake",
        )),
    }
}

/// What either side is told before it resumes a session that both only pretend to have had
/// (`specs/cstp-dtls.md` §10, §11).
#[derive(Debug, Clone)]
pub struct ResumptionConfig {
    /// Version of the protocol; no other is spoken.
    pub version: Version,
    /// The session's master secret, 48 octets.
    pub master_secret: SecretBytes,
    /// The session's id, 1 to 32 octets.
    pub session_id: Vec<u8>,
    /// Suites to offer or to accept, most wanted first; AnyConnect agrees on one beforehand.
    pub suites: Vec<CipherSuite>,
    /// Largest handshake datagram in octets (UDP payload). Application data is not limited by it.
    pub mtu: usize,
    /// First retransmission of a flight; doubles each time.
    pub first_retransmission: Duration,
    /// Longest time that a handshake may take.
    pub handshake_limit: Duration,
}

impl ResumptionConfig {
    /// The usual configuration of a client: retransmission after 1 s, 12 s in all.
    pub fn client(
        version: Version,
        suite: CipherSuite,
        master_secret: SecretBytes,
        session_id: Vec<u8>,
    ) -> Self {
        Self {
            version,
            master_secret,
            session_id,
            suites: vec![suite],
            mtu: DEFAULT_MTU,
            first_retransmission: Duration::from_secs(1),
            handshake_limit: Duration::from_secs(12),
        }
    }

    /// The usual configuration of a server: retransmission after 400 ms, 60 s in all.
    pub fn server(
        version: Version,
        suite: CipherSuite,
        master_secret: SecretBytes,
        session_id: Vec<u8>,
    ) -> Self {
        Self {
            first_retransmission: Duration::from_millis(400),
            handshake_limit: Duration::from_secs(60),
            ..Self::client(version, suite, master_secret, session_id)
        }
    }

    /// Checks that every field fits its message, and the suites the version.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if self.master_secret.len() != MASTER_SECRET_LEN {
            return Err(Error::Configuration("the master secret must have 48 octets"));
        }
        if !(1..=MAX_SESSION_ID).contains(&self.session_id.len()) {
            return Err(Error::Configuration("the session id must have 1 to 32 octets"));
        }
        match self.version {
            Version::Dtls12 => validate_suites(&self.suites, &CipherSuite::RESUMED),
            Version::Dtls09 => validate_suites(&self.suites, &CipherSuite::RESUMED_SHA1),
            Version::Dtls10 => Err(Error::Configuration("no session is resumed in DTLS 1.0")),
        }
    }
}

/// Source of random octets for handshakes. Tests replay recorded ones.
pub trait Random: Send {
    /// Fills `out`.
    ///
    /// # Errors
    /// [`Error::Random`] when the source fails.
    fn fill(&mut self, out: &mut [u8]) -> Result<(), Error>;
}

/// The random generator of aws-lc.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), Error> {
        aws_lc_rs::rand::fill(out).map_err(|_| Error::Random)
    }
}
