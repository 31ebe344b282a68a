//! An established association on its way to another process.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::config::SystemRandom;
use crate::connection::{Connection, Status};
use crate::handshake::Agreement;
use crate::handshake::exchange::Role;
use crate::record::{Epochs, InEpoch, Opener, OpenerState, Sealer, SealerState};

/// An established association on its way to another process: keys, sequence numbers, replay
/// window, and what a rehandshake needs. Secret as a whole.
#[derive(Serialize, Deserialize)]
pub struct HandOver {
    role: Role,
    agreement: Agreement,
    handshake_age: Duration,
    write: SealerState,
    read: OpenerState,
}

impl Connection {
    /// Gives the established association away, to continue in another process; what
    /// [`Self::poll_transmit`] still has must be sent before.
    /// `None` unless established with no rehandshake under way; the association is then lost.
    pub fn into_hand_over(self, now: Instant) -> Option<HandOver> {
        let Status::Established { agreement, since } = self.status else {
            return None;
        };
        if self.exchange.is_some() {
            return None;
        }
        Some(HandOver {
            role: self.role,
            agreement,
            handshake_age: now.saturating_duration_since(since),
            write: self.write.active.into_state()?,
            read: self.read.active.into_state()?,
        })
    }

    /// Continues an association that [`Self::into_hand_over`] gave away.
    ///
    /// # Errors
    /// [`Error::Keys`] when the keys do not fit the suite.
    pub fn from_hand_over(state: HandOver, now: Instant) -> Result<Self, Error> {
        let HandOver {
            role,
            agreement,
            handshake_age,
            write,
            read,
        } = state;
        let (parameters, suite) = (agreement.parameters, agreement.parameters.suite);
        let write = Sealer::from_state(parameters, write).ok_or(Error::Keys(suite))?;
        let read = Opener::from_state(parameters, read).ok_or(Error::Keys(suite))?;
        if write.epoch() == 0 || write.epoch() != read.epoch() {
            return Err(Error::Keys(suite));
        }
        let since = now.checked_sub(handshake_age).unwrap_or(now);
        let status = Status::Established { agreement, since };
        Ok(Self::new(
            role,
            Box::new(SystemRandom),
            status,
            Epochs::new(write),
            Epochs::new(read),
        ))
    }
}

impl std::fmt::Debug for HandOver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HandOver(..)")
    }
}
