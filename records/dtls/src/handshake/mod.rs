//! The handshakes (RFC 6347 §4.2, `specs/cstp-dtls.md` §9-§11): messages, their reassembly and
//! flights, the key schedule and the state machines of both sides, with a pre-shared key and by
//! resumption.

pub(crate) mod client;
pub(crate) mod exchange;
pub(crate) mod flight;
pub(crate) mod keys;
pub(crate) mod messages;
mod reader;
pub(crate) mod reassembly;
pub(crate) mod resumption;
pub(crate) mod server;
mod transcript;

pub(crate) use reader::Reader;

use crate::record::{DirectionKeys, Parameters};
use flight::FlightMessage;

/// Octets of the verify_data of a Finished message.
pub(crate) const VERIFY_DATA_LEN: usize = 12;

/// verify_data of a Finished message.
pub(crate) type VerifyData = [u8; VERIFY_DATA_LEN];

/// What a handshake agreed on; the next one refers to it (RFC 5746).
#[derive(Debug, Clone)]
pub(crate) struct Agreement {
    pub(crate) parameters: Parameters,
    /// Both sides know secure renegotiation.
    pub(crate) secure_renegotiation: bool,
    pub(crate) client_verify_data: VerifyData,
    pub(crate) server_verify_data: VerifyData,
    /// Most octets of plaintext that the peer takes in a record.
    pub(crate) record_limit: u16,
}

impl Agreement {
    /// What the renegotiation_info of the client must hold in the next handshake.
    fn client_renegotiation(previous: Option<&Self>) -> Vec<u8> {
        previous
            .map(|previous| previous.client_verify_data.to_vec())
            .unwrap_or_default()
    }

    /// What the renegotiation_info of the server must hold in the next handshake.
    fn server_renegotiation(previous: Option<&Self>) -> Vec<u8> {
        previous
            .map(|previous| [previous.client_verify_data, previous.server_verify_data].concat())
            .unwrap_or_default()
    }
}

/// Keys of the epoch that a handshake opens.
pub(crate) struct NewEpoch {
    pub(crate) parameters: Parameters,
    pub(crate) write: DirectionKeys,
    pub(crate) read: DirectionKeys,
}

/// What follows from a message of the peer.
#[derive(Default)]
pub(crate) struct Step {
    /// Keys for the next epoch, to be installed before the flight is sent.
    pub(crate) new_epoch: Option<NewEpoch>,
    /// The next flight; empty when more messages of the peer are awaited.
    pub(crate) flight: Vec<FlightMessage>,
    /// The handshake is complete: the new epoch becomes the active one.
    pub(crate) agreement: Option<Agreement>,
}
