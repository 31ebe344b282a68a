//! A TLS connection in its HTTP phase: rustls, or OpenSSL for gateways that rustls refuses
//! (`specs/client.md` §10.5).

use culvert_tls::{
    CHANNEL_BINDING_LABEL, CHANNEL_BINDING_LEN, ClientSettings, Handshake, Records, TlsError, Version,
};
#[cfg(feature = "legacy-tls")]
use culvert_tls_legacy::{LegacyConnection, LegacySettings};
use rustls::{AlertDescription, Error as RustlsError};
use rustls_pki_types::{CertificateDer, ServerName};

/// A TLS connection of either library.
pub(crate) enum Tls {
    /// rustls.
    Modern(Box<Handshake>),
    /// OpenSSL.
    #[cfg(feature = "legacy-tls")]
    Legacy(Box<LegacyConnection>),
}

/// The same expression for either library.
macro_rules! either {
    ($self:expr, $tls:ident => $expression:expr) => {
        match $self {
            Tls::Modern($tls) => $expression,
            #[cfg(feature = "legacy-tls")]
            Tls::Legacy($tls) => $expression,
        }
    };
}

impl Tls {
    /// Starts a handshake of rustls.
    ///
    /// # Errors
    /// The settings leave nothing to negotiate.
    pub(super) fn modern(settings: &ClientSettings, name: ServerName<'static>) -> Result<Self, TlsError> {
        Ok(Self::Modern(Box::new(Handshake::client(settings, name)?)))
    }

    /// Starts a handshake of OpenSSL.
    ///
    /// # Errors
    /// OpenSSL refuses the settings.
    #[cfg(feature = "legacy-tls")]
    pub(super) fn legacy(settings: &LegacySettings, name: ServerName<'static>) -> Result<Self, TlsError> {
        Ok(Self::Legacy(Box::new(LegacyConnection::client(settings, name)?)))
    }

    /// See [`Handshake::handle_input`].
    pub(super) fn handle_input(&mut self, bytes: &[u8]) -> Result<usize, TlsError> {
        either!(self, tls => tls.handle_input(bytes))
    }

    /// See [`Handshake::poll_plaintext`].
    pub(super) fn poll_plaintext(&mut self) -> Result<Option<Vec<u8>>, TlsError> {
        either!(self, tls => tls.poll_plaintext())
    }

    /// See [`Handshake::write_plaintext`].
    pub(super) fn write_plaintext(&mut self, plaintext: &[u8]) -> Result<(), TlsError> {
        either!(self, tls => tls.write_plaintext(plaintext))
    }

    /// See [`Handshake::poll_transmit`].
    pub(super) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        either!(self, tls => tls.poll_transmit())
    }

    /// See [`Handshake::is_handshaking`].
    pub(super) fn is_handshaking(&self) -> bool {
        either!(self, tls => tls.is_handshaking())
    }

    /// See [`Handshake::peer_closed`].
    pub(super) fn peer_closed(&self) -> bool {
        either!(self, tls => tls.peer_closed())
    }

    /// The server's certificate chain, leaf first.
    pub(crate) fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        either!(self, tls => tls.peer_certificates())
    }

    /// The session in GnuTLS' words.
    pub(crate) fn description(&self) -> Option<String> {
        either!(self, tls => tls.description())
    }

    /// See [`Handshake::exporter`].
    ///
    /// # Errors
    /// The handshake is not complete.
    pub(crate) fn exporter(&self, label: &str, out: &mut [u8]) -> Result<(), TlsError> {
        either!(self, tls => tls.exporter(label, out))
    }

    /// True when the session is one of TLS 1.3, whose keys can be renewed.
    pub(crate) fn is_tls13(&self) -> bool {
        match self {
            Self::Modern(tls) => {
                tls.negotiated().map(|negotiated| negotiated.version) == Some(Version::Tls13)
            }
            #[cfg(feature = "legacy-tls")]
            Self::Legacy(tls) => tls.is_tls13(),
        }
    }

    /// What names this channel and no other, with the kind of the name: "tls-exporter" (RFC 9266), before
    /// TLS 1.3 "tls-unique" (RFC 5929 §3).
    pub(crate) fn channel_binding(&self) -> Option<(&'static str, Vec<u8>)> {
        if self.is_tls13() {
            let mut name = vec![0; CHANNEL_BINDING_LEN];
            self.exporter(CHANNEL_BINDING_LABEL, &mut name).ok()?;
            return Some(("tls-exporter", name));
        }
        let name = match self {
            Self::Modern(tls) => tls.client_finished()?.to_vec(),
            #[cfg(feature = "legacy-tls")]
            Self::Legacy(tls) => tls.client_finished()?.to_vec(),
        };
        Some(("tls-unique", name))
    }

    /// What is weak about the session, in words; with rustls that can only be the server's signature.
    pub(super) fn weaknesses(&self) -> Vec<String> {
        match self {
            Self::Modern(tls) => {
                let description = tls.description();
                let weak = description.is_some_and(|text| text.contains("-SHA1)"));
                weak.then(|| "a signature with SHA-1".to_owned())
                    .into_iter()
                    .collect()
            }
            #[cfg(feature = "legacy-tls")]
            Self::Legacy(tls) => tls.weaknesses(),
        }
    }

    /// See [`Handshake::into_records`].
    ///
    /// # Errors
    /// Output is pending, the handshake is not complete, or the keys cannot be had.
    pub(crate) fn into_records(self) -> Result<Records, TlsError> {
        either!(self, tls => tls.into_records())
    }
}

/// True when a handshake failed in a way in which those with old gateways fail: of rustls, because
/// the server is old; of OpenSSL, because it only knows what nobody has allowed.
pub(super) fn may_be_old_gateway(error: &TlsError) -> bool {
    let TlsError::Tls(error) = error else {
        return matches!(error, TlsError::Renegotiation | TlsError::Foreign(_));
    };
    match error {
        RustlsError::PeerIncompatible(_) | RustlsError::PeerMisbehaved(_) => true,
        RustlsError::AlertReceived(alert) => matches!(
            alert,
            AlertDescription::HandshakeFailure
                | AlertDescription::ProtocolVersion
                | AlertDescription::InsufficientSecurity
                | AlertDescription::IllegalParameter
                | AlertDescription::InternalError
                | AlertDescription::DecodeError
                | AlertDescription::UnexpectedMessage
        ),
        _ => false,
    }
}
