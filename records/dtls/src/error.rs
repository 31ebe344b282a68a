//! Why an association failed, and the alerts that say so to the peer.

use crate::CipherSuite;

/// Why an association failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No answer of the peer completed the handshake in time.
    #[error("DTLS handshake timed out")]
    Timeout,
    /// As [`Error::Timeout`], and the peer had sent an alert that nothing authenticated.
    #[error("DTLS handshake timed out; the peer had sent alert {0}")]
    TimeoutAfterAlert(AlertDescription),
    /// A handshake message cannot be parsed; the name of the message.
    #[error("malformed DTLS handshake message: {0}")]
    Malformed(&'static str),
    /// A handshake message arrived where the protocol has no place for it; its type number.
    #[error("unexpected DTLS handshake message of type {0}")]
    UnexpectedMessage(u8),
    /// The peer does not speak DTLS 1.2; what it offered or chose.
    #[error("the peer speaks DTLS version {0:#06x}, not 1.2")]
    Version(u16),
    /// The server answered a resumption with another version; which.
    #[error("the DTLS server chose version {0:#06x}, which was not offered")]
    OtherVersion(u16),
    /// The server does not resume the session but begins another one, or the client did not ask
    /// for the session.
    #[error("the DTLS peer does not resume the session: possibly somebody in between")]
    ResumptionRefused,
    /// Client and server have no cipher suite in common.
    #[error("no DTLS cipher suite in common with the client")]
    NoCommonSuite,
    /// The server chose a suite that was not offered; its number.
    #[error("the DTLS server chose cipher suite {0:#06x}, which was not offered")]
    SuiteNotOffered(u16),
    /// The server chose something else that was not offered; its name.
    #[error("the DTLS server chose {0}, which was not offered")]
    NotOffered(&'static str),
    /// The random value of a ClientHello is all zero (GnuTLS 3.6.3-3.6.12).
    #[error("the random value of the DTLS ClientHello is all zero")]
    ZeroRandom,
    /// The cookie of the second ClientHello is wrong.
    #[error("wrong cookie in the DTLS ClientHello")]
    Cookie,
    /// The peer's renegotiation_info does not match the previous handshake.
    #[error("renegotiation_info of the DTLS peer does not match")]
    RenegotiationInfo,
    /// The client began a rehandshake sooner than allowed.
    #[error("the client began a DTLS rehandshake too early")]
    RehandshakeTooEarly,
    /// The Finished message of the peer is wrong.
    #[error("the DTLS Finished message of the peer is wrong")]
    Finished,
    /// The peer ended the association in an orderly way.
    #[error("the peer closed the DTLS association")]
    ClosedByPeer,
    /// This side ended the association.
    #[error("the DTLS association was closed")]
    Closed,
    /// The peer ended the association with an authenticated alert.
    #[error("the DTLS peer sent alert {0}")]
    Alert(AlertDescription),
    /// The record sequence numbers of a key are used up.
    #[error("the DTLS record sequence numbers are exhausted")]
    Exhausted,
    /// The configuration cannot be used; what is wrong with it.
    #[error("DTLS configuration: {0}")]
    Configuration(&'static str),
    /// Keys (of a handed-over association) do not fit their cipher suite.
    #[error("DTLS keys do not fit suite {0:?}")]
    Keys(CipherSuite),
    /// The random generator failed.
    #[error("the random generator failed")]
    Random,
}

impl Error {
    /// The alert that tells the peer, if any does.
    pub(crate) fn alert(&self) -> Option<AlertDescription> {
        use AlertDescription as Alert;
        match self {
            Self::Malformed(_) => Some(Alert::DECODE_ERROR),
            Self::UnexpectedMessage(_) => Some(Alert::UNEXPECTED_MESSAGE),
            Self::Version(_) | Self::OtherVersion(_) => Some(Alert::PROTOCOL_VERSION),
            Self::NoCommonSuite | Self::RenegotiationInfo | Self::ResumptionRefused => {
                Some(Alert::HANDSHAKE_FAILURE)
            }
            Self::SuiteNotOffered(_) | Self::ZeroRandom | Self::Cookie => Some(Alert::ILLEGAL_PARAMETER),
            Self::NotOffered(_) => Some(Alert::UNSUPPORTED_EXTENSION),
            Self::RehandshakeTooEarly => Some(Alert::NO_RENEGOTIATION),
            Self::Finished => Some(Alert::DECRYPT_ERROR),
            Self::Random | Self::Exhausted => Some(Alert::INTERNAL_ERROR),
            Self::Closed => Some(Alert::CLOSE_NOTIFY),
            Self::Timeout
            | Self::TimeoutAfterAlert(_)
            | Self::ClosedByPeer
            | Self::Alert(_)
            | Self::Configuration(_)
            | Self::Keys(_) => None,
        }
    }
}

/// Number of an alert (RFC 5246 §7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlertDescription(pub u8);

impl AlertDescription {
    pub(crate) const CLOSE_NOTIFY: Self = Self(0);
    pub(crate) const UNEXPECTED_MESSAGE: Self = Self(10);
    pub(crate) const HANDSHAKE_FAILURE: Self = Self(40);
    pub(crate) const ILLEGAL_PARAMETER: Self = Self(47);
    pub(crate) const DECODE_ERROR: Self = Self(50);
    pub(crate) const DECRYPT_ERROR: Self = Self(51);
    pub(crate) const PROTOCOL_VERSION: Self = Self(70);
    pub(crate) const INTERNAL_ERROR: Self = Self(80);
    pub(crate) const NO_RENEGOTIATION: Self = Self(100);
    pub(crate) const UNSUPPORTED_EXTENSION: Self = Self(110);

    fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0 => "close_notify",
            10 => "unexpected_message",
            20 => "bad_record_mac",
            22 => "record_overflow",
            40 => "handshake_failure",
            47 => "illegal_parameter",
            50 => "decode_error",
            51 => "decrypt_error",
            70 => "protocol_version",
            71 => "insufficient_security",
            80 => "internal_error",
            90 => "user_canceled",
            100 => "no_renegotiation",
            110 => "unsupported_extension",
            115 => "unknown_psk_identity",
            _ => return None,
        })
    }
}

impl std::fmt::Display for AlertDescription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}
